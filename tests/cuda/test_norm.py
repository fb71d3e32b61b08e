"""Batch norm on the device against its NumPy body: statistics, running statistics, gradients."""

import numpy as np
import pytest
from cuda_cases import check, device_tree, same_in_any_order

from kernels.cuda import norm as device
from kernels.cuda.machine.device import to_device
from mrcnn_np.ops.norm import batch_norm, batch_norm_backward

SHAPES = [(2, 5, 7, 3), (1, 1, 1, 1), (1, 9, 6, 8), (3, 2, 2, 21), (37, 4), (1, 2, 3, 20)]


def arguments(shape):
    rng = np.random.default_rng(shape[-1])
    x = (rng.standard_normal(shape) * 3 + 10).astype(np.float32)
    gamma, beta, mean = (rng.standard_normal(shape[-1]).astype(np.float32) for _ in range(3))
    return x, gamma, beta, mean, rng.random(shape[-1]).astype(np.float32) + np.float32(0.5)


def wide(values):
    return tuple(v.astype(np.float64) for v in values)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm(shape, training):
    args = arguments(shape)
    there, exact = device_tree(args), wide(args)
    options = {"training": training, "eps": 1e-3, "momentum": 0.3}
    wanted, its = batch_norm.reference(*exact, **options)
    y, cache = device.batch_norm(*there, **options)
    # One element to a channel is its own mean: what is left of it is rounding, times 1 / sqrt(eps)
    check(y, wanted.astype(np.float32), 3e-6)
    for mine, other in (
        (there[3], exact[3]),
        (there[4], exact[4]),
        (cache.mu, its.mu),
        (cache.inverse_std, its.inverse_std),
    ):
        check(mine, other.astype(np.float32), 1e-6)
    assert cache.training is training and cache.x.shape == shape and cache.gamma is there[1]
    assert cache.mu is not there[3], "a later step changes the running mean"

    dy = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    body_cache = batch_norm.reference(*arguments(shape), **options)[1]
    exact = batch_norm_backward.reference(dy.astype(np.float64), its)
    for tree in (cache, device_tree(body_cache)):
        for found, wanted in zip(device.batch_norm_backward(to_device(dy), tree), exact):
            check(found, wanted.astype(np.float32), 5e-6)


def test_a_mean_far_from_zero_costs_no_digits():
    """Sums of squares would: here the deviation is a thousandth of the mean, which leaves it four digits."""
    x = (np.random.default_rng(0).standard_normal((50, 4)) * 0.1 + 100).astype(np.float32)
    one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    _, cache = device.batch_norm(*device_tree((x, one, zero, zero.copy(), one.copy())), training=True, eps=0.0)
    np.testing.assert_allclose(cache.inverse_std.get(), 1 / x.std(axis=0, dtype=np.float64), rtol=1e-5)


def test_running_statistics_with_gaps_change_in_place():
    args = arguments((2, 3, 4, 4))
    there = list(device_tree(args))
    both = to_device(np.stack(args[3:], axis=1))
    there[3], there[4] = both[:, 0], both[:, 1]
    exact = wide(args)
    device.batch_norm(*there, training=True)
    batch_norm.reference(*exact, training=True)
    check(both, np.stack(exact[3:], axis=1).astype(np.float32), 1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_the_same_bits_in_any_order(training):
    dy = to_device(np.random.default_rng(1).standard_normal((2, 9, 5, 12)).astype(np.float32))

    def run():
        there = device_tree(arguments((2, 9, 5, 12)))
        y, cache = device.batch_norm(*there, training=training)
        return [y, *there[3:], *device.batch_norm_backward(dy, cache)]

    same_in_any_order(run)


def test_nothing_and_float64_are_left_to_numpy():
    empty = device_tree(arguments((0, 3, 3, 4)))
    assert device.batch_norm(*empty) is NotImplemented
    assert device.batch_norm(*device_tree(wide(arguments((2, 4))))) is NotImplemented
    x, gamma, *rest = device_tree(arguments((2, 4)))
    assert device.batch_norm(x, gamma[:3], *rest) is NotImplemented
