"""At which stage each missed object was lost, with the numbers of that stage.

The stage is the last one that something good for the object reached: a proposal that overlaps it by
``roi_positive_iou`` (such regions are what the heads are taught to recognise), then a box of its class that overlaps
it by the threshold of the evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..boxes import has_sides, iou
from ..config import Config
from ..data.masks import in_runs
from ..data.sample import Sample
from ..evaluate.matching import TRUE_POSITIVE, box_iou, mask_iou
from .judge import Judged, Rules
from .oracles import encoded_masks
from .trail import LIMIT, NMS, SCORE, SIZE, TOP_K, Trail

#: overlaps that differ by less are the same
_TIE = 1e-6

ANCHOR, RPN_BOX, RANKED, RPN_SIZE, RPN_NMS, RPN_LIMIT = (
    "no anchor", "proposal placed badly", "proposal ranked low", "proposal too small", "proposal suppressed",
    "proposal cut off",
)  # fmt: skip
CLASS, BOX, BOX_SIZE, SUPPRESSED, CUT, MASK, SHARED = (
    "class score", "box placed badly", "box too small", "suppressed", "cut off", "bad mask", "shared",
)  # fmt: skip
#: the stages in the order of the network, and what it means to be lost there
STAGES = {
    ANCHOR: "no anchor overlaps it by rpn_negative_iou, and none was moved onto it",
    RPN_BOX: "anchors are near, but none was moved onto it",
    RANKED: "an anchor was moved onto it, but too many others scored higher (proposals_pre_nms_test)",
    RPN_SIZE: "the box that was moved onto it is below proposals_min_size",
    RPN_NMS: "the proposal was suppressed by a better one that does not fit the object",
    RPN_LIMIT: "the proposal came after the last that is kept (proposals_post_nms_test)",
    CLASS: "proposals fit it, but the score of its class is below detection_score_threshold",
    BOX: "recognised, but the final box fits it too little",
    BOX_SIZE: "recognised, but the final box is below detection_min_size",
    SUPPRESSED: "recognised and well placed, but suppressed by a better detection of the class",
    CUT: "recognised and well placed, but after the last that is kept (detections_per_image)",
    MASK: "found, with a good box, but the mask fits too little",
    SHARED: "the only detection on it counts for another object",
}


@dataclass
class Miss:
    """One missed object.

    Attributes
    ----------
    image_id : str
    number : int
        Of the object in its image, from 1, in the order of the annotation; its row in the sample is one less.
    class_id : int
    box : list of 4 floats
        ``(y1, x1, y2, x2)`` in pixels of the original image.
    stage : str
        Of ``STAGES``.
    numbers : dict
        What is known of that stage; boxes in pixels of the original image. Detections (``detection``,
        ``by_detection``) count from 1 as ``detect`` numbers them, and so do objects (``by_object``).
    text : str
        The same as a sentence.
    cost : float
        AP gained if this object alone had not been demanded.
    """

    image_id: str
    number: int
    class_id: int
    box: list[float]
    stage: str
    numbers: dict[str, Any]
    text: str
    cost: float = field(default=0.0)


def find_deaths(
    trail: Trail, sample: Sample, judged: Judged, rules: Rules, config: Config, class_names: tuple[str, ...]
) -> list[Miss]:
    """Return every object that was to be found and was not, with the stage at which it was lost.

    Parameters
    ----------
    trail : Trail
    sample : Sample
        Of the same image; class ids are those of the network.
    judged : Judged
        Of ``trail.detections``.
    rules : Rules
    config : Config
    class_names : tuple of str
    """
    scene = _Scene(trail, sample, judged, rules, config, class_names)
    return [scene.death(int(g)) for g in np.flatnonzero(judged.demanded & ~judged.found)]


class _Scene:
    """What the stages of one image have in common."""

    def __init__(
        self,
        trail: Trail,
        sample: Sample,
        judged: Judged,
        rules: Rules,
        config: Config,
        class_names: tuple[str, ...],
    ) -> None:
        self.trail, self.sample, self.judged, self.rules = trail, sample, judged, rules
        self.config, self.class_names = config, class_names
        self.classes = trail.probabilities.shape[1]
        self.gt = trail.molding.mold_boxes(sample.gt_boxes.astype(np.float64))
        self.single = np.flatnonzero(~sample.gt_crowd)  # objects a box may belong to

    def death(self, g: int) -> Miss:
        """Say where object ``g`` was lost: from the last stage back to the first."""
        for stage in (self._mask, self._second_stage, self._score, self._first_stage, self._anchors):
            found = stage(g)
            if found is not None:
                name, numbers, text = found
                box = [round(float(v), 2) for v in self.sample.gt_boxes[g]]
                return Miss(self.sample.image_id, g + 1, int(self.sample.gt_class_ids[g]), box, name, numbers, text)
        raise AssertionError("the last stage names every object")

    # --- second stage, from its end ---------------------------------------------------------------------------------

    def _mask(self, g: int) -> Any:
        """Look for a detection of the class with a good box: the mask is bad, or it counts for another object."""
        judged, detections = self.judged, self.trail.detections
        of_class = detections.class_ids == self.sample.gt_class_ids[g]
        good = np.flatnonzero(of_class & (judged.box_ious[:, g] >= self.rules.iou_threshold))
        mine = good[self._owned(g, judged.box_ious[good]) & (judged.outcome[good] != TRUE_POSITIVE)]
        if not len(mine) or self.rules.iou_type == "box":
            return None
        d = int(mine[judged.ious[mine, g].argmax()])
        numbers = {
            "detection": d + 1, "score": _round(detections.scores[d]), "box_iou": _round(judged.box_ious[d, g]),
            "mask_iou": _round(judged.ious[d, g]), "best_possible_mask_iou": _round(self._possible(g, d)),
        }  # fmt: skip
        if judged.ious[d, g] >= self.rules.iou_threshold:
            return SHARED, numbers, f"detection {d + 1} (IoU {numbers['mask_iou']}) fits another object better"
        side = 2 * self.config.mask_pool_size
        return MASK, numbers, (
            f"detection {d + 1} has score {numbers['score']} and box IoU {numbers['box_iou']}, but mask IoU "
            f"{numbers['mask_iou']}; a perfect {side} x {side} mask in this box has {numbers['best_possible_mask_iou']}"
        )  # fmt: skip

    def _possible(self, g: int, d: int) -> float:
        """Return the mask IoU of a perfect mask head in the box of detection d."""
        box = self.trail.detections.boxes[d : d + 1].astype(np.float64)
        if not has_sides(box)[0]:
            return 0.0
        best = encoded_masks(box, np.array([g]), self.sample, self.config, 2 * self.config.mask_pool_size)
        return float(mask_iou(best, in_runs(self.sample.gt_masks)[[g]])[0, 0])

    def _second_stage(self, g: int) -> Any:
        """Look for boxes of the class above the threshold: cut off, suppressed, too small, or placed badly."""
        rows = np.arange(len(self.trail.proposals)) * self.classes + int(self.sample.gt_class_ids[g])
        fates = self.trail.second
        rows = rows[fates.fate[rows] != SCORE]
        overlaps = self._overlaps(fates.boxes[rows], g)
        mine = self._owned(g, self._all_overlaps(fates.boxes[rows]))
        good = mine & (overlaps >= self.rules.iou_threshold)
        for fate, describe in ((LIMIT, self._cut), (NMS, self._suppressed), (SIZE, self._box_size)):
            which = rows[good & (fates.fate[rows] == fate)]
            if len(which):
                return describe(g, int(which[fates.scores[which].argmax()]))
        shared = self._shared(g)
        if shared is not None:
            return shared
        near = rows[mine & self._fits(rows // self.classes, g)]
        return self._placed(g, near) if len(near) else None

    def _cut(self, g: int, row: int) -> Any:
        fates, limit = self.trail.second, self.config.detections_per_image
        numbers = self._entry(g, row) | {"limit": limit, "last_score": _round(fates.scores[fates.kept[-1]])}
        return CUT, numbers, (
            f"a box with score {numbers['score']} and IoU {numbers['iou']} came after the {limit} that are kept, the "
            f"last of which has {numbers['last_score']}"
        )  # fmt: skip

    def _suppressed(self, g: int, row: int) -> Any:
        fates = self.trail.second
        by = int(fates.by[row])
        numbers = self._entry(g, row) | {
            "by_box": self._shown(fates.boxes[by]), "by_score": _round(fates.scores[by]),
            "by_iou": _round(iou(fates.boxes[[row]], fates.boxes[[by]])[0, 0]),
            "by_detection": None, "by_object": None,
        }  # fmt: skip
        whose = "which was itself cut off"
        kept = np.flatnonzero(fates.kept == by)
        if len(kept):
            d = int(kept[0])
            owner = int(self.judged.matched[d])
            numbers |= {"by_detection": d + 1, "by_object": owner + 1 if owner >= 0 else None}
            whose = self._whose(g, d)
        return SUPPRESSED, numbers, (
            f"a box with score {numbers['score']} and IoU {numbers['iou']} overlaps a better one (score "
            f"{numbers['by_score']}) by {numbers['by_iou']}, above detection_nms_iou "
            f"{self.config.detection_nms_iou:g}: {whose}"
        )  # fmt: skip

    def _whose(self, g: int, d: int) -> str:
        """Say what a suppressing detection is."""
        matched = int(self.judged.matched[d])
        if matched >= 0 and matched != g:
            return f"detection {d + 1}, of object {matched + 1}"
        return f"detection {d + 1}, itself a false one (IoU {_round(self.judged.ious[d, g])} with this object)"

    def _box_size(self, g: int, row: int) -> Any:
        numbers = self._entry(g, row) | {"sides": self._sides(self.trail.second.boxes[row])}
        return BOX_SIZE, numbers, (
            f"a box with score {numbers['score']} has sides {numbers['sides']} in molded pixels, below "
            f"detection_min_size {self.config.detection_min_size:g}"
        )  # fmt: skip

    def _shared(self, g: int) -> Any:
        """Look for a detection of the class that fits the object, but counts for another one."""
        judged = self.judged
        good = (self.trail.detections.class_ids == self.sample.gt_class_ids[g]) & (
            judged.ious[:, g] >= self.rules.iou_threshold
        )
        rows = np.flatnonzero(good)
        if not len(rows):
            return None
        d = int(rows[judged.ious[rows, g].argmax()])
        owner = int(judged.matched[d])
        numbers = {"detection": d + 1, "iou": _round(judged.ious[d, g]), "by_object": owner + 1 if owner >= 0 else None}
        whom = f"counts for object {owner + 1}" if owner >= 0 else "fits another object better"
        return SHARED, numbers, f"detection {d + 1} has IoU {numbers['iou']} with it, but {whom}"

    def _placed(self, g: int, rows: np.ndarray) -> Any:
        fates = self.trail.second
        row = int(rows[self._overlaps(fates.boxes[rows], g).argmax()])
        numbers = self._entry(g, row)
        return BOX, numbers, (
            f"the proposal fits by {numbers['proposal_iou']} and the class has {numbers['score']}, but the final box "
            f"fits by {numbers['iou']}, below {self.rules.iou_threshold:g}"
        )  # fmt: skip

    def _score(self, g: int) -> Any:
        """Look for proposals that fit the object, and say what the class head made of them."""
        class_id, proposals = int(self.sample.gt_class_ids[g]), np.arange(len(self.trail.proposals))
        rows = proposals * self.classes + class_id
        good = self._overlaps(self.trail.second.boxes[rows], g) >= self.rules.iou_threshold
        near = self._fits(proposals, g) | good
        failed = proposals[near & (self.trail.second.fate[rows] == SCORE)]
        if not len(failed):  # all were recognised, and their boxes went to another object of the class
            return self._placed(g, rows[near]) if near.any() else None
        p = int(failed[self.trail.probabilities[failed, class_id].argmax()])
        winner = int(self.trail.probabilities[p].argmax())
        threshold = self.config.detection_score_threshold
        numbers = self._entry(g, int(rows[p])) | {
            "threshold": threshold, "winner": self._name(winner),
            "winner_score": _round(self.trail.probabilities[p, winner]), "proposals": len(failed),
        }  # fmt: skip
        above = self.trail.probabilities[p, class_id] > threshold
        why = "and only the best class counts" if above else f"below {threshold:g}"
        return CLASS, numbers, (
            f"of {len(failed)} proposals that fit it the best has {self._name(class_id)} {numbers['score']}, {why}; "
            f"{numbers['winner']} won with {numbers['winner_score']}"
        )  # fmt: skip

    # --- first stage, from its end ----------------------------------------------------------------------------------

    def _first_stage(self, g: int) -> Any:
        """Say whether an anchor was moved onto the object, and what took it."""
        fates = self.trail.first
        overlaps = self._overlaps(fates.boxes, g)
        good = overlaps >= self.config.roi_positive_iou
        stages = ((LIMIT, self._rpn_limit), (NMS, self._rpn_nms), (SIZE, self._rpn_size), (TOP_K, self._ranked))
        for fate, describe in stages:
            which = np.flatnonzero(good & (fates.fate == fate))
            if len(which):
                a = int(which[fates.scores[which].argmax()])
                return describe(a, self._anchor(a) | {"iou": _round(overlaps[a]), "anchors": len(which)})
        return None

    def _rpn_limit(self, a: int, numbers: dict[str, Any]) -> Any:
        numbers |= {"limit": self.config.proposals_post_nms_test}
        return RPN_LIMIT, numbers, (
            f"a proposal fits by {numbers['iou']}, but came after the {numbers['limit']} that are kept "
            "(proposals_post_nms_test)"
        )  # fmt: skip

    def _rpn_nms(self, a: int, numbers: dict[str, Any]) -> Any:
        fates = self.trail.first
        by = int(fates.by[a])
        overlaps = self._all_overlaps(fates.boxes[[by]])[0]
        nearest = int(overlaps.argmax()) + 1 if overlaps.max(initial=0.0) > 0 else None
        numbers |= {
            "by_box": self._shown(fates.boxes[by]), "by_score": _round(fates.scores[by]), "by_object": nearest,
            "by_iou": _round(iou(fates.boxes[[a]], fates.boxes[[by]])[0, 0]),
        }  # fmt: skip
        whose = "on no object" if nearest is None else f"nearest to object {nearest}"
        return RPN_NMS, numbers, (
            f"a proposal fits by {numbers['iou']}, but overlaps a better one, {whose}, by {numbers['by_iou']}, above "
            f"proposals_nms_iou {self.config.proposals_nms_iou:g}"
        )  # fmt: skip

    def _rpn_size(self, a: int, numbers: dict[str, Any]) -> Any:
        numbers |= {"sides": self._sides(self.trail.first.boxes[a])}
        return RPN_SIZE, numbers, (
            f"a proposal has sides {numbers['sides']} in molded pixels, below proposals_min_size "
            f"{self.config.proposals_min_size:g}"
        )  # fmt: skip

    def _ranked(self, a: int, numbers: dict[str, Any]) -> Any:
        where = f"of {self._map(numbers['level'])}" if self.config.proposals_per_level else "of all levels"
        return RANKED, numbers, (
            f"of {numbers['anchors']} anchors that were moved onto it the best is number {numbers['place']} {where}; "
            f"the first {self.config.proposals_pre_nms_test} go on (proposals_pre_nms_test)"
        )  # fmt: skip

    def _anchors(self, g: int) -> Any:
        """Say whether there is an anchor near the object, as nothing was moved onto it."""
        overlaps, moved = self._overlaps(self.trail.anchors, g), self._overlaps(self.trail.first.boxes, g)
        a = int(overlaps.argmax())
        numbers = self._anchor(a) | {
            "anchor_iou": _round(overlaps[a]), "best_moved_iou": _round(moved.max()),
            "sides": self._sides(self.gt[g]), "anchor_sides": self._sides(self.trail.anchors[a]),
        }  # fmt: skip
        near = overlaps[a] >= self.config.rpn_negative_iou
        text = (
            f"{numbers['sides']} molded pixels; the best anchor ({self._map(numbers['level'])}, "
            f"{numbers['anchor_sides']}) "
            f"overlaps it by {numbers['anchor_iou']}, "
        )
        if near:
            needed, closest = self.config.roi_positive_iou, numbers["best_moved_iou"]
            fits = numbers["anchor_iou"] >= needed
            how = "but was moved away, and none ended" if fits else "and no anchor was moved"
            return RPN_BOX, numbers, text + f"{how} closer than {closest}; {needed:g} is needed"
        return ANCHOR, numbers, text + f"below rpn_negative_iou {self.config.rpn_negative_iou:g}"

    # --- small things -----------------------------------------------------------------------------------------------

    def _overlaps(self, boxes: np.ndarray, g: int) -> np.ndarray:
        return box_iou(boxes, self.gt[[g]])[:, 0]

    def _all_overlaps(self, boxes: np.ndarray) -> np.ndarray:
        """Return the overlaps with all objects, (N, G), 0 for crowds."""
        return box_iou(boxes, self.gt) * ~self.sample.gt_crowd

    def _owned(self, g: int, overlaps: np.ndarray) -> np.ndarray:
        """Say of boxes with these overlaps (N, G) which overlap no object of the class more than this one."""
        rivals = self.single[self.sample.gt_class_ids[self.single] == self.sample.gt_class_ids[g]]
        return overlaps[:, g] >= overlaps[:, rivals].max(axis=1, initial=0.0) - _TIE

    def _fits(self, proposals: np.ndarray, g: int) -> np.ndarray:
        return self._overlaps(self.trail.proposals[proposals], g) >= self.config.roi_positive_iou

    def _entry(self, g: int, row: int) -> dict[str, Any]:
        """Return the numbers of one class of one proposal."""
        fates, p = self.trail.second, row // self.classes
        return {
            "score": _round(fates.scores[row]),
            "iou": _round(self._overlaps(fates.boxes[[row]], g)[0]),
            "proposal_iou": _round(self._overlaps(self.trail.proposals[[p]], g)[0]),
            "box": self._shown(fates.boxes[row]),
        }

    def _anchor(self, a: int) -> dict[str, Any]:
        return {
            "level": int(self.trail.level[a]),
            "logit": _round(self.trail.first.scores[a]),
            "place": int(self.trail.place[a]) + 1,
            "box": self._shown(self.trail.first.boxes[a]),
        }

    def _shown(self, box: np.ndarray) -> list[float]:
        """Return a molded box in pixels of the original image."""
        return [round(float(v), 2) for v in self.trail.molding.unmold_boxes(box[None], self.config.box_frame)[0]]

    def _map(self, level: int) -> str:
        """Return the name of a level: P3; C4 or conv5_3 without a pyramid."""
        return f"P{level}" if self.config.neck == "fpn" else self.config.levels[0].replace("c4", "C4")

    def _sides(self, box: np.ndarray) -> str:
        return f"{box[2] - box[0]:.1f} x {box[3] - box[1]:.1f}"

    def _name(self, class_id: int) -> str:
        return self.class_names[class_id] if class_id < len(self.class_names) else f"class {class_id}"


def _round(value: float) -> float:
    return round(float(value), 4)
