"""The loops of convolutions in groups over the tiles of ``slide``."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..machine.simd import VL, fence
from ..machine.slide import (
    BLOCK,
    FEW,
    PIXELS,
    prefetch,
    slide_one,
    slide_one_few,
    slide_one_single,
    slide_three,
    slide_three_apart,
    slide_weights_one,
    slide_weights_one_single,
    slide_weights_three,
    slide_weights_three_apart,
    slide_weights_three_single,
)

STRETCH = 2  # tiles


@njit(cache=True, parallel=True, error_model="numpy")
def pack(w, per_in, per_out, rows, cols, turned):
    """Cut the taps (rows x cols) of a (kh, kw, per_in, C_out) kernel into vectors of VL output channels.

    The result is (vectors, rows, cols, per_in, VL); or, for the input gradient, whose outputs are the inputs,
    (vectors, rows, cols, per_out, VL).
    """
    groups = w.shape[3] // per_out
    inner = per_out if turned else per_in
    vectors = groups * (per_in if turned else per_out) // VL
    packed = np.empty((vectors, rows.size, cols.size, inner, VL), np.float32)
    for task in prange(vectors * rows.size):
        v, i = task // rows.size, task % rows.size
        for j in range(cols.size):
            target, source = packed[v, i, j], w[rows[i], cols[j]]
            if turned:
                for lane in range(VL):
                    group, c = (v * VL + lane) // per_in, (v * VL + lane) % per_in
                    for o in range(per_out):
                        target[o, lane] = source[c, group * per_out + o]
            else:
                for c in range(per_in):
                    for lane in range(VL):
                        target[c, lane] = source[c, v * VL + lane]
    return packed


@njit(cache=True, error_model="numpy", inline="never")
def _slide_line(
    mode, runs, count, x, x_step, positions, next_row, next_size, zeros, packed, per_in, per_out, y, target, y_row,
    out_w, size, kind, scale, shift, residual, floor, stream,
):  # fmt: skip
    """Write a line of outputs with tiles of ``size`` of them, a stretch of few tiles and all of its channels at a time.

    The last tile may overlap its neighbour, and writes the same again. An output is ``positions`` positions of x.
    """
    r, none, step = runs.ctypes.data, zeros.ctypes.data, y_row * 4
    vectors, w_vector = packed.shape[0], packed.shape[1] * packed.shape[2] * per_in * VL * 4
    tiles = (out_w + size - 1) // size
    fetch = (next_size + tiles * vectors * 64 - 1) // (tiles * vectors * 64)
    fetched = 0
    for stretch in range(0, out_w, STRETCH * size):
        for v in range(vectors):
            inputs = v * VL if mode else v * VL // per_out * per_in
            a, w = x + inputs * 4, packed.ctypes.data + v * w_vector
            scales, shifts = scale.ctypes.data + v * VL * 4, shift.ctypes.data + v * VL * 4
            for start in range(stretch, min(stretch + STRETCH * size, out_w), size):
                q = min(start, out_w - size)
                place = (target + q * y_row + v * VL) * 4
                out, at = y.ctypes.data + place, q * positions
                side = residual.ctypes.data + place if residual.size > 0 else 0
                for line in range(fetched, min(fetched + fetch * 64, next_size), 64):
                    prefetch(next_row + line)
                fetched += fetch * 64
                if kind == 3:
                    slide_three(
                        mode, count, r, a, x_step, at, none, per_in, w, out, step, scales, shifts, side, floor, stream
                    )
                elif kind == 2:
                    slide_three_apart(
                        mode, count, r, a, x_step, at, none, per_in, w, out, step, scales, shifts, side, floor, stream
                    )
                elif size == PIXELS:
                    slide_one(
                        mode, count, r, a, x_step, at, none, per_in, w, out, step, scales, shifts, side, floor, stream
                    )
                elif size == FEW:
                    slide_one_few(
                        mode, count, r, a, x_step, at, none, per_in, w, out, step, scales, shifts, side, floor, stream
                    )
                else:
                    slide_one_single(
                        mode, count, r, a, x_step, at, none, per_in, w, out, step, scales, shifts, side, floor, stream
                    )


@njit(cache=True, parallel=True, error_model="numpy")
def slide(
    x, x_shape, packed, mode, per_out, stride, top, left, y, y_shape, y_start, y_line, y_row, scale, shift, residual,
    floor, stream,
):  # fmt: skip
    """Write output (n, p, q), finished, to ``y[y_start + n * y_shape[3] + p * y_line + q * y_row]``.

    Arrays are flat and positions count floats, as in ``direct.convolve``; ``y_shape`` is (N, outputs down, outputs
    across, floats of one image).
    """
    n_maps, height, width, channels = x_shape
    _, out_h, out_w, y_image = y_shape
    kh, kw, per_in = packed.shape[1:4]
    size = PIXELS if out_w >= PIXELS else FEW if out_w >= FEW else 1
    together = 3 if kw == 3 and stride <= 2 and size == PIXELS else 1  # columns of a run
    kind = 0 if together == 1 else 3 if stride == 1 else 2
    apart = 1 if together == 3 else stride  # columns of the map from one position of a run to the next
    zeros = np.zeros(max(per_in, VL), np.float32)
    for number in prange(n_maps * out_h):
        n, p = number // out_h, number % out_h
        row = p * stride - top
        runs = np.empty((kh * kw, 4), np.int64)
        count = 0
        for i in range(max(0, -row), min(kh, height - row)):
            for j in range(0, kw, together):
                before = left - j  # columns of padding that the run starts with
                runs[count, 0] = ((row + i) * width - before) * channels * 4
                runs[count, 1] = (i * kw + j) * per_in * VL * 4
                runs[count, 2] = -(-before // apart)
                runs[count, 3] = -(-(width + before) // apart)
                count += 1
        # while this line is computed, fetch the rows of x that only the next one needs
        new = min(max(row + max(kh, stride), 0), height)
        ahead = (min(new + stride, height) - new) * width * channels * 4
        image = x.ctypes.data + n * height * width * channels * 4
        _slide_line(
            mode, runs, count, image, apart * channels * 4, stride // apart, image + new * width * channels * 4, ahead,
            zeros, packed, per_in, per_out, y, y_start + n * y_image + p * y_line, y_row, out_w, size, kind, scale,
            shift, residual, floor, stream,
        )  # fmt: skip
        if stream:
            fence()


@njit(cache=True, parallel=True, error_model="numpy")
def slide_weights(x, x_shape, mode, per_in, per_out, stride, top, left, dy, out_h, out_w, kh, kw, block, threads):
    """Return dw (kh, kw, per_in, C_out).

    A unit of work is a kernel row, a vector of output channels and 4 input channels. Each belongs to one thread, which
    adds the lines in order, ``block`` of them at a time for all of its units.
    """
    n_maps, height, width, channels = x_shape
    c_out = dy.size // (n_maps * out_h * out_w)
    dw = np.zeros((kh, kw, per_in, c_out), np.float32)
    zeros = np.zeros(VL, np.float32)
    blocks, lines = per_in // BLOCK, n_maps * out_h
    units = c_out // VL * kh * blocks
    together = 3 if kw == 3 and stride <= 2 else 1
    apart = 1 if together == 3 else stride
    x_step, dy_step, whole = apart * channels * 4, c_out * 4, out_w // 4 * 4
    for thread in prange(threads):
        for begin in range(0, lines, block):
            for unit in range(units * thread // threads, units * (thread + 1) // threads):
                v, i, part = unit // (kh * blocks), unit // blocks % kh, unit % blocks
                inputs = v * VL if mode else v * VL // per_out * per_in
                for number in range(begin, min(begin + block, lines)):
                    n, p = number // out_h, number % out_h
                    row = p * stride - top + i
                    if not 0 <= row < height:
                        continue
                    none, b = zeros.ctypes.data, dy.ctypes.data + (number * out_w * c_out + v * VL) * 4
                    for j in range(0, kw, together):
                        before = left - j
                        low, high = -(-before // apart), -(-(width + before) // apart)
                        a = x.ctypes.data + (((n * height + row) * width - before) * channels + inputs) * 4
                        out = dw.ctypes.data + (((i * kw + j) * per_in + part * BLOCK) * c_out + v * VL) * 4
                        tap = per_in * c_out * 4
                        if together == 3 and stride == 1:
                            slide_weights_three(
                                mode, part, whole, a, x_step, low, high, none, b, dy_step, out, tap, dy_step
                            )
                        elif together == 3:
                            slide_weights_three_apart(
                                mode, part, whole, a, x_step, low, high, none, b, dy_step, out, tap, dy_step
                            )
                        else:
                            slide_weights_one(
                                mode, part, whole, a, x_step, low, high, none, b, dy_step, out, tap, dy_step
                            )
                        for q in range(whole, out_w):
                            skip = q * stride // apart
                            a_q, b_q = a + skip * x_step, b + q * dy_step
                            if together == 3:
                                slide_weights_three_single(
                                    mode, part, 1, a_q, x_step, low - skip, high - skip, none, b_q, dy_step, out, tap,
                                    dy_step,
                                )  # fmt: skip
                            else:
                                slide_weights_one_single(
                                    mode, part, 1, a_q, x_step, low - skip, high - skip, none, b_q, dy_step, out, tap,
                                    dy_step,
                                )  # fmt: skip
    return dw
