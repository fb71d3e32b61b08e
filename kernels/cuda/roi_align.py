"""RoIAlign: a thread reads one bin for a few channels; backward a block of threads collects for a tile of pixels.

The CPU lists the taps of a bin once per RoI, because there a run over the channels follows. Here the channels run
beside each other, in the threads, so each thread finds the taps of its bin itself: 20 operations for every sample,
beside the 16 numbers (4 taps of 4 channels) it reads for each. See ``regions.gather`` for the backward pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import RoIAlignCache, as_pair
from ..scalar import (
    ONE,
    ZERO,
    bilinear_taps,
    pixel_weight,
    product,
    region_axis,
    sample_place,
    samples_between,
    samples_per_bin,
    scalar,
)
from .machine.arguments import is_float32
from .machine.device import SIMULATED, blocks_for, contiguous, cuda, empty, float32, kernel, launch
from .regions import are_rois, is_target, plain
from .regions.gather import gather, gather_won, launch_gather, launch_gather_won

ACROSS, BINS, EACH = (2, 2, 2) if SIMULATED else (64, 4, 4)  # a block: channels, bins; channels of a thread
THREADS = 4 if SIMULATED else 128
NAN, INFINITY = np.float32(np.nan), np.float32(np.inf)


@kernel("f4[:,::1]", "i4[::1]", "f4", "f4", "i4", "i4", "i4", "i4", "i4", "i4", "i4", "f4[:,:,::1]", "i4[:,::1]")
def roi_axes(rois, map_of, scale, offset, ph, pw, ratio, aligned, images, height, width, axes, reach):
    """Write start, bin side and samples per bin of each RoI on both axes, (R, 2, 3), and the pixels it reaches.

    ``reach`` (R, 5) is its map, first and last row, first and last column, a pixel more on either side for rounding.
    A RoI that cannot be read has -1 samples and reaches nothing.

    ``map_of`` (R,) is the number of each RoI's map.

    **Owns:** a thread, one RoI. **Shared:** nothing. **No race:** each writes its own. **Floor:** 64 bytes for each.
    """
    r = cuda.grid(1)
    if r >= rois.shape[0]:
        return
    reach[r, 0] = map_of[r]
    readable = 0 <= map_of[r] < images
    for axis in range(2):
        bins, size = (ph, height) if axis == 0 else (pw, width)
        start, side = region_axis(rois[r, axis], rois[r, axis + 2], scale, offset, bins, aligned)
        count = samples_per_bin(side, ratio)
        end = start + side * float32(bins)
        low, high = max(min(start, end), -ONE), min(max(start, end), float32(size))
        readable = readable and abs(start) < INFINITY and abs(side) < INFINITY
        axes[r, axis, 0], axes[r, axis, 1], axes[r, axis, 2] = start, side, float32(count)
        if readable and low <= high and count > 0:
            reach[r, 1 + 2 * axis], reach[r, 2 + 2 * axis] = int(low) - 1, int(high) + 2
        else:
            reach[r, 1 + 2 * axis], reach[r, 2 + 2 * axis] = size, -1
    if not readable:
        axes[r, 0, 2], axes[r, 1, 2] = -ONE, -ONE


@scalar
def _bin_of(number, ph, pw):
    """Return the RoI and the row and column of a bin from its number."""
    return number // (ph * pw), number // pw % ph, number % pw


@scalar
def bin_samples(axes, r, axis, number, size):
    """Return start, side and samples of a bin on one axis, and first and end of the samples that may lie on the map.

    ``product``: must not be fused with the addition, so that the start has the CPU's bits. (In ``sample_place`` a
    division stands between, and ``can_touch`` has a margin.)
    """
    start, side, count = axes[r, axis, 0], axes[r, axis, 1], np.int32(axes[r, axis, 2])
    base = start + product(np.float32(number), side)
    first, end = samples_between(base, side, count, -1, size)
    return base, side, count, first, end


@scalar
def _bilinear(features, pixel, down, across, fy, fx):
    """Return the value between four pixels: at ``pixel`` of the flat maps, ``down`` and ``across`` further."""
    above = (ONE - fx) * features[pixel] + fx * features[pixel + across]
    below = (ONE - fx) * features[pixel + down] + fx * features[pixel + down + across]
    return (ONE - fy) * above + fy * below


@scalar
def _mean(total, count_y, count_x):
    """Return the mean of a bin: 0 without samples, NaN for a RoI that cannot be read."""
    if count_y < 0:
        return NAN
    samples = np.float32(count_y) * np.float32(count_x)
    return total / samples if samples > ZERO else ZERO


@kernel("f4[::1]", "i4", "i4", "i4[::1]", "f4[:,:,::1]", "f4[:,:,:,::1]")
def roi_align_mean(features, height, width, map_of, axes, pooled):
    """Write the mean over the samples of each bin, pooled (R, ph, pw, C), from the maps (N, H, W, C), taken flat.

    **Owns:** a thread, ``EACH`` channels of one bin, ``ACROSS`` apart (and further ones if there are more), so that
    neighbours read and write neighbours. **Shared:** nothing; threads of a bin compute the same coordinates, and the
    cache brings them the same numbers of ``axes``. **No race:** nobody reads a result. **Floor:** the pixels that are
    touched read once, pooled written once; 16 bytes of the cache and 12 operations for each sample and channel.
    """
    number = cuda.blockIdx.x * BINS + cuda.threadIdx.y
    count, ph, pw, channels = pooled.shape
    if number >= count * ph * pw:
        return
    r, p, q = _bin_of(number, ph, pw)
    total = cuda.local.array(EACH, float32)
    channel = cuda.local.array(EACH, np.uint64)  # unsigned: see ``regions.gather``
    base_y, side_y, count_y, first_i, end_i = bin_samples(axes, r, 0, p, height)
    base_x, side_x, count_x, first_j, end_j = bin_samples(axes, r, 1, q, width)
    for first in range(cuda.threadIdx.x, channels, ACROSS * EACH):
        for k in range(EACH):  # the last channel again, where there are no more: then nothing has to be asked below
            total[k], channel[k] = ZERO, np.uint64(min(first + k * ACROSS, channels - 1))
        for i in range(first_i, end_i):
            top, bottom, fy, inside_y = bilinear_taps(sample_place(base_y, side_y, count_y, i), height)
            for j in range(first_j, end_j):
                left, right, fx, inside_x = bilinear_taps(sample_place(base_x, side_x, count_x, j), width)
                if inside_y and inside_x:
                    pixel = np.uint64(((map_of[r] * height + top) * width + left) * channels)
                    down, across = np.uint64((bottom - top) * width * channels), np.uint64((right - left) * channels)
                    for k in range(EACH):
                        total[k] += _bilinear(features, pixel + channel[k], down, across, fy, fx)
        for k in range(EACH):
            if first + k * ACROSS < channels:
                pooled[r, p, q, first + k * ACROSS] = _mean(total[k], count_y, count_x)


@kernel("f4[:,:,:,::1]", "i4[::1]", "f4[:,:,::1]", "f4[:,:,:,::1]", "i8[:,:,:,::1]")
def roi_align_max(features, map_of, axes, pooled, winner):
    """Write the largest sample of each bin, and its number: the first of equals; NaN wins.

    **Owns:** a thread, one channel of one bin (and further ones, ``ACROSS`` apart). **Shared:** nothing. **No race:**
    nobody reads a result. **Floor:** as the mean, and 8 bytes more written for each value.
    """
    number = cuda.blockIdx.x * BINS + cuda.threadIdx.y
    count, ph, pw, channels = pooled.shape
    height, width = features.shape[1], features.shape[2]
    if number >= count * ph * pw:
        return
    r, p, q = _bin_of(number, ph, pw)
    base_y, side_y, count_y, first_i, end_i = bin_samples(axes, r, 0, p, height)
    base_x, side_x, count_x, first_j, end_j = bin_samples(axes, r, 1, q, width)
    for c in range(cuda.threadIdx.x, channels, ACROSS):
        best, which = ZERO, np.int64(-1)
        # All samples outside are 0, and of equals the first wins: sample 0 stands for those before the range, and the
        # range's margin for those behind
        for step_i in range(max(first_i - 1, 0), end_i):
            i = step_i if step_i >= first_i else 0
            top, bottom, fy, inside_y = bilinear_taps(sample_place(base_y, side_y, count_y, i), height)
            for step_j in range(max(first_j - 1, 0), end_j):
                j = step_j if step_j >= first_j else 0
                left, right, fx, inside_x = bilinear_taps(sample_place(base_x, side_x, count_x, j), width)
                new = ZERO
                if inside_y and inside_x:
                    above = (ONE - fx) * features[map_of[r], top, left, c] + fx * features[map_of[r], top, right, c]
                    below = (ONE - fx) * features[map_of[r], bottom, left, c] + fx * features[
                        map_of[r], bottom, right, c
                    ]
                    new = (ONE - fy) * above + fy * below
                if which < 0 or new > best or (new != new and best == best):
                    best, which = new, np.int64(i) * count_x + j
        pooled[r, p, q, c] = NAN if count_y < 0 else best
        winner[r, p, q, c] = max(which, 0)


# --- backward -------------------------------------------------------------------------------------------------------


@scalar
def bin_weight(axes, r, axis, number, bins, size, pixel):
    """Return the weight of a pixel of one axis in a bin of RoI r."""
    start, side, count = axes[r, axis, 0], axes[r, axis, 1], np.int32(axes[r, axis, 2])
    return pixel_weight(start + product(np.float32(number), side), side, count, size, pixel)


@scalar
def can_touch(axes, r, axis, number, bins, size, pixel):
    """Tell whether the samples of a bin may read a pixel of one axis.

    With a pixel more on either side for rounding, so the products may be fused with the additions.
    """
    start, side = axes[r, axis, 0], axes[r, axis, 1]
    low, high = start + np.float32(number) * side, start + np.float32(number + 1) * side
    low, high = max(min(low, high), -ONE), min(max(low, high), np.float32(size))
    return np.float32(pixel - 2) <= high and np.float32(pixel + 2) >= low


@scalar
def tap_weight(axes, r, axis, number, sample, size, pixel):
    """Return the weight of a pixel of one axis in one sample of a bin."""
    start, side, count = axes[r, axis, 0], axes[r, axis, 1], np.int32(axes[r, axis, 2])
    base = start + product(np.float32(number), side)
    low, high, fraction, inside = bilinear_taps(sample_place(base, side, count, sample), size)
    weight = ZERO
    if inside and low == pixel:
        weight += ONE - fraction
    if inside and high == pixel:
        weight += fraction
    return weight


@scalar
def sample_share(axes, r, p, q, winner, y, x, height, width):
    """Return the share of a pixel in the winning sample of a bin."""
    count_x = np.int64(axes[r, 1, 2])
    wy = tap_weight(axes, r, 0, p, winner // count_x, height, y)
    return wy * tap_weight(axes, r, 1, q, winner % count_x, width, x)


_mean_backward = gather("roi_align_mean_backward", bin_weight)
_max_backward = gather_won("roi_align_max_backward", "f4[:,:,::1]", "i8[:,:,:,::1]", can_touch, sample_share)


# --- what is called -------------------------------------------------------------------------------------------------


def sample_grid(
    rois: Any,
    batch_index: Any,
    shape: tuple[int, ...],
    bins: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Any:
    """Return the number of each RoI's map, and what ``roi_axes`` writes."""
    map_of, axes, reach = plain(batch_index, np.int32), empty((len(rois), 2, 3)), empty((len(rois), 5), np.int32)
    launch(
        roi_axes, blocks_for(len(rois), THREADS), THREADS, plain(rois, np.float32), map_of, spatial_scale,
        0.5 if aligned else 0.0, *bins, sampling_ratio, int(aligned), *shape[:3], axes, reach,
    )  # fmt: skip
    return map_of, axes, reach


