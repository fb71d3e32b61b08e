"""The three losses and their gradients.

What the NumPy text refuses by an error, a label that is no class or a target outside [0, 1], gives a loss of NaN here:
to look for it the host would have to wait for the device, at every loss of every step. Training stops at a loss of NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import scalar
from ..contract import SigmoidCrossEntropyCache, SmoothL1Cache, SoftmaxCrossEntropyCache
from .activation import NAN, ZERO, row_blocks, softmax_rows
from .machine.arguments import is_float32
from .machine.device import SIMULATED, blocks_for, contiguous, cuda, empty, is_device, kernel, launch
from .machine.elementwise import apply, elementwise

THREADS = 8 if SIMULATED else 256  # of a block
ONE = np.float32(1)


def _sigmoid_cross_entropy(x, t):
    loss = scalar.cross_entropy(x, t, math.log1p(math.exp(-abs(x))))
    return NAN if t < ZERO or t > ONE else loss


def _sigmoid_cross_entropy_backward(dloss, x, t):
    return dloss * (scalar.logistic(x, math.exp(-abs(x))) - t)


SIGMOID_CROSS_ENTROPY = elementwise(_sigmoid_cross_entropy, 2)
SIGMOID_CROSS_ENTROPY_BACKWARD = elementwise(_sigmoid_cross_entropy_backward, 3)


@kernel("f4[::1]", "f4[:,::1]", "i8[::1]", "f4[:,::1]")
def softmax_cross_entropy_gradient(dloss, probabilities, labels, dlogits):
    """Write dloss[r] (p[r, k] - [k = label of r]).

    **Owns:** ``blockDim.x`` threads, a row; each of them, every ``blockDim.x``-th of its columns. **Shared:** nothing.
    **No race:** each writes its own. **Floor:** p read and the result written once, 8 bytes an element.
    """
    row = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    if row < probabilities.shape[0]:
        for k in range(cuda.threadIdx.x, probabilities.shape[1], cuda.blockDim.x):
            p = probabilities[row, k]
            dlogits[row, k] = dloss[row] * (p - ONE if k == labels[row] else p)


@kernel("f4[::1]", "f4[::1]", "f4", "f4[::1]", "f4[::1]")
def smooth_l1_terms(pred, target, beta, difference, loss):
    """Write pred - target and its smooth L1.

    **Owns:** a thread, one element of both. **Shared:** nothing. **No race:** each writes its own. **Floor:** two
    arrays read, two written, 16 bytes an element.
    """
    i = cuda.grid(1)
    if i < loss.size:
        d = pred[i] - target[i]
        difference[i] = d
        loss[i] = scalar.smooth_l1(d, beta)


@kernel("f4[::1]", "f4[::1]", "f4", "f4[::1]")
def smooth_l1_gradient(dloss, difference, beta, dpred):
    """Write dloss times the slope of smooth L1.

    **Owns:** a thread, one element. **Shared:** nothing. **No race:** each writes its own. **Floor:** two arrays read,
    one written, 12 bytes an element.
    """
    i = cuda.grid(1)
    if i < dpred.size:
        dpred[i] = dloss[i] * scalar.smooth_l1_slope(difference[i], beta)


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.losses.softmax_cross_entropy``."""
    if not is_float32(logits) or logits.ndim != 2 or logits.shape[1] == 0 or not _are_labels(labels, logits.shape[:1]):
        return NotImplemented
    probabilities, loss = empty(logits.shape), empty(len(logits))
    launch(softmax_rows, *row_blocks(*logits.shape), contiguous(logits), _places(labels), probabilities, loss)
    return loss, SoftmaxCrossEntropyCache(probabilities, labels)


def softmax_cross_entropy_backward(dloss: np.ndarray, cache: SoftmaxCrossEntropyCache) -> Any:
    """See ``mrcnn_np.ops.losses.softmax_cross_entropy_backward``."""
    probabilities, labels = cache
    if not is_float32(dloss, probabilities) or probabilities.ndim != 2 or probabilities.shape[1] == 0:
        return NotImplemented
    if dloss.shape != probabilities.shape[:1] or not _are_labels(labels, dloss.shape):
        return NotImplemented
    dlogits = empty(probabilities.shape)
    blocks, threads = row_blocks(*dlogits.shape)
    arrays = contiguous(dloss), contiguous(probabilities), _places(labels), dlogits
    launch(softmax_cross_entropy_gradient, blocks, threads, *arrays)
    return dlogits


def _are_labels(labels: Any, shape: tuple[int, ...]) -> bool:
    return is_device(labels) and labels.shape == shape and labels.dtype.kind in "iu"


def _places(labels: Any) -> Any:
    return contiguous(labels.astype(np.int64, copy=False))


def sigmoid_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.losses.sigmoid_cross_entropy``."""
    if not is_float32(logits, targets) or targets.shape != logits.shape:
        return NotImplemented
    return apply(SIGMOID_CROSS_ENTROPY, logits, targets), SigmoidCrossEntropyCache(logits, targets)


def sigmoid_cross_entropy_backward(dloss: np.ndarray, cache: SigmoidCrossEntropyCache) -> Any:
    """See ``mrcnn_np.ops.losses.sigmoid_cross_entropy_backward``."""
    logits, targets = cache
    if not is_float32(dloss, logits, targets) or not dloss.shape == logits.shape == targets.shape:
        return NotImplemented
    return apply(SIGMOID_CROSS_ENTROPY_BACKWARD, dloss, logits, targets)


def smooth_l1(pred: np.ndarray, target: np.ndarray, *, beta: float = 1.0) -> Any:
    """See ``mrcnn_np.ops.losses.smooth_l1``."""
    if not is_float32(pred, target) or pred.shape != target.shape or not beta >= 0:
        return NotImplemented
    difference, loss = empty(pred.shape), empty(pred.shape)
    flat = (contiguous(a).reshape(-1) for a in (pred, target))
    launch(
        smooth_l1_terms, blocks_for(loss.size, THREADS), THREADS, *flat, beta, difference.reshape(-1), loss.reshape(-1)
    )
    return loss, SmoothL1Cache(difference, float(beta))


def smooth_l1_backward(dloss: np.ndarray, cache: SmoothL1Cache) -> Any:
    """See ``mrcnn_np.ops.losses.smooth_l1_backward``."""
    difference, beta = cache
    if not is_float32(dloss, difference) or dloss.shape != difference.shape:
        return NotImplemented
    dpred = empty(dloss.shape)
    flat = (contiguous(a).reshape(-1) for a in (dloss, difference))
    launch(smooth_l1_gradient, blocks_for(dpred.size, THREADS), THREADS, *flat, beta, dpred.reshape(-1))
    return dpred
