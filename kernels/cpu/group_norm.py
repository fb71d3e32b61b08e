"""Group norm: each map by itself, so that its sums may still be warm when they are used.

Maps are cut into parts of whole blocks of rows; the parts do not depend on the number of threads, and are joined in
order, so neither do the bits. Small maps, as the mask head has by the hundred, are one part each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import GroupNormCache, as_groups
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
)
from .machine.simd import fence
from .norm import SMALL, TASKS, block_rows, join_parts, pixels_in_row


def _parts(maps: int, blocks: int) -> int:
    """Return into how many parts to cut each of some maps of so many blocks."""
    return max(1, min(blocks, TASKS // max(1, maps)))


@njit(cache=True, parallel=True, error_model="numpy")
def _statistics(x, rows, parts, means, squares):
    """Write mean and sum of squared distances to it of the columns of each part of (N, M, C); return their rows."""
    n, m, c = x.shape
    blocks = (m + rows - 1) // rows
    counts = np.empty(parts)
    for part in range(parts):
        counts[part] = min(m, blocks * (part + 1) // parts * rows) - blocks * part // parts * rows
    for task in prange(n * parts):
        image, part = task // parts, task % parts
        first, last = blocks * part // parts, blocks * (part + 1) // parts
        block_means, block_squares = np.empty((last - first, c)), np.empty((last - first, c))
        block_counts = np.empty(last - first)
        mean, square = np.empty(c, np.float32), np.empty(c, np.float32)
        for i in range(last - first):
            row = (first + i) * rows
            count = min(rows, m - row)
            mean[:], square[:] = 0, 0
            add(count, c * 4, c, (x[image, row].ctypes.data,), (mean.ctypes.data,))
            for j in range(c):
                block_means[i, j] = mean[j] / np.float64(count)
                mean[j] = block_means[i, j]
            add_squares(count, c * 4, c, (x[image, row].ctypes.data,), (mean.ctypes.data, square.ctypes.data))
            for j in range(c):
                block_squares[i, j] = square[j]
            block_counts[i] = count
        join_parts(block_means, block_squares, block_counts, means[image, part], squares[image, part])
    return counts


@njit(cache=True, parallel=True, error_model="numpy")
def _normalise(x, mu, scale, beta, y, rows, stream):
    """Write y = (x - mu) scale + beta; mu and scale are (N, C), of each map."""
    n, m, c = x.shape
    blocks = (m + rows - 1) // rows
    for task in prange(n * blocks):
        image, block = task // blocks, task % blocks
        first, count = block * rows, min(rows, m - block * rows)
        maps = (x[image, first].ctypes.data, y[image, first].ctypes.data)
        vectors = (mu[image].ctypes.data, scale[image].ctypes.data, beta.ctypes.data)
        if stream:
            normalise_past(count, c * 4, c, maps, vectors)
            fence()
        else:
            normalise(count, c * 4, c, maps, vectors)


@njit(cache=True, parallel=True, error_model="numpy")
def _sums_backward(dy, x, mu, rows, parts, products, sums):
    """Write sum dy (x - mu) and sum dy of the columns of each part."""
    n, m, c = x.shape
    blocks = (m + rows - 1) // rows
    for task in prange(n * parts):
        image, part = task // parts, task % parts
        product, total = np.empty(c, np.float32), np.empty(c, np.float32)
        vectors = (mu[image].ctypes.data, product.ctypes.data, total.ctypes.data)
        products[image, part], sums[image, part] = 0, 0
        for block in range(blocks * part // parts, blocks * (part + 1) // parts):
            first, count = block * rows, min(rows, m - block * rows)
            product[:], total[:] = 0, 0
            sum_products(count, c * 4, c, (dy[image, first].ctypes.data, x[image, first].ctypes.data), vectors)
            for j in range(c):
                products[image, part, j] += product[j]
                sums[image, part, j] += total[j]


@njit(cache=True, parallel=True, error_model="numpy")
def _dx(dy, x, mu, scale, slope, shift, dx, rows, stream):
    """Write dx = dy scale - (x - mu) slope - shift, backwards: the end of the maps may still be in the caches."""
    n, m, c = x.shape
    blocks = (m + rows - 1) // rows
    for number in prange(n * blocks):
        task = n * blocks - 1 - number
        image, block = task // blocks, task % blocks
        first, count = block * rows, min(rows, m - block * rows)
        maps = (dy[image, first].ctypes.data, x[image, first].ctypes.data, dx[image, first].ctypes.data)
        own = (mu[image].ctypes.data, scale[image].ctypes.data, slope[image].ctypes.data, shift[image].ctypes.data)
        if stream:
            normalise_backward_past(count, c * 4, c, maps, own)
            fence()
        else:
            normalise_backward(count, c * 4, c, maps, own)


def _cut(x: np.ndarray) -> tuple[np.ndarray, int, int, int]:
    """Return maps as (N, M, width), pixels to a row, rows to a block, and parts to a map."""
    n, channels = len(x), x.shape[-1]
    pixels = pixels_in_row(x[0].size // channels, channels)
    flat = np.ascontiguousarray(x).reshape(n, -1, pixels * channels)
    rows = block_rows(pixels * channels)
    return flat, pixels, rows, _parts(n, -(-flat.shape[1] // rows))


def group_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, *, groups: int = 32, eps: float = 1e-5) -> Any:
    """See ``mrcnn_np.ops.group_norm.group_norm``."""
    if not is_float32(x, gamma, beta) or x.ndim < 2 or x.size < max(1, SMALL):
        return NotImplemented
    n, channels = len(x), x.shape[-1]
    cut = as_groups(groups, channels)
    if cut is None or any(p.shape != (channels,) for p in (gamma, beta)):
        return NotImplemented
    groups = cut
    x = np.ascontiguousarray(x)
    flat, pixels, rows, parts = _cut(x)
    means, squares = np.empty((2, n, parts, flat.shape[2]))
    counts = _statistics(flat, rows, parts, means, squares)[:, None, None]
    # What was cut is joined: parts, pixels of a row, channels of a group. The squares are about their own means.
    shape = (n, parts, pixels, groups, channels // groups)
    means, squares = means.reshape(shape), squares.reshape(shape)
    weights = (counts / (counts.sum() * pixels * shape[-1]))[:, :, :, None]
    mu = (means * weights).sum(axis=(1, 2, 4))
    apart = means - mu[:, None, None, :, None]
    count = x[0].size // groups
    sigma2 = squares.sum(axis=(1, 2, 4)) / count + (apart * apart * weights).sum(axis=(1, 2, 4))
    per_channel = [np.repeat(a, channels // groups, axis=1) for a in (mu, 1 / np.sqrt(sigma2 + float(eps)))]
    mu, inverse_std = (a.astype(np.float32) for a in per_channel)
    y = empty(x.shape)
    wide_mu, scale, shift = (np.tile(a, pixels) for a in (mu, gamma * inverse_std, beta))
    _normalise(flat, wide_mu, scale, shift, y.reshape(flat.shape), rows, streams(y))
    return y, GroupNormCache(x, gamma, mu, inverse_std, groups)


def group_norm_backward(dy: np.ndarray, cache: GroupNormCache) -> Any:
    """See ``mrcnn_np.ops.group_norm.group_norm_backward``."""
    x, gamma, mu, inverse_std, groups = cache
    if not is_float32(dy, x, gamma, mu, inverse_std) or dy.shape != x.shape or x.size < max(1, SMALL):
        return NotImplemented
    n, channels = len(x), x.shape[-1]
    flat, pixels, rows, parts = _cut(x)
    dflat = np.ascontiguousarray(dy).reshape(flat.shape)
    wide_mu = np.tile(mu, pixels)
    both = np.empty((2, n, parts, flat.shape[2]))
    _sums_backward(dflat, flat, wide_mu, rows, parts, *both)
    products, sums = both.reshape(2, n, -1, channels).sum(axis=2)  # of each map's channels, in float64
    products *= inverse_std
    dgamma, dbeta = products.sum(axis=0).astype(np.float32), sums.sum(axis=0).astype(np.float32)

    def of_groups(per_channel: np.ndarray) -> np.ndarray:
        means = (per_channel * gamma).reshape(n, groups, -1).sum(axis=2) / (x[0].size // groups)
        return np.repeat(means, channels // groups, axis=1) * inverse_std

    dx = empty(dy.shape)
    slope, shift = of_groups(products) * inverse_std, of_groups(sums)
    vectors = (np.tile(a.astype(np.float32), pixels) for a in (gamma * inverse_std, slope, shift))
    _dx(dflat, flat, wide_mu, *vectors, dx.reshape(flat.shape), rows, streams(dx))
    return dx, dgamma, dbeta
