"""Convolutions on the device, in the simulator, against NumPy's: strides, paddings, groups, one pixel, no image."""

import numpy as np
import pytest

from kernels.cuda import conv, fused
from kernels.cuda.convolution import winograd
from kernels.cuda.machine.device import SIMULATED, to_device, to_host
from kernels.cuda.machine.simulator import shuffled
from mrcnn_np.ops import conv as reference
from mrcnn_np.ops import fused as fused_reference

# maps, weights, stride, padding, groups
CASES = {
    "3x3": ((1, 5, 6, 8), (3, 3, 8, 9), 1, 1, 1),
    "winograd": ((2, 5, 7, 8), (3, 3, 8, 16), 1, 1, 1),
    "1x1": ((2, 3, 4, 5), (1, 1, 5, 3), 1, 0, 1),
    "stride": ((1, 6, 5, 4), (3, 3, 4, 5), 2, 1, 1),
    "1x1 stride": ((1, 5, 4, 9), (1, 1, 9, 4), 2, 0, 1),
    "two strides": ((1, 7, 6, 9), (2, 3, 9, 2), (3, 1), ((0, 2), (1, 0)), 1),
    "image": ((1, 9, 8, 3), (7, 7, 3, 4), 2, 3, 1),
    "grey": ((2, 4, 3, 1), (2, 2, 1, 1), 1, ((1, 0), (0, 2)), 1),
    "padding only": ((1, 1, 1, 2), (2, 2, 2, 3), 9, 5, 1),
    "one pixel": ((1, 1, 1, 8), (3, 3, 8, 4), 1, 1, 1),
    "no image": ((0, 3, 3, 8), (3, 3, 8, 4), 1, 1, 1),
    "groups": ((1, 3, 2, 16), (3, 3, 4, 16), 1, 1, 4),
    "odd groups": ((1, 3, 4, 6), (3, 2, 2, 9), 2, 1, 3),
}


