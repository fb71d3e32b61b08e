"""COCO's twelve numbers: ten IoU thresholds, three sizes of object, three limits on the number of detections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..data.sample import Sample
from ..detections import Detections
from ..errors import some_of
from ..tables import text_table
from .counting import Matches
from .matching import FALSE_POSITIVE, IGNORED, ClassOverlaps, check_options, class_overlaps, match_detections, pairs
from .ranking import average_precision, precision_recall

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: pixels, both ends included: an object of exactly 32 x 32 pixels is both small and medium
AREA_RANGES = {
    "all": (0.0, 1e5**2),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}
DETECTION_LIMITS = (1, 10, 100)
#: the last letter of the numbers that are about objects of one size
SIZES = {"s": "small ", "m": "medium ", "l": "large "}


@dataclass(frozen=True, eq=False)
class CocoEvaluation:
    """COCO's numbers.

    Attributes
    ----------
    iou_type : {"mask", "box"}
    class_names : tuple of str
    numbers : dict of str to float
        ``AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl`` in COCO's order; -1 where no object exists to be found.
    ap : ndarray of shape (K,)
        AP of each class id, mean over the ten IoU thresholds; NaN for a class without objects.
    images : int
    """

    iou_type: str
    class_names: tuple[str, ...]
    numbers: dict[str, float]
    ap: np.ndarray
    images: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON: the twelve, and the AP of each class with None where it has no objects."""
        classes = {n: None if np.isnan(v) else float(v) for n, v in zip(self.class_names[1:], self.ap[1:])}
        return {"method": "coco", "iou_type": self.iou_type, "images": self.images, **self.numbers, "classes": classes}

    def table(self) -> str:
        """Return the twelve numbers as text, one per line."""
        rows = [
            (name, f"{value:.4f}", f" no {SIZES.get(name[-1], '')}objects" if value == -1 else "")
            for name, value in self.numbers.items()
        ]
        lines = [line.rstrip() for line in text_table((), rows, align="<><", least=(6, 7), gap=" ").splitlines()]
        missing = [name for name, ap in zip(self.class_names[1:], self.ap[1:]) if np.isnan(ap)]
        if missing and len(missing) < len(self.class_names) - 1:
            lines.append(f"no objects of {some_of(missing)}: the means are over the other classes")
        return "\n".join([*lines, f"(COCO, {self.iou_type}, {self.images} images)"])


