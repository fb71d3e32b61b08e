"""Fully connected layer."""

import naive
import numpy as np
import pytest
from gradcheck import adjoint_error, check_gradients

from mrcnn_np.ops.linear import channel_sum, linear, linear_backward


def test_by_hand():
    y, cache = linear(
        np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 4.0]]), np.array([10.0, 20.0, 30.0])
    )
    np.testing.assert_array_equal(y, [[11, 22, 41]])
    dx, dw, db = linear_backward(np.array([[1.0, 0.0, 2.0]]), cache)
    np.testing.assert_array_equal(dx, [[7, 8]])
    np.testing.assert_array_equal(dw, [[1, 0, 2], [2, 0, 4]])
    np.testing.assert_array_equal(db, [1, 0, 2])


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_matches_loops_and_gradients(rows):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(rows, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
    np.testing.assert_allclose(linear(x, w, b)[0], naive.linear(x, w, b), rtol=0, atol=1e-14)
    np.testing.assert_allclose(linear(x, w)[0], naive.linear(x, w), rtol=0, atol=1e-14)

    def f(x, w, b):
        y, cache = linear(x, w, b)
        return y, lambda dy: linear_backward(dy, cache)

    check_gradients(f, x, w, b, rng=rng)


def test_no_bias_and_adjoint():
    rng = np.random.default_rng(1)
    w = rng.normal(size=(4, 3))
    _, cache = linear(np.zeros((5, 4)), w)
    assert linear_backward(np.ones((5, 3)), cache)[2] is None
    error = adjoint_error(lambda x: linear(x, w)[0], lambda dy: linear_backward(dy, cache)[0], (5, 4), (5, 3), rng)
    assert error < 1e-15


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    y, cache = linear(np.ones((2, 3), dtype), np.ones((3, 4), dtype), np.ones(4, dtype))
    assert [a.dtype for a in (y, *linear_backward(y, cache))] == [dtype] * 4


@pytest.mark.parametrize(
    ("x", "w", "b", "message"),
    [
        ((2, 3), (4, 5), None, "x has 3 columns, w expects 4"),
        ((2, 3, 4), (4, 5), None, r"x has shape \(2, 3, 4\)"),
        ((2, 3), (3, 5), (3,), r"b has shape \(3,\), expected \(5,\)"),
    ],
)
def test_bad_arguments(x, w, b, message):
    with pytest.raises(ValueError, match=f"linear: {message}"):
        linear(np.ones(x), np.ones(w), None if b is None else np.ones(b))


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 4, 5), (0, 5), (2, 0, 4, 5)])
def test_channel_sum(shape):
    x = np.random.default_rng(2).normal(size=shape)
    np.testing.assert_allclose(channel_sum(x), x.reshape(-1, 5).sum(axis=0), rtol=0, atol=1e-13)


def test_channel_sum_in_float32():
    x = np.random.default_rng(3).uniform(size=(8, 128, 128, 4)).astype(np.float32)
    exact = x.sum(axis=(0, 1, 2), dtype=np.float64)
    # Measured: 1e-7; numpy's own float32 sum: 1e-5.
    np.testing.assert_allclose(channel_sum(x), exact, rtol=1e-6)
    assert channel_sum(x).dtype == np.float32
