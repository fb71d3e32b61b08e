"""From the proposal head's output to proposals, as ``mrcnn_np/proposals.py``."""

from __future__ import annotations

import numpy as np

from ..config import Config
from .boxes import clip_boxes, decode_boxes, enter_frame, for_suppression, has_sides, leave_frame
from .graph import Graph, Tensor

#: below every score there is
NEVER = np.float32(-np.inf)
LOWEST = float(np.finfo(np.float32).min)


def propose(
    g: Graph, logits: list[Tensor], deltas: list[Tensor], anchors: list[Tensor], window: Tensor, config: Config
) -> Tensor:
    """Top-k by score, decode, clip, drop boxes that are too small, NMS, top-k again.

    Parameters
    ----------
    g : Graph
    logits, deltas : list of str
        Of one image: (1, A_l) or (1, A_l, 2), and (1, A_l, 4), for each level.
    anchors : list of str
        (A_l, 4) for each level.
    window : str
        (4,), float32: proposals are clipped to it.
    config : Config

    Returns
    -------
    str
        ``proposals``, (P, 4), molded pixels, best first.
    """
    ranks = [_ranks(g, level, config) for level in logits]
    deltas = [g.Squeeze(level, [0]) for level in deltas]
    if not config.proposals_per_level:  # one pool: levels may suppress each other
        ranks, deltas, anchors = ([g.Concat(*parts, axis=0)] for parts in (ranks, deltas, anchors))
    chosen = [
        _best(g, level_ranks, config.proposals_pre_nms_test, level_deltas, level_anchors)
        for level_ranks, level_deltas, level_anchors in zip(ranks, deltas, anchors)
    ]
    scores, moves, places = (g.Concat(*parts, axis=0) for parts in zip(*chosen))
    levels = g.Concat(*(g.zeros(g.Shape(s), value=k) for k, (s, _, _) in enumerate(chosen)), axis=0)

    places = enter_frame(g, places, config)
    boxes = decode_boxes(g, moves, places, std=config.rpn_box_std, max_log_scale=config.max_log_scale)
    boxes = clip_boxes(g, boxes, enter_frame(g, window, config))
    if config.proposals_min_size is not None:
        scores = g.Where(has_sides(g, boxes, config.proposals_min_size), scores, NEVER)

    # NonMaxSuppression works class by class; the levels are its classes, and a box scores in its own only
    own = g.Equal(g.Unsqueeze(levels, [0]), np.arange(len(chosen), dtype=np.float32)[:, None])
    by_level = g.Unsqueeze(g.Where(own, g.Unsqueeze(scores, [0]), NEVER), [0])  # (1, levels, boxes)
    shown = g.Unsqueeze(for_suppression(g, boxes, config), [0])
    most = config.proposals_post_nms_test
    kept = g.NonMaxSuppression(shown, by_level, [most], [config.proposals_nms_iou], [LOWEST])
    # (level, box) -> box, in ascending order, in which equal scores are ranked
    flags = g.ScatterElements(g.zeros(g.Shape(scores)), *_column_and_ones(g, kept), axis=0)
    kept = g.Squeeze(g.NonZero(flags), [0])
    _, kept = _best(g, g.Gather(scores, kept), most, kept)
    proposals = leave_frame(g, g.Gather(boxes, kept), config)
    return str(g.Identity(proposals, name="proposals"))


def _ranks(g: Graph, logits: Tensor, config: Config) -> Tensor:
    """Return what anchors are ranked by, (A_l,): the logit, or the difference of the two."""
    logits = g.Squeeze(logits, [0])
    if config.rpn_objectness == "sigmoid":
        return logits
    background, thing = g.cut(logits, 0, 1, 1), g.cut(logits, 1, 2, 1)
    return str(g.Squeeze(g.Sub(thing, background), [1]))


def _best(g: Graph, scores: Tensor, most: int, *others: Tensor) -> tuple[Tensor, ...]:
    """Return the best scores, ``most`` of them or all, and the rows of ``others`` that belong to them."""
    count = g.Min(g.Shape(scores), [most])
    scores, index = g.TopK(scores, count, outputs=2)
    return scores, *(g.Gather(other, index) for other in others)


def _column_and_ones(g: Graph, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last column of NonMaxSuppression's (S, 3) and as many ones."""
    column = g.Squeeze(g.cut(kept, 2, 3, 1), [1])
    return column, g.zeros(g.Shape(column), value=1)
