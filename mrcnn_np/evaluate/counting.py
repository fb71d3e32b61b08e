"""What is found from a score on, for whoever counts objects: right, missed, false; and which score does best.

Average precision judges the order of all detections. Whoever counts uses those from one score on, as ``detect`` does;
here they are counted from the matches that the average precision was made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..tables import text_table
from .matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE

#: what ``detect --score`` is by default
DEFAULT_SCORE = 0.5
#: on fewer objects no score is proposed
LEAST_OBJECTS = 20
#: of more classes with objects there is no row each
MOST_CLASSES = 8
#: scores are proposed in hundredths: those of one picture more or less would move the third digit
_STEPS = 100


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of every detection, by class; entry 0, background, is empty.

    Attributes
    ----------
    class_names : tuple of str
    iou_type : {"mask", "box"}
    scores : tuple of K arrays
        One of shape (D,) for each class id, of all images.
    outcomes : tuple of K arrays
        One of shape (D,) for each, from ``match_detections`` at an IoU of 0.5.
    gt : ndarray of shape (K,)
        Objects to be found: neither crowds nor difficult.
    images : int
    limit : int or None
        The rules look at so many detections of a class and image at most, and some image has as many.
    """

    class_names: tuple[str, ...]
    iou_type: str
    scores: tuple[np.ndarray, ...]
    outcomes: tuple[np.ndarray, ...]
    gt: np.ndarray
    images: int
    limit: int | None = None


@dataclass(frozen=True)
class Count:
    """What is found from a score on.

    Attributes
    ----------
    score : float
    objects : int
        To be found.
    right, false : int
        Detections.
    ignored : int
        Detections of crowds and difficult objects, which neither count as right nor as false.
    """

    score: float
    objects: int
    right: int
    false: int
    ignored: int

    @property
    def missed(self) -> int:
        """Objects that are not found."""
        return self.objects - self.right

    @property
    def counted(self) -> int:
        """Detections that stand for objects, right or not: what is held against the number of objects."""
        return self.right + self.false

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision: ``2 right / (objects + detections)``; 0 of nothing."""
        return 2 * self.right / max(self.objects + self.counted, 1)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; recall without objects and precision without detections are None."""
        return {
            "score": self.score, "objects": self.objects, "right": self.right, "missed": self.missed,
            "false": self.false, "ignored": self.ignored, "counted": self.counted,
            "recall": self.right / self.objects if self.objects else None,
            "precision": self.right / self.counted if self.counted else None, "f1": self.f1,
        }  # fmt: skip


@dataclass(frozen=True)
class Counts:
    """What ``detect`` finds with its default score, and with scores that suit these images better.

    Attributes
    ----------
    iou_type : {"mask", "box"}
    images : int
    default : Count
        From 0.5 on, or from the lowest score that was measured, if that is higher.
    classes : dict of str to Count
        The same for each class that has objects or detections.
    best : Count or None
        The largest F1; None if nothing is proposed.
    balanced : Count or None
        As many missed as false, so that the numbers agree; None if nothing is proposed, or no score comes that far.
    why_not : str
        Why nothing is proposed; empty if something is.
    limit : int or None
        Of ``Matches``.
    """

    iou_type: str
    images: int
    default: Count
    classes: dict[str, Count]
    best: Count | None = None
    balanced: Count | None = None
    why_not: str = ""
    limit: int | None = None

    def not_proposing(self, why: str) -> Counts:
        """Return it without any score but the default."""
        return replace(self, best=None, balanced=None, why_not=why)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        proposed = {"best_f1": self.best, "balanced": self.balanced}
        return {
            "iou_type": self.iou_type,
            "iou_threshold": 0.5,
            "images": self.images,
            "default": self.default.as_dict(),
            "classes": {name: count.as_dict() for name, count in self.classes.items()},
            **{name: None if count is None else count.as_dict() for name, count in proposed.items()},
            "no_proposal_because": self.why_not or None,
        }

    def table(self) -> str:
        """Return what ``detect`` would find, as a table with what there is to know of it below."""
        score = self.default.score
        rows = {score: "its default" if score == DEFAULT_SCORE else "the lowest that was measured"}
        counts = {score: self.default}
        for one, remark in (
            (self.best, "the largest F1, which weighs missed and false alike"),
            (self.balanced, "as many missed as false: counted comes closest to the objects"),
        ):
            if one is not None:
                counts[one.score] = one
                rows[one.score] = f"{rows[one.score]}; {remark}" if one.score in rows else remark
        cells = [(f"--score {s:g}", *_cells(counts[s]), remark) for s, remark in rows.items()]
        if 1 < len(self.classes) <= MOST_CLASSES:
            cells += [(f"  {name}", *_cells(one), f"from {score:g} on") for name, one in self.classes.items()]
        head = ("detect with", "objects", "found", "missed", "false", "counted", "F1", "")
        lines = [text_table(head, cells, align="<>>>>>><"), *self._remarks()]
        return "\n".join(lines)

    def _remarks(self) -> list[str]:
        lines = [
            f"({self.iou_type} IoU >= 0.5, {self.images} images; found: of the objects; false: of the detections, "
            "which are what is counted; F1: 1 if nothing is missed or false)"
        ]
        if any(one is not None and one.score != self.default.score for one in (self.best, self.balanced)):
            lines.append(
                "the scores other than the default were chosen on these very images, so their numbers flatter a "
                "little: check them on images that were not used for it"
            )
        if self.why_not:
            lines.append(f"no score is proposed: {self.why_not}")
        if self.default.ignored:
            lines.append(
                f"{self.default.ignored} more detections from {self.default.score:g} on lie on crowds or difficult "
                "objects, which are not among the objects either; detect shows them"
            )
        if self.limit is not None:
            lines.append(
                f"the rules look at the best {self.limit} detections of a class in an image; detect may show more"
            )
        return lines


