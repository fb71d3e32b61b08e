"""relu, sigmoid, softmax: values, extremes, NaN, gradients."""

import naive
import numpy as np
import pytest
from gradcheck import check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np.ops.activation import relu, relu_backward, sigmoid, sigmoid_backward, softmax, softmax_backward

OPS = {"relu": (relu, relu_backward), "sigmoid": (sigmoid, sigmoid_backward), "softmax": (softmax, softmax_backward)}
pytestmark = pytest.mark.filterwarnings("error")  # no overflow, no division by zero


def test_by_hand():
    y, cache = relu(np.array([-2.0, 0.0, 3.0]))
    np.testing.assert_array_equal(y, [0, 0, 3])
    np.testing.assert_array_equal(relu_backward(np.ones(3), cache), [0, 0, 1])
    np.testing.assert_allclose(sigmoid(np.array([0.0, np.log(3.0), -np.log(3.0)]))[0], [0.5, 0.75, 0.25])
    np.testing.assert_allclose(softmax(np.log([[1.0, 2.0, 5.0]]))[0], [[0.125, 0.25, 0.625]])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=6))
def test_matches_loops(values):
    x = np.array(values)
    # Each result is one or two roundings away: 4 ulp are 1e-15.
    np.testing.assert_allclose(sigmoid(x)[0], [naive.sigmoid(v) for v in values], rtol=1e-14)
    np.testing.assert_allclose(softmax(x)[0], naive.softmax(values), rtol=1e-13)
    np.testing.assert_array_equal(relu(x)[0], [v if v > 0 else 0.0 for v in values])


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 5), (0, 4), (1, 1)])
def test_gradients(name, shape):
    rng = np.random.default_rng(0)
    forward, backward = OPS[name]

    def f(x):
        y, cache = forward(x)
        return y, lambda dy: backward(dy, cache)

    x = rng.normal(size=shape)
    check_gradients(f, x + 0.1 * np.sign(x), rng=rng)  # at least 0.1 away from relu's kink


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(name, dtype):
    forward, backward = OPS[name]
    y, cache = forward(np.ones((2, 3), dtype))
    assert y.dtype == backward(y, cache).dtype == dtype


def test_extremes():
    x = np.array([-1e4, -800.0, 0.0, 800.0, 1e4, -np.inf, np.inf])
    np.testing.assert_array_equal(sigmoid(x)[0], [0, 0, 0.5, 1, 1, 0, 1])
    np.testing.assert_array_equal(
        softmax(np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -np.inf]]))[0], [[1, 0, 0], [0.5, 0.5, 0]]
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=5), st.floats(-500, 500))
def test_symmetries(values, shift):
    x = np.array(values)
    np.testing.assert_allclose(sigmoid(x)[0] + sigmoid(-x)[0], 1, rtol=1e-15)
    y, cache = softmax(x)
    np.testing.assert_allclose(y.sum(), 1, rtol=1e-14)
    np.testing.assert_allclose(softmax(x + shift)[0], y, rtol=1e-12)  # the shift itself rounds at 500 * 1e-16
    np.testing.assert_allclose(softmax_backward(np.ones_like(y), cache), 0, atol=1e-15)
    # Two classes are a sigmoid of the difference: why one logit per anchor does what two do.
    two = softmax(np.stack([x, np.full_like(x, 1.5)], axis=-1))[0]
    np.testing.assert_allclose(two[:, 0], sigmoid(x - 1.5)[0], rtol=1e-13)


def test_nan_is_not_hidden():
    x = np.array([np.nan, 1.0, -1.0])
    y, cache = relu(x)
    np.testing.assert_array_equal(y, [np.nan, 1, 0])
    np.testing.assert_array_equal(relu_backward(np.array([7.0, np.nan, np.nan]), cache), [7, np.nan, np.nan])
    np.testing.assert_array_equal(np.isnan(sigmoid(x)[0]), [True, False, False])
    assert np.isnan(softmax(x)[0]).all()


def test_no_class():
    with pytest.raises(ValueError, match=r"softmax: x has shape \(3, 0\)"):
        softmax(np.ones((3, 0)))
