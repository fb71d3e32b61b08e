"""Convolution in groups (ResNeXt's 32 groups of 4 channels), on the tiles that dense convolutions use.

A tile is NR columns wide and a group may have as few as four. So as many neighbouring groups as fit become one dense
*block* whose weights are zero between groups: most multiplications are by zero, but they run at full speed, which is
still faster than narrow products. Gradients of the weights are computed for whole blocks, and the groups cut out.

Borders are stored: each call works on a padded copy of its input, in which the taps of an output are plain offsets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange

from .direct import pad_maps
from .simd import MR, NR, gemm_tile, gemm_tile_one

Sides = tuple[tuple[int, int], tuple[int, int]]


def block_of(groups: int, per_in: int, per_out: int) -> int:
    """Return how many groups share a block: as many as fill NR columns both ways, and divide ``groups``; 0 for none."""
    widest = max(per_in, per_out)
    if widest > NR:
        return 0
    return next((m for m in range(NR // widest, 0, -1) if groups % m == 0), 0)


def _blocks(w: np.ndarray, groups: int, together: int) -> np.ndarray:
    """Return (blocks, taps, together * C_in, NR) block-diagonal weights from (kh, kw, C_in of a group, C_out)."""
    kh, kw, per_in, c_out = w.shape
    per_out = c_out // groups
    parts = w.reshape(kh * kw, per_in, groups // together, together, per_out)
    dense = np.zeros((groups // together, kh * kw, together * per_in, NR), np.float32)
    for g in range(together):
        target = dense[:, :, g * per_in : (g + 1) * per_in, g * per_out : (g + 1) * per_out]
        target[...] = parts[:, :, :, g].transpose(2, 0, 1, 3)
    return dense


@njit(cache=True, parallel=True, error_model="numpy")
def _slide(
    padded, rows, line, c_in, dense, taps, stride, y, y_start, y_image, y_line, y_row, n_maps, out_h, out_w, wide
):
    """Write output (n, p, q), block by block, to ``y[y_start + n y_image + p y_line + q y_row + block * wide]``."""
    blocks, k = dense.shape[0], dense.shape[2]
    t = taps.ctypes.data
    for number in prange(n_maps * out_h):
        tile = np.empty((MR, NR), np.float32)
        out = tile.ctypes.data
        n, p = number // out_h, number % out_h
        for block in range(blocks):
            b = dense.ctypes.data + block * taps.size * k * NR * 4
            at = (n * rows + p * stride) * line + block * k
            target = y_start + n * y_image + p * y_line + block * wide
            q = 0
            while q < out_w:
                a = padded.ctypes.data + (at + q * stride * c_in) * 4
                if out_w - q >= MR:
                    gemm_tile(taps.size, t, k, a, stride * c_in * 4, 4, b, k * NR * 4, NR * 4, out, NR * 4, 0)
                    done = MR
                else:
                    gemm_tile_one(taps.size, t, k, a, stride * c_in * 4, 4, b, k * NR * 4, NR * 4, out, NR * 4, 0)
                    done = 1
                for m in range(done):
                    for c in range(wide):
                        y[target + (q + m) * y_row + c] = tile[m, c]
                q += done


def correlate(
    x: np.ndarray,
    w: np.ndarray,
    groups: int,
    together: int,
    size: tuple[int, int],
    stride: int,
    sides: Sides,
    *,
    y: np.ndarray | None = None,
    phase: tuple[int, int] = (0, 0),
    step: int = 1,
) -> np.ndarray:
    """Slide grouped weights over padded maps; write every ``step``-th pixel of ``y`` from ``phase`` on."""
    n, height, width, c_in = x.shape
    kh, kw, _, c_out = w.shape
    (top, bottom), (left, right) = sides
    padded = pad_maps(x, top, bottom, left, right)
    line = (left + width + right) * c_in
    taps = np.array([i * line + j * c_in for i in range(kh) for j in range(kw)], np.int64) * 4
    if y is None:
        y = np.empty((n, *size, c_out), np.float32)
    _slide(
        padded, top + height + bottom, line, c_in, _blocks(w, groups, together), taps, stride, y.reshape(-1),
        (phase[0] * y.shape[2] + phase[1]) * c_out, y.shape[1] * y.shape[2] * c_out, step * y.shape[2] * c_out,
        step * c_out, n, size[0], size[1], together * c_out // groups,
    )  # fmt: skip
    return y


def scatter(
    dy: np.ndarray, w: np.ndarray, groups: int, together: int, shape: tuple[int, ...], stride: int, top: int, left: int
) -> np.ndarray:
    """Return the transpose of ``correlate``, phase by phase as in ``conv.scatter``."""
    _, height, width, c_in = shape
    kh, kw, per_in, c_out = w.shape
    # swap the channels within each group: (kh, kw, C_out of a group, C_in)
    swapped = w.reshape(kh, kw, per_in, groups, c_out // groups).transpose(0, 1, 4, 3, 2)
    swapped = swapped.reshape(kh, kw, c_out // groups, c_in)
    dx = np.empty(shape, np.float32)
    for a in range(min(stride, height)):
        for b in range(min(stride, width)):
            i0, j0 = (a + top) % stride, (b + left) % stride
            part = np.ascontiguousarray(swapped[i0::stride, j0::stride][::-1, ::-1])
            if 0 in part.shape:
                dx[:, a::stride, b::stride] = 0
                continue
            size = (-(-(height - a) // stride), -(-(width - b) // stride))
            sides, inside = [], dy
            for axis, first, taps, count in (
                (1, (a + top - i0) // stride, part.shape[0], size[0]),
                (2, (b + left - j0) // stride, part.shape[1], size[1]),
            ):
                before = taps - 1 - first  # the first output starts this far before dy; if negative, inside it
                if before < 0:
                    inside = inside[:, -before:] if axis == 1 else inside[:, :, -before:]
                after = count + taps - 1 - max(before, 0) - inside.shape[axis]
                sides.append((max(before, 0), max(after, 0)))
            inside = np.ascontiguousarray(inside)
            correlate(inside, part, groups, together, size, 1, (sides[0], sides[1]), y=dx, phase=(a, b), step=stride)
    return dx


@njit(cache=True, parallel=True, error_model="numpy")
def _block_gradients(padded, rows, line, c_in, taps, k, stride, dy, out_h, out_w, n_maps, wide, block, threads):
    """Return, for every block and tap, the (k, NR) products of the block's inputs and output gradients."""
    c_out = dy.size // (n_maps * out_h * out_w)
    blocks, tiles = c_in // k, (k + MR - 1) // MR
    dw = np.zeros((blocks, taps.size, tiles * MR, NR), np.float32)
    units = blocks * taps.size * tiles
    lines = n_maps * out_h
    for thread in prange(threads):
        offsets = np.empty(block, np.int64)
        for first in range(0, lines, block):
            count = min(block, lines - first)
            for i in range(count):
                offsets[i] = ((first + i) // out_h * rows + (first + i) % out_h * stride) * line * 4
            for unit in range(units * thread // threads, units * (thread + 1) // threads):
                number, tap, tile = unit // (taps.size * tiles), unit // tiles % taps.size, unit % tiles
                gemm_tile(
                    count, offsets.ctypes.data, out_w, padded.ctypes.data + taps[tap] + (number * k + tile * MR) * 4,
                    4, stride * c_in * 4, dy.ctypes.data + (first * out_w * c_out + number * wide) * 4,
                    out_w * c_out * 4, c_out * 4,
                    dw.ctypes.data + ((number * taps.size + tap) * tiles + tile) * MR * NR * 4, NR * 4, 1,
                )  # fmt: skip
    return dw


def weight_gradient(
    x: np.ndarray, dy: np.ndarray, groups: int, together: int, kernel: tuple[int, int], stride: int, sides: Sides
) -> np.ndarray:
    """Return dw (kh, kw, C_in of a group, C_out)."""
    n, height, width, c_in = x.shape
    _, out_h, out_w, c_out = dy.shape
    (top, bottom), (left, right) = sides
    kh, kw = kernel
    per_in, per_out = c_in // groups, c_out // groups
    k, wide = together * per_in, together * per_out
    padded = pad_maps(x, top, bottom, left, right)
    line = (left + width + right) * c_in
    taps = np.array([i * line + j * c_in for i in range(kh) for j in range(kw)], np.int64) * 4
    spare = np.zeros(dy.size + NR, np.float32)  # a tile reads NR columns, past the end for the last pixel's last block
    spare[: dy.size] = dy.reshape(-1)
    lines = max(1, 64 * 1024 // max(1, out_w * (stride * c_in + c_out)))
    dense: Any = _block_gradients(
        padded, top + height + bottom, line, c_in, taps, k, stride, spare[: dy.size], out_h, out_w, n, wide, lines,
        get_num_threads(),
    )  # fmt: skip
    dw = np.empty((kh * kw, per_in, groups // together, together, per_out), np.float32)
    for g in range(together):
        part = dense[:, :, g * per_in : (g + 1) * per_in, g * per_out : (g + 1) * per_out]
        dw[:, :, :, g] = part.transpose(1, 2, 0, 3)
    return dw.reshape(kh, kw, per_in, c_out)