def roi_align(
    features: Any,
    rois: Any,
    batch_index: Any,
    *,
    output_size: Any,
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
    reduce: str = "mean",
) -> Any:
    """See ``mrcnn_np.ops.roi_align.roi_align``."""
    bins = as_pair(output_size)
    if not is_float32(features) or features.ndim != 4 or 0 in features.shape[1:3] or bins is None:
        return NotImplemented
    if not are_rois(rois, batch_index) or sampling_ratio < 0 or reduce not in ("mean", "max"):
        return NotImplemented
    _, height, width, channels = features.shape
    map_of, axes, _ = sample_grid(rois, batch_index, features.shape, bins, spatial_scale, sampling_ratio, aligned)
    pooled, winner = empty((len(rois), *bins, channels)), None
    blocks = blocks_for(len(rois) * bins[0] * bins[1], BINS)
    if reduce == "mean":
        flat = contiguous(features).reshape(-1)
        launch(roi_align_mean, blocks, (ACROSS, BINS), flat, height, width, map_of, axes, pooled)
    else:
        samples = empty(pooled.shape, np.int64)
        launch(roi_align_max, blocks, (ACROSS, BINS), contiguous(features), map_of, axes, pooled, samples)
        # How many samples a bin has is known here only if it was asked for
        winner = samples.astype(np.min_scalar_type(sampling_ratio**2) if sampling_ratio else np.uint64)
    return pooled, RoIAlignCache(
        features.shape, features.dtype, rois, batch_index, bins, spatial_scale, sampling_ratio, aligned, winner,
    )  # fmt: skip


def roi_align_backward(dy: Any, cache: RoIAlignCache, *, into: Any = None) -> Any:
    """See ``mrcnn_np.ops.roi_align.roi_align_backward``."""
    shape, dtype, rois, batch_index, bins, spatial_scale, sampling_ratio, aligned, winner = cache
    if not is_float32(dy) or dtype != np.float32 or dy.shape != (len(rois), *bins, shape[3]):
        return NotImplemented
    if not are_rois(rois, batch_index) or not is_target(into, shape):
        return NotImplemented
    _, axes, reach = sample_grid(rois, batch_index, shape, bins, spatial_scale, sampling_ratio, aligned)
    if winner is None:
        return launch_gather(_mean_backward, contiguous(dy), axes, reach, shape, into)
    return launch_gather_won(_max_backward, contiguous(dy), plain(winner, np.int64), axes, reach, shape, into)
