"""Each detection of one image beside its objects: right, wrong or not counted, as evaluation has it, and why wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.masks import in_runs
from ..data.rle import mask_overlaps
from ..data.sample import Sample
from ..detections import Detections
from ..evaluate.matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, box_iou, check_detections, match_detections

#: overlap below which a detection has nothing to do with an object: TIDE's background threshold
BACKGROUND_IOU = 0.1
#: COCO counts so many detections of a class in an image
COCO_LIMIT = 100

DUPLICATE, WRONG_CLASS, BADLY_PLACED = "duplicate", "wrong class", "badly placed"
BOTH, BACKGROUND = "both", "background"
#: kinds of false detections, and what each means
KINDS = {
    DUPLICATE: "a second detection of an object that a better one has found",
    WRONG_CLASS: "on an object, under the name of another class",
    BADLY_PLACED: "on an object of its class, but overlapping it too little",
    BOTH: "under the name of another class, and overlapping it too little",
    BACKGROUND: "on no object",
}


@dataclass(frozen=True)
class Rules:
    """What counts as found.

    Attributes
    ----------
    method : {"voc07", "voc10", "coco"}
    iou_type : {"mask", "box"}
    iou_threshold : float
        Least overlap of a right detection.
    """

    method: str = "voc10"
    iou_type: str = "mask"
    iou_threshold: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a threshold at which nothing could be told from background."""
        if not BACKGROUND_IOU < self.iou_threshold <= 1:
            raise ValueError(f"iou_threshold is {self.iou_threshold}; expected a number in ({BACKGROUND_IOU}, 1]")


@dataclass(frozen=True)
class Judged:
    """The detections of one image, judged.

    Attributes
    ----------
    outcome : ndarray of shape (D,), int8
        ``TRUE_POSITIVE``, ``FALSE_POSITIVE`` or ``IGNORED``.
    matched : ndarray of shape (D,), int64
        The object a detection was matched with, -1 for none.
    kinds : tuple of D str
        Of a false detection its kind, else "".
    target : ndarray of shape (D,), int64
        The object that a false detection is about, -1 for background.
    box_ious : ndarray of shape (D, G)
    ious : ndarray of shape (D, G)
        Of what is compared: masks or boxes.
    found : ndarray of shape (G,), bool
        Which objects were found.
    demanded : ndarray of shape (G,), bool
        Which are to be found: neither crowds nor difficult.
    """

    outcome: np.ndarray
    matched: np.ndarray
    kinds: tuple[str, ...]
    target: np.ndarray
    box_ious: np.ndarray
    ious: np.ndarray
    found: np.ndarray
    demanded: np.ndarray


def judge(detections: Detections, sample: Sample, num_classes: int, rules: Rules) -> Judged:
    """Match the detections of one image with its objects, class by class, and give each false one its kind.

    Parameters
    ----------
    detections : Detections
    sample : Sample
    num_classes : int
        With the background.
    rules : Rules

    Notes
    -----
    The matching is that of ``evaluate.voc.Evaluator``. The kinds are TIDE's, asked in this order: enough overlap with
    an object of its class (then that object is taken: a duplicate), enough overlap with an object of another class,
    some overlap (0.1) with an object of its class, some overlap with another, none.

    References
    ----------
    Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors" (2020), section 3.
    """
    check_detections(detections, sample, num_classes, iou_type=rules.iou_type)
    count = len(detections.scores)
    crowd = sample.gt_crowd
    box_ious = box_iou(detections.boxes, sample.gt_boxes, crowd=crowd)
    ious = box_ious if rules.iou_type == "box" else _mask_ious(detections, sample)
    outcome, matched = np.full(count, FALSE_POSITIVE, np.int8), np.full(count, -1, np.int64)
    coco = rules.method == "coco"
    for class_id in np.unique(detections.class_ids):
        of_class = np.flatnonzero(detections.class_ids == class_id)
        order = of_class[np.argsort(-detections.scores[of_class].astype(np.float64), kind="stable")]
        if coco:
            outcome[order[COCO_LIMIT:]] = IGNORED
            order = order[:COCO_LIMIT]
        gt = np.flatnonzero(sample.gt_class_ids == class_id)
        outcome[order], partner = match_detections(
            ious[np.ix_(order, gt)],
            iou_threshold=rules.iou_threshold,
            rule="coco" if coco else "voc",
            ignored=sample.gt_difficult[gt],
            crowd=crowd[gt],
        )
        matched[order[partner >= 0]] = gt[partner[partner >= 0]]
    found = np.zeros(len(crowd), bool)
    found[matched[outcome == TRUE_POSITIVE]] = True
    kinds, target = [""] * count, np.full(count, -1, np.int64)
    for d in np.flatnonzero(outcome == FALSE_POSITIVE):
        same = sample.gt_class_ids == detections.class_ids[d]
        kinds[d], target[d] = _kind(ious[d], same & ~crowd, ~same & ~crowd, rules.iou_threshold)
    demanded = ~(crowd | sample.gt_difficult)
    return Judged(outcome, matched, tuple(kinds), target, box_ious, ious, found, demanded)


def _kind(ious: np.ndarray, same: np.ndarray, other: np.ndarray, threshold: float) -> tuple[str, int]:
    """Return the kind of a false detection, and the object it is about."""
    for least, kinds in ((threshold, (DUPLICATE, WRONG_CLASS)), (BACKGROUND_IOU, (BADLY_PLACED, BOTH))):
        for kind, which in zip(kinds, (same, other)):
            overlaps = np.where(which, ious, -1.0)
            if len(ious) and overlaps.max() >= least:
                return kind, int(overlaps.argmax())
    return BACKGROUND, -1


def _mask_ious(detections: Detections, sample: Sample) -> np.ndarray:
    found, objects = in_runs(detections.masks), in_runs(sample.gt_masks)
    if sample.void.any():
        found, objects = found.without(sample.void), objects.without(sample.void)
    return mask_overlaps(found.rles, objects.rles, crowd=sample.gt_crowd)
