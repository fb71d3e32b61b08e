"""The compiled convolutions with stride 2 against their NumPy bodies, on random shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import INTERPRETED, check_pair, draw, error, to_float64

from kernels.cpu import conv as fast
from kernels.cpu import fused as fast_fused
from kernels.cpu.convolution import stem, winograd_strided
from kernels.cpu.convolution.geometry import measure
from kernels.cpu.machine import memory
from kernels.cpu.machine.simd import VL
from mrcnn_np.ops.conv import conv2d, conv2d_backward
from mrcnn_np.ops.fused import conv2d_fused

CONV = (fast.conv2d, fast.conv2d_backward)
EXAMPLES = 4 if INTERPRETED else 8


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_stem(seed):
    """Images of 1 to 4 channels, odd and even lines, any padding, kernels of any height."""
    rng = np.random.default_rng(seed)
    kh, pads = int(rng.integers(1, 8)), rng.integers(0, 5, (2, 2))
    size = np.maximum(rng.integers(1, (20, 70)), np.array([kh, 7]) - pads.sum(axis=1))
    c_in, c_out = int(rng.integers(1, 5)), 16 * int(rng.integers(1, 6))
    x, w = draw(rng, int(rng.integers(1, 3)), *size, c_in), draw(rng, kh, 7, c_in, c_out)
    assert stem.suits(measure(x.shape, w.shape, 2, pads))
    args = (x, w) if rng.random() < 0.5 else (x, w, draw(rng, c_out))
    options = {"stride": 2, "padding": tuple(map(tuple, pads.tolist()))}
    check_pair(conv2d, conv2d_backward, CONV, args, options, rng, slack=1e-5)


def test_stem_is_off_by_little_more_than_direct_convolution():
    rng = np.random.default_rng(0)
    x, w = draw(rng, 1, 40, 61, 3), draw(rng, 7, 7, 3, 64)
    exact = conv2d.reference(*to_float64((x, w)), stride=2, padding=3)[0]
    assert error(conv2d(x, w, stride=2, padding=3)[0], exact) <= 1e-6  # measured: 4.3e-7


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_stem_finishes(residual, streamed, monkeypatch):
    """The same bits, whether a map is written to the caches or to memory, with half a pair at the end of its lines."""
    rng = np.random.default_rng(1)
    x, w, b = draw(rng, 2, 9, 53, 3), draw(rng, 7, 7, 3, 48), draw(rng, 48)
    norm = (*(np.abs(draw(rng, 48)) + np.float32(0.5) for _ in range(4)), 1e-3)
    beside = draw(rng, 2, 5, 27, 48) if residual else None
    options = {"stride": 2, "padding": 3, "activate": True}
    before, _ = fast_fused.conv2d_fused(x, w, b, norm=norm, residual=beside, **options)
    if streamed:
        monkeypatch.setattr(memory, "LARGE", 0)
        assert memory.streams(before)
    y, _ = fast_fused.conv2d_fused(x, w, b, norm=norm, residual=beside, **options)
    np.testing.assert_array_equal(y, before)
    exact, _ = conv2d_fused.reference(
        *to_float64((x, w, b)), norm=to_float64(norm), residual=to_float64(beside), **options
    )  # fmt: skip
    assert error(y, exact) <= 1e-6  # measured: 3.8e-7


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_winograd_with_stride(seed):
    rng = np.random.default_rng(seed)
    pads = rng.integers(0, 3, (2, 2))
    size = np.maximum(rng.integers(1, (20, 30)), 3 - pads.sum(axis=1))
    c_in, c_out = 16 * int(rng.integers(2, 6)), 16 * int(rng.integers(1, 6))
    x, w = draw(rng, int(rng.integers(1, 4)), *size, c_in), draw(rng, 3, 3, c_in, c_out)
    args = (x, w) if rng.random() < 0.5 else (x, w, draw(rng, c_out))
    options = {"stride": 2, "padding": tuple(map(tuple, pads.tolist()))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd_strided, "LEAST", 0)
        assert winograd_strided.suits(measure(x.shape, w.shape, 2, pads))
        check_pair(conv2d, conv2d_backward, CONV, args, options, rng, slack=1e-5)


@pytest.mark.parametrize("residual", [False, True])
def test_winograd_with_stride_finishes(residual, monkeypatch):
    monkeypatch.setattr(winograd_strided, "LEAST", 0)
    rng = np.random.default_rng(2)
    x, w, b = draw(rng, 2, 17, 22, 32), draw(rng, 3, 3, 32, 48), draw(rng, 48)
    norm = (*(np.abs(draw(rng, 48)) + np.float32(0.5) for _ in range(4)), 1e-3)
    beside = draw(rng, 2, 9, 11, 48) if residual else None
    options = {"stride": 2, "padding": 1, "activate": True}
    y, _ = fast_fused.conv2d_fused(x, w, b, norm=norm, residual=beside, **options)
    exact, _ = conv2d_fused.reference(
        *to_float64((x, w, b)), norm=to_float64(norm), residual=to_float64(beside), **options
    )  # fmt: skip
    assert error(y, exact) <= 2e-6  # measured: 3.7e-7


def test_small_maps_and_odd_channels_are_left_to_the_direct_way():
    def suits(kernel, maps, weights, stride):
        return kernel.suits(measure(maps, weights, stride, weights[0] // 2))

    assert suits(winograd_strided, (1, 100, 136, 256), (3, 3, 256, 256), 2)
    assert not suits(winograd_strided, (1, 50, 68, 512), (3, 3, 512, 512), 2)
    assert not suits(winograd_strided, (1, 100, 136, 256), (3, 3, 256, 256 + VL // 2), 2)
    assert not suits(winograd_strided, (1, 100, 136, 256), (1, 1, 256, 256), 2)
    assert not suits(winograd_strided, (1, 100, 136, 256), (3, 3, 256, 256), 1)
    assert suits(stem, (1, 64, 64, 3), (7, 7, 3, 64), 2)
    assert not suits(stem, (1, 64, 64, 3), (3, 3, 3, 64), 2) and not suits(stem, (1, 64, 64, 8), (7, 7, 8, 64), 2)
