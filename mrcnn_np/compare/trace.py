"""Every tensor of one detection by name, from the molded image to the pasted masks, in this project's layout.

These are the names that each side of a comparison uses. Maps are (N, H, W, C) with N = 1, boxes ``(y1, x1, y2, x2)``,
deltas ``(dy, dx, log dh, log dw)``; all is in the precision of the parameters.

===================== ================ ==================================================================
name                  shape            what
===================== ================ ==================================================================
molded                (1, H, W, 3)     the image, resized, padded, normalised
c1                    (1, H/2, W/2, .) stem: convolution, batch norm, ReLU, before the pooling
c2.0 c2.1 ... c2      (1, H/4, W/4, .) the residual blocks of a stage, after their last ReLU; the stage's
c3.0 ... c5                            last block bears the stage's name
p2 ... p6             (1, H_l, W_l, C) the pyramid
rpn_logits.p2 ... p6  (A_l,)           objectness of each anchor of a level; (A_l, 2) with softmax:
                                       background, object
rpn_deltas.p2 ... p6  (A_l, 4)         as the head puts them out: not multiplied by ``rpn_box_std``
anchors.p2 ... p6     (A_l, 4)         molded pixels; rows, then columns, then aspect ratios
proposals             (P, 4)           molded pixels, best first, without rows that only fill up
proposal_scores       (P,)             probability of an object
box_features          (P, 7, 7, C)     what the box head reads
class_logits          (P, K)           class 0 is background
box_deltas            (P, K, 4)        not multiplied by ``head_box_std``
detection_boxes       (D, 4)           molded pixels, best first, without rows that only fill up
detection_classes     (D,)             int64
detection_scores      (D,)
mask_features         (D, 14, 14, C)   what the mask head reads
mask_logits           (D, 28, 28, K)
mask_probabilities    (D, 28, 28)      of each detection's own class
boxes                 (D, 4)           pixels of the original image
masks                 (D, H, W)        bool, at the size of the original image
===================== ================ ==================================================================

With a keypoint branch, ``keypoint_features`` (D, 14, 14, C), ``keypoint_logits`` (D, 56, 56, K), ``keypoints``
(D, K, 2), ``(y, x)`` in pixels of the original image, and ``keypoint_scores`` (D, K) come before ``boxes``. A side may
leave out names that it has no tensor for; the comparison says which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from ..config import Config
from ..molding import mold_image

#: tensors with one row per proposal, and with one row per detection: rows that two sides may hold in another order
PER_PROPOSAL = ("proposals", "proposal_scores", "box_features", "class_logits", "box_deltas")
PER_DETECTION = (
    "detection_boxes", "detection_classes", "detection_scores", "mask_features", "mask_logits", "mask_probabilities",
    "boxes", "masks",
)  # fmt: skip
#: the same of a network that has keypoints
PER_KEYPOINTS = ("keypoint_features", "keypoint_logits", "keypoints", "keypoint_scores")
#: what a stage starts from: given these, it does not depend on the stages before it
GIVEN = ("molded", "proposals", "detection_boxes", "detection_classes", "detection_scores")

Trace = dict[str, np.ndarray]


class Traced(Protocol):
    """What is needed of a ``MaskRCNN``, whose method ``trace`` comes here."""

    config: Config

    @property
    def detect_molded(self) -> Callable[..., Any]:
        """The method of one molded image."""
        ...

    @property
    def dtype(self) -> type:
        """Of the parameters."""
        ...


def trace_ours(
    model: Traced,
    image: np.ndarray,
    *,
    given: Mapping[str, np.ndarray] | None = None,
    follow: Callable[[str, Trace], np.ndarray] | None = None,
) -> Trace:
    """Run ``model.detect`` on one image and keep every tensor.

    Parameters
    ----------
    model : MaskRCNN
    image : ndarray of shape (H, W, 3), uint8
        RGB.
    given : mapping of str to ndarray, optional
        Tensors, by the names of ``GIVEN``, that the run goes on with in place of the model's own (*teacher forcing*):
        with another implementation's proposals the box head can be compared row by row whatever the proposal network
        did. The trace keeps what the model itself had found.
    follow : callable, optional
        ``follow(name, tensors so far)`` returns what the run goes on with in place of a tensor that is not given; see
        ``rounding.FollowTheirRounding``. The trace keeps what the model itself had found here, too.

    Returns
    -------
    dict of str to ndarray
        In the order of the data flow; see the table above.
    """
    given = given or {}
    kept: Trace = {}
    used: Trace = {}

    def observe(name: str, x: np.ndarray) -> np.ndarray:
        kept[name] = used[name] = x
        if name in given:
            used[name] = given[name].astype(x.dtype)
        elif follow is not None:
            used[name] = follow(name, used)
        return used[name]

    molded, molding = mold_image(image, model.config, model.dtype)
    model.detect_molded(molded[None], molding, observe=observe)
    return by_level(kept)


def by_level(kept: Trace) -> Trace:
    """Cut what the proposal head says, (1, A, ...) over all levels, into ``rpn_logits.p2`` ... like the anchors."""
    levels = [name.removeprefix("anchors.") for name in kept if name.startswith("anchors.")]
    cuts = np.cumsum([len(kept[f"anchors.{level}"]) for level in levels])[:-1]
    trace: Trace = {}
    for name, x in kept.items():
        if name in ("rpn_logits", "rpn_deltas"):
            trace |= {f"{name}.{level}": part for level, part in zip(levels, np.split(x[0], cuts))}
        else:
            trace[name] = x
    return trace
