"""Masks that the graph pastes, beside ``paste_masks``."""

import numpy as np
import pytest
from onnx_run import computed

from mrcnn_np import presets
from mrcnn_np.detections import paste_masks as ours
from mrcnn_np.onnx.pasting import paste_masks

BOXES = np.array(
    [
        [3.2, 4.7, 20.1, 31.9], [-5.5, -3.2, 12.5, 60], [7, 7, 8, 8], [10.5, 10.5, 10.5, 20], [9.9, 30.1, 9.95, 30.2],
        [-90, -90, 200, 200], [50, 50, 60, 60],
    ],
    np.float32,
)  # fmt: skip


@pytest.mark.parametrize("method", ["resize", "resize_zero", "plus_one", "grid_sample"])
@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.0])
def test_masks(method, threshold):
    config = presets.torchvision(mask_paste=method, mask_threshold=threshold, mask_pool_size=5)
    rng = np.random.default_rng(0)
    for boxes, size in [(BOXES, (33, 47)), (BOXES[:0], (33, 47)), (BOXES, (1, 1))]:
        masks = rng.uniform(0.1, 1, (len(boxes), 10, 10)).astype(np.float32)

        def add(g, masks, boxes, shape):
            return [(paste_masks(g, masks, boxes, shape, config), np.bool_, 3)]

        (found,) = computed(add, {"m": masks, "b": boxes, "s": np.array(size, np.int64)})
        assert found.shape == (len(boxes), *size)
        np.testing.assert_array_equal(found, ours(masks, boxes, size, config))
