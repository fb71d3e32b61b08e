import naive_boxes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrcnn_np.boxes import (
    box_area,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    has_sides,
    intersection_over_area,
    iou,
    whole_boxes,
)


def random_boxes(rng, n, dtype=np.float64, extent=100.0):
    """Boxes with sides from 1 to 41 whose top-left corner lies in [0, extent)."""
    corner = rng.uniform(0, extent, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 41, (n, 2))], axis=1).astype(dtype)


def boxes_strategy(max_boxes=6):
    """Corner in [-50, 50), sides in [0.5, 60)."""

    def build(parts):
        return np.concatenate([parts[:, :2] * 100 - 50, parts[:, :2] * 100 - 50 + 0.5 + parts[:, 2:] * 59], axis=1)

    unit = st.floats(0, 1, exclude_max=True, width=32)
    return hnp.arrays(np.float64, st.tuples(st.integers(1, max_boxes), st.just(4)), elements=unit).map(build)


# --- by hand ---


def test_area_by_hand():
    boxes = np.array([[0, 0, 2, 3], [1, 1, 1, 5], [4, 4, 2, 2]], dtype=np.float32)
    np.testing.assert_array_equal(box_area(boxes), [6, 0, 0])
    assert box_area(boxes).dtype == np.float32


def test_iou_by_hand():
    a = np.array([[0, 0, 10, 10]], dtype=np.float32)
    b = np.array([[0, 0, 10, 10], [0, 5, 10, 15], [5, 5, 15, 15], [10, 0, 20, 10], [2, 2, 7, 7]], dtype=np.float32)
    np.testing.assert_allclose(iou(a, b), [[1, 50 / 150, 25 / 175, 0, 25 / 100]], rtol=1e-7)


def test_touching_boxes_do_not_overlap():
    # Half-open: columns 0..9 and 10..19 share nothing. A "+1" convention would give 10 / 210 here.
    assert iou(np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 10, 10, 20]])).item() == 0


def test_degenerate_boxes_give_zero_without_warnings():
    point, inside_out = np.array([[3.0, 3, 3, 3]]), np.array([[5.0, 5, 2, 2]])
    box = np.array([[0.0, 0, 10, 10]])
    with np.errstate(all="raise"):
        for a in (point, inside_out):
            for b in (point, inside_out, box):
                assert iou(a, b).item() == iou(b, a).item() == 0
                assert intersection_over_area(a, b).item() == 0


def test_intersection_over_area_by_hand():
    detection, crowd = np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 0, 100, 100], [0, 5, 100, 100]])
    np.testing.assert_array_equal(intersection_over_area(detection, crowd), [[1.0, 0.5]])
    np.testing.assert_allclose(intersection_over_area(crowd, detection), [[0.01], [50 / 9500]])


def test_encode_by_hand():
    anchor, box = np.array([[0.0, 0, 10, 20]]), np.array([[1.0, 4, 21, 14]])
    expected = [[(11 - 5) / 10, (9 - 10) / 20, np.log(20 / 10), np.log(10 / 20)]]
    np.testing.assert_allclose(encode_boxes(box, anchor), expected, rtol=1e-15)
    scaled = encode_boxes(box, anchor, std=(0.1, 0.1, 0.2, 0.2))
    np.testing.assert_allclose(scaled, np.array(expected) / [0.1, 0.1, 0.2, 0.2], rtol=1e-15)


def test_decode_by_hand():
    anchor = np.array([[0.0, 0, 10, 20]])
    np.testing.assert_array_equal(decode_boxes(np.zeros((1, 4)), anchor), anchor)
    moved = decode_boxes(np.array([[0.1, -0.5, np.log(2), 0]]), anchor)
    np.testing.assert_allclose(moved, [[-4, -10, 16, 10]], rtol=1e-12)


