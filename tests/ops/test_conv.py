"""Convolution and transposed convolution: hand-made numbers, loops, adjoints, gradients, bad arguments."""

import tracemalloc

import naive
import numpy as np
import pytest
from gradcheck import adjoint_error, check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np.ops import conv
from mrcnn_np.ops.conv import conv2d, conv2d_backward, conv2d_transpose, conv2d_transpose_backward

# (x shape, w shape, stride, padding, groups)
CASES = {
    "3x3 same": ((2, 5, 6, 3), (3, 3, 3, 4), 1, 1, 1),
    "1x1": ((2, 4, 3, 5), (1, 1, 5, 2), 1, 0, 1),
    "1x1 stride 2": ((1, 5, 4, 3), (1, 1, 3, 2), 2, 0, 1),
    "7x7 stem": ((1, 12, 10, 3), (7, 7, 3, 2), 2, 3, 1),
    "SAME of an even size": ((1, 6, 8, 2), (3, 3, 2, 3), 2, ((0, 1), (0, 1)), 1),
    "four different sides": ((2, 4, 5, 2), (3, 2, 2, 3), (2, 1), ((1, 2), (0, 3)), 1),
    "stride leaves rows over": ((1, 6, 9, 2), (2, 3, 2, 2), (3, 4), 0, 1),
    "stride above kernel": ((1, 7, 7, 2), (1, 2, 2, 2), 3, 0, 1),
    "groups": ((2, 4, 4, 6), (3, 3, 2, 9), 1, 1, 3),
    "depthwise, strided": ((1, 5, 5, 4), (3, 3, 1, 4), 2, 1, 4),
    "one pixel": ((2, 1, 1, 3), (3, 3, 3, 2), 1, 1, 1),
    "kernel covers the map": ((2, 7, 7, 2), (7, 7, 2, 3), 1, 0, 1),
}


def pair(value):
    return (value, value) if isinstance(value, int) else value


def sides(value):
    return ((value, value), (value, value)) if isinstance(value, int) else value


def with_backward(op, backward, **settings):
    def f(*args):
        y, cache = op(*args, **settings)
        return y, lambda dy: backward(dy, cache)

    return f


def test_by_hand():
    # The kernel is not flipped: a single 1 in its first cell picks the upper left cell of each window.
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    w = np.zeros((2, 2, 1, 1))
    w[0, 0] = 1
    np.testing.assert_array_equal(conv2d(x, w)[0][0, :, :, 0], [[0, 1], [3, 4]])
    # All ones, padded by one, stride 2: sums of what the window sees, plus the bias.
    y, _ = conv2d(x, np.ones((3, 3, 1, 1)), np.array([100.0]), stride=2, padding=1)
    np.testing.assert_array_equal(y[0, :, :, 0], [[108, 112], [120, 124]])


def test_transposed_by_hand():
    # 2x2, stride 2: stamps side by side. 3x3, stride 2: stamps overlap in the middle column.
    x = np.array([1.0, 10.0]).reshape(1, 1, 2, 1)
    w = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    np.testing.assert_array_equal(conv2d_transpose(x, w)[0][0, :, :, 0], [[1, 2, 10, 20], [3, 4, 30, 40]])
    row = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    np.testing.assert_array_equal(conv2d_transpose(x, row)[0][0, 0, :, 0], [1, 2, 13, 20, 30])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("block_bytes", [conv.BLOCK_BYTES, 1, 1500])  # one block; one row each; something between
def test_matches_loops(case, block_bytes, monkeypatch):
    monkeypatch.setattr(conv, "BLOCK_BYTES", block_bytes)
    x_shape, w_shape, stride, padding, groups = case
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=x_shape), rng.normal(size=w_shape), rng.normal(size=w_shape[3])
    y, _ = conv2d(x, w, b, stride=stride, padding=padding, groups=groups)
    expected = naive.conv2d(x, w, b, stride=pair(stride), padding=sides(padding), groups=groups)
    # Sums of at most 147 products of numbers of size 1: round-off 1e-14.
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("block_bytes", [conv.BLOCK_BYTES, 1, 1500])
def test_gradients(case, block_bytes, monkeypatch):
    monkeypatch.setattr(conv, "BLOCK_BYTES", block_bytes)
    x_shape, w_shape, stride, padding, groups = case
    rng = np.random.default_rng(1)
    f = with_backward(conv2d, conv2d_backward, stride=stride, padding=padding, groups=groups)
    check_gradients(f, rng.normal(size=x_shape), rng.normal(size=w_shape), rng.normal(size=w_shape[3]), rng=rng)


