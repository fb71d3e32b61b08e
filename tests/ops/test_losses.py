"""Losses: hand-made numbers, loops, extremes, gradients, bad arguments."""

import math

import naive
import numpy as np
import pytest
from gradcheck import check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np.ops.losses import (
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
    smooth_l1,
    smooth_l1_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)

pytestmark = pytest.mark.filterwarnings("error")  # no overflow, no division by zero


def test_smooth_l1_by_hand():
    d = np.array([0.0, 0.5, 1.0, 2.0, -3.0])
    loss, cache = smooth_l1(d + 10, np.full(5, 10.0))
    np.testing.assert_array_equal(loss, [0, 0.125, 0.5, 1.5, 2.5])
    np.testing.assert_array_equal(smooth_l1_backward(np.full(5, 2.0), cache), [0, 1, 2, 2, -2])
    np.testing.assert_allclose(smooth_l1(np.array([0.5, 1.0]), np.zeros(2), beta=1 / 9)[0], [4 / 9, 17 / 18])
    loss, cache = smooth_l1(d, np.zeros(5), beta=0)
    np.testing.assert_array_equal(loss, [0, 0.5, 1, 2, 3])
    np.testing.assert_array_equal(smooth_l1_backward(np.ones(5), cache), [0, 1, 1, 1, -1])


def test_cross_entropies_by_hand():
    loss, cache = softmax_cross_entropy(np.log([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0]]), np.array([2, 0]))
    np.testing.assert_allclose(loss, [-math.log(0.625), math.log(4)])
    gradient = softmax_cross_entropy_backward(np.array([1.0, 2.0]), cache)
    np.testing.assert_allclose(gradient, [[0.125, 0.25, -0.375], [-1.5, 0.5, 1]])
    loss, cache = sigmoid_cross_entropy(
        np.array([0.0, math.log(3), math.log(3), math.log(3)]), np.array([1, 1, 0, 0.5])
    )
    np.testing.assert_allclose(loss, [math.log(2), math.log(4 / 3), math.log(4), math.log(16 / 3) / 2])
    np.testing.assert_allclose(sigmoid_cross_entropy_backward(np.full(4, 2.0), cache), [-1, -0.5, 1.5, 0.5])


@pytest.mark.parametrize("classes", [2, 21, 81])
def test_untrained(classes):
    # All logits equal: ln 2 for two classes, ln 21 = 3.0445, ln 81 = 4.3944. A loss that stays there learns nothing.
    loss, _ = softmax_cross_entropy(np.zeros((3, classes)), np.array([0, 1, classes - 1]))
    np.testing.assert_allclose(loss, math.log(classes), rtol=1e-15)
    np.testing.assert_allclose(sigmoid_cross_entropy(np.zeros(2), np.array([0.0, 1.0]))[0], math.log(2), rtol=1e-15)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=1, max_size=5), st.data())
