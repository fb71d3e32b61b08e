"""Detections in five photographs of different sizes against torchvision's, from image to pasted mask.

Here with a short side of 192 pixels and 5 classes; ``mrcnn-np compare --with torchvision IMAGE`` does the same at full
size, see the README for its figures.
"""

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

from mrcnn_np import presets  # noqa: E402
from mrcnn_np.compare.mask_rounding import pixels_left_to_rounding  # noqa: E402
from mrcnn_np.compare.rounding import pair_boxes  # noqa: E402
from mrcnn_np.compare.run import compare_with  # noqa: E402
from mrcnn_np.data.images import read_image  # noqa: E402

torch.set_num_threads(1)
CONFIG = presets.torchvision(
    num_classes=5, image_min_size=192, image_max_size=320, proposals_pre_nms_test=400, proposals_post_nms_test=300
)
VOC = [("VOC_ROOT", f"VOC2012/JPEGImages/{name}.jpg") for name in ("2007_000032", "2007_000129")]  # 281x500, 500x334
COCO = [  # 230x352, 640x634, 640x427: height x width after the file's own rotation
    ("COCO_ROOT", f"images/train2017/{name:012d}.jpg") for name in (37777, 58636, 6818)
]


def photograph(root, path):
    if root not in os.environ:
        pytest.skip(f"{root} is not set: no real images")
    return read_image(Path(os.environ[root]) / path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("root, path", VOC + COCO, ids=lambda v: v.rpartition("/")[2].removesuffix(".jpg"))
def test_detections(root, path, dtype):
    """Measured in float32: 2e-4 pixels, scores 2e-5, two pixels of all masks, at the threshold within rounding.

    (torchvision beside itself, over two threads or with its weights in another layout: as much.) In float64: 2e-12
    pixels, scores 6e-14, masks equal.
    """
    result = compare_with("torchvision", photograph(root, path), config=CONFIG, dtype=dtype, seed=2)
    assert result.agree, result
    rows = {row.name: row for row in result.rows}
    found, expected = result.ours, result.theirs
    assert len(found["boxes"]) == len(expected["boxes"]) == CONFIG.detections_per_image
    assert len(set(found["detection_classes"])) >= 3 and 0 < found["masks"].mean() < 0.5
    order, _ = pair_boxes(found, expected, "detection_boxes", "detection_scores", "detection_classes")
    assert len(order) == CONFIG.detections_per_image  # all have a partner
    assert rows["detection_classes"].max_abs == 0
    pixels, scores, mask_iou = (1e-2, 1e-4, 0.999) if dtype == "float32" else (1e-8, 1e-10, 1)
    assert rows["boxes"].max_abs <= pixels
    assert rows["detection_scores"].max_abs <= scores
    # Not judged: pixels where the probability is within 1e-4 of the threshold, or a row at a corner within 1e-3 pixels
    # of the next whole one (mask_rounding.py); there are few
    shape = result.image.shape[:2]
    open_pixels = pixels_left_to_rounding(expected["mask_probabilities"], expected["boxes"], shape, CONFIG)
    assert open_pixels.sum() <= 0.05 * expected["masks"].sum()
    apart = found["masks"][order] ^ expected["masks"]
    either = (found["masks"][order] | expected["masks"]).sum(axis=(1, 2))
    decided = apart & ~open_pixels if dtype == "float32" else apart
    assert (1 - decided.sum(axis=(1, 2)) / np.maximum(either, 1) >= mask_iou).all(), rows["masks"].note
    assert found["masks"].shape[1:] == result.image.shape[:2] and found["boxes"].dtype == np.dtype(dtype)
