"""Labels of anchors without the matrix of overlaps, and mask targets read from the masks of bool."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import TIE, as_pair
from ..scalar import box_area, box_overlap
from .boxes import areas_of
from .machine.arguments import are_rois, is_float32
from .roi_align import axis_taps, sample_grid

SMALL = 1 << 12  # overlaps below which NumPy is faster than starting the threads
BLOCK = 2048  # anchors whose overlaps with one object are computed together


@njit(cache=True, parallel=True, error_model="numpy")
def _best_overlaps(anchors, objects, best, matched, peaks):
    """Write each anchor's largest overlap and whose it is, and for each block of anchors each object's largest.

    Block by block, so that neither the (A, G) overlaps nor their temporaries ever go to memory.
    """
    count, areas = anchors.shape[0], areas_of(objects)
    for block in prange(peaks.shape[0]):
        first = block * BLOCK
        size = min(BLOCK, count - first)
        columns = np.zeros((4, BLOCK), np.float32)
        for i in range(size):
            for side in range(4):
                columns[side, i] = anchors[first + i, side]
        own, overlaps = areas_of(columns), np.zeros(BLOCK, np.float32)
        top, left, bottom, right = columns[0], columns[1], columns[2], columns[3]
        largest, whose = best[first : first + size], matched[first : first + size]
        for j in range(areas.size):
            y1, x1, y2, x2, area = objects[0, j], objects[1, j], objects[2, j], objects[3, j], areas[j]
            for i in range(BLOCK):
                overlaps[i] = box_overlap(top[i], left[i], bottom[i], right[i], own[i], y1, x1, y2, x2, area)
            for i in range(size):
                better = overlaps[i] > largest[i] or j == 0  # not ">=": the first of equals stays
                largest[i] = overlaps[i] if better else largest[i]
                whose[i] = j if better else whose[i]
            peaks[block, j] = _largest(overlaps)


@njit(cache=True, error_model="numpy", fastmath={"nnan", "nsz"}, inline="never")
def _largest(x):
    """Return the largest number of an array that holds no NaN."""
    largest = x[0]
    for i in range(x.size):
        largest = max(largest, x[i])
    return largest


@njit(cache=True, parallel=True, error_model="numpy")
def _labels(anchors, objects, best, bars, negative, positive, labels):
    """Write 1, -1 or 0; an anchor is an object's best if it reaches the object's bar."""
    areas = areas_of(objects)
    lowest = bars.min()
    for i in prange(labels.size):
        label = 0 if best[i] >= negative else -1
        if best[i] >= positive:
            label = 1
        elif best[i] >= lowest:  # else it cannot reach any of the bars: few anchors are compared again
            y1, x1, y2, x2 = anchors[i, 0], anchors[i, 1], anchors[i, 2], anchors[i, 3]
            area = box_area(y1, x1, y2, x2)
            for j in range(areas.size):
                overlap = box_overlap(
                    y1, x1, y2, x2, area, objects[0, j], objects[1, j], objects[2, j], objects[3, j], areas[j]
                )
                if overlap >= bars[j]:
                    label = 1
        labels[i] = label


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="never")
def _add_lines(mask, iy, wy, first, total):
    """Write the sum over i of wy[i] mask[iy[i], first:], as many pixels as ``total`` has."""
    total[:] = 0
    for i in range(iy.size):
        line, w = mask[iy[i], first : first + total.size], wy[i]
        for x in range(total.size):
            total[x] += w * np.float32(line[x])


@njit(cache=True, parallel=True, error_model="numpy")
def _mean_of_masks(masks, owner, start, side, counts, most, out):
    """RoIAlign with one channel: first down, whole lines of the RoI at a time, then across."""
    height, width = masks.shape[1:]
    m = out.shape[1]
    for r in prange(out.shape[0]):
        iy, wy = np.empty((m, most), np.int64), np.empty((m, most), np.float32)
        ix, wx = np.empty((m, most), np.int64), np.empty((m, most), np.float32)
        ny, nx = np.empty(m, np.int64), np.empty(m, np.int64)
        axis_taps(start[r, 0], side[r, 0], m, counts[r, 0], height, iy, wy, ny)
        axis_taps(start[r, 1], side[r, 1], m, counts[r, 1], width, ix, wx, nx)
        first, last = width, -1
        for q in range(m):
            for t in range(nx[q]):
                first, last = min(first, ix[q, t]), max(last, ix[q, t])
        line = np.empty(max(0, last + 1 - first), np.float32)
        for p in range(m):
            _add_lines(masks[owner[r]], iy[p, : ny[p]], wy[p, : ny[p]], first, line)
            for q in range(m):
                total = np.float32(0)
                for t in range(nx[q]):
                    total += wx[q, t] * line[ix[q, t] - first]
                out[r, p, q] = total


def label_anchors(
    anchors: np.ndarray,
    objects: np.ndarray,
    *,
    negative_iou: float,
    positive_iou: float,
    match_best: bool,
    tie: float = TIE,
) -> Any:
    """See ``mrcnn_np.targets.label_anchors``."""
    if not is_float32(anchors, objects) or anchors.shape[1:] != (4,) or objects.shape[1:] != (4,):
        return NotImplemented
    if 0 in (len(anchors), len(objects)) or len(anchors) * len(objects) < SMALL:
        return NotImplemented
    anchors, columns = np.ascontiguousarray(anchors), np.ascontiguousarray(objects.T)
    best, matched = np.empty(len(anchors), np.float32), np.empty(len(anchors), np.int64)
    peaks = np.empty((-(-len(anchors) // BLOCK), len(objects)), np.float32)
    _best_overlaps(anchors, columns, best, matched, peaks)
    peak = peaks.max(axis=0)
    # An object that no anchor touches has no best one
    bars = np.where((peak > 0) & bool(match_best), peak * np.float32(1 - tie), np.float32(np.inf))
    labels = np.empty(len(anchors), np.int8)
    _labels(anchors, columns, best, bars, np.float32(negative_iou), np.float32(positive_iou), labels)
    return labels, matched


def crop_masks(
    masks: np.ndarray, owner: np.ndarray, rois: np.ndarray, *, output_size: int, method: str, aligned: bool
) -> Any:
    """See ``mrcnn_np.targets.crop_masks``; by RoIAlign from masks of bool, only what the RoIs touch."""
    if not is_float32(rois) or not isinstance(masks, np.ndarray) or masks.dtype != np.bool_ or masks.ndim != 3:
        return NotImplemented
    bins = as_pair(output_size)
    if method != "roi_align" or bins is None or 0 in masks.shape or not are_rois(rois, owner, len(masks)):
        return NotImplemented
    out = np.empty((len(rois), *bins), np.float32)
    start, side, counts, most = sample_grid(rois, bins, 1.0, 0, aligned)
    most = min(most, max(masks.shape[1:]))
    _mean_of_masks(masks.view(np.uint8), owner.astype(np.int64), start, side, counts, most, out)
    return out
