"""matterport's Mask R-CNN with our parameters: every tensor of one detection, or the losses and gradients of a batch.

Written from what matterport's code does, not from ours, with TensorFlow's own operations (``Conv2D``,
``BatchNormalization``, ``tf.image.crop_and_resize``, ``tf.image.non_max_suppression``). What matterport takes from its
``Config`` (sizes, thresholds, counts) follows our config; everything else is as matterport does it, so a field that
says otherwise, or a mistake of ours, shows as a difference.

One thing is left out. Where fewer proposals are found than ``POST_NMS_ROIS_INFERENCE``, matterport fills up with zeros
and classifies these, too. An object found in one is a box without area, which is thrown away in the end; yet it can
take one of the places of ``DETECTION_MAX_INSTANCES``. It happens on canvases of 64 pixels; at 1024 there are proposals
enough.

TensorFlow crops and suppresses in float32 only; so there is no float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ...config import Config, presets
from ...data.sample import Sample
from ...errors import ConfigError
from ...targets import Targets
from ..trace import Trace
from . import losses as losses
from .data import Choose, anchor_targets, ground_truth, mold, unmold
from .network import Network
from .regions import denormalise, detect, normalise, propose, pyramid_anchors, roi_align

# In the gradient of tf.image.crop_and_resize several threads add to one map without waiting for each other: additions
# are lost. With two threads gradients of the backbone are wrong by up to 2e-2 of the largest, differently every time.
with suppress(RuntimeError):  # too late if TensorFlow has computed something already
    tf.config.threading.set_intra_op_parallelism_threads(1)

LEVELS = ("p2", "p3", "p4", "p5", "p6")
#: what its model is made of, whatever its configuration
STRUCTURE = presets.built_in("matterport")


def check(config: Config) -> None:
    """Refuse a network that matterport's cannot be: ``ConfigError``."""
    if config.backbone not in ("resnet50", "resnet101"):
        raise ConfigError(f"backbone is {config.backbone!r}; matterport's Mask R-CNN has resnet50 and resnet101")
    if config.image_max_size % 64:
        raise ConfigError(f"image_max_size is {config.image_max_size}; matterport's Mask R-CNN needs a multiple of 64")
    for field, only in STRUCTURE.items():
        if getattr(config, field) != only:
            raise ConfigError(f"{field} is {getattr(config, field)!r}; matterport's Mask R-CNN has {only!r} only")
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=tensorflow")


def trace(params: Mapping[str, np.ndarray], config: Config, image: np.ndarray) -> Trace:
    """Detect in one image and keep every tensor; the names are those of ``trace.py``.

    Parameters
    ----------
    params : mapping of str to ndarray
        Ours; computed with in float32.
    config : Config
    image : ndarray of shape (H, W, 3), uint8
        RGB.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ConfigError
        The network is one that matterport's code cannot build.
    """
    check(config)
    network = Network(params, config)
    molded = mold(image, config)
    canvas = molded.image.shape[:2]
    kept: Trace = {"molded": molded.image[None]}

    pyramid = network.pyramid(network.backbone(tf.constant(kept["molded"])))
    kept |= {name: x.numpy() for name, x in network.kept.items()}
    kept |= {level: p.numpy() for level, p in zip(LEVELS, pyramid)}
    outputs = [network.rpn(p) for p in pyramid]
    kept |= {f"rpn_logits.{level}": logits[0].numpy() for level, (logits, _) in zip(LEVELS, outputs)}
    kept |= {f"rpn_deltas.{level}": deltas[0].numpy() for level, (_, deltas) in zip(LEVELS, outputs)}
    anchors = pyramid_anchors(canvas, config)
    kept |= {f"anchors.{level}": a.astype(np.float32) for level, a in zip(LEVELS, anchors)}

    logits, deltas = (tf.concat([output[i][0] for output in outputs], 0) for i in (0, 1))
    all_anchors = tf.constant(normalise(np.concatenate(anchors), canvas))
    count = config.proposals_post_nms_test
    rois, scores = propose(tf.nn.softmax(logits), deltas, all_anchors, config, count=count)
    rois = rois[: len(scores)]  # not the zeros, see above
    kept["proposals"] = denormalise(rois, canvas).astype(np.float32)
    kept["proposal_scores"] = scores.numpy()

    features = roi_align(rois[None], pyramid, canvas, config.box_pool_size)
    class_logits, box_deltas = network.classifier(features)
    kept["box_features"], kept["class_logits"] = features.numpy(), class_logits.numpy()
    kept["box_deltas"] = box_deltas.numpy()

    window = normalise(np.array(molded.window), canvas)
    detections = detect(rois, tf.nn.softmax(class_logits), box_deltas, window, config).numpy()
    classes = detections[:, 4].astype(np.int64)
    kept["detection_boxes"] = denormalise(detections[:, :4], canvas).astype(np.float32)
    kept["detection_classes"], kept["detection_scores"] = classes, detections[:, 5]

    missing = config.detections_per_image - len(detections)
    boxes = tf.pad(tf.constant(detections[:, :4]), [[0, missing], [0, 0]])
    features = roi_align(boxes[None], pyramid, canvas, config.mask_pool_size)
    mask_logits = network.mask(features)[: len(detections)]
    masks = tf.sigmoid(mask_logits).numpy()[np.arange(len(classes)), :, :, classes]
    kept["mask_features"], kept["mask_logits"] = features[: len(detections)].numpy(), mask_logits.numpy()
    kept["mask_probabilities"] = masks
    final, pasted = unmold(detections, masks, (image.shape[0], image.shape[1]), canvas, molded.window)
    kept["boxes"], kept["masks"] = final.astype(np.float32), pasted
    return kept


