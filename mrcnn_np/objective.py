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
the whole output, zero where nothing counted. A loss is a number; of arrays on a device it stays there, an array of
shape (), so that the host waits once for all five.

References
----------
Ren et al., "Faster R-CNN" (2015), equation 1; He et al., "Mask R-CNN" (2017), section 3: L = L_cls + L_box + L_mask.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels import on_device

from .config import Config
from .ops.losses import (
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
    smooth_l1,
    smooth_l1_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)

#: the names of the losses, in the order of the table above and of ``config.loss_weights``
LOSSES = ("rpn_class", "rpn_box", "head_class", "head_box", "head_mask")
#: that of the keypoint branch (``keypoints/labels.py``)
KEYPOINT_LOSS = "head_keypoint"


def loss_weights(config: Config) -> dict[str, float]:
    """Return the weight of each loss that a network has: the five, and with a keypoint branch a sixth.

    Parameters
    ----------
    config : Config
    """
    weights = dict(zip(LOSSES, config.loss_weights))
    if config.keypoints:
        weights[KEYPOINT_LOSS] = config.keypoint_loss_weight
    return weights


class LossCache(NamedTuple):
    """What a loss leaves for its backward pass.

    Attributes
    ----------
    shape : tuple of int
        Of the output that was judged.
    counted : index
        Which of its numbers count: ``output[counted]``. Of ``head_class`` the factor of each row: 1, or a mask.
    terms : ndarray
        The loss of each of them.
    denominator : int
        What their sum was divided by; 0 if nothing counts, and then the loss is 0. ``backward`` divides by it, too, so
        the losses of several batches become that of all of them by the sum of theirs (``training/accumulate.py``).
    op : tuple
        Of ``softmax_cross_entropy``, ``sigmoid_cross_entropy`` or ``smooth_l1``.
    """

    shape: tuple[int, ...]
    counted: Any
    terms: np.ndarray
    denominator: int
    op: Any


def rpn_class_loss(logits: np.ndarray, labels: np.ndarray) -> tuple[Any, LossCache]:
    """Mean cross entropy of object against background over the sampled anchors.

    Parameters
    ----------
    logits : ndarray of shape (N, A) or (N, A, 2)
        One sigmoid logit, or two softmax logits (background, object).
    labels : ndarray of shape (N, A)
        1 positive, -1 negative, 0 not sampled.
    """
    sampled = np.nonzero(labels)
    is_object = labels[sampled] == 1
    if logits.ndim == 3:
        terms, op = softmax_cross_entropy(logits[sampled], is_object.astype(np.int64))
    else:
        terms, op = sigmoid_cross_entropy(logits[sampled], is_object.astype(logits.dtype))
    return mean_of(terms, terms.size), LossCache(logits.shape, sampled, terms, terms.size, op)


def rpn_class_loss_backward(dloss: float, cache: LossCache) -> np.ndarray:
    """Return the gradient of the logits."""
    backward = softmax_cross_entropy_backward if len(cache.shape) == 3 else sigmoid_cross_entropy_backward
    dlogits = np.zeros(cache.shape, cache.terms.dtype, like=cache.terms)
    dlogits[cache.counted] = backward(spread(dloss, cache), cache.op)
    return dlogits


def rpn_box_loss(deltas: np.ndarray, labels: np.ndarray, targets: np.ndarray, config: Config) -> tuple[Any, LossCache]:
    """Smooth L1 between the positive anchors' deltas and their targets.

    Parameters
    ----------
    deltas, targets : ndarray of shape (N, A, 4)
    labels : ndarray of shape (N, A)
    config : Config
    """
    positive = np.nonzero(labels == 1)
    terms, op = smooth_l1(deltas[positive], targets[positive], beta=config.rpn_smooth_l1_beta)
    denominator = _denominator(terms.size, len(np.flatnonzero(labels)), config)
    return mean_of(terms, denominator), LossCache(deltas.shape, positive, terms, denominator, op)


def rpn_box_loss_backward(dloss: float, cache: LossCache) -> np.ndarray:
    """Return the gradient of the deltas."""
    ddeltas = np.zeros(cache.shape, cache.terms.dtype, like=cache.terms)
    ddeltas[cache.counted] = smooth_l1_backward(spread(dloss, cache), cache.op)
    return ddeltas


def head_class_loss(
    logits: np.ndarray, class_ids: np.ndarray, active: np.ndarray, config: Config
) -> tuple[Any, LossCache]:
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
    terms, op = softmax_cross_entropy(logits, class_ids)
    if not config.class_loss_active_only or not len(logits):
        return mean_of(terms, terms.size), LossCache(logits.shape, 1, terms, terms.size, op)
    counted = active[np.arange(len(logits), like=logits), logits.argmax(axis=1)]
    summands = terms[np.flatnonzero(counted)]
    return mean_of(summands, summands.size), LossCache(logits.shape, counted, terms, summands.size, op)


def head_class_loss_backward(dloss: float, cache: LossCache) -> np.ndarray:
    """Return the gradient of the logits. All terms were computed here; those that do not count receive 0."""
    return softmax_cross_entropy_backward(spread(dloss, cache) * cache.counted, cache.op)


def head_box_loss(
    deltas: np.ndarray, class_ids: np.ndarray, targets: np.ndarray, config: Config
) -> tuple[Any, LossCache]:
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
    terms, op = smooth_l1(deltas[own], targets[positive], beta=config.head_smooth_l1_beta)
    denominator = _denominator(terms.size, len(class_ids), config)
    return mean_of(terms, denominator), LossCache(deltas.shape, own, terms, denominator, op)


def head_box_loss_backward(dloss: float, cache: LossCache) -> np.ndarray:
    """Return the gradient of the deltas."""
    ddeltas = np.zeros(cache.shape, cache.terms.dtype, like=cache.terms)
    ddeltas[cache.counted] = smooth_l1_backward(spread(dloss, cache), cache.op)
    return ddeltas


def head_mask_loss(logits: np.ndarray, class_ids: np.ndarray, targets: np.ndarray) -> tuple[Any, LossCache]:
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
    own = (np.arange(len(class_ids), like=class_ids), slice(None), slice(None), class_ids)
    terms, op = sigmoid_cross_entropy(logits[own], targets)
    return mean_of(terms, terms.size), LossCache(logits.shape, own, terms, terms.size, op)


def head_mask_loss_backward(dloss: float, cache: LossCache) -> np.ndarray:
    """Return the gradient of the logits."""
    dlogits = np.zeros(cache.shape, cache.terms.dtype, like=cache.terms)
    dlogits[cache.counted] = sigmoid_cross_entropy_backward(spread(dloss, cache), cache.op)
    return dlogits


def _denominator(positive_numbers: int, sampled: int, config: Config) -> int:
    return positive_numbers if config.box_loss_denominator == "positives" else sampled


def mean_of(terms: np.ndarray, denominator: int) -> Any:
    """Return the sum of the terms over the denominator, in float64: a number, or on a device an array of shape ()."""
    total = terms.sum()
    return (total.astype(np.float64) if on_device(total) else float(total)) / max(denominator, 1)


def spread(dloss: float, cache: LossCache) -> np.ndarray:
    """Hand the gradient of a sum, divided by its denominator, to each of its terms."""
    return np.full_like(cache.terms, dloss / max(cache.denominator, 1))