def count_from_scores(matches: Matches, *, threshold: float = 0.0, inclusive: bool = False) -> Counts:
    """Count what is found from the default score on, and look for the scores that do best.

    Parameters
    ----------
    matches : Matches
    threshold : float
        The ``detection_score_threshold`` of the network: below it nothing was measured.
    inclusive : bool
        Whether a detection of just that score counts (``detection_score_inclusive``).

    Returns
    -------
    Counts

    Notes
    -----
    Greedy matching goes from the best score down, so what became of a detection does not depend on those below it: the
    outcomes from a score on are those of a matching of these detections alone. Scores are tried in hundredths. Of
    several that are equally good the default is taken, if it is one of them, else the one in the middle.
    """
    whole = _of_classes(matches, range(len(matches.gt)))
    default = max(DEFAULT_SCORE, threshold)
    each = {
        name: _count(_of_classes(matches, [k]), default, inclusive)
        for k, name in enumerate(matches.class_names)
        if matches.gt[k] or len(matches.scores[k])
    }
    counts = Counts(matches.iou_type, matches.images, _count(whole, default, inclusive), each, limit=matches.limit)
    objects = counts.default.objects
    if objects < LEAST_OBJECTS:
        there = "1 object is" if objects == 1 else f"{objects} objects are"
        return counts.not_proposing(f"{there} too few for that (at least {LEAST_OBJECTS})")
    first = int(np.ceil(threshold * _STEPS - 1e-9))
    tried = [_count(whole, s / _STEPS, inclusive) for s in range(first, _STEPS)]
    if not any(count.right for count in tried):
        return counts.not_proposing("no object is found with any")
    f1 = np.array([count.f1 for count in tried])
    off = np.array([abs(count.missed - count.false) for count in tried])
    best, balanced = (_middle(tried, equal) for equal in (f1 == f1.max(), off == off.min()))
    return replace(counts, best=best, balanced=balanced if tried[0].counted >= objects else None)


def _of_classes(matches: Matches, which: Sequence[int]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return scores, outcomes and the number of objects of some classes together."""
    # float32, as the network compares them: 0.56 as a float32 is above 0.56 as a double
    scores = np.concatenate([matches.scores[k] for k in which]).astype(np.float32)
    return scores, np.concatenate([matches.outcomes[k] for k in which]), int(matches.gt[list(which)].sum())


def _count(of: tuple[np.ndarray, np.ndarray, int], score: float, inclusive: bool) -> Count:
    scores, outcomes, objects = of
    kept = outcomes[scores >= np.float32(score) if inclusive else scores > np.float32(score)]
    right, false, ignored = (int((kept == what).sum()) for what in (TRUE_POSITIVE, FALSE_POSITIVE, IGNORED))
    return Count(score, objects, right, false, ignored)


def _middle(tried: list[Count], equal: np.ndarray) -> Count:
    """Return the default score's count if it is among the equally good ones, else the middle one."""
    good = [count for count, one in zip(tried, equal) if one]
    return next((count for count in good if count.score == DEFAULT_SCORE), good[len(good) // 2])


def _cells(count: Count) -> tuple[str, ...]:
    found, false = _share(count.right, count.objects), _share(count.false, count.counted)
    return str(count.objects), found, str(count.missed), false, str(count.counted), f"{count.f1:.3f}"


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else f"{part}"
