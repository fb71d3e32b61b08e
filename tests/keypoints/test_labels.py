"""Labels of keypoints and their loss: by hand, by loops, gradients, nothing at all."""

import naive_keypoints as naive
import numpy as np
import pytest
from gradcheck import check_gradients
from nets import small_config

from mrcnn_np.keypoints.labels import head_keypoint_loss, head_keypoint_loss_backward, heatmap_labels


def test_labels_by_hand():
    """A RoI of 8 x 4 pixels in 4 x 4 cells: two rows of pixels in a cell, and one column."""
    rois = np.array([[10.0, 20.0, 18.0, 24.0]])
    points = {
        (10.0, 20.0, 2): 0, (11.99, 20.99, 1): 0, (12.0, 21.0, 2): 5, (17.99, 23.99, 2): 15,
        (18.0, 24.0, 2): 15, (18.0, 20.5, 2): 12,  # the last edges belong to the last cells
        (18.01, 22.0, 2): -1, (9.99, 22.0, 2): -1, (12.0, 24.01, 2): -1, (12.0, 21.0, 0): -1,
    }  # fmt: skip
    found = heatmap_labels(np.array([list(points)]), rois, 4)
    assert found.dtype == np.int64 and found[0].tolist() == list(points.values())


def test_half_a_pixel_decides():
    """COCO's pixel 3 is the position 3.5: in a RoI of 4 pixels and 2 cells both are cell 1; pixel 1 is on either side.

    With an offset of 0.5 its centre is in the first cell; a RoI that begins at 0.25 shows the difference.
    """
    rois = np.array([[0.0, 0.25, 4.0, 2.25]])
    as_they_are, centres = (heatmap_labels(np.array([[[1 + o, 1 + o, 2.0]]]), rois, 2) for o in (0.0, 0.5))
    assert as_they_are.item() == 0 and centres.item() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_by_loops(dtype):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 30, (20, 2))
    rois = np.concatenate([corners, corners + rng.uniform(15, 45, (20, 2))], axis=1).astype(dtype)
    points = rng.uniform(0, 60, (20, 6, 3)).astype(dtype)
    points[..., 2] = rng.integers(0, 3, (20, 6))
    points[:, 0, :2] = rois[:, 2:]
    expected = naive.labels(points, rois, 56)
    assert (expected >= 0).sum() > 20 and np.array_equal(heatmap_labels(points, rois, 56), expected)


def test_no_rois_no_keypoints_and_a_roi_without_sides():
    assert heatmap_labels(np.zeros((0, 17, 3)), np.zeros((0, 4)), 56).shape == (0, 17)
    assert heatmap_labels(np.zeros((2, 0, 3)), np.ones((2, 4)), 56).shape == (2, 0)
    assert heatmap_labels(np.array([[[5.0, 6.0, 2.0], [5, 5, 2]]]), np.full((1, 4), 5.0), 56).tolist() == [[-1, 3135]]


def case(rng, dtype=np.float64):
    logits = rng.standard_normal((3, 4, 4, 5)).astype(dtype)
    labels = rng.integers(-1, 16, (3, 5))
    labels[1] = -1
    return logits, labels


def test_loss_by_loops():
    logits, labels = case(np.random.default_rng(0))
    total, count = naive.loss(logits, labels)
    assert 3 <= count <= 10
    config = small_config(keypoints=5)
    np.testing.assert_allclose(head_keypoint_loss(logits, labels, 2, config)[0], total / count, rtol=1e-14)
    possible = config.replace(keypoint_loss_denominator="possible", rois_per_image=8, roi_positive_fraction=0.25)
    loss, cache = head_keypoint_loss(logits, labels, 2, possible)
    np.testing.assert_allclose(loss, total / (2 * 8 * 0.25 * 5), rtol=1e-14)
    np.testing.assert_allclose(cache.terms.sum() / cache.denominator, loss, rtol=1e-14)


def test_a_map_that_says_nothing_costs_the_logarithm_of_its_cells():
    labels = np.array([[7, -1]])
    assert head_keypoint_loss(np.zeros((1, 56, 56, 2)), labels, 1, small_config(keypoints=2))[0] == np.log(56 * 56)


@pytest.mark.parametrize("denominator", ["visible", "possible"])
def test_gradients(denominator):
    rng = np.random.default_rng(1)
    logits, labels = case(rng)
    config = small_config(keypoints=5, keypoint_loss_denominator=denominator)

    def f(x):
        loss, cache = head_keypoint_loss(x, labels, 2, config)
        return np.array(loss), lambda dloss: head_keypoint_loss_backward(float(dloss), cache)

    check_gradients(f, logits, rng=rng)
    gradient = head_keypoint_loss_backward(1.0, head_keypoint_loss(logits, labels, 2, config)[1])
    assert not gradient[1].any() and np.abs(gradient.sum(axis=(1, 2))).max() < 1e-15


@pytest.mark.parametrize("shape", [(0, 4, 4, 5), (2, 4, 4, 5)])
def test_nothing_annotated_costs_nothing(shape):
    config = small_config(keypoints=5)
    labels = np.full((shape[0], 5), -1)
    loss, cache = head_keypoint_loss(np.zeros(shape, np.float32), labels, 2, config)
    gradient = head_keypoint_loss_backward(1.0, cache)
    assert loss == 0 and gradient.shape == shape and gradient.dtype == np.float32 and not gradient.any()