def test_matches_loops(values, data):
    label, target = data.draw(st.integers(0, len(values) - 1)), data.draw(st.floats(0, 1))
    beta = data.draw(st.sampled_from([0.1, 1 / 9, 1.0, 5.0]))
    x = np.array(values)
    loss, _ = softmax_cross_entropy(x[None], np.array([label]))
    np.testing.assert_allclose(loss, -math.log(naive.softmax(values)[label]), rtol=1e-12, atol=1e-14)
    expected = [-target * math.log(naive.sigmoid(v)) - (1 - target) * math.log(naive.sigmoid(-v)) for v in values]
    # -log of a sigmoid next to 1 keeps only absolute precision, and x - x t that of the rounded product, 2e-15 near 20.
    np.testing.assert_allclose(sigmoid_cross_entropy(x, np.full(len(x), target))[0], expected, rtol=1e-12, atol=4e-15)
    expected = [naive.smooth_l1(v - target, beta) for v in values]
    np.testing.assert_allclose(smooth_l1(x, np.full(len(x), target), beta=beta)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("rows", [0, 1, 6])
def test_gradients(rows):
    rng = np.random.default_rng(rows)
    labels, soft = rng.integers(0, 4, size=rows), rng.uniform(size=(rows, 4))

    def softmax_loss(logits):
        loss, cache = softmax_cross_entropy(logits, labels)
        return loss, lambda dloss: softmax_cross_entropy_backward(dloss, cache)

    def sigmoid_loss(logits):
        loss, cache = sigmoid_cross_entropy(logits, soft)
        return loss, lambda dloss: sigmoid_cross_entropy_backward(dloss, cache)

    logits = 3 * rng.normal(size=(rows, 4))
    check_gradients(softmax_loss, logits, rng=rng)
    check_gradients(sigmoid_loss, logits, rng=rng)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1_gradient(beta):
    rng = np.random.default_rng(0)

    def f(pred):
        loss, cache = smooth_l1(pred, np.full((3, 4), 0.25), beta=beta)
        return loss, lambda dloss: smooth_l1_backward(dloss, cache)

    # Differences of 0.06 to 1.2, none at 0 (the kink of L1), 1/9 or 1.
    steps = np.array([0.06, -0.08, 0.2, -0.3, 0.4, -0.5, 0.6, -0.7, 0.8, -0.9, 1.1, -1.2]).reshape(3, 4)
    check_gradients(f, 0.25 + steps, rng=rng)


def test_extremes():
    # The probability of the right class is 0 in float64, the loss still right.
    loss, cache = softmax_cross_entropy(np.array([[2000.0, 0.0], [0.0, 2000.0]]), np.array([1, 1]))
    np.testing.assert_array_equal(loss, [2000, 0])
    np.testing.assert_array_equal(softmax_cross_entropy_backward(np.ones(2), cache), [[1, -1], [0, 0]])
    loss, cache = sigmoid_cross_entropy(np.array([2000.0, -2000.0, 2000.0]), np.array([0.0, 1.0, 1.0]))
    np.testing.assert_array_equal(loss, [2000, 2000, 0])
    np.testing.assert_array_equal(sigmoid_cross_entropy_backward(np.ones(3), cache), [1, -1, 0])
    loss, cache = smooth_l1(np.array([1e200]), np.zeros(1))
    assert loss == 1e200
    assert smooth_l1_backward(np.ones(1), cache) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_follows_the_logits(dtype):
    x, dloss = np.ones((2, 3), dtype), np.ones((2, 3), dtype)
    loss, cache = softmax_cross_entropy(x, np.array([0, 2], np.int32))
    assert loss.dtype == softmax_cross_entropy_backward(dloss[:, 0], cache).dtype == dtype
    loss, cache = sigmoid_cross_entropy(x, np.ones((2, 3), bool))  # boolean masks are targets too
    assert loss.dtype == sigmoid_cross_entropy_backward(dloss, cache).dtype == dtype
    for beta in (0, 1, np.float64(1 / 9)):
        loss, cache = smooth_l1(x, np.zeros((2, 3), np.float64), beta=beta)
        assert loss.dtype == smooth_l1_backward(dloss, cache).dtype == dtype


def test_nan_propagates():
    nan = np.array([[np.nan, 0.0]])
    assert np.isnan(softmax_cross_entropy(nan, np.array([1]))[0]).all()
    loss, cache = sigmoid_cross_entropy(nan, np.zeros((1, 2)))
    np.testing.assert_array_equal(np.isnan(loss), [[True, False]])
    np.testing.assert_array_equal(np.isnan(sigmoid_cross_entropy_backward(np.ones((1, 2)), cache)), [[True, False]])
    for beta in (0.0, 1.0):
        loss, cache = smooth_l1(nan, np.zeros((1, 2)), beta=beta)
        np.testing.assert_array_equal(np.isnan(loss), [[True, False]])
        np.testing.assert_array_equal(np.isnan(smooth_l1_backward(np.ones((1, 2)), cache)), [[True, False]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: softmax_cross_entropy(np.ones((2, 3)), np.array([0, 3])), "label 3 of row 1 is not in 0..2"),
        (lambda: softmax_cross_entropy(np.ones((2, 3)), np.array([-1, 0])), "label -1 of row 0 is not in 0..2"),
        (lambda: softmax_cross_entropy(np.ones((2, 3)), np.array([0.0, 1.0])), "labels are float64, expected integers"),
        (lambda: softmax_cross_entropy(np.ones((2, 3)), np.array([0])), "logits (2, 3) and labels (1,)"),
        (lambda: sigmoid_cross_entropy(np.ones((2, 3)), np.ones(3)), "targets of shape (3,), expected (2, 3)"),
        (lambda: sigmoid_cross_entropy(np.ones(2), np.array([0.0, 2.0])), "targets from 0.0 to 2.0, expected 0 to 1"),
        (lambda: smooth_l1(np.ones((2, 4)), np.ones((1, 4))), "smooth_l1: target of shape (1, 4), expected (2, 4)"),
        (lambda: smooth_l1(np.ones(2), np.ones(2), beta=-1), "beta is -1"),
        (lambda: smooth_l1(np.ones(2), np.ones(2), beta=np.nan), "beta is nan"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
