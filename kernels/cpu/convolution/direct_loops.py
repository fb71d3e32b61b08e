"""Convolution as a matrix product that never makes its matrix.

In NHWC the taps of one kernel row are neighbours in memory: ``x[n, p s + i, q s : q s + kw, :]`` is one run of
``kw C_in`` floats. So row ``(n, p, q)`` of the im2col matrix is ``kh`` such runs, and a tile of the product, MR pixels
of a line, can read them where they lie. Only the weights are packed, into panels of ``NR`` columns.

Tiles are cut from the sequence of all pixels, whatever their line. One that goes on in the next line, or has taps to
the left or right of the map, is *odd*: its windows are copied into a small matrix, with zeros where there is no map,
before all panels of weights meet it. Taps above or below the map are left out.

The same tile does all three sums (dw: ``direct_weights``):

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

from ..machine.product import GAP
from ..machine.rows import array_at
from ..machine.simd import MR, NR, fence
from ..machine.tiles import gemm_tile_finish
from ..machine.turns import new_turns, take

STRETCH = 8  # tiles that meet a panel of weights, one after the other, while it is in the first-level cache
SAME_SET = 4096  # bytes: lines so far apart share one set of a first-level cache of 64 sets, which has 8 or 12 places


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


@njit(cache=True, parallel=True, error_model="numpy")
def thin(x, stride):
    """Return every ``stride``-th pixel of (N, H, W, C) maps."""
    n_maps, height, width, channels = x.shape
    rows, columns = (height - 1) // stride + 1, (width - 1) // stride + 1
    y = np.empty((n_maps, rows, columns, channels), np.float32)
    for number in prange(n_maps * rows):
        n, row = number // rows, number % rows
        for column in range(columns):
            source, target = x[n, row * stride, column * stride], y[n, row, column]
            for c in range(channels):
                target[c] = source[c]
    return y


@njit(cache=True, parallel=True, error_model="numpy")
def spread(part, residual, stride, dx):
    """Write ``part`` (N, P, Q, C) to every ``stride``-th pixel of dx (N, H, W, C), to the rest the residual or 0."""
    n_maps, height, width, channels = dx.shape
    for number in prange(n_maps * height):
        n, row = number // height, number % height
        for column in range(width):
            target = dx[n, row, column]
            if row % stride == 0 and column % stride == 0:
                source = part[n, row // stride, column // stride]
                for c in range(channels):
                    target[c] = source[c]
            elif residual.size > 0:
                source = residual[n, row, column]
                for c in range(channels):
                    target[c] = source[c]
            else:
                target[:] = 0


@njit(cache=True, error_model="numpy", inline="never")
def _copy_windows(x, shape, pixel, out_shape, kernel, stride, top, left, windows):
    """Copy the windows of MR pixels from ``pixel`` on, (kh, kw C_in) each, with zeros where there is no map.

    After the last pixel of all comes the last one again.
    """
    n_maps, height, width, c_in = shape
    out_h, out_w = out_shape
    kh, kw = kernel
    k = kw * c_in
    for m in range(MR):
        line, q = divmod(min(pixel + m, n_maps * out_h * out_w - 1), out_w)
        row, col = line % out_h * stride - top, q * stride - left
        skip = min(max(0, -col), kw) * c_in
        stop = max(skip, min(kw, width - col) * c_in)
        for i in range(kh):
            target = windows[(m * kh + i) * k : (m * kh + i + 1) * k]
            target[:] = 0
            if 0 <= row + i < height:
                start = ((line // out_h * height + row + i) * width + col) * c_in
                source, inside = x[start + skip : start + stop], target[skip:stop]
                for j in range(source.size):
                    inside[j] = source[j]


@njit(cache=True, error_model="numpy", inline="never")
def _plan(x, shape, begin, end, out_shape, kernel, stride, top, left, places, tiles, targets, windows):
    """Find out where the rows of a task's tiles start, in x or in ``windows``, and where their results go.

    A row of ``tiles`` is: address of the left side; bytes to its next row; is it odd; taps to skip; taps. ``targets``
    are the places in y of all results; after the last pixel of all comes the last one again.
    """
    _, height, width, c_in = shape
    out_h, out_w = out_shape
    kh, kw = kernel
    y_start, y_image, y_line, y_row = places
    flat = kh == kw == stride == 1 and top == left == 0 and out_h == height and out_w == width
    size, odd = MR * kh * kw * c_in, 0
    line, q = divmod(begin, out_w)
    n, p = divmod(line, out_h)
    pixel, place = begin, 0
    for t in range(tiles.shape[0]):
        row, col = p * stride - top, q * stride - left
        inside = q + MR <= out_w and col >= 0 and col + (MR - 1) * stride + kw <= width
        if pixel + MR <= end and (flat or inside):
            above = min(max(0, -row), kh)
            tiles[t, 0] = x.ctypes.data + ((n * height + row) * width + col) * c_in * 4
            tiles[t, 1], tiles[t, 2] = stride * c_in * 4, 0
            tiles[t, 3], tiles[t, 4] = above, max(above, min(kh, height - row)) - above
        else:
            here = windows[odd * size : (odd + 1) * size]
            _copy_windows(x, shape, pixel, out_shape, kernel, stride, top, left, here)
            tiles[t, 0] = here.ctypes.data
            tiles[t, 1], tiles[t, 2] = size // MR * 4, 1
            tiles[t, 3], tiles[t, 4] = 0, kh
            odd += 1
        for m in range(MR):
            if pixel < end:
                place = y_start + n * y_image + p * y_line + q * y_row
                pixel, q = pixel + 1, q + 1
                if q == out_w:
                    q, p = 0, p + 1
                    if p == out_h:
                        p, n = 0, n + 1
            targets[t, m] = place


@njit(cache=True, error_model="numpy", inline="never")
def _copy_columns(source, target, places, skip, columns):
    """Copy the first columns of a tile's rows to their places."""
    for m in range(MR):
        for c in range(columns):
            target[places[m] + skip + c] = source[m, c]


