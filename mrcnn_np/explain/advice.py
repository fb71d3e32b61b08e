"""What to try against each kind of mistake, and what makes all other advice idle: a network that is hardly trained."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np

from ..data.few import Few
from ..tables import text_table
from .deaths import (
    ANCHOR,
    BOX,
    BOX_SIZE,
    CLASS,
    CUT,
    MASK,
    RANKED,
    RPN_BOX,
    RPN_LIMIT,
    RPN_NMS,
    RPN_SIZE,
    SHARED,
    SUPPRESSED,
)
from .judge import BACKGROUND, BADLY_PLACED, BOTH, DUPLICATE, WRONG_CLASS
from .outlines import drawn_otherwise
from .report import Explanation
from .seen import as_seen
from .values import fill_in

#: what to try against each way to miss an object; what stands in braces, ``values.fill_in`` replaces by numbers
AGAINST_MISSES = {
    ANCHOR: "{now anchor_sizes} and {now anchor_ratios} that fit: `mrcnn-np data anchors --run RUN` says which; or "
    "larger images: {more size}; train again",
    RPN_BOX: "train longer; anchors that fit better (`mrcnn-np data anchors --run RUN` says which)",
    RANKED: "{more proposals_pre_nms_test}",
    RPN_SIZE: "{less proposals_min_size}",
    RPN_NMS: "{more proposals_nms_iou}",
    RPN_LIMIT: "{more proposals_post_nms_test}",
    CLASS: "more images with such objects; look for wrong annotations; a lower score: {less score}",
    BOX: "train longer; look at how its boxes were annotated",
    BOX_SIZE: "{less detection_min_size}",
    SUPPRESSED: "{more detection_nms_iou}, for objects that lie close together",
    CUT: "{more detections_per_image}",
    MASK: "if a perfect mask would not fit either, train again with {more mask_pool_size}; else train longer",
    SHARED: "look whether two objects are annotated where there is one",
}
#: what to try against each kind of false detection
AGAINST_FALSE = {
    DUPLICATE: "{less detection_nms_iou}, so that a second box on an object is suppressed",
    WRONG_CLASS: "more images of the classes that are mistaken for each other; look for wrong annotations; with one "
    "class for both nothing can be mistaken",
    BADLY_PLACED: "train longer; look at how boxes and outlines were annotated",
    BOTH: "train longer; a higher score leaves most of them out: {more score}",
    BACKGROUND: "look whether objects there were left out of the annotation; images without objects to train on; "
    "train longer; a higher score leaves out the low ones: {more score}",
}
#: a network of fewer steps that does not reach this AP is hardly trained
FEW_STEPS, LOW_AP = 500, 0.5
_LONGER = re.compile(r"train longer; |; (else )?train longer$")
#: advice that changes nothing but which of the network's boxes are kept
_SETTING = re.compile(r"\{(?:more|less) (?!size|mask_pool_size)(\w+)\}")
#: if no larger share of the objects is found, of so many or without any detection, nothing may have been learned yet
NEARLY_NOTHING, _ENOUGH_OBJECTS = 0.05, 10
#: a network that finds nothing from a higher score on may know a lot
_LOW_SCORE = 0.05
#: the score from which pictures show a detection
SHOWN = 0.5
#: so many scores that lie so close together, none of them high, do not rank anything
_LEAST_SCORES, _SPREAD, _HIGH = 5, 0.1, 0.9


def in_full(report: Explanation, *, steps: int | None = None, few: Few | None = None) -> str:
    """Return the tables with all that is to be said of them: first if the network is hardly trained, last what to try.

    Parameters
    ----------
    report : Explanation
    steps : int, optional
        For how long the network was trained; None if nobody knows.
    few : Few, optional
        Its pictures were too few for what it began with.
    """
    early = hardly_trained(report, steps, few)
    parts = [*early, *never_taught(report), report.table(), *notes_on_costs(report)]
    settings = not _knows_nothing(report, bool(early))
    parts.append(what_to_try(report, longer=not _in_vain(report, few), settings=settings))
    return "\n\n".join(part for part in parts if part)


def hardly_trained(report: Explanation, steps: int | None, few: Few | None = None) -> list[str]:
    """Return why it is too early for any other advice, as sentences; empty for a network that is trained.

    Parameters
    ----------
    report : Explanation
    steps : int or None
        For how long the network was trained; None if nobody knows.
    few : Few, optional
        Its pictures were too few for what it began with.
    """
    said, scores = [], np.array(report.scores)
    if few is not None and _in_vain(report, few):
        said.append(
            f"the network began with {few.start}, and {few} that it learned from: too few for that, however long it "
            "trains; begin with trained weights (train --weights) or add pictures"
        )
        return said  # whatever else is seen, longer training does not mend it
    if steps is not None and steps < FEW_STEPS and report.mean_ap < LOW_AP:
        said.append(f"the network was trained for {steps} steps only: train longer before anything else")
    which = f"all {len(scores)} detections"
    if (scores < SHOWN).any() and (scores >= SHOWN).sum() >= _LEAST_SCORES:
        scores = scores[scores >= SHOWN]
        which = f"the {len(scores)} detections from {SHOWN:g} on, which pictures show,"
    if len(scores) >= _LEAST_SCORES:
        low, high = float(scores.min()), float(scores.max())
        close = np.percentile(scores, 95) - np.percentile(scores, 5) < _SPREAD
        if close and high < _HIGH:
            said.append(
                f"the scores of {which} lie between {low:.3f} and {high:.3f}: the class head "
                "cannot tell them apart yet; train longer before anything else"
            )
    return said


def never_taught(report: Explanation) -> list[str]:
    """Return, as a sentence or none, which objects are missed because nothing taught their class.

    Parameters
    ----------
    report : Explanation
    """
    missed = Counter(report.class_names[miss.class_id] for miss in report.misses)
    lost = [f"{name} ({missed[name]} missed)" for name in report.untaught if missed[name]]
    if not lost:
        return []
    return [
        f"never taught: {', '.join(lost)}. No picture that the network was trained on shows this, so that no advice "
        "helps but to train on pictures that do; at which stage such an object is lost says nothing"
    ]


def _in_vain(report: Explanation, few: Few | None) -> bool:
    """Say whether longer training does not help: the pictures were too few, and it shows."""
    return few is not None and report.mean_ap < LOW_AP


def _knows_nothing(report: Explanation, early: bool) -> bool:
    """Say whether nearly nothing is found, and that is because nothing is learned: no setting can change it.

    Parameters
    ----------
    report : Explanation
    early : bool
        The network is known to be hardly trained. Else it shows if even perfect proposals do not help.
    """
    if not report.objects or report.objects - len(report.misses) > NEARLY_NOTHING * report.objects:
        return False
    if report.objects < _ENOUGH_OBJECTS and report.scores:
        return False
    given = report.oracles.get("perfect proposals")
    return early or (given is not None and given["box"] < NEARLY_NOTHING and report.score_threshold <= _LOW_SCORE)


def what_to_try(report: Explanation, *, longer: bool = True, settings: bool = True) -> str:
    """Return what to try against the mistakes that there are, the dearest kind first; empty without mistakes.

    Parameters
    ----------
    report : Explanation
    longer : bool
        Training longer may help; where it cannot, it is left out.
    settings : bool
        Settings of detection may help; where they cannot, they are left out, and a sentence says so.
    """
    stages: dict[bool, set[str]] = {True: set(), False: set()}
    for miss in report.misses:
        stages[report.class_names[miss.class_id] in report.untaught].add(miss.stage)
    in_vain = stages[True] - stages[False]  # nothing helps against these but pictures of the class
    rows, left_out = [], []
    for counts, advice in ((report.stages, AGAINST_MISSES), (report.kinds, AGAINST_FALSE)):
        for kind, (count, cost) in counts.items():
            if not count or (counts is report.stages and kind in in_vain):
                continue
            text = as_seen(kind, advice[kind], report)
            text = text if longer else _LONGER.sub("", text)
            if not settings:
                left_out += _SETTING.findall(text)
                text = "; ".join(piece for piece in text.split("; ") if not _SETTING.search(piece))
            if text:
                rows.append((kind, cost, fill_in(text, report)))
    rows.sort(key=lambda row: 0.0 if math.isnan(row[1]) else -row[1])
    said = []
    if rows:
        said.append(text_table(("against", "what to try"), [(kind, text) for kind, _, text in rows]))
    if left_out:
        names = ", ".join("--score" if name == "score" else name for name in dict.fromkeys(left_out))
        said.append(
            f"(no setting is proposed, such as {names}: with {len(report.misses)} of {report.objects} objects missed "
            "there is nothing yet that another setting would choose)"
        )
    elif rows:
        said.append("(one at a time: an object that is saved from one of these may be lost to the next)")
    return "\n".join(said)


def notes_on_costs(report: Explanation) -> list[str]:
    """Return what of the tables would surprise: classes without a right detection, oracles that lower AP.

    Parameters
    ----------
    report : Explanation
    """
    said = []
    if report.lost_classes:
        lost = ", ".join(f"{name} ({count})" for name, count in report.lost_classes.items())
        said.append(
            f"no object is found of: {lost}. Such a class has AP 0, and counts as perfect once none of its objects is "
            "asked for; so all of them together cost much, and one of several alone nothing"
        )
    before = report.oracles.get("as it is")
    lower = [name for name, row in report.oracles.items() if before and _is_lower(row, before)]
    if lower:
        said.append(
            f"lower than as it is: {', '.join(lower)}. An oracle replaces one part and leaves the others: with perfect "
            "proposals each object has one proposal, not many, and is lost if the class head calls that one background "
            "or the box head moves it away; boxes that are moved together suppress each other"
        )
    if report.config is not None and report.config.mask_branch:
        names = {name: report.named(name) for name in report.areas}
        said += drawn_otherwise(report.areas, names, report.config.mask_threshold)
    return said


def _is_lower(row: dict[str, float], before: dict[str, float]) -> bool:
    return any(row[kind] < before[kind] - 0.0005 for kind in ("box", "mask"))
