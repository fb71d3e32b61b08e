"""Boxes, suppression, anchors and levels against torchvision.

Measured: IoU, anchors, levels and the order of suppression are equal, not only close; the codec is 4e-16 apart.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
ops = pytest.importorskip("torchvision.ops", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

from agrees_with_torch import FORWARD, check_float32, check_float64, xyxy  # noqa: E402
from torchvision.models.detection._utils import BoxCoder  # noqa: E402
from torchvision.models.detection.anchor_utils import AnchorGenerator  # noqa: E402
from torchvision.models.detection.image_list import ImageList  # noqa: E402
from torchvision.ops.poolers import LevelMapper  # noqa: E402

from mrcnn_np import presets  # noqa: E402
from mrcnn_np.boxes import clip_boxes, decode_boxes, encode_boxes, iou  # noqa: E402
from mrcnn_np.model import MaskRCNN  # noqa: E402
from mrcnn_np.nms import batched_nms, nms  # noqa: E402
from mrcnn_np.pyramid import roi_level  # noqa: E402

ORDER = [1, 0, 3, 2]  # (dx, dy, dw, dh) <-> (dy, dx, dh, dw), and boxes likewise


def random_boxes(rng, count, size=200.0, dtype=np.float64):
    centres, sides = rng.uniform(0, size, (count, 2)), np.exp(rng.uniform(0, np.log(size), (count, 2)))
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_iou(dtype):
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 60, dtype=dtype), random_boxes(rng, 40, dtype=dtype)
    b[:10] = a[:10]
    b[10] = a[10, [0, 1, 0, 1]]  # without area
    assert np.array_equal(iou(a, b), ops.box_iou(xyxy(a), xyxy(b)).numpy())


def test_iou_of_two_boxes_without_area_is_0_where_torchvision_has_nan():
    a = np.array([[3.0, 3, 3, 3]])
    assert iou(a, a) == 0 and torch.isnan(ops.box_iou(xyxy(a), xyxy(a)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("ties", ["none", "scores", "scores and boxes"])
def test_nms(ties, threshold, dtype):
    """The same boxes in the same order; equal scores by index."""
    threshold = float(dtype(threshold))  # one that float32 can hold; for others see the next test
    rng = np.random.default_rng(1)
    boxes, scores = random_boxes(rng, 400, 60.0, dtype), rng.uniform(size=400).astype(dtype)
    if ties != "none":
        scores = np.round(scores * 4) / 4
    if ties == "scores and boxes":
        boxes = np.round(boxes / 7) * 7  # duplicates, and IoUs that are simple fractions
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 7)
    expected = ops.nms(xyxy(boxes), torch.from_numpy(scores), threshold)
    assert 1 < len(expected) < 400 or threshold == 1.0
    np.testing.assert_array_equal(nms(boxes, scores, threshold), expected)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_nms_of_an_iou_at_the_threshold(threshold):
    """0.3 in float32 is larger than 0.3: torchvision compares with the latter and suppresses, we compare in float32.

    0.5 is exact and 0.7 in float32 is smaller: there both keep. (The presets that follow torchvision use 0.5 and 0.7.)
    """
    boxes = np.array([[0, 0, 1, 10], [0, 0, 1, 10 * threshold]], np.float32)  # IoU = threshold
    scores = np.array([0.9, 0.8], np.float32)
    expected = ops.nms(xyxy(boxes), torch.from_numpy(scores), threshold).tolist()
    assert nms(boxes, scores, threshold).tolist() == [0, 1]
    assert expected == ([0] if threshold == 0.3 else [0, 1])


@pytest.mark.parametrize("count", [200, 1500])
def test_batched_nms(count):
    """Below 1000 boxes torchvision shifts the groups apart, above it loops over them: in float64 both agree with us."""
    rng = np.random.default_rng(2)
    boxes, scores = random_boxes(rng, count), rng.uniform(size=count)
    groups = rng.integers(0, 5, count)
    expected = ops.batched_nms(xyxy(boxes), torch.from_numpy(scores), torch.from_numpy(groups), 0.5)
    np.testing.assert_array_equal(batched_nms(boxes, scores, groups, 0.5), expected)


def test_clip_boxes():
    boxes = random_boxes(np.random.default_rng(3), 50)
    expected = ops.clip_boxes_to_image(xyxy(boxes), (120, 90)).numpy()[:, ORDER]
    assert np.array_equal(clip_boxes(boxes, (0, 0, 120, 90)), expected)


# torchvision multiplies by weights where we divide by deviations
CODECS = {
    "rpn": ((1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0)),
    "box head": ((10.0, 10.0, 5.0, 5.0), (0.1, 0.1, 0.2, 0.2)),
}


@pytest.mark.parametrize("codec", CODECS)
def test_encode_and_decode(codec):
    weights, std = CODECS[codec]
    coder = BoxCoder(weights)
    rng = np.random.default_rng(4)
    boxes, anchors = random_boxes(rng, 100, dtype=np.float32), random_boxes(rng, 100, dtype=np.float32)
    deltas = rng.standard_normal((100, 4)).astype(np.float32)
    deltas[:5, 2:] = 30  # beyond the clamp

    encoded, decoded = {}, {}
    for dtype in (np.float64, np.float32):
        b, a, d = (v.astype(dtype) for v in (boxes, anchors, deltas))
        theirs = coder.encode([xyxy(b)], [xyxy(a)])[0].numpy()[:, ORDER]
        encoded[dtype] = encode_boxes(b, a, std=std), theirs
        theirs = coder.decode(xyxy(d), [xyxy(a)])[:, 0].numpy()[:, ORDER]  # the deltas' order changes like the boxes'
        decoded[dtype] = decode_boxes(d, a, std=std), theirs
    for name, results in (("encode", encoded), ("decode", decoded)):
        (ours64, theirs64), (ours32, theirs32) = results[np.float64], results[np.float32]
        check_float64(f"{name} {codec}", ours64, theirs64, FORWARD)
        check_float32(f"{name} {codec}", ours32, theirs32, theirs64)


def test_decode_per_class():
    """Class-specific deltas: torchvision keeps 4 numbers per class in one row."""
    rng = np.random.default_rng(5)
    anchors, deltas = random_boxes(rng, 30), rng.standard_normal((30, 5, 4))
    theirs = BoxCoder((10.0, 10.0, 5.0, 5.0)).decode(xyxy(deltas).reshape(30, 20), [xyxy(anchors)]).numpy()
    ours = decode_boxes(deltas, anchors[:, None], std=(0.1, 0.1, 0.2, 0.2))
    check_float64("decode per class", ours, theirs[..., ORDER], FORWARD)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(32, 64, 128, 256, 512), (33, 65, 127, 255, 511)])  # odd: halves go to even
@pytest.mark.parametrize("image_shape", [(128, 160), (800, 1088), (800, 1344), (32, 32), (256, 352)])
def test_anchors(image_shape, sizes, dtype):
    """All corners equal, in the same order."""
    feature_shapes, (h, w) = [], image_shape
    for stride in (4, 8, 16, 32, 64):
        feature_shapes.append((-(-h // stride), -(-w // stride)))
    maps = [torch.zeros(1, 1, *shape, dtype=torch.from_numpy(np.zeros(0, dtype)).dtype) for shape in feature_shapes]
    generator = AnchorGenerator(tuple((s,) for s in sizes), ((0.5, 1.0, 2.0),) * 5)
    expected = generator(ImageList(torch.zeros(1, 3, h, w), [(h, w)]), maps)[0].numpy()[:, ORDER]

    model = MaskRCNN.__new__(MaskRCNN)  # the preset's settings without the preset's 44 million parameters
    model.config, model.params = (
        presets.torchvision(anchor_sizes=tuple(float(s) for s in sizes)),
        {"w": np.zeros(1, dtype)},
    )
    found = np.concatenate(model.anchors(image_shape, [np.zeros((1, *shape, 1)) for shape in feature_shapes]))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("canonical_size", [224, 320])
def test_roi_level(canonical_size, dtype):
    rng = np.random.default_rng(6)
    sides = np.exp(rng.uniform(0, np.log(1500), (5000, 2)))
    powers = canonical_size * 2.0 ** np.arange(-4, 3)  # exactly on the border of two levels
    borders = np.concatenate([powers, np.nextafter(powers.astype(dtype), 0), powers - 1e-3, powers + 1e-3])
    sides = np.concatenate([sides, np.stack([borders, borders], axis=1), [[0, 0], [0, 5]]]).astype(dtype)
    rois = np.concatenate([np.zeros_like(sides), sides], axis=1)
    expected = LevelMapper(2, 5, canonical_scale=canonical_size)([xyxy(rois)]).numpy() + 2
    np.testing.assert_array_equal(roi_level(rois, canonical_size=canonical_size), expected)
