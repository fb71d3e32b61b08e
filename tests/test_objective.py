import math

import naive
import numpy as np
import pytest
from gradcheck import check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np.config import presets
from mrcnn_np.objective import (
    head_box_loss,
    head_box_loss_backward,
    head_class_loss,
    head_class_loss_backward,
    head_mask_loss,
    head_mask_loss_backward,
    rpn_box_loss,
    rpn_box_loss_backward,
    rpn_class_loss,
    rpn_class_loss_backward,
)

POSITIVES = presets.matterport().replace(class_loss_active_only=False)  # beta 1, mean over positive numbers
SAMPLED = POSITIVES.replace(box_loss_denominator="sampled")
TORCHVISION = presets.torchvision()  # beta 1/9, sum over all sampled
DETECTRON2 = presets.detectron2()  # beta 0
ACTIVE_ONLY = presets.matterport()
LABELS = np.array([[1, -1, 0, 1], [0, -1, -1, 0]], np.int8)  # 2 positive, 3 negative, 3 not sampled
seeds = st.integers(0, 2**32 - 1)


def cross_entropy(probability):
    return -math.log(probability)


# --- by hand ---


def test_rpn_class_by_hand():
    logits = np.zeros((2, 4))
    logits[0, 0] = math.log(3)  # sigmoid 3/4, positive
    logits[1, 1] = math.log(4)  # sigmoid 4/5, negative
    logits[0, 2] = 100.0  # not sampled
    expected = (cross_entropy(3 / 4) + cross_entropy(1 / 5) + 3 * math.log(2)) / 5
    assert rpn_class_loss(logits, LABELS)[0] == pytest.approx(expected, rel=1e-14)
    # The same as a softmax over (background, object): only the difference of the logits counts
    pairs = np.stack([np.full((2, 4), 7.0), 7.0 + logits], axis=-1)
    assert rpn_class_loss(pairs, LABELS)[0] == pytest.approx(expected, rel=1e-14)


def test_rpn_box_by_hand():
    deltas, targets = np.zeros((2, 4, 4)), np.zeros((2, 4, 4))
    targets[0, 0] = [0, 0.5, 1, 2]
    targets[0, 3] = [-3, 0, 0, 0]
    targets[0, 1] = targets[1, 0] = 50  # a negative and a neutral anchor: no box loss
    total = 0 + 0.125 + 0.5 + 1.5 + 2.5
    assert rpn_box_loss(deltas, LABELS, targets, POSITIVES)[0] == pytest.approx(total / 8)  # 2 positives x 4
    assert rpn_box_loss(deltas, LABELS, targets, SAMPLED)[0] == pytest.approx(total / 5)  # 5 sampled anchors
    assert rpn_box_loss(deltas, LABELS, targets, DETECTRON2)[0] == pytest.approx((0.5 + 1 + 2 + 3) / 5)
    b = 1 / 18  # |d| - beta / 2
    assert rpn_box_loss(deltas, LABELS, targets, TORCHVISION)[0] == pytest.approx((6.5 - 4 * b) / 5)


def test_head_class_by_hand():
    logits = np.log(np.array([[1.0, 2, 1], [1, 1, 8], [6, 1, 1]]))
    expected = (cross_entropy(2 / 4) + cross_entropy(1 / 10) + cross_entropy(6 / 8)) / 3
    active = np.ones((3, 3), bool)
    class_ids = np.array([1, 0, 0])
    assert head_class_loss(logits, class_ids, active, POSITIVES)[0] == pytest.approx(expected)
    assert head_class_loss(logits, class_ids, active, ACTIVE_ONLY)[0] == pytest.approx(expected)


def test_head_class_erases_what_is_predicted_as_an_inactive_class():
    logits = np.log(np.array([[1.0, 2, 1], [1, 1, 8], [6, 1, 1]]))
    class_ids = np.array([1, 0, 0])
    active = np.array([[1, 1, 0]] * 3, bool)  # class 2, the prediction of row 1, is not annotated
    expected = (cross_entropy(2 / 4) + cross_entropy(6 / 8)) / 2
    loss, cache = head_class_loss(logits, class_ids, active, ACTIVE_ONLY)
    assert loss == pytest.approx(expected)
    assert not head_class_loss_backward(1.0, cache)[1].any()
    # The prediction counts, not the label: row 0 is of class 1, which is active, and predicted as 1
    active = np.array([[1, 0, 1]] * 3, bool)
    expected = (cross_entropy(1 / 10) + cross_entropy(6 / 8)) / 2
    assert head_class_loss(logits, class_ids, active, ACTIVE_ONLY)[0] == pytest.approx(expected)
    # Each image has its own data set
    active = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], bool)
    expected = (cross_entropy(2 / 4) + cross_entropy(1 / 10)) / 2
    assert head_class_loss(logits, class_ids, active, ACTIVE_ONLY)[0] == pytest.approx(expected)
    loss, cache = head_class_loss(logits, class_ids, np.zeros((3, 3), bool), ACTIVE_ONLY)
    assert loss == 0 and not head_class_loss_backward(1.0, cache).any()