@njit(cache=True, error_model="numpy", inline="never")
def _fetch_columns(source, target, places, skip, columns):
    """Copy the first columns of rows at any places to a tile."""
    for m in range(MR):
        for c in range(columns):
            target[m, c] = source[places[m] + skip + c]


@njit(cache=True, error_model="numpy", inline="never")
def _copy_apart(tiles, begin, many, k, rows):
    """Copy the rows of some tiles, one tap each, to ``rows``, where they are GAP floats more than k apart."""
    for t in range(begin, begin + many):
        if tiles[t, 4] == 0:  # it lies above or below the map: there is nothing to read
            continue
        for m in range(MR):
            source = array_at(tiles[t, 0] + m * tiles[t, 1], k)
            target = rows[((t - begin) * MR + m) * (k + GAP) : ((t - begin) * MR + m) * (k + GAP) + k]
            for i in range(k):
                target[i] = source[i]


@njit(cache=True, error_model="numpy", inline="never")
def _multiply(
    tiles, targets, windows, taps, packed, panel_places, panel_channels, dense, y_row, y, c_out, scale, shift, residual,
    floor, stream,
):  # fmt: skip
    """Let all panels of weights meet the tiles of a task."""
    kh, k = packed.shape[1:3]
    outs = np.int64(y.ctypes.data) + targets * 4  # signed: signed and unsigned integers would make floats
    residual_by = np.int64(residual.ctypes.data) - np.int64(y.ctypes.data) if residual.size > 0 else 0
    # what a panel with too few columns is computed in: the results, the residual behind them
    narrow = np.zeros((2, MR, NR), np.float32)
    narrow_outs = np.int64(narrow.ctypes.data) + np.arange(MR) * NR * 4
    # Pixels whose channels would all fall into one set of the first-level cache, and drive each other out
    apart = kh == 1 and tiles.shape[0] > 0 and tiles[0, 1] % SAME_SET == 0 and packed.shape[0] > 1
    rows = np.empty(STRETCH * MR * (k + GAP) if apart else 0, np.float32)
    for begin in range(0, tiles.shape[0], STRETCH):
        many = min(STRETCH, tiles.shape[0] - begin)
        if apart:
            _copy_apart(tiles, begin, many, k, rows)
        for panel in range(packed.shape[0]):
            channel, offset = panel_channels[panel], panel_places[panel]
            columns = min(NR, c_out - channel)
            weights = packed.ctypes.data + panel * kh * k * NR * 4
            scales, shifts = scale.ctypes.data + channel * 4, shift.ctypes.data + channel * 4
            for t in range(begin, begin + many):
                a, a_row, skip, count = tiles[t, 0], tiles[t, 1], tiles[t, 3], tiles[t, 4]
                if apart:
                    a, a_row = rows.ctypes.data + (t - begin) * MR * (k + GAP) * 4, (k + GAP) * 4
                b = weights + skip * k * NR * 4
                offsets = taps.ctypes.data + (tiles[t, 2] * kh + skip) * 8
                # Fetched meanwhile: the results of the next stretch, in the order of memory, or those of the next tile
                later, later_row = outs[t, 0] + (offset + MR * y_row) * 4, y_row * 4
                if dense:
                    later = outs[begin, 0] + (many * MR * y_row + (panel * many + t - begin) * MR * NR) * 4
                    later_row = NR * 4
                if columns == NR:
                    gemm_tile_finish(
                        count, offsets, k, a, a_row, b, k * NR * 4, outs[t:].ctypes.data, offset * 4, later,
                        later_row, scales, shifts, residual_by, floor, stream,
                    )  # fmt: skip
                    continue
                if residual_by:
                    _fetch_columns(residual, narrow[1], targets[t], offset, columns)
                gemm_tile_finish(
                    count, offsets, k, a, a_row, b, k * NR * 4, narrow_outs.ctypes.data, 0, later, later_row,
                    scales, shifts, MR * NR * 4 if residual_by else 0, floor, 0,
                )  # fmt: skip
                _copy_columns(narrow[0], y, targets[t], offset, columns)


