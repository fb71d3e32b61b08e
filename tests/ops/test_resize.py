"""Nearest and bilinear resizing: hand-made numbers, loops, adjoints, bad arguments."""

import naive
import numpy as np
import pytest
from gradcheck import adjoint_error, check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np.ops.resize import (
    resize_bilinear,
    resize_bilinear_backward,
    resize_nearest,
    upsample_nearest,
    upsample_nearest_backward,
)

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def test_upsample_by_hand():
    x = np.array([[1.0, 2.0]]).reshape(1, 1, 2, 1)
    y, cache = upsample_nearest(x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[1, 1, 2, 2], [1, 1, 2, 2]])
    dx = upsample_nearest_backward(np.arange(8.0).reshape(1, 2, 4, 1), cache)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0 + 1 + 4 + 5, 2 + 3 + 6 + 7]])


def test_bilinear_by_hand():
    def row(values, width):
        return resize_bilinear(np.array(values).reshape(1, -1, 1), (1, width))[0].ravel()

    # Twice as wide: centres at 0.25, 0.75, ... input pixels, the outer ones beyond the outer centres.
    np.testing.assert_array_equal(row([0.0, 4.0, 8.0], 6), [0, 1, 3, 5, 7, 8])
    # Half as wide: each output lies between two inputs. A third: the middle one of three; no average is taken.
    np.testing.assert_array_equal(row([0.0, 2.0, 4.0, 10.0], 2), [1, 7])
    np.testing.assert_array_equal(row([0.0, 2.0, 40.0, 0.0, 5.0, 0.0], 2), [2, 5])


