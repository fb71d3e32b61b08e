"""Maps that become points in the graph, beside ``heatmap_peaks``."""

import numpy as np
import pytest
from onnx_run import computed

from mrcnn_np import presets
from mrcnn_np.keypoints.peaks import heatmap_peaks as ours
from mrcnn_np.onnx.keypoints import heatmap_peaks

BOXES = np.array(
    [
        [3.2, 4.7, 20.1, 31.9], [-5.5, -3.2, 12.5, 60], [7, 7, 8, 8], [10.5, 10.5, 10.5, 20], [9.9, 30.1, 9.95, 30.2],
        [0, 0, 400, 16], [0, 0, 33, 47],
    ],
    np.float32,
)  # fmt: skip


@pytest.mark.parametrize("method", ["bicubic", "quarter", "argmax"])
@pytest.mark.parametrize("pool", [14, 2, 1])
def test_peaks(method, pool):
    config = presets.tiny(keypoints=3, keypoint_pool_size=pool, keypoint_decode=method)
    rng = np.random.default_rng(0)
    for boxes in (BOXES, BOXES[:0]):
        logits = rng.normal(0, 4, (len(boxes), 4 * pool, 4 * pool, 3)).astype(np.float32)
        logits[1:2, :, :, 0] = 0  # all cells are equally high
        logits[4:5, -1, -1, 1] = logits[4:5, 0, 2, 1] = 99  # two are, at the border

        def add(g, logits, boxes):
            points, scores = heatmap_peaks(g, logits, boxes, config)
            return [(points, np.float32, 3), (scores, np.float32, 2)]

        points, scores = computed(add, {"logits": logits, "boxes": boxes})
        expected_points, expected_scores = ours(logits, boxes, method=method)
        assert points.shape == (len(boxes), 3, 2) and scores.shape == (len(boxes), 3)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-4)
        if method == "bicubic":  # of a flat map, enlarged, rounding decides which pixel is the highest
            points[1:2, 0] = expected_points[1:2, 0]
        np.testing.assert_allclose(points, expected_points, atol=1e-4)
