"""matterport's layers that have no weights: anchors, proposals, RoI features, detections.

Boxes are in its normalised coordinates: ``(box - [0, 0, 1, 1]) / (H - 1, W - 1, H - 1, W - 1)``, float32, from the
first pixel to the last. Fixed lengths are filled up with zeros, as there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ...config import Config


def normalise(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Turn half-open pixel boxes into normalised ones, float32."""
    h, w = shape[:2]
    return ((boxes - np.array([0, 0, 1, 1])) / (np.array([h, w, h, w]) - 1.0)).astype(np.float32)


def denormalise(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Turn normalised boxes into half-open pixel boxes, float64, not rounded."""
    h, w = shape[:2]
    return np.asarray(boxes, np.float64) * (np.array([h, w, h, w]) - 1.0) + np.array([0, 0, 1, 1])


def pyramid_anchors(shape: tuple[int, int], config: Config) -> list[np.ndarray]:
    """Return the anchors of each level in pixels, float64: rows, columns, then ratios (width to height)."""
    levels = []
    ratios = np.array(config.anchor_ratios)
    for size, stride in zip(config.anchor_sizes, config.anchor_strides):
        halves = np.stack([size / np.sqrt(ratios), size * np.sqrt(ratios)], axis=1) / 2  # (ratios, 2)
        rows, columns = (np.arange(-(-side // stride)) * stride for side in shape)
        centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 1, 2)
        levels.append(np.concatenate([centres - halves, centres + halves], axis=2).reshape(-1, 4))
    return levels


def move(boxes: Any, deltas: Any) -> Any:
    """Apply (dy, dx, log dh, log dw) to boxes."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + 0.5 * sides + deltas[:, :2] * sides
    sides = sides * tf.exp(deltas[:, 2:])
    corner = centres - 0.5 * sides
    return tf.concat([corner, corner + sides], axis=1)


def clip(boxes: Any, window: Any) -> Any:
    """Move all corners into the window (4,)."""
    low, high = tf.concat([window[:2]] * 2, 0), tf.concat([window[2:]] * 2, 0)
    return tf.clip_by_value(boxes, low, high)


def propose(probabilities: Any, deltas: Any, anchors: Any, config: Config, *, count: int) -> tuple[Any, Any]:
    """Do what ``ProposalLayer`` does for one image.

    Parameters
    ----------
    probabilities : Tensor of shape (A, 2)
    deltas : Tensor of shape (A, 4)
    anchors : Tensor of shape (A, 4)
        Normalised.
    config : Config
    count : int
        ``POST_NMS_ROIS_TRAINING`` or ``_INFERENCE``.

    Returns
    -------
    proposals : Tensor of shape (count, 4)
        Normalised, best first, then zeros.
    scores : Tensor of shape (P,)
        Of those that are no zeros.
    """
    limit = min(config.proposals_pre_nms_test, len(anchors))
    scores, index = tf.math.top_k(probabilities[:, 1], limit)
    moved = move(tf.gather(anchors, index), tf.gather(deltas, index) * np.array(config.rpn_box_std, np.float32))
    boxes = clip(moved, tf.constant([0.0, 0.0, 1.0, 1.0]))
    kept = tf.image.non_max_suppression(boxes, scores, count, config.proposals_nms_iou)
    return tf.pad(tf.gather(boxes, kept), [[0, count - len(kept)], [0, 0]]), tf.gather(scores, kept)


def roi_align(boxes: Any, pyramid: list[Any], shape: tuple[int, int], size: int) -> Any:
    """Do what ``PyramidROIAlign`` does: one sample per bin, from the level that suits the box.

    Parameters
    ----------
    boxes : Tensor of shape (N, R, 4)
        Normalised.
    pyramid : list of Tensor
        P2 .. P5.
    shape : (int, int)
        Of the canvas.
    size : int

    Returns
    -------
    Tensor of shape (N * R, size, size, C)
    """
    n, r = boxes.shape[:2]
    boxes, image = tf.reshape(boxes, [-1, 4]), tf.repeat(tf.range(n), r)
    sides = boxes[:, 2:] - boxes[:, :2]
    area = tf.constant(float(shape[0] * shape[1]))
    scale = tf.sqrt(sides[:, 0] * sides[:, 1]) / (224.0 / tf.sqrt(area))
    # a box without area has the logarithm -infinity; matterport's cast happens to make that the lowest level
    log2 = tf.math.log(tf.maximum(scale, 1e-12)) / tf.math.log(2.0)
    level = tf.clip_by_value(4 + tf.cast(tf.round(log2), tf.int32), 2, 5)
    crops, order = [], []
    for i, features in enumerate(pyramid[:4]):
        members = tf.where(level == 2 + i)[:, 0]
        own = tf.stop_gradient(tf.gather(boxes, members))
        crops.append(tf.image.crop_and_resize(features, own, tf.gather(image, members), [size, size]))
        order.append(members)
    return tf.gather(tf.concat(crops, 0), tf.argsort(tf.concat(order, 0)))


def detect(rois: Any, probabilities: Any, deltas: Any, window: np.ndarray, config: Config) -> Any:
    """Do what ``DetectionLayer`` does for one image.

    Parameters
    ----------
    rois : Tensor of shape (R, 4)
        Normalised.
    probabilities : Tensor of shape (R, K)
    deltas : Tensor of shape (R, K, 4)
    window : ndarray of shape (4,)
        Normalised.
    config : Config

    Returns
    -------
    Tensor of shape (D, 6)
        ``(y1, x1, y2, x2, class, score)``, best first, before zeros fill it up to ``DETECTION_MAX_INSTANCES``.
    """
    classes = tf.argmax(probabilities, axis=1, output_type=tf.int32)
    own = tf.stack([tf.range(len(rois)), classes], axis=1)
    scores = tf.gather_nd(probabilities, own)
    boxes = move(rois, tf.gather_nd(deltas, own) * np.array(config.head_box_std, np.float32))
    boxes = clip(boxes, tf.constant(window, tf.float32))
    candidates = tf.where((classes > 0) & (scores >= config.detection_score_threshold))[:, 0]
    survivors = [tf.zeros([0], tf.int64)]
    for label in np.unique(tf.gather(classes, candidates).numpy()):
        members = tf.gather(candidates, tf.where(tf.gather(classes, candidates) == label)[:, 0])
        kept = tf.image.non_max_suppression(
            tf.gather(boxes, members), tf.gather(scores, members), config.detections_per_image, config.detection_nms_iou
        )
        survivors.append(tf.gather(members, kept))
    survivors = tf.sort(tf.concat(survivors, 0))
    best = tf.math.top_k(tf.gather(scores, survivors), min(len(survivors), config.detections_per_image)).indices
    chosen = tf.gather(survivors, best)
    columns = [tf.gather(boxes, chosen), tf.cast(tf.gather(classes, chosen), tf.float32)[:, None]]
    return tf.concat([*columns, tf.gather(scores, chosen)[:, None]], axis=1)
