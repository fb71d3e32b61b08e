import math

import naive_boxes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import boxes_of

from mrcnn_np.config import presets
from mrcnn_np.proposals import objectness_scores, propose, top_k

# Measured between edges and without padding, so that the examples are round numbers; see conventions/test_frame.py
MATTERPORT = presets.matterport(box_frame="edges", proposals_min_size=0.0)
TORCHVISION, DETECTRON2 = presets.torchvision(), presets.detectron2()
WINDOW = (0, 0, 100, 100)


def scene(seed=0, counts=(40, 12, 3), logits_per_anchor=1, dtype=np.float64):
    """Random logits, deltas and anchors; some anchors lie partly or wholly outside the window."""
    rng = np.random.default_rng(seed)
    anchors = []
    for level, count in enumerate(counts):
        corner = rng.uniform(-20, 100, (count, 2))
        anchors.append(np.concatenate([corner, corner + rng.uniform(5, 20, (count, 2)) * 2**level], 1).astype(dtype))
    total = sum(counts)
    shape = (total,) if logits_per_anchor == 1 else (total, 2)
    return rng.normal(size=shape).astype(dtype), (0.3 * rng.normal(size=(total, 4))).astype(dtype), anchors


# --- by hand ---


def test_scores_by_hand():
    np.testing.assert_allclose(objectness_scores(np.array([0.0, math.log(3)]), TORCHVISION), [0.5, 0.75])
    # softmax(a, b)[1] = sigmoid(b - a)
    logits = np.array([[0.0, 0.0], [1.0, 1 + math.log(3)], [700.0, -700.0]])
    np.testing.assert_allclose(objectness_scores(logits, MATTERPORT), [0.5, 0.75, 0], atol=1e-300)
    assert objectness_scores(np.zeros((0, 2)), MATTERPORT).shape == (0,)


def test_top_k_ties_by_index():
    scores = np.array([0.5, 0.9, 0.5, 0.9, 0.1])
    assert top_k(scores, 3).tolist() == [1, 3, 0]
    assert top_k(scores, 9).tolist() == [1, 3, 0, 2, 4]
    assert top_k(scores, 0).tolist() == []
    many = np.random.default_rng(0).integers(0, 5, 50) / 4  # more ties than places
    for k in range(52):
        assert top_k(many, k).tolist() == np.argsort(-many, kind="stable")[:k].tolist()
    assert top_k(np.zeros(0), 3).tolist() == []


# Three anchors on two levels: a and b (on the first level) overlap by IoU 0.8, c is b again on the second level
A, B = [0, 0, 10, 10], [0, 0, 10, 8]
LEVELS = [boxes_of(A, B), boxes_of(B)]


def test_levels_do_not_suppress_each_other():
    logits, deltas = np.array([2.0, 1.0, 1.5]), np.zeros((3, 4))
    boxes, scores = propose(logits, deltas, LEVELS, WINDOW, TORCHVISION, training=True)
    np.testing.assert_array_equal(boxes, [A, B])  # the first level's B is suppressed, the second's is not
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-2, -1.5])))


def test_one_pool_of_levels_is_suppressed_together():
    logits, deltas = np.stack([np.zeros(3), [2.0, 1.0, 1.5]], axis=1), np.zeros((3, 4))
    boxes, _ = propose(logits, deltas, LEVELS, WINDOW, MATTERPORT, training=True)
    np.testing.assert_array_equal(boxes, [A])


def test_an_overlap_equal_to_the_threshold_survives():
    logits, deltas = np.array([2.0, 1.0, 1.5]), np.zeros((3, 4))
    boxes, _ = propose(logits, deltas, LEVELS, WINDOW, TORCHVISION.replace(proposals_nms_iou=0.8), training=True)
    np.testing.assert_array_equal(boxes, [A, B, B])


def test_counts_before_and_after_suppression():
    anchors = [
        boxes_of(*([0, 10.0 * i, 5, 10.0 * i + 5] for i in range(9))),
        boxes_of([50, 0, 60, 10], [70, 0, 80, 10]),
    ]
    logits, deltas = np.arange(11.0), np.zeros((11, 4))
    config = TORCHVISION.replace(proposals_pre_nms_train=3, proposals_post_nms_train=4)
    boxes, _ = propose(logits, deltas, anchors, WINDOW, config, training=True)
    # The best three of each level, then the best four of those five
    assert boxes[:, :2].tolist() == [[70, 0], [50, 0], [0, 80], [0, 70]]
    one_pool = config.replace(proposals_per_level=False)
    boxes, _ = propose(logits, deltas, anchors, WINDOW, one_pool, training=True)
    assert boxes[:, :2].tolist() == [[70, 0], [50, 0], [0, 80]]  # the best three of all
    # Inference has counts of its own
    boxes, _ = propose(logits, deltas, anchors, WINDOW, config, training=False)
    assert len(boxes) == 11