@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (1, 1), (3, 2)])
@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
def test_transposed_matches_loops_and_gradients(kernel, stride):
    rng = np.random.default_rng(2)
    x, w, b = rng.normal(size=(2, 3, 4, 3)), rng.normal(size=(*kernel, 3, 2)), rng.normal(size=2)
    y, _ = conv2d_transpose(x, w, b, stride=stride)
    np.testing.assert_allclose(y, naive.conv2d_transpose(x, w, b, stride=pair(stride)), rtol=0, atol=1e-13)
    check_gradients(with_backward(conv2d_transpose, conv2d_transpose_backward, stride=stride), x, w, b, rng=rng)
    activated, cache = conv2d_transpose(x, w, b, stride=stride, activate=True)
    np.testing.assert_array_equal(activated, np.maximum(y, 0))
    assert 0 < np.count_nonzero(activated) < y.size
    dy = rng.normal(size=y.shape)
    masked = conv2d_transpose_backward(dy * (y > 0), conv2d_transpose(x, w, b, stride=stride)[1])
    for ours, expected in zip(conv2d_transpose_backward(dy, cache), masked):
        np.testing.assert_array_equal(ours, expected)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(0, 2),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 2**32 - 1),
)
def test_transposed_is_the_adjoint(n, size, kernel, stride, seed):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(*kernel, 3, 2))  # conv2d_transpose: 3 -> 2 channels; conv2d: 2 -> 3
    large = tuple((s - 1) * t + k for s, t, k in zip(size, stride, kernel))
    error = adjoint_error(
        lambda u: conv2d(u, w.swapaxes(2, 3), stride=stride)[0],
        lambda y: conv2d_transpose(y, w, stride=stride)[0],
        (n, *large, 2),
        (n, *size, 3),
        rng,
    )
    assert error < 1e-14


@settings(max_examples=15, deadline=None)
@given(
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    stride=st.integers(1, 3),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**32 - 1),
)
def test_backward_is_the_adjoint_of_forward(padding, stride, groups, seed):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(3, 3, 4 // groups, 6))
    y, cache = conv2d(np.zeros((2, 5, 4, 4)), w, stride=stride, padding=padding, groups=groups)
    error = adjoint_error(
        lambda x: conv2d(x, w, stride=stride, padding=padding, groups=groups)[0],
        lambda dy: conv2d_backward(dy, cache)[0],
        (2, 5, 4, 4),
        y.shape,
        rng,
    )
    assert error < 1e-14


def test_groups_are_separate_convolutions():
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(1, 5, 5, 64)), rng.normal(size=(3, 3, 2, 96))
    y, _ = conv2d(x, w, padding=1, groups=32)
    for g in (0, 7, 31):
        one, _ = conv2d(x[..., 2 * g : 2 * g + 2], w[..., 3 * g : 3 * g + 3], padding=1)
        np.testing.assert_array_equal(y[..., 3 * g : 3 * g + 3], one)


def test_stamping_does_not_invert():
    # A transposed convolution with the same kernel brings the size back, not the values.
    rng = np.random.default_rng(4)
    x, w = rng.normal(size=(1, 4, 4, 1)), rng.normal(size=(2, 2, 1, 1))
    back, _ = conv2d_transpose(conv2d(x, w, stride=2)[0], w)
    assert back.shape == x.shape
    assert not np.allclose(back, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    x, w, b = np.ones((1, 4, 4, 4), dtype), np.ones((3, 3, 2, 4), dtype), np.ones(4, dtype)
    y, cache = conv2d(x, w, b, padding=1, groups=2)
    assert [a.dtype for a in (y, *conv2d_backward(y, cache))] == [dtype] * 4
    y, cache = conv2d_transpose(x, np.ones((2, 2, 4, 3), dtype), np.ones(3, dtype))
    assert [a.dtype for a in (y, *conv2d_transpose_backward(y, cache))] == [dtype] * 4


def test_float32_agrees_with_float64():
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(2, 9, 9, 16)), rng.normal(size=(3, 3, 16, 8))
    y, _ = conv2d(x.astype(np.float32), w.astype(np.float32), padding=1)
    # 144 products of size 1 per sum; measured error 1.6e-5 (the order of summation
    # is the BLAS library's).
    np.testing.assert_allclose(y, conv2d(x, w, padding=1)[0], rtol=0, atol=5e-5)


def test_no_bias_and_empty_batch():
    x = np.ones((0, 4, 4, 2))
    y, cache = conv2d(x, np.ones((3, 3, 2, 5)), padding=1)
    dx, dw, db = conv2d_backward(y, cache)
    assert y.shape == (0, 4, 4, 5) and dx.shape == x.shape and db is None
    np.testing.assert_array_equal(dw, np.zeros((3, 3, 2, 5)))
    y, cache = conv2d_transpose(x, np.ones((2, 2, 2, 5)), np.ones(5))
    dx, dw, db = conv2d_transpose_backward(y, cache)
    assert y.shape == (0, 8, 8, 5) and dx.shape == x.shape
    assert not dw.any() and dw.shape == (2, 2, 2, 5)
    assert not db.any() and db.shape == (5,)


