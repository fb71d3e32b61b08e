"""Pasting masks: only the pixels of the box are touched, first all rows of the mask across, then pairs of them down."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..scalar import PASTE_METHODS, paste_span, paste_tap
from .machine.arguments import is_float32


@njit(cache=True, error_model="numpy", inline="never")
def _axis(a, b, m, length, method, low, weight):
    """Write the first of the two mask cells of each painted pixel and their weights; return first pixel and count."""
    start, count, a, b, cells = paste_span(a, b, m, length, method)
    for i in range(count):
        cell, fraction = paste_tap(start + i, a, b, cells, method)
        low[i], weight[i, 0], weight[i, 1] = cell, np.float32(1 - fraction), np.float32(fraction)
    return start, count


@njit(cache=True, error_model="numpy", inline="never")
def _smallest(mask):
    """Return the smallest number, or NaN if there is one."""
    smallest = np.float32(np.inf)
    for value in mask.flat:
        if value != value:
            return value
        smallest = min(smallest, value)
    return smallest


@njit(cache=True, parallel=True, error_model="numpy")
def _paste(masks, boxes, method, threshold, pasted):
    count, height, width = pasted.shape
    rows, columns = masks.shape[1:]
    border = 2  # zero cells around the mask: what lies further outside than one cell reads two of them
    for d in prange(count):
        low_y, weight_y = np.empty(height, np.int64), np.empty((height, 2), np.float32)
        low_x, weight_x = np.empty(width, np.int64), np.empty((width, 2), np.float32)
        top, painted_y = _axis(boxes[d, 0], boxes[d, 2], rows, height, method, low_y, weight_y)
        left, painted_x = _axis(boxes[d, 1], boxes[d, 3], columns, width, method, low_x, weight_x)
        shift = 1 if method == 2 else 0
        across = np.zeros((rows + 2 * border, painted_x), np.float32)
        padded = np.zeros(columns + 2 * border + 2, np.float32)
        for i in range(rows):
            padded[border : border + columns] = masks[d, i]
            for x in range(painted_x):
                cell = min(max(low_x[x] - shift + border, 0), columns + 2 * border)
                across[border + i, x] = padded[cell] * weight_x[x, 0] + padded[cell + 1] * weight_x[x, 1]
        # "resize_zero" does not fall below the smallest value; NaN is below everything
        lowest = _smallest(masks[d]) if method == 3 else np.float32(0)
        if lowest != lowest:
            continue
        everywhere = method == 3 and lowest >= threshold
        for y in range(painted_y):
            cell = min(max(low_y[y] - shift + border, 0), rows + 2 * border - 2)
            above, below = across[cell], across[cell + 1]
            wa, wb = weight_y[y, 0], weight_y[y, 1]
            target = pasted[d, top + y, left : left + painted_x]
            for x in range(target.size):
                target[x] = everywhere or above[x] * wa + below[x] * wb >= threshold


def paste_into_boxes(
    masks: np.ndarray, boxes: np.ndarray, image_shape: tuple[int, int], *, method: str, threshold: float
) -> Any:
    """See ``mrcnn_np.detections.paste_into_boxes``."""
    if not is_float32(masks) or masks.ndim != 3 or len(masks) != len(boxes) or 0 in masks.shape:
        return NotImplemented
    corners = np.asarray(boxes, np.float64)
    if corners.shape != (len(masks), 4) or not (np.abs(corners) < 2**31).all() or method not in PASTE_METHODS:
        return NotImplemented
    pasted = np.zeros((len(masks), *image_shape), np.bool_)  # not touched where nothing is painted
    _paste(np.ascontiguousarray(masks), corners, PASTE_METHODS.index(method), np.float32(threshold), pasted)
    return pasted
