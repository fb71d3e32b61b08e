"""The configurations and images that both files of comparisons with Keras use."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import sample_of

from mrcnn_np import presets
from mrcnn_np.synthetic import picture

# TensorFlow takes seconds to import: let one worker run all of this
MARKS = [
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras about TensorFlow
]

SMALL = {"num_classes": 7, "image_min_size": 128, "image_max_size": 128, "detections_per_image": 30}
TEST_TIME = presets.matterport(backbone="resnet50", proposals_post_nms_test=300, **SMALL)
# every anchor within the canvas's last row and column, so that no RoI flips a coin
INSIDE = {"anchor_sizes": (5.0, 11.0, 22.0, 44.0, 80.0), "proposals_post_nms_train": 4000, "rois_per_image": 60}
TRAINING = presets.matterport(backbone="resnet50", **SMALL, **INSIDE)


def first(indices, count):
    """In place of chance, on both sides."""
    return indices[:count]


def error(found, expected):
    """Largest difference, relative to the largest magnitude."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-30))


def ellipses(shape, boxes):
    """One mask for each box, an ellipse in it."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    masks = []
    for y1, x1, y2, x2 in boxes:
        masks.append((2 * rows - y1 - y2) ** 2 / (y2 - y1) ** 2 + (2 * columns - x1 - x2) ** 2 / (x2 - x1) ** 2 <= 1)
    return np.array(masks)


def sample(seed, shape, boxes, class_ids, crowd=()):
    return sample_of(
        boxes, class_ids, shape=shape, name=str(seed), image=picture(shape, seed),
        masks=ellipses(shape, np.array(boxes, np.float32)), crowd=np.isin(np.arange(len(boxes)), crowd),
    )  # fmt: skip


# one at its size, with objects of its anchors' shapes; one that is enlarged, one that shrinks, padded at the sides
SAMPLES = [
    sample(
        1, (128, 128),
        [(10, 10, 54, 54), (74, 11, 118, 53), (43, 81, 86, 112), (25, 25, 103, 102), (80, 82, 111, 113),
         (0, 100, 9, 126), (37, 37, 58, 59), (86, 70, 107, 91)],
        [1, 2, 3, 4, 5, 6, 1, 2], crowd=[5],
    ),
    sample(2, (100, 75), [(20, 10, 80, 60), (5, 5, 40, 40), (60, 40, 61, 41)], [5, 6, 1]),
    sample(3, (150, 200), [(20, 10, 90, 140), (75, 85, 140, 195), (80, 20, 110, 70)], [1, 1, 2]),
]  # fmt: skip
