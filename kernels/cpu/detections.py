"""Pasting masks: only the pixels of the box are touched, first all rows of the mask across, then pairs of them down."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from .machine.arguments import is_float32

METHODS = ("grid_sample", "resize", "plus_one", "resize_zero")


@njit(cache=True, error_model="numpy", inline="never")
def _axis(a, b, m, length, method, low, weight):
    """Write the first of the two mask cells of each painted pixel and their weights; return first pixel and count.

    The reference's formulas, in float64 like there.
    """
    cells = m
    if method == 0:
        start, stop = math.floor(a) - 1, math.ceil(b) + 1
    elif method != 2:
        a, b = np.round(a), np.round(b)
        start, stop = int(a), int(b)
    else:
        centre, half = (a + b) / 2, (b - a) / 2 * (m + 2) / m
        a, b = float(int(centre - half)), float(int(centre + half))
        b = max(b + 1, a + 1)
        start, stop, cells = int(a), int(b), m + 2
    start, stop = max(start, 0), min(stop, length)
    if stop <= start or b <= a:
        return 0, 0
    for i in range(stop - start):
        t = (start + i + 0.5 - a) / (b - a) * cells - 0.5
        if method == 1 or method == 2:
            t = min(max(t, 0.0), cells - 1.0)
        cell = math.floor(t)
        low[i] = int(cell)
        weight[i, 0], weight[i, 1] = np.float32(1 - (t - cell)), np.float32(t - cell)
    return start, stop - start


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
    if corners.shape != (len(masks), 4) or not (np.abs(corners) < 2**31).all() or method not in METHODS:
        return NotImplemented
    pasted = np.zeros((len(masks), *image_shape), np.bool_)  # not touched where nothing is painted
    _paste(np.ascontiguousarray(masks), corners, METHODS.index(method), np.float32(threshold), pasted)
    return pasted