def test_boxes_are_clipped_and_empty_ones_dropped():
    anchors = [boxes_of([-10, -10, 20, 30], [-20, 10, -5, 20], [99, 99, 140, 140], [100, 50, 120, 60])]
    logits, deltas = np.arange(4.0)[::-1], np.zeros((4, 4))
    for config in (TORCHVISION, DETECTRON2):
        boxes, _ = propose(logits, deltas, anchors, WINDOW, config, training=True)
        np.testing.assert_array_equal(boxes, [[0, 0, 20, 30], [99, 99, 100, 100]])
    # torchvision drops sides below 1e-3, detectron2 only those of no length
    anchors = [boxes_of([0, 0, 5e-4, 50], [10, 10, 10 + 2e-3, 50])]
    assert len(propose(np.zeros(2), np.zeros((2, 4)), anchors, WINDOW, TORCHVISION, training=True)[0]) == 1
    assert len(propose(np.zeros(2), np.zeros((2, 4)), anchors, WINDOW, DETECTRON2, training=True)[0]) == 2


def test_proposals_stay_in_the_window_not_on_the_padding():
    boxes, _ = propose(np.zeros(1), np.zeros((1, 4)), [boxes_of([0, 0, 99, 99])], (20, 0, 80, 100), TORCHVISION,
                       training=True)  # fmt: skip
    np.testing.assert_array_equal(boxes, [[20, 0, 80, 99]])


def test_deltas_are_scaled_and_clamped():
    anchors, deltas = [boxes_of([40, 40, 50, 60])], np.array([[1.0, -1, math.log(2), 0]])
    boxes, _ = propose(np.zeros(1), deltas, anchors, WINDOW, TORCHVISION, training=True)
    np.testing.assert_allclose(boxes, [[45, 20, 65, 40]])  # centre (45, 50) + (10, -20), height doubled
    boxes, _ = propose(np.zeros((1, 2)), deltas, anchors, WINDOW, MATTERPORT, training=True)
    height = 10 * 2**0.2
    np.testing.assert_allclose(boxes, [[46 - height / 2, 38, 46 + height / 2, 58]])
    # A runaway delta: 62.5 times the anchor's height at most
    huge = np.array([[0.0, 0, 50, 0]])
    wide = (0, 0, 10_000, 10_000)
    boxes, _ = propose(np.zeros(1), huge, [boxes_of([4995, 0, 5005, 10])], wide, TORCHVISION, training=True)
    np.testing.assert_allclose(boxes[0, 2] - boxes[0, 0], 625)


def test_ranked_by_logit_where_the_probability_is_saturated():
    # In float32 the sigmoid of 20 and of 30 is exactly 1
    anchors = [boxes_of([0, 0, 10, 10], [50, 50, 60, 60]).astype(np.float32)]
    logits = np.array([20.0, 30.0], np.float32)
    boxes, scores = propose(logits, np.zeros((2, 4), np.float32), anchors, WINDOW, TORCHVISION, training=True)
    assert scores.tolist() == [1, 1] and boxes[0, 0] == 50


# --- a loop ---


def naive_propose(logits, deltas, anchors, window, config, training):
    """Proposal layer, one anchor at a time."""
    pre = config.proposals_pre_nms_train if training else config.proposals_pre_nms_test
    post = config.proposals_post_nms_train if training else config.proposals_post_nms_test
    candidates, index = [], 0  # (logit, index, level, box)
    for level, level_anchors in enumerate(anchors):
        for anchor in level_anchors.tolist():
            logit = logits[index] if logits.ndim == 1 else logits[index, 1] - logits[index, 0]
            box = naive_boxes.decode(anchor, deltas[index], config.rpn_box_std, config.max_log_scale)
            box = naive_boxes.clip(box, window)
            candidates.append((float(logit), index, level if config.proposals_per_level else 0, box))
            index += 1
    kept = []
    for level in sorted({c[2] for c in candidates}):
        ranked = sorted((c for c in candidates if c[2] == level), key=lambda c: (-c[0], c[1]))[:pre]
        survivors = []
        for c in ranked:
            smallest = min(c[3][2] - c[3][0], c[3][3] - c[3][1])
            if smallest <= 0 or smallest < config.proposals_min_size:
                continue
            if all(naive_boxes.iou(c[3], s[3]) <= config.proposals_nms_iou for s in survivors):
                survivors.append(c)
        kept += survivors
    kept = sorted(kept, key=lambda c: (-c[0], c[1]))[:post]
    return np.array([c[3] for c in kept]).reshape(-1, 4), np.array([1 / (1 + math.exp(-c[0])) for c in kept])