def test_decode_clamps_only_the_logarithms():
    anchor, huge = np.array([[0.0, 0, 16, 16]]), np.array([[1000.0, 0, 50, 0.5]])
    y1, _, y2, _ = decode_boxes(huge, anchor)[0]
    assert y2 - y1 == pytest.approx(1000)
    assert (y1 + y2) / 2 == pytest.approx(16008)
    unclamped = decode_boxes(np.array([[0.0, 0, 5, 0]]), anchor, max_log_scale=None)[0]
    assert unclamped[2] - unclamped[0] == pytest.approx(16 * np.exp(5))
    # The limit holds for the logarithm itself, after std: .2 * 25 = 5 > 4.135.
    scaled = decode_boxes(np.array([[0.0, 0, 25, 0]]), anchor, std=(0.1, 0.1, 0.2, 0.2))[0]
    assert scaled[2] - scaled[0] == pytest.approx(1000)


def test_decode_broadcasts_class_specific_deltas():
    rng = np.random.default_rng(0)
    deltas, anchors = rng.normal(size=(5, 3, 4)) * 0.3, random_boxes(rng, 5)
    together = decode_boxes(deltas, anchors[:, None])
    assert together.shape == (5, 3, 4)
    for k in range(3):
        np.testing.assert_array_equal(together[:, k], decode_boxes(deltas[:, k], anchors))


def test_sides_by_hand():
    boxes = np.array([[0, 0, 2, 3], [1, 1, 1, 5], [4, 4, 2, 2], [0, 0, np.nan, 9], [5, 5, 6, 5.5]], np.float32)
    assert has_sides(boxes).tolist() == [True, False, False, False, True]
    assert has_sides(boxes, 0.5).tolist() == [True, False, False, False, True]  # a side of exactly the minimum
    assert has_sides(boxes, 1).tolist() == [True, False, False, False, False]
    assert has_sides(boxes[:0]).shape == (0,)


def test_clip_by_hand():
    boxes = np.array([[-5, -5, 5, 5], [2, 3, 4, 5], [50, 50, 60, 60]], dtype=np.float32)
    clipped = clip_boxes(boxes, (0, 1, 20, 30))
    np.testing.assert_array_equal(clipped, [[0, 1, 5, 5], [2, 3, 4, 5], [20, 30, 20, 30]])
    assert clipped.dtype == np.float32
    assert boxes[0, 0] == -5


def test_crowding_anchors_tie_in_exact_arithmetic_only():
    """Anchors that contain a small box overlap it equally: areas alone decide, whatever the position."""
    gt = np.array([[10.1, 10.1, 14.3, 14.3]])
    anchors = np.array([[0, 0, 32, 32], [4, 4, 36, 36], [8, 0, 40, 32]], dtype=np.float64)
    np.testing.assert_allclose(iou(anchors, gt), (4.2 * 4.2) / 1024, rtol=1e-12)


# --- errors ---


def test_encode_names_the_degenerate_row():
    good = np.array([[0.0, 0, 1, 1], [0, 0, 1, 1]])
    bad = np.array([[0.0, 0, 1, 1], [0, 7, 1, 5]])
    with pytest.raises(ValueError, match=r"boxes row 1 is \(0, 7, 1, 5\); expected y2 > y1 and x2 > x1"):
        encode_boxes(bad, good)
    with pytest.raises(ValueError, match="anchors row 1"):
        encode_boxes(good, bad)
    with pytest.raises(ValueError, match="boxes row 0"):
        encode_boxes(np.full((1, 4), np.nan), good[:1])


@pytest.mark.parametrize("shape", [(4,), (2, 5), (2, 3, 4)])
def test_iou_names_the_wrong_shape(shape):
    with pytest.raises(ValueError, match="b has shape"):
        iou(np.zeros((1, 4)), np.zeros(shape))


def test_clip_refuses_a_window_inside_out():
    with pytest.raises(ValueError, match="window is"):
        clip_boxes(np.zeros((1, 4)), (0, 0, -1, 5))


# --- loop oracle, dtype, empty, layout ---


