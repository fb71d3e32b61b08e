"""How the slabs of a product come from memory to shared memory: windows of a map on the left, weights on the right."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from .device import device_function, float32
from .tiles import SLAB, Tile, core, int32, share
from .vectors import load4, store4

OUTSIDE = -(1 << 28)  # a row of a map that no tap reaches; a place that is not read


class Carrying(NamedTuple):
    """What a thread does to bring slabs to shared memory, as functions for kernels."""

    find_windows: Callable[..., Any]
    find_weights: Callable[..., Any]
    under_tap: Callable[..., Any]
    load_windows: Callable[..., Any]
    load_weights: Callable[..., Any]
    put_down: Callable[..., Any]


@functools.cache
def carrying(tile: Tile, transposed: bool) -> Carrying:
    """Return the functions of a tile; ``transposed``: of weights that lie transposed.

    A thread always loads four neighbours in memory: of the windows, four channels of the slab's eight, so two threads
    share a window; of the weights, four columns of one channel, or, transposed, four channels of one column.
    """
    threads, quads_line, quads_right = tile.threads, tile.columns // 4, tile.columns * SLAB // 4
    loads_left, loads_right = share(tile.rows * SLAB // 4, threads), share(quads_right, threads)
    line_left, line_right = tile.line_left, tile.line_right
    spare = quads_right < threads  # some threads carry no weights: so with no tile of today
    transpose_in = core(tile).transpose_in

    @device_function
    def find_windows(
        window, window_y, window_x, t, first, begin, pixels, area, across, stride_y, stride_x, pad_top, pad_left,
        image_step, row_step, pixel_step,
    ):  # fmt: skip
        """Write row, column and place of the first tap of the thread's windows, in a map from ``begin`` on."""
        for n in range(loads_left):
            at = first + (t + n * threads) // 2
            rest = at % area
            y = rest // across * stride_y - pad_top
            x = rest % across * stride_x - pad_left
            window[n] = begin + at // area * image_step + y * row_step + x * pixel_step + t % 2 * 4
            window_y[n] = y if at < pixels else OUTSIDE
            window_x[n] = x

    @device_function
    def find_weights(weight, t, first, columns, line):
        """Write where the thread's weights lie, seen from the first channel of the slab."""
        for n in range(loads_right):
            load = t + n * threads
            if transposed:
                column = first + load // 2
                weight[n] = column * line + load % 2 * 4
            else:
                column = first + load % quads_line * 4
                weight[n] = load // quads_line * line + column
            if column >= columns or load >= quads_right:  # the second is so with no tile of today
                weight[n] = OUTSIDE

    @device_function
    def under_tap(value, window, window_y, window_x, tap_y, tap_x, at, height, width):
        """Write where the windows' values under a tap lie, ``at`` beyond the first one.

        Called once for each tap; within a tap ``load_windows`` moves the places on by 8 channels itself.
        """
        for n in range(loads_left):
            y, x = int32(window_y[n] + tap_y), int32(window_x[n] + tap_x)
            inside = y >= 0 and y < height and x >= 0 and x < width
            value[n] = window[n] + at if inside else OUTSIDE

    @device_function
    def load_windows(x, value, a):
        """Load the windows' values, zeros outside the map, and go on to the next channels."""
        for n in range(loads_left):
            if value[n] >= 0:
                p = load4(x, value[n])
                a[4 * n], a[4 * n + 1], a[4 * n + 2], a[4 * n + 3] = p
                value[n] += SLAB
            else:
                for j in range(4):
                    a[4 * n + j] = float32(0)

    @device_function
    def load_weights(w, at, weight, b):
        """Load weights from ``at`` on; zeros beyond the last column."""
        for n in range(loads_right):
            if weight[n] >= 0:
                p = load4(w, int32(weight[n] + at))
                b[4 * n], b[4 * n + 1], b[4 * n + 2], b[4 * n + 3] = p
            else:
                for j in range(4):
                    b[4 * n + j] = float32(0)

    @device_function
    def put_down(slabs_left, slabs_right, half, t, a, b):
        """Write what was loaded to one half of shared memory."""
        for n in range(loads_left):
            transpose_in(slabs_left, line_left, half, t % 2 * 4, (t + n * threads) // 2, a, n)
        for n in range(loads_right):
            load = t + n * threads
            if not spare or load < quads_right:
                if transposed:
                    transpose_in(slabs_right, line_right, half, load % 2 * 4, load // 2, b, n)
                else:
                    at = (half * SLAB + load // quads_line) * line_right + load % quads_line * 4
                    store4(slabs_right, at, b[4 * n], b[4 * n + 1], b[4 * n + 2], b[4 * n + 3])

    return Carrying(find_windows, find_weights, under_tap, load_windows, load_weights, put_down)
