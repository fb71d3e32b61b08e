"""The arithmetic of the live pictures is that of the package: the same inputs through Node and through NumPy."""

import numpy as np
import pytest

from mrcnn_np.ops.roi_align import roi_align, roi_align_backward
from mrcnn_np.ops.roi_pool import roi_pool, roi_pool_backward


def boxes(rng, rows, columns, number):
    """Boxes inside, across the border and outside of a map, large and tiny."""
    low = rng.uniform(-2, (rows, columns), (number, 2))
    return np.concatenate([low, low + rng.uniform(0.05, 6, (number, 2))], axis=1)


@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align(in_node, aligned):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, 7))
    rois = boxes(rng, 6, 7, 60)
    dy = rng.normal(size=(60, 2, 2))
    calls = [["roiAlign", [features.tolist(), roi.tolist(), 2, 2, aligned]] for roi in rois]
    calls += [
        ["roiAlignBackward", [features.tolist(), roi.tolist(), 2, 2, aligned, d.tolist()]] for roi, d in zip(rois, dy)
    ]
    theirs = in_node("roi_align.math.js", calls)
    for i, roi in enumerate(rois):
        options = {"output_size": 2, "spatial_scale": 1.0, "aligned": aligned}
        ours, cache = roi_align(features[None, :, :, None], roi[None], np.zeros(1, int), **options)
        np.testing.assert_allclose(theirs[i], ours[0, :, :, 0], rtol=1e-12, atol=1e-12)
        back = roi_align_backward(dy[i][None, :, :, None], cache)
        np.testing.assert_allclose(theirs[60 + i], back[0, :, :, 0], rtol=1e-12, atol=1e-12)


def test_roi_pool(in_node):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(6, 7))
    rois = boxes(rng, 6, 7, 60)
    dy = rng.normal(size=(60, 2, 2))
    calls = [["roiPool", [features.tolist(), roi.tolist(), 2]] for roi in rois]
    calls += [["roiPoolBackward", [features.tolist(), roi.tolist(), 2, d.tolist()]] for roi, d in zip(rois, dy)]
    theirs = in_node("roi_align.math.js", calls)
    ours, cache = roi_pool(
        np.repeat(features[None, :, :, None], 60, 0), rois, np.arange(60), output_size=2, spatial_scale=1.0
    )
    np.testing.assert_allclose(theirs[:60], ours[:, :, :, 0], rtol=1e-12)
    back = roi_pool_backward(dy[..., None], cache)
    np.testing.assert_allclose(theirs[60:], back[..., 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("aligned", [True, False])
def test_what_a_pixel_receives_adds_up_to_its_gradient(in_node, aligned):
    rng = np.random.default_rng(2)
    features, dy = rng.normal(size=(6, 7)).tolist(), rng.normal(size=(2, 2)).tolist()
    for roi in boxes(rng, 6, 7, 12).tolist():
        places = [(y, x) for y in range(6) for x in range(7)]
        calls = [["received", [features, roi, 2, 2, aligned, dy, y, x]] for y, x in places]
        calls.append(["roiAlignBackward", [features, roi, 2, 2, aligned, dy]])
        *parts, back = in_node("roi_align.math.js", calls)
        sums = np.reshape([sum(part["sends"] for part in pixel) for pixel in parts], (6, 7))
        np.testing.assert_allclose(sums, back, rtol=1e-12, atol=1e-12)
