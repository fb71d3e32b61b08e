"""Max pooling. Threads of a warp take neighbouring groups of channels, then neighbouring columns."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..contract import MaxPoolCache, as_padding, as_pair
from .machine.arguments import is_float32
from .machine.device import Kernel, aligned, cuda, device_function, empty, float32, kernel, launch
from .machine.groups import group_width, loader, storer
from .machine.maps import map_blocks

ZERO, LOWEST = np.float32(0), np.float32(-np.inf)
WINDOW = ("i4",) * 6  # kh, kw, sy, sx, top, left


@device_function
def quotient(a, b):
    """Return a // b of numbers that are not negative, as 32 bits: a division of 64 takes as long as the rest."""
    return np.int64(np.uint32(a) // np.uint32(b))


@functools.cache
def max_pool(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels, whose winners are one number: a byte for each channel."""
    load, store = loader(width), storer(width)
    winners = "u4[:,:,:,::1]" if width == 4 else "u1[:,:,:,::1]"

    @kernel("f4[:,:,:,::1]", *WINDOW, "f4[:,:,:,::1]", winners, name=f"max_pool_{width}")
    def body(x, kh, kw, sy, sx, top, left, y, winner):
        """Write the largest value of each window and which cell it was.

        A thread owns one group of channels of one cell of ``y`` and of ``winner``. Nothing is shared; windows overlap,
        but what neighbours read twice comes from the caches. Floor: x read once, y and winner written once, so
        4 (1 + 1.25 / (sy sx)) bytes an element of x.
        """
        height, across, channels = x.shape[1:]
        rows, columns = y.shape[1:3]
        line = cuda.blockIdx.x
        q = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
        group = cuda.blockIdx.z * cuda.blockDim.x + cuda.threadIdx.x
        if q >= columns or group * width >= channels:
            return
        n = quotient(line, rows)
        row, column = (line - n * rows) * sy - top, q * sx - left
        best = cuda.local.array(width, float32)
        value = cuda.local.array(width, float32)
        first = cuda.local.array(width, np.uint32)
        for c in range(width):
            best[c] = LOWEST
            first[c] = 0
        for i in range(max(0, -row), min(kh, height - row)):
            for j in range(max(0, -column), min(kw, across - column)):
                load(x, ((n * height + row + i) * across + column + j) * channels + group * width, value)
                for c in range(width):
                    if value[c] > best[c]:  # not ">=": the first of equals stays
                        first[c] = i * kw + j
                    if value[c] > best[c] or value[c] != value[c]:
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

        A thread owns one group of channels of one cell of ``dx`` and goes through the windows it lies in. It begins
        with the last one, in which its position is the lowest; nobody else adds to its cell. Nothing is shared. Floor:
        dy and winner read once, dx written once: 4 (1 + 1.25 / (sy sx)) bytes an element of dx.
        """
        height, across, channels = dx.shape[1:]
        rows, columns = dy.shape[1:3]
        line = cuda.blockIdx.x
        column = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
        group = cuda.blockIdx.z * cuda.blockDim.x + cuda.threadIdx.x
        if column >= across or group * width >= channels:
            return
        n = quotient(line, height)
        row = line - n * height
        total = cuda.local.array(width, float32)
        gradient = cuda.local.array(width, float32)
        for c in range(width):
            total[c] = ZERO
        down, right = row + top, column + left  # in the padded map
        last_p, last_q = min(quotient(down, sy), rows - 1), min(quotient(right, sx), columns - 1)
        first_p = quotient(max(down - kh + sy, 0), sy)  # the first window that reaches so far
        first_q = quotient(max(right - kw + sx, 0), sx)
        for p in range(last_p, first_p - 1, -1):
            for q in range(last_q, first_q - 1, -1):
                cell = (down - p * sy) * kw + right - q * sx
                load(dy, ((n * rows + p) * columns + q) * channels + group * width, gradient)
                won = np.int64(winner[n, p, q, group])
                for c in range(width):
                    if (won >> (8 * c)) & 255 == cell:
                        total[c] += gradient[c]
        store(dx, (line * across + column) * channels + group * width, total)

    return body


for _width in (1, 4):  # so that all kernels are known
    max_pool(_width), max_pool_gradient(_width)


def _grouped(winner: Any, width: int) -> Any:
    """Return the winners of ``width`` channels as one number."""
    return winner.view(np.uint32) if width == 4 else winner


def max_pool2d(x: np.ndarray, *, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """See ``mrcnn_np.ops.pool.max_pool2d``."""
    kernel_sides, sides = as_pair(kernel_size), as_padding(padding)
    steps = kernel_sides if stride is None else as_pair(stride)
    if kernel_sides is None or steps is None or sides is None or not is_float32(x) or x.ndim != 4 or 0 in x.shape:
        return NotImplemented
    (kh, kw), (sy, sx), ((top, bottom), (left, right)) = kernel_sides, steps, sides
    rows, columns = (x.shape[1] + top + bottom - kh) // sy + 1, (x.shape[2] + left + right - kw) // sx + 1
    if kh * kw > 256 or max(top, bottom) >= kh or max(left, right) >= kw or min(rows, columns) < 1:
        return NotImplemented
    shape = (x.shape[0], rows, columns, x.shape[3])
    y, winner, width = empty(shape), empty(shape, np.uint8), group_width(x.shape[3])
    blocks, threads = map_blocks(shape, width)
    launch(max_pool(width), blocks, threads, aligned(x), kh, kw, sy, sx, top, left, y, _grouped(winner, width))
    return y, MaxPoolCache(winner, x.shape, kernel_sides, steps, sides)


def max_pool2d_backward(dy: np.ndarray, cache: MaxPoolCache) -> Any:
    """See ``mrcnn_np.ops.pool.max_pool2d_backward``."""
    winner, shape, (kh, kw), (sy, sx), ((top, _), (left, _)) = cache
    if not is_float32(dy) or winner.dtype != np.uint8 or dy.shape != winner.shape:
        return NotImplemented
    dx, width = empty(shape), group_width(shape[3])
    blocks, threads = map_blocks(shape, width)
    winner = _grouped(aligned(winner), width)
    launch(max_pool_gradient(width), blocks, threads, aligned(dy), winner, kh, kw, sy, sx, top, left, dx)
    return dx
