"""What each anchor, each RoI and each mask should have said.

Nothing here has a gradient: targets are constants. Labels of anchors are ``1`` positive, ``-1`` negative, ``0``
neutral (carries no loss). Random choices take the image's own ``rng``, so that an image's targets do not depend on
what else is in its batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import accelerated
from kernels.contract import TIE

from .boxes import encode_boxes, enter_frame, iou, leave_frame
from .config import Config
from .data.masks import Masks
from .keypoints.head import ENLARGED
from .keypoints.labels import heatmap_labels
from .molding import whole_pixels
from .ops.crop_and_resize import crop_and_resize
from .ops.roi_align import roi_align
from .pyramid import normalise_boxes

UNBOUNDED = (2**31, 2**31)


@dataclass(frozen=True)
class Targets:
    """Everything the losses of a batch compare with. RoIs of all images form one list.

    Attributes
    ----------
    rpn_labels : ndarray of shape (N, A), int8
        1 positive, -1 negative, 0 not sampled.
    rpn_deltas : ndarray of shape (N, A, 4)
    rois : ndarray of shape (R, 4)
        ``(y1, x1, y2, x2)`` in molded pixels.
    image_index : ndarray of shape (R,)
        The image of each RoI.
    class_ids : ndarray of shape (R,)
        0 for negatives.
    deltas : ndarray of shape (R, 4)
    masks : ndarray of shape (P, m, m)
        For the P RoIs whose class is not 0, in their order; of no RoI without a mask branch.
    keypoints : ndarray of shape (P, K), int64, or None
        Of the same RoIs the cell of each keypoint, -1 where there is none; None without a keypoint branch.
    """

    rpn_labels: np.ndarray
    rpn_deltas: np.ndarray
    rois: np.ndarray
    image_index: np.ndarray
    class_ids: np.ndarray
    deltas: np.ndarray
    masks: np.ndarray
    keypoints: np.ndarray | None = None


# --- anchors --------------------------------------------------------------------------------------------------------


def match_anchors(
    anchors: np.ndarray, gt_boxes: np.ndarray, gt_crowd: np.ndarray, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Label every anchor by its overlap with the ground truth.

    Positive: IoU >= ``rpn_positive_iou`` with some object, or (``rpn_match_best``) the best anchor of an object, so
    that no object goes without; ``rpn_best_ties`` says which anchors share that place. Negative: IoU <
    ``rpn_negative_iou`` with every object. Else neutral. With ``crowd_iou``, an anchor that touches a crowd region is
    no negative: there may be an object under it.

    Parameters
    ----------
    anchors : ndarray of shape (A, 4)
    gt_boxes : ndarray of shape (G, 4)
        Same frame as the anchors.
    gt_crowd : ndarray of shape (G,), bool
        On the host, wherever the boxes are.
    config : Config

    Returns
    -------
    labels : ndarray of shape (A,), int8
        1, -1 or 0.
    matched : ndarray of shape (A,), int64
        Index of the object with the highest IoU (0 where there is none).

    References
    ----------
    Ren et al., "Faster R-CNN" (2015), section 3.1.2.
    """
    objects = np.asarray(np.flatnonzero(~gt_crowd), like=gt_boxes)
    if len(objects):
        labels, best = label_anchors(
            anchors, gt_boxes[objects], negative_iou=config.rpn_negative_iou, positive_iou=config.rpn_positive_iou,
            match_best=config.rpn_match_best, tie=TIE if config.rpn_best_ties == "tolerance" else 0.0,
        )  # fmt: skip
        matched = objects[best]
    else:
        labels, matched = np.full_like(anchors[:, 0], -1, np.int8), np.zeros_like(anchors[:, 0], np.int64)
    if config.crowd_iou is not None and gt_crowd.any():
        crowds = np.asarray(np.flatnonzero(gt_crowd), like=gt_boxes)
        near_crowd = iou(anchors, gt_boxes[crowds]).max(axis=1) >= config.crowd_iou
        labels[near_crowd & (labels == -1)] = 0
    return labels, matched


