"""Sigmoid, softmax and their cross entropies, each in one pass.

Smooth L1 has no kernel: it compares a few hundred boxes, which takes NumPy less time than a kernel takes to start.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import SigmoidCache, SigmoidCrossEntropyCache, SoftmaxCache, SoftmaxCrossEntropyCache
from .machine.arguments import is_float32
from .machine.exponential import exp_negative, log_one_plus
from .machine.rows import copy_row
from .machine.simd import VL

SMALL = 1 << 10  # elements below which NumPy is as fast
BLOCK = 1 << 12  # elements of one task
NONE, NO_LABELS = np.empty(0, np.float32), np.empty(0, np.int64)


@njit(cache=True, error_model="numpy", inline="never")
def _sigmoid_block(x, y):
    for i in range(x.size):
        e = exp_negative(-abs(x[i]))
        near = np.float32(1) / (np.float32(1) + e)
        y[i] = near if x[i] >= np.float32(0) else e * near


@njit(cache=True, parallel=True, error_model="numpy")
def _sigmoid(x, y):
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, min((block + 1) * BLOCK, x.size))
        _sigmoid_block(x[part], y[part])


@njit(cache=True, error_model="numpy", inline="never")
def _cross_entropy_block(x, t, loss):
    """Write the losses; return whether all targets are in [0, 1] (or NaN, which shows in the loss)."""
    outside = np.int32(0)
    for i in range(x.size):
        outside |= np.int32(t[i] < np.float32(0)) | np.int32(t[i] > np.float32(1))
        positive = np.float32(0) if x[i] < np.float32(0) else x[i]
        loss[i] = positive - x[i] * t[i] + log_one_plus(exp_negative(-abs(x[i])))
    return outside == 0


@njit(cache=True, parallel=True, error_model="numpy")
def _cross_entropy(x, t, loss):
    wrong = 0
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, min((block + 1) * BLOCK, x.size))
        if not _cross_entropy_block(x[part], t[part], loss[part]):
            wrong += 1
    return wrong == 0


@njit(cache=True, error_model="numpy", inline="never")
def _cross_entropy_backward_block(dloss, x, t, dx):
    for i in range(x.size):
        e = exp_negative(-abs(x[i]))
        near = np.float32(1) / (np.float32(1) + e)
        dx[i] = dloss[i] * ((near if x[i] >= np.float32(0) else e * near) - t[i])


@njit(cache=True, parallel=True, error_model="numpy")
def _cross_entropy_backward(dloss, x, t, dx):
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, min((block + 1) * BLOCK, x.size))
        _cross_entropy_backward_block(dloss[part], x[part], t[part], dx[part])


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
def _softmax(x, y, labels, total, logit):
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


def sigmoid(x: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.activation.sigmoid``."""
    if not is_float32(x) or x.size < SMALL:
        return NotImplemented
    y = np.empty(x.shape, np.float32)
    _sigmoid(np.ascontiguousarray(x).reshape(-1), y.reshape(-1))
    return y, SigmoidCache(y)


def softmax(x: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.activation.softmax``."""
    if not is_float32(x) or x.ndim == 0 or x.shape[-1] == 0 or x.size < SMALL:
        return NotImplemented
    y = np.empty(x.shape, np.float32)
    flat = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    _softmax(flat, y.reshape(flat.shape), NO_LABELS, NONE, NONE)
    return y, SoftmaxCache(y)


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.losses.softmax_cross_entropy``."""
    if not is_float32(logits) or logits.ndim != 2 or 0 in logits.shape or logits.size < SMALL:
        return NotImplemented
    labels = np.asarray(labels)
    if labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        return NotImplemented
    probabilities = np.empty(logits.shape, np.float32)
    total, logit = np.empty(len(labels), np.float32), np.empty(len(labels), np.float32)
    places = np.ascontiguousarray(labels, np.int64)
    if _softmax(np.ascontiguousarray(logits), probabilities, places, total, logit):
        return NotImplemented
    return np.log(total) - logit, SoftmaxCrossEntropyCache(probabilities, labels)


def sigmoid_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.losses.sigmoid_cross_entropy``."""
    if not is_float32(logits, targets) or targets.shape != logits.shape or logits.size < SMALL:
        return NotImplemented
    loss = np.empty(logits.shape, np.float32)
    x, t = np.ascontiguousarray(logits).reshape(-1), np.ascontiguousarray(targets).reshape(-1)
    if not _cross_entropy(x, t, loss.reshape(-1)):
        return NotImplemented
    return loss, SigmoidCrossEntropyCache(logits, targets)


def sigmoid_cross_entropy_backward(dloss: np.ndarray, cache: SigmoidCrossEntropyCache) -> Any:
    """See ``mrcnn_np.ops.losses.sigmoid_cross_entropy_backward``."""
    logits, targets = cache
    if not is_float32(dloss, logits, targets) or not dloss.shape == logits.shape == targets.shape:
        return NotImplemented
    if logits.size < SMALL:
        return NotImplemented
    dlogits = np.empty(logits.shape, np.float32)
    dy, x, t = (np.ascontiguousarray(a).reshape(-1) for a in (dloss, logits, targets))
    _cross_entropy_backward(dy, x, t, dlogits.reshape(-1))
    return dlogits
