"""Changing the size of maps: every output row (backward: input row) is written by one thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import ResizeCache, UpsampleCache
from .machine.arguments import is_float32

SMALL = 1 << 14  # outputs below which NumPy is faster than starting the threads


@njit(cache=True, parallel=True, error_model="numpy")
def _repeat(x, scale, y):
    height, width, channels = x.shape[1:]
    for line in prange(x.shape[0] * height):
        n, row = line // height, line % height
        for i in range(scale):
            for col in range(width):
                cell = x[n, row, col]
                for j in range(scale):
                    out = y[n, row * scale + i, col * scale + j]
                    for c in range(channels):
                        out[c] = cell[c]


@njit(cache=True, parallel=True, error_model="numpy")
def _repeat_backward(dy, scale, dx):
    height, width, channels = dx.shape[1:]
    for line in prange(dx.shape[0] * height):
        n, row = line // height, line % height
        for col in range(width):
            cell = dx[n, row, col]
            for c in range(channels):
                cell[c] = dy[n, row * scale, col * scale, c]
            for i in range(scale):
                for j in range(scale):
                    if i > 0 or j > 0:
                        gradient = dy[n, row * scale + i, col * scale + j]
                        for c in range(channels):
                            cell[c] += gradient[c]


@njit(cache=True, parallel=True, error_model="numpy")
def _bilinear(x, low_y, high_y, fraction_y, low_x, high_x, fraction_x, y):
    """First down, then across, like the reference, and with its roundings."""
    width, channels = x.shape[2:]
    rows, columns = y.shape[1:3]
    one = np.float32(1)
    for line in prange(y.shape[0] * rows):
        n, row = line // rows, line % rows
        above, below, f = x[n, low_y[row]], x[n, high_y[row]], fraction_y[row]
        mixed = np.empty((width, channels), np.float32)
        for col in range(width):
            for c in range(channels):
                mixed[col, c] = above[col, c] * (one - f) + below[col, c] * f
        for col in range(columns):
            before, after, f = mixed[low_x[col]], mixed[high_x[col]], fraction_x[col]
            for c in range(channels):
                y[n, row, col, c] = before[c] * (one - f) + after[c] * f


@njit(cache=True, parallel=True, error_model="numpy")
def _pick(masks, rows, columns, out):
    for line in prange(out.shape[0] * out.shape[1]):
        g, i = line // out.shape[1], line % out.shape[1]
        source, target = masks[g, rows[i]], out[g, i]
        for j in range(columns.size):
            target[j] = source[columns[j]]


def upsample_nearest(x: np.ndarray, *, scale: int = 2) -> Any:
    """See ``mrcnn_np.ops.resize.upsample_nearest``."""
    if not is_float32(x) or x.ndim != 4 or not isinstance(scale, int) or scale < 1 or x.size * scale**2 < SMALL:
        return NotImplemented
    n, height, width, channels = x.shape
    y = np.empty((n, height * scale, width * scale, channels), np.float32)
    _repeat(np.ascontiguousarray(x), scale, y)
    return y, UpsampleCache(scale)


def upsample_nearest_backward(dy: np.ndarray, cache: UpsampleCache) -> Any:
    """See ``mrcnn_np.ops.resize.upsample_nearest_backward``."""
    (scale,) = cache
    if not is_float32(dy) or dy.size < SMALL or dy.shape[1] % scale or dy.shape[2] % scale:
        return NotImplemented
    dx = np.empty((dy.shape[0], dy.shape[1] // scale, dy.shape[2] // scale, dy.shape[3]), np.float32)
    _repeat_backward(np.ascontiguousarray(dy), scale, dx)
    return dx


def _is_size(size: Any) -> bool:
    return len(size) == 2 and min(size) >= 1


def _neighbours(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two cells that each of ``m`` outputs lies between, of ``n``, and the weight of the second."""
    scale = np.float64(np.float32(n) / np.float32(m))  # rounded like the reference's
    u = np.clip(((np.arange(m) + 0.5) * scale - 0.5).astype(np.float32), 0, n - 1)
    low = np.floor(u).astype(np.int64)
    return low, np.minimum(low + 1, n - 1), (u - low).astype(np.float32)


def resize_bilinear(image: np.ndarray, size: tuple[int, int]) -> Any:
    """See ``mrcnn_np.ops.resize.resize_bilinear``."""
    if not is_float32(image) or image.ndim not in (3, 4) or 0 in image.shape or not _is_size(size):
        return NotImplemented
    height, width, channels = image.shape[-3:]
    y = np.empty((*image.shape[:-3], *size, channels), np.float32)
    if y.size < SMALL:
        return NotImplemented
    maps = np.ascontiguousarray(image).reshape(-1, height, width, channels)
    _bilinear(maps, *_neighbours(height, size[0]), *_neighbours(width, size[1]), y.reshape(-1, *y.shape[-3:]))
    return y, ResizeCache((height, width), size)


def resize_nearest(masks: np.ndarray, size: tuple[int, int]) -> Any:
    """See ``mrcnn_np.ops.resize.resize_nearest``; for masks of bool."""
    if not isinstance(masks, np.ndarray) or masks.dtype != np.bool_ or masks.ndim != 3 or not _is_size(size):
        return NotImplemented
    if 0 in masks.shape or len(masks) * size[0] * size[1] < SMALL:
        return NotImplemented
    out = np.empty((len(masks), *size), np.bool_)
    rows, columns = (np.arange(m) * n // m for m, n in zip(size, masks.shape[1:]))
    _pick(np.ascontiguousarray(masks), rows, columns, out)
    return out
