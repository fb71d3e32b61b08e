"""False detections as sentences: of what kind each is, and what object it is about."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..boxes import iou
from ..data.sample import Sample
from ..detections import Detections
from ..evaluate.matching import FALSE_POSITIVE, TRUE_POSITIVE
from ..tables import one_of
from .judge import BACKGROUND, BADLY_PLACED, KINDS, WRONG_CLASS, Judged, Rules


@dataclass
class Mistake:
    """One false detection.

    Attributes
    ----------
    image_id : str
    number : int
        Of the detection in its image, from 1, best score first, as ``detect`` numbers it; its row is one less.
    class_id : int
    box : list of 4 floats
        ``(y1, x1, y2, x2)`` in pixels of the original image.
    score : float
    kind : str
        Of ``KINDS``.
    object : int or None
        The number of the object it is about, from 1, in the order of the annotation.
    iou, box_iou : float
        Overlap with that object, of what is compared and of the boxes.
    second_name_of : int or None
        Of a wrong class: the number (from 1) of the better detection that has found the object rightly, if there is
        one.
    name_iou : float
        Overlap of the two boxes; 0 if there is only one.
    text : str
        The same as a sentence.
    cost : float
        AP gained if this detection alone is set right.
    found_by : int or None
        The number (from 1) of the detection that has found the object rightly, if there is one.
    """

    image_id: str
    number: int
    class_id: int
    box: list[float]
    score: float
    kind: str
    object: int | None
    iou: float
    box_iou: float
    second_name_of: int | None
    name_iou: float
    text: str
    cost: float = field(default=0.0)
    found_by: int | None = field(default=None)


def find_mistakes(
    found: Detections, sample: Sample, judged: Judged, names: tuple[str, ...], rules: Rules
) -> list[Mistake]:
    """Describe the false detections of one image.

    Parameters
    ----------
    found : Detections
    sample : Sample
    judged : Judged
    names : tuple of str
        Of the classes, the background first.
    rules : Rules
    """
    return [
        _mistake(int(d), found, sample, judged, names, rules) for d in np.flatnonzero(judged.outcome == FALSE_POSITIVE)
    ]


def _mistake(
    d: int, found: Detections, sample: Sample, judged: Judged, names: tuple[str, ...], rules: Rules
) -> Mistake:
    """Describe one false detection."""
    kind, g = judged.kinds[d], int(judged.target[d])
    name, score = names[int(found.class_ids[d])], round(float(found.scores[d]), 4)
    overlap, box = (0.0, 0.0) if g < 0 else (float(judged.ious[d, g]), float(judged.box_ious[d, g]))
    text = f"{name} {score}: {kind}"
    if kind == BACKGROUND:
        text += f", {KINDS[kind]}"
    else:
        text += (
            f"; {rules.iou_type} IoU {overlap:.3f} with object {g + 1}, {one_of(names[int(sample.gt_class_ids[g])])}"
        )
        if rules.iou_type == "mask":
            text += f" (box IoU {box:.3f})"
    second, between = _second_name(d, g, found, judged) if kind == WRONG_CLASS else (None, 0.0)
    if second is not None:
        text += f", which detection {second} finds rightly: one object under two names (IoU of the boxes {between:.3f})"
    right = np.flatnonzero((judged.matched == g) & (judged.outcome == TRUE_POSITIVE))
    found_by = int(right[0]) + 1 if g >= 0 and len(right) else None
    if kind == BADLY_PLACED and found_by is not None:
        text += f", which detection {found_by} finds rightly"
    return Mistake(
        image_id=sample.image_id,
        number=d + 1,
        class_id=int(found.class_ids[d]),
        box=[round(float(v), 2) for v in found.boxes[d]],
        score=score,
        kind=kind,
        object=None if g < 0 else g + 1,
        iou=round(overlap, 4),
        box_iou=round(box, 4),
        second_name_of=second,
        name_iou=round(between, 4),
        text=text,
        found_by=found_by,
    )


def _second_name(d: int, g: int, found: Detections, judged: Judged) -> tuple[int | None, float]:
    """Return the number of the better detection that finds object ``g`` rightly, and how far its box overlaps."""
    right = np.flatnonzero((judged.matched == g) & (judged.outcome == TRUE_POSITIVE) & (found.scores > found.scores[d]))
    if not len(right):
        return None, 0.0
    return int(right[0]) + 1, float(iou(found.boxes[right[:1]], found.boxes[[d]])[0, 0])
