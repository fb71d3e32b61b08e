"""Batch norm: one pass over memory if the statistics are frozen, else one for the sums and one that uses them.

Maps are rows of channels, (M, C). A thread keeps to one group of channels, whose parameters it reads once, and walks
down rows; it asks for ROWS rows before it uses the first, so that many loads are on their way. The sums are those of
``norm_sums``.

The second pass goes from the last row to the first: what the first pass, or whoever made the map, touched last may
still lie in the card's cache.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..contract import BatchNormCache
from .machine.arguments import is_float32
from .machine.device import Kernel, aligned, cuda, empty, float32, kernel, launch
from .machine.groups import group_width, loader, row_loader, storer
from .norm_sums import (
    ROWS,
    all_rows,
    block_of,
    finish_backward,
    finish_statistics,
    narrow,
    parts_of,
    statistics,
    sums_backward,
)

ONE = np.float32(1)


# --- normalise ------------------------------------------------------------------------------------------------------


@functools.cache
def normalise(width: int, frozen: bool) -> Kernel:
    """Return the kernel for groups of ``width`` channels; with frozen statistics ``spread`` is the variance."""
    load, load_row, store = loader(width), row_loader(width), storer(width)

    @kernel(
        "f4[:,::1]", *("f4[::1]",) * 4, "f4", "f4[::1]", "f4[::1]", "f4[:,::1]",
        name=f"normalise_{'frozen_' if frozen else ''}{width}",
    )  # fmt: skip
    def body(x, mean, spread, gamma, beta, eps, mu, inverse_std, y):
        """Write y = (x - mean) gamma inverse_std + beta.

        ``spread`` is the inverse deviation; frozen, the variance, and mu = mean and inverse_std = 1 / sqrt(var + eps)
        are written, too.

        **Owns:** a thread, one group of channels in ROWS rows of ``y``, a block's height apart, so that neighbours read
        neighbours; the first line of the first blocks, the groups of ``mu`` and ``inverse_std``. **Shared:** nothing.
        **No race:** each writes its own. **Floor:** x read and y written once, 8 bytes an element.
        """
        rows, channels = x.shape
        channel = (cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x) * width
        if channel >= channels:
            return
        m = cuda.local.array(width, float32)
        d = cuda.local.array(width, float32)
        s = cuda.local.array(width, float32)
        b = cuda.local.array(width, float32)
        v = cuda.local.array((ROWS, width), float32)
        out = cuda.local.array(width, float32)
        first = (cuda.gridDim.x - 1 - cuda.blockIdx.x) * cuda.blockDim.y * ROWS + cuda.threadIdx.y
        for i in range(ROWS):
            load_row(x, min(first + i * cuda.blockDim.y, rows - 1) * channels + channel, v, i)
        load(mean, channel, m)
        load(spread, channel, d)
        load(gamma, channel, s)
        load(beta, channel, b)
        if frozen:
            for k in range(width):
                d[k] = ONE / math.sqrt(d[k] + eps)
            if cuda.blockIdx.x == 0 and cuda.threadIdx.y == 0:
                store(mu, channel, m)
                store(inverse_std, channel, d)
        for k in range(width):
            s[k] *= d[k]
        for i in range(ROWS):
            row = first + i * cuda.blockDim.y
            if row < rows:
                for k in range(width):
                    out[k] = (v[i, k] - m[k]) * s[k] + b[k]
                store(y, row * channels + channel, out)

    return body


# --- gradient through the statistics of the batch ---------------------------------------------------------------------


@functools.cache
def gradient(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, load_row, store = loader(width), row_loader(width), storer(width)

    @kernel("f4[:,::1]", "f4[:,::1]", *("f4[::1]",) * 5, "f4[:,::1]", name=f"norm_gradient_{width}")
    def body(dy, x, mu, inverse_std, gamma, slope, shift, dx):
        """Write dx = dy gamma inverse_std - (x - mu) slope - shift: the gradient through the statistics of the batch.

        **Owns:** a thread, one group of channels in ROWS rows of ``dx``. **Shared:** nothing. **No race:** each writes
        its own. **Floor:** dy and x read, dx written once, 12 bytes an element.
        """
        rows, channels = x.shape
        channel = (cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x) * width
        if channel >= channels:
            return
        m = cuda.local.array(width, float32)
        c = cuda.local.array(width, float32)
        a = cuda.local.array(width, float32)
        b = cuda.local.array(width, float32)
        out = cuda.local.array(width, float32)
        g = cuda.local.array((ROWS, width), float32)
        v = cuda.local.array((ROWS, width), float32)
        first = (cuda.gridDim.x - 1 - cuda.blockIdx.x) * cuda.blockDim.y * ROWS + cuda.threadIdx.y
        for i in range(ROWS):
            place = min(first + i * cuda.blockDim.y, rows - 1) * channels + channel
            load_row(dy, place, g, i)
            load_row(x, place, v, i)
        load(mu, channel, m)
        load(gamma, channel, c)
        load(inverse_std, channel, out)
        load(slope, channel, a)
        load(shift, channel, b)
        for k in range(width):
            c[k] *= out[k]
        for i in range(ROWS):
            row = first + i * cuda.blockDim.y
            if row < rows:
                for k in range(width):
                    out[k] = g[i, k] * c[k] - (v[i, k] - m[k]) * a[k] - b[k]
                store(dx, row * channels + channel, out)

    return body


for _width in (1, 4):  # so that all kernels are known
    normalise(_width, False), normalise(_width, True), gradient(_width)


# --- host -----------------------------------------------------------------------------------------------------------


def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    training: bool = False,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> Any:
    """See ``mrcnn_np.ops.norm.batch_norm``."""
    parameters = (gamma, beta, mean, var)
    if not is_float32(x, *parameters) or x.size == 0 or any(p.shape != x.shape[-1:] for p in parameters):
        return NotImplemented
    channels = x.shape[-1]
    x = aligned(x)
    rows, width = x.size // channels, group_width(channels)
    flat, y, block = x.reshape(rows, channels), empty(x.shape), block_of(channels, width)
    scale, shift = aligned(gamma), aligned(beta)
    running = [aligned(mean), aligned(var)]
    mu, inverse_std = empty(channels), empty(channels)
    given = running
    if training:
        parts = parts_of(rows, channels, width)
        means, squares = empty((parts[0], channels)), empty((parts[0], channels))
        launch(statistics(width), parts, block, flat, means, squares)
        launch(
            finish_statistics, *narrow(channels),
            flat, means, squares, block[1], eps, momentum, *running, mu, inverse_std,
        )  # fmt: skip
        for original, moved in zip((mean, var), running):
            if moved is not original:
                original[...] = moved
        given = [mu, inverse_std]
    launch(
        normalise(width, not training), all_rows(rows, channels, width), block,
        flat, *given, scale, shift, eps, mu, inverse_std, y.reshape(rows, channels),
    )  # fmt: skip
    return y, BatchNormCache(x, gamma, mu, inverse_std, training)


def batch_norm_backward(dy: np.ndarray, cache: BatchNormCache) -> Any:
    """See ``mrcnn_np.ops.norm.batch_norm_backward``."""
    x, gamma, mu, inverse_std, training = cache
    if not is_float32(dy, x, gamma, mu, inverse_std) or dy.shape != x.shape or x.size == 0:
        return NotImplemented
    channels = x.shape[-1]
    rows, width = x.size // channels, group_width(channels)
    flat, dflat = (aligned(a).reshape(rows, channels) for a in (x, dy))
    mu, inverse_std, gamma = aligned(mu), aligned(inverse_std), aligned(gamma)
    dx = empty(dy.shape)
    written, block = dx.reshape(rows, channels), block_of(channels, width)
    parts = parts_of(rows, channels, width)
    products, sums = empty((parts[0], channels)), empty((parts[0], channels))
    body = sums_backward(width, not training)
    launch(body, parts, block, dflat, flat, mu, inverse_std, gamma, written, products, sums)
    dgamma, dbeta, slope, shift = (empty(channels) for _ in range(4))
    launch(finish_backward, *narrow(channels), products, sums, inverse_std, gamma, rows, dgamma, dbeta, slope, shift)
    if training:
        grid = all_rows(rows, channels, width)
        launch(gradient(width), grid, block, dflat, flat, mu, inverse_std, gamma, slope, shift, written)
    return dx, dgamma, dbeta
