"""RoIPool: a thread looks through one bin for one channel; backward each pixel looks who it was the largest of.

See ``regions.gather`` for the backward pass. Its cache has no boxes, so where the bins lie is learnt from the winners.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import RoIPoolCache, as_pair
from ..scalar import ONE, ZERO, pool_bin, product, scalar
from .machine.arguments import is_float32
from .machine.device import SIMULATED, blocks_for, contiguous, cuda, empty, int32, kernel, launch
from .regions import are_rois, plain
from .regions.gather import gather_won, launch_gather_won

ACROSS, BINS = (2, 2) if SIMULATED else (64, 4)  # a block: channels, bins
THREADS = 4 if SIMULATED else 128
NAN, INFINITY = np.float32(np.nan), np.float32(np.inf)


@kernel("f4[:,:,:,::1]", "f4[:,::1]", "i4[::1]", "f4", "i4", "f4[:,:,:,::1]", "i4[:,:,:,::1]")
def roi_pool_largest(features, rois, map_of, scale, caffe, pooled, winner):
    """Write the largest cell of each bin, pooled (R, ph, pw, C), and its number; 0 and -1 for a bin without cells.

    **Owns:** a thread, one channel of one bin (and further ones, ``ACROSS`` apart), so that neighbours read and write
    neighbours. **Shared:** nothing. **No race:** nobody reads a result. **Floor:** the cells of the RoIs read once, 8
    bytes written for each value.
    """
    number = cuda.blockIdx.x * BINS + cuda.threadIdx.y
    count, ph, pw, channels = pooled.shape
    images, height, width = features.shape[0], features.shape[1], features.shape[2]
    if number >= count * ph * pw:
        return
    r, p, q = number // (ph * pw), number // pw % ph, number % pw
    y1, x1 = product(rois[r, 0], scale), product(rois[r, 1], scale)
    y2, x2 = product(rois[r, 2], scale), product(rois[r, 3], scale)
    finite = abs(y1) < INFINITY and abs(x1) < INFINITY and abs(y2) < INFINITY and abs(x2) < INFINITY
    readable = finite and 0 <= map_of[r] < images
    top, bottom, left, right = 0, 0, 0, 0
    if readable:
        top, bottom = pool_bin(y1, y2, p, ph, height, caffe)
        left, right = pool_bin(x1, x2, q, pw, width, caffe)
    empty_bin = bottom <= top or right <= left
    for c in range(cuda.threadIdx.x, channels, ACROSS):
        best, which = -INFINITY, top * width + left
        for i in range(top, bottom):
            for j in range(left, right):
                new = features[map_of[r], i, j, c]
                # The first of equals stays; NaN wins, the first of them, like in argmax
                if new > best or (new != new and best == best):
                    best, which = new, i * width + j
        pooled[r, p, q, c] = NAN if not readable else ZERO if empty_bin else best
        winner[r, p, q, c] = -1 if empty_bin else which


@kernel("i4[:,:,:,::1]", "i4", "i4[:,:,::1]")
def roi_pool_extents(winner, width, extents):
    """Write the first and last row that won in each row of bins, and column in each column, (R, ph + pw, 2).

    **Owns:** a block, a row or a column of bins of one RoI. **Shared:** the smallest and largest that each thread saw.
    **No race:** a thread writes its own entry, and after a barrier the first reads all. **Floor:** ``winner`` read
    once; here it is read twice, for rows and for columns.
    """
    lows = cuda.shared.array(THREADS, int32)
    highs = cuda.shared.array(THREADS, int32)
    r, line, t = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    ph, pw, channels = winner.shape[1], winner.shape[2], winner.shape[3]
    low, high = 2**31 - 1, -1
    for entry in range(t, (pw if line < ph else ph) * channels, THREADS):
        other, c = entry // channels, entry % channels
        cell = winner[r, line, other, c] if line < ph else winner[r, other, line - ph, c]
        if cell >= 0:
            place = cell // width if line < ph else cell % width
            low, high = min(low, place), max(high, place)
    lows[t], highs[t] = low, high
    cuda.syncthreads()
    if t == 0:
        for other in range(THREADS):
            low, high = min(low, lows[other]), max(high, highs[other])
        extents[r, line, 0], extents[r, line, 1] = low, high


@kernel("i4[:,:,::1]", "i4[::1]", "i4", "i4[:,::1]")
def roi_pool_reach(extents, map_of, ph, reach):
    """Write map, first and last row, first and last column of each RoI, (R, 5).

    **Owns:** a thread, one RoI. **Shared:** nothing. **No race:** each writes its own. **Floor:** ``extents`` read
    once.
    """
    r = cuda.grid(1)
    if r < reach.shape[0]:
        reach[r, 0] = map_of[r]
        for axis in range(2):
            first, end = (0, ph) if axis == 0 else (ph, extents.shape[1])
            low, high = 2**31 - 1, -1
            for line in range(first, end):
                low, high = min(low, extents[r, line, 0]), max(high, extents[r, line, 1])
            reach[r, 1 + 2 * axis], reach[r, 2 + 2 * axis] = low, high


@scalar
def covers(extents, r, axis, number, bins, size, pixel):
    """Tell whether something won on this row (axis 0) or column of a bin."""
    line = number if axis == 0 else extents.shape[1] - bins + number
    return extents[r, line, 0] <= pixel <= extents[r, line, 1]


@scalar
def cell_share(extents, r, p, q, winner, y, x, height, width):
    """Return 1 if the pixel won, else 0."""
    return ONE if winner == y * width + x else ZERO


_backward = gather_won("roi_pool_backward", "i4[:,:,::1]", "i4[:,:,:,::1]", covers, cell_share)


def roi_pool(
    features: Any,
    rois: Any,
    batch_index: Any,
    *,
    output_size: Any,
    spatial_scale: float,
    split: str = "caffe",
) -> Any:
    """See ``mrcnn_np.ops.roi_pool.roi_pool``."""
    bins = as_pair(output_size)
    if not is_float32(features) or features.ndim != 4 or 0 in features.shape[1:3] or bins is None:
        return NotImplemented
    if not are_rois(rois, batch_index) or split not in ("caffe", "disjoint"):
        return NotImplemented
    pooled = empty((len(rois), *bins, features.shape[3]))
    winner = empty(pooled.shape, np.int32)
    launch(
        roi_pool_largest, blocks_for(len(rois) * bins[0] * bins[1], BINS), (ACROSS, BINS), contiguous(features),
        plain(rois, np.float32), plain(batch_index, np.int32), spatial_scale, int(split == "caffe"), pooled, winner,
    )  # fmt: skip
    return pooled, RoIPoolCache(features.shape, features.dtype, batch_index, winner)


def roi_pool_backward(dy: Any, cache: RoIPoolCache) -> Any:
    """See ``mrcnn_np.ops.roi_pool.roi_pool_backward``."""
    shape, dtype, batch_index, winner = cache
    if not is_float32(dy) or dtype != np.float32 or dy.shape != winner.shape:
        return NotImplemented
    count, ph, pw, _ = winner.shape
    winner, map_of = contiguous(winner), plain(batch_index, np.int32)
    extents, reach = empty((count, ph + pw, 2), np.int32), empty((count, 5), np.int32)
    launch(roi_pool_extents, (count, ph + pw), THREADS, winner, shape[2], extents)
    launch(roi_pool_reach, blocks_for(count, THREADS), THREADS, extents, map_of, ph, reach)
    return launch_gather_won(_backward, contiguous(dy), winner, extents, reach, shape)
