"""Products whose A is transposed: the gradient of weights, windows times gradients (``gather_sums``).

Element ((tap, channel), column) of dw is a sum over all pixels: what the tap saw at the pixel, times dy there. So k is
the pixel, and neither slab has to be transposed: both are runs of channels as they lie in memory. Weights are few and
pixels many: to have work for all multiprocessors the pixels are cut into parts, whose sums ``add_parts`` adds in their
order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .carrying import OUTSIDE
from .device import Kernel, blocks_for, cuda, device_function, empty, float32, kernel, launch
from .product import Reading, Writing, add_parts, check_places, store_results
from .tiles import SLAB, TILES, Tile, core, int32, plan, share, shared_left, shared_right
from .vectors import load4, store4


class Carrying(NamedTuple):
    """What a thread does to bring slabs to shared memory, as functions for kernels."""

    find_windows: Callable[..., Any]
    find_gradients: Callable[..., Any]
    load_windows: Callable[..., Any]
    load_gradients: Callable[..., Any]
    put_down: Callable[..., Any]


@functools.cache
def carrying(tile: Tile) -> Carrying:
    """Return the functions of a tile. A thread loads four neighbouring channels of a pixel, on either side."""
    threads, line_left, line_right = tile.threads, tile.line_left, tile.line_right
    quads_left, quads_right = tile.rows // 4, tile.columns // 4  # in a line of a slab
    loads_left, loads_right = share(quads_left * SLAB, threads), share(quads_right * SLAB, threads)

    @device_function
    def find_windows(
        at, y, x, x_end, lines_to_go, t, first, first_pixel, area, across, channels, taps, taps_across, stride_y,
        stride_x, pad_top, pad_left, image_step, row_step, pixel_step, begin,
    ):  # fmt: skip
        """Write of each load where its tap stands over its first pixel, and the place of what it sees there.

        ``x_end``: the column at which the tap stands when a line of pixels is over; ``lines_to_go``: lines of pixels
        of the image, this one included. The map begins at ``begin``.
        """
        for n in range(loads_left):
            load = t + n * threads
            row = first + load % quads_left * 4  # of the result
            tap, channel = row // channels, row % channels
            pixel = first_pixel + load // quads_left
            p, q = pixel % area // across, pixel % area % across
            tap_y, tap_x = tap // taps_across - pad_top, tap % taps_across - pad_left
            y[n] = p * stride_y + tap_y if tap < taps else OUTSIDE
            x[n] = q * stride_x + tap_x
            x_end[n] = across * stride_x + tap_x
            lines_to_go[n] = area // across - p
            at[n] = (
                begin + channel + pixel // area * image_step
                + (p * stride_y + tap_y) * row_step + (q * stride_x + tap_x) * pixel_step
            )  # fmt: skip

    @device_function
    def find_gradients(gradient, t, first, pixel, columns, dy_step, begin):
        """Write where the gradients of each load lie for its first pixel."""
        for n in range(loads_right):
            load = t + n * threads
            column = first + load % quads_right * 4
            gradient[n] = begin + (pixel + load // quads_right) * dy_step + column
            if column >= columns or load >= quads_right * SLAB:  # the second is so with no tile of today
                gradient[n] = OUTSIDE

    @device_function
    def load_windows(
        maps, at, y, x, x_end, lines_to_go, t, left_over, height, width, slab, line, lines, stride_y, by_slab, by_line,
        by_image, a,
    ):  # fmt: skip
        """Load what the taps see at their pixels, while some are left, and go on by a slab of pixels.

        ``slab`` and ``line``: columns of the map that a slab and a line take. The place moves ``by_slab``, and more at
        the end of a line and of an image, which has ``lines``.
        """
        for n in range(loads_left):
            inside = y[n] >= 0 and y[n] < height and x[n] >= 0 and x[n] < width
            if inside and (t + n * threads) // quads_left < left_over:
                v = load4(maps, at[n])
                a[4 * n], a[4 * n + 1], a[4 * n + 2], a[4 * n + 3] = v
            else:
                for j in range(4):
                    a[4 * n + j] = float32(0)
            x[n] += slab
            at[n] += by_slab
            while x[n] >= x_end[n]:
                x[n] -= line
                y[n] += stride_y
                at[n] += by_line
                lines_to_go[n] -= 1
                if lines_to_go[n] == 0:
                    lines_to_go[n] = lines
                    y[n] -= lines * stride_y
                    at[n] += by_image

    @device_function
    def load_gradients(dy, gradient, end, step, b):
        """Load gradients, which lie before ``end``, and go on by a slab of pixels."""
        for n in range(loads_right):
            if gradient[n] >= 0 and gradient[n] < end:
                v = load4(dy, gradient[n])
                b[4 * n], b[4 * n + 1], b[4 * n + 2], b[4 * n + 3] = v
            else:
                for j in range(4):
                    b[4 * n + j] = float32(0)
            if gradient[n] >= 0:  # else it would come in from below
                gradient[n] += step

    @device_function
    def put_down(slabs_left, slabs_right, half, t, a, b):
        """Write what was loaded to one half of shared memory."""
        for n in range(loads_left):
            load = t + n * threads
            at = (half * SLAB + load // quads_left) * line_left + load % quads_left * 4
            store4(slabs_left, at, a[4 * n], a[4 * n + 1], a[4 * n + 2], a[4 * n + 3])
        for n in range(loads_right):
            load = t + n * threads
            if load < quads_right * SLAB:  # always, with the tiles of today
                at = (half * SLAB + load // quads_right) * line_right + load % quads_right * 4
                store4(slabs_right, at, b[4 * n], b[4 * n + 1], b[4 * n + 2], b[4 * n + 3])

    return Carrying(find_windows, find_gradients, load_windows, load_gradients, put_down)


@functools.cache
def gather_kernel(tile: Tile) -> Kernel:
    """Return the kernel for a tile."""
    place, multiply, *_ = core(tile)
    find_windows, find_gradients, load_windows, load_gradients, put_down = carrying(tile)
    store = store_results(tile)
    tile_rows, tile_columns, half_down = tile.rows, tile.columns, tile.warp_rows // 2
    left_size, right_size = shared_left(tile), shared_right(tile)
    loads_left, loads_right = share(tile.rows * SLAB // 4, tile.threads), share(tile.columns * SLAB // 4, tile.threads)
    a_size, b_size = loads_left * 4, loads_right * 4

    @kernel(
        "f4[::1]", "f4[::1]", "f4[::1]", *["i4"] * (len(Reading._fields) + 6),
        name=f"gather_sums_{tile.name}", launch_bounds=(tile.threads, tile.beside),
    )  # fmt: skip
    def gather_sums(
        x, dy, out, splits, columns, dy_pixel, dy_group, out_group, out_part,
        pixels, area, across, channels, taps, taps_across, height, width, stride_y, stride_x, pad_top, pad_left,
        image_step, row_step, pixel_step, group_step,
    ):  # fmt: skip
        """Multiply the transposed windows of a map by gradients: a tile of the result for each block (``tiles``).

        Block x is the number of the tile; z that of the product and, in it, of the part of the pixels.

        **Owns:** a thread, 8 x 8 numbers of the result, of one part of the pixels. **Shared:** two slabs of windows and
        two of gradients. **No race:** a thread writes only what it owns; of the slabs, one half is written while the
        other is read, with a barrier between. **Floor:** 2 taps channels columns pixels operations.
        """
        slabs_left = cuda.shared.array(left_size, float32, alignment=16)
        slabs_right = cuda.shared.array(right_size, float32, alignment=16)
        a = cuda.local.array(a_size, float32)
        b = cuda.local.array(b_size, float32)
        sums = cuda.local.array(64, float32)
        targets = cuda.local.array(8, np.int64)
        at = cuda.local.array(loads_left, int32)
        y = cuda.local.array(loads_left, int32)
        xx = cuda.local.array(loads_left, int32)
        x_end = cuda.local.array(loads_left, int32)
        lines_to_go = cuda.local.array(loads_left, int32)
        gradient = cuda.local.array(loads_right, int32)
        t = int32(cuda.threadIdx.x)
        rows = int32(taps * channels)
        tiles_across = (columns + tile_columns - 1) // tile_columns
        first_row = int32(cuda.blockIdx.x // tiles_across * tile_rows)
        first_column = int32(cuda.blockIdx.x % tiles_across * tile_columns)
        which, part = int32(cuda.blockIdx.z // splits), int32(cuda.blockIdx.z % splits)
        my_row, my_column = place(t)
        slabs = (pixels + SLAB - 1) // SLAB
        begin, end = int32(slabs * part // splits), int32(slabs * (part + 1) // splits)
        find_windows(
            at, y, xx, x_end, lines_to_go, t, first_row, begin * SLAB, area, across, channels, taps, taps_across,
            stride_y, stride_x, pad_top, pad_left, image_step, row_step, pixel_step, which * group_step,
        )  # fmt: skip
        find_gradients(gradient, t, first_column, begin * SLAB, columns, dy_pixel, which * dy_group)
        for i in range(64):
            sums[i] = float32(0)

        lines, step = int32(area // max(across, 1)), int32(SLAB * dy_pixel)
        by_slab = int32(SLAB * stride_x * pixel_step)
        by_line = int32(stride_y * row_step - across * stride_x * pixel_step)
        slab_columns, line_columns = int32(SLAB * stride_x), int32(across * stride_x)
        dy_end = int32(which * dy_group + pixels * dy_pixel)
        by_image = int32(image_step - lines * stride_y * row_step)
        left_over = int32(pixels - begin * SLAB)  # pixels from the next slab on
        half = int32(0)
        # One turn more than there are slabs: the first only loads, the last only multiplies
        for slab in range(begin, int32(end + 1)):
            if slab < end:  # the next one, on its way to registers
                load_windows(
                    x, at, y, xx, x_end, lines_to_go, t, left_over, height, width, slab_columns, line_columns, lines,
                    stride_y, by_slab, by_line, by_image, a,
                )  # fmt: skip
                load_gradients(dy, gradient, dy_end, step, b)
                left_over = int32(left_over - SLAB)
            if slab > begin:
                multiply(slabs_left, slabs_right, int32(1 - half), my_row, my_column, sums)
            if slab < end:  # from registers to the half that nobody reads
                put_down(slabs_left, slabs_right, half, t, a, b)
            half = int32(1 - half)
            cuda.syncthreads()

        for i in range(8):
            mine = first_row + my_row + i // 4 * half_down + i % 4
            targets[i] = which * out_group + part * out_part + mine * columns if mine < rows else -1
        # ``out`` stands for scale, shift and residual, which are never looked at with a ``what`` of 0
        store(sums, targets, out, out, out, out, 0, first_column + my_column, columns, 0)

    return gather_sums


def gather_sums(
    x: Any, dy: Any, out: Any, reading: Reading, columns: int, dy_pixel: int, dy_group: int, *, products: int = 1
) -> None:
    """Write ``products`` sums over pixels, each (taps, channels, columns), one after the other to ``out``.

    Pixel ``at`` of the gradients lies at ``at dy_pixel + product dy_group``. ``x`` and ``dy`` have to be aligned,
    columns, channels and all distances multiples of 4. Unless the pixels are cut into parts, a number is one sum over
    all of them, in order.
    """
    rows = reading.taps * reading.channels
    size = rows * columns
    if size * products == 0:
        return
    check_places(x, dy)
    tile, splits = plan(rows, columns, blocks_for(reading.pixels, SLAB), products)
    blocks = (blocks_for(rows, tile.rows) * blocks_for(columns, tile.columns), 1, products * splits)
    body, how = gather_kernel(tile), (columns, dy_pixel, dy_group)
    if splits == 1:
        launch(body, blocks, tile.threads, x, dy, out, 1, *how, size, 0, *reading)
        return
    parts = empty((products * splits, rows, columns))
    launch(body, blocks, tile.threads, x, dy, parts, splits, *how, splits * size, size, *reading)
    dense = Writing(
        first=0, image_step=size, row_step=size, pixel_step=columns, group_step=size, scale_step=0, part_step=0
    )  # fmt: skip
    # ``out`` stands for scale, shift and residual, which are never looked at with a ``what`` of 0
    launch(
        add_parts, blocks_for(products * size, 256), 256, parts, out, out, out, out, 0, splits, rows, rows, rows,
        columns, *dense[:6], products,
    )  # fmt: skip


for _tile in TILES:
    gather_kernel(_tile)
