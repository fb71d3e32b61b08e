"""Overlaps of boxes and their decoding: the reference's formulas, rounded like it, without its temporaries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from ..scalar import box_area, box_overlap, decode_axis
from .machine.arguments import is_float32

SMALL = 1 << 12  # results below which NumPy is faster than starting the threads


@njit(cache=True, error_model="numpy")
def areas_of(columns):
    """Return the areas of the boxes in the columns of (4, B)."""
    areas = np.empty(columns.shape[1], np.float32)
    for j in range(areas.size):
        areas[j] = box_area(columns[0, j], columns[1, j], columns[2, j], columns[3, j])
    return areas


@njit(cache=True, parallel=True, error_model="numpy")
def _iou(a, b, out):
    """Write the overlaps of a (A, 4) with the columns b (4, B)."""
    top, left, bottom, right = b[0], b[1], b[2], b[3]
    areas = areas_of(b)
    for i in prange(a.shape[0]):
        y1, x1, y2, x2 = a[i, 0], a[i, 1], a[i, 2], a[i, 3]
        area = box_area(y1, x1, y2, x2)
        row = out[i]
        for j in range(areas.size):
            row[j] = box_overlap(y1, x1, y2, x2, area, top[j], left[j], bottom[j], right[j], areas[j])


@njit(cache=True, parallel=True, error_model="numpy")
def _decode(deltas, anchors, std, limit, out):
    for i in prange(deltas.shape[0]):
        for axis in range(2):
            shift, log_scale = deltas[i, axis] * std[axis], deltas[i, axis + 2] * std[axis + 2]
            low, high = decode_axis(anchors[i, axis], anchors[i, axis + 2], shift, log_scale, limit)
            out[i, axis], out[i, axis + 2] = low, high


def iou(a: np.ndarray, b: np.ndarray) -> Any:
    """See ``mrcnn_np.boxes.iou``."""
    if not is_float32(a, b) or a.ndim != 2 or b.ndim != 2 or a.shape[1] != 4 or b.shape[1] != 4:
        return NotImplemented
    out = np.empty((len(a), len(b)), np.float32)
    if out.size < SMALL:
        return NotImplemented
    _iou(np.ascontiguousarray(a), np.ascontiguousarray(b.T), out)
    return out


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
