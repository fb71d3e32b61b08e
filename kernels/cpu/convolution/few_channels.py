"""The input gradient of a strided convolution with few input channels, such as the 7x7 stem on an image.

Its results are pixels of 3 numbers, far fewer than the columns of any tile. But the stride^2 phases of the input (see
``direct.scatter``) can be computed together: dy at (u, v) and its neighbours give all inputs at
``(s u + a, s v + b)``, a, b < s, so these are the columns (a, b, channel), 12 of them for stride 2 and 3 channels. The
kernel becomes one of ``ceil(k / s)`` taps each way, filled up with zeros, and runs on the tiles of ``slide``.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..machine import memory
from ..machine.simd import NR, VL
from ..machine.slide import BLOCK, PIXELS, slide_pair
from .geometry import Geometry


def suits(sizes: Geometry) -> bool:
    """Tell whether the columns fit a few vectors and dy has whole blocks of channels."""
    c_in, c_out = sizes.weights[2:]
    return sizes.groups == 1 and c_in <= VL // 2 and c_in * sizes.stride**2 <= NR and c_out % BLOCK == 0


def _merge(w: np.ndarray, stride: int) -> np.ndarray:
    """Return (vectors, taps down, taps across, C_out, VL): all phases of a (kh, kw, C_in, C_out) kernel side by side.

    The taps across are an even number, for the tile takes two.
    """
    kh, kw, c_in, c_out = w.shape
    down, across = -(-kh // stride), -(-kw // stride)
    across += across % 2
    vectors = -(-stride * stride * c_in // VL)
    merged = np.zeros((down, across, c_out, vectors * VL), np.float32)
    for a in range(stride):
        for b in range(stride):
            part = w[a::stride, b::stride][::-1, ::-1].swapaxes(2, 3)
            column = (a * stride + b) * c_in
            merged[down - part.shape[0] :, across - part.shape[1] :, :, column : column + c_in] = part
    parts = merged.reshape(down, across, c_out, vectors, VL).transpose(3, 0, 1, 2, 4)
    return np.ascontiguousarray(parts)


@njit(cache=True, error_model="numpy", inline="never")
def _line(dy, n, row, left, merged, runs, zeros, one, result):
    """Compute a line of merged outputs into ``result``, (outputs, vectors * VL)."""
    height, width, channels = dy.shape[1:]
    vectors, down, across = merged.shape[:3]
    count = 0
    for i in range(max(0, -row), min(down, height - row)):
        for j in range(0, across, 2):
            before = left - j
            runs[count, 0] = ((row + i) * width - before) * channels * 4
            runs[count, 1] = (i * across + j) * channels * VL * 4
            runs[count, 2], runs[count, 3] = before, width + before
            count += 1
    x = dy.ctypes.data + n * height * width * channels * 4
    for v in range(vectors):
        w = merged.ctypes.data + v * down * across * channels * VL * 4
        for q in range(0, result.shape[0], PIXELS):
            slide_pair(
                0, count, runs.ctypes.data, x, channels * 4, q, zeros.ctypes.data, channels, w,
                result.ctypes.data + (q * vectors + v) * VL * 4, vectors * VL * 4, one.ctypes.data, zeros.ctypes.data,
                0, np.float32(-np.inf), 0,
            )  # fmt: skip


@njit(cache=True, parallel=True, error_model="numpy")
def _scatter(dy, merged, stride, top, left, dx):
    n_maps, height, width, c_in = dx.shape
    down, across = merged.shape[1:3]
    # merged outputs are counted from the first whose block of s x s inputs, counted with their padding, lies inside
    first_u, first_v = top // stride, left // stride
    lines = (top + height - 1) // stride - first_u + 1
    outputs = (left + width - 1) // stride - first_v + 1
    zeros, one = np.zeros(max(dy.shape[3], VL), np.float32), np.ones(VL, np.float32)
    piece = stride * c_in
    for number in prange(n_maps * lines):
        n, u = number // lines, first_u + number % lines
        result = np.empty(((outputs + PIXELS - 1) // PIXELS * PIXELS, merged.shape[0] * VL), np.float32)
        runs = np.empty((down * across // 2, 4), np.int64)
        _line(dy, n, u - down + 1, across - 1 - first_v, merged, runs, zeros, one, result)
        for a in range(stride):
            row = stride * u + a - top
            if 0 <= row < height:
                target = dx[n, row].reshape(-1)
                for v in range(outputs):
                    at = ((first_v + v) * stride - left) * c_in
                    for j in range(max(0, -at), min(piece, target.size - at)):
                        target[at + j] = result[v, a * piece + j]


def scatter(dy: np.ndarray, w: np.ndarray, sizes: Geometry, *, residual: np.ndarray | None = None) -> np.ndarray:
    """Return what ``direct.scatter`` does."""
    dx = memory.empty(sizes.maps)
    _scatter(dy, _merge(w, sizes.stride), sizes.stride, sizes.top, sizes.left, dx)
    if residual is not None:
        dx += residual
    return dx
