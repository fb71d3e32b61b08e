"""What rounding decides about the pixels of pasted masks."""

import numpy as np
import pytest

from mrcnn_np import presets
from mrcnn_np.compare.mask_rounding import PIXELS, PROBABILITY, pixels_left_to_rounding
from mrcnn_np.detections import paste_masks

CONFIG = presets.torchvision()
SHAPE = (60, 80)


def smooth_masks(rng, count):
    """Blobs: probabilities fall from 1 to 0 within a few cells."""
    y, x = np.mgrid[:28, :28] / 27 - 0.5
    cy, cx = rng.uniform(-0.2, 0.2, (2, count, 1, 1))
    distance = np.sqrt((y - cy) ** 2 + (x - cx) ** 2) / rng.uniform(0.2, 0.5, (count, 1, 1))
    return (1 / (1 + np.exp(8 * (distance - 1)))).astype(np.float32)


def boxes_within(rng, count):
    corners = rng.uniform(-5, 40, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(2, 40, (count, 2))], axis=1).astype(np.float32)


@pytest.mark.parametrize("method", ["plus_one", "grid_sample"])
def test_smaller_shifts_change_no_other_pixel(method):
    rng = np.random.default_rng(0)
    config = CONFIG.replace(mask_paste=method)
    masks, boxes = smooth_masks(rng, 200), boxes_within(rng, 200)
    left_to_rounding = pixels_left_to_rounding(masks, boxes, SHAPE, config)
    before = paste_masks(masks, boxes, SHAPE, config)
    assert 0 < left_to_rounding.sum() < 0.02 * before.sum()
    changed = 0
    for _ in range(10):
        moved = boxes + rng.uniform(-0.5 * PIXELS, 0.5 * PIXELS, boxes.shape).astype(np.float32)
        other = masks + rng.uniform(-0.5 * PROBABILITY, 0.5 * PROBABILITY, masks.shape).astype(np.float32)
        differ = paste_masks(other, moved, SHAPE, config) ^ before
        changed += differ.sum()
        assert not (differ & ~left_to_rounding).any()
    assert changed > 0


def test_a_row_at_a_whole_pixel():
    """The grown boxes begin at row 9.9999, cut to 9 or to 10, and at 9.5: that decides whether row 10 is painted."""
    masks = np.ones((2, 28, 28), np.float32)
    grown = np.array([[9.9999, 9.5, 30.5, 30.5], [9.5, 9.5, 30.5, 30.5]])
    centre, half = (grown[:, :2] + grown[:, 2:]) / 2, (grown[:, 2:] - grown[:, :2]) / 2 * 28 / 30
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    left_to_rounding = pixels_left_to_rounding(masks, boxes, SHAPE, CONFIG)
    rows, columns = np.nonzero(left_to_rounding[0])
    assert set(rows) == {10} and len(columns) >= 20
    assert not left_to_rounding[1].any()


def test_none():
    assert pixels_left_to_rounding(np.zeros((0, 28, 28)), np.zeros((0, 4)), SHAPE, CONFIG).shape == (0, *SHAPE)
