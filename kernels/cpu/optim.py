"""The step of gradient descent in one pass over parameters, gradients and velocities, rounded like the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit, prange

from .. import scalar
from .machine.arguments import is_float32
from .machine.rows import array_at

BLOCK = 1 << 14  # numbers that one thread takes at a time


@njit(cache=True, error_model="numpy", inline="never")
def _step_block(p, g, v, momentum, decay, rate):
    for i in range(p.size):
        v[i] = scalar.new_velocity(v[i], g[i], p[i], momentum, decay)
        p[i] -= rate * v[i]


@njit(cache=True, error_model="numpy")
def _note(p, g, v, row):
    row[0], row[1], row[2] = p.ctypes.data, g.ctypes.data, v.ctypes.data


@njit(cache=True, parallel=True, error_model="numpy")
def _step(table, sizes, decay, momentum, rate):
    """Let the threads share all tensors, whose addresses are the rows of the table."""
    begins = np.zeros(sizes.size + 1, np.int64)  # the blocks before each tensor
    for i in range(sizes.size):
        begins[i + 1] = begins[i] + (sizes[i] + BLOCK - 1) // BLOCK
    for block in prange(begins[-1]):
        tensor = np.searchsorted(begins, block, side="right") - 1
        first = (block - begins[tensor]) * BLOCK
        size, skip = min(BLOCK, sizes[tensor] - first), first * 4
        p, g, v = table[tensor, 0] + skip, table[tensor, 1] + skip, table[tensor, 2] + skip
        _step_block(array_at(p, size), array_at(g, size), array_at(v, size), momentum, decay[tensor], rate)


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"}, inline="never")
def _square_sum_block(x):
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@njit(cache=True, parallel=True, error_model="numpy")
def _square_sum(x):
    blocks = (x.size + BLOCK - 1) // BLOCK
    partial = np.empty(blocks, np.float64)
    for block in prange(blocks):
        partial[block] = _square_sum_block(x[block * BLOCK : (block + 1) * BLOCK])
    total = 0.0
    for block in range(blocks):
        total += partial[block]
    return total


def global_norm(grads: Mapping[str, np.ndarray]) -> Any:
    """See ``mrcnn_np.training.optim.global_norm``."""
    if not is_float32(*grads.values()):
        return NotImplemented
    flat = [np.ascontiguousarray(g).reshape(-1) for g in grads.values()]
    return math.sqrt(sum((_square_sum if g.size > BLOCK else _square_sum_block)(g) for g in flat))


def momentum_step(
    params: dict[str, np.ndarray],
    grads: Mapping[str, np.ndarray],
    velocity: dict[str, np.ndarray],
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: Mapping[str, float],
) -> Any:
    """See ``mrcnn_np.training.optim.momentum_step``."""
    table, sizes = np.empty((len(velocity), 3), np.int64), np.empty(len(velocity), np.int64)
    decay = np.array([weight_decay[name] for name in velocity], np.float32)
    alive = []  # copies of gradients, until the step is done
    for i, (name, v) in enumerate(velocity.items()):
        p, g = params.get(name), grads.get(name)
        if p is None or g is None or not is_float32(p, g, v) or not p.shape == g.shape == v.shape:
            return NotImplemented
        if not (p.flags.carray and v.flags.carray):  # contiguous, and not for reading only
            return NotImplemented
        if not g.flags.c_contiguous:
            g = np.ascontiguousarray(g)
            alive.append(g)
        _note(p.reshape(-1), g.reshape(-1), v.reshape(-1), table[i])
        sizes[i] = v.size
    _step(table, sizes, decay, np.float32(momentum), np.float32(learning_rate))
    return None
