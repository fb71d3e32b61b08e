"""What if: the same network with one part of it perfect, and masks of ever finer grids.

Each oracle leaves the rest of the network as it is, so that the AP it reaches says how much that part costs: after
perfect proposals, boxes or classes come the network's own scores or boxes, its NMS, and its masks in the new boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..boxes import clip_boxes, encode_boxes, enter_frame, has_sides
from ..config import Config
from ..data.masks import Masks, in_runs, placed
from ..data.sample import Sample
from ..detections import Detections, own_masks, paste_masks, refine, unmold
from ..evaluate.matching import box_iou
from ..heads import box_head, mask_head
from ..model import MaskRCNN
from ..targets import mask_targets
from .judge import BACKGROUND_IOU
from .trail import Trail

#: cells along a side of a mask
MASK_SIZES = (14, 28, 56)
#: what each oracle is
ORACLES = {
    "perfect proposals": "the boxes of the objects are the proposals",
    "perfect boxes": "proposals on an object (IoU 0.1) get its box",
    "perfect classes": "proposals on an object (roi_positive_iou) get its class, others none",
    "perfect masks": "detections on an object (IoU 0.1) get its mask, within their box",
    **{f"masks of {m} x {m}": f"the same through {m} x {m} cells" for m in MASK_SIZES},
}


def oracle_detections(model: MaskRCNN, trail: Trail, sample: Sample) -> dict[str, Detections]:
    """Return the detections in one image under every oracle, by the names of ``ORACLES``.

    Parameters
    ----------
    model : MaskRCNN
    trail : Trail
        Of this model and image.
    sample : Sample
        Class ids are those of the network; crowds are left alone.
    """
    sample = sample.of_objects(~sample.gt_crowd)
    makers: dict[str, Callable[[MaskRCNN, Trail, Sample], Detections]] = {
        "perfect proposals": _perfect_proposals,
        "perfect boxes": _perfect_boxes,
        "perfect classes": _perfect_classes,
        "perfect masks": _perfect_masks,
    }
    found = {name: make(model, trail, sample) for name, make in makers.items()}
    return found | {f"masks of {m} x {m}": _grid_masks(model, trail, sample, m) for m in MASK_SIZES}


def encoded_masks(boxes: np.ndarray, owner: np.ndarray, sample: Sample, config: Config, size: int) -> Masks:
    """Return what masks of ``size`` x ``size`` cells can say of objects, each in a box: encoded and pasted.

    Parameters
    ----------
    boxes : ndarray of shape (D, 4)
        ``(y1, x1, y2, x2)`` in pixels of the image; boxes without area give empty masks.
    owner : ndarray of shape (D,)
        Row of the object that each box is about.
    sample : Sample
    config : Config
        How mask targets are cut out, and masks pasted.
    size : int
        An even number.
    """
    shape = (sample.image.shape[0], sample.image.shape[1])
    there = has_sides(boxes)
    # targets of any size, for which there need be no head
    changed = config.replace(mask_pool_size=size // 2, mini_mask_shape=None, mask_branch=False)
    targets = mask_targets(
        boxes[there], owner[there], sample.gt_boxes.astype(boxes.dtype), in_runs(sample.gt_masks), changed
    )
    rles = [placed(np.zeros((0, 0), bool), (0, 0), shape)] * len(boxes)
    for d, target in zip(np.flatnonzero(there), targets):
        rles[d] = in_runs(paste_masks(target[None], boxes[d : d + 1], shape, config)).rles[0]
    return Masks(rles, shape)


# --- one part perfect -------------------------------------------------------------------------------------------------


def _perfect_proposals(model: MaskRCNN, trail: Trail, sample: Sample) -> Detections:
    boxes = clip_boxes(_molded(trail, sample), trail.molding.window)
    boxes = boxes[has_sides(boxes)].astype(trail.proposals.dtype)
    shape = (1, *trail.molding.molded_shape, 3)
    index = np.zeros(len(boxes), np.int64)
    features = model.head_features(trail.pyramid, boxes, index, model.config.box_pool_size, shape)
    logits, deltas, _ = box_head(features, model.params, model.config)
    return _finish(model, trail, *refine(boxes, logits, deltas, trail.molding.window, model.config))


def _perfect_boxes(model: MaskRCNN, trail: Trail, sample: Sample) -> Detections:
    owner, overlap = _owners(trail.proposals, _molded(trail, sample))
    config, deltas = model.config, trail.box_deltas.astype(np.float64)
    objects = enter_frame(_molded(trail, sample), config.box_frame)
    proposals = trail.proposals.astype(np.float64)
    regions = enter_frame(proposals, config.box_frame)
    on = np.flatnonzero((overlap >= BACKGROUND_IOU) & has_sides(regions))
    on = on[has_sides(objects[owner[on]])]
    deltas[on] = encode_boxes(objects[owner[on]], regions[on], std=config.head_box_std)[:, None]
    if config.max_log_scale is not None:  # an overlap of 0.1 means sides that differ tenfold at most
        config = config.replace(max_log_scale=max(config.max_log_scale, 2.5))
    return _finish(model, trail, *refine(proposals, trail.class_logits, deltas, trail.molding.window, config))


def _perfect_classes(model: MaskRCNN, trail: Trail, sample: Sample) -> Detections:
    """Name each proposal after the object it overlaps most, and rank by that overlap."""
    owner, overlap = _owners(trail.proposals, _molded(trail, sample))
    on = overlap >= model.config.roi_positive_iou
    # probabilities of 1/2 and more, so that the overlap ranks and every one passes a usual threshold
    share = np.clip(0.5 + 0.5 * overlap, 0, 1 - 1e-6)
    logits = np.full(trail.class_logits.shape, -60.0)
    logits[:, 0] = 0.0
    logits[on, sample.gt_class_ids[owner[on]]] = np.log(share[on] / (1 - share[on]))
    config = model.config.replace(detection_score_threshold=min(model.config.detection_score_threshold, 0.5))
    boxes, class_ids, scores = refine(trail.proposals, logits, trail.box_deltas, trail.molding.window, config)
    return _finish(model, trail, boxes, class_ids, scores)


def _perfect_masks(model: MaskRCNN, trail: Trail, sample: Sample) -> Detections:
    del model
    found = trail.detections
    owner, overlap = _owners(found.boxes, sample.gt_boxes)
    masks, shape = in_runs(found.masks), (sample.image.shape[0], sample.image.shape[1])
    objects, rles = in_runs(sample.gt_masks), list(masks.rles)
    for d in np.flatnonzero(overlap >= BACKGROUND_IOU):
        corner = np.clip(np.floor(found.boxes[d, :2]), 0, shape).astype(int)
        end = np.clip(np.ceil(found.boxes[d, 2:]), corner, shape).astype(int)
        y, x = int(corner[0]), int(corner[1])
        rles[d] = placed(objects.crop(int(owner[d]), (y, x, int(end[0]), int(end[1]))), (y, x), shape)
    return _with_masks(found, Masks(rles, shape))


def _grid_masks(model: MaskRCNN, trail: Trail, sample: Sample, size: int) -> Detections:
    found = trail.detections
    owner, overlap = _owners(found.boxes, sample.gt_boxes)
    on = np.flatnonzero(overlap >= BACKGROUND_IOU)
    rles = list(in_runs(found.masks).rles)
    best = encoded_masks(found.boxes[on].astype(np.float64), owner[on], sample, model.config, size)
    for d, rle in zip(on, best.rles):
        rles[d] = rle
    return _with_masks(found, Masks(rles, best.size))


# --- small things -----------------------------------------------------------------------------------------------------


def _finish(model: MaskRCNN, trail: Trail, boxes: np.ndarray, class_ids: np.ndarray, scores: np.ndarray) -> Detections:
    """Give final boxes their masks, as ``detect`` does."""
    config, shape = model.config, (1, *trail.molding.molded_shape, 3)
    boxes = boxes.astype(trail.proposals.dtype)
    if not config.mask_branch:
        boxes, pasted = model.masks_of(trail.pyramid, boxes, class_ids, trail.molding, shape)
        return _with_masks(Detections(boxes, class_ids, scores, pasted), in_runs(pasted))
    index = np.zeros(len(boxes), np.int64)
    features = model.head_features(trail.pyramid, boxes, index, config.mask_pool_size, shape)
    logits, _ = mask_head(features, model.params, config)
    boxes = unmold(boxes, trail.molding, config)
    pasted = paste_masks(own_masks(logits, class_ids), boxes, trail.molding.original_shape, config)
    return _with_masks(Detections(boxes, class_ids, scores, pasted), in_runs(pasted))


def _molded(trail: Trail, sample: Sample) -> np.ndarray:
    return trail.molding.mold_boxes(sample.gt_boxes.astype(np.float64))


def _owners(boxes: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which object each box overlaps most, and by how much."""
    if not len(objects):
        return np.zeros(len(boxes), np.int64), np.zeros(len(boxes))
    overlaps = box_iou(boxes, objects)
    return overlaps.argmax(axis=1), overlaps.max(axis=1)


def _with_masks(found: Detections, masks: Masks) -> Detections:
    runs: Any = masks
    return replace(found, masks=runs)
