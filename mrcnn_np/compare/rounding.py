"""What rounding decides: questions that two correct sides may answer differently, and what follows from the answers.

``tf.image.crop_and_resize`` takes 0 for what lies outside the map, however little. The last samples of a RoI that ends
on the canvas's last row lie exactly on the edge, so the last bit of its other corner decides whether a row of its
features is 0. The answer changes the scores and deltas of that RoI, and through suppression the set of detections:
differences that say nothing about the layers in which they show. Our side therefore goes on with the other's answer
where nothing but rounding stands between the two, and the comparison says how often it did.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..boxes import iou
from .trace import Trace

#: how many of the rows that rounding decides may come out otherwise: this share of them, or FEW if that is more
SHARE, FEW = 0.2, 3
#: tensors that may have such rows, with the boxes and the scores they belong to
ROWS_OF: dict[str, tuple[str, str, str | None]] = {
    "box_features": ("proposals", "proposal_scores", None),
    "mask_features": ("detection_boxes", "detection_scores", "detection_classes"),
}


def pair_boxes(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], boxes: str, scores: str, classes: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Pair boxes one to one so that overlaps are large, scores close and classes equal, in sum over all pairs.

    Parameters
    ----------
    ours, theirs : mapping of str to ndarray
        Traces.
    boxes, scores : str
        Names of the tensors (N, 4) and (N,) in both.
    classes : str or None
        Name of the tensor (N,); None: there are no classes yet.

    Returns
    -------
    mine, their : ndarray of int64
        Indices of the pairs, in the order of their rows. A pair whose IoU is below 0.5 is none.
    """
    from scipy.optimize import linear_sum_assignment

    if any(name not in side for side in (ours, theirs) for name in (boxes, scores)):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    overlap = iou(ours[boxes].astype(np.float64), theirs[boxes].astype(np.float64))
    cost = 1 - overlap + np.abs(ours[scores][:, None].astype(np.float64) - theirs[scores][None])
    if classes is not None and classes in ours and classes in theirs:
        cost = cost + 0.5 * (ours[classes][:, None] != theirs[classes][None])
    mine, their = linear_sum_assignment(np.nan_to_num(cost, nan=10.0))
    good = overlap[mine, their] >= 0.5
    order = np.argsort(their[good], kind="stable")
    return mine[good][order], their[good][order]


def rounded_otherwise(a: np.ndarray, b: np.ndarray, left_to_rounding: np.ndarray, tolerance: float) -> np.ndarray:
    """Return which rows differ where rounding decides about them; none, if these are more than rounding explains.

    Parameters
    ----------
    a, b : ndarray of shape (R, ...)
        The same rows of both sides.
    left_to_rounding : ndarray of shape (R,), bool
    tolerance : float
        Of the largest magnitude in ``b``.

    Returns
    -------
    ndarray of shape (R,), bool
    """
    limit = tolerance * float(np.abs(b).max(initial=0))
    differ = left_to_rounding & (np.abs(a - b).max(axis=tuple(range(1, a.ndim)), initial=0) > limit)
    return differ if differ.sum() <= max(FEW, SHARE * left_to_rounding.sum()) else np.zeros_like(differ)


class FollowTheirRounding:
    """Replaces the rows of our features that rounding decided otherwise by theirs, for ``trace_ours``.

    Parameters
    ----------
    theirs : mapping of str to ndarray
        Their trace.
    left_to_rounding : mapping of str to ndarray of bool
        Rows of their tensors that rounding decides, by name.
    tolerance : float
        Relative error up to which rows are the same.
    """

    def __init__(
        self, theirs: Mapping[str, np.ndarray], left_to_rounding: Mapping[str, np.ndarray], tolerance: float
    ) -> None:
        self.theirs, self.left_to_rounding, self.tolerance = theirs, left_to_rounding, tolerance

    def __call__(self, name: str, used: Trace) -> np.ndarray:
        """Return what to go on with; ``used`` holds our tensors so far, with those that were given in place of ours."""
        x = used[name]
        if name not in ROWS_OF or name not in self.left_to_rounding or x.shape[1:] != self.theirs[name].shape[1:]:
            return x
        boxes, scores, classes = ROWS_OF[name]
        if np.array_equal(used[boxes], self.theirs[boxes]):  # given: row by row the same
            mine = their = np.arange(len(x))
        else:
            mine, their = pair_boxes(used, self.theirs, boxes, scores, classes)
        rows = rounded_otherwise(x[mine], self.theirs[name][their], self.left_to_rounding[name][their], self.tolerance)
        x = x.copy()
        x[mine[rows]] = self.theirs[name][their[rows]]
        return x
