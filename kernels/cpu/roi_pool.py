"""RoIPool: one RoI at a time, runs over the channels.

Backward every thread owns some channels of all pixels and goes through all RoIs in order: the same sums in the same
order whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import RoIPoolCache, as_pair
from .machine.arguments import are_rois, is_float32
from .machine.threads import shares


@njit(cache=True, parallel=True, error_model="numpy")
def _pool(features, batch_index, y_first, y_end, x_first, x_end, pooled, winner):
    width, channels = features.shape[2:]
    for r in prange(pooled.shape[0]):
        image = features[batch_index[r]]
        for p in range(pooled.shape[1]):
            for q in range(pooled.shape[2]):
                best, which = pooled[r, p, q], winner[r, p, q]
                empty = y_end[r, p] <= y_first[r, p] or x_end[r, q] <= x_first[r, q]
                for k in range(channels):
                    best[k] = np.float32(0) if empty else np.float32(-np.inf)
                    which[k] = -1 if empty else np.int32(y_first[r, p] * width + x_first[r, q])
                for i in range(y_first[r, p], y_end[r, p]):
                    for j in range(x_first[r, q], x_end[r, q]):
                        cell, number = image[i, j], np.int32(i * width + j)
                        for k in range(channels):
                            new, old = cell[k], best[k]
                            # The first of equals stays; NaN wins, the first of them, like in argmax
                            won = new > old or (new != new and old == old)
                            best[k] = new if won else old
                            which[k] = number if won else which[k]


@njit(cache=True, parallel=True, error_model="numpy")
def _pool_backward(dy, winner, batch_index, parts, dfeatures):
    maps, pixels, channels = dfeatures.shape
    for pixel in prange(maps * pixels):
        dfeatures[pixel // pixels, pixel % pixels] = 0
    for part in prange(parts):
        first, last = channels * part // parts, channels * (part + 1) // parts
        for r in range(dy.shape[0]):
            target = dfeatures[batch_index[r]]
            for p in range(dy.shape[1]):
                for q in range(dy.shape[2]):
                    for k in range(first, last):
                        if winner[r, p, q, k] >= 0:
                            target[winner[r, p, q, k], k] += dy[r, p, q, k]


def _channel_parts(channels: int) -> int:
    """Return into how many parts the threads share the channels: whole vectors for each."""
    return max(1, min(shares(), channels // 16))


def _caffe_edges(low: np.ndarray, high: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    first, last = _round_half_away(low), _round_half_away(high)
    bin_side = (np.maximum(last - first + 1, 1).astype(np.float32) / np.float32(bins))[:, None]
    number = np.arange(bins, dtype=np.float32)
    start, end = np.floor(number * bin_side), np.ceil((number + 1) * bin_side)
    return first[:, None] + start.astype(np.int64), first[:, None] + end.astype(np.int64)


def _disjoint_edges(low: np.ndarray, high: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    first, end = np.floor(low).astype(np.int64), np.floor(high).astype(np.int64)
    edges = first[:, None] + np.arange(bins + 1) * np.maximum(end - first, 0)[:, None] // bins
    return edges[:, :-1], edges[:, 1:]


def _round_half_away(values: np.ndarray) -> np.ndarray:
    whole = np.trunc(values)
    return (whole + np.sign(values) * (np.abs(values - whole) >= 0.5)).astype(np.int64)


def roi_pool(
    features: np.ndarray,
    rois: np.ndarray,
    batch_index: np.ndarray,
    *,
    output_size: Any,
    spatial_scale: float,
    split: str = "caffe",
) -> Any:
    """See ``mrcnn_np.ops.roi_pool.roi_pool``."""
    bins = as_pair(output_size)
    if not is_float32(features) or features.ndim != 4 or 0 in features.shape or bins is None:
        return NotImplemented
    if not are_rois(rois, batch_index, len(features)) or split not in ("caffe", "disjoint"):
        return NotImplemented
    _, height, width, channels = features.shape
    scaled = rois.astype(np.float32) * np.float32(spatial_scale)
    edges = _caffe_edges if split == "caffe" else _disjoint_edges
    down = [np.clip(e, 0, height) for e in edges(scaled[:, 0], scaled[:, 2], bins[0])]
    across = [np.clip(e, 0, width) for e in edges(scaled[:, 1], scaled[:, 3], bins[1])]
    pooled = np.empty((len(rois), *bins, channels), np.float32)
    winner = np.empty(pooled.shape, np.int32)
    index = batch_index.astype(np.int64)
    _pool(np.ascontiguousarray(features), index, down[0], down[1], across[0], across[1], pooled, winner)
    return pooled, RoIPoolCache(features.shape, features.dtype, batch_index, winner)


def roi_pool_backward(dy: np.ndarray, cache: RoIPoolCache) -> Any:
    """See ``mrcnn_np.ops.roi_pool.roi_pool_backward``."""
    shape, dtype, batch_index, winner = cache
    if not is_float32(dy) or dtype != np.float32 or dy.shape != winner.shape or 0 in shape:
        return NotImplemented
    dfeatures = np.empty(shape, np.float32)
    flat = dfeatures.reshape(shape[0], -1, shape[3])
    _pool_backward(np.ascontiguousarray(dy), winner, batch_index.astype(np.int64), _channel_parts(shape[3]), flat)
    return dfeatures
