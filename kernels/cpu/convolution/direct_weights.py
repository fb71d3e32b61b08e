"""The weight gradient of a convolution: a matrix product whose inner loop runs over the outputs; see ``direct``.

The inner loop cannot leave out an output at the border, so ``pad_maps`` makes a padded copy of x.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..machine.simd import MR, NR
from ..machine.tiles import gemm_tile_columns


@njit(cache=True, parallel=True, error_model="numpy")
def pad_maps(x, top, bottom, left, right):
    """Return a copy of (N, H, W, C) maps with a border of zeros, flat, and with MR floats to spare at its end."""
    n_maps, height, width, c = x.shape
    rows, line = top + height + bottom, (left + width + right) * c
    padded = np.empty(n_maps * rows * line + MR, np.float32)
    padded[n_maps * rows * line :] = 0
    for number in prange(n_maps * rows):
        n, row = number // rows, number % rows - top
        at = number * line
        if 0 <= row < height:
            padded[at : at + left * c] = 0
            for i in range(width):
                for j in range(c):
                    padded[at + (left + i) * c + j] = x[n, row, i, j]
            padded[at + (left + width) * c : at + line] = 0
        else:
            padded[at : at + line] = 0
    return padded


@njit(cache=True, parallel=True, error_model="numpy")
def widen_channels(dy, channels):
    """Return (P, C) as (P, channels), filled up with zeros."""
    pixels, c = dy.shape
    wide = np.empty((pixels, channels), np.float32)
    for p in prange(pixels):
        for j in range(c):
            wide[p, j] = dy[p, j]
        wide[p, c:] = 0
    return wide


@njit(cache=True, parallel=True, error_model="numpy")
def correlate_weights(padded, n_maps, rows, line, c_in, stride, dy, out_h, out_w, kh, k, block, threads):
    """Return dw[i, (j, c), o]: over all outputs (n, p, q) sum x[n, p stride + i, q stride + j, c] dy[n, p, q, o].

    ``padded`` comes from ``pad_maps`` (``rows`` lines of ``line`` floats a map), ``dy`` is (P, C), C a multiple of NR.
    ``k`` is kw C_in. Every result belongs to one thread, which sums up ``block`` lines of outputs at a time and adds
    these sums in order: one sum over tens of thousands of outputs would round ten times as much. If MR does not divide
    k, the last tile is moved up to end at k, and some rows are computed twice.
    """
    c_out = dy.shape[1]
    panels, tiles = c_out // NR, (k + MR - 1) // MR
    move = tiles * MR - k if k >= MR else 0
    lines = n_maps * out_h
    dw = np.empty((kh * tiles * MR, c_out), np.float32)
    units = kh * tiles * panels
    for thread in prange(threads):
        taps = np.empty(block, np.int64)
        for first in range(0, lines, block):
            count = min(block, lines - first)
            for i in range(count):
                taps[i] = ((first + i) // out_h * rows + (first + i) % out_h * stride) * line * 4
            b = dy.ctypes.data + first * out_w * c_out * 4
            for unit in range(units * thread // threads, units * (thread + 1) // threads):
                i, tile, panel = unit // (tiles * panels), unit // panels % tiles, unit % panels
                row, column = (i * tiles + tile) * MR, panel * NR
                gemm_tile_columns(
                    count, taps.ctypes.data, out_w,
                    padded.ctypes.data + (i * line + tile * MR - (move if tile == tiles - 1 else 0)) * 4,
                    stride * c_in * 4, b + column * 4, out_w * c_out * 4, c_out * 4,
                    dw.ctypes.data + (row * c_out + column) * 4, c_out * 4, first,
                )  # fmt: skip
    return dw.reshape(kh, tiles * MR, c_out)
