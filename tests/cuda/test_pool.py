"""Max pooling on the device against its NumPy body: ties, NaN, minus infinity, padding, overlap."""

import numpy as np
import pytest
from cuda_cases import check, device_tree

from kernels.cuda import pool as device
from kernels.cuda.machine.device import to_device
from mrcnn_np.ops.pool import max_pool2d, max_pool2d_backward

pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
OPTIONS = [
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 2},
    {"kernel_size": (3, 2), "stride": (1, 3), "padding": ((2, 0), (0, 1))},
]


def maps(shape):
    """Whole numbers tie; some are NaN, some infinite."""
    rng = np.random.default_rng(shape[-1])
    x = rng.integers(-3, 4, shape).astype(np.float32)
    x[rng.random(shape) < 0.05] = np.nan
    x[rng.random(shape) < 0.2] = -np.inf
    return x


@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 6, 3, 8), (1, 2, 3, 20), (3, 4, 4, 1)])
@pytest.mark.parametrize("options", OPTIONS)
def test_max_pool(shape, options):
    x = maps(shape)
    if shape[1] + 2 < 3:
        return
    try:
        wanted, its = max_pool2d.reference(x, **options)
    except ValueError:
        assert device.max_pool2d(to_device(x), **options) is NotImplemented
        return
    y, cache = device.max_pool2d(to_device(x), **options)
    np.testing.assert_array_equal(y.get(), wanted)
    np.testing.assert_array_equal(cache.winner.get(), its.winner)
    assert cache.winner.dtype == its.winner.dtype and cache[1:] == its[1:]
    dy = np.random.default_rng(2).standard_normal(wanted.shape).astype(np.float32)
    gradient = max_pool2d_backward.reference(dy, its)
    for tree in (cache, device_tree(its)):
        check(device.max_pool2d_backward(to_device(dy), tree), gradient, 0)


def test_one_pixel():
    y, cache = device.max_pool2d(to_device(np.full((1, 1, 1, 4), 2, np.float32)), kernel_size=3, stride=2, padding=1)
    assert y.get().tolist() == [[[[2, 2, 2, 2]]]]
    dx = device.max_pool2d_backward(to_device(np.ones((1, 1, 1, 4), np.float32)), cache)
    assert dx.get().tolist() == [[[[1, 1, 1, 1]]]]


def test_what_is_left_to_numpy():
    x = to_device(np.ones((1, 4, 4, 2), np.float32))
    for declined in (
        device.max_pool2d(x[0], kernel_size=2),
        device.max_pool2d(x, kernel_size=2, padding=2),
        device.max_pool2d(x, kernel_size=5),
        device.max_pool2d(x, kernel_size=17, padding=16),
        device.max_pool2d(x.astype(np.float64), kernel_size=2),
        device.max_pool2d(x[:0], kernel_size=2),
    ):
        assert declined is NotImplemented
