"""matterport's head targets and its five losses, in TensorFlow."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ...config import Config
from .data import Choose, Truth
from .regions import normalise


def iou_matrix(a: Any, b: Any) -> Any:
    """Return the IoU of all pairs, (A, B)."""
    shared = tf.minimum(a[:, None, 2:], b[None, :, 2:]) - tf.maximum(a[:, None, :2], b[None, :, :2])
    shared = tf.reduce_prod(tf.maximum(shared, 0.0), axis=2)
    areas = [tf.reduce_prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def head_targets(
    proposals: Any, truth: Truth, shape: tuple[int, int], config: Config, choose: Choose
) -> tuple[Any, Any, Any, Any]:
    """Do what ``DetectionTargetLayer`` does for one image; ``choose(indices, count)`` stands in for its shuffling.

    Parameters
    ----------
    proposals : Tensor of shape (P, 4)
        Normalised; rows of zeros are no proposals.
    truth : Truth
    shape : (int, int)
        Of the canvas.
    config : Config
    choose : callable

    Returns
    -------
    rois : Tensor of shape (TRAIN_ROIS_PER_IMAGE, 4)
        Normalised; positives, negatives, zeros.
    class_ids : Tensor of shape (TRAIN_ROIS_PER_IMAGE,)
    deltas : Tensor of shape (TRAIN_ROIS_PER_IMAGE, 4)
    masks : Tensor of shape (TRAIN_ROIS_PER_IMAGE, 28, 28)
    """
    proposals = tf.boolean_mask(proposals, tf.reduce_sum(tf.abs(proposals), axis=1) > 0)
    gt_boxes, is_object = tf.constant(normalise(truth.boxes, shape)), truth.class_ids > 0
    crowds, gt_boxes = gt_boxes[~is_object], gt_boxes[is_object]
    gt_classes, gt_masks = truth.class_ids[is_object], truth.masks[is_object]
    iou = iou_matrix(proposals, gt_boxes)
    best = tf.reduce_max(iou, axis=1)
    free = tf.reduce_max(iou_matrix(proposals, crowds), axis=1) < 0.001
    total, share = config.rois_per_image, config.roi_positive_fraction
    positive = choose(np.flatnonzero(best >= 0.5), int(total * share))
    wanted = int(tf.cast((1.0 / share) * tf.cast(len(positive), tf.float32), tf.int32)) - len(positive)
    negative = choose(np.flatnonzero((best < 0.5) & free), wanted)

    rois = tf.gather(proposals, positive)
    owner = tf.argmax(tf.gather(iou, positive), axis=1).numpy() if len(gt_classes) else np.zeros(0, np.int64)
    own = tf.gather(gt_boxes, owner)
    masks = mask_targets(rois, own, gt_masks[owner], config)
    rest = [[0, total - len(positive)]]
    all_rois = tf.concat([rois, tf.gather(proposals, negative)], 0)
    return (
        tf.pad(all_rois, [[0, total - len(all_rois)], [0, 0]]),
        tf.pad(tf.constant(gt_classes[owner]), rest),
        tf.pad(refinements(rois, own) / np.array(config.head_box_std, np.float32), [*rest, [0, 0]]),
        tf.pad(masks, [*rest, [0, 0], [0, 0]]),
    )


def refinements(boxes: Any, targets: Any) -> Any:
    """Return (dy, dx, log dh, log dw) from boxes to targets, row by row."""
    sides, wanted = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    shift = (targets[:, :2] + 0.5 * wanted) - (boxes[:, :2] + 0.5 * sides)
    return tf.concat([shift / sides, tf.math.log(wanted / sides)], axis=1)


def mask_targets(rois: Any, own: Any, masks: np.ndarray, config: Config) -> Any:
    """Crop each RoI from its object's mask, which is on the canvas or, mini, in the object's box; round.

    Parameters
    ----------
    rois : Tensor of shape (P, 4)
        Normalised, the positive ones.
    own : Tensor of shape (P, 4)
        The boxes of their objects.
    masks : ndarray of shape (P, h, w), bool
        Of their objects.
    config : Config
    """
    if config.mini_mask_shape is not None:
        corner, sides = tf.tile(own[:, :2], [1, 2]), tf.tile(own[:, 2:] - own[:, :2], [1, 2])
        rois = (rois - corner) / sides
    planes = tf.constant(masks.astype(np.float32))[..., None]
    size = [2 * config.mask_pool_size] * 2
    return tf.round(tf.image.crop_and_resize(planes, rois, tf.range(len(rois)), size)[..., 0])


# --- losses ---------------------------------------------------------------------------------------------------------


def mean(x: Any) -> Any:
    """Return the mean, 0 of nothing."""
    return tf.reduce_mean(x) if tf.size(x) > 0 else tf.constant(0.0)


def smooth_l1(target: Any, found: Any) -> Any:
    """Return the loss of every number; parabola and line meet at 1."""
    distance = tf.abs(target - found)
    return tf.where(distance < 1.0, 0.5 * distance**2, distance - 0.5)


def rpn_class_loss(match: np.ndarray, logits: Any) -> Any:
    """Cross entropy of the anchors that are not neutral; match (N, A), logits (N, A, 2)."""
    used = np.argwhere(match != 0)
    labels = tf.constant((match[match != 0] == 1).astype(np.int32))
    return mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.gather_nd(logits, used)))


def rpn_box_loss(match: np.ndarray, targets: np.ndarray, deltas: Any) -> Any:
    """Smooth L1 of the positive anchors; targets (N, 256, 4) are packed to the front.

    Parameters
    ----------
    match : ndarray of shape (N, A)
        1 positive, -1 negative, 0 neutral.
    targets : ndarray of shape (N, 256, 4)
    deltas : Tensor of shape (N, A, 4)
    """
    packed = np.concatenate([t[: (m == 1).sum()] for t, m in zip(targets, match)]).astype(np.float32)
    return mean(smooth_l1(packed, tf.gather_nd(deltas, np.argwhere(match == 1))))


def class_loss(class_ids: Any, logits: Any, active: np.ndarray) -> Any:
    """Cross entropy of the RoIs predicted as a class that the first image's data set has; active (N, K).

    Parameters
    ----------
    class_ids : Tensor of shape (R,)
    logits : Tensor of shape (R, K)
    active : ndarray of shape (N, K)
    """
    counted = tf.gather(tf.constant(active[0].astype(np.float32)), tf.argmax(logits, axis=1))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(class_ids, logits)
    return tf.reduce_sum(losses * counted) / tf.reduce_sum(counted)


def box_loss(targets: Any, class_ids: Any, deltas: Any) -> Any:
    """Smooth L1 of the positive RoIs' deltas for the true class.

    Parameters
    ----------
    targets : Tensor of shape (R, 4)
    class_ids : Tensor of shape (R,)
    deltas : Tensor of shape (R, K, 4)
    """
    own = _own(class_ids)
    return mean(smooth_l1(tf.gather(targets, own[:, 0]), tf.gather_nd(deltas, own)))


def mask_loss(targets: Any, class_ids: Any, masks: Any) -> Any:
    """Binary cross entropy of the positive RoIs' masks, probabilities (R, 28, 28, K), for the true class.

    Parameters
    ----------
    targets : Tensor of shape (R, 28, 28)
    class_ids : Tensor of shape (R,)
    masks : Tensor of shape (R, 28, 28, K)
    """
    own = _own(class_ids)
    found = tf.gather_nd(tf.transpose(masks, [0, 3, 1, 2]), own)
    return mean(keras.ops.binary_crossentropy(tf.gather(targets, own[:, 0]), found))


def _own(class_ids: Any) -> Any:
    """Return (RoI, class) of the positive RoIs."""
    positive = tf.where(class_ids > 0)[:, 0]
    return tf.stack([positive, tf.gather(tf.cast(class_ids, tf.int64), positive)], axis=1)