@pytest.mark.parametrize("config", [MATTERPORT, TORCHVISION, DETECTRON2, presets.tiny()], ids=lambda c: c.name)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_loop(config, training, seed):
    softmax = config.rpn_objectness == "softmax"
    logits, deltas, anchors = scene(seed, logits_per_anchor=2 if softmax else 1)
    config = config.replace(
        proposals_pre_nms_train=25, proposals_pre_nms_test=15, proposals_post_nms_train=20, proposals_post_nms_test=9,
        proposals_nms_iou=0.3,
    )  # fmt: skip
    boxes, scores = propose(logits, deltas, anchors, (3, 5, 90, 95), config, training=training)
    expected_boxes, expected_scores = naive_propose(logits, deltas, anchors, (3, 5, 90, 95), config, training)
    assert 5 < len(expected_boxes) <= (20 if training else 9)
    np.testing.assert_allclose(boxes, expected_boxes, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-12)


# --- properties ---


@given(st.integers(0, 2**32 - 1), st.sampled_from([MATTERPORT, TORCHVISION, DETECTRON2]))
@settings(max_examples=30, deadline=None)
def test_proposals_are_ranked_inside_and_apart(seed, config):
    softmax = config.rpn_objectness == "softmax"
    logits, deltas, anchors = scene(seed, (15, 5), logits_per_anchor=2 if softmax else 1)
    before = logits.copy(), deltas.copy()
    boxes, scores = propose(logits, deltas, anchors, WINDOW, config, training=True)
    assert (np.diff(scores) <= 0).all()
    assert (boxes >= 0).all() and (boxes <= 100).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    if not config.proposals_per_level:
        assert all(naive_boxes.iou(a, b) <= 0.7 + 1e-12 for i, a in enumerate(boxes) for b in boxes[:i])
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(deltas, before[1])


def test_no_anchors_and_no_survivors():
    for config, shape in ((TORCHVISION, (0,)), (MATTERPORT, (0, 2))):
        none = [np.zeros((0, 4)), np.zeros((0, 4))]
        boxes, scores = propose(np.zeros(shape), np.zeros((0, 4)), none, WINDOW, config, training=True)
        assert boxes.shape == (0, 4) and scores.shape == (0,)
    outside = [boxes_of([200, 200, 220, 220])]
    boxes, scores = propose(np.zeros(1), np.zeros((1, 4)), outside, WINDOW, TORCHVISION, training=True)
    assert boxes.shape == (0, 4) and scores.shape == (0,)


def test_a_level_may_be_empty():
    anchors = [np.zeros((0, 4)), boxes_of([0, 0, 10, 10]), np.zeros((0, 4))]
    boxes, _ = propose(np.zeros(1), np.zeros((1, 4)), anchors, WINDOW, TORCHVISION, training=True)
    np.testing.assert_array_equal(boxes, [[0, 0, 10, 10]])


def test_dtype_is_kept():
    for dtype in (np.float32, np.float64):
        for config, k in ((TORCHVISION, 1), (MATTERPORT, 2)):
            boxes, scores = propose(*scene(0, logits_per_anchor=k, dtype=dtype), WINDOW, config, training=True)
            assert boxes.dtype == scores.dtype == dtype


# --- frameworks ---


@pytest.mark.parametrize("seed", range(4))
def test_equals_torchvision(seed):
    torch = pytest.importorskip("torch")
    rpn = pytest.importorskip("torchvision.models.detection.rpn")
    logits, deltas, anchors = scene(seed, (200, 60, 20), dtype=np.float32)
    config = TORCHVISION.replace(
        proposals_pre_nms_train=100, proposals_post_nms_train=80, proposals_pre_nms_test=50, proposals_post_nms_test=20
    )
    module = rpn.RegionProposalNetwork(
        None, None, 0.7, 0.3, 256, 0.5, {"training": 100, "testing": 50}, {"training": 80, "testing": 20}, 0.7
    )
    xyxy = torch.from_numpy(np.concatenate(anchors)[:, [1, 0, 3, 2]])
    decoded = module.box_coder.decode(torch.from_numpy(deltas[:, [1, 0, 3, 2]]), [xyxy])
    for training in (True, False):
        module.train(training)
        theirs, their_scores = module.filter_proposals(
            decoded.reshape(1, -1, 4), torch.from_numpy(logits)[None], [(100, 100)], [len(a) for a in anchors]
        )
        boxes, scores = propose(logits, deltas, anchors, WINDOW, config, training=training)
        # float32 coordinates up to 100 in another order of operations: 7.6e-6, their last bit, measured
        np.testing.assert_allclose(boxes[:, [1, 0, 3, 2]], theirs[0].numpy(), atol=2e-5)
        np.testing.assert_allclose(scores, their_scores[0].numpy(), rtol=1e-6)
