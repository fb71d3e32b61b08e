"""Convolution as a matrix product that never makes its matrix.

In NHWC the taps of one kernel row are neighbours in memory: ``x[n, p s + i, q s : q s + kw, :]`` is one run of
``kw C_in`` floats. So row ``(n, p, q)`` of the im2col matrix is ``kh`` such runs, and a tile of the product can read
them where they lie. Only the weights are packed, into panels of ``NR`` columns. For y and dx padding is not stored
either: rows of taps above and below the map are left out, and the few outputs at the left and right border take shorter
runs. For dw, whose inner loop runs over the outputs and cannot leave any out, ``pad_maps`` makes a padded copy.

The same tile does all three sums:

====== ======================== ================ =================================
sum    rows of the tile         columns          inner loop
====== ======================== ================ =================================
y      output pixels            output channels  taps and input channels
dx     input pixels (1 of s*s)  input channels   taps that reach them, output channels
dw     taps and input channels  output channels  output pixels
====== ======================== ================ =================================
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .simd import (
    FEW,
    MR,
    NR,
    gemm_tile,
    gemm_tile_few,
    gemm_tile_few_finish,
    gemm_tile_finish,
    gemm_tile_one,
    gemm_tile_one_finish,
    gemm_tile_sum,
)

RUN = 8 * MR  # pixels of one task, about: lines shorter than this are taken together
PART = 256  # rows of a panel that fit the first-level cache beside the pixels they meet


@njit(cache=True, parallel=True, error_model="numpy")
def pack(w):
    """Cut (T, K, C) into panels of NR columns, (panels, T, K, NR), the last one filled up with zeros."""
    taps, k, c_out = w.shape
    panels = (c_out + NR - 1) // NR
    packed = np.empty((panels, taps, k, NR), np.float32)
    for task in prange(panels * taps):
        panel, tap = task // taps, task % taps
        first = panel * NR
        columns = min(NR, c_out - first)
        for row in range(k):
            if columns == NR:  # a constant number of steps becomes vector moves
                for c in range(NR):
                    packed[panel, tap, row, c] = w[tap, row, first + c]
            else:
                for c in range(columns):
                    packed[panel, tap, row, c] = w[tap, row, first + c]
                for c in range(columns, NR):
                    packed[panel, tap, row, c] = 0
    return packed


@njit(cache=True, parallel=True, error_model="numpy")
def pack_swapped(w, rows, cols):
    """Pack the taps (rows x cols) of a (kh, kw, C_in, C_out) kernel with its channels swapped, as ``pack`` would.

    The result is (panels of C_in, rows, cols * C_out, NR): the kernel of the input gradient, without a copy in between.
    """
    c_in, c_out = w.shape[2], w.shape[3]
    panels = (c_in + NR - 1) // NR
    packed = np.empty((panels, rows.size, cols.size * c_out, NR), np.float32)
    for task in prange(panels * rows.size):
        panel, i = task // rows.size, task % rows.size
        first = panel * NR
        columns = min(NR, c_in - first)
        for j in range(cols.size):
            if columns < NR:
                packed[panel, i, j * c_out : (j + 1) * c_out] = 0
            for start in range(0, c_out, 16):  # 16 floats of each row at a time: one cache line
                for c in range(columns):
                    for o in range(start, min(start + 16, c_out)):
                        packed[panel, i, j * c_out + o, c] = w[rows[i], cols[j], first + c, o]
    return packed


@njit(cache=True, error_model="numpy", inline="never")
def _finish(tile, rows, columns, y, at, y_row, scale, shift, channel, residual, floor):
    """Write ``max(tile * scale + shift + residual, floor)`` to ``y[at + row y_row + column]``."""
    for row in range(rows):
        start = at + row * y_row
        for c in range(columns):
            value = tile[row, c] * scale[channel + c] + shift[channel + c]
            if residual.size > 0:
                value += residual[start + c]
            y[start + c] = floor if value < floor else value


@njit(cache=True, error_model="numpy", inline="never")
def _begin(x, at, a_row, taps, k, b, b_tap, count, part, sums):
    """Sum all but the last block of taps and channels of ``count`` pixels into ``sums``; return the blocks of a tap.

    A block of ``part`` rows of the panel stays in the first-level cache while all pixels meet it.
    """
    blocks = (k + part - 1) // part
    begun = 0
    for t in range(taps.size):
        for block in range(blocks if t < taps.size - 1 else blocks - 1):
            first = block * part
            length = min(part, k - first)
            here = b + t * b_tap + first * NR * 4
            tap = taps.ctypes.data + t * 8
            q = 0
            while q < count:
                a = x.ctypes.data + (at + q * a_row + first) * 4
                out = sums.ctypes.data + q * NR * 4
                if count - q >= MR:
                    gemm_tile(1, tap, length, a, a_row * 4, 4, here, 0, NR * 4, out, NR * 4, begun)
                    q += MR
                elif count - q >= FEW:
                    gemm_tile_few(1, tap, length, a, a_row * 4, 4, here, 0, NR * 4, out, NR * 4, begun)
                    q += FEW
                else:
                    gemm_tile_one(1, tap, length, a, a_row * 4, 4, here, 0, NR * 4, out, NR * 4, begun)
                    q += 1
            begun = 1
    return blocks


@njit(cache=True, error_model="numpy", inline="never")
def _pixels(
    x, at, a_row, taps, k, b, b_tap, y, target, y_row, count, columns, channel, sums, scale, shift, residual, floor
):
    """Compute ``count`` <= RUN pixels of a row, one panel: tiles of MR pixels, then of FEW, then single ones."""
    t, tn = taps.ctypes.data, taps.size
    whole = columns == NR
    scales, shifts = scale.ctypes.data + channel * 4, shift.ctypes.data + channel * 4
    begun = 0
    if whole and count >= MR and tn * k > 2 * PART:
        part = (k + (k + PART - 1) // PART - 1) // ((k + PART - 1) // PART)  # equal parts, none above PART
        first = (_begin(x, at, a_row, taps, k, b, b_tap, count, part, sums) - 1) * part
        t, b = t + (tn - 1) * 8, b + (tn - 1) * b_tap + first * NR * 4
        tn, at, k = 1, at + first, k - first
        begun = sums.ctypes.data
    q = 0
    while q < count:
        a = x.ctypes.data + (at + q * a_row) * 4
        out = target + q * y_row
        if whole:
            o = y.ctypes.data + out * 4
            beside = residual.ctypes.data + out * 4 if residual.size > 0 else 0
            so_far = begun + q * NR * 4 if begun else 0
            # While this run is computed, the output and the residual of the next are fetched, in the order of memory
            further = (RUN * y_row - channel - q * y_row + (channel * 8 // NR + q // MR) * MR * NR) * 4
            if count - q >= MR:
                gemm_tile_finish(
                    tn,
                    t,
                    k,
                    a,
                    a_row * 4,
                    4,
                    b,
                    b_tap,
                    NR * 4,
                    so_far,
                    o,
                    y_row * 4,
                    further,
                    scales,
                    shifts,
                    beside,
                    floor,
                )
                q += MR
            elif count - q >= FEW:
                gemm_tile_few_finish(
                    tn,
                    t,
                    k,
                    a,
                    a_row * 4,
                    4,
                    b,
                    b_tap,
                    NR * 4,
                    so_far,
                    o,
                    y_row * 4,
                    further,
                    scales,
                    shifts,
                    beside,
                    floor,
                )
                q += FEW
            else:
                gemm_tile_one_finish(
                    tn,
                    t,
                    k,
                    a,
                    a_row * 4,
                    4,
                    b,
                    b_tap,
                    NR * 4,
                    so_far,
                    o,
                    y_row * 4,
                    further,
                    scales,
                    shifts,
                    beside,
                    floor,
                )
                q += 1
        else:
            o = sums.ctypes.data
            if count - q >= MR:
                gemm_tile(tn, t, k, a, a_row * 4, 4, b, b_tap, NR * 4, o, NR * 4, 0)
                rows = MR
            elif count - q >= FEW:
                gemm_tile_few(tn, t, k, a, a_row * 4, 4, b, b_tap, NR * 4, o, NR * 4, 0)
                rows = FEW
            else:
                gemm_tile_one(tn, t, k, a, a_row * 4, 4, b, b_tap, NR * 4, o, NR * 4, 0)
                rows = 1
            _finish(sums, rows, columns, y, out, y_row, scale, shift, channel, residual, floor)
            q += rows


@njit(cache=True, parallel=True, error_model="numpy")
def correlate(
    x, x_shape, packed, kw, stride, top, left, y, y_shape, y_start, y_line, y_row, c_out, scale, shift, residual, floor,
    pixels,
):  # fmt: skip
    """Slide a kernel over maps, as if padded, and write every output pixel where it belongs.

    Output (n, p, q) is the sum over i, j of x[n, p stride - top + i, q stride - left + j] w[i, j], finished and written
    to ``y[y_start + n * y_shape[3] + p * y_line + q * y_row]``; arrays are flat and positions count floats.
    ``packed`` is (panels, kh, kw C_in, NR); ``y_shape`` is (N, outputs down, outputs across, floats of one image).
    Only the first ``pixels`` outputs exist: the last line may be shorter than the others.
    """
    n_maps, height, width, c_in = x_shape
    _, out_h, out_w, y_image = y_shape
    panels, kh, k = packed.shape[0], packed.shape[1], packed.shape[2]
    b_tap = k * NR * 4
    line = width * c_in
    # the outputs whose taps all lie inside, from left to right
    first = min(max(0, (left + stride - 1) // stride), out_w)
    last = max(first, min(out_w, (width - kw + left) // stride + 1 if width - kw + left >= 0 else 0))
    together = max(1, RUN // out_w)  # lines that share a panel of weights while it is in the first-level cache
    lines = n_maps * out_h
    for task in prange((lines + together - 1) // together):
        sums = np.empty((RUN, NR), np.float32)
        taps = np.empty(kh, np.int64)
        for panel in range(panels):
            channel = panel * NR
            columns = min(NR, c_out - channel)
            weights = packed.ctypes.data + panel * kh * b_tap
            for number in range(task * together, min((task + 1) * together, lines)):
                n, p = number // out_h, number % out_h
                row = p * stride - top
                above = min(max(0, -row), kh)
                below = max(above, min(kh, height - row))
                for i in range(above, below):
                    taps[i - above] = (i - above) * line * 4
                inside = taps[: below - above]
                b = weights + above * b_tap
                start = ((n * height + row + above) * width - left) * c_in
                out = y_start + n * y_image + p * y_line + channel
                for side in range(2):
                    for q in range(0 if side == 0 else last, first if side == 0 else out_w):
                        col = q * stride - left
                        skip = min(max(0, -col), kw)
                        stop = max(skip, min(kw, width - col))
                        _pixels(
                            x, start + (q * stride + skip) * c_in, 0, inside, (stop - skip) * c_in,
                            b + skip * c_in * NR * 4, b_tap, y, out + q * y_row, y_row, 1, columns, channel, sums,
                            scale, shift, residual, floor,
                        )  # fmt: skip
                end = min(last, pixels - number * out_w)
                for q in range(first, end, RUN):
                    count = min(RUN, end - q)
                    # What is left over of a tile is done by one that overlaps its neighbour, and writes the same again
                    over = count % FEW if end - first >= FEW else 0
                    for part in range(2 if over else 1):
                        here, many = (q, count - over) if part == 0 else (q + count - FEW, FEW)
                        _pixels(
                            x, start + here * stride * c_in, stride * c_in, inside, k, b, b_tap, y, out + here * y_row,
                            y_row, many, columns, channel, sums, scale, shift, residual, floor,
                        )  # fmt: skip


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
    ``k`` is kw C_in. Every result belongs to one thread, which adds the outputs in order, ``block`` lines at a time.
    If MR does not divide k, the last tile is moved up to end at k, and some rows are computed twice.
    """
    c_out = dy.shape[1]
    panels, tiles = c_out // NR, (k + MR - 1) // MR
    move = tiles * MR - k if k >= MR else 0
    dw = np.zeros((kh, tiles * MR, c_out), np.float32)
    lines = n_maps * out_h
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
                gemm_tile_sum(
                    count, taps.ctypes.data, out_w,
                    padded.ctypes.data + (i * line + tile * MR - (move if tile == tiles - 1 else 0)) * 4,
                    4, stride * c_in * 4, b + panel * NR * 4, out_w * c_out * 4, c_out * 4,
                    dw.ctypes.data + ((i * tiles * MR + tile * MR) * c_out + panel * NR) * 4, c_out * 4, 1,
                )  # fmt: skip
    return dw


@njit(cache=True, parallel=True, error_model="numpy")
def channel_sum(x):
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
