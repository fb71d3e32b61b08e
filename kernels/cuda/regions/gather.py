"""Gradients of regions: each pixel collects what it is due, instead of each bin handing it out.

Regions overlap, so if bins added to pixels they would have to add atomically, and the order, and with it the last bits
of the sum, would depend on chance. Here a block of threads owns a tile of pixels. It goes through the regions in order,
skips those that do not touch its tile, and adds up in registers; each pixel is written once.

    for 256 regions at a time:
        each thread: does one of them touch the tile?                       -> a bit for each, in shared memory
        for each region that does, in order:
            ``gather``: the weights of the tile's rows and columns in its bins -> shared memory
            each thread: add what the bins of this region owe its pixels

``gather`` is for bins that share among pixels alike for all channels, so that weights are computed once for the tile.
``gather_won`` is for bins of which each channel was won by a pixel, or a sample, of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...scalar import ZERO, scalar
from ..machine.device import SIMULATED, blocks_for, cuda, device_function, empty, float32, kernel, launch

# A block's threads: channels, rows; columns and channels of a thread
ACROSS, ROWS, COLUMNS, EACH = (2, 2, 2, 2) if SIMULATED else (64, 4, 8, 4)
BINS_AT_ONCE = 2 if SIMULATED else 16  # bins of a region on an axis, whose weights are in shared memory
THREADS = ACROSS * ROWS
SIDE = 1 if SIMULATED else 2  # of the tile of ``gather_won``, whose threads have a pixel each
WON_THREADS = ACROSS * SIDE * SIDE
WARPS, WON_WARPS = -(-THREADS // 32), -(-WON_THREADS // 32)


@device_function
def _find_touching(reach, first, image, top, left, rows, columns, touching):
    """Write one bit for each of the next regions: does it touch this tile? All threads of the block call it.

    A warp votes: bit k is the answer of its k-th thread.
    """
    number = cuda.threadIdx.y * ACROSS + cuda.threadIdx.x
    r = first + number
    touches = (
        r < reach.shape[0]
        and reach[r, 0] == image
        and reach[r, 1] < top + rows
        and reach[r, 2] >= top
        and reach[r, 3] < left + columns
        and reach[r, 4] >= left
    )
    vote = cuda.ballot_sync(0xFFFFFFFF, touches)
    cuda.syncthreads()  # the bits before have been read
    if number % 32 == 0:
        touching[number // 32] = np.int64(vote) & 0xFFFFFFFF
    cuda.syncthreads()


def gather(name: str, weight: Callable[..., Any]) -> Any:
    """Return the kernel that adds up, in each pixel, weight(row) weight(column) dy over all bins.

    ``weight(axes, r, axis, bin, bins, size, pixel)`` is a scalar function: of ``axes`` (R, 2, 3), what describes region
    ``r`` on both axes, it makes the weight of a pixel in a bin on one of them: never negative, so that weights whose
    sum is 0 are all 0 (``_add_bins``).
    """

    @device_function
    def fill(axes, r, first_p, first_q, ph, pw, height, width, top, left, row_weight, column_weight):
        """Write the weights of the tile's lines in the next bins of a region, each entry by one thread."""
        number = cuda.threadIdx.y * ACROSS + cuda.threadIdx.x
        cuda.syncthreads()  # the weights before have been used
        for entry in range(number, (ROWS + COLUMNS) * BINS_AT_ONCE, THREADS):
            line, b = entry // BINS_AT_ONCE, entry % BINS_AT_ONCE
            if line < ROWS:
                p = first_p + b
                row_weight[line, b] = weight(axes, r, 0, p, ph, height, top + line) if p < ph else ZERO
            else:
                q, column = first_q + b, line - ROWS
                column_weight[column, b] = weight(axes, r, 1, q, pw, width, left + column) if q < pw else ZERO
        cuda.syncthreads()

    @kernel("f4[:,:,:,::1]", "f4[:,:,::1]", "i4[:,::1]", "i4", "f4[:,:,:,::1]", name=name)
    def body(dy, axes, reach, keep, dx):
        """Write the gradients of regions dy (R, ph, pw, C) to the pixels of dx (N, H, W, C).

        ``keep``: add to what dx holds. ``reach`` (R, 5) says which pixels a region can touch: its map, first row, last
        row, first column, last column.

        **Owns:** a block, the channels ``ACROSS x EACH`` of a tile of ``ROWS x COLUMNS`` pixels; a thread, one row of
        it and ``EACH`` channels, ``ACROSS`` apart, so that neighbours read and write neighbours. **Shared:** one bit
        for each of ``THREADS`` regions, and the weights of ``BINS_AT_ONCE`` bins, each entry written by one thread.
        **No race:** barriers part the writing of a table from its reading; every pixel has one owner, who adds in the
        order of regions and, in each, of bins (in groups of 16 x 16): the same bits each time. **Floor:** dx written
        once (read, too, if it is added to) and dy read once.
        """
        touching = cuda.shared.array(WARPS, np.int64)
        row_weight = cuda.shared.array((ROWS, BINS_AT_ONCE), float32)
        column_weight = cuda.shared.array((COLUMNS, BINS_AT_ONCE), float32)
        total = cuda.local.array((COLUMNS, EACH), float32)
        # Unsigned: a signed index may count from the end (a[-1]), which costs a test at every load
        channel = cuda.local.array(EACH, np.uint64)
        count, ph, pw, channels = dy.shape
        height, width = dx.shape[1], dx.shape[2]
        tiles_across = (width + COLUMNS - 1) // COLUMNS
        top, left = cuda.blockIdx.x // tiles_across * ROWS, cuda.blockIdx.x % tiles_across * COLUMNS
        first_channel = cuda.blockIdx.y * ACROSS * EACH + cuda.threadIdx.x
        line, image, touched = cuda.threadIdx.y, cuda.blockIdx.z, False
        for k in range(EACH):
            channel[k] = np.uint64(min(first_channel + k * ACROSS, channels - 1))
            for x in range(COLUMNS):
                total[x, k] = ZERO

        for first in range(0, count, THREADS):
            _find_touching(reach, first, image, top, left, ROWS, COLUMNS, touching)
            for warp in range(WARPS):
                bits = touching[warp]
                # All threads of the block read the same bits, so they go through the same regions and meet at the same
                # barriers (those of ``fill``)
                while bits != 0:
                    touched = True
                    r = first + 32 * warp + cuda.ffs(bits) - 1  # the lowest bit's number: ffs counts from 1
                    bits &= bits - 1  # and that bit cleared, so that regions come in order
                    for first_p in range(0, ph, BINS_AT_ONCE):
                        for first_q in range(0, pw, BINS_AT_ONCE):
                            fill(axes, r, first_p, first_q, ph, pw, height, width, top, left, row_weight, column_weight)
                            _add_bins(dy, r, first_p, first_q, row_weight[line], column_weight, channel, total)

        if keep and not touched:  # nothing to add to this tile
            return
        y = top + line
        for x in range(COLUMNS):
            for k in range(EACH):
                c = first_channel + k * ACROSS
                if y < height and left + x < width and c < channels:
                    dx[image, y, left + x, c] = total[x, k] + (dx[image, y, left + x, c] if keep else ZERO)

    return body


