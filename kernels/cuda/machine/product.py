"""Matrix products and convolutions without copies of windows: one kernel for A as it lies (``correlate``).

A convolution is a product of a matrix whose rows are the windows of the map, (pixels, taps x channels), by the weights,
(taps x channels, outputs). The matrix of windows is never written down: whoever loads its element (pixel, tap, channel)
into shared memory computes where in the map it lies ("implicit GEMM"). With one tap and rows for pixels the same kernel
is a plain matrix product.

What follows a convolution (batch norm's scale and shift, a residual block's sum, ReLU) is done before the tile leaves
the registers. Where the inner dimension was cut into parts, to have work for all multiprocessors, the parts go to
memory first, and ``add_parts`` adds them in their order. If it was not cut, a number is one sum over all of k, in
order; float32 all the way.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .carrying import carrying
from .device import Kernel, blocks_for, cuda, device_function, empty, float32, kernel, launch
from .tiles import SLAB, TILES, Tile, core, int32, plan, share, shared_left, shared_right
from .vectors import load4, store4

SCALE, SHIFT, RESIDUAL, RELU = 1, 2, 4, 8  # what is done with a result


class Reading(NamedTuple):
    """Where the rows of A lie: element (pixel, tap, channel) of a map x.

    There are ``pixels`` of the result, ``across`` in a line of it and ``area`` in an image. Pixel (image, p, q) and tap
    (i, j) meet at row ``p stride_y + i - pad_top`` and column ``q stride_x + j - pad_left`` of the map, which has
    ``height`` rows and ``width`` columns; outside there are zeros. A tap has ``channels`` (a multiple of 8; of 4 for
    ``gather_sums``), and there are ``taps_across`` taps in a line of ``taps``. The steps are distances in memory,
    counted in numbers: of images, rows and pixels of the map, and of the groups of channels.
    """

    pixels: int
    area: int
    across: int
    channels: int
    taps: int
    taps_across: int
    height: int
    width: int
    stride_y: int
    stride_x: int
    pad_top: int
    pad_left: int
    image_step: int
    row_step: int
    pixel_step: int
    group_step: int


class Weights(NamedTuple):
    """Where B lies: of tap (i, j) of group g at ``first + i tap_row_step + j tap_step + g group_step``.

    Element (channel, column) of a tap is ``channel line_step + column`` further, or, *transposed*,
    ``column line_step + channel``.
    """

    columns: int
    first: int
    tap_row_step: int
    tap_step: int
    line_step: int
    group_step: int


class Writing(NamedTuple):
    """Where the result lies: in memory, counted in numbers.

    Pixel (n, p, q) of group g begins at ``first + n image_step + p row_step + q pixel_step + g group_step``.
    ``scale_step``: distance of groups in scale and shift, ``part_step``: of the parts of a cut sum.
    """

    first: int
    image_step: int
    row_step: int
    pixel_step: int
    group_step: int
    scale_step: int
    part_step: int


@device_function
def finish(value, what, scale, shift, residual, channel, at):
    """Return the result for a sum: scaled, shifted, with the residual added, cut off at 0."""
    if what & SCALE:
        value *= scale[channel]
    if what & SHIFT:
        value += shift[channel]
    if what & RESIDUAL:
        value += residual[at]
    if what & RELU and value < float32(0):
        value = float32(0)
    return value


@functools.cache
def store_results(tile: Tile) -> Any:
    """Return the function that finishes a thread's 8 x 8 sums and writes them.

    Short loops, one after the other: the compiler unrolls short loops only, and sums stay in registers only if it does.
    """
    half_across = tile.warp_columns // 2

    @device_function
    def store(sums, targets, scale, shift, residual, out, what, first, columns, channels):
        factors = cuda.local.array(8, float32)
        if what & SCALE:
            for j in range(8):
                column = first + j // 4 * half_across + j % 4
                factors[j] = scale[channels + column] if column < columns else float32(0)
            for n in range(64):
                sums[n] *= factors[n % 8]
        if what & SHIFT:
            for j in range(8):
                column = first + j // 4 * half_across + j % 4
                factors[j] = shift[channels + column] if column < columns else float32(0)
            for n in range(64):
                sums[n] += factors[n % 8]
        if what & RESIDUAL:
            for n in range(0, 64, 4):
                column = first + n % 8 // 4 * half_across
                if targets[n // 8] >= 0 and column < columns:
                    p = load4(residual, targets[n // 8] + column)
                    sums[n] += p[0]
                    sums[n + 1] += p[1]
                    sums[n + 2] += p[2]
                    sums[n + 3] += p[3]
        if what & RELU:
            for n in range(64):
                sums[n] = float32(0) if sums[n] < float32(0) else sums[n]
        for n in range(0, 64, 4):
            column = first + n % 8 // 4 * half_across
            if targets[n // 8] >= 0 and column < columns:
                store4(out, targets[n // 8] + column, sums[n], sums[n + 1], sums[n + 2], sums[n + 3])

    return store


@functools.cache
def correlate_kernel(tile: Tile, transposed: bool) -> Kernel:
    """Return the kernel for a tile, and for weights as they lie or transposed ("turned" in the kernel's name)."""
    place, multiply, *_ = core(tile)
    find_windows, find_weights, under_tap, load_windows, load_weights, put_down = carrying(tile, transposed)
    store = store_results(tile)
    tile_rows, tile_columns, half_down = tile.rows, tile.columns, tile.warp_rows // 2
    left_size, right_size = shared_left(tile), shared_right(tile)
    loads_left, loads_right = share(tile.rows * SLAB // 4, tile.threads), share(tile.columns * SLAB // 4, tile.threads)
    a_size, b_size = loads_left * 4, loads_right * 4

    @kernel(
        *["f4[::1]"] * 6, "i4", "i4", *["i4"] * (len(Reading._fields) + len(Weights._fields) + len(Writing._fields)),
        name=f"correlate_{tile.name}" + "_turned" * transposed, launch_bounds=(tile.threads, tile.beside),
    )  # fmt: skip
    def correlate(
        x, w, scale, shift, residual, out, what, splits,
        pixels, area, across, channels, taps, taps_across, height, width, stride_y, stride_x, pad_top, pad_left,
        image_step, row_step, pixel_step, group_step,
        columns, w_first, w_tap_row, w_tap, w_line, w_group,
        out_first, out_image, out_row, out_pixel, out_group, out_scale, out_part,
    ):  # fmt: skip
        """Multiply windows of a map by weights: a tile of the result for each block (``tiles``).

        The arguments are those of ``Reading``, ``Weights`` (``w_``) and ``Writing`` (``out_``), in their order.
        Block x is the number of the tile; z that of the group and, in it, of the part of a cut sum.

        **Owns:** a thread, 8 x 8 numbers of the result. **Shared:** two slabs of windows (transposed) and two of
        weights. **No race:** a thread writes only what it owns; of the slabs, one half is written while the other is
        read, with a barrier between. **Floor:** 2 pixels columns K operations, at 67 TFLOP/s on an H100;
        K = taps x channels.
        """
        slabs_left = cuda.shared.array(left_size, float32, alignment=16)
        slabs_right = cuda.shared.array(right_size, float32, alignment=16)
        a = cuda.local.array(a_size, float32)
        b = cuda.local.array(b_size, float32)
        sums = cuda.local.array(64, float32)
        targets = cuda.local.array(8, np.int64)
        window = cuda.local.array(loads_left, int32)
        window_y = cuda.local.array(loads_left, int32)
        window_x = cuda.local.array(loads_left, int32)
        value = cuda.local.array(loads_left, int32)
        weight = cuda.local.array(loads_right, int32)
        t = int32(cuda.threadIdx.x)
        tiles_across = (columns + tile_columns - 1) // tile_columns
        first_row = int32(cuda.blockIdx.x // tiles_across * tile_rows)
        first_column = int32(cuda.blockIdx.x % tiles_across * tile_columns)
        which, part = int32(cuda.blockIdx.z // splits), int32(cuda.blockIdx.z % splits)
        my_row, my_column = place(t)
        find_windows(
            window, window_y, window_x, t, first_row, which * group_step, pixels, area, across, stride_y, stride_x,
            pad_top, pad_left, image_step, row_step, pixel_step,
        )  # fmt: skip
        find_weights(weight, t, first_column, columns, w_line)
        for i in range(64):
            sums[i] = float32(0)

        # this block's part of the slabs: from tap to tap, and in each from channel to channel
        per_tap = max(channels // SLAB, 1)  # where there are no channels, no division by 0
        begin = int32(taps * (channels // SLAB) * part // splits)
        end = int32(taps * (channels // SLAB) * (part + 1) // splits)
        tap_y, tap_x = int32(begin // per_tap // taps_across), int32(begin // per_tap % taps_across)
        channel = int32(begin % per_tap * SLAB)
        step = int32(SLAB if transposed else SLAB * w_line)
        w_first = int32(w_first + which * w_group)
        x_at = tap_y * row_step + tap_x * pixel_step + channel
        under_tap(value, window, window_y, window_x, tap_y, tap_x, x_at, height, width)
        w_at = int32(w_first + tap_y * w_tap_row + tap_x * w_tap + channel // SLAB * step)
        half = int32(0)
        # One turn more than there are slabs: the first only loads, the last only multiplies. A load does not stop a
        # thread; only the first use of its value does, and that is in ``put_down``, after the multiplications.
        for slab in range(begin, int32(end + 1)):
            if slab < end:  # the next one, on its way to registers
                load_windows(x, value, a)
                load_weights(w, w_at, weight, b)
                channel, w_at = int32(channel + SLAB), int32(w_at + step)
                if channel == channels:
                    channel, tap_x = int32(0), int32(tap_x + 1)
                    if tap_x == taps_across:
                        tap_x, tap_y = int32(0), int32(tap_y + 1)
                    x_at = tap_y * row_step + tap_x * pixel_step
                    under_tap(value, window, window_y, window_x, tap_y, tap_x, x_at, height, width)
                    w_at = int32(w_first + tap_y * w_tap_row + tap_x * w_tap)
            if slab > begin:
                multiply(slabs_left, slabs_right, int32(1 - half), my_row, my_column, sums)
            if slab < end:  # from registers to the half that nobody reads
                put_down(slabs_left, slabs_right, half, t, a, b)
            half = int32(1 - half)
            cuda.syncthreads()

        offset = out_first + which * out_group + part * out_part
        for i in range(8):
            at = first_row + my_row + i // 4 * half_down + i % 4
            rest = at % area
            targets[i] = offset + at // area * out_image + rest // across * out_row + rest % across * out_pixel
            if at >= pixels:
                targets[i] = -1
        store(sums, targets, scale, shift, residual, out, what, first_column + my_column, columns, which * out_scale)

    return correlate


@kernel(*["f4[::1]"] * 5, *["i4"] * 13)
def add_parts(
    parts, scale, shift, residual, out, what, splits,
    rows, area, across, columns, first, image_step, row_step, pixel_step, group_step, scale_step, products,
):  # fmt: skip
    """Add the parts of cut sums, in their order, and finish the results.

    **Owns:** a thread, one number of the result. **Shared:** nothing. **No race:** each writes its own. **Floor:** the
    parts are read once, the result is written once.
    """
    n = cuda.grid(1)
    size = rows * columns
    if n < size * products:
        which, rest = n // size, n % size
        total = float32(0)
        for part in range(splits):
            total += parts[(which * splits + part) * size + rest]
        at, column = rest // columns, rest % columns
        rest = at % area
        target = first + which * group_step + at // area * image_step + rest // across * row_step
        target += rest % across * pixel_step + column
        out[target] = finish(total, what, scale, shift, residual, which * scale_step + column, target)


def check_places(*arrays: Any) -> None:
    """Refuse arrays whose elements 32 bits do not number, as the kernels do to have registers left for sums."""
    for array in arrays:
        if array.size >= 1 << 31:
            raise ValueError(f"an array of shape {array.shape} has more than 2^31 elements: take a smaller batch")


def correlate(
    x: Any,
    w: Any,
    out: Any,
    reading: Reading,
    weights: Weights,
    writing: Writing,
    *,
    transposed: bool = False,
    products: int = 1,
    scale: Any = None,
    shift: Any = None,
    residual: Any = None,
    activate: bool = False,
) -> None:
    """Write ``products`` products (of groups of channels, or of a batch) of windows by weights to ``out``.

    ``x``, ``w`` and ``residual`` have to be aligned; columns and all distances have to be multiples of 4, channels a
    multiple of 8 (a slab).
    """
    rows, columns = reading.pixels, weights.columns
    if rows * columns * products == 0:
        return
    check_places(x, w)
    slabs = reading.taps * reading.channels // SLAB
    tile, splits = plan(rows, columns, slabs, products)
    # In the place of what is not there stands ``out``, which is never looked at with this ``what``
    extras = [out if extra is None else extra for extra in (scale, shift, residual)]
    what = SCALE * (scale is not None) + SHIFT * (shift is not None) + RESIDUAL * (residual is not None)
    what += RELU * activate
    body = correlate_kernel(tile, transposed)
    blocks = (blocks_for(rows, tile.rows) * blocks_for(columns, tile.columns), 1, products * splits)
    if splits == 1:
        launch(body, blocks, tile.threads, x, w, *extras, out, what, 1, *reading, *weights, *writing)
        return
    parts = empty((products * splits, rows, columns))
    dense = Writing(
        first=0, image_step=reading.area * columns, row_step=reading.across * columns, pixel_step=columns,
        group_step=splits * rows * columns, scale_step=0, part_step=rows * columns,
    )  # fmt: skip
    launch(body, blocks, tile.threads, x, w, *extras, parts, 0, splits, *reading, *weights, *dense)
    launch(
        add_parts, blocks_for(products * rows * columns, 256), 256, parts, *extras, out, what, splits, rows,
        reading.area, reading.across, columns, *writing[:6], products,
    )  # fmt: skip


for _tile in TILES:  # all that are ever launched, so that all can be compiled and looked at without a card
    for _transposed in (False, True):
        correlate_kernel(_tile, _transposed)