def test_batch_of_two_is_two_batches_of_one():
    rng = np.random.default_rng(6)
    x, w = rng.normal(size=(2, 6, 7, 4)), rng.normal(size=(3, 3, 4, 5))
    both, _ = conv2d(x, w, padding=1)
    each = np.concatenate([conv2d(x[i : i + 1], w, padding=1)[0] for i in range(2)])
    np.testing.assert_allclose(both, each, rtol=0, atol=1e-13)


def test_views_are_fine():
    # Neither x, w nor dy needs to be one run of memory.
    rng = np.random.default_rng(7)
    x, w = rng.normal(size=(2, 9, 9, 6))[:, ::2, 1:8, ::2], rng.normal(size=(3, 3, 4, 3)).swapaxes(2, 3)
    y, cache = conv2d(x, w, padding=1)
    np.testing.assert_allclose(y, naive.conv2d(x, w, padding=((1, 1), (1, 1))), rtol=0, atol=1e-13)
    dy = rng.normal(size=y.shape[::-1]).T
    for one, other in zip(conv2d_backward(dy, cache)[:2], conv2d_backward(np.ascontiguousarray(dy), cache)[:2]):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)


def test_columns_are_never_held_all_at_once():
    x, w = np.ones((2, 96, 96, 32), np.float32), np.ones((3, 3, 32, 32), np.float32)  # 2.25 MB; its columns: 20 MB
    tracemalloc.start()
    y, cache = conv2d.reference(x, w, padding=1)
    _, forward = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    conv2d_backward.reference(y, cache)
    _, backward = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Measured: 8.5 MB (the padded input, y, one block of columns) and 10.9 MB (also the padded dx).
    assert forward < 2.5 * x.nbytes + conv.BLOCK_BYTES
    assert backward < 4.5 * x.nbytes + conv.BLOCK_BYTES


def test_nan_propagates_to_the_windows_that_see_it():
    x = np.zeros((1, 5, 5, 1))
    x[0, 1, 1] = np.nan
    y, _ = conv2d(x, np.ones((3, 3, 1, 1)), padding=1)
    seen = np.zeros((5, 5), bool)
    seen[:3, :3] = True
    np.testing.assert_array_equal(np.isnan(y[0, :, :, 0]), seen)


ONE = np.zeros((1, 4, 4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv2d(ONE, np.zeros((3, 3, 4, 2))), "conv2d: x has 3 channels, w expects 4 (groups=1)"),
        (lambda: conv2d(ONE, np.zeros((3, 3, 3, 3)), groups=3), "conv2d: x has 3 channels, w expects 9 (groups=3)"),
        (lambda: conv2d(ONE, np.zeros((3, 3, 1, 2)), groups=2), "2 groups do not divide 3 input and 2 output channels"),
        (lambda: conv2d(ONE, np.zeros((3, 3, 1, 2)), groups=0), "0 groups"),
        (lambda: conv2d(ONE, np.zeros((7, 3, 3, 2)), padding=1), "kernel of 7x3 is larger than the padded map of 6x6"),
        (lambda: conv2d(ONE[0], np.zeros((3, 3, 3, 2))), "x has shape (4, 4, 3), expected (N, H, W, C_in)"),
        (lambda: conv2d(ONE, np.zeros((3, 2))), "w has shape (3, 2)"),
        (lambda: conv2d(ONE, np.zeros((3, 3, 3, 2)), np.zeros(3)), "b has shape (3,), expected (2,)"),
        (lambda: conv2d(ONE, np.zeros((3, 3, 3, 2)), stride=0), "stride is 0"),
        (lambda: conv2d(ONE, np.zeros((3, 3, 3, 2)), padding=-1), "padding is -1"),
        (lambda: conv2d(ONE, np.zeros((3, 3, 3, 2)), padding=(1, 1)), "padding is (1, 1)"),
        (lambda: conv2d_transpose(ONE, np.zeros((2, 2, 4, 2))), "conv2d_transpose: x has 3 channels, w expects 4"),
        (lambda: conv2d_transpose(ONE[:, :0], np.zeros((2, 2, 3, 2))), "maps of 0x4 cells"),
        (lambda: conv2d_transpose(ONE, np.zeros((2, 2, 3, 2)), np.zeros(1)), "b has shape (1,), expected (2,)"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
