"""Matrix products on the device, in the simulator, against NumPy: odd sizes, empty ones, either tile, cut sums."""

import numpy as np
import pytest

from kernels import use
from kernels.cuda import linear
from kernels.cuda.machine.device import to_device, to_host
from kernels.cuda.machine.simulator import shuffled
from mrcnn_np.ops import linear as reference

SIZES = [(1, 1, 1), (5, 3, 2), (17, 9, 12), (9, 40, 7), (33, 17, 18), (70, 9, 20), (2, 70, 5), (0, 3, 4), (3, 0, 4)]


def arrays(rows, inner, columns, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in ((rows, inner), (inner, columns), (columns,))]


@pytest.mark.parametrize("sizes", SIZES)
def test_linear(sizes):
    x, w, b = arrays(*sizes)
    y, cache = linear.linear(*map(to_device, (x, w, b)))
    expected, _ = reference.linear.reference(x, w, b)
    np.testing.assert_allclose(to_host(y), expected, rtol=1e-4, atol=1e-5)
    dy = np.random.default_rng(1).standard_normal(expected.shape, np.float32)
    for got, want in zip(
        linear.linear_backward(to_device(dy), cache),
        reference.linear_backward.reference(dy, cache._replace(x=x, w=w)),
        strict=True,
    ):
        assert got.shape == want.shape
        np.testing.assert_allclose(to_host(got), want, rtol=1e-4, atol=1e-5)


def test_a_layer_without_bias():
    x, w, _ = arrays(4, 5, 6)
    y, cache = linear.linear(to_device(x), to_device(w))
    np.testing.assert_allclose(to_host(y), x @ w, rtol=1e-4, atol=1e-5)
    assert linear.linear_backward(y, cache)[2] is None


def test_any_order_of_blocks_and_threads_gives_the_same_bits():
    x, w, b = map(to_device, arrays(17, 40, 18))
    y, cache = linear.linear(x, w, b)
    results = [y, *linear.linear_backward(y, cache)]
    with shuffled(3):
        again, _ = linear.linear(x, w, b)
        for first, second in zip(results, [again, *linear.linear_backward(y, cache)], strict=True):
            assert to_host(first).tobytes() == to_host(second).tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (0, 3), (7, 3), (60, 5), (2, 3, 4, 3)])
def test_channel_sum(shape):
    x = np.random.default_rng(2).standard_normal(shape, np.float32)
    np.testing.assert_allclose(
        to_host(linear.channel_sum(to_device(x))), reference.channel_sum.reference(x), rtol=1e-5, atol=1e-5
    )


def test_masked_sum_keeps_nan():
    dy, y = (np.random.default_rng(seed).standard_normal((2, 9, 3), np.float32) for seed in (0, 1))
    y[0, 0, 0] = np.nan
    masked, total = map(to_host, linear.masked_sum(to_device(dy), to_device(y)))
    np.testing.assert_array_equal(masked, np.where(y <= 0, 0, dy))
    np.testing.assert_allclose(total, masked.sum(axis=(0, 1)), rtol=1e-5, atol=1e-6)


def test_float64_is_declined():
    x = to_device(np.ones((2, 2)))
    assert linear.linear(x, x) is NotImplemented and linear.channel_sum(x) is NotImplemented
    with use("cuda"):  # what is declined NumPy's text does with the device's arrays
        assert to_host(reference.channel_sum(x)).tolist() == [2, 2]
