"""ReLU. The loops only move memory, so what counts is to pass over it once, with all threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from .arguments import is_float32

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


def relu(x: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.activation.relu``."""
    if not is_float32(x) or x.size < SMALL:
        return NotImplemented
    x = np.ascontiguousarray(x)
    y = np.empty_like(x)
    _relu(x.reshape(-1), y.reshape(-1))
    return y, (y,)


def relu_backward(dy: np.ndarray, cache: tuple[Any, ...]) -> Any:
    """See ``mrcnn_np.ops.activation.relu_backward``."""
    (y,) = cache
    if not is_float32(dy, y) or dy.shape != y.shape or dy.size < SMALL:
        return NotImplemented
    dy, y = np.ascontiguousarray(dy), np.ascontiguousarray(y)
    dx = np.empty_like(dy)
    _relu_backward(dy.reshape(-1), y.reshape(-1), dx.reshape(-1))
    return dx
