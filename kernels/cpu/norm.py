"""Batch norm in as few passes over memory as its sums allow: one if the statistics are frozen, else two.

Sums run over blocks of rows that stay in the first cache; the blocks do not depend on the number of threads, and
their results are added in order, so neither do the bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import BatchNormCache
from .machine.arguments import is_float32
from .machine.memory import empty, streams
from .machine.rows import (
    add,
    add_squares,
    normalise,
    normalise_backward,
    normalise_backward_past,
    normalise_past,
    sum_products,
    sum_products_and_scale,
    sum_products_and_scale_past,
)
from .machine.simd import fence

SMALL = 1 << 14  # elements below which NumPy is faster than starting the threads
TASKS = 64  # at most; a task joins its blocks before the tasks are joined
WIDE = 256  # channels from which on a row is long enough for the inner loops


def block_rows(channels: int) -> int:
    """Return how many rows of a (M, C) array make a block: at most 64 numbers in one float32 sum, about 32 KB."""
    return max(32, min(64, 8192 // max(1, channels)))


def pixels_in_row(count: int, channels: int) -> int:
    """Return how many of ``count`` pixels to take as one row, to whom the same numbers per channel are given again."""
    pixels = 1
    while 2 * pixels * channels <= WIDE and count % (2 * pixels) == 0:
        pixels *= 2
    return pixels


@njit(cache=True, error_model="numpy")
def join_parts(means, squares, counts, mean, square):
    """Join means, sums of squared distances to them, and counts of parts of the rows (Chan et al. 1983).

    With d the distance of a part's mean to that of all: sum (x - mu)^2 = sum over parts of (their own sum + count d^2).
    """
    rows = counts.sum()
    mean[:], square[:] = 0, 0
    for part in range(counts.size):
        share = counts[part] / rows
        for j in range(mean.size):
            mean[j] += means[part, j] * share
    for part in range(counts.size):
        for j in range(mean.size):
            d = means[part, j] - mean[j]
            square[j] += squares[part, j] + counts[part] * d * d


@njit(cache=True, parallel=True, error_model="numpy")
def _statistics(x, rows):
    """Return mean and biased variance of the columns of (M, C). Blocks are joined to tasks, and tasks to the whole."""
    m, c = x.shape
    blocks = (m + rows - 1) // rows
    tasks = min(blocks, TASKS)
    means, squares, counts = np.empty((tasks, c)), np.empty((tasks, c)), np.empty(tasks)
    for task in prange(tasks):
        first, last = blocks * task // tasks, blocks * (task + 1) // tasks
        block_means, block_squares = np.empty((last - first, c)), np.empty((last - first, c))
        block_counts = np.empty(last - first)
        mean, square = np.empty(c, np.float32), np.empty(c, np.float32)
        for i in range(last - first):
            row = (first + i) * rows
            count = min(rows, m - row)
            mean[:], square[:] = 0, 0
            add(count, c * 4, c, (x[row].ctypes.data,), (mean.ctypes.data,))
            for j in range(c):
                block_means[i, j] = mean[j] / np.float64(count)
                mean[j] = block_means[i, j]
            add_squares(count, c * 4, c, (x[row].ctypes.data,), (mean.ctypes.data, square.ctypes.data))
            for j in range(c):
                block_squares[i, j] = square[j]
            block_counts[i] = count
        join_parts(block_means, block_squares, block_counts, means[task], squares[task])
        counts[task] = block_counts.sum()
    whole_mean, whole_square = np.empty(c), np.empty(c)
    join_parts(means, squares, counts, whole_mean, whole_square)
    return whole_mean, whole_square / m


@njit(cache=True, parallel=True, error_model="numpy")
def _normalise(x, mu, scale, beta, y, rows, stream):
    m, c = x.shape
    vectors = (mu.ctypes.data, scale.ctypes.data, beta.ctypes.data)
    for block in prange((m + rows - 1) // rows):
        first, count = block * rows, min(rows, m - block * rows)
        maps = (x[first].ctypes.data, y[first].ctypes.data)
        if stream:
            normalise_past(count, c * 4, c, maps, vectors)
            fence()
        else:
            normalise(count, c * 4, c, maps, vectors)


@njit(cache=True, parallel=True, error_model="numpy")
def sums_backward(dy, x, mu, scale, dx, rows, stream):
    """Return each task's sum dy (x - mu) and sum dy; with frozen statistics, when dx has rows, write dx = dy scale."""
    m, c = x.shape
    blocks = (m + rows - 1) // rows
    tasks = min(blocks, TASKS)
    products, sums = np.zeros((tasks, c)), np.zeros((tasks, c))
    frozen = dx.shape[0] == m
    for task in prange(tasks):
        product, total = np.empty(c, np.float32), np.empty(c, np.float32)
        vectors = (mu.ctypes.data, product.ctypes.data, total.ctypes.data)
        for block in range(blocks * task // tasks, blocks * (task + 1) // tasks):
            first, count = block * rows, min(rows, m - block * rows)
            maps = (dy[first].ctypes.data, x[first].ctypes.data)
            product[:], total[:] = 0, 0
            if frozen and stream:
                sum_products_and_scale_past(
                    count, c * 4, c, (*maps, dx[first].ctypes.data), (*vectors, scale.ctypes.data)
                )
            elif frozen:
                sum_products_and_scale(count, c * 4, c, (*maps, dx[first].ctypes.data), (*vectors, scale.ctypes.data))
            else:
                sum_products(count, c * 4, c, maps, vectors)
            for j in range(c):
                products[task, j] += product[j]
                sums[task, j] += total[j]
        if stream:
            fence()
    return products, sums


@njit(cache=True, parallel=True, error_model="numpy")
def _dx(dy, x, mu, scale, slope, shift, dx, rows, stream):
    """Write dx = dy scale - (x - mu) slope - shift, backwards: the end of the maps may still be in the caches."""
    m, c = x.shape
    vectors = (mu.ctypes.data, scale.ctypes.data, slope.ctypes.data, shift.ctypes.data)
    blocks = (m + rows - 1) // rows
    for number in prange(blocks):
        block = blocks - 1 - number
        first, count = block * rows, min(rows, m - block * rows)
        maps = (dy[first].ctypes.data, x[first].ctypes.data, dx[first].ctypes.data)
        if stream:
            normalise_backward_past(count, c * 4, c, maps, vectors)
            fence()
        else:
            normalise_backward(count, c * 4, c, maps, vectors)


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
    if not is_float32(x, *parameters) or x.size < max(1, SMALL) or any(p.shape != x.shape[-1:] for p in parameters):
        return NotImplemented
    channels = x.shape[-1]
    x = np.ascontiguousarray(x)
    count = x.size // channels
    pixels = pixels_in_row(count, channels)
    width = pixels * channels
    flat, rows = x.reshape(-1, width), block_rows(width)
    if training:
        means, variances = (a.reshape(pixels, channels) for a in _statistics(flat, rows))
        mu = means.mean(axis=0)
        sigma2 = (variances + (means - mu) ** 2).mean(axis=0).astype(np.float32)  # joined as the blocks are
        mu = mu.astype(np.float32)
        mean[...] = (1 - momentum) * mean + momentum * mu
        var[...] = (1 - momentum) * var + momentum * sigma2 * (count / max(1, count - 1))
    else:
        mu, sigma2 = mean.copy(), var
    inverse_std = 1 / np.sqrt(sigma2 + float(eps))
    y = empty(x.shape)
    wide_mu, scale, shift = (np.tile(vector, pixels) for vector in (mu, gamma * inverse_std, beta))
    _normalise(flat, wide_mu, scale, shift, y.reshape(flat.shape), rows, streams(y))
    return y, BatchNormCache(x, gamma, mu, inverse_std, training)


def batch_norm_backward(dy: np.ndarray, cache: BatchNormCache) -> Any:
    """See ``mrcnn_np.ops.norm.batch_norm_backward``."""
    x, gamma, mu, inverse_std, training = cache
    if not is_float32(dy, x, gamma, mu, inverse_std) or dy.shape != x.shape or x.size < max(1, SMALL):
        return NotImplemented
    channels = x.shape[-1]
    count = x.size // channels
    pixels = pixels_in_row(count, channels)
    width = pixels * channels
    flat, dflat = np.ascontiguousarray(x).reshape(-1, width), np.ascontiguousarray(dy).reshape(-1, width)
    rows, scale = block_rows(width), gamma * inverse_std
    dx = empty(dy.shape)
    written, wide_mu, wide_scale = dx.reshape(flat.shape), np.tile(mu, pixels), np.tile(scale, pixels)
    sums = sums_backward(dflat, flat, wide_mu, wide_scale, written[:0] if training else written, rows, streams(dx))
    product, total = (a.reshape(-1, channels).sum(axis=0) for a in sums)
    dgamma, dbeta = (product * inverse_std).astype(np.float32), total.astype(np.float32)
    if training:
        slope = (scale * inverse_std * dgamma / count).astype(np.float32)
        shift = (scale * dbeta / count).astype(np.float32)
        _dx(
            dflat, flat, wide_mu, wide_scale, np.tile(slope, pixels), np.tile(shift, pixels), written, rows, streams(dx)
        )
    return dx, dgamma, dbeta
