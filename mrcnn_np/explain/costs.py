"""What mistakes cost: average precision with one kind of them set right, less what it is.

References
----------
Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors" (2020), section 2: a wrong class or a
bad place is mended (where the object is still free, and only for its best detection, else the detection goes away),
duplicates and detections of background go away, and missed objects are no longer asked for. Costs of kinds do not add
up to what is missing from 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..evaluate.matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE
from ..evaluate.ranking import average_precision, precision_recall
from .judge import BADLY_PLACED, WRONG_CLASS, Judged

#: kinds that are mended; the others go away
MENDED = (WRONG_CLASS, BADLY_PLACED)


@dataclass
class Ledger:
    """All detections and objects of a data set, as far as average precision needs them.

    Attributes
    ----------
    classes : int
        With the background.
    method : {"voc07", "voc10", "coco"}
    class_ids, scores, outcome, kinds, target : list
        One entry for each detection, image by image; ``target`` is a row of the objects, -1 for none.
    gt_class_ids, demanded, found : list
        One entry for each object.
    """

    classes: int
    method: str
    class_ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    outcome: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    target: list[int] = field(default_factory=list)
    gt_class_ids: list[int] = field(default_factory=list)
    demanded: list[bool] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)

    def add(
        self, class_ids: np.ndarray, scores: np.ndarray, gt_class_ids: np.ndarray, judged: Judged
    ) -> tuple[int, int]:
        """Add one image; return the rows of its first detection and its first object.

        Parameters
        ----------
        class_ids, scores : ndarray of shape (D,)
            Of the detections.
        gt_class_ids : ndarray of shape (G,)
        judged : Judged
        """
        rows, objects = len(self.scores), len(self.found)
        self.class_ids += class_ids.tolist()
        self.scores += scores.astype(np.float64).tolist()
        self.outcome += judged.outcome.tolist()
        self.kinds += judged.kinds
        self.target += np.where(judged.target >= 0, judged.target + objects, -1).tolist()
        self.gt_class_ids += gt_class_ids.tolist()
        self.demanded += judged.demanded.tolist()
        self.found += judged.found.tolist()
        return rows, objects


class Costs:
    """Average precision of a ledger as it is, and with mistakes set right.

    Parameters
    ----------
    ledger : Ledger
    """

    def __init__(self, ledger: Ledger) -> None:
        self.method, self.classes = ledger.method, ledger.classes
        self.class_ids = np.array(ledger.class_ids, np.int64)
        self.scores = np.array(ledger.scores, np.float64)
        self.outcome = np.array(ledger.outcome, np.int8)
        self.kinds = np.array(ledger.kinds, object)
        self.target = np.array(ledger.target, np.int64)
        self.gt_class_ids = np.array(ledger.gt_class_ids, np.int64)
        self.demanded = np.array(ledger.demanded, bool)
        self.found = np.array(ledger.found, bool)
        self.objects = np.bincount(self.gt_class_ids[self.demanded], minlength=self.classes)
        self.measured = np.flatnonzero(self.objects)  # classes with an AP
        self._rows = [np.flatnonzero(self.class_ids == k) for k in range(self.classes)]
        self.ap = self._aps(self.outcome, self.objects)
        self.mean_ap = self._mean(self.ap)
        self._last_right = [self._lowest_right(k) for k in range(self.classes)]

    def of_kind(self, kind: str) -> float:
        """Return the AP gained if every false detection of a kind is set right; NaN without objects."""
        return self._gain(np.flatnonzero((self.kinds == kind) & (self.outcome == FALSE_POSITIVE)))

    def of_false(self) -> float:
        """Return the AP gained if every false detection goes away."""
        outcome = np.where(self.outcome == FALSE_POSITIVE, IGNORED, self.outcome)
        return self._mean(self._aps(outcome, self.objects)) - self.mean_ap

    def of_missed(self, objects: np.ndarray) -> float:
        """Return the AP gained if these objects (rows) are no longer asked for.

        A class of which no object is left counts as perfect: all that is asked for is found.
        """
        objects = np.asarray(objects, np.int64)
        left = self.objects - np.bincount(self.gt_class_ids[objects], minlength=self.classes)
        return self._mean(self._aps(self.outcome, left)) - self.mean_ap

    def of_detection(self, row: int) -> float:
        """Return the AP gained if one false detection is set right."""
        if self.kinds[row] not in MENDED and self.scores[row] < self._last_right[self.class_ids[row]]:
            return 0.0  # no right detection comes after it
        return self._gain(np.array([row]))

    def missed(self) -> np.ndarray:
        """Return the rows of the objects that were missed: asked for, and not found."""
        return np.flatnonzero(self.demanded & ~self.found)

    def lost_classes(self) -> np.ndarray:
        """Return the classes of which objects were asked for, and none was found."""
        found = np.bincount(self.gt_class_ids[self.demanded & self.found], minlength=self.classes)
        return np.flatnonzero((self.objects > 0) & (found == 0))

    # --- how --------------------------------------------------------------------------------------------------------

    def _gain(self, rows: np.ndarray) -> float:
        """Set some false detections right, each as its kind says."""
        outcome = self.outcome.copy()
        outcome[rows] = IGNORED
        best = self._mendable(rows)
        to = self.gt_class_ids[self.target[best]]
        stays = to == self.class_ids[best]
        outcome[best[stays]] = TRUE_POSITIVE
        ap = self.ap.copy()
        for k in np.unique(np.concatenate([self.class_ids[rows], to])):
            ap[k] = self._ap(int(k), outcome, self.objects[k], best[~stays & (to == k)])
        return self._mean(ap) - self.mean_ap

    def _mendable(self, rows: np.ndarray) -> np.ndarray:
        """Return those of some false detections that become right ones: on a free object, the best on each."""
        rows = rows[np.isin(self.kinds[rows], MENDED)]
        rows = rows[self.demanded[self.target[rows]] & ~self.found[self.target[rows]]]
        rows = rows[np.argsort(-self.scores[rows], kind="stable")]
        return rows[np.unique(self.target[rows], return_index=True)[1]]

    def _aps(self, outcome: np.ndarray, objects: np.ndarray) -> np.ndarray:
        return np.array([self._ap(k, outcome, objects[k]) for k in range(self.classes)])

    def _ap(self, k: int, outcome: np.ndarray, objects: int, joining: np.ndarray | tuple[()] = ()) -> float:
        """Return the AP of a class, with right detections ``joining`` it from others."""
        if not self.objects[k]:
            return float("nan")
        if not objects:
            return 1.0
        rows = np.concatenate([self._rows[k], np.asarray(joining, np.int64)])
        outcomes = np.concatenate([outcome[self._rows[k]], np.full(len(joining), TRUE_POSITIVE, np.int8)])
        order = np.argsort(rows, kind="stable")  # equal scores are ranked in the order in which they were added
        curve = precision_recall(self.scores[rows[order]], outcomes[order], int(objects))
        return average_precision(*curve, method=self.method)

    def _mean(self, ap: np.ndarray) -> float:
        return float(ap[self.measured].mean()) if len(self.measured) else float("nan")

    def _lowest_right(self, k: int) -> float:
        """Return the score of the last right detection of a class."""
        right = self._rows[k][self.outcome[self._rows[k]] == TRUE_POSITIVE]
        return float(self.scores[right].min()) if len(right) else float("inf")
