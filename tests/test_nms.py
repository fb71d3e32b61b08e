import time

import naive_boxes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np.boxes import iou
from mrcnn_np.nms import batched_nms, nms


def random_boxes(rng, n, dtype=np.float64, extent=60.0):
    corner = rng.uniform(0, extent, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(10, 50, (n, 2))], axis=1).astype(dtype)


def test_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [0, 8, 10, 18], [30, 30, 40, 40]], dtype=np.float32)
    scores = np.array([0.8, 0.9, 0.7, 0.95], dtype=np.float32)
    # Box 1 beats box 0 (IoU 9/11); box 2 overlaps box 1 by 3/17 only.
    assert nms(boxes, scores, 0.5).tolist() == [3, 1, 2]
    assert nms(boxes, scores, 0.1).tolist() == [3, 1]


def test_a_suppressed_box_suppresses_nobody():
    """A chain: 0 suppresses 1, and 2, which only 1 would have suppressed, lives."""
    boxes = np.array([[0.0, 0, 10, 10], [0, 4, 10, 14], [0, 8, 10, 18]])
    assert nms(boxes, np.array([3.0, 2, 1]), 0.4).tolist() == [0, 2]


def test_an_iou_equal_to_the_threshold_is_kept():
    boxes = np.array([[0.0, 0, 2, 1], [0, 0, 1, 1]])
    assert nms(boxes, np.array([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert nms(boxes, np.array([0.9, 0.8]), 0.4999).tolist() == [0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threshold_of_three_tenths_is_met_in_either_dtype(dtype):
    # IoU 3/10; float32(0.3) > 0.3, so comparing across dtypes would suppress in float32 and keep in float64.
    boxes = np.array([[0, 0, 10, 1], [0, 0, 3, 1]], dtype=dtype)
    assert nms(boxes, np.array([0.9, 0.8]), 0.3).tolist() == [0, 1]


def test_equal_scores_rank_by_index():
    boxes = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10], [20, 20, 30, 30]])
    assert nms(boxes, np.ones(4), 0.5).tolist() == [0, 1]
    assert nms(boxes, np.array([1.0, 2, 1, 2]), 0.5).tolist() == [1, 0]


def test_boxes_without_area_are_kept_and_suppress_nothing():
    boxes = np.array([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10], [9, 9, 2, 2]])
    with np.errstate(all="raise", invalid="warn"):
        assert nms(boxes, np.array([4.0, 3, 2, 1]), 0.5).tolist() == [0, 1, 2, 3]


def test_infinite_scores_rank():
    boxes = np.array([[0.0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10]])
    assert nms(boxes, np.array([-np.inf, 0, np.inf]), 0.5).tolist() == [2, 1, 0]


@pytest.mark.parametrize("function", [nms, lambda b, s, t: batched_nms(b, s, np.zeros(len(s), int), t)])
def test_errors(function):
    boxes = np.array([[0.0, 0, 1, 1], [2, 2, 3, 3]])
    with pytest.raises(ValueError, match="score 1 is NaN"):
        function(boxes, np.array([1.0, np.nan]), 0.5)
    with pytest.raises(ValueError, match="scores has shape"):
        function(boxes, np.ones(3), 0.5)
    with pytest.raises(ValueError, match="boxes has shape"):
        function(np.zeros((2, 3)), np.ones(2), 0.5)


def test_batched_needs_one_group_per_box():
    with pytest.raises(ValueError, match="groups has shape"):
        batched_nms(np.zeros((2, 4)), np.ones(2), np.zeros(3, int), 0.5)


def test_empty():
    for kept in (nms(np.zeros((0, 4)), np.zeros(0), 0.5), batched_nms(np.zeros((0, 4)), np.zeros(0), np.zeros(0), 0.5)):
        assert kept.shape == (0,) and kept.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_matches_the_loop(dtype, threshold):
    rng = np.random.default_rng(0)
    boxes, scores = random_boxes(rng, 150, dtype), rng.integers(0, 40, 150) / 40  # with ties
    kept = nms(boxes, scores, threshold)
    assert kept.dtype == np.int64
    assert kept.tolist() == naive_boxes.nms(boxes, scores, threshold)


def test_batched_matches_one_loop_per_group():
    rng = np.random.default_rng(1)
    boxes, scores = random_boxes(rng, 120), rng.integers(0, 30, 120) / 30
    groups = rng.integers(0, 5, 120)
    expected = []
    for group in range(5):
        members = np.flatnonzero(groups == group)
        expected += [int(members[i]) for i in naive_boxes.nms(boxes[members], scores[members], 0.5)]
    expected.sort(key=lambda i: (-scores[i], i))
    assert batched_nms(boxes, scores, groups, 0.5).tolist() == expected


def test_batched_does_not_lose_bits_to_an_offset():
    """Class 80 of a 1000-pixel image: float32 corners near 80,080 are multiples of 1/128; IoU 1/2 becomes 32/65."""
    a, b = [0, 0, 0.75, 0.507], [0, 0, 0.75, 0.2535]
    boxes = np.array([a, b, [0, 0, 1000, 1000]], dtype=np.float32)
    scores = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    offset = np.float32(80 * 1001)
    shifted = boxes + offset
    assert iou(boxes[:1], boxes[1:2]).item() == pytest.approx(0.5, abs=1e-6)
    assert iou(shifted[:1], shifted[1:2]).item() == pytest.approx(32 / 65)
    assert nms(shifted[:2], scores[:2], 0.495).tolist() == [0, 1]
    assert batched_nms(boxes, scores, np.array([80, 80, 0]), 0.495).tolist() == [0, 2]


def test_strided_input():
    rng = np.random.default_rng(2)
    boxes, scores = random_boxes(rng, 40), rng.random(40)
    wide = np.repeat(np.concatenate([boxes, boxes], axis=1), 2, axis=0)[::2, :4]
    np.testing.assert_array_equal(nms(wide, np.repeat(scores, 2)[::2], 0.5), nms(boxes, scores, 0.5))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([0.1, 0.5, 0.7]))
def test_idempotent_and_independent_of_input_order(seed, n, threshold):
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, n), rng.permutation(n).astype(float)  # no ties
    kept = nms(boxes, scores, threshold)
    assert np.all(np.diff(scores[kept]) < 0)
    np.testing.assert_array_equal(nms(boxes[kept], scores[kept], threshold), np.arange(len(kept)))
    shuffle = rng.permutation(n)
    np.testing.assert_array_equal(shuffle[nms(boxes[shuffle], scores[shuffle], threshold)], kept)
    overlap = iou(boxes[kept], boxes[kept]) - np.eye(len(kept))
    assert overlap.max() <= threshold


def test_two_thousand_boxes_are_fast():
    rng = np.random.default_rng(3)
    boxes, scores = random_boxes(rng, 2000, np.float32, extent=1000.0), rng.random(2000, dtype=np.float32)
    start = time.process_time()
    nms(boxes, scores, 0.7)
    # Measured 25 ms; ten times that says that somebody made it a Python loop over pairs.
    assert time.process_time() - start < 0.5
