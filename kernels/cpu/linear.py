"""Fully connected layer: the register tile of ``simd`` in blocks that stay in the second-level cache.

Each task computes a block of the product: it copies its part of the left matrix, a stretch of the inner dimension at a
time, and walks over the panels of the right one. Every result is a sum of sums over stretches, which keeps the rounding
error of 12,544 terms low, in one order, whatever the blocks and threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import LinearCache
from .convolution.direct_loops import pack
from .machine.arguments import is_float32
from .machine.simd import MR, NR, gemm_tile
from .machine.threads import shares

# Multiplications below which BLAS is faster than packing. It must not start threads of its own, which wait for more
# work in a busy loop and take the cores from ours: OpenBLAS does so from 2^18 on.
SMALL = 1 << 17
SMALL_SUM = 1 << 14
STRETCH = 192  # of the inner dimension at a time
PANELS = 32  # of the right matrix in one task
ROWS = 16 * MR  # of the left matrix in one task, at most
TALL = 84 * MR  # the same where the right matrix is larger than the caches
LARGE = 1 << 21  # elements


@njit(cache=True, parallel=True, error_model="numpy")
def _pack_transposed(w):
    """Cut the transpose of (C, K) into panels of NR columns, (panels, 1, K, NR), the last one filled up with zeros."""
    columns, k = w.shape
    panels = (columns + NR - 1) // NR
    packed = np.empty((panels, 1, k, NR), np.float32)
    for panel in prange(panels):
        used = min(NR, columns - panel * NR)
        for row in range(k):
            for c in range(used):
                packed[panel, 0, row, c] = w[panel * NR + c, row]
            for c in range(used, NR):
                packed[panel, 0, row, c] = 0
    return packed


@njit(cache=True, error_model="numpy", inline="never")
def _copy_left(a, transposed, row, rows, first, size, block):
    """Copy ``rows`` rows by ``size`` columns of the left matrix; rows up to a multiple of MR become zero.

    Each as it lies in memory: the rows of ``a``, or, transposed, tiles of (size, MR). Return both strides in floats.
    """
    if transposed:
        for tile in range((rows + MR - 1) // MR):
            used = min(MR, rows - tile * MR)
            for k in range(size):
                part = block[(tile * size + k) * MR : (tile * size + k + 1) * MR]
                source = a[first + k, row + tile * MR : row + tile * MR + used]
                for m in range(used):
                    part[m] = source[m]
                for m in range(used, MR):
                    part[m] = 0
        return 1, MR
    for m in range((rows + MR - 1) // MR * MR):
        part = block[m * size : (m + 1) * size]
        if m < rows:
            source = a[row + m, first : first + size]
            for k in range(size):
                part[k] = source[k]
        else:
            part[:] = 0
    return size, 1


@njit(cache=True, parallel=True, error_model="numpy")
def _multiply(a, transposed, packed, rows, across, shift, out):
    """Write a @ b + shift (or a.T @ b + shift) to ``out`` (M, N).

    A task has ``rows`` rows of the result (a multiple of MR) and ``across`` panels of columns.
    """
    m, n = out.shape
    panels, k = packed.shape[0], packed.shape[2]
    groups = (panels + across - 1) // across
    for task in prange((m + rows - 1) // rows * groups):
        no_taps = np.zeros(1, np.int64)
        row, group = task // groups * rows, task % groups
        count = min(rows, m - row)
        tiles = (count + MR - 1) // MR
        begin, end = group * across, min((group + 1) * across, panels)
        width = (end - begin) * NR
        left, sums = np.empty(rows * STRETCH, np.float32), np.empty((rows, width), np.float32)
        partial = np.empty((MR, NR), np.float32)
        for first in range(0, k, STRETCH):
            size = min(STRETCH, k - first)
            down, along = _copy_left(a, transposed, row, count, first, size, left)
            for panel in range(begin, end):
                b = packed.ctypes.data + (panel * k + first) * NR * 4
                for tile in range(tiles):
                    gemm_tile(
                        1, no_taps.ctypes.data, size, left.ctypes.data + tile * size * MR * 4, down * 4, along * 4,
                        b, 0, NR * 4, partial.ctypes.data, NR * 4, 0,
                    )  # fmt: skip
                    for i in range(MR):
                        total, part = sums[tile * MR + i, (panel - begin) * NR : (panel - begin + 1) * NR], partial[i]
                        for j in range(NR):
                            total[j] = part[j] if first == 0 else total[j] + part[j]
        start = begin * NR
        stop = min(n, end * NR)
        for i in range(count):
            target, source, added = out[row + i, start:stop], sums[i], shift[start:stop]
            for j in range(target.size):
                target[j] = source[j] + added[j]


@njit(cache=True, parallel=True, error_model="numpy")
def sum_rows(x):
    """Return the sum over the rows of (P, C): 64 partial sums of fixed rows, so that threads do not matter."""
    pixels, c = x.shape
    partial = np.zeros((64, c), np.float32)
    for part in prange(64):
        for p in range(pixels * part // 64, pixels * (part + 1) // 64):
            for j in range(c):
                partial[part, j] += x[p, j]
    total = np.zeros(c, np.float32)
    for part in range(64):
        for j in range(c):
            total[j] += partial[part, j]
    return total


def _shares(rows: int, packed: tuple[int, ...], threads: int) -> tuple[int, int]:
    """Return rows (a multiple of MR) and panels of a task, so that all threads get equal shares.

    A block of rows reads all panels. If these have to come from memory, blocks are tall and the columns are shared out.
    """
    panels = packed[0]
    if int(np.prod(packed)) >= LARGE and panels >= 4 * threads:
        blocks = -(-rows // TALL)
        return -(-rows // (blocks * MR)) * MR, -(-panels // max(threads, -(-panels // PANELS)))
    blocks = threads * -(-rows // (ROWS * threads))
    return -(-rows // (blocks * MR)) * MR, PANELS


def multiply(
    a: np.ndarray, packed: np.ndarray, columns: int, *, transposed: bool = False, shift: np.ndarray | None = None
) -> np.ndarray:
    """Return ``a @ b + shift``, or ``a.T @ b + shift``, where ``b`` has been packed."""
    m = a.shape[1] if transposed else a.shape[0]
    out = np.empty((m, columns), np.float32)
    shift = np.zeros(columns, np.float32) if shift is None else np.ascontiguousarray(shift)
    rows, across = _shares(m, packed.shape, shares())
    _multiply(a, transposed, packed, rows, across, shift, out)
    return out


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> Any:
    """See ``mrcnn_np.ops.linear.linear``."""
    if not is_float32(x, w) or x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
        return NotImplemented
    if x.size * w.shape[1] < max(1, SMALL):
        return NotImplemented
    if b is not None and (not is_float32(b) or b.shape != w.shape[1:]):
        return NotImplemented
    x, w = np.ascontiguousarray(x), np.ascontiguousarray(w)
    return multiply(x, pack(w.reshape(1, *w.shape)), w.shape[1], shift=b), LinearCache(x, w, b is not None)


def linear_backward(dy: np.ndarray, cache: LinearCache) -> Any:
    """See ``mrcnn_np.ops.linear.linear_backward``."""
    x, w, has_bias = cache
    if not is_float32(dy, x, w) or dy.shape != (len(x), w.shape[1]) or x.size * w.shape[1] < max(1, SMALL):
        return NotImplemented
    dy, x, w = np.ascontiguousarray(dy), np.ascontiguousarray(x), np.ascontiguousarray(w)
    dx = multiply(dy, _pack_transposed(w), w.shape[0])
    dw = multiply(x, pack(dy.reshape(1, *dy.shape)), w.shape[1], transposed=True)
    return dx, dw, sum_rows(dy) if has_bias else None


def channel_sum(x: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.linear.channel_sum``."""
    if not is_float32(x) or x.ndim < 2 or x.size < SMALL_SUM:
        return NotImplemented
    return sum_rows(np.ascontiguousarray(x).reshape(-1, x.shape[-1]))