def test_head_box_by_hand():
    deltas = np.full((3, 4, 4), 9.0)  # whatever other classes predict
    class_ids = np.array([2, 0, 3])
    targets = np.array([[0, 0.5, 1, 2], [5, 5, 5, 5], [-3, 0, 0, 0]], float)
    deltas[0, 2] = deltas[2, 3] = 0
    total = 0.125 + 0.5 + 1.5 + 2.5
    assert head_box_loss(deltas, class_ids, targets, POSITIVES)[0] == pytest.approx(total / 8)
    assert head_box_loss(deltas, class_ids, targets, SAMPLED)[0] == pytest.approx(total / 3)  # 3 sampled RoIs
    assert head_box_loss(deltas, class_ids, targets, DETECTRON2)[0] == pytest.approx(6.5 / 3)


def test_head_mask_by_hand():
    logits = np.full((2, 1, 2, 3), 50.0)  # whatever other classes predict
    logits[0, 0, :, 1] = [0, math.log(3)]
    logits[1, 0, :, 2] = [math.log(4), -math.log(4)]
    targets = np.array([[[1, 0]], [[1, 0.5]]])
    soft = 0.5 * cross_entropy(1 / 5) + 0.5 * cross_entropy(4 / 5)
    expected = (cross_entropy(1 / 2) + cross_entropy(1 / 4) + cross_entropy(4 / 5) + soft) / 4
    assert head_mask_loss(logits, np.array([1, 2]), targets)[0] == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 21, 81])
def test_untrained_values(classes):
    assert rpn_class_loss(np.zeros((2, 4)), LABELS)[0] == pytest.approx(math.log(2))
    assert rpn_class_loss(np.zeros((2, 4, 2)), LABELS)[0] == pytest.approx(math.log(2))
    active = np.ones((5, classes), bool)
    assert head_class_loss(np.zeros((5, classes)), np.arange(5) % 2, active, ACTIVE_ONLY)[0] == pytest.approx(
        math.log(classes)
    )
    masks = np.random.default_rng(0).random((3, 28, 28)) < 0.5
    assert head_mask_loss(np.zeros((3, 28, 28, classes)), np.ones(3, int), masks)[0] == pytest.approx(math.log(2))


# --- loops ---


def naive_softmax_loss(row, label):
    return -math.log(naive.softmax(row)[label])


def naive_sigmoid_loss(x, t):
    return -t * math.log(naive.sigmoid(x)) - (1 - t) * math.log(naive.sigmoid(-x))


BOX_CONFIGS = [POSITIVES, SAMPLED, TORCHVISION, DETECTRON2]


@given(seeds, st.integers(0, 12), st.sampled_from(BOX_CONFIGS))
@settings(max_examples=40, deadline=None)
def test_rpn_losses_equal_loops(seed, anchors, config):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 2, (2, anchors))
    logits, pairs = 2 * rng.normal(size=(2, anchors)), 2 * rng.normal(size=(2, anchors, 2))
    deltas, targets = rng.normal(size=(2, 2, anchors, 4))
    sampled = [(n, a) for n in range(2) for a in range(anchors) if labels[n, a]]
    positive = [(n, a) for n, a in sampled if labels[n, a] == 1]
    count = max(len(sampled), 1)
    expected = sum(naive_sigmoid_loss(logits[i], float(labels[i] == 1)) for i in sampled) / count
    assert rpn_class_loss(logits, labels)[0] == pytest.approx(expected)
    expected = sum(naive_softmax_loss(pairs[i].tolist(), int(labels[i] == 1)) for i in sampled) / count
    assert rpn_class_loss(pairs, labels)[0] == pytest.approx(expected)
    terms = [naive.smooth_l1(d, config.rpn_smooth_l1_beta) for i in positive for d in deltas[i] - targets[i]]
    count = max(len(terms), 1) if config.box_loss_denominator == "positives" else count
    assert rpn_box_loss(deltas, labels, targets, config)[0] == pytest.approx(sum(terms) / count)


