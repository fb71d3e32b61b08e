"""Max pooling: the channel loop innermost, each output row (backward: input row) written by one thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import MaxPoolCache, pool_sizes
from .machine.arguments import is_float32

SMALL = 1 << 12  # outputs below which NumPy is faster than starting the threads


@njit(cache=True, parallel=True, error_model="numpy")
def _max_pool(x, kh, kw, sy, sx, top, left, y, winner):
    height, width, channels = x.shape[1:]
    rows, columns = y.shape[1:3]
    for line in prange(x.shape[0] * rows):
        n, p = line // rows, line % rows
        for q in range(columns):
            largest, first = y[n, p, q], winner[n, p, q]
            for c in range(channels):
                largest[c] = -np.inf
                first[c] = 0
            for i in range(max(0, top - p * sy), min(kh, height + top - p * sy)):
                for j in range(max(0, left - q * sx), min(kw, width + left - q * sx)):
                    cell, k = x[n, p * sy + i - top, q * sx + j - left], np.uint8(i * kw + j)
                    for c in range(channels):
                        value, best = cell[c], largest[c]
                        first[c] = k if value > best else first[c]  # not ">=": the first of equals stays
                        largest[c] = value if value > best or value != value else best


@njit(cache=True, parallel=True, error_model="numpy")
def _max_pool_backward(dy, winner, kh, kw, sy, sx, top, left, dx):
    """Each cell looks up the windows it lies in, by increasing position in the window, as the reference does."""
    height, width, channels = dx.shape[1:]
    rows, columns = dy.shape[1:3]
    for line in prange(dx.shape[0] * height):
        n, row = line // height, line % height
        for col in range(width):
            cell = dx[n, row, col]
            for c in range(channels):
                cell[c] = 0
            for i in range((row + top) % sy, kh, sy):
                p = (row + top - i) // sy
                if p < 0 or p >= rows:
                    continue
                for j in range((col + left) % sx, kw, sx):
                    q = (col + left - j) // sx
                    if q < 0 or q >= columns:
                        continue
                    k, gradient, won = np.uint8(i * kw + j), dy[n, p, q], winner[n, p, q]
                    for c in range(channels):
                        cell[c] += gradient[c] if won[c] == k else np.float32(0)


def max_pool2d(x: np.ndarray, *, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """See ``mrcnn_np.ops.pool.max_pool2d``."""
    sizes = pool_sizes(x.shape, kernel_size, stride, padding) if is_float32(x) else None
    if sizes is None or np.prod(sizes.out) < SMALL:
        return NotImplemented
    (kh, kw), (sy, sx), ((top, _), (left, _)), out = sizes
    y, winner = np.empty(out, np.float32), np.empty(out, np.uint8)
    _max_pool(np.ascontiguousarray(x), kh, kw, sy, sx, top, left, y, winner)
    return y, MaxPoolCache(winner, x.shape, *sizes[:3])


def max_pool2d_backward(dy: np.ndarray, cache: MaxPoolCache) -> Any:
    """See ``mrcnn_np.ops.pool.max_pool2d_backward``."""
    winner, shape, (kh, kw), (sy, sx), ((top, _), (left, _)) = cache
    if not is_float32(dy) or winner.dtype != np.uint8 or dy.shape != winner.shape or dy.size < SMALL:
        return NotImplemented
    dx = np.empty(shape, np.float32)
    _max_pool_backward(np.ascontiguousarray(dy), np.ascontiguousarray(winner), kh, kw, sy, sx, top, left, dx)
    return dx
