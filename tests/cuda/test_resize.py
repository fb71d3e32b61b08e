"""Changing the size of maps on the device against the NumPy bodies."""

import numpy as np
import pytest
from cuda_cases import check

from kernels.cuda import resize as device
from kernels.cuda.machine.device import to_device
from mrcnn_np.ops import resize


def draw(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 3, 5, 3), (1, 1, 1, 1), (1, 2, 3, 8), (0, 2, 2, 4), (1, 2, 2, 20)])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_upsample(shape, scale):
    x = draw(*shape)
    wanted, its = resize.upsample_nearest.reference(x, scale=scale)
    y, cache = device.upsample_nearest(to_device(x), scale=scale)
    check(y, wanted, 0)
    assert cache == its
    dy = draw(*wanted.shape)
    found = device.upsample_nearest_backward(to_device(dy), cache)
    check(found, resize.upsample_nearest_backward.reference(dy, its), 0)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((5, 7, 3), (8, 3)), ((2, 4, 6, 4), (9, 6)), ((1, 1, 1, 1), (3, 4)), ((9, 8, 2), (1, 1)), ((3, 5, 1), (3, 5)),
        ((2, 11, 3, 5), (4, 13)), ((7, 3, 8), (21, 9)),
    ],
)  # fmt: skip
def test_bilinear(shape, size):
    x = draw(*shape)
    wanted, its = resize.resize_bilinear.reference(x, size)
    y, cache = device.resize_bilinear(to_device(x), size)
    check(y, wanted, 3e-7)
    assert cache == its
    dy = draw(*wanted.shape)
    found = device.resize_bilinear_backward(to_device(dy), cache)
    check(found, resize.resize_bilinear_backward.reference(dy, its), 1e-6)


@pytest.mark.parametrize(("n", "m"), [(3, 7), (7, 3), (10, 10), (1, 5), (5, 1), (427, 800), (640, 1199), (800, 33)])
def test_taps_of_an_axis(n, m):
    """The same cells and weights as the reference's, to the last bit."""
    low, high, fraction = resize.neighbours(n, m, np.dtype(np.float32))
    taps = [device.scalar.resize_taps(i, device._scale(n, m), n) for i in range(m)]
    assert [t[0] for t in taps] == low.tolist()
    assert [t[1] for t in taps] == high.tolist()
    np.testing.assert_array_equal(np.float32([t[2] for t in taps]), fraction.astype(np.float32))


@pytest.mark.parametrize(("n", "m"), [(2, 1), (3, 1), (9, 2), (40, 7), (7, 40), (3, 100), (1, 4), (4, 4)])
def test_no_output_is_forgotten_in_the_gradient(n, m):
    """All weights of an output sum to 1, so the gradients of ones sum to the number of outputs."""
    dx = device.resize_bilinear_backward(to_device(np.ones((m, 1, 1), np.float32)), resize.ResizeCache((n, 1), (m, 1)))
    assert float(dx.sum()) == pytest.approx(m, rel=1e-6)


@pytest.mark.parametrize(("shape", "size"), [((2, 5, 7), (3, 9)), ((1, 1, 1), (2, 2)), ((3, 4, 4), (4, 4))])
def test_nearest(shape, size):
    masks = draw(*shape) > 0
    found = device.resize_nearest(to_device(masks), size)
    np.testing.assert_array_equal(found.get(), resize.resize_nearest.reference(masks, size))
    assert found.dtype == np.bool_


def test_no_maps_and_no_masks():
    """As after a picture in which nothing was found."""
    x, masks = to_device(draw(2, 3, 3, 4)), to_device(draw(2, 3, 3) > 0)
    y, cache = device.resize_bilinear(x[:0], (5, 2))
    assert y.shape == (0, 5, 2, 4) and y.dtype == np.float32
    assert device.resize_bilinear_backward(y, cache).shape == (0, 3, 3, 4)
    picked = device.resize_nearest(masks[:0], (5, 2))
    assert picked.shape == (0, 5, 2) and picked.dtype == np.bool_


def test_what_is_left_to_numpy():
    x = to_device(draw(2, 3, 3, 4))
    for declined in (
        device.upsample_nearest(x.astype(np.float64)),
        device.upsample_nearest(x, scale=0),
        device.upsample_nearest(x[0]),
        device.resize_bilinear(x.astype(np.float64), (2, 2)),
        device.resize_bilinear(x, (0, 2)),
        device.resize_nearest(x[0], (2, 2)),
    ):
        assert declined is NotImplemented
