"""Proposals: the best anchors, moved by their deltas, clipped, and thinned by non-maximum suppression.

Nothing here has a gradient. The boxes are inputs of the second stage, not activations: the proposal network learns
from its own targets, and ``backward`` stops at the boxes ("approximate joint training").

References
----------
Ren et al., "Faster R-CNN" (2015), sections 3.2 and 3.3.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np

from kernels import on_device

from .boxes import clip_boxes, decode_boxes, enter_frame, has_sides, leave_frame, require_finite
from .config import Config
from .layers import Observe, shown
from .nms import batched_nms
from .ops.activation import sigmoid, softmax


def objectness_scores(logits: np.ndarray, config: Config) -> np.ndarray:
    """Return the probability that an anchor holds an object, shape (..., A).

    Two softmax logits and one sigmoid logit say the same: softmax(a, b)[1] = sigmoid(b - a).
    """
    if config.rpn_objectness == "softmax":
        return softmax(logits)[0][..., 1]
    return sigmoid(logits)[0]


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the indices of the k best scores, best first, ties by index."""
    candidates = np.arange(len(scores), like=scores)
    # Find the k-th best without sorting the rest; its equals are candidates, too. A device sorts them all sooner than
    # it says how many candidates there are.
    if 0 < k < len(scores) and not on_device(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= least)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]


def propose(
    logits: np.ndarray,
    deltas: np.ndarray,
    anchors: list[np.ndarray],
    window: tuple[float, float, float, float],
    config: Config,
    *,
    training: bool,
    observe: Observe | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Turn the proposal head's output for one image into proposals.

    Top-k by score, decode, clip to the window, drop boxes that are too small, NMS, top-k again.

    Parameters
    ----------
    logits : ndarray of shape (A,) or (A, 2)
    deltas : ndarray of shape (A, 4)
    anchors : list of ndarray
        One (A_l, 4) array per level, ``(y1, x1, y2, x2)`` in molded pixels.
    window : tuple
        ``(y1, x1, y2, x2)``: proposals are clipped to it; ``Molding.proposal_window`` knows which.
    config : Config
        ``proposals_*`` fields: how many, per level or over all levels, which IoU.
    training : bool
        Chooses between the ``_train`` and ``_test`` counts.
    observe : callable, optional
        Sees ``anchors.p2`` .. ``anchors.p6`` (without a pyramid those of the one map, by its name), ``proposals`` and
        ``proposal_scores``.

    Returns
    -------
    boxes : ndarray of shape (P, 4)
        In molded pixels, best first.
    scores : ndarray of shape (P,)

    Raises
    ------
    NonFiniteError
        A box holds NaN or infinity.
    """
    total, expected = sum(len(a) for a in anchors), 2 if config.rpn_objectness == "softmax" else 1
    if logits.ndim != expected or len(logits) != total or deltas.shape != (total, 4):
        want = f"({total}, 2)" if expected == 2 else f"({total},)"
        raise ValueError(
            f"logits have shape {logits.shape} and deltas {deltas.shape}; expected {want} and ({total}, 4), those of "
            "one image: logits[n], deltas[n]"
        )
    levels = [f"p{level}" for level in range(2, 2 + len(anchors))] if config.neck == "fpn" else config.levels
    anchors = [shown(observe, f"anchors.{level}", a) for level, a in zip(levels, anchors, strict=True)]
    pre_nms = config.proposals_pre_nms_train if training else config.proposals_pre_nms_test
    post_nms = config.proposals_post_nms_train if training else config.proposals_post_nms_test
    # Ranked by logit, not by probability: a saturated sigmoid has ties that its logits do not have.
    ranks = logits[:, 1] - logits[:, 0] if config.rpn_objectness == "softmax" else logits

    level = np.repeat(np.arange(len(anchors), like=ranks), [len(a) for a in anchors])
    if config.proposals_per_level:
        starts = accumulate((len(a) for a in anchors), initial=0)
        kept = np.concatenate([a + top_k(ranks[a:b], pre_nms) for a, b in pairwise(starts)])
    else:
        kept = top_k(ranks, pre_nms)
        level = np.zeros_like(level)  # one pool: levels may suppress each other

    all_anchors = enter_frame(np.concatenate(anchors)[kept], config.box_frame)
    boxes = decode_boxes(deltas[kept], all_anchors, std=config.rpn_box_std, max_log_scale=config.max_log_scale)
    boxes = clip_boxes(boxes, enter_frame(np.array(window, boxes.dtype), config.box_frame))
    large = np.flatnonzero(has_sides(boxes, config.proposals_min_size))
    boxes, kept = boxes[large], kept[large]
    chosen = batched_nms(boxes, ranks[kept], level[kept], config.proposals_nms_iou)[:post_nms]
    proposals = require_finite("a proposal", leave_frame(boxes[chosen], config.box_frame))
    scores = objectness_scores(logits[kept[chosen]], config)
    return shown(observe, "proposals", proposals), shown(observe, "proposal_scores", scores)
