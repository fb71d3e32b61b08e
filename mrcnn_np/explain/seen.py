"""Advice that the mistakes themselves decide: whether anchors fit, boxes fit, objects have two names, cells are few."""

from __future__ import annotations

from .deaths import MASK, RPN_BOX
from .judge import BADLY_PLACED, WRONG_CLASS
from .report import Explanation

#: a finer grid is worth a training if perfect masks through it have a mask AP that is higher by this
LEAST_GAIN = 0.005


def as_seen(kind: str, advice: str, report: Explanation) -> str:
    """Return the advice against a kind of mistake that fits those that were made; the general one if nothing is known.

    Parameters
    ----------
    kind : str
        Of ``STAGES`` or ``KINDS``.
    advice : str
        What is said of the kind in general.
    report : Explanation
    """
    if report.config is None:
        return advice
    if kind == WRONG_CLASS:
        return _one_name_each(report) + advice
    decide = {RPN_BOX: _anchors, MASK: _masks, BADLY_PLACED: _badly_placed}.get(kind)
    return advice if decide is None else decide(report) or advice


def _anchors(report: Explanation) -> str:
    """Say of objects onto which no anchor was moved whether anchors that lie closer would help."""
    assert report.config is not None
    needed = report.config.roi_positive_iou
    overlaps = [miss.numbers["anchor_iou"] for miss in report.misses if miss.stage == RPN_BOX]
    far = sum(overlap < needed for overlap in overlaps)
    if not overlaps:
        return ""
    if not far:
        return f"train longer; no other anchors: these fit (IoU {min(overlaps):.2f} or more) and are moved away"
    which = "" if far == len(overlaps) else f" for {far} of {len(overlaps)}, the others' fit and are moved away"
    return f"train longer; anchors that fit better (`mrcnn-np data anchors --run RUN` says which){which}"


def _masks(report: Explanation) -> str:
    """Say of bad masks in good boxes whether their grid is to blame."""
    possible = [miss.numbers["best_possible_mask_iou"] for miss in report.misses if miss.stage == MASK]
    coarse = sum(best < report.rules.iou_threshold for best in possible)
    if not possible:
        return ""
    if not coarse:
        return "train longer; look at how outlines were annotated; not more cells: a perfect mask of these would fit"
    which = f"{coarse} of {len(possible)}, which a perfect mask would not fit either"
    return f"train longer; for {which}: train again with {{more mask_pool_size}}"


def _badly_placed(report: Explanation) -> str:
    """Say of badly placed detections whether boxes or masks are the worse part, and whether more cells would help."""
    overlaps = [one.box_iou for one in report.mistakes if one.kind == BADLY_PLACED]
    if not overlaps:
        return ""
    fit = sum(overlap >= report.rules.iou_threshold for overlap in overlaps)
    if report.rules.iou_type == "box" or not fit:
        return "train longer; look at how boxes were annotated"
    if 2 * fit < len(overlaps):
        have = "has" if fit == 1 else "have"
        return (
            f"train longer; look at how boxes were annotated: of {len(overlaps)} badly placed detections only {fit} "
            f"{have} a box that fits its object (IoU >= {report.rules.iou_threshold:g})"
        )
    advice = f"train longer; look at how outlines were annotated: {fit} of {len(overlaps)} boxes fit, and no mask"
    about = {(one.image_id, one.object) for one in report.mistakes if one.kind == BADLY_PLACED}
    possible = [
        miss.numbers["best_possible_mask_iou"]
        for miss in report.misses
        if miss.stage == MASK and (miss.image_id, miss.number) in about
    ]
    if possible and min(possible) >= report.rules.iou_threshold:  # what is said of the same masks under MASK
        return f"{advice}; not more cells: a perfect mask of these would fit"
    more = bool(possible) or _finer(report)
    return advice + ("; masks of more cells, trained again with {more mask_pool_size}" if more else "")


def _one_name_each(report: Explanation) -> str:
    """Say of wrong classes how many are second names of objects, which suppression across classes would take away."""
    config, overlaps = report.config, [one.name_iou for one in report.mistakes if one.kind == WRONG_CLASS]
    assert config is not None
    second = sum(overlap > config.detection_nms_iou for overlap in overlaps)
    if not second or not config.detection_nms_per_class:
        return ""
    which = f"{second} of {len(overlaps)}, second names of objects that are found rightly"
    return f"for {which}: --config detection_nms_per_class=false, by which the better name stays, right or wrong; "


def _finer(report: Explanation) -> bool:
    """Say whether masks of twice as many cells could help: yes, unless their oracle was asked and says no."""
    assert report.config is not None
    cells = 2 * report.config.mask_pool_size
    now, finer = (report.oracles.get(f"masks of {m} x {m}") for m in (cells, 2 * cells))
    return now is None or finer is None or any(finer[k] - now[k] >= LEAST_GAIN for k in ("mask", "coco_mask"))