@accelerated
def label_anchors(
    anchors: np.ndarray,
    objects: np.ndarray,
    *,
    negative_iou: float,
    positive_iou: float,
    match_best: bool,
    tie: float = TIE,
) -> tuple[np.ndarray, np.ndarray]:
    """Do what ``match_anchors`` does, where no object is a crowd.

    Parameters
    ----------
    anchors : ndarray of shape (A, 4)
    objects : ndarray of shape (G, 4)
        Without any, every anchor is negative and its match 0.
    negative_iou, positive_iou : float
        Below the first with every object: negative. From the second on with one: positive.
    match_best : bool
        The best anchors of each object are positive, too.
    tie : float
        Share of the best IoU that an anchor may miss and still count as the best; 0: its bits must be equal.

    Returns
    -------
    labels : ndarray of shape (A,), int8
    matched : ndarray of shape (A,), int64
    """
    labels = np.full(len(anchors), -1, np.int8)
    if len(objects) == 0:
        return labels, np.zeros(len(anchors), np.int64)
    overlaps = iou(anchors, objects)  # (A, G)
    labels[overlaps.max(axis=1) >= negative_iou] = 0
    labels[is_positive(overlaps, positive_iou, match_best=match_best, tie=tie)] = 1
    return labels, overlaps.argmax(axis=1)


def is_positive(overlaps: np.ndarray, positive_iou: float, *, match_best: bool = True, tie: float = TIE) -> np.ndarray:
    """Tell which anchors are positive.

    Parameters
    ----------
    overlaps : ndarray of shape (A, G)
        IoU of each anchor with each object.
    positive_iou, match_best, tie
        As in ``label_anchors``.

    Returns
    -------
    ndarray of shape (A,), bool
    """
    if not match_best:
        return np.any(overlaps >= positive_iou, axis=1)
    best_of_object = overlaps.max(axis=0, initial=0)  # (G,)
    # An object that no anchor touches would otherwise make every anchor its "best"
    is_best = (overlaps >= best_of_object * (1 - tie)) & (best_of_object > 0)
    return ((overlaps >= positive_iou) | is_best).any(axis=1)


