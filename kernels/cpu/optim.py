"""The step of gradient descent in one pass over parameters, gradients and velocities, rounded like the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numba import njit, prange

from .arguments import is_float32

BLOCK = 1 << 14  # numbers that one thread takes at a time; a tensor of one block needs no threads


@njit(cache=True, error_model="numpy", inline="never")
def _step_block(p, g, v, momentum, decay, rate):
    for i in range(p.size):
        moved = v[i] * momentum + g[i]
        if decay != np.float32(0):
            moved += decay * p[i]
        v[i] = moved
        p[i] -= rate * moved


@njit(cache=True, parallel=True, error_model="numpy")
def _step(p, g, v, momentum, decay, rate):
    for block in prange((p.size + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        _step_block(p[part], g[part], v[part], momentum, decay, rate)


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
    """See ``mrcnn_np.optim.global_norm``."""
    if not is_float32(*grads.values()):
        return NotImplemented
    flat = [np.ascontiguousarray(g).reshape(-1) for g in grads.values()]
    return math.sqrt(sum((_square_sum if g.size > BLOCK else _square_sum_block)(g) for g in flat))


def sgd_step(
    params: dict[str, np.ndarray],
    grads: Mapping[str, np.ndarray],
    velocity: dict[str, np.ndarray],
    *,
    learning_rate: float,
    config: Any,
) -> Any:
    """See ``mrcnn_np.optim.sgd_step``."""
    for name, v in velocity.items():
        p, g = params.get(name), grads.get(name)
        if not is_float32(p, g, v) or not (p.shape == g.shape == v.shape):  # type: ignore[union-attr]
            return NotImplemented
        if not (p.flags.c_contiguous and v.flags.c_contiguous):  # type: ignore[union-attr]
            return NotImplemented
    momentum, rate = np.float32(config.momentum), np.float32(learning_rate)
    for name, v in velocity.items():
        kept = any(fnmatchcase(name, pattern) for pattern in config.no_decay)
        decay = np.float32(0 if kept else config.weight_decay)
        p, g = params[name].reshape(-1), np.ascontiguousarray(grads[name]).reshape(-1)
        (_step if p.size > BLOCK else _step_block)(p, g, v.reshape(-1), momentum, decay, rate)
    return None
