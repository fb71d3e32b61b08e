"""From maps to points: by hand, by loops, there and back."""

import naive_keypoints as naive
import numpy as np
import pytest

from mrcnn_np.keypoints.labels import heatmap_labels
from mrcnn_np.keypoints.peaks import cubic_weights, heatmap_peaks

METHODS = ("bicubic", "quarter", "argmax")


def test_by_hand():
    """The highest cell is the second of the second row; its right neighbour is higher than its left, below is lower."""
    plane = np.array([[0, 3, 0, 0], [1, 9, 4, 0], [0, 2, 0, 0], [0, 0, 0, 0]], float)[None, :, :, None]
    box = np.array([[100.0, 200.0, 108.0, 204.0]])  # cells of 2 x 1 pixels
    points, scores = heatmap_peaks(plane, box, method="argmax")
    assert points.tolist() == [[[103.0, 201.5]]] and scores.tolist() == [[9.0]]
    assert heatmap_peaks(plane, box, method="quarter")[0].tolist() == [[[102.5, 201.75]]]


def test_a_border_cell_is_not_moved():
    plane = np.zeros((1, 4, 4, 2))
    plane[0, 0, 2, 0], plane[0, 0, 3, 0] = 2, 1
    plane[0, 3, 3, 1] = 1
    points, _ = heatmap_peaks(plane, np.array([[0.0, 0, 4, 4]]), method="quarter")
    assert points.tolist() == [[[0.5, 2.75], [3.5, 3.5]]]


@pytest.mark.parametrize("n, m", [(1, 1), (1, 3), (4, 9), (5, 5), (7, 3)])
def test_cubic_weights(n, m):
    weights = cubic_weights(n, m)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-14)
    plane = np.random.default_rng(0).standard_normal((n, n))
    np.testing.assert_allclose(weights @ plane @ cubic_weights(n, 2).T, naive.enlarge(plane, m, 2), rtol=0, atol=1e-13)
    if n == m:
        np.testing.assert_array_equal(weights, np.eye(n))


@pytest.mark.parametrize("method", METHODS)
def test_by_loops(method):
    rng = np.random.default_rng(1)
    maps = rng.standard_normal((3, 6, 6, 2))
    boxes = np.array([[1.25, 2.5, 10.5, 9.0], [0, 0, 3.2, 12.7], [5, 5, 5.5, 5.25]])
    points, scores = heatmap_peaks(maps, boxes, method=method)
    for d, box in enumerate(boxes.tolist()):
        for k in range(2):
            point, height = naive.peak(maps[d, :, :, k], box, method)
            np.testing.assert_allclose(points[d, k], point, rtol=0, atol=1e-12)
            np.testing.assert_allclose(scores[d, k], height, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_there_and_back(method):
    """A point becomes a cell, the cell a map, the map a point: no farther off than half a cell, and half a pixel."""
    rng = np.random.default_rng(2)
    boxes = np.array([[10.0, 20.0, 70.0, 52.0]])
    points = np.concatenate([rng.uniform([10, 20], [70, 52], (5, 2)), np.full((5, 1), 2)], axis=1)[None]
    labels = heatmap_labels(points, boxes, 14)
    maps = np.zeros((1, 14 * 14, 5))
    maps[0, labels[0], np.arange(5)] = 5
    found, _ = heatmap_peaks(maps.reshape(1, 14, 14, 5), boxes, method=method)
    off = np.abs(found - points[..., :2])
    assert (off <= np.array([60, 32]) / 14 / 2 + (0.51 if method == "bicubic" else 1e-9)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 4, 4, 0), (2, 1, 1, 3)])
def test_nothing_and_one_cell(method, dtype, shape):
    boxes = np.tile(np.array([1, 2, 4, 6], dtype), (shape[0], 1))
    points, scores = heatmap_peaks(np.zeros(shape, dtype), boxes, method=method)
    assert points.shape == (shape[0], shape[3], 2) and scores.shape == (shape[0], shape[3])
    assert points.dtype == scores.dtype == dtype


def test_an_unknown_method():
    with pytest.raises(ValueError, match="method is 'cubic'; expected 'bicubic', 'quarter' or 'argmax'"):
        heatmap_peaks(np.zeros((1, 4, 4, 1)), np.ones((1, 4)), method="cubic")
