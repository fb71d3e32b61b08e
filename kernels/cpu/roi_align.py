"""RoIAlign without its matrix: the taps of a bin once per RoI, then runs over the channels.

The mean over a grid of samples is separable: the weights of a bin are a column of row weights times a row of column
weights. Samples of one bin that share a row or column share its tap, so a bin of less than a pixel reads 4 pixels, not
16.

Backward every thread owns some channels of all pixels and goes through all RoIs in order: the same sums in the same
order whatever the number of threads.

The parallel functions have no ``fastmath``: those they call would inherit it, and coordinates must be rounded like the
reference's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import RoIAlignCache, as_pair
from ..scalar import bilinear_taps, sample_place
from .machine.arguments import are_rois, is_float32, is_target
from .machine.threads import shares

MOST_SAMPLES = 128  # twice the samples of a bin along one axis above which the maximum is left to the reference


@njit(cache=True, error_model="numpy", inline="never")
def axis_taps(start, bin_side, bins, count, size, index, weight, number):
    """Write, for each bin of one axis, the pixels its samples read and their weights; pixels are listed once.

    Coordinates are computed like the reference's, operation by operation, so that samples fall on the same side of an
    edge. The weights include the 1 / count of the mean.
    """
    one, zero = np.float32(1), np.float32(0)
    for p in range(bins):
        base = start + np.float32(p) * bin_side
        used = 0
        begin, end = 0, count
        if count > 2 * size + 16 and bin_side > zero:  # most samples lie outside, where they weigh nothing
            step = np.float64(bin_side) / count
            begin = max(0, int(max((-1.0 - base) / step, 0.0)) - 4)
            end = min(count, int(max((size - base) / step, 0.0)) + 5)
        for i in range(begin, end):
            low, high, fraction, inside = bilinear_taps(sample_place(base, bin_side, count, i), size)
            if not inside:
                continue
            # Coordinates grow, so only the last two taps can be the same pixels
            for side in range(2):
                pixel = low if side == 0 else high
                w = (one - fraction if side == 0 else fraction) / np.float32(count)
                found = -1
                for t in range(max(0, used - 2), used):
                    if index[p, t] == pixel:
                        found = t
                if found >= 0:
                    weight[p, found] += w
                else:
                    index[p, used], weight[p, used] = pixel, w
                    used += 1
        number[p] = used


@njit(cache=True, error_model="numpy", inline="never")
def _sample_taps(start, bin_side, bins, count, size, index, weight):
    """Write the two pixels of each sample of each bin and their weights, (bins, 2 count)."""
    one, zero = np.float32(1), np.float32(0)
    for p in range(bins):
        base = start + np.float32(p) * bin_side
        for i in range(count):
            low, high, fraction, inside = bilinear_taps(sample_place(base, bin_side, count, i), size)
            index[p, 2 * i], index[p, 2 * i + 1] = low, high
            weight[p, 2 * i] = one - fraction if inside else zero
            weight[p, 2 * i + 1] = fraction if inside else zero


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="never")
def _gather(image, iy, wy, ix, wx, out):
    """Add sum over rows i and columns j of wy[i] wx[j] image[iy[i], ix[j]] to ``out`` (C,), four columns at a time."""
    channels = out.size
    columns = ix.size
    for i in range(iy.size):
        line, w = image[iy[i]], wy[i]
        j = 0
        while j + 4 <= columns:
            a, b, c, d = line[ix[j]], line[ix[j + 1]], line[ix[j + 2]], line[ix[j + 3]]
            wa, wb, wc, wd = w * wx[j], w * wx[j + 1], w * wx[j + 2], w * wx[j + 3]
            for k in range(channels):
                out[k] += wa * a[k] + wb * b[k] + wc * c[k] + wd * d[k]
            j += 4
        if j + 2 <= columns:
            a, b = line[ix[j]], line[ix[j + 1]]
            wa, wb = w * wx[j], w * wx[j + 1]
            for k in range(channels):
                out[k] += wa * a[k] + wb * b[k]
            j += 2
        if j < columns:
            a, wa = line[ix[j]], w * wx[j]
            for k in range(channels):
                out[k] += wa * a[k]


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="never")
def _scatter(dy, iy, wy, ix, wx, image, first):
    """Add wy[i] wx[j] dy to the pixels iy[i], ix[j], in the channels from ``first`` on."""
    for i in range(iy.size):
        for j in range(ix.size):
            w = wy[i] * wx[j]
            pixel = image[iy[i], ix[j], first : first + dy.size]
            for k in range(dy.size):
                pixel[k] += w * dy[k]


@njit(cache=True, parallel=True, error_model="numpy")
def _mean(features, batch_index, start, side, counts, most, pooled):
    height, width = features.shape[1:3]
    ph, pw = pooled.shape[1:3]
    for r in prange(pooled.shape[0]):
        iy, wy = np.empty((ph, most), np.int64), np.empty((ph, most), np.float32)
        ix, wx = np.empty((pw, most), np.int64), np.empty((pw, most), np.float32)
        ny, nx = np.empty(ph, np.int64), np.empty(pw, np.int64)
        axis_taps(start[r, 0], side[r, 0], ph, counts[r, 0], height, iy, wy, ny)
        axis_taps(start[r, 1], side[r, 1], pw, counts[r, 1], width, ix, wx, nx)
        image = features[batch_index[r]]
        for p in range(ph):
            for q in range(pw):
                out = pooled[r, p, q]
                out[:] = 0
                _gather(image, iy[p, : ny[p]], wy[p, : ny[p]], ix[q, : nx[q]], wx[q, : nx[q]], out)


@njit(cache=True, parallel=True, error_model="numpy")
def _mean_backward(dy, batch_index, start, side, counts, most, parts, dfeatures):
    _, height, width, channels = dfeatures.shape
    ph, pw = dy.shape[1:3]
    for part in prange(parts):
        first, last = channels * part // parts, channels * (part + 1) // parts
        iy, wy = np.empty((ph, most), np.int64), np.empty((ph, most), np.float32)
        ix, wx = np.empty((pw, most), np.int64), np.empty((pw, most), np.float32)
        ny, nx = np.empty(ph, np.int64), np.empty(pw, np.int64)
        for r in range(dy.shape[0]):
            axis_taps(start[r, 0], side[r, 0], ph, counts[r, 0], height, iy, wy, ny)
            axis_taps(start[r, 1], side[r, 1], pw, counts[r, 1], width, ix, wx, nx)
            image = dfeatures[batch_index[r]]
            for p in range(ph):
                for q in range(pw):
                    gradient = dy[r, p, q, first:last]
                    _scatter(gradient, iy[p, : ny[p]], wy[p, : ny[p]], ix[q, : nx[q]], wx[q, : nx[q]], image, first)


@njit(cache=True, parallel=True, error_model="numpy")
def _max(features, batch_index, start, side, counts, most, pooled, winner):
    height, width, channels = features.shape[1:]
    ph, pw = pooled.shape[1:3]
    for r in prange(pooled.shape[0]):
        iy, wy = np.empty((ph, most), np.int64), np.empty((ph, most), np.float32)
        ix, wx = np.empty((pw, most), np.int64), np.empty((pw, most), np.float32)
        _sample_taps(start[r, 0], side[r, 0], ph, counts[r, 0], height, iy, wy)
        _sample_taps(start[r, 1], side[r, 1], pw, counts[r, 1], width, ix, wx)
        image = features[batch_index[r]]
        value = np.empty(channels, np.float32)
        for p in range(ph):
            for q in range(pw):
                best, which = pooled[r, p, q], winner[r, p, q]
                best[:] = 0
                which[:] = 0
                for i in range(counts[r, 0]):
                    for j in range(counts[r, 1]):
                        value[:] = 0
                        here_y, here_x = slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2)
                        _gather(image, iy[p, here_y], wy[p, here_y], ix[q, here_x], wx[q, here_x], value)
                        sample = i * counts[r, 1] + j
                        for k in range(channels):
                            new, old = value[k], best[k]
                            # NaN wins, the first of them, like in argmax
                            if sample == 0 or new > old or (new != new and old == old):
                                best[k], which[k] = new, sample


@njit(cache=True, parallel=True, error_model="numpy")
def _max_backward(dy, winner, batch_index, start, side, counts, most, parts, dfeatures):
    _, height, width, channels = dfeatures.shape
    ph, pw = dy.shape[1:3]
    for part in prange(parts):
        first, last = channels * part // parts, channels * (part + 1) // parts
        iy, wy = np.empty((ph, most), np.int64), np.empty((ph, most), np.float32)
        ix, wx = np.empty((pw, most), np.int64), np.empty((pw, most), np.float32)
        for r in range(dy.shape[0]):
            if counts[r, 0] == 0 or counts[r, 1] == 0:
                continue
            _sample_taps(start[r, 0], side[r, 0], ph, counts[r, 0], height, iy, wy)
            _sample_taps(start[r, 1], side[r, 1], pw, counts[r, 1], width, ix, wx)
            image = dfeatures[batch_index[r]]
            for p in range(ph):
                for q in range(pw):
                    for k in range(first, last):
                        i, j = winner[r, p, q, k] // counts[r, 1], winner[r, p, q, k] % counts[r, 1]
                        for a in range(2 * i, 2 * i + 2):
                            for b in range(2 * j, 2 * j + 2):
                                image[iy[p, a], ix[q, b], k] += wy[p, a] * wx[q, b] * dy[r, p, q, k]


@njit(cache=True, parallel=True, error_model="numpy")
def _clear(x):
    for i in prange(x.size):
        x[i] = 0


def zeros(shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 zeros: memory that is kept has to be cleared, and all threads do that together."""
    x = np.empty(shape, np.float32)
    _clear(x.reshape(-1))
    return x


