"""Group norm on the device against its NumPy body: statistics of each map, gradients."""

import numpy as np
import pytest
from cuda_cases import check, device_tree, same_in_any_order

from kernels import use
from kernels.cuda import group_norm as device
from kernels.cuda.machine.device import LARGEST_GRID, to_device
from mrcnn_np.ops.group_norm import group_norm, group_norm_backward

CASES = [  # maps, groups: of one channel, of all; parts that end within a block; four channels at once and one
    ((2, 5, 7, 3), 3), ((2, 5, 7, 3), 1), ((1, 1, 1, 1), 1), ((1, 23, 11, 8), 2), ((3, 2, 2, 21), 7), ((1, 9, 9, 1), 1),
    ((7, 8), 1), ((9, 3, 3, 20), 5), ((2, 3, 2, 48), 16), ((1, 40, 40), 8),
]  # fmt: skip


def arguments(shape):
    rng = np.random.default_rng(shape[-1])
    x = (rng.standard_normal(shape) * 3 + 10).astype(np.float32)
    return x, *(rng.standard_normal(shape[-1]).astype(np.float32) for _ in range(2))


def wide(values):
    return tuple(v.astype(np.float64) for v in values)


@pytest.mark.parametrize(("shape", "groups"), CASES)
def test_group_norm(shape, groups):
    args, options = arguments(shape), {"groups": groups, "eps": 1e-3}
    there = device_tree(args)
    wanted, its = group_norm.reference(*wide(args), **options)
    y, cache = device.group_norm(*there, **options)
    check(y, wanted.astype(np.float32), 3e-6)
    check(cache.mu, its.mu.astype(np.float32), 1e-6)
    check(cache.inverse_std, its.inverse_std.astype(np.float32), 1e-6)
    assert cache.groups == groups and cache.x.shape == shape and cache.gamma is there[1]

    dy = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    exact = group_norm_backward.reference(dy.astype(np.float64), its)
    for tree in (cache, device_tree(group_norm.reference(*args, **options)[1])):
        for found, wanted in zip(device.group_norm_backward(to_device(dy), tree), exact):
            check(found, wanted.astype(np.float32), 5e-6)


def test_the_body_takes_the_cache_of_a_kernel():
    there = device_tree(arguments((2, 5, 7, 6)))
    dy = to_device(np.random.default_rng(1).standard_normal((2, 5, 7, 6)).astype(np.float32))
    _, cache = device.group_norm(*there, groups=3)
    with use("cuda"):  # for what the body calls in its turn
        gradients = group_norm_backward.reference(dy, cache)
    for mine, its in zip(device.group_norm_backward(dy, cache), gradients):
        check(mine, its.get(), 5e-6)


def test_gaps_between_the_numbers():
    x, gamma, beta = arguments((2, 5, 7, 8))
    apart = device_tree((np.stack([x, x], axis=-1), np.stack([gamma, gamma], axis=-1), beta))
    y, cache = device.group_norm(apart[0][..., 0], apart[1][:, 1], apart[2], groups=2)
    dense, its = device.group_norm(*device_tree((x, gamma, beta)), groups=2)
    check(y, dense.get(), 0)
    dy = to_device(np.stack([x, x], axis=-1))[..., 0]
    for mine, other in zip(device.group_norm_backward(dy, cache), device.group_norm_backward(to_device(x), its)):
        check(mine, other.get(), 0)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_mean_far_from_zero_costs_no_digits(groups):
    """Nor do channels of a group that lie far from each other's means: they are added as distances."""
    x = np.random.default_rng(0).standard_normal((2, 50, 4)) * 0.1 + 100
    x = (x + np.arange(4) * 0.5 + [[[0]], [[-300]]]).astype(np.float32)
    _, cache = device.group_norm(*device_tree((x, *np.ones((2, 4), np.float32))), groups=groups, eps=0.0)
    spread = x.reshape(2, 50, groups, -1).std(axis=(1, 3), dtype=np.float64)
    np.testing.assert_allclose(cache.inverse_std.get()[:, :: 4 // groups], 1 / spread, rtol=1e-5)


def test_a_map_does_not_depend_on_its_neighbours():
    x, *parameters = device_tree(arguments((3, 9, 5, 6)))
    together, _ = device.group_norm(x, *parameters, groups=2)
    with_other_neighbours, _ = device.group_norm(x[::-1], *parameters, groups=2)
    check(together[::-1], with_other_neighbours.get(), 0)


@pytest.mark.parametrize(("shape", "groups"), [((2, 9, 5, 12), 3), ((5, 6), 3)])
def test_the_same_bits_in_any_order(shape, groups):
    dy = to_device(np.random.default_rng(1).standard_normal(shape).astype(np.float32))

    def run():
        y, cache = device.group_norm(*device_tree(arguments(shape)), groups=groups)
        return [y, cache.mu, cache.inverse_std, *device.group_norm_backward(dy, cache)]

    same_in_any_order(run)


def test_what_is_left_to_numpy():
    x, gamma, beta = device_tree(arguments((2, 3, 4)))
    for declined in (
        device.group_norm(*device_tree(arguments((0, 3, 3, 4))), groups=2),
        device.group_norm(*device_tree(wide(arguments((2, 4)))), groups=2),
        device.group_norm(x, gamma[:3], beta, groups=2),
        device.group_norm(x, gamma, beta[:3], groups=2),
        device.group_norm(gamma, gamma, beta, groups=2),
        *(device.group_norm(x, gamma, beta, groups=groups) for groups in (0, 3, 8)),
        device.group_norm_backward(x[:1], device.group_norm(x, gamma, beta, groups=2)[1]),
    ):
        assert declined is NotImplemented
    with use("cuda"), pytest.raises(ValueError, match="4 channels cannot be cut into 3 groups"):
        group_norm(x, gamma, beta, groups=3)


def test_more_maps_than_a_grid_has_blocks_are_left_to_numpy(monkeypatch):
    x, gamma, beta = arguments((5, 3, 4))
    wanted, _ = group_norm.reference(x, gamma, beta, groups=2)
    monkeypatch.setattr(device, "LARGEST_GRID", (*LARGEST_GRID[:2], 4))
    there = device_tree((x, gamma, beta))
    assert device.group_norm(*there, groups=2) is NotImplemented
    with use("cuda"):  # NumPy's text on the device's arrays
        y, cache = group_norm(*there, groups=2)
        dx, *_ = group_norm_backward(y, cache)
    check(y, wanted)
    assert dx.shape == x.shape
