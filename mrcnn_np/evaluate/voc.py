"""Average precision of every class, by the rules of Pascal VOC (or COCO's at one IoU threshold)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.sample import Sample
from ..detections import Detections
from ..tables import text_table
from .coco import CocoEvaluation
from .counting import Matches
from .matching import FALSE_POSITIVE, TRUE_POSITIVE, check_options, class_overlaps, match_detections, pairs
from .ranking import METHODS, average_precision, precision_recall


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found. Arrays have one entry per class id; entry 0, background, is empty.

    Attributes
    ----------
    method : {"voc07", "voc10", "coco"}
    iou_type : {"mask", "box"}
    iou_threshold : float
    class_names : tuple of str
    ap : ndarray of shape (K,)
        Average precision; NaN for a class without objects.
    mean_ap : float
        Mean over the classes with objects; NaN if there are none.
    recall, precision : tuple of K arrays
        Along the ranking of the class, best score first, ignored detections left out.
    gt, tp, fp : ndarray of shape (K,), int64
        Objects (without the ignored ones), right and wrong detections.
    max_recall : ndarray of shape (K,)
        ``tp / gt``; NaN for a class without objects.
    images : int
    """

    method: str
    iou_type: str
    iou_threshold: float
    class_names: tuple[str, ...]
    ap: np.ndarray
    mean_ap: float
    recall: tuple[np.ndarray, ...]
    precision: tuple[np.ndarray, ...]
    gt: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    max_recall: np.ndarray
    images: int

    def as_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """Return plain numbers for JSON, NaN as None; with ``curves`` also recall and precision of each class."""
        classes: dict[str, dict[str, Any]] = {}
        for k, name in list(enumerate(self.class_names))[1:]:
            classes[name] = {
                "ap": _plain(self.ap[k]),
                "gt": int(self.gt[k]),
                "tp": int(self.tp[k]),
                "fp": int(self.fp[k]),
                "max_recall": _plain(self.max_recall[k]),
            }
            if curves:
                classes[name]["recall"] = [_plain(r) for r in self.recall[k]]
                classes[name]["precision"] = self.precision[k].tolist()
        return {
            "method": self.method,
            "iou_type": self.iou_type,
            "iou_threshold": self.iou_threshold,
            "images": self.images,
            "mean_ap": _plain(self.mean_ap),
            "classes": classes,
        }

    def table(self, coco: CocoEvaluation | None = None) -> str:
        """Return one line of text per class and one for the mean; classes without objects show a dash.

        COCO's AP of the same detections, if it is given, has a column of its own.
        """
        counts, aps = (self.gt, self.tp, self.fp), [self.ap, *([] if coco is None else [coco.ap])]
        rows = [
            (name, *(_cell(ap[k]) for ap in aps), *(str(count[k]) for count in counts), _cell(self.max_recall[k]))
            for k, name in list(enumerate(self.class_names))[1:]
        ]
        totals = (str(count.sum()) for count in counts)
        rows.append(("mean", *(_cell(_mean(ap)) for ap in aps), *totals, _cell(_mean(self.max_recall))))
        head = ("class", *("AP", "COCO AP")[: len(aps)], "objects", "right", "wrong", "recall")
        lines = [text_table(head, rows, align="<>", least=(0, *[6] * len(aps), 7, 6, 6, 6))]
        if np.isnan(self.ap[1:]).any():
            lines.append("-: no objects of this class, hence no AP; the mean is over the others")
        also = "" if coco is None else "; COCO AP: mean over IoU 0.5 to 0.95"
        lines.append(f"({self.method}, {self.iou_type} IoU >= {self.iou_threshold:g}, {self.images} images{also})")
        return "\n".join(lines)