@scalar
def _add_bins(dy, r, first_p, first_q, row_weight, column_weight, channel, total):
    """Add what the next bins of a region give to the columns and channels of a thread.

    What is not finite goes, like all else, only to the columns that a bin touches: nothing is multiplied by 0.
    """
    for p in range(min(BINS_AT_ONCE, dy.shape[1] - first_p)):
        if row_weight[p] != ZERO:
            for q in range(min(BINS_AT_ONCE, dy.shape[2] - first_q)):
                here = ZERO
                for x in range(COLUMNS):
                    here += column_weight[x, q]
                if here != ZERO:
                    for k in range(EACH):
                        value = row_weight[p] * dy[r, first_p + p, first_q + q, channel[k]]
                        for x in range(COLUMNS):
                            if column_weight[x, q] != ZERO:
                                total[x, k] += value * column_weight[x, q]


def gather_won(
    name: str, axes_type: str, winner_type: str, covers: Callable[..., Any], share: Callable[..., Any]
) -> Any:
    """Return the kernel that adds up, in each pixel, what is due to it from the bins that it won.

    Scalar functions: ``covers(axes, r, axis, bin, bins, size, pixel)`` tells whether a bin can touch a pixel on one
    axis, and ``share(axes, r, p, q, winner, y, x, height, width)`` is the share of the pixel in a bin whose value
    ``winner`` won.
    """

    @kernel("f4[:,:,:,::1]", winner_type, axes_type, "i4[:,::1]", "i4", "f4[:,:,:,::1]", name=name)
    def body(dy, winner, axes, reach, keep, dx):
        """Write the gradients of regions dy (R, ph, pw, C) to the pixels of dx (N, H, W, C).

        ``keep``: add to what dx holds.

        **Owns:** a block, the channels ``ACROSS x EACH`` of a tile of ``SIDE x SIDE`` pixels; a thread, one of these
        pixels and ``EACH`` channels, ``ACROSS`` apart. **Shared:** a bit for each of the next regions, written by the
        first thread of a warp. **No race:** barriers part the writing of the bits from their reading; every pixel has
        one owner, who adds in the order of regions, rows of bins, columns of bins. **Floor:** dx written once, dy and
        winner read once; here both are read once for each pixel that a bin can touch.
        """
        touching = cuda.shared.array(WON_WARPS, np.int64)
        total = cuda.local.array(EACH, float32)
        count, ph, pw, channels = dy.shape
        height, width = dx.shape[1], dx.shape[2]
        tiles_across = (width + SIDE - 1) // SIDE
        top, left = cuda.blockIdx.x // tiles_across * SIDE, cuda.blockIdx.x % tiles_across * SIDE
        y, x = top + cuda.threadIdx.y // SIDE, left + cuda.threadIdx.y % SIDE
        first_channel = cuda.blockIdx.y * ACROSS * EACH + cuda.threadIdx.x
        image, touched = cuda.blockIdx.z, False
        for k in range(EACH):
            total[k] = ZERO

        for first in range(0, count, WON_THREADS):
            _find_touching(reach, first, image, top, left, SIDE, SIDE, touching)
            for warp in range(WON_WARPS):
                bits = touching[warp]
                while bits != 0:
                    touched = True
                    r = first + 32 * warp + cuda.ffs(bits) - 1  # as in ``gather``
                    bits &= bits - 1
                    for p in range(ph):
                        if covers(axes, r, 0, p, ph, height, y):
                            for q in range(pw):
                                if covers(axes, r, 1, q, pw, width, x):
                                    for k in range(EACH):
                                        c = first_channel + k * ACROSS
                                        if c < channels:
                                            part = share(axes, r, p, q, winner[r, p, q, c], y, x, height, width)
                                            if part != ZERO:
                                                total[k] += part * dy[r, p, q, c]

        if keep and not touched:
            return
        for k in range(EACH):
            c = first_channel + k * ACROSS
            if y < height and x < width and c < channels:
                dx[image, y, x, c] = total[k] + (dx[image, y, x, c] if keep else ZERO)

    return body


def launch_gather(body: Any, dy: Any, axes: Any, reach: Any, shape: tuple[int, ...], into: Any) -> Any:
    """Add gradients to ``into``, or return them in a new array of this shape (N, H, W, C)."""
    dx = empty(shape) if into is None else into
    tiles = blocks_for(shape[1], ROWS) * blocks_for(shape[2], COLUMNS)
    blocks = tiles, blocks_for(shape[3], ACROSS * EACH), shape[0]
    launch(body, blocks, (ACROSS, ROWS), dy, axes, reach, int(into is not None), dx)
    return dx


def launch_gather_won(
    body: Any, dy: Any, winner: Any, axes: Any, reach: Any, shape: tuple[int, ...], into: Any = None
) -> Any:
    """Do the same with bins that were won."""
    dx = empty(shape) if into is None else into
    tiles = blocks_for(shape[1], SIDE) * blocks_for(shape[2], SIDE)
    blocks = tiles, blocks_for(shape[3], ACROSS * EACH), shape[0]
    launch(body, blocks, (ACROSS, SIDE * SIDE), dy, winner, axes, reach, int(into is not None), dx)
    return dx
