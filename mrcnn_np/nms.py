"""Non-maximum suppression: of boxes that overlap, keep the one with the best score.

It suppresses and does not combine: the kept box is one of the inputs, unchanged.
"""

from __future__ import annotations

import numpy as np

from kernels import accelerated

from .boxes import box_area


@accelerated
def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Return the indices of the boxes that survive greedy non-maximum suppression, best score first.

    The best box is kept and every other box with ``IoU > iou_threshold`` to it is dropped; then the best of what is
    left, and so on. An IoU equal to the threshold does not suppress.

    Parameters
    ----------
    boxes : ndarray of shape (N, 4)
        ``(y1, x1, y2, x2)``, half-open, in any unit.
    scores : ndarray of shape (N,)
        Higher is better; equal scores are ranked by index.
    iou_threshold : float
        Largest overlap at which two boxes are both kept.

    Returns
    -------
    ndarray of shape (M,), int64

    Raises
    ------
    ValueError
        Shapes disagree, or a score is NaN.

    Notes
    -----
    One row of the IoU matrix at a time, and only for boxes that are kept: O(N) memory instead of the N x N matrix.
    2000 random boxes of which 1900 survive take this body about 25 ms, 6000 about 0.1 s (one core). IoU and threshold
    are compared in the dtype of the boxes, so that an IoU of 0.3 computed in float32 equals a threshold of 0.3.
    """
    order = _ranking(boxes, scores)
    boxes = np.asarray(boxes)
    if not np.issubdtype(boxes.dtype, np.floating):
        boxes = boxes.astype(np.float32)
    # Column by column and in order of rank, so that a row of the IoU matrix runs over contiguous memory.
    y1, x1, y2, x2 = np.ascontiguousarray(boxes[order].T)
    area = box_area(boxes[order])
    threshold = boxes.dtype.type(iou_threshold)

    suppressed = np.zeros(len(order), dtype=bool)
    keep: list[int] = []
    with np.errstate(invalid="ignore"):  # two boxes without area: 0 / 0 is NaN, which suppresses nothing
        for best in range(len(order)):
            if suppressed[best]:
                continue
            keep.append(best)
            rest = slice(best + 1, None)  # a view: cheaper than gathering those still alive
            height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
            width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
            shared = np.maximum(height, 0) * np.maximum(width, 0)
            suppressed[rest] |= shared / (area[best] + area[rest] - shared) > threshold
    return order[np.asarray(keep, dtype=np.int64)]


@accelerated
def batched_nms(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Return the survivors of one NMS per group, best score first over all groups.

    A box can only be suppressed by a box of its own group: a class, a pyramid level, or both.

    Parameters
    ----------
    boxes : ndarray of shape (N, 4)
        ``(y1, x1, y2, x2)``, half-open, in any unit.
    scores : ndarray of shape (N,)
        Higher is better; equal scores are ranked by index.
    groups : ndarray of shape (N,)
        Any labels that can be compared.
    iou_threshold : float
        As in ``nms``.

    Returns
    -------
    ndarray of shape (M,), int64

    Raises
    ------
    ValueError
        Shapes disagree, or a score is NaN.

    Notes
    -----
    For up to 1000 boxes (on a CPU) torchvision shifts each group by ``group * (largest coordinate + 1)``, so that one
    NMS does for all; in float32 the shifted coordinates lose their last bits, and with them an IoU close to the
    threshold. A loop over groups, as it takes for more boxes, does not.
    """
    order = _ranking(boxes, scores)
    boxes, scores, groups = np.asarray(boxes), np.asarray(scores), np.asarray(groups)
    if groups.shape != scores.shape:
        raise ValueError(f"groups has shape {groups.shape}; expected {scores.shape}, one label per box")
    kept = np.zeros(len(scores), dtype=bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        kept[members[nms(boxes[members], scores[members], iou_threshold)]] = True
    return order[kept[order]]


def _ranking(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Check the arguments and return all indices, best score first, equal scores by index."""
    boxes, scores = np.asarray(boxes), np.asarray(scores)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes has shape {boxes.shape}; expected (N, 4)")
    if scores.shape != (len(boxes),):
        raise ValueError(f"scores has shape {scores.shape}; expected ({len(boxes)},), one per box")
    if np.isnan(scores).any():
        raise ValueError(f"score {int(np.flatnonzero(np.isnan(scores))[0])} is NaN; NMS needs scores it can rank")
    # Reverse, sort stably, reverse: descending with ties in index order, also for integer scores and -inf.
    return (len(scores) - 1 - np.argsort(scores[::-1], kind="stable")[::-1]).astype(np.int64)