@given(seeds, st.integers(0, 10), st.sampled_from(BOX_CONFIGS), st.booleans())
@settings(max_examples=40, deadline=None)
def test_head_losses_equal_loops(seed, rois, config, active_only):
    rng = np.random.default_rng(seed)
    k = 4
    class_ids = rng.integers(0, k, rois)
    logits, deltas = 2 * rng.normal(size=(rois, k)), rng.normal(size=(rois, k, 4))
    targets, active = rng.normal(size=(rois, 4)), rng.random((rois, k)) < 0.6
    config = config.replace(class_loss_active_only=active_only)
    counted = [r for r in range(rois) if not active_only or active[r, max(range(k), key=lambda c: logits[r, c])]]
    expected = sum(naive_softmax_loss(logits[r].tolist(), class_ids[r]) for r in counted) / max(len(counted), 1)
    assert head_class_loss(logits, class_ids, active, config)[0] == pytest.approx(expected)
    positive = [r for r in range(rois) if class_ids[r] > 0]
    beta = config.head_smooth_l1_beta
    terms = [naive.smooth_l1(deltas[r, class_ids[r], i] - targets[r, i], beta) for r in positive for i in range(4)]
    count = len(terms) if config.box_loss_denominator == "positives" else rois
    assert head_box_loss(deltas, class_ids, targets, config)[0] == pytest.approx(sum(terms) / max(count, 1))
    mask_logits, mask_targets = rng.normal(size=(len(positive), 2, 3, k)), rng.random((len(positive), 2, 3))
    terms = [
        naive_sigmoid_loss(mask_logits[p, i, j, class_ids[r]], mask_targets[p, i, j])
        for p, r in enumerate(positive)
        for i in range(2)
        for j in range(3)
    ]
    actual = head_mask_loss(mask_logits, class_ids[positive], mask_targets)[0]
    assert actual == pytest.approx(sum(terms) / max(len(terms), 1))


# --- gradients ---


def as_array(loss, backward, cache):
    """A loss is a number; the check wants an array and hands back an array of the same shape."""
    return np.array([loss]), lambda dy: backward(float(dy[0]), cache)


def away_from_kinks(rng, shape, targets, betas=(0, 1 / 9, 1.0)):
    """Predictions whose distance to the target keeps 0.01 or more from 0 and from every beta."""
    d = rng.normal(size=shape)
    for beta in betas:
        near = abs(abs(d) - beta) < 0.01
        d[near] += 0.03 * np.where(d[near] < 0, -1, 1)
    return targets + d


@pytest.mark.parametrize("pairs", [False, True], ids=["sigmoid", "softmax"])
def test_rpn_class_gradient(pairs):
    rng = np.random.default_rng(0)

    def f(logits):
        loss, cache = rpn_class_loss(logits, LABELS)
        return as_array(loss, rpn_class_loss_backward, cache)

    check_gradients(f, rng.normal(size=(2, 4, 2) if pairs else (2, 4)), rng=rng)


@pytest.mark.parametrize("config", BOX_CONFIGS, ids=["positives", "sampled", "torchvision", "detectron2"])
def test_rpn_box_gradient(config):
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(2, 4, 4))

    def f(deltas):
        loss, cache = rpn_box_loss(deltas, LABELS, targets, config)
        return as_array(loss, rpn_box_loss_backward, cache)

    check_gradients(f, away_from_kinks(rng, (2, 4, 4), targets), rng=rng)


@pytest.mark.parametrize("config", [POSITIVES, ACTIVE_ONLY], ids=["all", "active only"])
def test_head_class_gradient(config):
    rng = np.random.default_rng(0)
    class_ids, active = rng.integers(0, 5, 8), rng.random((8, 5)) < 0.6

    def f(logits):
        loss, cache = head_class_loss(logits, class_ids, active, config)
        return as_array(loss, head_class_loss_backward, cache)

    check_gradients(f, rng.normal(size=(8, 5)), rng=rng)


