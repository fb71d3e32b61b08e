"""Batch norm in as few passes over memory as its sums allow: one if the statistics are frozen, else two.

Sums run over blocks of rows that stay in the first cache; the blocks do not depend on the number of threads, and
their results are added in order, so neither do the bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from .arguments import is_float32

SMALL = 1 << 14  # elements below which NumPy is faster than starting the threads


def block_rows(channels: int) -> int:
    """Return how many rows of a (M, C) array make a block: at most 64 numbers in one float32 sum, about 32 KB."""
    return max(32, min(64, 8192 // max(1, channels)))


@njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
def _statistics(x, rows):
    """Return mean and biased variance of the columns of (M, C).

    Each block has its own mean and sum of squared distances to it. Joined (Chan et al. 1983), with d the distance of a
    block's mean to that of all: sum (x - mu)^2 = sum over blocks of (their own sum + their rows times d^2).
    """
    m, c = x.shape
    blocks = (m + rows - 1) // rows
    sums, squares = np.zeros((blocks, c), np.float32), np.zeros((blocks, c), np.float32)
    for block in prange(blocks):
        first, last = block * rows, min((block + 1) * rows, m)
        total, square = sums[block], squares[block]
        row = first
        while row + 4 <= last:  # four rows at a time: a quarter of the loads and stores of the sums
            x0, x1, x2, x3 = x[row], x[row + 1], x[row + 2], x[row + 3]
            for j in range(c):
                total[j] += (x0[j] + x1[j]) + (x2[j] + x3[j])
            row += 4
        while row < last:
            for j in range(c):
                total[j] += x[row, j]
            row += 1
        scale = np.float32(1) / np.float32(last - first)
        for row in range(first, last):
            for j in range(c):
                d = x[row, j] - total[j] * scale
                square[j] += d * d
    mean, variance = np.zeros(c, np.float64), np.zeros(c, np.float64)
    for block in range(blocks):
        for j in range(c):
            mean[j] += sums[block, j]
    for j in range(c):
        mean[j] /= m
    for block in range(blocks):
        count = min((block + 1) * rows, m) - block * rows
        for j in range(c):
            d = sums[block, j] / np.float64(count) - mean[j]
            variance[j] += squares[block, j] + count * d * d
    return mean.astype(np.float32), (variance / m).astype(np.float32)


@njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
def _normalise(x, mu, scale, beta, y, rows):
    m, c = x.shape
    for block in prange((m + rows - 1) // rows):
        for row in range(block * rows, min((block + 1) * rows, m)):
            for j in range(c):
                y[row, j] = (x[row, j] - mu[j]) * scale[j] + beta[j]


@njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
def _sums_backward(dy, x, mu, scale, dx, rows):
    """Return sum dy (x - mu) and sum dy; with frozen statistics (``dx`` has rows) also write dx = dy scale."""
    m, c = x.shape
    blocks = (m + rows - 1) // rows
    products, sums = np.zeros((blocks, c), np.float32), np.zeros((blocks, c), np.float32)
    frozen = dx.shape[0] == m
    for block in prange(blocks):
        product, total = products[block], sums[block]
        row, last = block * rows, min((block + 1) * rows, m)
        while row + 4 <= last:  # four rows at a time: a quarter of the loads and stores of the sums
            d0, d1, d2, d3 = dy[row], dy[row + 1], dy[row + 2], dy[row + 3]
            x0, x1, x2, x3 = x[row], x[row + 1], x[row + 2], x[row + 3]
            for j in range(c):
                centre = mu[j]
                near = d0[j] * (x0[j] - centre) + d1[j] * (x1[j] - centre)
                product[j] += near + (d2[j] * (x2[j] - centre) + d3[j] * (x3[j] - centre))
                total[j] += (d0[j] + d1[j]) + (d2[j] + d3[j])
            row += 4
        while row < last:
            for j in range(c):
                product[j] += dy[row, j] * (x[row, j] - mu[j])
                total[j] += dy[row, j]
            row += 1
        if frozen:
            for row in range(block * rows, last):
                for j in range(c):
                    dx[row, j] = dy[row, j] * scale[j]
    product, total = np.zeros(c, np.float64), np.zeros(c, np.float64)
    for block in range(blocks):
        for j in range(c):
            product[j] += products[block, j]
            total[j] += sums[block, j]
    return product, total


@njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
def _dx(dy, x, mu, scale, slope, shift, dx, rows):
    """Write dx = dy scale - (x - mu) slope - shift."""
    m, c = x.shape
    for block in prange((m + rows - 1) // rows):
        for row in range(block * rows, min((block + 1) * rows, m)):
            for j in range(c):
                dx[row, j] = dy[row, j] * scale[j] - (x[row, j] - mu[j]) * slope[j] - shift[j]


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
    if not is_float32(x, *parameters) or x.size < SMALL or any(p.shape != x.shape[-1:] for p in parameters):
        return NotImplemented
    channels = x.shape[-1]
    x = np.ascontiguousarray(x)
    flat, rows = x.reshape(-1, channels), block_rows(channels)
    if training:
        count = len(flat)
        mu, sigma2 = _statistics(flat, rows)
        mean[...] = (1 - momentum) * mean + momentum * mu
        var[...] = (1 - momentum) * var + momentum * sigma2 * (count / max(1, count - 1))
    else:
        mu, sigma2 = mean.copy(), var
    inverse_std = 1 / np.sqrt(sigma2 + float(eps))
    y = np.empty_like(x)
    _normalise(flat, mu, gamma * inverse_std, np.ascontiguousarray(beta), y.reshape(flat.shape), rows)
    return y, (x, gamma, mu, inverse_std, training)


def batch_norm_backward(dy: np.ndarray, cache: tuple[Any, ...]) -> Any:
    """See ``mrcnn_np.ops.norm.batch_norm_backward``."""
    x, gamma, mu, inverse_std, training = cache
    if not is_float32(dy, x, gamma, mu, inverse_std) or dy.shape != x.shape or x.size < SMALL:
        return NotImplemented
    channels = x.shape[-1]
    rows = block_rows(channels)
    flat, dy = np.ascontiguousarray(x).reshape(-1, channels), np.ascontiguousarray(dy)
    dflat, scale = dy.reshape(-1, channels), gamma * inverse_std
    dx = np.empty_like(dy)
    written = dx.reshape(flat.shape)
    product, total = _sums_backward(dflat, flat, mu, scale, written[:0] if training else written, rows)
    dgamma, dbeta = (product * inverse_std).astype(np.float32), total.astype(np.float32)
    if training:
        count = len(flat)
        slope = (scale * inverse_std * dgamma / count).astype(np.float32)
        shift = (scale * dbeta / count).astype(np.float32)
        _dx(dflat, flat, mu, scale, slope, shift, written, rows)
    return dx, dgamma, dbeta
