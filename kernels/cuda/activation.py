"""ReLU, sigmoid and softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import scalar
from ..contract import ReluCache, SigmoidCache, SoftmaxCache
from .machine.arguments import is_float32
from .machine.device import SIMULATED, blocks_for, contiguous, cuda, empty, float32, kernel, launch
from .machine.elementwise import apply, elementwise

THREADS = 16 if SIMULATED else 256  # of a block of rows; a power of two
ACROSS = 4 if SIMULATED else 32  # of them on one row, at most; a power of two
ZERO, LOWEST, NAN = np.float32(0), np.float32(-np.inf), np.float32(np.nan)


def _sigmoid(x):
    return scalar.logistic(x, math.exp(-abs(x)))


RELU = elementwise(scalar.relu, 1)
RELU_BACKWARD = elementwise(scalar.relu_backward, 2)
SIGMOID = elementwise(_sigmoid, 1)


@kernel("f4[:,::1]", "i8[::1]", "f4[:,::1]", "f4[::1]")
def softmax_rows(x, labels, y, loss):
    """Write the softmax of each row; with labels also log sum exp - x[label], or NaN where a label is no column.

    A row that is not there takes part in the waiting only.

    **Owns:** ``blockDim.x`` threads, a row; each of them, every ``blockDim.x``-th of its columns. **Shared:** a number
    of each thread: its largest logit, then its sum; they are joined as a tree. **No race:** in each round the lower
    half writes its own places and reads those of the upper half, which nobody writes; then all wait. Another wait
    stands before the memory is used again. **Floor:** x read and y written once, 8 bytes an element.
    """
    shared = cuda.shared.array(THREADS, float32)
    mine, across = cuda.threadIdx.x, cuda.blockDim.x
    slot = cuda.threadIdx.y * across + mine
    row = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    classes = x.shape[1] if row < x.shape[0] else 0
    largest = LOWEST
    for k in range(mine, classes, across):
        largest = max(largest, x[row, k]) if x[row, k] == x[row, k] else largest  # NaN shows in the sum
    shared[slot] = largest
    cuda.syncthreads()
    half = across // 2
    while half > 0:
        if mine < half:
            shared[slot] = max(shared[slot], shared[slot + half])
        cuda.syncthreads()
        half //= 2
    largest = shared[slot - mine]
    cuda.syncthreads()
    total = ZERO
    for k in range(mine, classes, across):
        power = math.exp(x[row, k] - largest)
        y[row, k] = power
        total += power
    shared[slot] = total
    cuda.syncthreads()
    half = across // 2
    while half > 0:
        if mine < half:
            shared[slot] += shared[slot + half]
        cuda.syncthreads()
        half //= 2
    total = shared[slot - mine]
    for k in range(mine, classes, across):
        y[row, k] /= total
    if mine == 0 and classes > 0 and labels.size > 0:
        label = labels[row]
        loss[row] = math.log(total) - (x[row, label] - largest) if 0 <= label < classes else NAN


def row_blocks(rows: int, columns: int) -> tuple[int, tuple[int, int]]:
    """Return blocks and threads for rows: as many threads on a row as it has columns, up to ACROSS."""
    across = min(ACROSS, 1 << (columns - 1).bit_length())
    lines = THREADS // across
    return blocks_for(rows, lines), (across, lines)


def relu(x: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.activation.relu``."""
    if not is_float32(x):
        return NotImplemented
    y = apply(RELU, x)
    return y, ReluCache(y)


def relu_backward(dy: np.ndarray, cache: ReluCache) -> Any:
    """See ``mrcnn_np.ops.activation.relu_backward``."""
    (y,) = cache
    if not is_float32(dy, y) or dy.shape != y.shape:
        return NotImplemented
    return apply(RELU_BACKWARD, dy, y)


def sigmoid(x: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.activation.sigmoid``."""
    if not is_float32(x):
        return NotImplemented
    y = apply(SIGMOID, x)
    return y, SigmoidCache(y)


def softmax(x: np.ndarray) -> Any:
    """See ``mrcnn_np.ops.activation.softmax``."""
    if not is_float32(x) or x.ndim == 0 or x.shape[-1] == 0:
        return NotImplemented
    y, classes = empty(x.shape), x.shape[-1]
    flat = contiguous(x).reshape(-1, classes)
    blocks, threads = row_blocks(len(flat), classes)
    launch(softmax_rows, blocks, threads, flat, empty(0, np.int64), y.reshape(flat.shape), empty(0))
    return y, SoftmaxCache(y)