@njit(cache=True, parallel=True, error_model="numpy")
def correlate(
    x, x_shape, packed, panel_places, panel_channels, kw, stride, top, left, y, out_shape, places, c_out, scale, shift,
    residual, floor, stream, tasks, threads,
):  # fmt: skip
    """Slide a kernel over maps, as if padded, and write every output pixel where it belongs.

    Output (n, p, q) is the sum over i, j of x[n, p stride - top + i, q stride - left + j] w[i, j], finished. The
    columns of a panel go to ``y[start + n image + p line + q row + panel_places[panel]]``, where (start, image, line,
    row) are the ``places``, and are the channels from ``panel_channels[panel]`` on, of ``c_out``. Arrays are flat and
    places count floats. ``packed`` is (panels, kh, kw C_in, NR); ``scale`` and ``shift`` have whole panels, too. With
    ``stream`` results go past the caches: every panel then begins at a multiple of a vector's size.
    """
    n_maps, _, width, c_in = x_shape
    kernel = (packed.shape[1], kw)
    size = packed.shape[1] * packed.shape[2]
    pixels = n_maps * out_shape[0] * out_shape[1]
    dense = places[2] == out_shape[1] * places[3] and places[1] == out_shape[0] * places[2]
    tiles_in_all = (pixels + MR - 1) // MR
    taps = np.empty((2, kernel[0]), np.int64)  # from one kernel row to the next, in x and in copied windows
    for i in range(kernel[0]):
        taps[0, i], taps[1, i] = i * width * c_in * 4, i * packed.shape[2] * 4
    turns = new_turns()
    for _thread in prange(threads):
        task = take(turns)
        while task < tasks:
            begin, stop = tiles_in_all * task // tasks, tiles_in_all * (task + 1) // tasks
            many = stop - begin
            tiles, targets = np.empty((many, 5), np.int64), np.empty((many, MR), np.int64)
            windows = np.empty(many * MR * size, np.float32)
            begin, end = begin * MR, min(stop * MR, pixels)
            _plan(x, x_shape, begin, end, out_shape, kernel, stride, top, left, places, tiles, targets, windows)
            _multiply(
                tiles, targets, windows, taps, packed, panel_places, panel_channels, dense, places[3], y, c_out, scale,
                shift, residual, floor, stream,
            )  # fmt: skip
            task = take(turns)
        if stream:
            fence()