def channel_parts(channels: int) -> int:
    """Return into how many parts the threads share the channels: whole vectors for each."""
    return max(1, min(shares(), channels // 16))


def sample_grid(
    rois: np.ndarray, bins: tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Any:
    """Return start and bin sides (R, 2), samples per bin (R, 2), and room for taps; as the reference computes them."""
    offset = np.float32(0.5 if aligned else 0.0)
    corners = rois.astype(np.float32) * np.float32(spatial_scale) - offset
    start, sides = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        sides = np.maximum(sides, 1)
    bin_sides = sides / np.asarray(bins, np.float32)
    counts = np.maximum(np.ceil(bin_sides), 0).astype(np.int64)
    if sampling_ratio:
        counts[...] = sampling_ratio
    return np.ascontiguousarray(start), bin_sides, counts, 2 * int(counts.max(initial=1))


def roi_align(
    features: np.ndarray,
    rois: np.ndarray,
    batch_index: np.ndarray,
    *,
    output_size: Any,
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
    reduce: str = "mean",
) -> Any:
    """See ``mrcnn_np.ops.roi_align.roi_align``."""
    bins = as_pair(output_size)
    if not is_float32(features) or features.ndim != 4 or 0 in features.shape or bins is None:
        return NotImplemented
    if not are_rois(rois, batch_index, len(features)) or sampling_ratio < 0 or reduce not in ("mean", "max"):
        return NotImplemented
    pooled = np.empty((len(rois), *bins, features.shape[3]), np.float32)
    start, side, counts, most = sample_grid(rois, bins, spatial_scale, sampling_ratio, aligned)
    maps, index, winner = np.ascontiguousarray(features), batch_index.astype(np.int64), None
    if reduce == "mean":
        _mean(maps, index, start, side, counts, min(most, max(features.shape[1:3])), pooled)
    elif most > MOST_SAMPLES:
        return NotImplemented
    else:
        samples = np.empty(pooled.shape, np.int32)
        _max(maps, index, start, side, counts, most, pooled, samples)
        winner = samples.astype(np.min_scalar_type(counts.prod(axis=1).max(initial=1)))
    return pooled, RoIAlignCache(
        features.shape, features.dtype, rois, batch_index, bins, spatial_scale, sampling_ratio, aligned, winner,
    )  # fmt: skip


def roi_align_backward(dy: np.ndarray, cache: RoIAlignCache, *, into: np.ndarray | None = None) -> Any:
    """See ``mrcnn_np.ops.roi_align.roi_align_backward``."""
    shape, dtype, rois, batch_index, bins, spatial_scale, sampling_ratio, aligned, winner = cache
    if not is_float32(dy) or dtype != np.float32 or dy.shape != (len(rois), *bins, shape[3]) or 0 in shape:
        return NotImplemented
    if not is_target(into, shape):
        return NotImplemented
    start, side, counts, most = sample_grid(rois, bins, spatial_scale, sampling_ratio, aligned)
    if winner is not None and most > MOST_SAMPLES:
        return NotImplemented
    dy, index = np.ascontiguousarray(dy), batch_index.astype(np.int64)
    dfeatures = zeros(shape) if into is None else into
    parts = channel_parts(shape[3])
    if winner is None:
        _mean_backward(dy, index, start, side, counts, min(most, max(shape[1:3])), parts, dfeatures)
    else:
        _max_backward(dy, winner.astype(np.int32), index, start, side, counts, most, parts, dfeatures)
    return dfeatures