class CocoEvaluator:
    """Collect images one at a time; ``result`` gives COCO's numbers.

    Parameters
    ----------
    class_names : sequence of str
        Entry 0 is background.
    iou_type : {"mask", "box"}
    ignore_void : bool
        Take unlabelled pixels out of all masks. COCO's own data has none.

    Notes
    -----
    Per class and size range, objects out of the range, crowds and difficult objects are ignored; so is an unmatched
    detection whose own area is out of the range. See ``match_detections`` for the matching.
    """

    areas: ClassVar[Mapping[str, tuple[float, float]]] = AREA_RANGES
    limits: ClassVar[tuple[int, ...]] = DETECTION_LIMITS

    def __init__(self, class_names: Sequence[str], *, iou_type: str = "mask", ignore_void: bool = True) -> None:
        check_options(class_names, iou_type)
        self.class_names, self.iou_type, self.ignore_void = tuple(class_names), iou_type, ignore_void
        self.images = 0
        classes = len(self.class_names)
        self._scores: list[list[np.ndarray]] = [[] for _ in range(classes)]  # (D,) of each image
        self._ranks: list[list[np.ndarray]] = [[] for _ in range(classes)]  # (D,) place within the image, from 0
        self._outcomes: list[list[np.ndarray]] = [[] for _ in range(classes)]  # (areas, thresholds, D)
        self._gt = np.zeros((classes, len(self.areas)), np.int64)

    def add(self, detections: Detections, sample: Sample, *, gt_areas: np.ndarray | None = None) -> None:
        """Match the detections of one image; ``gt_areas`` (G,) default to those of the sample, else to pixels.

        Parameters
        ----------
        detections : Detections
        sample : Sample
        gt_areas : ndarray of shape (G,), optional
            Areas in pixels as annotated.
        """
        self.add_overlaps(
            class_overlaps(
                detections,
                sample,
                len(self.class_names),
                iou_type=self.iou_type,
                ignore_void=self.ignore_void,
                gt_areas=sample.gt_areas if gt_areas is None else gt_areas,
                limit=self.limits[-1],
            )
        )

    def add_overlaps(self, image: Iterable[ClassOverlaps]) -> None:
        """Match the detections of one image, given class by class, at most 100 (the last limit) of each."""
        for found in image:
            k, count = found.class_id, len(found.scores)
            outcomes = np.empty((len(self.areas), len(IOU_THRESHOLDS), count), np.int8)
            for a, (low, high) in enumerate(self.areas.values()):
                ignored = found.difficult | found.crowd | (found.gt_areas < low) | (found.gt_areas > high)
                outside = (found.areas < low) | (found.areas > high)
                self._gt[k, a] += (~ignored).sum()
                if not found.ious.size:  # most classes of most images
                    outcomes[a] = np.where(outside, IGNORED, FALSE_POSITIVE)
                    continue
                for t, threshold in enumerate(IOU_THRESHOLDS):
                    outcome, matched = match_detections(
                        found.ious, iou_threshold=float(threshold), rule="coco", ignored=ignored, crowd=found.crowd
                    )
                    outcomes[a, t] = np.where((matched < 0) & outside, IGNORED, outcome)
            self._scores[k].append(found.scores)
            self._ranks[k].append(np.arange(count))
            self._outcomes[k].append(outcomes)
        self.images += 1

    def matches(self) -> Matches:
        """Return what became of every detection so far, at an IoU of 0.5, of objects of all sizes."""
        limit = self.limits[-1]
        cut = any(len(scores) >= limit for of_class in self._scores for scores in of_class)
        return Matches(
            class_names=self.class_names,
            iou_type=self.iou_type,
            scores=tuple(np.concatenate([np.zeros(0), *parts]) for parts in self._scores),
            outcomes=tuple(
                np.concatenate([np.zeros(0, np.int8), *(part[0, 0] for part in parts)]) for parts in self._outcomes
            ),
            gt=self._gt[:, 0].copy(),
            images=self.images,
            limit=limit if cut else None,
        )

    def result(self) -> CocoEvaluation:
        """Sum up what was added so far; more images may follow."""
        classes, areas, thresholds = len(self.class_names), len(self.areas), len(IOU_THRESHOLDS)
        ap = np.full((classes, areas, thresholds), np.nan)
        recall = np.full((len(self.limits), classes, areas, thresholds), np.nan)
        for k, a in np.argwhere(self._gt > 0):
            scores, ranks = np.concatenate(self._scores[k]), np.concatenate(self._ranks[k])
            outcomes = np.concatenate(self._outcomes[k], axis=2)[a]
            for m, limit in enumerate(self.limits):
                kept = ranks < limit
                for t in range(thresholds):
                    curve = precision_recall(scores[kept], outcomes[t, kept], int(self._gt[k, a]))
                    recall[m, k, a, t] = curve[0][-1] if len(curve[0]) else 0.0
                    if m == len(self.limits) - 1:
                        ap[k, a, t] = average_precision(*curve, method="coco")
        return CocoEvaluation(
            iou_type=self.iou_type,
            class_names=self.class_names,
            numbers=self.named(ap, recall),
            ap=ap[:, 0].mean(axis=1),
            images=self.images,
        )

    def named(self, ap: np.ndarray, recall: np.ndarray) -> dict[str, float]:
        """Return COCO's numbers in its order.

        Parameters
        ----------
        ap : ndarray of shape (classes, areas, thresholds)
        recall : ndarray of shape (limits, classes, areas, thresholds)
            The highest that was reached.
        """
        numbers = {"AP": mean(ap[:, 0]), "AP50": mean(ap[:, 0, 0]), "AP75": mean(ap[:, 0, 5])}
        numbers |= {name: mean(ap[:, a]) for a, name in enumerate(("APs", "APm", "APl"), 1)}
        numbers |= {f"AR{limit}": mean(recall[m, :, 0]) for m, limit in enumerate(self.limits)}
        return numbers | {name: mean(recall[-1, :, a]) for a, name in enumerate(("ARs", "ARm", "ARl"), 1)}


def evaluate_coco(
    detections: Iterable[Detections],
    samples: Iterable[Sample],
    *,
    class_names: Sequence[str],
    iou_type: str = "mask",
    ignore_void: bool = True,
    gt_areas: Sequence[np.ndarray] | None = None,
) -> CocoEvaluation:
    """Return COCO's twelve numbers and the AP of each class.

    ``gt_areas``, one array (G,) per image, are areas as annotated; by default those of the samples, where these have
    none the pixels of the masks. COCO breaks ties of scores by the order of image ids: pass the images in that order.

    Parameters
    ----------
    detections, samples : iterable of Detections, of Sample
        One of each for every image.
    class_names : sequence of str
        Entry 0 is background.
    iou_type : {"mask", "box"}
    ignore_void : bool
        Take unlabelled pixels out of detected and true masks.
    gt_areas : sequence of ndarray of shape (G,), optional
        See above.
    """
    evaluator = CocoEvaluator(class_names, iou_type=iou_type, ignore_void=ignore_void)
    for i, (found, sample) in enumerate(pairs(detections, samples)):
        evaluator.add(found, sample, gt_areas=None if gt_areas is None else gt_areas[i])
    return evaluator.result()


def mean(values: np.ndarray) -> float:
    """Return the mean over classes with objects (and thresholds), -1 if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else -1.0
