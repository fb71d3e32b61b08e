"""Max pooling: hand-made numbers, ties, loops, gradients."""

import naive
import numpy as np
import pytest
from gradcheck import check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np.ops.pool import max_pool2d, max_pool2d_backward


def distinct(shape, rng):
    """Return numbers at least 1 apart, so that a small step changes no winner."""
    return rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float64)


def test_by_hand():
    x = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 8, 7, 6], [5, 4, 3, 2]]).reshape(1, 4, 4, 1)
    y, cache = max_pool2d(x, kernel_size=2)
    np.testing.assert_array_equal(y[0, :, :, 0], [[6, 8], [9, 7]])
    dx = max_pool2d_backward(np.array([[1.0, 2], [3, 4]]).reshape(1, 2, 2, 1), cache)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 0, 0, 0], [0, 1, 0, 2], [3, 0, 4, 0], [0, 0, 0, 0]])


def test_overlapping_windows_add_up():
    x = np.array([0.0, 9, 0]).reshape(1, 1, 3, 1)
    y, cache = max_pool2d(x, kernel_size=(1, 2), stride=1)
    np.testing.assert_array_equal(y.ravel(), [9, 9])
    np.testing.assert_array_equal(max_pool2d_backward(np.array([2.0, 3]).reshape(y.shape), cache).ravel(), [0, 5, 0])


def test_ties_go_to_the_first_in_row_major_order():
    y, cache = max_pool2d(np.ones((1, 4, 4, 1)), kernel_size=3, stride=2, padding=1)
    dx = max_pool2d_backward(np.ones_like(y), cache)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_padding_never_wins():
    y, cache = max_pool2d(np.full((1, 3, 3, 1), -5.0), kernel_size=3, stride=2, padding=1)
    assert (y == -5).all()
    assert max_pool2d_backward(np.ones_like(y), cache).sum() == y.size  # no gradient is lost in the padding


def test_stem_and_subsampling():
    x = distinct((2, 8, 6, 3), np.random.default_rng(0))
    assert max_pool2d(x, kernel_size=3, stride=2, padding=1)[0].shape == (2, 4, 3, 3)
    assert max_pool2d(x, kernel_size=3, stride=2, padding=((0, 1), (0, 1)))[0].shape == (2, 4, 3, 3)  # SAME
    y, cache = max_pool2d(x, kernel_size=1, stride=2)  # P6
    np.testing.assert_array_equal(y, x[:, ::2, ::2])
    dx = max_pool2d_backward(np.ones_like(y), cache)
    assert (dx[:, ::2, ::2] == 1).all() and dx.sum() == y.size


@settings(max_examples=40, deadline=None)
@given(data=st.data(), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), seed=st.integers(0, 2**32 - 1))
def test_matches_loops(data, kernel, seed):
    stride = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(data.draw(st.tuples(*[st.integers(0, k - 1)] * 2)) for k in kernel)
    size = data.draw(st.tuples(*[st.integers(k, 6) for k in kernel]))
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, size=(2, *size, 2)).astype(np.float64)  # few values: many ties
    y, cache = max_pool2d(x, kernel_size=kernel, stride=stride, padding=padding)
    dy = rng.integers(1, 9, size=y.shape).astype(np.float64)
    expected_y, expected_dx = naive.max_pool2d(x, dy, kernel=kernel, stride=stride, padding=padding)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(max_pool2d_backward(dy, cache), expected_dx)


@pytest.mark.parametrize(
    "settings", [{"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": (2, 3), "stride": 1}]
)
def test_gradients(settings):
    rng = np.random.default_rng(1)

    def f(x):
        y, cache = max_pool2d(x, **settings)
        return y, lambda dy: max_pool2d_backward(dy, cache)

    check_gradients(f, distinct((2, 5, 6, 3), rng), rng=rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 4, 4, 2), (0, 4, 4, 2), (3, 1, 1, 2)])
def test_dtype_empty_and_one_pixel(shape, dtype):
    y, cache = max_pool2d(np.ones(shape, dtype), kernel_size=3, stride=2, padding=1)
    dx = max_pool2d_backward(y, cache)
    assert y.dtype == dx.dtype == dtype and dx.shape == shape


def test_a_kernel_of_more_than_256_cells():
    # The winner's index no longer fits a byte.
    x = distinct((1, 20, 20, 1), np.random.default_rng(2))
    y, cache = max_pool2d(x, kernel_size=20)
    assert y.item() == 399
    np.testing.assert_array_equal(max_pool2d_backward(np.ones_like(y), cache), x == 399)


def test_nan_comes_out():
    x = np.array([1.0, np.nan, 3.0, 2.0, 1.0, 0.0]).reshape(1, 1, 6, 1)
    y, _ = max_pool2d(x, kernel_size=(1, 3))
    np.testing.assert_array_equal(y.ravel(), [np.nan, 2])


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((4, 4, 1), {"kernel_size": 2}, r"x has shape \(4, 4, 1\)"),
        ((1, 4, 4, 1), {"kernel_size": 5}, "kernel of 5x5 is larger than the padded map"),
        ((1, 4, 4, 1), {"kernel_size": 2, "padding": 2}, "must be smaller than the kernel of 2x2"),
        ((1, 4, 4, 1), {"kernel_size": 0}, "kernel_size is 0"),
        ((1, 4, 4, 1), {"kernel_size": 2, "stride": (1, 0)}, r"stride is \(1, 0\)"),
    ],
)
def test_bad_arguments(shape, settings, message):
    with pytest.raises(ValueError, match=message):
        max_pool2d(np.ones(shape), **settings)
