"""Max pooling. Threads of a warp take neighbouring groups of channels, then neighbouring columns.

ResNet's window, 3 x 3 cells, 2 apart, has kernels of its own: where the compiler knows how many cells there are, it
unrolls the loops and the card has several loads on their way at once.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..contract import MaxPoolCache, pool_sizes
from .machine.arguments import is_float32
from .machine.device import Kernel, aligned, cuda, device_function, empty, float32, int32, kernel, launch
from .machine.groups import group_width, loader, row_loader, storer
from .machine.maps import map_blocks

ZERO, LOWEST = np.float32(0), np.float32(-np.inf)
NOBODY = np.uint32(0xFFFFFFFF)  # no cell of a window has such a place
FIXED = (3, 3, 2, 2)  # the window that ResNet has, and its steps
WINDOW = ("i4",) * 6  # kh, kw, sy, sx, top, left


@device_function
def quotient(a, b):
    """Return a // b of numbers that are not negative, as 32 bits: a division of 64 takes as long as the rest."""
    return np.int64(np.uint32(a) // np.uint32(b))


@device_function
def within(n, end):
    """Return n, or what lies nearest to it of 0 to end - 1: a place that can be read."""
    return int32(min(max(n, int32(0)), end - int32(1)))


@functools.cache
def max_pool(width: int, fixed: bool) -> Kernel:
    """Return the kernel for groups of ``width`` channels, whose winners are one number: a byte for each channel.

    ``fixed``: for windows of 3 x 3 cells, 2 apart. If the compiler knows how many cells there are, it unrolls the loops
    and the card has all loads on their way at once.
    """
    load, store = loader(width), storer(width)
    winners = "u4[:,:,:,::1]" if width == 4 else "u1[:,:,:,::1]"

    @kernel("f4[:,:,:,::1]", *WINDOW, "f4[:,:,:,::1]", winners, name=f"max_pool_{'3_' if fixed else ''}{width}")
    def body(x, kh, kw, sy, sx, top, left, y, winner):
        """Write the largest value of each window and which cell it was.

        **Owns:** a thread, one group of channels of one cell of ``y`` and of ``winner``. Beyond the edge it reads the
        nearest cell, and takes no notice of it. **Shared:** nothing; windows overlap, but what neighbours
        read twice comes from the caches. **No race:** each writes its own. **Floor:** x read once, y and winner written
        once, so 4 (1 + 1.25 / (sy sx)) bytes an element of x.
        """
        height, across, channels = int32(x.shape[1]), int32(x.shape[2]), x.shape[3]
        rows, columns = y.shape[1:3]
        line = cuda.blockIdx.x
        q = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
        group = cuda.blockIdx.z * cuda.blockDim.x + cuda.threadIdx.x
        if q >= columns or group * width >= channels:
            return
        taps_down, taps_right = (3, 3) if fixed else (kh, kw)
        steps_down, steps_right = (2, 2) if fixed else (sy, sx)
        n = quotient(line, rows)
        row, column = int32((line - n * rows) * steps_down - top), int32(q * steps_right - left)
        best = cuda.local.array(width, float32)
        value = cuda.local.array(width, float32)
        first = cuda.local.array(width, np.uint32)
        for c in range(width):
            best[c] = LOWEST
            first[c] = 0
        for i in range(taps_down):
            for j in range(taps_right):
                r, s = int32(row + i), int32(column + j)
                inside = r >= 0 and r < height and s >= 0 and s < across
                cell = int32(int32(n * height + within(r, height)) * across + within(s, across))
                load(x, np.int64(cell) * channels + group * width, value)
                for c in range(width):
                    if inside and value[c] > best[c]:  # not ">=": the first of equals stays
                        first[c] = i * taps_right + j
                    if inside and (value[c] > best[c] or value[c] != value[c]):
                        best[c] = value[c]
        store(y, (line * columns + q) * channels + group * width, best)
        packed = np.uint32(0)
        for c in range(width):
            packed |= first[c] << np.uint32(8 * c)
        winner[n, line - n * rows, q, group] = packed

    return body


@functools.cache
def max_pool_gradient(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, store = loader(width), storer(width)
    winners = "u4[:,:,:,::1]" if width == 4 else "u1[:,:,:,::1]"

    @kernel("f4[:,:,:,::1]", winners, *WINDOW, "f4[:,:,:,::1]", name=f"max_pool_gradient_{width}")
    def body(dy, winner, kh, kw, sy, sx, top, left, dx):
        """Write for each cell the sum of dy over the windows that it won.

        **Owns:** a thread, one group of channels of one cell of ``dx``; it goes through the windows that the cell can
        lie in, from the last one on, in which its position is the lowest. **Shared:** nothing. **No race:** nobody else
        adds to its cell. **Floor:** dy and winner read once, dx written once: 4 (1 + 1.25 / (sy sx)) bytes an element
        of dx.
        """
        height, across, channels = dx.shape[1:]
        rows, columns = int32(dy.shape[1]), int32(dy.shape[2])
        line = cuda.blockIdx.x
        column = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
        group = cuda.blockIdx.z * cuda.blockDim.x + cuda.threadIdx.x
        if column >= across or group * width >= channels:
            return
        n = quotient(line, height)
        total = cuda.local.array(width, float32)
        gradient = cuda.local.array(width, float32)
        for c in range(width):
            total[c] = ZERO
        down, right = int32(line - n * height + top), int32(column + left)  # in the padded map
        last_p, last_q = int32(quotient(down, sy)), int32(quotient(right, sx))
        for a in range((kh + sy - 1) // sy):
            for b in range((kw + sx - 1) // sx):
                p, q = int32(last_p - a), int32(last_q - b)
                i, j = int32(down - p * sy), int32(right - q * sx)  # the cell's place in the window
                inside = p >= 0 and p < rows and q >= 0 and q < columns and i < kh and j < kw
                cell = int32(int32(n * rows + within(p, rows)) * columns + within(q, columns))
                load(dy, np.int64(cell) * channels + group * width, gradient)
                won = winner[n, within(p, rows), within(q, columns), group]
                place = np.uint32(i * kw + j)
                for c in range(width):
                    if inside and np.uint32(np.uint32(won >> np.uint32(8 * c)) & np.uint32(255)) == place:
                        total[c] += gradient[c]
        store(dx, (line * across + column) * channels + group * width, total)

    return body


@functools.cache
def max_pool_gradient_3(width: int) -> Kernel:
    """Return the kernel for windows of 3 x 3 cells, 2 apart, and groups of ``width`` channels."""
    load_row, store = row_loader(width), storer(width)
    winners = "u4[:,::1]" if width == 4 else "u1[:,::1]"

    @kernel("f4[:,:,:,::1]", winners, "i4", "i4", "f4[:,:,:,::1]", name=f"max_pool_gradient_3_{width}")
    def body(dy, winner, top, left, dx):
        """Write for each cell the sum of dy over the windows that it won; a row of ``winner`` is a cell of ``dy``.

        The padded map falls into squares of 2 x 2 cells, at even places. All four lie in the window that begins there,
        the upper two in the window above as well, the left two in the one to the left, and the upper left one in the
        window that lies both above and left: four windows, each read once.

        **Owns:** a thread, one group of channels of such a square of ``dx``; each cell adds its windows from the last
        one on, as in ``max_pool_gradient``. **Shared:** nothing. **No race:** nobody else adds to its cells.
        **Floor:** dy and winner read once, dx written once: 5.25 bytes an element of dx.
        """
        height, across, channels = dx.shape[1:]
        rows, columns = int32(dy.shape[1]), int32(dy.shape[2])
        squares = (height - 1 + top) // 2 + 1  # of a column
        n = quotient(cuda.blockIdx.x, squares)
        down = int32(cuda.blockIdx.x - n * squares)
        right = int32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
        group = cuda.blockIdx.z * cuda.blockDim.x + cuda.threadIdx.x
        if right * 2 - left >= across or group * width >= channels:
            return
        gradient = cuda.local.array((4, width), float32)
        won = cuda.local.array(4, np.uint32)
        total = cuda.local.array(width, float32)
        for window in range(4):
            p, q = int32(down - window // 2), int32(right - window % 2)
            cell = int32(int32(n * rows + within(p, rows)) * columns + within(q, columns))
            load_row(dy, np.int64(cell) * channels + group * width, gradient, window)
            won[window] = winner[cell, group]
            if p < 0 or p >= rows or q < 0 or q >= columns:
                won[window] = NOBODY
        for square in range(4):
            u, v = square // 2, square % 2
            row, column = int32(down * 2 + u - top), int32(right * 2 + v - left)
            for c in range(width):
                total[c] = ZERO
            for window in range(4):
                i, j = u + 2 * (window // 2), v + 2 * (window % 2)  # the cell's place in the window
                if i < 3 and j < 3:
                    for c in range(width):
                        if np.uint32(np.uint32(won[window] >> np.uint32(8 * c)) & np.uint32(255)) == i * 3 + j:
                            total[c] += gradient[window, c]
            if row >= 0 and row < height and column >= 0 and column < across:
                store(dx, ((n * height + row) * across + column) * channels + group * width, total)

    return body


for _width in (1, 4):  # so that all kernels are known
    max_pool(_width, False), max_pool(_width, True), max_pool_gradient(_width), max_pool_gradient_3(_width)


def _grouped(winner: Any, width: int) -> Any:
    """Return the winners of ``width`` channels as one number."""
    return winner.view(np.uint32) if width == 4 else winner


def max_pool2d(x: np.ndarray, *, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """See ``mrcnn_np.ops.pool.max_pool2d``."""
    sizes = pool_sizes(x.shape, kernel_size, stride, padding) if is_float32(x) else None
    if sizes is None:
        return NotImplemented
    (kh, kw), (sy, sx), ((top, _), (left, _)), out = sizes
    y, winner, width = empty(out), empty(out, np.uint8), group_width(out[3])
    blocks, threads = map_blocks(out, width)
    body = max_pool(width, (kh, kw, sy, sx) == FIXED)
    launch(body, blocks, threads, aligned(x), kh, kw, sy, sx, top, left, y, _grouped(winner, width))
    return y, MaxPoolCache(winner, x.shape, *sizes[:3])


def max_pool2d_backward(dy: np.ndarray, cache: MaxPoolCache) -> Any:
    """See ``mrcnn_np.ops.pool.max_pool2d_backward``."""
    winner, shape, (kh, kw), (sy, sx), ((top, _), (left, _)) = cache
    if not is_float32(dy) or winner.dtype != np.uint8 or dy.shape != winner.shape:
        return NotImplemented
    dx, width = empty(shape), group_width(shape[3])
    dy, winner = aligned(dy), _grouped(aligned(winner), width)
    if (kh, kw, sy, sx) == FIXED:
        n, height, across, channels = shape
        squares = n, (height - 1 + top) // 2 + 1, (across - 1 + left) // 2 + 1, channels
        flat = winner.reshape(-1, winner.shape[-1])
        launch(max_pool_gradient_3(width), *map_blocks(squares, width), dy, flat, top, left, dx)
    else:
        launch(max_pool_gradient(width), *map_blocks(shape, width), dy, winner, kh, kw, sy, sx, top, left, dx)
    return dx
