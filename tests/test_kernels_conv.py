"""The compiled convolutions against their NumPy bodies, on random shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import check_pair, distance, draw, error, to_float64

from kernels.cpu import conv as fast
from mrcnn_np.ops.conv import conv2d, conv2d_backward, conv2d_transpose, conv2d_transpose_backward

# Slack: a result is one running sum over taps and channels, up to 3,430 terms, where BLAS adds blocks; measured: 3e-6
CONV = (fast.conv2d, fast.conv2d_backward)
TRANSPOSE = (fast.conv2d_transpose, fast.conv2d_transpose_backward)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_convolution(seed):
    rng = np.random.default_rng(seed)
    kernel, stride, pads = rng.integers(1, 8, 2), int(rng.integers(1, 4)), rng.integers(0, 4, (2, 2))
    size = np.maximum(rng.integers(1, 20, 2), kernel - pads.sum(axis=1))
    c_in, c_out = rng.integers(1, 71, 2)
    x, w = draw(rng, int(rng.integers(1, 4)), *size, c_in), draw(rng, *kernel, c_in, c_out)
    args = (x, w) if rng.random() < 0.5 else (x, w, draw(rng, c_out))
    options = {"stride": stride, "padding": tuple(map(tuple, pads.tolist()))}
    check_pair(conv2d, conv2d_backward, CONV, args, options, rng, slack=1e-5)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_transposed_convolution(seed):
    rng = np.random.default_rng(seed)
    kernel, stride, size = rng.integers(1, 5, 2), int(rng.integers(1, 4)), rng.integers(1, 9, 2)
    c_in, c_out = rng.integers(1, 71, 2)
    x, w = draw(rng, int(rng.integers(1, 4)), *size, c_in), draw(rng, *kernel, c_in, c_out)
    args = (x, w) if rng.random() < 0.5 else (x, w, draw(rng, c_out))
    check_pair(conv2d_transpose, conv2d_transpose_backward, TRANSPOSE, args, {"stride": stride}, rng, slack=1e-5)


@pytest.mark.parametrize("shape", [(1, 16, 16, 32, 32), (2, 17, 23, 48, 32), (1, 30, 41, 64, 96), (3, 14, 14, 32, 64)])
def test_winograd_is_off_by_at_most_ten_times_as_much(shape):  # measured: 8
    *maps, c_in, c_out = shape
    rng = np.random.default_rng(0)
    args = draw(rng, *maps, c_in), draw(rng, 3, 3, c_in, c_out) / np.float32(3 * c_in**0.5)
    assert fast._suits_winograd(args[0].shape, args[1], (1, 1), ((1, 1), (1, 1)), 1)
    check_pair(
        conv2d, conv2d_backward, CONV, args, {"padding": 1}, rng, factor=10, slack=0, error=distance
    )  # measured: 8


def test_what_convolutions_leave_to_numpy():
    rng = np.random.default_rng(1)
    x, w = draw(rng, 1, 8, 8, 4), draw(rng, 3, 3, 4, 5)
    assert fast.conv2d(to_float64(x), w) is NotImplemented
    assert fast.conv2d(x, w, stride=(1, 2)) is NotImplemented
    for change in ({"padding": -1}, {"stride": 0}):
        with pytest.raises(ValueError):
            conv2d(x, w, **change)
    exact = conv2d.reference(to_float64(x), to_float64(w), stride=(1, 2))[0]
    assert error(conv2d(x, w, stride=(1, 2))[0], exact) <= 1e-6
