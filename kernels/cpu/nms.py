"""Non-maximum suppression, block by block.

A box is compared with all worse ones only if it survives, and who survives is known block by block, best first. After
each block the dead are taken out, so that later boxes have fewer to compare with. Arithmetic and comparisons are those
of the reference: the result is the same, not just similar. One thread does it all: eight comparisons at a time take
about 10 ms for 12,000 boxes, and it would be a hundred starts of the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .machine.arguments import is_float32

BLOCK = 128  # boxes after which the dead are taken out


@njit(cache=True, error_model="numpy", inline="never")
def _suppress(columns, area, best, first, last, threshold, dead):
    """Mark the boxes first..last that overlap box ``best`` by more than the threshold."""
    zero = np.float32(0)
    y1, x1, y2, x2, own = columns[0, best], columns[1, best], columns[2, best], columns[3, best], area[best]
    # Slices, and a loop from 0: with an index that might be negative the loop would not be vectorised
    top, left = columns[0, first:last], columns[1, first:last]
    bottom, right = columns[2, first:last], columns[3, first:last]
    areas, marks = area[first:last], dead[first:last]
    for j in range(marks.size):
        height = min(y2, bottom[j]) - max(y1, top[j])
        width = min(x2, right[j]) - max(x1, left[j])
        shared = max(height, zero) * max(width, zero)
        over = shared / (own + areas[j] - shared) > threshold  # 0 / 0 compares false
        marks[j] = np.uint8(1) if over else marks[j]


@njit(cache=True, error_model="numpy", inline="never")
def _remove_dead(columns, area, number, dead, first, end):
    """Move the living of first..end to the end and return where they begin."""
    left = end
    for j in range(end - 1, first - 1, -1):
        if not dead[j]:
            left -= 1
            if left != j:
                for axis in range(4):
                    columns[axis, left] = columns[axis, j]
                area[left], number[left], dead[left] = area[j], number[j], 0
    return left


@njit(cache=True, error_model="numpy")
def _survivors(columns, ends, threshold):
    """Return which boxes survive. ``columns`` (4, N) is sorted by group, then by score; groups end at ``ends``."""
    count = columns.shape[1]
    alive = np.zeros(count, np.bool_)
    live, area = columns.copy(), np.empty(count, np.float32)
    number, dead = np.arange(count), np.zeros(count, np.uint8)
    for j in range(count):
        area[j] = max(live[2, j] - live[0, j], np.float32(0)) * max(live[3, j] - live[1, j], np.float32(0))
    start = 0
    for group in range(ends.size):
        end = ends[group]
        while start < end:
            stop = min(start + BLOCK, end)
            for best in range(start, stop):
                if not dead[best]:
                    alive[number[best]] = True
                    _suppress(live, area, best, best + 1, end, threshold, dead)
            start = _remove_dead(live, area, number, dead, stop, end)
    return alive


def _ranking(boxes: Any, scores: Any) -> np.ndarray | None:
    """Return all indices, best score first, equal scores by index; None for what the reference refuses or has to do.

    Score and index make one whole number each, which sort faster than floats that have to keep their order when equal.
    """
    if not is_float32(boxes, scores) or boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        return None
    if len(boxes) == 0 or np.isnan(scores).any() or not np.isfinite(boxes).all():
        return None
    bits = (scores + np.float32(0)).view(np.uint32)  # -0 becomes 0
    sign = np.uint32(1 << 31)
    descending = np.where(bits & sign, bits, ~(bits | sign))  # positive floats are in the order of their bits
    keys = descending.astype(np.uint64) << np.uint64(32) | np.arange(len(scores), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> Any:
    """See ``mrcnn_np.nms.nms``."""
    order = _ranking(boxes, scores)
    if order is None:
        return NotImplemented
    columns = np.ascontiguousarray(boxes[order].T)
    return order[_survivors(columns, np.array([len(order)]), np.float32(iou_threshold))]


def batched_nms(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou_threshold: float) -> Any:
    """See ``mrcnn_np.nms.batched_nms``."""
    order = _ranking(boxes, scores)
    if order is None or not isinstance(groups, np.ndarray) or groups.shape != scores.shape:
        return NotImplemented
    if groups.dtype.kind not in "iub":
        return NotImplemented
    ranked = groups[order]
    if ranked.min() >= 0 and ranked.max() < 1 << 16:
        ranked = ranked.astype(np.uint16)  # so small numbers are sorted by their digits, without comparisons
    by_group = np.argsort(ranked, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(ranked[by_group])) + 1, len(order))
    columns = np.ascontiguousarray(boxes[order[by_group]].T)
    kept = np.empty(len(order), bool)
    kept[by_group] = _survivors(columns, ends, np.float32(iou_threshold))
    return order[kept]
