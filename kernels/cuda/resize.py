"""Changing the size of maps."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import scalar
from ..contract import ResizeCache, UpsampleCache
from .machine.arguments import is_float32
from .machine.device import (
    SIMULATED,
    Kernel,
    aligned,
    blocks_for,
    contiguous,
    cuda,
    empty,
    float32,
    is_device,
    kernel,
    launch,
)
from .machine.groups import group_width, loader, storer
from .machine.maps import map_blocks

THREADS = 16 if SIMULATED else 256  # of a block
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)


# --- repeating ------------------------------------------------------------------------------------------------------


@functools.cache
def repeat(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, store = loader(width), storer(width)

    @kernel("f4[:,:,:,::1]", "i4", "f4[:,:,:,::1]", name=f"repeat_{width}")
    def body(x, scale, y):
        """Write each cell to a block of ``scale`` x ``scale`` cells.

        **Owns:** a thread, the copies of one group of channels of one cell of ``x``. **Shared:** nothing. **No race:**
        each writes its own. **Floor:** x read once, y written once, 4 (1 + scale^2) bytes an element of x.
        """
        across, channels = x.shape[2:]
        line = cuda.blockIdx.x
        column = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
        channel = (cuda.blockIdx.z * cuda.blockDim.x + cuda.threadIdx.x) * width
        if column >= across or channel >= channels:
            return
        value = cuda.local.array(width, float32)
        load(x, (line * across + column) * channels + channel, value)
        for i in range(scale):
            for j in range(scale):
                store(y, ((line * scale + i) * across * scale + column * scale + j) * channels + channel, value)

    return body


@functools.cache
def gather(width: int, fixed: bool) -> Kernel:
    """Return the kernel for groups of ``width`` channels; ``fixed``: for blocks of 2 x 2 cells, read all at once."""
    load, store = loader(width), storer(width)

    @kernel("f4[:,:,:,::1]", "i4", "f4[:,:,:,::1]", name=f"repeat_gradient_{'2_' if fixed else ''}{width}")
    def body(dy, scale, dx):
        """Write for each cell the sum of dy over the ``scale`` x ``scale`` cells that it was copied to.

        **Owns:** a thread, one group of channels of one cell of ``dx``; it adds row by row. **Shared:** nothing.
        **No race:** nobody else adds to its cell. **Floor:** dy read once, dx written once, 4 (1 + scale^2) bytes an
        element of dx.
        """
        across, channels = dx.shape[2:]
        line = cuda.blockIdx.x
        column = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
        channel = (cuda.blockIdx.z * cuda.blockDim.x + cuda.threadIdx.x) * width
        if column >= across or channel >= channels:
            return
        times = 2 if fixed else scale
        total = cuda.local.array(width, float32)
        value = cuda.local.array(width, float32)
        for c in range(width):
            total[c] = ZERO
        for i in range(times):
            for j in range(times):
                load(dy, ((line * times + i) * across * times + column * times + j) * channels + channel, value)
                for c in range(width):
                    total[c] += value[c]
        store(dx, (line * across + column) * channels + channel, total)

    return body


def upsample_nearest(x: np.ndarray, *, scale: int = 2) -> Any:
    """See ``mrcnn_np.ops.resize.upsample_nearest``."""
    if not is_float32(x) or x.ndim != 4 or not isinstance(scale, int) or scale < 1:
        return NotImplemented
    n, height, across, channels = x.shape
    y, width = empty((n, height * scale, across * scale, channels)), group_width(channels)
    launch(repeat(width), *map_blocks(x.shape, width), aligned(x), scale, y)
    return y, UpsampleCache(scale)


def upsample_nearest_backward(dy: np.ndarray, cache: UpsampleCache) -> Any:
    """See ``mrcnn_np.ops.resize.upsample_nearest_backward``."""
    (scale,) = cache
    if not is_float32(dy) or dy.ndim != 4 or dy.shape[1] % scale or dy.shape[2] % scale:
        return NotImplemented
    n, height, across, channels = dy.shape
    dx, width = empty((n, height // scale, across // scale, channels)), group_width(channels)
    launch(gather(width, scale == 2), *map_blocks(dx.shape, width), aligned(dy), scale, dx)
    return dx


# --- interpolating --------------------------------------------------------------------------------------------------


@functools.cache
def interpolate(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, store = loader(width), storer(width)

    @kernel("f4[:,:,:,::1]", "f4", "f4", "f4[:,:,:,::1]", name=f"interpolate_{width}")
    def body(x, scale_y, scale_x, y):
        """Write the mean of four cells, first down, then across.

        **Owns:** a thread, one group of channels of one cell of ``y``. **Shared:** nothing; what neighbours read twice
        comes from the caches. **No race:** each writes its own. **Floor:** the cells that are read once and y written
        once, at most 4 (size of x + size of y) bytes.
        """
        height, across, channels = x.shape[1:]
        rows, columns = y.shape[1:3]
        line = cuda.blockIdx.x
        column = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
        channel = (cuda.blockIdx.z * cuda.blockDim.x + cuda.threadIdx.x) * width
        if column >= columns or channel >= channels:
            return
        n = line // rows
        top, bottom, down = scalar.resize_taps(line - n * rows, scale_y, height)
        left, right, over = scalar.resize_taps(column, scale_x, across)
        above, below = (n * height + top) * across, (n * height + bottom) * across
        a = cuda.local.array(width, float32)
        b = cuda.local.array(width, float32)
        c = cuda.local.array(width, float32)
        d = cuda.local.array(width, float32)
        load(x, (above + left) * channels + channel, a)
        load(x, (below + left) * channels + channel, b)
        load(x, (above + right) * channels + channel, c)
        load(x, (below + right) * channels + channel, d)
        for k in range(width):
            before = a[k] * (ONE - down) + b[k] * down
            after = c[k] * (ONE - down) + d[k] * down
            a[k] = before * (ONE - over) + after * over
        store(y, (line * columns + column) * channels + channel, a)

    return body


@kernel("f4[:,:,::1]", "f4", "f4[:,:,::1]")
def interpolate_gradient(dy, scale, dx):
    """Undo one axis of ``interpolate``: (outer, m, inner) gradients of the outputs to (outer, n, inner) of the cells.

    **Owns:** a thread, one element of ``dx``. It looks at the outputs whose place can lie within one cell of its own,
    by increasing number, and adds what it has given to them; the outermost cells also to all beyond. **Shared:**
    nothing. **No race:** nobody else adds to its element. **Floor:** dy read and dx written once.
    """
    n, inner = dx.shape[1:]
    outputs = dy.shape[1]
    i = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    outer, cell = cuda.blockIdx.x // n, cuda.blockIdx.x % n
    if i >= inner:
        return
    first: Any = 0 if cell == 0 else max(0, np.int32(math.floor((float32(cell) - HALF) / scale - HALF)) - 1)
    far = np.int32(math.ceil((float32(cell) + ONE + HALF) / scale - HALF)) + 2
    last: Any = outputs if cell == n - 1 else min(outputs, far)
    total = ZERO
    for output in range(first, last):
        low, high, fraction = scalar.resize_taps(output, scale, n)
        if low == cell:
            total += dy[outer, output, i] * (ONE - fraction)
        if high == cell:
            total += dy[outer, output, i] * fraction
    dx[outer, cell, i] = total


@kernel("u1[:,:,::1]", "u1[:,:,::1]")
def pick(masks, out):
    """Write the cell that each output lies in.

    **Owns:** a thread, one pixel of ``out``. **Shared:** nothing. **No race:** each writes its own. **Floor:** out
    written once, the cells that are read once.
    """
    rows, columns = out.shape[1:]
    g, row = cuda.blockIdx.x // rows, cuda.blockIdx.x % rows
    column = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        out[g, row, column] = masks[g, row * masks.shape[1] // rows, column * masks.shape[2] // columns]


for _width in (1, 4):  # so that all kernels are known
    repeat(_width), gather(_width, False), gather(_width, True), interpolate(_width)


def _is_size(size: Any) -> bool:
    return len(size) == 2 and all(isinstance(n, (int, np.integer)) and n >= 1 for n in size)


def _scale(n: int, m: int) -> np.float32:
    """Return the cells to one output: 1, so that all weights are 0 or 1, where the size stays."""
    return np.float32(n) / np.float32(m)


def resize_bilinear(image: np.ndarray, size: tuple[int, int]) -> Any:
    """See ``mrcnn_np.ops.resize.resize_bilinear``."""
    if not is_float32(image) or image.ndim not in (3, 4) or 0 in image.shape[-3:] or not _is_size(size):
        return NotImplemented
    height, across, channels = image.shape[-3:]
    y, width = empty((*image.shape[:-3], *size, channels)), group_width(channels)
    if not y.size:  # maps of no region
        return y, ResizeCache((height, across), size)
    maps, written = aligned(image).reshape(-1, height, across, channels), y.reshape(-1, *y.shape[-3:])
    scales = _scale(height, size[0]), _scale(across, size[1])
    launch(interpolate(width), *map_blocks(written.shape, width), maps, *scales, written)
    return y, ResizeCache((height, across), size)


def resize_bilinear_backward(dy: np.ndarray, cache: ResizeCache) -> Any:
    """See ``mrcnn_np.ops.resize.resize_bilinear_backward``."""
    (height, across), _ = cache
    if not is_float32(dy) or dy.ndim not in (3, 4) or 0 in dy.shape[-3:]:
        return NotImplemented
    *maps, rows, columns, channels = dy.shape
    if not dy.size:
        return empty((*maps, height, across, channels))
    narrow = _undo_axis(contiguous(dy).reshape(-1, columns, channels), across)
    return _undo_axis(narrow.reshape(-1, rows, across * channels), height).reshape(*maps, height, across, channels)


def _undo_axis(dy: Any, n: int) -> Any:
    """Return the gradient of an axis of ``n`` cells, the middle one."""
    outer, m, inner = dy.shape
    dx = empty((outer, n, inner))
    launch(interpolate_gradient, (outer * n, blocks_for(inner, THREADS)), THREADS, dy, _scale(n, m), dx)
    return dx


def resize_nearest(masks: np.ndarray, size: tuple[int, int]) -> Any:
    """See ``mrcnn_np.ops.resize.resize_nearest``; for masks of bool."""
    if not is_device(masks) or masks.dtype != np.bool_ or masks.ndim != 3 or not _is_size(size):
        return NotImplemented
    if 0 in masks.shape[1:]:
        return NotImplemented
    out = empty((len(masks), *size), np.bool_)
    blocks = len(masks) * size[0], blocks_for(size[1], THREADS)
    launch(pick, blocks, THREADS, contiguous(masks).view(np.uint8), out.view(np.uint8))
    return out