@pytest.mark.parametrize("config", BOX_CONFIGS, ids=["positives", "sampled", "torchvision", "detectron2"])
def test_head_box_gradient(config):
    rng = np.random.default_rng(0)
    class_ids, targets = np.array([3, 1, 0, 0, 2]), rng.normal(size=(5, 4))

    def f(deltas):
        loss, cache = head_box_loss(deltas, class_ids, targets, config)
        return as_array(loss, head_box_loss_backward, cache)

    check_gradients(f, away_from_kinks(rng, (5, 4, 4), targets[:, None]), rng=rng)


def test_head_mask_gradient():
    rng = np.random.default_rng(0)
    class_ids, targets = np.array([3, 1, 1]), rng.random((3, 6, 5))

    def f(logits):
        loss, cache = head_mask_loss(logits, class_ids, targets)
        return as_array(loss, head_mask_loss_backward, cache)

    check_gradients(f, rng.normal(size=(3, 6, 5, 4)), rng=rng)


def test_gradients_are_zero_where_nothing_counts():
    rng = np.random.default_rng(0)
    _, cache = rpn_class_loss(rng.normal(size=(2, 4)), LABELS)
    np.testing.assert_array_equal(rpn_class_loss_backward(1.0, cache) != 0, LABELS != 0)
    _, cache = rpn_box_loss(rng.normal(size=(2, 4, 4)), LABELS, np.zeros((2, 4, 4)), SAMPLED)
    np.testing.assert_array_equal((rpn_box_loss_backward(1.0, cache) != 0).all(axis=-1), LABELS == 1)
    class_ids = np.array([3, 0, 1])
    _, cache = head_box_loss(rng.normal(size=(3, 4, 4)), class_ids, np.zeros((3, 4)), SAMPLED)
    touched = (head_box_loss_backward(1.0, cache) != 0).all(axis=-1)
    assert np.argwhere(touched).tolist() == [[0, 3], [2, 1]]
    _, cache = head_mask_loss(rng.normal(size=(2, 3, 3, 4)), class_ids[[0, 2]], np.ones((2, 3, 3)))
    touched = (head_mask_loss_backward(1.0, cache) != 0).any(axis=(1, 2))
    assert np.argwhere(touched).tolist() == [[0, 3], [1, 1]]


# --- empty, dtype, inputs ---


