"""Overlaps of boxes and their decoding: the reference's formulas, rounded like it, without its temporaries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import TIE
from .machine.arguments import is_float32

SMALL = 1 << 12  # results below which NumPy is faster than starting the threads
BLOCK = 2048  # anchors whose overlaps with one object are computed together


@njit(cache=True, error_model="numpy")
def _side(length):
    """Return max(length, 0) that keeps NaN."""
    return np.float32(0) if length < np.float32(0) else length


@njit(cache=True, error_model="numpy")
def _overlap(y1, x1, y2, x2, area, top, left, bottom, right, other):
    """Return the IoU of two boxes and their areas. NaN shows in a box's own area: no overlap, 0."""
    shared = _side(min(y2, bottom) - max(y1, top)) * _side(min(x2, right) - max(x1, left))
    whole = area + other - shared
    return shared / whole if whole > np.float32(0) else np.float32(0)


@njit(cache=True, error_model="numpy")
def _areas(columns):
    """Return the areas of the boxes in the columns of (4, B)."""
    areas = np.empty(columns.shape[1], np.float32)
    for j in range(areas.size):
        areas[j] = _side(columns[2, j] - columns[0, j]) * _side(columns[3, j] - columns[1, j])
    return areas


@njit(cache=True, parallel=True, error_model="numpy")
def _iou(a, b, out):
    """Write the overlaps of a (A, 4) with the columns b (4, B)."""
    top, left, bottom, right = b[0], b[1], b[2], b[3]
    areas = _areas(b)
    for i in prange(a.shape[0]):
        y1, x1, y2, x2 = a[i, 0], a[i, 1], a[i, 2], a[i, 3]
        area = _side(y2 - y1) * _side(x2 - x1)
        row = out[i]
        for j in range(areas.size):
            row[j] = _overlap(y1, x1, y2, x2, area, top[j], left[j], bottom[j], right[j], areas[j])


@njit(cache=True, parallel=True, error_model="numpy")
def _best_overlaps(anchors, objects, best, matched, peaks):
    """Write each anchor's largest overlap and whose it is, and for each block of anchors each object's largest.

    Block by block, so that neither the (A, G) overlaps nor their temporaries ever go to memory.
    """
    count, areas = anchors.shape[0], _areas(objects)
    for block in prange(peaks.shape[0]):
        first = block * BLOCK
        size = min(BLOCK, count - first)
        columns = np.zeros((4, BLOCK), np.float32)
        for i in range(size):
            for side in range(4):
                columns[side, i] = anchors[first + i, side]
        own, overlaps = _areas(columns), np.zeros(BLOCK, np.float32)
        top, left, bottom, right = columns[0], columns[1], columns[2], columns[3]
        largest, whose = best[first : first + size], matched[first : first + size]
        for j in range(areas.size):
            y1, x1, y2, x2, area = objects[0, j], objects[1, j], objects[2, j], objects[3, j], areas[j]
            for i in range(BLOCK):
                overlaps[i] = _overlap(top[i], left[i], bottom[i], right[i], own[i], y1, x1, y2, x2, area)
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
    areas = _areas(objects)
    lowest = bars.min()
    for i in prange(labels.size):
        label = 0 if best[i] >= negative else -1
        if best[i] >= positive:
            label = 1
        elif best[i] >= lowest:  # else it cannot reach any of the bars: few anchors are compared again
            y1, x1, y2, x2 = anchors[i, 0], anchors[i, 1], anchors[i, 2], anchors[i, 3]
            area = _side(y2 - y1) * _side(x2 - x1)
            for j in range(areas.size):
                overlap = _overlap(
                    y1, x1, y2, x2, area, objects[0, j], objects[1, j], objects[2, j], objects[3, j], areas[j]
                )
                if overlap >= bars[j]:
                    label = 1
        labels[i] = label


@njit(cache=True, parallel=True, error_model="numpy")
def _decode(deltas, anchors, std, limit, out):
    half = np.float32(0.5)
    for i in prange(deltas.shape[0]):
        for axis in range(2):
            low = anchors[i, axis]
            side = anchors[i, axis + 2] - low
            scale = deltas[i, axis + 2] * std[axis + 2]
            scale = limit if scale > limit else scale
            new = side * np.float32(math.exp(scale))
            centre = low + half * side + deltas[i, axis] * std[axis] * side
            out[i, axis] = centre - half * new
            out[i, axis + 2] = centre + half * new


def iou(a: np.ndarray, b: np.ndarray) -> Any:
    """See ``mrcnn_np.boxes.iou``."""
    if not is_float32(a, b) or a.ndim != 2 or b.ndim != 2 or a.shape[1] != 4 or b.shape[1] != 4:
        return NotImplemented
    out = np.empty((len(a), len(b)), np.float32)
    if out.size < SMALL:
        return NotImplemented
    _iou(np.ascontiguousarray(a), np.ascontiguousarray(b.T), out)
    return out


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


def decode_boxes(
    deltas: np.ndarray,
    anchors: np.ndarray,
    *,
    std: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    max_log_scale: float | None = math.log(1000 / 16),
) -> Any:
    """See ``mrcnn_np.boxes.decode_boxes``; for as many deltas as anchors."""
    if not is_float32(deltas, anchors) or deltas.shape != anchors.shape or deltas.shape[-1:] != (4,):
        return NotImplemented
    if deltas.size < SMALL or np.shape(std) != (4,):
        return NotImplemented
    out = np.empty(deltas.shape, np.float32)
    limit = np.float32(np.inf if max_log_scale is None else max_log_scale)
    deltas, anchors = np.ascontiguousarray(deltas).reshape(-1, 4), np.ascontiguousarray(anchors).reshape(-1, 4)
    _decode(deltas, anchors, np.asarray(std, np.float32), limit, out.reshape(-1, 4))
    return out
