"""The five losses: which outputs count, and what their sum is divided by.

=========== =========================================================== ==========================================
loss        counts                                                      divided by
=========== =========================================================== ==========================================
rpn_class   sampled anchors                                             their number
rpn_box     positive anchors' deltas                                    4 x positives, or all sampled anchors
head_class  sampled RoIs                                                their number (that of active RoIs)
head_box    positive RoIs' deltas of the true class                     4 x positives, or all sampled RoIs
head_mask   positive RoIs' mask of the true class                       its pixels
=========== =========================================================== ==========================================

The denominators are why loss values of different implementations never compare (``config.box_loss_denominator``). A
loss over nothing is 0. Each function returns ``(loss, cache)``; its ``_backward(dloss, cache)`` returns the gradient of
the whole output, zero where nothing counted.

References
----------
Ren et al., "Faster R-CNN" (2015), equation 1; He et al., "Mask R-CNN" (2017), section 3: L = L_cls + L_box + L_mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .config import Config
from .ops.losses import (
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
    smooth_l1,
    smooth_l1_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)

Cache = tuple[Any, ...]

#: the names of the losses, in the order of the table above and of ``config.loss_weights``
LOSSES = ("rpn_class", "rpn_box", "head_class", "head_box", "head_mask")


def rpn_class_loss(logits: np.ndarray, labels: np.ndarray) -> tuple[float, Cache]:
    """Mean cross entropy of object against background over the sampled anchors.

    Parameters
    ----------
    logits : ndarray of shape (N, A) or (N, A, 2)
        One sigmoid logit, or two softmax logits (background, object).
    labels : ndarray of shape (N, A)
        1 positive, -1 negative, 0 not sampled.
    """
    sampled = labels != 0
    is_object = labels[sampled] == 1
    if logits.ndim == 3:
        losses, inner = softmax_cross_entropy(logits[sampled], is_object.astype(np.int64))
    else:
        losses, inner = sigmoid_cross_entropy(logits[sampled], is_object.astype(logits.dtype))
    return _mean(losses), (logits.shape, sampled, losses, inner)


def rpn_class_loss_backward(dloss: float, cache: Cache) -> np.ndarray:
    """Return the gradient of the logits."""
    shape, sampled, losses, inner = cache
    backward = softmax_cross_entropy_backward if len(shape) == 3 else sigmoid_cross_entropy_backward
    dlogits = np.zeros(shape, losses.dtype)
    dlogits[sampled] = backward(_spread(dloss, losses, losses.size), inner)
    return dlogits


def rpn_box_loss(deltas: np.ndarray, labels: np.ndarray, targets: np.ndarray, config: Config) -> tuple[float, Cache]:
    """Smooth L1 between the positive anchors' deltas and their targets.

    Parameters
    ----------
    deltas, targets : ndarray of shape (N, A, 4)
    labels : ndarray of shape (N, A)
    config : Config
    """
    positive = labels == 1
    losses, inner = smooth_l1(deltas[positive], targets[positive], beta=config.rpn_smooth_l1_beta)
    count = _denominator(losses.size, int((labels != 0).sum()), config)
    return float(losses.sum()) / count, (deltas.shape, positive, losses, count, inner)


def rpn_box_loss_backward(dloss: float, cache: Cache) -> np.ndarray:
    """Return the gradient of the deltas."""
    shape, positive, losses, count, inner = cache
    ddeltas = np.zeros(shape, losses.dtype)
    ddeltas[positive] = smooth_l1_backward(_spread(dloss, losses, count), inner)
    return ddeltas


def head_class_loss(
    logits: np.ndarray, class_ids: np.ndarray, active: np.ndarray, config: Config
) -> tuple[float, Cache]:
    """Mean softmax cross entropy over the sampled RoIs.

    Parameters
    ----------
    logits : ndarray of shape (R, K)
    class_ids : ndarray of shape (R,)
    active : ndarray of shape (R, K), bool
        The classes annotated in the RoI's data set. With ``class_loss_active_only``, a RoI that is predicted as another
        class carries no loss: its data set cannot say that it is wrong.
    config : Config
    """
    losses, inner = softmax_cross_entropy(logits, class_ids)
    counted = np.ones(len(logits), bool)
    if config.class_loss_active_only and len(logits):
        counted = active[np.arange(len(logits)), logits.argmax(axis=1)]
    return _mean(losses[counted]), (counted, losses, inner)


def head_class_loss_backward(dloss: float, cache: Cache) -> np.ndarray:
    """Return the gradient of the logits."""
    counted, losses, inner = cache
    return softmax_cross_entropy_backward(_spread(dloss, losses, int(counted.sum())) * counted, inner)


def head_box_loss(
    deltas: np.ndarray, class_ids: np.ndarray, targets: np.ndarray, config: Config
) -> tuple[float, Cache]:
    """Smooth L1 between the positive RoIs' deltas, those of the true class, and their targets.

    Parameters
    ----------
    deltas : ndarray of shape (R, K, 4)
    class_ids : ndarray of shape (R,)
    targets : ndarray of shape (R, 4)
    config : Config
    """
    positive = np.flatnonzero(class_ids > 0)
    own = (positive, class_ids[positive])
    losses, inner = smooth_l1(deltas[own], targets[positive], beta=config.head_smooth_l1_beta)
    count = _denominator(losses.size, len(class_ids), config)
    return float(losses.sum()) / count, (deltas.shape, own, losses, count, inner)


def head_box_loss_backward(dloss: float, cache: Cache) -> np.ndarray:
    """Return the gradient of the deltas."""
    shape, own, losses, count, inner = cache
    ddeltas = np.zeros(shape, losses.dtype)
    ddeltas[own] = smooth_l1_backward(_spread(dloss, losses, count), inner)
    return ddeltas


def head_mask_loss(logits: np.ndarray, class_ids: np.ndarray, targets: np.ndarray) -> tuple[float, Cache]:
    """Mean sigmoid cross entropy of the true class's mask; the other classes' masks are not compared.

    A mask has two values only: the pixels that VOC calls void, the lines around its objects, count as background here,
    as they do in torchvision and detectron2.

    Parameters
    ----------
    logits : ndarray of shape (P, m, m, K)
        Of the positive RoIs.
    class_ids : ndarray of shape (P,)
    targets : ndarray of shape (P, m, m)
        In [0, 1].
    """
    rows = np.arange(len(class_ids))
    losses, inner = sigmoid_cross_entropy(logits[rows, :, :, class_ids], targets)
    return _mean(losses), (logits.shape, rows, class_ids, losses, inner)


def head_mask_loss_backward(dloss: float, cache: Cache) -> np.ndarray:
    """Return the gradient of the logits."""
    shape, rows, class_ids, losses, inner = cache
    dlogits = np.zeros(shape, losses.dtype)
    dlogits[rows, :, :, class_ids] = sigmoid_cross_entropy_backward(_spread(dloss, losses, losses.size), inner)
    return dlogits


def _denominator(positive_numbers: int, sampled: int, config: Config) -> int:
    return max(positive_numbers if config.box_loss_denominator == "positives" else sampled, 1)


def _mean(losses: np.ndarray) -> float:
    return float(losses.sum()) / max(losses.size, 1)


def _spread(dloss: float, losses: np.ndarray, count: int) -> np.ndarray:
    """Hand the gradient of a sum divided by ``count`` to each of its terms."""
    return np.full(losses.shape, dloss / max(count, 1), losses.dtype)
