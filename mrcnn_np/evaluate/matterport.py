"""The "mAP" of the Keras implementation, which is a mean over images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..data.sample import Sample
from ..detections import Detections
from .matching import box_iou, check_detections, mask_iou, match_detections, pairs
from .ranking import average_precision, precision_recall


def matterport_map(
    detections: Iterable[Detections], samples: Iterable[Sample], *, iou_type: str = "mask", iou_threshold: float = 0.5
) -> float:
    """Return the "mAP" of the Keras implementation: the mean over *images* of the AP inside each image.

    All classes of an image share one ranking, so scores of different images are never compared, every image weighs the
    same, and a class that is always missed hardly shows. It is not VOC's mAP and usually higher. It knows neither
    difficult objects nor crowds nor void pixels. Images without objects are left out; NaN if there are no others.

    Parameters
    ----------
    detections, samples : iterable of Detections, of Sample
        One of each for every image.
    iou_type : {"mask", "box"}
    iou_threshold : float
        From which overlap on a detection is right.
    """
    per_image = []
    for found, sample in pairs(detections, samples):
        top = max(found.class_ids.max(initial=1), sample.gt_class_ids.max(initial=1))
        check_detections(found, sample, int(top) + 1, iou_type=iou_type)
        if not len(sample.gt_boxes):
            continue
        if iou_type == "mask":
            overlaps = mask_iou(found.masks, sample.gt_masks)
        else:
            overlaps = box_iou(found.boxes, sample.gt_boxes)
        overlaps = np.where(found.class_ids[:, None] == sample.gt_class_ids[None, :], overlaps, -1.0)
        order = np.argsort(-found.scores.astype(np.float64), kind="stable")
        # COCO's rule without ignored objects is the one used there: the best object that is still free
        outcome, _ = match_detections(overlaps[order], iou_threshold=iou_threshold, rule="coco")
        curve = precision_recall(found.scores[order], outcome, len(sample.gt_boxes))
        per_image.append(average_precision(*curve, method="voc10"))
    return float(np.mean(per_image)) if per_image else float("nan")