def test_nearest_by_hand():
    x = np.arange(5)[None, None]
    np.testing.assert_array_equal(resize_nearest(x, (1, 10))[0, 0], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    np.testing.assert_array_equal(resize_nearest(x, (1, 3))[0, 0], [0, 1, 3])
    np.testing.assert_array_equal(resize_nearest(x, (2, 2))[0], [[0, 2], [0, 2]])


@settings(max_examples=30, deadline=None)
@given(old=sizes, new=sizes, seed=st.integers(0, 2**32 - 1))
def test_matches_loops(old, new, seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(*old, 2))
    y, cache = resize_bilinear(image, new)
    # The coordinate is off by an ulp of 9 at most: 1e-14.
    np.testing.assert_allclose(y, naive.resize_bilinear(image, new), rtol=0, atol=1e-13)
    error = adjoint_error(
        lambda x: resize_bilinear(x, new)[0], lambda dy: resize_bilinear_backward(dy, cache), (*old, 2), (*new, 2), rng
    )
    assert error < 1e-14
    masks = rng.integers(0, 2, size=(3, *old)).astype(bool)
    np.testing.assert_array_equal(resize_nearest(masks, new), naive.resize_nearest(masks, new))


@settings(max_examples=20, deadline=None)
@given(size=sizes, n=st.integers(0, 2), scale=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_upsampling_matches_loops_and_its_adjoint(size, n, scale, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, *size, 2))
    y, cache = upsample_nearest(x, scale=scale)
    np.testing.assert_array_equal(y, naive.upsample_nearest(x, scale))
    error = adjoint_error(
        lambda u: upsample_nearest(u, scale=scale)[0],
        lambda dy: upsample_nearest_backward(dy, cache),
        x.shape,
        y.shape,
        rng,
    )
    assert error < 1e-14


@settings(max_examples=20, deadline=None)
@given(old=sizes, new=sizes)
def test_bilinear_properties(old, new):
    # A constant stays, the same size changes nothing, and no value leaves the range of the image.
    image = np.random.default_rng(0).uniform(size=(*old, 1))
    np.testing.assert_allclose(resize_bilinear(np.full((*old, 1), 0.3), new)[0], 0.3, rtol=1e-15)
    np.testing.assert_array_equal(resize_bilinear(image, old)[0], image)
    y, _ = resize_bilinear(image, new)
    assert y.min() >= image.min() - 1e-15 and y.max() <= image.max() + 1e-15
    # Mirroring commutes with resizing: no side is favoured (it would be with nearest).
    np.testing.assert_allclose(resize_bilinear(image[:, ::-1], new)[0][:, ::-1], y, rtol=0, atol=1e-14)


def test_a_ramp_stays_a_ramp():
    # Pixel centres at i + 0.5: a ramp of these keeps its values in input pixels wherever no edge is involved.
    ramp = (np.arange(8) + 0.5).reshape(1, 8, 1)
    y = resize_bilinear(ramp, (1, 16))[0].ravel()
    np.testing.assert_allclose(y[1:-1], ((np.arange(16) + 0.5) / 2)[1:-1], rtol=1e-15)


def test_gradients():
    rng = np.random.default_rng(1)

    def bilinear(x):
        y, cache = resize_bilinear(x, (5, 7))
        return y, lambda dy: resize_bilinear_backward(dy, cache)

    def nearest(x):
        y, cache = upsample_nearest(x)
        return y, lambda dy: upsample_nearest_backward(dy, cache)

    for x in (rng.normal(size=(3, 9, 2)), rng.normal(size=(2, 6, 4, 3)), rng.normal(size=(1, 1, 1))):
        check_gradients(bilinear, x, rng=rng)
    check_gradients(nearest, rng.normal(size=(2, 3, 2, 3)), rng=rng)


def test_a_batch_is_resized_image_by_image():
    x = np.random.default_rng(2).normal(size=(3, 4, 5, 2))
    y, _ = resize_bilinear(x, (6, 3))
    np.testing.assert_array_equal(y, np.stack([resize_bilinear(image, (6, 3))[0] for image in x]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_empty(dtype):
    for shape in ((0, 4, 5, 2), (1, 1, 1, 1)):
        x = np.ones(shape, dtype)
        y, cache = resize_bilinear(x, (3, 9))
        dx = resize_bilinear_backward(y, cache)
        assert y.dtype == dx.dtype == dtype and y.shape == (shape[0], 3, 9, shape[3]) and dx.shape == shape
        y, cache = upsample_nearest(x)
        assert y.dtype == upsample_nearest_backward(y, cache).dtype == dtype
    assert resize_nearest(np.ones((0, 4, 5), bool), (2, 3)).shape == (0, 2, 3)
    assert resize_nearest(np.ones((1, 4, 5), np.uint8), (2, 3)).dtype == np.uint8


def test_results_are_never_the_input():
    image = np.ones((3, 3, 1))
    assert not np.shares_memory(resize_bilinear(image, (3, 3))[0], image)
    masks = np.ones((1, 3, 3), bool)
    assert not np.shares_memory(resize_nearest(masks, (3, 3)), masks)
    maps = np.ones((1, 3, 3, 1))
    y, cache = upsample_nearest(maps, scale=1)
    assert not np.shares_memory(y, maps) and not np.shares_memory(upsample_nearest_backward(y, cache), y)


def test_nan_touches_its_neighbours_only():
    image = np.zeros((1, 8, 1))
    image[0, 3] = np.nan
    y = resize_bilinear(image, (1, 16))[0].ravel()
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(y)), [5, 6, 7, 8])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: upsample_nearest(np.ones((2, 2, 1))), r"upsample_nearest: x has shape \(2, 2, 1\)"),
        (lambda: upsample_nearest(np.ones((1, 2, 2, 1)), scale=0), "scale is 0"),
        (lambda: resize_bilinear(np.ones((4, 4)), (2, 2)), r"image has shape \(4, 4\)"),
        (lambda: resize_bilinear(np.ones((4, 4, 3), np.uint8), (2, 2)), "image is uint8, expected floating point"),
        (lambda: resize_bilinear(np.ones((4, 4, 3)), (0, 2)), r"cannot resize \(4, 4\) to \(0, 2\)"),
        (lambda: resize_bilinear(np.ones((0, 4, 3)), (2, 2)), r"cannot resize \(0, 4\)"),
        (lambda: resize_nearest(np.ones((4, 4)), (2, 2)), r"masks have shape \(4, 4\)"),
        (lambda: resize_nearest(np.ones((1, 0, 4)), (2, 2)), r"cannot resize \(0, 4\)"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
