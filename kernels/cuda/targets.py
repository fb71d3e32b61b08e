"""Labels of anchors without the matrix of overlaps, and mask targets read from the masks of bool.

As on the CPU the overlaps are computed twice rather than kept: first for the best anchor of each object, then for the
label of each anchor, which depends on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import TIE, as_pair
from ..scalar import ONE, ZERO, bilinear_taps, box_area, box_overlap, product, sample_place, samples_between
from .machine.arguments import is_float32
from .machine.device import (
    SIMULATED,
    blocks_for,
    contiguous,
    cuda,
    device_function,
    empty,
    float32,
    int32,
    kernel,
    launch,
    to_device,
)
from .regions import are_rois
from .roi_align import bin_samples, sample_grid

THREADS = 4 if SIMULATED else 256
CHUNK = 8 if SIMULATED else 4096  # anchors of which a block finds an object's best
OBJECTS = 2 if SIMULATED else 64  # objects in shared memory at a time
LINE = 4 if SIMULATED else 1024  # pixels of a line of a mask in shared memory at a time
INFINITY, NAN = np.float32(np.inf), np.float32(np.nan)


# --- anchors --------------------------------------------------------------------------------------------------------


@device_function
def _largest_of_block(value, parts):
    """Return the largest value of all threads of the block; none is NaN. All call it; the first gets the result."""
    t, step = cuda.threadIdx.x, THREADS // 2
    parts[t] = value
    cuda.syncthreads()
    while step > 0:
        if t < step:
            parts[t] = max(parts[t], parts[t + step])
        cuda.syncthreads()
        step //= 2
    return parts[0]


@kernel("f4[:,::1]", "f4[:,::1]", "f4[:,::1]")
def best_overlaps(anchors, objects, peaks):
    """Write, for each object (G, 4), its largest overlap with the anchors (A, 4) of each chunk: peaks (G, chunks).

    **Owns:** a block, one result; its threads share the anchors. **Shared:** the largest overlap each thread saw, then
    of two, four, ... threads. **No race:** in each round the lower half writes its own places and reads those of the
    upper half, which nobody writes; then all wait. **Floor:** 15 operations for each anchor and object; 16 bytes an
    anchor from the cache.
    """
    parts = cuda.shared.array(THREADS, float32)
    j, t = cuda.blockIdx.y, cuda.threadIdx.x
    top, left, bottom, right = objects[j, 0], objects[j, 1], objects[j, 2], objects[j, 3]
    area, largest = box_area(top, left, bottom, right), ZERO
    for i in range(cuda.blockIdx.x * CHUNK + t, min((cuda.blockIdx.x + 1) * CHUNK, anchors.shape[0]), THREADS):
        y1, x1, y2, x2 = anchors[i, 0], anchors[i, 1], anchors[i, 2], anchors[i, 3]
        own = box_area(y1, x1, y2, x2)
        largest = max(largest, box_overlap(y1, x1, y2, x2, own, top, left, bottom, right, area))
    largest = _largest_of_block(largest, parts)
    if t == 0:
        peaks[j, cuda.blockIdx.x] = largest


@kernel("f4[:,::1]", "i4", "f4", "f4[::1]")
def best_bars(peaks, match_best, share, bars):
    """Write the overlap from which on an anchor is an object's best: ``share`` of the largest, infinite without one.

    **Owns:** a block, one object. **Shared:** the largest that each thread saw. **No race:** as in ``best_overlaps``.
    **Floor:** ``peaks`` read once.
    """
    parts = cuda.shared.array(THREADS, float32)
    j, t, largest = cuda.blockIdx.x, cuda.threadIdx.x, ZERO
    for chunk in range(t, peaks.shape[1], THREADS):
        largest = max(largest, peaks[j, chunk])
    largest = _largest_of_block(largest, parts)
    if t == 0:
        bars[j] = largest * share if match_best and largest > ZERO else INFINITY


@kernel("f4[:,::1]", "f4[:,::1]", "f4[::1]", "f4", "f4", "i1[::1]", "i8[::1]")
def anchor_labels(anchors, objects, bars, negative, positive, labels, matched):
    """Write 1, -1 or 0 for each anchor, and the object it overlaps most, the first of equals.

    **Owns:** a thread, one anchor. **Shared:** ``OBJECTS`` objects at a time, with area and bar, each loaded by one
    thread. **No race:** barriers part loading from reading. **Floor:** 16 bytes read and 9 written for each anchor; 15
    operations for each anchor and object.
    """
    boxes = cuda.shared.array((OBJECTS, 6), float32)
    i, t, count = cuda.grid(1), cuda.threadIdx.x, objects.shape[0]
    here = min(i, anchors.shape[0] - 1)
    y1, x1, y2, x2 = anchors[here, 0], anchors[here, 1], anchors[here, 2], anchors[here, 3]
    own = box_area(y1, x1, y2, x2)
    best, whose, is_best = -ONE, 0, False
    for first in range(0, count, OBJECTS):
        cuda.syncthreads()
        for k in range(t, min(OBJECTS, count - first), THREADS):
            for side in range(4):
                boxes[k, side] = objects[first + k, side]
            boxes[k, 4] = box_area(boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3])
            boxes[k, 5] = bars[first + k]
        cuda.syncthreads()
        for k in range(min(OBJECTS, count - first)):
            overlap = box_overlap(y1, x1, y2, x2, own, boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3], boxes[k, 4])
            if overlap > best:
                best, whose = overlap, first + k
            is_best = is_best or overlap >= boxes[k, 5]
    if i < anchors.shape[0]:
        labels[i] = 1 if is_best or best >= positive else 0 if best >= negative and count > 0 else -1
        matched[i] = whose


def label_anchors(
    anchors: Any,
    objects: Any,
    *,
    negative_iou: float,
    positive_iou: float,
    match_best: bool,
    tie: float = TIE,
) -> Any:
    """See ``mrcnn_np.targets.label_anchors``."""
    if not is_float32(anchors, objects) or anchors.shape[1:] != (4,) or objects.shape[1:] != (4,):
        return NotImplemented
    anchors, objects = contiguous(anchors), contiguous(objects)
    labels, matched = empty(len(anchors), np.int8), empty(len(anchors), np.int64)
    chunks = blocks_for(len(anchors), CHUNK)
    peaks, bars = empty((len(objects), chunks)), empty(len(objects))
    launch(best_overlaps, (chunks, len(objects)), THREADS, anchors, objects, peaks)
    launch(best_bars, len(objects), THREADS, peaks, int(match_best), float32(1 - tie), bars)
    blocks = blocks_for(len(anchors), THREADS)
    launch(anchor_labels, blocks, THREADS, anchors, objects, bars, negative_iou, positive_iou, labels, matched)
    return labels, matched


# --- masks ----------------------------------------------------------------------------------------------------------


@kernel("u1[:,:,::1]", "i4[::1]", "f4[:,:,::1]", "i4[:,::1]", "f4[:,:,::1]")
def mask_means(masks, mask_of, axes, reach, out):
    """Write RoIAlign of masks of one channel, out (P, m, m): first down, a line of the RoI at a time, then across.

    ``axes`` and ``reach`` are those of ``roi_align.roi_axes``.

    ``mask_of`` (P,) is the number of each RoI's mask.

    **Owns:** a block, one row of one result; a thread, some of its values. **Shared:** ``LINE`` pixels of the line that
    is the mean over the row's samples, each written by one thread. **No race:** barriers part its writing from its
    reading, and the sum of each result is kept by its owner. **Floor:** two bytes read for each row of samples and
    pixel between the RoI's sides.
    """
    line = cuda.shared.array(LINE, float32)
    r, p, t = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    height, width, bins = masks.shape[1], masks.shape[2], out.shape[2]
    base_y, side_y, count_y, first_i, end_i = bin_samples(axes, r, 0, p, height)
    start_x, side_x, count_x = axes[r, 1, 0], axes[r, 1, 1], int32(axes[r, 1, 2])
    for q in range(t, bins, THREADS):
        out[r, p, q] = ZERO if count_y >= 0 else NAN
    end_x = min(reach[r, 4] + 1, width) if count_y > 0 and count_x > 0 else 0
    for first in range(max(reach[r, 3], 0), end_x, LINE):
        cuda.syncthreads()
        for x in range(t, min(LINE, end_x - first), THREADS):
            total = ZERO
            for i in range(first_i, end_i):
                top, bottom, fraction, inside = bilinear_taps(sample_place(base_y, side_y, count_y, i), height)
                if inside:
                    above, below = masks[mask_of[r], top, first + x], masks[mask_of[r], bottom, first + x]
                    total += (ONE - fraction) * float32(above) + fraction * float32(below)
            line[x] = total / float32(count_y)
        cuda.syncthreads()
        for q in range(t, bins, THREADS):
            base_x, total = start_x + product(float32(q), side_x), ZERO
            first_j, end_j = samples_between(base_x, side_x, count_x, first - 1, first + LINE)
            for j in range(first_j, end_j):
                left, right, fraction, inside = bilinear_taps(sample_place(base_x, side_x, count_x, j), width)
                if inside and first <= left < first + LINE:
                    total += (ONE - fraction) * line[left - first]
                if inside and first <= right < first + LINE:
                    total += fraction * line[right - first]
            out[r, p, q] += total / float32(count_x)


def crop_masks(masks: Any, owner: Any, rois: Any, *, output_size: int, method: str, aligned: bool) -> Any:
    """See ``mrcnn_np.targets.crop_masks``; by RoIAlign from masks of bool, only what the RoIs touch.

    Masks and owners may lie on the host: they are copied.
    """
    bins = as_pair(output_size)
    if not is_float32(rois) or masks.dtype != np.bool_ or masks.ndim != 3 or 0 in masks.shape[1:]:
        return NotImplemented
    masks, owner = to_device(masks), to_device(owner)
    if method != "roi_align" or bins is None or not are_rois(rois, owner):
        return NotImplemented
    out = empty((len(rois), *bins))
    mask_of, axes, reach = sample_grid(rois, owner, masks.shape, bins, 1.0, 0, aligned)
    launch(mask_means, out.shape[:2], THREADS, contiguous(masks).view(np.uint8), mask_of, axes, reach, out)
    return out
