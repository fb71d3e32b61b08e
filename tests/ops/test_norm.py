"""Batch norm: hand-made numbers, loops, what training does to the running statistics, gradients."""

import naive
import numpy as np
import pytest
from gradcheck import check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np.ops.norm import batch_norm, batch_norm_backward

SHAPES = [(2, 3, 4, 5), (7, 3), (2, 1), (1, 1, 2, 2)]


def parameters(channels, rng):
    gamma, beta, mean = rng.normal(size=(3, channels))
    return gamma, beta, mean, rng.uniform(0.5, 2, size=channels)


def norm(training, mean, var):
    def f(x, gamma, beta):
        y, cache = batch_norm(x, gamma, beta, mean.copy(), var.copy(), training=training)
        return y, lambda dy: batch_norm_backward(dy, cache)

    return f


def test_by_hand():
    # Mean 3 and biased variance 4: 1, 5 become -1, 1; scaled by 10 and shifted by 100.
    x, gamma, beta = np.array([[1.0], [5.0]]), np.array([10.0]), np.array([100.0])
    mean, var = np.array([0.0]), np.array([1.0])
    y, _ = batch_norm(x, gamma, beta, mean, var, training=True, eps=0.0)
    np.testing.assert_array_equal(y, [[90], [110]])
    # Running: 0.9 * 0 + 0.1 * 3, and 0.9 * 1 + 0.1 * 8, because the unbiased variance is 8.
    np.testing.assert_allclose([mean[0], var[0]], [0.3, 1.7], rtol=1e-15)
    # Frozen: (x - 1) / 2.
    y, _ = batch_norm(x, gamma, beta, np.array([1.0]), np.array([4.0]), eps=0.0)
    np.testing.assert_array_equal(y, [[100], [120]])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [False, True])
def test_matches_loops(shape, training):
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, size=shape)
    gamma, beta, mean, var = parameters(shape[-1], rng)
    options = {"training": training, "eps": 1e-3, "momentum": 0.3}
    expected = naive.batch_norm(x, gamma, beta, mean, var, **options)
    y, _ = batch_norm(x, gamma, beta, mean, var, **options)
    for got, want in zip((y, mean, var), expected):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [False, True])
def test_gradients(shape, training):
    rng = np.random.default_rng(1)
    gamma, beta, mean, var = parameters(shape[-1], rng)
    x = rng.normal(2, 3, size=shape)
    check_gradients(norm(training, mean, var), x, gamma, beta, rng=rng)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(2, 30), shift=st.floats(-100, 100), scale=st.floats(0.5, 100), seed=st.integers(0, 2**32 - 1))
def test_training_undoes_shift_and_scale(rows, shift, scale, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    f = norm(True, np.zeros(3), np.ones(3))
    y, backward = f(x, np.ones(3), np.zeros(3))
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    # Two rows may lie close together; then eps is felt, so it is scaled along with the variance.
    moved, _ = batch_norm(
        x * scale + shift, np.ones(3), np.zeros(3), np.zeros(3), np.ones(3), training=True, eps=1e-5 * scale**2
    )
    np.testing.assert_allclose(moved, y, atol=1e-8)
    # Hence no gradient along the shift.
    dx, _, _ = backward(rng.normal(size=x.shape))
    np.testing.assert_allclose(dx.sum(axis=0), 0, atol=1e-9 * max(1, np.abs(dx).max()))


def test_frozen_leaves_the_statistics_alone_and_its_cache_too():
    rng = np.random.default_rng(2)
    gamma, beta, mean, var = parameters(3, rng)
    x, dy, before = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), (mean.copy(), var.copy())
    _, cache = batch_norm(x, gamma, beta, mean, var)
    np.testing.assert_array_equal((mean, var), before)
    expected = batch_norm_backward(dy, cache)
    batch_norm(x, gamma, beta, mean, var, training=True)  # changes mean and var between forward and backward
    for got, want in zip(batch_norm_backward(dy, cache), expected):
        np.testing.assert_array_equal(got, want)


def test_one_element_per_channel():
    # The batch's variance is 0 and its unbiased estimate 0 / 0; the running variance must not become NaN.
    mean, var = np.zeros(2), np.ones(2)
    y, cache = batch_norm(np.array([[3.0, 4.0]]), np.ones(2), np.full(2, 7.0), mean, var, training=True)
    np.testing.assert_array_equal(y, [[7, 7]])
    np.testing.assert_allclose(mean, [0.3, 0.4])
    np.testing.assert_allclose(var, [0.9, 0.9])
    np.testing.assert_array_equal(batch_norm_backward(np.ones((1, 2)), cache)[0], [[0, 0]])


@pytest.mark.parametrize("shape", [(0, 3), (0, 2, 2, 3), (2, 0, 5, 3)])
@pytest.mark.parametrize("training", [False, True])
def test_empty(shape, training):
    mean, var = np.full(3, 0.5), np.full(3, 2.0)
    y, cache = batch_norm(np.ones(shape), np.ones(3), np.ones(3), mean, var, training=training)
    dx, dgamma, dbeta = batch_norm_backward(y, cache)
    assert y.shape == dx.shape == shape
    np.testing.assert_array_equal([dgamma, dbeta], np.zeros((2, 3)))
    np.testing.assert_array_equal([mean, var], [np.full(3, 0.5), np.full(3, 2.0)])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype, training):
    rng = np.random.default_rng(3)
    x, p = rng.normal(size=(4, 3)).astype(dtype), [np.ones(3, dtype) for _ in range(4)]
    y, cache = batch_norm(x, *p, training=training, eps=np.float64(1e-3), momentum=np.float64(0.1))
    assert [a.dtype for a in (y, *p, *batch_norm_backward(y, cache))] == [dtype] * 8


def test_float32_statistics_of_a_large_map():
    # 131072 numbers per channel, mean 100: adding them in a row would be off by 1e-5, a variance taken as
    # E[x^2] - mean^2 by 1e-3. Measured relative errors: 1e-7 and 1e-6.
    x = np.random.default_rng(4).normal(100, 1, size=(8, 128, 128, 2)).astype(np.float32)
    mean, var = np.zeros(2, np.float32), np.zeros(2, np.float32)
    batch_norm(x, np.ones(2, np.float32), np.zeros(2, np.float32), mean, var, training=True, momentum=1.0)
    rows = x.reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(var, rows.var(axis=0, ddof=1), rtol=5e-6)


def test_nan_stays_in_its_channel():
    x = np.ones((3, 2))
    x[1, 0] = np.nan
    for training in (False, True):
        y, _ = batch_norm(x, np.ones(2), np.zeros(2), np.zeros(2), np.ones(2), training=training)
        assert np.isnan(y[1, 0]) and not np.isnan(y[:, 1]).any()


@pytest.mark.parametrize("wrong", range(4))
def test_bad_arguments(wrong):
    p = [np.ones(3) for _ in range(4)]
    p[wrong] = np.ones(2)
    name = ("gamma", "beta", "mean", "var")[wrong]
    with pytest.raises(ValueError, match=rf"batch_norm: {name} has shape \(2,\), expected \(3,\)"):
        batch_norm(np.ones((4, 3)), *p)
