"""ReLU. The loops only move memory, so what counts is to pass over it once, with all threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import ReluCache
from .machine.arguments import is_float32
from .machine.memory import empty

SMALL = 1 << 14  # elements below which NumPy is faster than starting the threads


@njit(cache=True, parallel=True, error_model="numpy")
def _relu(x, y):
    for i in prange(x.size):
        value = x[i]
        y[i] = np.float32(0) if value < np.float32(0) else value  # NaN compares false and stays


@njit(cache=True, parallel=True, error_model="numpy")
def _relu_backward(dy, y, dx):
    for i in prange(dy.size):
        dx[i] = dy[i] * (np.float32(0) if y[i] <= np.float32(0) else np.float32(1))


@njit(cache=True, parallel=True, error_model="numpy")
def _masked_sum(dy, y, dx, partial):
    """Write dy where y > 0, else 0, and sum it over the rows: every part of the rows has its own sums."""
    rows, c = dy.shape
    parts = partial.shape[0]
    for part in prange(parts):
        total = partial[part]
        total[:] = 0
        for row in range(rows * part // parts, rows * (part + 1) // parts):
            source, mask, target = dy[row], y[row], dx[row]
            for j in range(c):
                value = source[j] * (np.float32(0) if mask[j] <= np.float32(0) else np.float32(1))
                target[j] = value
                total[j] += value


def masked_sum(dy: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient that passes a ReLU and its sum over all but the last axis.

    The parts depend on the shape only, so the bits do not depend on the number of threads.
    """
    channels = dy.shape[-1]
    flat, mask = dy.reshape(-1, channels), np.ascontiguousarray(y).reshape(-1, channels)
    dx = empty(flat.shape)
    partial = np.empty((max(1, min(256, len(flat) // 64)), channels), np.float32)
    _masked_sum(flat, mask, dx, partial)
    return dx.reshape(dy.shape), partial.sum(axis=0)


def relu(x: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.activation.relu``."""
    if not is_float32(x) or x.size < SMALL:
        return NotImplemented
    x = np.ascontiguousarray(x)
    y = empty(x.shape)
    _relu(x.reshape(-1), y.reshape(-1))
    return y, ReluCache(y)


def relu_backward(dy: np.ndarray, cache: ReluCache) -> Any:
    """See ``mrcnn_np.ops.activation.relu_backward``."""
    (y,) = cache
    if not is_float32(dy, y) or dy.shape != y.shape or dy.size < SMALL:
        return NotImplemented
    dy, y = np.ascontiguousarray(dy), np.ascontiguousarray(y)
    dx = empty(dy.shape)
    _relu_backward(dy.reshape(-1), y.reshape(-1), dx.reshape(-1))
    return dx
