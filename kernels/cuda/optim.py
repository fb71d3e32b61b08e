"""The step of gradient descent: each kernel goes over all tensors in one launch.

The norm of the gradients stays on the device, and so does the decision to clip; the host waits for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import scalar
from .machine.arguments import is_float32
from .machine.device import aligned, cuda, device_function, empty, kernel, launch
from .machine.groups import load1_at, load4_at, store1_at, store4_at
from .machine.tensors import BEGIN, CHUNK, FIRST, OPTION, SIZE, THREADS, WHOLE, options_of, tensor_table

ZERO = np.float64(0)


@device_function
def find_chunk(table, block):
    """Return the row of a block's tensor, where its chunk begins, where the groups of four end, and where it ends."""
    low, high = 0, table.shape[0]  # the last row that begins at this block or before
    while high - low > 1:
        middle = (low + high) // 2
        if table[middle, BEGIN] <= block:
            low = middle
        else:
            high = middle
    first = (block - table[low, BEGIN]) * CHUNK
    end = min(first + CHUNK, table[low, SIZE])
    return low, first, max(first, min(end, table[low, WHOLE])), end


@device_function
def square(x):
    """Return x^2 in float64: in float32 it overflows from 1.8e19 on."""
    return np.float64(x) * np.float64(x)


@kernel("i8[:,::1]", "f8[::1]")
def square_sums(table, partial):
    """Write the sum of the squares of each chunk.

    **Owns:** a block, the sum of one chunk; a thread, every THREADS-th group of four numbers in it. **Shared:** the sum
    of each thread; they are added as a tree. **No race:** in each round the lower half writes its own places and reads
    those of the upper half, which nobody writes; then all wait. **Floor:** every number read once, 4 bytes.
    """
    shared = cuda.shared.array(THREADS, np.float64)
    t = cuda.threadIdx.x
    row, first, middle, end = find_chunk(table, cuda.blockIdx.x)
    address = table[row, FIRST]
    total = ZERO
    for place in range(first + 4 * t, middle, 4 * THREADS):
        a, b, c, d = load4_at(address, place)
        total += square(a) + square(b) + square(c) + square(d)
    for place in range(middle + t, end, THREADS):
        total += square(load1_at(address, place))
    shared[t] = total
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            shared[t] += shared[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
        partial[cuda.blockIdx.x] = shared[0]


@kernel("f8[::1]", "f8[::1]")
def root_of_sum(partial, norm):
    """Write the root of the sum of the chunks' sums.

    **Owns:** the only block, the root; a thread, every THREADS-th of the sums. **Shared:** the sum of each thread; they
    are added as a tree. **No race:** as in ``square_sums``. **Floor:** a launch; 8 bytes a chunk are read.
    """
    shared = cuda.shared.array(THREADS, np.float64)
    t = cuda.threadIdx.x
    total = ZERO
    for i in range(t, partial.size, THREADS):
        total += partial[i]
    shared[t] = total
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            shared[t] += shared[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
        norm[0] = math.sqrt(shared[0])


@kernel("i8[:,::1]", "f8[::1]", "f8")
def scale_down(table, norm, most):
    """Multiply every number by most / norm where the norm is larger than that; else leave at once.

    **Owns:** a block, one chunk; a thread, every THREADS-th group of four numbers in it. **Shared:** nothing.
    **No race:** each reads and writes its own. **Floor:** every number read and written once, 8 bytes.
    """
    if not norm[0] > most:
        return
    factor = np.float32(most / norm[0])
    t = cuda.threadIdx.x
    row, first, middle, end = find_chunk(table, cuda.blockIdx.x)
    address = table[row, FIRST]
    for place in range(first + 4 * t, middle, 4 * THREADS):
        a, b, c, d = load4_at(address, place)
        store4_at(address, place, a * factor, b * factor, c * factor, d * factor)
    for place in range(middle + t, end, THREADS):
        store1_at(address, place, load1_at(address, place) * factor)


@kernel("i8[:,::1]", "f4[:,::1]", "f4", "f4")
def descend(table, options, momentum, rate):
    """Move parameters p and velocities v by the gradients g: v = momentum v + g + decay p, p = p - rate v.

    **Owns:** a block, one chunk of a parameter and of its velocity; a thread, every THREADS-th group of four numbers in
    it. **Shared:** nothing. **No race:** each reads and writes its own. **Floor:** p, g, v read, p, v written once, 20
    bytes a number.
    """
    t = cuda.threadIdx.x
    row, first, middle, end = find_chunk(table, cuda.blockIdx.x)
    decay = options[row, 2 * OPTION]
    parameter, gradient, velocity = table[row, FIRST], table[row, FIRST + 1], table[row, FIRST + 2]
    for place in range(first + 4 * t, middle, 4 * THREADS):
        p0, p1, p2, p3 = load4_at(parameter, place)
        g0, g1, g2, g3 = load4_at(gradient, place)
        v0, v1, v2, v3 = load4_at(velocity, place)
        v0 = scalar.new_velocity(v0, g0, p0, momentum, decay)
        v1 = scalar.new_velocity(v1, g1, p1, momentum, decay)
        v2 = scalar.new_velocity(v2, g2, p2, momentum, decay)
        v3 = scalar.new_velocity(v3, g3, p3, momentum, decay)
        store4_at(velocity, place, v0, v1, v2, v3)
        store4_at(parameter, place, p0 - rate * v0, p1 - rate * v1, p2 - rate * v2, p3 - rate * v3)
    for place in range(middle + t, end, THREADS):
        p = load1_at(parameter, place)
        v = scalar.new_velocity(load1_at(velocity, place), load1_at(gradient, place), p, momentum, decay)
        store1_at(velocity, place, v)
        store1_at(parameter, place, p - rate * v)


def _norm_of(table: Any, blocks: int) -> Any:
    """Return the norm of all tensors, an array of one number."""
    partial, norm = empty(blocks, np.float64), empty(1, np.float64)
    launch(square_sums, blocks, THREADS, table, partial)
    launch(root_of_sum, 1, THREADS, partial, norm)
    return norm


def global_norm(grads: Mapping[str, np.ndarray]) -> Any:
    """See ``mrcnn_np.training.optim.global_norm``; the norm is an array without axes, which stays on the device."""
    if not is_float32(*grads.values()):
        return NotImplemented
    flat = [(aligned(g),) for g in grads.values()]
    return _norm_of(*tensor_table(flat, [0.0] * len(flat))).reshape(())


def clip_gradients(grads: Mapping[str, np.ndarray], max_norm: float | None) -> Any:
    """See ``mrcnn_np.training.optim.clip_gradients``; the norm is an array without axes, which stays on the device."""
    if not is_float32(*grads.values()) or not all(g.flags.c_contiguous for g in grads.values()):
        return NotImplemented
    table, blocks = tensor_table([(g,) for g in grads.values()], [0.0] * len(grads))
    norm = _norm_of(table, blocks)
    if max_norm is not None:
        launch(scale_down, blocks, THREADS, table, norm, max_norm)
    return norm.reshape(())


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
    rows = []
    for name, v in velocity.items():
        p, g = params.get(name), grads.get(name)
        if p is None or g is None or not is_float32(p, g, v) or not p.shape == g.shape == v.shape:
            return NotImplemented
        if not (p.flags.c_contiguous and v.flags.c_contiguous):
            return NotImplemented
        rows.append((p, aligned(g), v))
    table, blocks = tensor_table(rows, [weight_decay[name] for name in velocity])
    launch(descend, blocks, THREADS, table, options_of(table), momentum, learning_rate)
    return None
