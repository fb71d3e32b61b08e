"""In which cell of a RoI's map each keypoint lies, and the loss of a map that says otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import Config
from ..objective import LossCache, mean_of, spread
from ..ops.losses import softmax_cross_entropy, softmax_cross_entropy_backward

#: the label of a keypoint that carries no loss
NONE = -1


def heatmap_labels(keypoints: np.ndarray, rois: np.ndarray, size: int) -> np.ndarray:
    r"""Return the cell of each keypoint in the map of its RoI.

    .. math:: row = \lfloor (y - y_1) \, s / (y_2 - y_1) \rfloor, \qquad label = row \cdot s + column

    A RoI is half-open, but a keypoint on its very last edge belongs to the last cell.

    Parameters
    ----------
    keypoints : ndarray of shape (P, K, 3)
        ``(y, x, visibility)``, positions in the frame of the RoIs; visibility 0 is not annotated, 1 hidden, 2 visible.
    rois : ndarray of shape (P, 4)
        ``(y1, x1, y2, x2)``.
    size : int
        Cells s along one side of the map.

    Returns
    -------
    ndarray of shape (P, K), int64
        0 .. s * s - 1; -1 for a keypoint that is not annotated or not in its RoI.

    References
    ----------
    Heckbert, "What are the coordinates of a pixel?" (1990): a discrete coordinate is the floor of a continuous one.
    Detectron, detectron2 and torchvision do it alike; what they take for the continuous one is
    ``config.keypoint_offset``.
    """
    rois = rois[:, None]  # (P, 1, 4)
    sides = rois[..., 2:] - rois[..., :2]
    with np.errstate(divide="ignore", invalid="ignore"):  # a RoI without a side contains its last edge only
        cells = np.floor((keypoints[..., :2] - rois[..., :2]) * (size / sides))
    cells = np.where(keypoints[..., :2] == rois[..., 2:], size - 1, cells)
    inside = ((cells >= 0) & (cells < size)).all(axis=-1) & (keypoints[..., 2] > 0)
    row, column = np.moveaxis(np.where(inside[..., None], cells, 0).astype(np.int64), -1, 0)
    return np.where(inside, row * size + column, NONE)


def head_keypoint_loss(logits: np.ndarray, labels: np.ndarray, images: int, config: Config) -> tuple[Any, LossCache]:
    """Softmax cross entropy over the cells of each map whose keypoint is annotated and lies in its RoI.

    Parameters
    ----------
    logits : ndarray of shape (P, s, s, K)
        Of the positive RoIs.
    labels : ndarray of shape (P, K)
        From ``heatmap_labels``.
    images : int
        In the batch.
    config : Config
        ``keypoint_loss_denominator``: the keypoints that count, or as many as there can be at most.
    """
    counted = np.nonzero(labels >= 0)
    roi, kind = counted
    rows = logits[roi, :, :, kind].reshape(len(roi), logits.shape[1] * logits.shape[2])  # (V, s * s)
    terms, op = softmax_cross_entropy(rows, labels[counted])
    denominator: Any = terms.size
    if config.keypoint_loss_denominator == "possible":
        denominator = images * config.rois_per_image * config.roi_positive_fraction * config.keypoints
    own = roi, slice(None), slice(None), kind
    return mean_of(terms, denominator), LossCache(logits.shape, own, terms, denominator, op)


def head_keypoint_loss_backward(dloss: float, cache: LossCache) -> np.ndarray:
    """Return the gradient of the logits: the softmax of each map that counts, less 1 in the right cell."""
    dlogits = np.zeros(cache.shape, cache.terms.dtype, like=cache.terms)
    rows = softmax_cross_entropy_backward(spread(dloss, cache), cache.op)
    dlogits[cache.counted] = rows.reshape(len(rows), *cache.shape[1:3])
    return dlogits