def left_to_rounding(kept: Trace) -> dict[str, np.ndarray]:
    """Say which rows of a trace round-off decides: those of RoIs that end on the canvas's last row or column.

    ``tf.image.crop_and_resize`` takes 0 for what lies outside the map, however little, and the last samples of such a
    RoI lie exactly on the edge: a difference of 1e-7 can turn a row of its features to 0.

    Parameters
    ----------
    kept : dict of str to ndarray
        From ``trace``.

    Returns
    -------
    dict of str to ndarray of bool
        One number per row, by the name of the tensor.
    """
    ends = np.array(kept["molded"].shape[1:3]) - 0.01
    read = {"box_features": "proposals", "mask_features": "detection_boxes"}
    return {name: np.asarray((kept[boxes][:, 2:] > ends).any(axis=1)) for name, boxes in read.items()}


class Step(NamedTuple):
    """What ``train_step`` returns.

    Attributes
    ----------
    losses : dict of str to float
        By the names of ``objective.LOSSES``, with their weights.
    gradients : dict of str to ndarray
        Of their sum, under our names and in our layout.
    targets : Targets
        What was compared with, in the form that ``MaskRCNN.losses`` takes.
    proposals : list of ndarray
        (P, 4) of each image, in molded pixels.
    """

    losses: dict[str, float]
    gradients: dict[str, np.ndarray]
    targets: Targets
    proposals: list[np.ndarray]


def train_step(
    params: Mapping[str, np.ndarray],
    config: Config,
    samples: Sequence[Sample],
    choose: Choose,
    *,
    active_class_ids: np.ndarray | None = None,
) -> Step:
    """Compute the five losses of a batch and their gradients (without weight decay, as ours).

    Parameters
    ----------
    params : mapping of str to ndarray
    config : Config
    samples : sequence of Sample
        Each with at least one object, as matterport demands.
    choose : callable
        ``choose(indices, count)`` returns at most ``count`` of the indices: the anchors and RoIs that matterport would
        draw at random.
    active_class_ids : ndarray of shape (N, K), bool, optional
        Classes of each image's data set; all by default.
    """
    check(config)
    network = Network(params, config)
    molded = [mold(sample.image, config) for sample in samples]
    truths = [ground_truth(sample, config) for sample in samples]
    canvas = molded[0].image.shape[:2]
    anchors = np.concatenate(pyramid_anchors(canvas, config))
    match, packed = (np.stack(x) for x in zip(*(anchor_targets(anchors, t, config, choose) for t in truths)))
    active = np.ones((len(samples), config.num_classes), bool) if active_class_ids is None else active_class_ids
    with tf.GradientTape() as tape:
        pyramid = network.pyramid(network.backbone(tf.constant(np.stack([m.image for m in molded]))))
        logits, deltas = (tf.concat(x, 1) for x in zip(*(network.rpn(p) for p in pyramid)))
        normalised, count = tf.constant(normalise(anchors, canvas)), config.proposals_post_nms_train
        with tape.stop_recording():
            found = [propose(tf.nn.softmax(x), d, normalised, config, count=count) for x, d in zip(logits, deltas)]
            drawn = [losses.head_targets(p, t, canvas, config, choose) for (p, _), t in zip(found, truths)]
            rois, class_ids, box_targets, mask_targets = (tf.stack(x) for x in zip(*drawn))
        flat = tf.reshape(class_ids, [-1])
        class_logits, box_deltas = network.classifier(roi_align(rois, pyramid, canvas, config.box_pool_size))
        masks = tf.sigmoid(network.mask(roi_align(rois, pyramid, canvas, config.mask_pool_size)))
        values = {
            "rpn_class": losses.rpn_class_loss(match, logits),
            "rpn_box": losses.rpn_box_loss(match, packed, deltas),
            "head_class": losses.class_loss(flat, class_logits, active),
            "head_box": losses.box_loss(tf.reshape(box_targets, [-1, 4]), flat, box_deltas),
            "head_mask": losses.mask_loss(tf.reshape(mask_targets, [-1, *mask_targets.shape[2:]]), flat, masks),
        }
        values = {name: weight * loss for (name, loss), weight in zip(values.items(), config.loss_weights)}
        total = tf.add_n(list(values.values()))
    rpn_deltas = np.zeros((*match.shape, 4), np.float32)
    for image_deltas, image_match, image_packed in zip(rpn_deltas, match, packed):
        image_deltas[image_match == 1] = image_packed[: (image_match == 1).sum()]
    positive = flat.numpy() > 0
    targets = Targets(
        rpn_labels=match.astype(np.int8),
        rpn_deltas=rpn_deltas,
        rois=denormalise(tf.reshape(rois, [-1, 4]).numpy(), canvas).astype(np.float32),
        image_index=np.repeat(np.arange(len(samples)), config.rois_per_image),
        class_ids=flat.numpy(),
        deltas=tf.reshape(box_targets, [-1, 4]).numpy(),
        masks=tf.reshape(mask_targets, [-1, *mask_targets.shape[2:]]).numpy()[positive],
    )
    proposals = [denormalise(p[: len(s)].numpy(), canvas).astype(np.float32) for p, s in found]
    numbers = {name: float(loss) for name, loss in values.items()}
    return Step(numbers, network.gradients(tape, total), targets, proposals)