@pytest.mark.parametrize("config", BOX_CONFIGS, ids=["positives", "sampled", "torchvision", "detectron2"])
def test_a_loss_over_nothing_is_zero(config):
    with np.errstate(all="raise"):
        for labels in (np.zeros((2, 4), np.int8), np.zeros((1, 0), np.int8)):
            for tail in ((), (2,)):
                loss, cache = rpn_class_loss(np.ones(labels.shape + tail), labels)
                grad = rpn_class_loss_backward(1.0, cache)
                assert loss == 0 and grad.shape == labels.shape + tail and not grad.any()
            deltas = np.ones((*labels.shape, 4))
            loss, cache = rpn_box_loss(deltas, labels, deltas * 2, config)
            grad = rpn_box_loss_backward(1.0, cache)
            assert loss == 0 and grad.shape == deltas.shape and not grad.any()
        none = np.zeros(0, np.int64)
        loss, cache = head_class_loss(np.zeros((0, 5)), none, np.zeros((0, 5), bool), ACTIVE_ONLY)
        assert loss == 0 and head_class_loss_backward(1.0, cache).shape == (0, 5)
        loss, cache = head_box_loss(np.zeros((0, 5, 4)), none, np.zeros((0, 4)), config)
        assert loss == 0 and head_box_loss_backward(1.0, cache).shape == (0, 5, 4)
        # Only negatives: nothing to refine
        loss, cache = head_box_loss(np.ones((3, 5, 4)), np.zeros(3, int), np.zeros((3, 4)), config)
        assert loss == 0 and not head_box_loss_backward(1.0, cache).any()
        loss, cache = head_mask_loss(np.zeros((0, 28, 28, 5)), none, np.zeros((0, 28, 28)))
        assert loss == 0 and head_mask_loss_backward(1.0, cache).shape == (0, 28, 28, 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_keep_the_dtype_and_inputs_stay(dtype):
    rng = np.random.default_rng(0)
    class_ids, active = np.array([2, 0, 1]), np.ones((3, 4), bool)
    cases = [
        (rpn_class_loss, rpn_class_loss_backward, (2, 4), lambda x: (x, LABELS)),
        (rpn_class_loss, rpn_class_loss_backward, (2, 4, 2), lambda x: (x, LABELS)),
        (rpn_box_loss, rpn_box_loss_backward, (2, 4, 4), lambda x: (x, LABELS, np.zeros((2, 4, 4)), TORCHVISION)),
        (head_class_loss, head_class_loss_backward, (3, 4), lambda x: (x, class_ids, active, ACTIVE_ONLY)),
        (head_box_loss, head_box_loss_backward, (3, 4, 4), lambda x: (x, class_ids, np.zeros((3, 4)), TORCHVISION)),
        (head_mask_loss, head_mask_loss_backward, (3, 5, 5, 4), lambda x: (x, class_ids, np.ones((3, 5, 5)))),
    ]
    for forward, backward, shape, arguments in cases:
        x = rng.normal(size=shape).astype(dtype)
        before = x.copy()
        loss, cache = forward(*arguments(x))
        gradient = backward(0.5, cache)
        assert isinstance(loss, float) and gradient.dtype == dtype and gradient.shape == shape
        np.testing.assert_array_equal(x, before)
        # Linear in dloss, exactly: it is a power of two
        np.testing.assert_array_equal(backward(1.0, cache), 2 * gradient)


def test_saturated_logits_stay_finite():
    with np.errstate(over="raise", invalid="raise"):
        loss, cache = rpn_class_loss(np.array([[1e4, -1e4]], np.float32), np.array([[-1, 1]]))
        assert loss == 1e4
        np.testing.assert_array_equal(rpn_class_loss_backward(1.0, cache), [[0.5, -0.5]])
        loss, cache = head_class_loss(
            np.array([[1e4, -1e4]], np.float32), np.array([1]), np.ones((1, 2), bool), SAMPLED
        )
        assert loss == 2e4
        np.testing.assert_array_equal(head_class_loss_backward(1.0, cache), [[1, -1]])


# --- frameworks ---


def test_rpn_losses_equal_torchvision():
    torch = pytest.importorskip("torch")
    rpn = pytest.importorskip("torchvision.models.detection.rpn")
    rng = np.random.default_rng(0)
    module = rpn.RegionProposalNetwork(None, None, 0.7, 0.3, 10**6, 1.0, {}, {}, 0.7)  # samples all labels
    labels = rng.integers(-1, 2, (2, 30))
    logits, deltas, targets = rng.normal(size=(2, 30)), rng.normal(size=(2, 30, 4)), rng.normal(size=(2, 30, 4))
    theirs = np.where(labels == 1, 1.0, np.where(labels == -1, 0.0, -1.0))
    objectness, boxes = module.compute_loss(
        torch.from_numpy(logits), torch.from_numpy(deltas.reshape(-1, 4)),
        list(torch.from_numpy(theirs)), list(torch.from_numpy(targets)),
    )  # fmt: skip
    assert rpn_class_loss(logits, labels)[0] == pytest.approx(objectness.item(), rel=1e-12)
    assert rpn_box_loss(deltas, labels, targets, TORCHVISION)[0] == pytest.approx(boxes.item(), rel=1e-12)


def test_head_losses_and_gradients_equal_torchvision():
    torch = pytest.importorskip("torch")
    roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    rng = np.random.default_rng(0)
    class_ids = rng.integers(0, 6, 20)
    logits, deltas, targets = rng.normal(size=(20, 6)), rng.normal(size=(20, 6, 4)), rng.normal(size=(20, 4))
    their_logits = torch.from_numpy(logits).requires_grad_()
    their_deltas = torch.from_numpy(deltas.reshape(20, 24)).requires_grad_()
    classes, boxes = roi_heads.fastrcnn_loss(
        their_logits, their_deltas, [torch.from_numpy(class_ids)], [torch.from_numpy(targets)]
    )
    (classes + boxes).backward()
    loss, cache = head_class_loss(logits, class_ids, np.ones((20, 6), bool), TORCHVISION)
    assert loss == pytest.approx(classes.item(), rel=1e-12)
    np.testing.assert_allclose(head_class_loss_backward(1.0, cache), their_logits.grad.numpy(), atol=1e-15)
    loss, cache = head_box_loss(deltas, class_ids, targets, TORCHVISION)
    assert loss == pytest.approx(boxes.item(), rel=1e-12)
    gradient = head_box_loss_backward(1.0, cache).reshape(20, 24)
    np.testing.assert_allclose(gradient, their_deltas.grad.numpy(), atol=1e-15)