class Evaluator:
    """Collect images one at a time, so that their masks need not be in memory together.

    Parameters
    ----------
    class_names : sequence of str
        Entry 0 is background.
    method : {"voc07", "voc10", "coco"}
        Decides how detections are matched (``match_detections``) and how a ranking is summed up. ``"coco"`` here is
        COCO's rule at one IoU threshold with at most 100 detections per image and class; ``evaluate_coco`` has all.
    iou_type : {"mask", "box"}
    iou_threshold : float
        In (0, 1].
    ignore_void : bool
        Take unlabelled pixels out of detected and true masks. A detection that has no other pixels overlaps
        nothing and is wrong.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        method: str = "voc10",
        iou_type: str = "mask",
        iou_threshold: float = 0.5,
        ignore_void: bool = True,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
        check_options(class_names, iou_type)
        if not 0 < iou_threshold <= 1:
            raise ValueError(f"iou_threshold is {iou_threshold}; expected a number in (0, 1]")
        self.class_names = tuple(class_names)
        self.method, self.iou_type, self.iou_threshold = method, iou_type, float(iou_threshold)
        self.ignore_void, self.images = ignore_void, 0
        classes = len(self.class_names)
        self._scores: list[list[np.ndarray]] = [[] for _ in range(classes)]
        self._outcomes: list[list[np.ndarray]] = [[] for _ in range(classes)]
        self._gt = np.zeros(classes, np.int64)

    def add(self, detections: Detections, sample: Sample) -> None:
        """Match the detections of one image; a ``ValueError`` names the image if they do not fit it."""
        rule, limit = ("coco", 100) if self.method == "coco" else ("voc", None)
        for found in class_overlaps(
            detections,
            sample,
            len(self.class_names),
            iou_type=self.iou_type,
            ignore_void=self.ignore_void,
            limit=limit,
        ):
            outcome, _ = match_detections(
                found.ious, iou_threshold=self.iou_threshold, rule=rule, ignored=found.difficult, crowd=found.crowd
            )
            self._scores[found.class_id].append(found.scores)
            self._outcomes[found.class_id].append(outcome)
            self._gt[found.class_id] += (~(found.difficult | found.crowd)).sum()
        self.images += 1

    def matches(self) -> Matches:
        """Return what became of every detection so far, at ``iou_threshold``."""
        cut = self.method == "coco" and any(len(s) >= 100 for of_class in self._scores for s in of_class)
        return Matches(
            class_names=self.class_names,
            iou_type=self.iou_type,
            scores=tuple(np.concatenate([np.zeros(0), *parts]) for parts in self._scores),
            outcomes=tuple(np.concatenate([np.zeros(0, np.int8), *parts]) for parts in self._outcomes),
            gt=self._gt.copy(),
            images=self.images,
            limit=100 if cut else None,
        )

    def result(self) -> Evaluation:
        """Rank what was added so far; more images may follow."""
        matches = self.matches()
        scores, outcomes = matches.scores, matches.outcomes
        curves = [precision_recall(s, o, int(n)) for s, o, n in zip(scores, outcomes, self._gt)]
        ap = np.array(
            [average_precision(*c, method=self.method) if n else np.nan for c, n in zip(curves, self._gt)], np.float64
        )
        tp = np.array([(o == TRUE_POSITIVE).sum() for o in outcomes], np.int64)
        return Evaluation(
            method=self.method,
            iou_type=self.iou_type,
            iou_threshold=self.iou_threshold,
            class_names=self.class_names,
            ap=ap,
            mean_ap=_mean(ap),
            recall=tuple(recall for recall, _ in curves),
            precision=tuple(precision for _, precision in curves),
            gt=self._gt.copy(),
            tp=tp,
            fp=np.array([(o == FALSE_POSITIVE).sum() for o in outcomes], np.int64),
            max_recall=np.divide(tp, self._gt, out=np.full(len(tp), np.nan), where=self._gt > 0),
            images=self.images,
        )


def evaluate_detections(
    detections: Iterable[Detections],
    samples: Iterable[Sample],
    *,
    class_names: Sequence[str],
    method: str = "voc10",
    iou_type: str = "mask",
    iou_threshold: float = 0.5,
    ignore_void: bool = True,
) -> Evaluation:
    """Evaluate one ``Detections`` per ``Sample``; see ``Evaluator`` for the parameters.

    Both may be generators, of which one image at a time is held.

    Parameters
    ----------
    detections, samples : iterable of Detections, of Sample
    class_names, method, iou_type, iou_threshold, ignore_void
        As in ``Evaluator``.

    Raises
    ------
    ValueError
        One of the two ends before the other, or detections do not fit their image.
    """
    evaluator = Evaluator(
        class_names, method=method, iou_type=iou_type, iou_threshold=iou_threshold, ignore_void=ignore_void
    )
    for found, sample in pairs(detections, samples):
        evaluator.add(found, sample)
    return evaluator.result()


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
