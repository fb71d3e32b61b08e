"""ReLU, sigmoid and softmax: one pass over memory, with all threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from .. import scalar
from ..contract import ReluCache, SigmoidCache, SoftmaxCache
from .machine.arguments import is_float32
from .machine.exponential import exp_negative
from .machine.memory import empty, streams
from .machine.rows import copy_row, mask_and_add, mask_and_add_past
from .machine.simd import VL, fence

SMALL = 1 << 14  # elements below which NumPy is faster than starting the threads
SMALL_EXPONENTIAL = 1 << 10  # the same where each takes an exponential
BLOCK = 1 << 12  # elements of one task
NONE, NO_LABELS = np.empty(0, np.float32), np.empty(0, np.int64)


@njit(cache=True, parallel=True, error_model="numpy")
def _relu(x, y):
    for i in prange(x.size):
        y[i] = scalar.relu(x[i])


@njit(cache=True, parallel=True, error_model="numpy")
def _relu_backward(dy, y, dx):
    for i in prange(dy.size):
        dx[i] = scalar.relu_backward(dy[i], y[i])


@njit(cache=True, parallel=True, error_model="numpy")
def _masked_sum(dy, y, dx, partial, stream):
    """Write dy where y > 0, else 0, and sum it over the rows: every part of the rows has its own sums."""
    rows, c = dy.shape
    parts = partial.shape[0]
    for part in prange(parts):
        partial[part] = 0
        first, last = rows * part // parts, rows * (part + 1) // parts
        maps = (dy[first].ctypes.data, y[first].ctypes.data, dx[first].ctypes.data)
        total = (partial[part].ctypes.data,)
        if stream:
            mask_and_add_past(last - first, c * 4, c, maps, total)
            fence()
        else:
            mask_and_add(last - first, c * 4, c, maps, total)


def masked_sum(dy: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient that passes a ReLU and its sum over all but the last axis.

    The parts depend on the shape only, so the bits do not depend on the number of threads.
    """
    channels = dy.shape[-1]
    flat, mask = dy.reshape(-1, channels), np.ascontiguousarray(y).reshape(-1, channels)
    dx = empty(flat.shape)
    partial = np.empty((max(1, min(256, len(flat) // 64)), channels), np.float32)
    _masked_sum(flat, mask, dx, partial, streams(dx))
    return dx.reshape(dy.shape), partial.sum(axis=0)


@njit(cache=True, error_model="numpy", inline="never")
def _sigmoid_block(x, y):
    for i in range(x.size):
        y[i] = scalar.logistic(x[i], exp_negative(-abs(x[i])))


@njit(cache=True, parallel=True, error_model="numpy")
def _sigmoid(x, y):
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, min((block + 1) * BLOCK, x.size))
        _sigmoid_block(x[part], y[part])


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "nsz"}, inline="never")
def _softmax_row(line, shift, y):
    """Write exp(line - shift) over its sum, which is returned; ``line`` is whole vectors, and overwritten."""
    for k in range(line.size):
        line[k] = exp_negative(line[k] - shift)
    total = np.float32(0)
    for k in range(line.size):
        total += line[k]
    scale = np.float32(1) / total
    for k in range(y.size):
        y[k] = line[k] * scale
    return total


@njit(cache=True, parallel=True, error_model="numpy")
def softmax_rows(x, y, labels, total, logit):
    """Write the probabilities of the rows. With labels also the sums of exp(logit - largest) and the label's logit.

    That one is less the largest, too. Return how many labels are not in 0 .. K - 1.
    """
    rows, classes = x.shape
    tasks = (x.size + BLOCK - 1) // BLOCK
    wrong = 0
    for task in prange(tasks):
        line = np.empty((classes + VL - 1) // VL * VL, np.float32)  # whole vectors
        for r in range(rows * task // tasks, rows * (task + 1) // tasks):
            # exp(-infinity) adds nothing to the sum; that of a row with NaN is NaN, whatever is subtracted
            shift = copy_row(x[r].ctypes.data, classes, line.ctypes.data)
            whole = _softmax_row(line, shift, y[r])
            if labels.size > 0:
                total[r] = whole
                if 0 <= labels[r] < classes:
                    logit[r] = x[r, labels[r]] - shift
                else:
                    wrong += 1
    return wrong


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


def sigmoid(x: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.activation.sigmoid``."""
    if not is_float32(x) or x.size < SMALL_EXPONENTIAL:
        return NotImplemented
    y = np.empty(x.shape, np.float32)
    _sigmoid(np.ascontiguousarray(x).reshape(-1), y.reshape(-1))
    return y, SigmoidCache(y)


def softmax(x: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.activation.softmax``."""
    if not is_float32(x) or x.ndim == 0 or x.shape[-1] == 0 or x.size < SMALL_EXPONENTIAL:
        return NotImplemented
    y = np.empty(x.shape, np.float32)
    flat = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    softmax_rows(flat, y.reshape(flat.shape), NO_LABELS, NONE, NONE)
    return y, SoftmaxCache(y)
