"""RoIAlign without its matrix: the taps of a bin once per RoI, then runs over the channels.

The mean over a grid of samples is separable: the weights of a bin are a column of row weights times a row of column
weights. Samples of one bin that share a row or column share its tap, so a bin of less than a pixel reads 4 pixels, not
16.

Backward a task owns a band of rows of one image's map and goes through that image's RoIs in order: the same sums in
the same order however many tasks and threads there are. A RoI that lies across two bands is met twice, each time for
the rows of that band.

``gather`` and ``scatter`` take whole arrays and index them. Handed a view for each bin, they would count its references
up and down, which threads have to do one after the other; that took longer than the sums.

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
from .machine.turns import new_turns, take

BAND = 8  # rows of a map that are worth a task of their own
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
def gather(image, iy, wy, ny, ix, wx, nx, out):
    """Write sum over rows i and columns j of wy[p, i] wx[q, j] image[iy[p, i], ix[q, j]] to ``out`` (ph, pw, C)."""
    channels = out.shape[2]
    for p in range(out.shape[0]):
        for q in range(out.shape[1]):
            for k in range(channels):
                out[p, q, k] = 0
            for i in range(ny[p]):
                y, w = iy[p, i], wy[p, i]
                j = 0
                while j + 4 <= nx[q]:  # four columns at a time
                    a, b, c, d = ix[q, j], ix[q, j + 1], ix[q, j + 2], ix[q, j + 3]
                    wa, wb, wc, wd = w * wx[q, j], w * wx[q, j + 1], w * wx[q, j + 2], w * wx[q, j + 3]
                    for k in range(channels):
                        left = wa * image[y, a, k] + wb * image[y, b, k]
                        out[p, q, k] += left + wc * image[y, c, k] + wd * image[y, d, k]
                    j += 4
                if j + 2 <= nx[q]:
                    a, b = ix[q, j], ix[q, j + 1]
                    wa, wb = w * wx[q, j], w * wx[q, j + 1]
                    for k in range(channels):
                        out[p, q, k] += wa * image[y, a, k] + wb * image[y, b, k]
                    j += 2
                if j < nx[q]:
                    a, wa = ix[q, j], w * wx[q, j]
                    for k in range(channels):
                        out[p, q, k] += wa * image[y, a, k]


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="never")
def _read(image, iy, wy, ix, wx, p, q, i, j, value):
    """Write sample (i, j) of bin (p, q) to ``value`` (C,): taps 2 i and 2 i + 1 down, 2 j and 2 j + 1 across."""
    value[:] = 0
    left, right = ix[q, 2 * j], ix[q, 2 * j + 1]
    for a in range(2 * i, 2 * i + 2):
        y, w_left, w_right = iy[p, a], wy[p, a] * wx[q, 2 * j], wy[p, a] * wx[q, 2 * j + 1]
        for k in range(value.size):
            value[k] += w_left * image[y, left, k] + w_right * image[y, right, k]


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="never")
def scatter(dy, iy, wy, ny, ix, wx, nx, image, band):
    """Add wy[p, i] wx[q, j] dy[p, q] to the pixels iy[p, i], ix[q, j], in the rows of the band."""
    for p in range(dy.shape[0]):
        for i in range(ny[p]):
            y = iy[p, i]
            if band[0] <= y < band[1]:
                for q in range(dy.shape[1]):
                    for j in range(nx[q]):
                        x, w = ix[q, j], wy[p, i] * wx[q, j]
                        for k in range(dy.shape[2]):
                            image[y, x, k] += w * dy[p, q, k]


@njit(cache=True, error_model="numpy")
def band_of(which, bands, height):
    """Return the first row of a band and the first after it."""
    return height * which // bands, height * (which + 1) // bands


def row_bands(images: int, height: int, threads: int) -> int:
    """Return into how many bands of rows each map is cut: some tasks for each thread, of at least ``BAND`` rows."""
    return max(1, min(height // BAND, -(-4 * threads // images)))


@njit(cache=True, error_model="numpy")
def _touches(start, bin_side, bins, band):
    """Tell whether samples of a RoI may read rows of the band; those beyond the map read its edge, or nothing."""
    end = start + np.float32(bins) * bin_side
    return min(start, end) - 2 < band[1] and max(start, end) + 2 >= band[0]


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
        gather(features[batch_index[r]], iy, wy, ny, ix, wx, nx, pooled[r])


@njit(cache=True, parallel=True, error_model="numpy")
def _mean_backward(dy, batch_index, start, side, counts, most, bands, threads, dfeatures):
    images, height, width, _ = dfeatures.shape
    ph, pw = dy.shape[1:3]
    turns = new_turns()
    for _thread in prange(threads):
        iy, wy = np.empty((ph, most), np.int64), np.empty((ph, most), np.float32)
        ix, wx = np.empty((pw, most), np.int64), np.empty((pw, most), np.float32)
        ny, nx = np.empty(ph, np.int64), np.empty(pw, np.int64)
        task = take(turns)
        while task < images * bands:
            n, band = task // bands, band_of(task % bands, bands, height)
            for r in range(dy.shape[0]):
                if batch_index[r] != n or not _touches(start[r, 0], side[r, 0], ph, band):
                    continue
                axis_taps(start[r, 0], side[r, 0], ph, counts[r, 0], height, iy, wy, ny)
                axis_taps(start[r, 1], side[r, 1], pw, counts[r, 1], width, ix, wx, nx)
                scatter(dy[r], iy, wy, ny, ix, wx, nx, dfeatures[n], band)
            task = take(turns)


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
                        _read(image, iy, wy, ix, wx, p, q, i, j, value)
                        sample = i * counts[r, 1] + j
                        for k in range(channels):
                            new, old = value[k], best[k]
                            # NaN wins, the first of them, like in argmax
                            if sample == 0 or new > old or (new != new and old == old):
                                best[k], which[k] = new, sample


@njit(cache=True, parallel=True, error_model="numpy")
def _max_backward(dy, winner, batch_index, start, side, counts, most, bands, threads, dfeatures):
    images, height, width, channels = dfeatures.shape
    ph, pw = dy.shape[1:3]
    turns = new_turns()
    for _thread in prange(threads):
        iy, wy = np.empty((ph, most), np.int64), np.empty((ph, most), np.float32)
        ix, wx = np.empty((pw, most), np.int64), np.empty((pw, most), np.float32)
        task = take(turns)
        while task < images * bands:
            n, band = task // bands, band_of(task % bands, bands, height)
            for r in range(dy.shape[0]):
                if batch_index[r] != n or not _touches(start[r, 0], side[r, 0], ph, band):
                    continue
                if counts[r, 0] == 0 or counts[r, 1] == 0:
                    continue
                _sample_taps(start[r, 0], side[r, 0], ph, counts[r, 0], height, iy, wy)
                _sample_taps(start[r, 1], side[r, 1], pw, counts[r, 1], width, ix, wx)
                for p in range(ph):
                    for q in range(pw):
                        for k in range(channels):
                            i, j = winner[r, p, q, k] // counts[r, 1], winner[r, p, q, k] % counts[r, 1]
                            for a in range(2 * i, 2 * i + 2):
                                if band[0] <= iy[p, a] < band[1]:
                                    for b in range(2 * j, 2 * j + 2):
                                        dfeatures[n, iy[p, a], ix[q, b], k] += wy[p, a] * wx[q, b] * dy[r, p, q, k]
            task = take(turns)


@njit(cache=True, parallel=True, error_model="numpy")
def _clear(x):
    for i in prange(x.size):
        x[i] = 0


def zeros(shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 zeros: memory that is kept has to be cleared, and all threads do that together."""
    x = np.empty(shape, np.float32)
    _clear(x.reshape(-1))
    return x


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
    threads = shares()
    bands = row_bands(*shape[:2], threads)
    if winner is None:
        _mean_backward(dy, index, start, side, counts, min(most, max(shape[1:3])), bands, threads, dfeatures)
    else:
        _max_backward(dy, winner.astype(np.int32), index, start, side, counts, most, bands, threads, dfeatures)
    return dfeatures
