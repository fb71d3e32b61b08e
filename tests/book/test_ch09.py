"""The arithmetic of the live mask is that of the package: the same inputs through Node and through NumPy."""

import numpy as np
import pytest

from mrcnn_np.detections import paste_into_boxes
from mrcnn_np.targets import crop_masks


@pytest.mark.parametrize("m", [2, 7, 28])
def test_mask_grid(in_node, m):
    rng = np.random.default_rng(m)
    truth = rng.random((20, 24)) < 0.6
    low = rng.uniform(-2, (14, 18), (30, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 12, (30, 2))], axis=1)
    owner = np.zeros(30, int)
    ours = crop_masks(truth[None], owner, boxes, output_size=m, method="roi_align", aligned=True)
    theirs = in_node("mask_grid.math.js", [["target", [truth.astype(int).tolist(), b.tolist(), m]] for b in boxes])
    np.testing.assert_allclose(theirs, ours, atol=1e-12)
    painted = np.array(
        in_node("mask_grid.math.js", [["paste", [t, b.tolist(), 20, 24]] for t, b in zip(theirs, boxes)])
    )
    for threshold in (0.31, 0.5003, 0.77):
        pasted = paste_into_boxes(ours, boxes, (20, 24), method="grid_sample", threshold=threshold)
        assert np.array_equal(painted >= threshold, pasted)
        calls = [["overlap", [truth.astype(int).tolist(), p.tolist(), threshold]] for p in painted]
        for (both, either, ratio), p in zip(in_node("mask_grid.math.js", calls), pasted):
            assert (both, either) == ((p & truth).sum(), (p | truth).sum())
            assert np.isclose(ratio, both / either)
