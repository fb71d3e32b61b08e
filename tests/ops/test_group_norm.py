"""Group norm: hand-made numbers, loops, what it does not depend on, gradients."""

import naive
import numpy as np
import pytest
from gradcheck import check_gradients

import kernels
from mrcnn_np.ops.group_norm import group_norm, group_norm_backward
from mrcnn_np.ops.norm import batch_norm

CASES = [((2, 3, 4, 6), 2), ((2, 3, 4, 6), 6), ((3, 2, 2, 4), 1), ((7, 8), 4), ((1, 1, 1, 2), 2), ((2, 5, 4), 2)]


def parameters(channels, rng):
    return rng.normal(size=channels), rng.normal(size=channels)


def test_by_hand():
    # Two groups of two channels in one map of two pixels: 1, 3, 5, 7 (mean 4, variance 5) and 0, 0, 2, 2 (1 and 1)
    x = np.array([[[1.0, 3, 0, 0], [5, 7, 2, 2]]])
    gamma, beta = np.array([1.0, 1, 10, 10]), np.array([0.0, 0, 100, 100])
    y, cache = group_norm(x, gamma, beta, groups=2, eps=0.0)
    root = np.sqrt(5)
    np.testing.assert_allclose(y, [[[-3 / root, -1 / root, 90, 90], [1 / root, 3 / root, 110, 110]]], rtol=1e-15)
    np.testing.assert_allclose(cache.mu, [[4, 4, 1, 1]], rtol=1e-15)
    np.testing.assert_allclose(cache.inverse_std, [[1 / root, 1 / root, 1, 1]], rtol=1e-15)


@pytest.mark.parametrize("shape, groups", CASES)
def test_matches_loops(shape, groups):
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, size=shape)
    gamma, beta = parameters(shape[-1], rng)
    y, _ = group_norm(x, gamma, beta, groups=groups, eps=1e-3)
    np.testing.assert_allclose(y, naive.group_norm(x, gamma, beta, groups=groups, eps=1e-3), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape, groups", CASES)
def test_gradients(shape, groups):
    rng = np.random.default_rng(1)
    gamma, beta = parameters(shape[-1], rng)

    def f(x, gamma, beta):
        y, cache = group_norm(x, gamma, beta, groups=groups, eps=1e-3)
        return y, lambda dy: group_norm_backward(dy, cache)

    check_gradients(f, rng.normal(2, 3, size=shape), gamma, beta, rng=rng)


def test_a_map_does_not_depend_on_its_neighbours():
    """Batch norm's maps do: that is why it cannot have one or two images in a batch without paying for it."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 4, 5, 8))
    gamma, beta = parameters(8, rng)
    together, _ = group_norm(x, gamma, beta, groups=4)
    for n in range(3):
        np.testing.assert_array_equal(group_norm(x[n : n + 1], gamma, beta, groups=4)[0][0], together[n])


def test_a_picture_that_is_darker_or_duller_is_the_same():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, 6, 5, 8))
    gamma, beta = parameters(8, rng)
    bright, _ = group_norm(x * 3 + 50, gamma, beta, groups=4, eps=0.0)
    np.testing.assert_allclose(bright, group_norm(x, gamma, beta, groups=4, eps=0.0)[0], atol=1e-12)


def test_instance_norm_of_one_map_is_batch_norm():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(1, 6, 5, 3))
    gamma, beta = parameters(3, rng)
    y, _ = group_norm(x, gamma, beta, groups=3)
    expected, _ = batch_norm(x, gamma, beta, np.zeros(3), np.ones(3), training=True)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("x", [(0, 4, 4, 6), (2, 0, 4, 6)])
def test_nothing(x):
    x = np.zeros(x, np.float32)
    y, cache = group_norm(x, np.ones(6, np.float32), np.zeros(6, np.float32), groups=3)
    dx, dgamma, dbeta = group_norm_backward(y, cache)
    assert y.shape == dx.shape == x.shape and y.dtype == dx.dtype == np.float32
    assert not dgamma.any() and not dbeta.any() and dgamma.shape == dbeta.shape == (6,)


@pytest.mark.parametrize("groups", [0, 4, 7, -1])
def test_groups_that_do_not_divide_are_refused(groups):
    with pytest.raises(ValueError, match=f"6 channels cannot be cut into {groups} groups"):
        group_norm(np.ones((1, 2, 2, 6)), np.ones(6), np.zeros(6), groups=groups)


def test_parameters_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"group_norm: beta has shape \(5,\), expected \(6,\)"):
        group_norm(np.ones((1, 2, 2, 6)), np.ones(6), np.zeros(5), groups=2)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_groups_may_be_a_numpy_integer(backend):
    """NumPy's integers would make float64 of float32."""
    x = np.random.default_rng(5).normal(size=(2, 40, 40, 8)).astype(np.float32)
    one, zero = np.ones(8, np.float32), np.zeros(8, np.float32)
    with kernels.use(backend):
        y, cache = group_norm(x, one, zero, groups=np.int64(2))
        gradients = group_norm_backward(y, cache)
        np.testing.assert_array_equal(y, group_norm(x, one, zero, groups=2)[0])
        assert all(a.dtype == np.float32 for a in (y, *gradients))
        with pytest.raises(TypeError, match="integer"):
            group_norm(x, one, zero, groups=2.0)


def test_one_axis_is_refused():
    with pytest.raises(ValueError, match=r"x has shape \(200000,\), expected \(N, \.\.\., C\)"):
        group_norm(np.ones(200_000, np.float32), np.ones(200_000, np.float32), np.ones(200_000, np.float32), groups=2)
