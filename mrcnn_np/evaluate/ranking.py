"""From ranked detections to one number: precision, recall, and the three definitions of average precision."""

from __future__ import annotations

import math

import numpy as np

from .matching import IGNORED, TRUE_POSITIVE

#: Recalls at which precision is read. VOC's are divisions, because 3 / 10 is the same double as a recall of 3 of 10
#: objects, while np.arange(0, 1.1, 0.1)[3] is the next larger one, which that recall would miss. COCO's are those of
#: its own code, including such last bits.
RECALL_POINTS = {"voc07": np.arange(11) / 10, "coco": np.linspace(0, 1, 101)}
METHODS = ("voc07", "voc10", "coco")


def average_precision(recall: np.ndarray, precision: np.ndarray, *, method: str) -> float:
    """Return the average precision of a ranking.

    Precision is first replaced by its envelope, ``p(r) = max precision at any recall >= r``. Then

    - ``"voc10"`` (all points): the area under it, ``sum_i (r_i - r_(i-1)) p(r_i)``;
    - ``"voc07"``: its mean at the 11 recalls 0, 0.1, ..., 1;
    - ``"coco"``: its mean at the 101 recalls 0, 0.01, ..., 1,

    where ``p`` is 0 beyond the largest recall reached.

    Parameters
    ----------
    recall : ndarray of shape (D,)
        After each detection, best score first: objects found so far / objects there are.
    precision : ndarray of shape (D,)
        After each detection: objects found so far / detections so far.
    method : {"voc07", "voc10", "coco"}

    Returns
    -------
    float
        In [0, 1]; 0 for an empty ranking.

    Raises
    ------
    ValueError
        Unknown method, shapes that differ, or a recall that falls or leaves [0, 1].

    Notes
    -----
    Three objects and the ranking right, wrong, right give recall 1/3, 1/3, 2/3 and precision 1, 1/2, 2/3, so the
    envelope is 1 up to recall 1/3 and 2/3 up to recall 2/3. All points: 1/3 + 1/3 * 2/3 = 5/9. Of the 11 recalls 4 lie
    in the first part and 3 in the second: (4 + 3 * 2/3) / 11 = 6/11. Of the 101, 34 and 33: 56/101.

    References
    ----------
    Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", section 4.2; VOC2010 devkit, section 3.4.1.
    """
    recall, precision = np.asarray(recall, np.float64), np.asarray(precision, np.float64)
    if recall.ndim != 1 or recall.shape != precision.shape:
        raise ValueError(f"recall has shape {recall.shape} and precision {precision.shape}; expected the same (D,)")
    if not ((recall >= 0) & (recall <= 1)).all() or (np.diff(recall) < 0).any():
        raise ValueError(
            "recall leaves [0, 1] or falls along the ranking; expected one value per detection, best first"
        )
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    envelope = precision_envelope(precision)
    if method == "voc10":
        # fsum rounds once, so a detection that adds no recall adds nothing, not even a last bit
        return math.fsum(np.diff(recall, prepend=0.0) * envelope)
    first = np.searchsorted(recall, RECALL_POINTS[method], side="left")  # first detection with that recall
    return float(np.append(envelope, 0.0)[first].mean())


def precision_envelope(precision: np.ndarray) -> np.ndarray:
    """Return the largest precision at or after each place of the ranking."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def precision_recall(scores: np.ndarray, outcome: np.ndarray, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Rank the detections of one class over all images.

    Parameters
    ----------
    scores : ndarray of shape (D,)
        Equal scores keep their order: image by image, as added.
    outcome : ndarray of shape (D,)
        From ``match_detections``; ignored detections leave the ranking.
    objects : int
        How many objects were to be found.

    Returns
    -------
    recall, precision : ndarray of shape (D',), float64
        Recall is NaN if there are no objects.
    """
    ranked = outcome[np.argsort(-scores, kind="stable")]
    found = np.cumsum(ranked[ranked != IGNORED] == TRUE_POSITIVE)
    recall = found / objects if objects else np.full(len(found), np.nan)
    return recall, found / np.arange(1, len(found) + 1)