def subsample(labels: np.ndarray, count: int, positive_fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Keep ``count`` labels, at most ``positive_fraction`` of them positive, and make the others neutral.

    Negatives fill what positives leave, because there are always enough of them.

    Parameters
    ----------
    labels : ndarray of shape (A,), int8
        1, -1 or 0 (neutral).
    count : int
        Labels that stay.
    positive_fraction : float
        Largest share of positives among ``count``.
    rng : numpy.random.Generator
    """
    positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == -1)
    keep_positive = _choose(positives, int(count * positive_fraction), rng)
    keep_negative = _choose(negatives, count - len(keep_positive), rng)
    sampled = np.zeros_like(labels)
    sampled[keep_positive] = 1
    sampled[keep_negative] = -1
    return sampled


def rpn_targets(
    anchors: np.ndarray, gt_boxes: np.ndarray, gt_crowd: np.ndarray, config: Config, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Label and subsample the anchors of one image and encode what the positives should become.

    Parameters
    ----------
    anchors : ndarray of shape (A, 4)
        ``(y1, x1, y2, x2)`` in pixels.
    gt_boxes : ndarray of shape (G, 4)
    gt_crowd : ndarray of shape (G,), bool
        Crowds are no target; anchors on them are no negatives either, if ``crowd_iou`` says so.
    config : Config
    rng : numpy.random.Generator
        Chooses which labels stay.

    Returns
    -------
    labels : ndarray of shape (A,), int8
        1, -1 or 0; at most ``rpn_anchors_per_image`` are not 0.
    deltas : ndarray of shape (A, 4)
        (dy, dx, log dh, log dw) / ``rpn_box_std`` where the label is 1, zero elsewhere.
    """
    labels, matched = match_anchors(anchors, gt_boxes, gt_crowd, config)
    labels = subsample(labels, config.rpn_anchors_per_image, config.rpn_positive_fraction, rng)
    deltas = np.zeros_like(anchors)
    positive = np.flatnonzero(labels == 1)
    deltas[positive] = encode_boxes(gt_boxes[matched[positive]], anchors[positive], std=config.rpn_box_std)
    return labels, deltas


def _choose(indices: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``count`` of the indices without replacement, in ascending order; all of them if there are no more."""
    if len(indices) <= count:
        return indices
    return indices[np.asarray(np.sort(rng.choice(len(indices), count, replace=False)), like=indices)]


# --- regions of interest --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RoiTargets:
    """The sampled RoIs of one image, positives first.

    Attributes
    ----------
    rois : ndarray of shape (R, 4)
        ``(y1, x1, y2, x2)`` in molded pixels.
    class_ids : ndarray of shape (R,)
        0 for negatives.
    deltas : ndarray of shape (R, 4)
        Encoded with ``head_box_std``; zero for negatives.
    masks : ndarray of shape (P, m, m)
        In [0, 1], for the P positives; none without a mask branch.
    keypoints : ndarray of shape (P, K), int64, or None
        As in ``Targets``.
    """

    rois: np.ndarray
    class_ids: np.ndarray
    deltas: np.ndarray
    masks: np.ndarray
    keypoints: np.ndarray | None = None


def roi_targets(
    proposals: np.ndarray,
    gt_boxes: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_masks: np.ndarray | Masks,
    gt_crowd: np.ndarray,
    config: Config,
    rng: np.random.Generator,
    *,
    window: tuple[int, int, int, int] | None = None,
    gt_keypoints: np.ndarray | None = None,
) -> RoiTargets:
    """Sample RoIs from the proposals of one image and say what the heads should find in each.

    A proposal is positive if its IoU with some object is at least ``roi_positive_iou``. Positives are limited to
    ``roi_positive_fraction`` of ``rois_per_image``.

    Parameters
    ----------
    proposals : ndarray of shape (P, 4)
        ``(y1, x1, y2, x2)`` in molded pixels.
    gt_boxes, gt_class_ids, gt_masks, gt_crowd : ndarray
        As in ``Batch``, for one image.
    config : Config
    rng : numpy.random.Generator
    window : tuple of int, optional
        As in ``mask_targets``.
    gt_keypoints : ndarray of shape (G, K, 3), optional
        As in ``Batch``, for one image; needed with a keypoint branch.

    References
    ----------
    He et al., "Mask R-CNN" (2017), section 3.1.
    """
    objects = np.asarray(np.flatnonzero(~gt_crowd), like=proposals)
    if config.gt_joins_proposals:
        proposals = np.concatenate([gt_boxes[objects].astype(proposals.dtype), proposals])
    best, matched = np.zeros_like(proposals[:, 0]), np.zeros_like(proposals[:, 0], np.int64)
    framed, gt_framed = enter_frame(proposals, config.box_frame), enter_frame(gt_boxes, config.box_frame)
    if len(objects) and len(proposals):
        overlaps = iou(framed, gt_framed[objects])
        best, matched = overlaps.max(axis=1), objects[overlaps.argmax(axis=1)]
    negative = best < config.roi_positive_iou
    if config.crowd_iou is not None and gt_crowd.any():
        crowds = np.asarray(np.flatnonzero(gt_crowd), like=proposals)
        negative &= ~(iou(framed, gt_framed[crowds]) >= config.crowd_iou).any(axis=1)
    positive = best >= config.roi_positive_iou

    keep_positive = _choose(np.flatnonzero(positive), int(config.rois_per_image * config.roi_positive_fraction), rng)
    keep_negative = _choose(np.flatnonzero(negative), negative_count(len(keep_positive), config), rng)

    kept = np.concatenate([keep_positive, keep_negative])
    owner = matched[keep_positive]
    class_ids = np.zeros_like(kept)
    class_ids[: len(keep_positive)] = gt_class_ids[owner]
    deltas = np.zeros((len(kept), 4), proposals.dtype, like=proposals)
    deltas[: len(keep_positive)] = encode_boxes(gt_framed[owner], framed[keep_positive], std=config.head_box_std)
    with_mask = len(owner) if config.mask_branch else 0
    masks = mask_targets(
        proposals[keep_positive][:with_mask], owner[:with_mask], gt_boxes, gt_masks, config, window=window
    )
    keypoints = None
    if gt_keypoints is not None and config.keypoints:
        size = ENLARGED * config.keypoint_pool_size
        keypoints = heatmap_labels(gt_keypoints[owner], proposals[keep_positive], size)
    targets = RoiTargets(proposals[kept], class_ids, deltas, masks, keypoints)
    return _padded(targets, config.rois_per_image) if config.rois_padded else targets


def _padded(targets: RoiTargets, count: int) -> RoiTargets:
    """Fill up to ``count`` with background RoIs of the image's first pixel: what zeros mean to matterport."""
    missing = count - len(targets.rois)
    first_pixel = np.tile(np.array([0, 0, 1, 1], targets.rois.dtype, like=targets.rois), (missing, 1))
    return RoiTargets(
        np.concatenate([targets.rois, first_pixel]),
        np.pad(targets.class_ids, (0, missing)),
        np.pad(targets.deltas, ((0, missing), (0, 0))),
        targets.masks,
        targets.keypoints,
    )


def negative_count(positives: int, config: Config) -> int:
    """Return how many negatives go with this many positives.

    ``"ratio"`` keeps the share exact and leaves the batch short: 10 positives at .33 take 20 negatives.
    """
    if config.roi_negatives == "ratio":
        return int(positives / config.roi_positive_fraction) - positives
    return config.rois_per_image - positives


def mask_targets(
    rois: np.ndarray,
    owner: np.ndarray,
    gt_boxes: np.ndarray,
    gt_masks: np.ndarray | Masks,
    config: Config,
    *,
    window: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Cut each RoI out of its object's mask, at the resolution the mask head predicts.

    RoIAlign's samples of a RoI that touches the image's border reach half a pixel beyond its last row. There the mask
    goes on as it ends: torchvision and detectron2 read it from the image without its padding, which would say "no".

    Parameters
    ----------
    rois : ndarray of shape (P, 4)
        ``(y1, x1, y2, x2)`` in molded pixels.
    owner : ndarray of shape (P,)
        Index of each RoI's object.
    gt_boxes : ndarray of shape (G, 4)
    gt_masks : Masks, or ndarray of shape (G, H, W), bool
        Or mini masks.
    config : Config
    window : tuple of int, optional
        ``(y1, x1, y2, x2)`` of the image within the canvas; the whole canvas if it is not given.

    Returns
    -------
    ndarray of shape (P, m, m)
        The share of each cell that the object covers, or its rounding to 0 and 1 (``mask_target_rounded``).
    """
    size = 2 * config.mask_pool_size
    if len(rois) == 0:
        return np.zeros((0, size, size), rois.dtype, like=rois)
    if isinstance(gt_masks, Masks):  # only the objects that a RoI belongs to become pixels
        used, owner = np.unique(owner, return_inverse=True)
        gt_masks, gt_boxes = np.asarray(gt_masks[used]), gt_boxes[used]
    if config.mini_mask_shape is not None:
        rois = _in_mini_frame(rois, gt_boxes[owner], config.mini_mask_shape, config.box_frame)
    elif config.mask_target_method == "roi_align" and window is not None:
        top, left, bottom, right = window
        gt_masks = gt_masks[:, top:bottom, left:right]
        rois = rois - np.array([top, left, top, left], rois.dtype, like=rois)
    targets = crop_masks(
        gt_masks, owner, rois, output_size=size, method=config.mask_target_method, aligned=config.roi_aligned
    )
    # interpolation weights sum to one only up to rounding
    targets = np.clip(targets, 0, 1)
    if not config.mask_target_rounded:
        return targets
    # A cell that is covered exactly by half: tf.round gives 0 (to even), detectron2's ">= 0.5" gives 1
    return np.round(targets) if config.mask_target_method == "crop_and_resize" else np.floor(targets + 0.5)


@accelerated
def crop_masks(
    masks: np.ndarray, owner: np.ndarray, rois: np.ndarray, *, output_size: int, method: str, aligned: bool
) -> np.ndarray:
    """Read each RoI from the mask of its object.

    Parameters
    ----------
    masks : ndarray of shape (G, H, W), bool
    owner : ndarray of shape (P,)
    rois : ndarray of shape (P, 4)
        ``(y1, x1, y2, x2)`` in pixels of the masks.
    output_size : int
        m.
    method : {"roi_align", "crop_and_resize"}
    aligned : bool
        As in ``roi_align``.

    Returns
    -------
    ndarray of shape (P, m, m)
        The share of each cell that the mask covers, up to rounding.
    """
    used, index = np.unique(owner, return_inverse=True)
    planes = masks[used, :, :, None].astype(rois.dtype)  # (G', H, W, 1): each mask is an image of its own
    if method == "crop_and_resize":
        boxes = normalise_boxes(rois, planes.shape[1:3])
        cropped, _ = crop_and_resize(planes, boxes, index, output_size=output_size)
    else:
        cropped, _ = roi_align(
            planes, rois, index, output_size=output_size, spatial_scale=1.0, sampling_ratio=0, aligned=aligned
        )
    return cropped[..., 0]


def _in_mini_frame(rois: np.ndarray, boxes: np.ndarray, shape: tuple[int, int], frame: str) -> np.ndarray:
    """Express RoIs in mini-mask pixels: the object's box, in whole pixels, becomes ``[0, 0, h, w]``.

    In the frame "centres" the object's first and last pixels become the mask's.
    """
    boxes = enter_frame(whole_pixels(boxes, UNBOUNDED), frame)  # they lie on the canvas already
    _, _, h, w = enter_frame(np.array([0, 0, *shape]), frame).tolist()
    origin = np.concatenate([boxes[:, :2], boxes[:, :2]], axis=1)
    sides = np.concatenate([boxes[:, 2:] - boxes[:, :2]] * 2, axis=1)
    inside = (enter_frame(rois, frame) - origin) / sides * np.array([h, w, h, w], like=rois)
    return leave_frame(inside, frame).astype(rois.dtype)