def test_iou_matches_the_definition_pair_by_pair():
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 17), random_boxes(rng, 23)
    expected = [[naive_boxes.iou(p, q) for q in b] for p in a]
    np.testing.assert_allclose(iou(a, b), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_preserved(dtype):
    rng = np.random.default_rng(2)
    a, b = random_boxes(rng, 3, dtype), random_boxes(rng, 3, dtype)
    deltas = encode_boxes(a, b, std=(0.1, 0.1, 0.2, 0.2))
    results = [box_area(a), iou(a, b), intersection_over_area(a, b), deltas, decode_boxes(deltas, b, std=(2, 2, 2, 2))]
    assert {r.dtype for r in [*results, clip_boxes(a, np.array([0.0, 0, 9, 9]))]} == {np.dtype(dtype)}


def test_integer_boxes_become_float32():
    assert iou(np.array([[0, 0, 2, 2]]), np.array([[0, 0, 2, 4]])).tolist() == [[0.5]]


def test_empty():
    none, some = np.zeros((0, 4), np.float32), np.ones((3, 4), np.float32)
    assert iou(none, some).shape == (0, 3)
    assert iou(some, none).shape == (3, 0)
    assert intersection_over_area(some, none).shape == (3, 0)
    assert encode_boxes(none, none).shape == decode_boxes(none, none).shape == (0, 4)
    assert decode_boxes(np.zeros((0, 7, 4)), none[:, None]).shape == (0, 7, 4)
    assert clip_boxes(none, (0, 0, 5, 5)).shape == (*box_area(none).shape, 4)


def test_strided_input():
    rng = np.random.default_rng(3)
    a, b = random_boxes(rng, 8), random_boxes(rng, 8)
    packed = np.repeat(np.concatenate([a, b], axis=1), 2, axis=0)
    left, right = packed[::2, :4], packed[::2, 4:]
    np.testing.assert_array_equal(iou(left, right), iou(a, b))
    np.testing.assert_array_equal(encode_boxes(left, right), encode_boxes(a, b))


# --- properties ---


@settings(max_examples=50, deadline=None)
@given(boxes_strategy(), boxes_strategy())
def test_iou_is_symmetric_and_between_zero_and_one(a, b):
    overlap = iou(a, b)
    np.testing.assert_array_equal(overlap, iou(b, a).T)
    assert (overlap >= 0).all() and (overlap <= 1 + 1e-12).all()
    # Round-off of corner - corner: up to 1e-13 of a side of at least 0.5.
    np.testing.assert_allclose(np.diagonal(iou(a, a)), 1, rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(boxes_strategy(1), boxes_strategy(5), st.sampled_from([(1, 1, 1, 1), (0.1, 0.1, 0.2, 0.2)]))
def test_decode_undoes_encode(box, anchors, std):
    again = decode_boxes(encode_boxes(box, anchors, std=std), anchors, std=std, max_log_scale=None)
    # Coordinates of at most 110 and ratios of at most 120: measured 6e-14 over 3000 draws.
    np.testing.assert_allclose(again, np.broadcast_to(box, again.shape), rtol=0, atol=2e-13)


@settings(max_examples=50, deadline=None)
@given(boxes_strategy())
def test_clip_is_idempotent_and_stays_inside(boxes):
    once = clip_boxes(boxes, (-10, 0, 20, 30))
    np.testing.assert_array_equal(clip_boxes(once, (-10, 0, 20, 30)), once)
    assert (once >= [-10, 0, -10, 0]).all() and (once <= [20, 30, 20, 30]).all()
    assert (box_area(once) <= box_area(boxes)).all()


def test_whole_boxes_paint_the_pixels_whose_centres_lie_inside():
    boxes = np.array([[0.0, 1.0, 2.0, 3.0], [0.6, -5.0, 1.6, 0.5], [1.0, 1.0, 1.0, 4.0], [-3.0, -3.0, 9.0, 9.0]])
    masks = whole_boxes(boxes, (3, 4))
    assert masks.dtype == bool and masks.shape == (4, 3, 4)
    assert np.argwhere(masks[0]).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert np.argwhere(masks[1]).tolist() == []  # its right edge is on the centre of the first column
    assert masks[2].sum() == 0 and masks[3].all()
    assert whole_boxes(np.zeros((0, 4)), (3, 4)).shape == (0, 3, 4)
