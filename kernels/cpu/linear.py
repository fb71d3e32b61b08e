"""Fully connected layer: products of matrices, see ``machine.product``; and sums over the rows of a map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import LinearCache
from .machine.arguments import is_float32
from .machine.product import multiply

# Multiplications below which BLAS is faster than copying. It must not start threads of its own, which wait for more
# work in a busy loop and take the cores from ours: OpenBLAS does so from 2^18 on.
SMALL = 1 << 17
SMALL_SUM = 1 << 14


@njit(cache=True, parallel=True, error_model="numpy")
def sum_rows(x):
    """Return the sum over the rows of (P, C): 64 partial sums of fixed rows, so that threads do not matter."""
    pixels, c = x.shape
    partial = np.zeros((64, c), np.float32)
    for part in prange(64):
        for p in range(pixels * part // 64, pixels * (part + 1) // 64):
            for j in range(c):
                partial[part, j] += x[p, j]
    total = np.zeros(c, np.float32)
    for part in range(64):
        for j in range(c):
            total[j] += partial[part, j]
    return total


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> Any:
    """See ``mrcnn_np.ops.linear.linear``."""
    if not is_float32(x, w) or x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
        return NotImplemented
    if x.size * w.shape[1] < max(1, SMALL):
        return NotImplemented
    if b is not None and (not is_float32(b) or b.shape != w.shape[1:]):
        return NotImplemented
    x, w = np.ascontiguousarray(x), np.ascontiguousarray(w)
    return multiply(x, w, shift=b), LinearCache(x, w, b is not None)


def linear_backward(dy: np.ndarray, cache: LinearCache) -> Any:
    """See ``mrcnn_np.ops.linear.linear_backward``."""
    x, w, has_bias = cache
    if not is_float32(dy, x, w) or dy.shape != (len(x), w.shape[1]) or x.size * w.shape[1] < max(1, SMALL):
        return NotImplemented
    dy, x, w = np.ascontiguousarray(dy), np.ascontiguousarray(x), np.ascontiguousarray(w)
    return multiply(dy, w, turn_b=True), multiply(x, dy, turn_a=True), sum_rows(dy) if has_bias else None


def channel_sum(x: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.linear.channel_sum``."""
    if not is_float32(x) or x.ndim < 2 or x.size < SMALL_SUM:
        return NotImplemented
    return sum_rows(np.ascontiguousarray(x).reshape(-1, x.shape[-1]))
