"""Cross entropies of sigmoid and softmax, each in one pass.

Smooth L1 has no kernel: it compares a few hundred boxes, which takes NumPy less time than a kernel takes to start.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from .. import scalar
from ..contract import SigmoidCrossEntropyCache, SoftmaxCrossEntropyCache
from .activation import softmax_rows
from .machine.arguments import is_float32
from .machine.exponential import exp_negative, log_one_plus

SMALL = 1 << 10  # elements below which NumPy is as fast
BLOCK = 1 << 12  # elements of one task


@njit(cache=True, error_model="numpy", inline="never")
def _cross_entropy_block(x, t, loss):
    """Write the losses; return whether all targets are in [0, 1] (or NaN, which shows in the loss)."""
    outside = np.int32(0)
    for i in range(x.size):
        outside |= np.int32(t[i] < np.float32(0)) | np.int32(t[i] > np.float32(1))
        loss[i] = scalar.cross_entropy(x[i], t[i], log_one_plus(exp_negative(-abs(x[i]))))
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
        dx[i] = dloss[i] * (scalar.logistic(x[i], exp_negative(-abs(x[i]))) - t[i])


@njit(cache=True, parallel=True, error_model="numpy")
def _cross_entropy_backward(dloss, x, t, dx):
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, min((block + 1) * BLOCK, x.size))
        _cross_entropy_backward_block(dloss[part], x[part], t[part], dx[part])


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
    if softmax_rows(np.ascontiguousarray(logits), probabilities, places, total, logit):
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