def draw(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def close(got, want):
    assert got.shape == want.shape
    scale = 1 + float(np.abs(want).max(initial=0))
    np.testing.assert_allclose(to_host(got), want, rtol=0, atol=1e-5 * scale)


def on_device(cache):
    return type(cache)(*(to_device(part) if isinstance(part, np.ndarray) else part for part in cache))


@pytest.mark.parametrize("case", CASES)
def test_convolution(case):
    maps, weights, stride, padding, groups = CASES[case]
    x, w, b = draw(maps, weights, weights[3:])
    options = {"stride": stride, "padding": padding, "groups": groups}
    want, cache = reference.conv2d.reference(x, w, b, **options)
    got, got_cache = conv.conv2d(*map(to_device, (x, w, b)), **options)
    close(got, want)
    assert got_cache[2:] == cache[2:]
    (dy,) = draw(want.shape, seed=1)
    for got, want in zip(
        conv.conv2d_backward(to_device(dy), on_device(cache)), reference.conv2d_backward.reference(dy, cache)
    ):
        close(got, want)


@pytest.mark.parametrize("case", [
    ((1, 2, 3, 8), (2, 2, 8, 5), 2), ((2, 2, 1, 3), (3, 2, 3, 4), (1, 3)), ((0, 2, 2, 4), (2, 2, 4, 4), 2),
    ((1, 1, 2, 4), (1, 2, 4, 3), 3),
])  # fmt: skip
@pytest.mark.parametrize("activate", [False, True])
def test_transposed_convolution(case, activate):
    maps, weights, stride = case
    x, w, b = draw(maps, weights, weights[3:])
    want, cache = reference.conv2d_transpose.reference(x, w, b, stride=stride, activate=activate)
    got, got_cache = conv.conv2d_transpose(*map(to_device, (x, w, b)), stride=stride, activate=activate)
    close(got, want)
    assert (got_cache.y is None) == (cache.y is None) and got_cache.stride == cache.stride
    (dy,) = draw(want.shape, seed=1)
    expected = reference.conv2d_transpose_backward.reference(dy, cache)
    for got, want in zip(conv.conv2d_transpose_backward(to_device(dy), on_device(cache)), expected):
        close(got, want)


@pytest.mark.parametrize("case, parts", [
    ("1x1", "norm"), ("winograd", "norm residual relu"),
    ("stride", "norm bias"), ("groups", "norm residual relu"), ("odd groups", "bias residual relu"),
    ("image", "norm relu"), ("no image", "norm bias residual relu"), ("1x1 stride", "relu"),
])  # fmt: skip
def test_fused_convolution(case, parts):
    maps, weights, stride, padding, groups = CASES[case]
    x, w, b, gamma, beta, mean, var = draw(maps, weights, *[weights[3:]] * 5)
    norm = (gamma, beta, mean, np.abs(var) + np.float32(0.5))
    size = conv.measure(maps, weights, stride, padding, groups).out
    residual, dy, plus = draw(size, size, maps, seed=1)
    arrays = {"b": b if "bias" in parts else None, "residual": residual if "residual" in parts else None}
    options = {"activate": "relu" in parts, "stride": stride, "padding": padding, "groups": groups}
    has_norm = "norm" in parts
    want, cache = fused_reference.conv2d_fused.reference(
        x, w, **arrays, norm=(*norm, 1e-5) if has_norm else None, **options
    )
    moved = {name: None if array is None else to_device(array) for name, array in arrays.items()}
    moved_norm = (*map(to_device, norm), 1e-5) if has_norm else None
    got, got_cache = fused.conv2d_fused(to_device(x), to_device(w), **moved, norm=moved_norm, **options)
    close(got, want)
    plus = plus if "residual" in parts else None
    expected = fused_reference.conv2d_fused_backward.reference(dy, cache, plus=plus)
    gradients = fused.conv2d_fused_backward(
        to_device(dy), got_cache, plus=None if plus is None else to_device(plus), need_dx=True
    )
    for got, want in zip(gradients, expected, strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            close(got, want)


def test_parts_of_a_larger_array_are_copied_to_aligned_memory():
    x, w = draw((2, 3, 3, 8), (1, 1, 8, 4))
    memory = np.zeros(x.size + 1, np.float32)
    memory[1:] = x.reshape(-1)
    shifted = to_device(memory)[1:].reshape(x.shape)
    close(conv.conv2d(shifted, to_device(w))[0], reference.conv2d.reference(x, w)[0])


def test_tiles_in_pieces_give_the_same(monkeypatch):
    maps, weights, *_ = CASES["winograd"]
    monkeypatch.setattr(winograd, "WORKSPACE", 36 * 24 * 3)
    x, w = draw(maps, weights)
    want, cache = reference.conv2d.reference(x, w, padding=1)
    got, got_cache = conv.conv2d(to_device(x), to_device(w), padding=1)
    close(got, want)
    (dy,) = draw(want.shape, seed=1)
    close(conv.conv2d_backward(to_device(dy), got_cache)[1], reference.conv2d_backward.reference(dy, cache)[1])


@pytest.mark.skipif(not SIMULATED, reason="on a card the sizes from which Winograd's kernels win are larger")
def test_winograd_takes_what_it_is_for():
    taken = {name: winograd.suits(conv.measure(*case)) for name, case in CASES.items()}
    assert [name for name, suits in taken.items() if suits] == ["winograd"]


@pytest.mark.parametrize("case", ["3x3", "winograd"])
def test_any_order_gives_the_same_bits(case):
    maps, weights, *_ = CASES[case]
    x, w = map(to_device, draw(maps, weights))

    def everything():
        y, cache = conv.conv2d(x, w, padding=1)
        return [to_host(a).tobytes() for a in (y, *conv.conv2d_backward(y, cache)[:2])]

    plain = everything()
    with shuffled(5):
        assert everything() == plain


@pytest.mark.parametrize("seed", range(12))
def test_random_convolutions(seed):
    rng = np.random.default_rng(seed)
    kernel, stride, pads = rng.integers(1, 5, 2), rng.integers(1, 4, 2), rng.integers(0, 4, (2, 2))
    size = np.maximum(rng.integers(1, 7, 2), kernel - pads.sum(axis=1))
    groups = int(rng.choice([1, 1, 2, 3]))
    c_in, c_out = rng.integers(1, 11 // groups, 2) * groups
    x, w, b = draw((int(rng.integers(1, 3)), *size, c_in), (*kernel, c_in // groups, c_out), (c_out,), seed=seed)
    options = {"stride": tuple(stride.tolist()), "padding": tuple(map(tuple, pads.tolist())), "groups": groups}
    want, cache = reference.conv2d.reference(x, w, b, **options)
    got, got_cache = conv.conv2d(*map(to_device, (x, w, b)), **options)
    close(got, want)
    (dy,) = draw(want.shape, seed=seed + 100)
    expected = reference.conv2d_backward.reference(dy, cache)
    for got, want in zip(conv.conv2d_backward(to_device(dy), got_cache), expected):
        close(got, want)


def test_arrays_with_gaps():
    x, w, dy = draw((1, 4, 3, 10), (5, 8, 1, 1), (1, 4, 3, 10))
    moved = to_device(x)[..., ::2], to_device(w).transpose(2, 3, 0, 1)
    y, cache = conv.conv2d(*moved)
    want, want_cache = reference.conv2d.reference(x[..., ::2], w.transpose(2, 3, 0, 1))
    close(y, want)
    gradient = to_device(dy)[..., 1:9]
    for got, expected in zip(
        conv.conv2d_backward(gradient, cache)[:2], reference.conv2d_backward.reference(dy[..., 1:9], want_cache)
    ):
        close(got, expected)


def test_what_the_reference_refuses_is_declined():
    x, w = map(to_device, draw((1, 3, 3, 8), (3, 3, 8, 4)))
    assert conv.conv2d(x, w, stride=0) is NotImplemented
    assert conv.conv2d(x, w[:, :, :5]) is NotImplemented
    assert conv.conv2d(to_device(np.ones((1, 3, 3, 8))), w) is NotImplemented
