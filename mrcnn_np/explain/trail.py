"""Every box of one detection on its way: where it was lost, and to which other box.

``propose`` and ``refine`` return what is left. Here the same steps are done again on what they were given, and for
each box that is not left the step is written down that took it. A test holds that what stays is, to the last bit,
what the network returned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..boxes import clip_boxes, decode_boxes, enter_frame, has_sides, iou, leave_frame
from ..config import Config
from ..detections import Detections
from ..model import MaskRCNN
from ..molding import Molding, mold_image
from ..nms import batched_nms
from ..ops.activation import softmax
from ..proposals import top_k

#: what became of a box, in the order of the steps that take boxes away
SCORE, TOP_K, SIZE, NMS, LIMIT, KEPT = range(6)


@dataclass(frozen=True)
class Fates:
    """What became of N boxes that compete with each other.

    Attributes
    ----------
    boxes : ndarray of shape (N, 4)
        ``(y1, x1, y2, x2)`` in molded pixels, moved by their deltas and clipped.
    scores : ndarray of shape (N,)
        By what they are ranked.
    fate : ndarray of shape (N,), int8
        ``SCORE``, ``TOP_K``, ``SIZE``, ``NMS``, ``LIMIT`` (what took the box away) or ``KEPT``.
    by : ndarray of shape (N,), int64
        Of a box that NMS took: which box it was suppressed by; else -1.
    kept : ndarray of shape (M,), int64
        Those that are left, best first.
    """

    boxes: np.ndarray
    scores: np.ndarray
    fate: np.ndarray
    by: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True)
class Trail:
    """One image's way through the network.

    Attributes
    ----------
    molding : Molding
        Where the image went.
    anchors : ndarray of shape (A, 4)
        Of all levels, molded pixels.
    level : ndarray of shape (A,)
        2 .. 6; 4 on the one map of a network without pyramid.
    first : Fates
        Of the anchors, ranked by their logits.
    place : ndarray of shape (A,)
        Where an anchor stands in the ranking of its level (or of all, if there is one pool), from 0.
    proposals : ndarray of shape (P, 4)
        What the proposal head left, molded pixels; row p comes from anchor ``first.kept[p]``.
    probabilities : ndarray of shape (P, K)
    second : Fates
        Of every class of every proposal: entry ``p * K + k``.
    detections : Detections
        Detection d comes from entry ``second.kept[d]``.
    class_logits, box_deltas : ndarray of shape (P, K), (P, K, 4)
        What the box head said.
    pyramid : list of ndarray
        P2 .. P6, or the one map.
    """

    molding: Molding
    anchors: np.ndarray
    level: np.ndarray
    first: Fates
    place: np.ndarray
    proposals: np.ndarray
    probabilities: np.ndarray
    second: Fates
    detections: Detections
    class_logits: np.ndarray
    box_deltas: np.ndarray
    pyramid: list[np.ndarray]


def follow(model: MaskRCNN, image: np.ndarray) -> Trail:
    """Detect the objects of one image, and keep account of every box.

    Parameters
    ----------
    model : MaskRCNN
    image : ndarray of shape (H, W, 3), uint8
        RGB.
    """
    config = model.config
    wanted = {"rpn_logits", "rpn_deltas", "proposals", "class_logits", "box_deltas", *config.levels}
    wanted |= {f"anchors.{level}" for level in config.levels}
    seen: dict[str, np.ndarray] = {}

    def observe(name: str, tensor: np.ndarray) -> None:
        if name in wanted:
            seen[name] = tensor

    molded, molding = mold_image(image, config, model.dtype)
    detections = model.detect_molded(molded[None], molding, observe=observe)
    anchors, window = [seen[f"anchors.{level}"] for level in config.levels], molding.proposal_window(config)
    first, place = first_fates(seen["rpn_logits"][0], seen["rpn_deltas"][0], anchors, window, config)
    return Trail(
        molding=molding,
        anchors=np.concatenate(anchors),
        level=np.repeat([round(np.log2(cell)) for cell in config.cells], [len(a) for a in anchors]),
        first=first,
        place=place,
        proposals=seen["proposals"],
        probabilities=softmax(seen["class_logits"])[0],
        second=second_fates(seen["proposals"], seen["class_logits"], seen["box_deltas"], molding.window, config),
        detections=detections,
        class_logits=seen["class_logits"],
        box_deltas=seen["box_deltas"],
        pyramid=[seen[level] for level in config.levels],
    )


def first_fates(
    logits: np.ndarray,
    deltas: np.ndarray,
    anchors: list[np.ndarray],
    window: tuple[float, float, float, float],
    config: Config,
) -> tuple[Fates, np.ndarray]:
    """Say of each anchor what ``propose`` did with it in inference, and its place in the ranking.

    Parameters
    ----------
    logits, deltas, anchors, window, config
        As in ``propose``.

    Returns
    -------
    fates : Fates
        One entry for each anchor.
    place : ndarray of shape (A,), int64
        From 0, within the anchor's level or, with one pool of levels, among all.
    """
    ranks = logits[:, 1] - logits[:, 0] if config.rpn_objectness == "softmax" else logits
    pool = np.repeat(np.arange(len(anchors)), [len(a) for a in anchors])
    pool = pool if config.proposals_per_level else np.zeros_like(pool)
    place, fate = np.zeros(len(ranks), np.int64), np.full(len(ranks), TOP_K, np.int8)
    for number in np.unique(pool):
        members = np.flatnonzero(pool == number)
        order = top_k(ranks[members], len(members))
        place[members[order]] = np.arange(len(members))
    fate[place < config.proposals_pre_nms_test] = SIZE
    # equal ranks are settled by the order of the candidates, which is pool by pool and best first
    candidates = np.flatnonzero(fate == SIZE)
    candidates = candidates[np.lexsort((place[candidates], pool[candidates]))]
    frame = config.box_frame
    sources = enter_frame(np.concatenate(anchors), frame)
    boxes = _decode(deltas, sources, candidates, config.rpn_box_std, config)
    boxes = clip_boxes(boxes, enter_frame(np.array(window, boxes.dtype), frame))
    alive = candidates[has_sides(boxes[candidates], config.proposals_min_size)]
    by, kept = _suppress(
        boxes, ranks, pool, alive, config.proposals_nms_iou, config.proposals_post_nms_test, fate
    )  # fmt: skip
    return Fates(leave_frame(boxes, frame), ranks, fate, by, kept), place


def second_fates(
    proposals: np.ndarray,
    class_logits: np.ndarray,
    deltas: np.ndarray,
    window: tuple[float, float, float, float],
    config: Config,
) -> Fates:
    """Say of every class of every proposal what ``refine`` did with it; entry ``p * K + k``.

    Parameters
    ----------
    proposals, class_logits, deltas, window, config
        As in ``refine``.
    """
    probabilities = softmax(class_logits)[0]
    count, classes = probabilities.shape
    threshold = config.detection_score_threshold
    candidates = probabilities >= threshold if config.detection_score_inclusive else probabilities > threshold
    if config.detection_classes == "argmax" and count:
        candidates &= np.arange(classes) == probabilities.argmax(axis=1)[:, None]
    candidates[:, 0] = False
    frame = config.box_frame
    sources = np.repeat(enter_frame(proposals, frame), classes, axis=0)
    chosen = np.flatnonzero(candidates)
    boxes = _decode(deltas.reshape(-1, 4), sources, chosen, config.head_box_std, config)
    boxes = clip_boxes(boxes, enter_frame(np.array(window, boxes.dtype), frame))
    scores = probabilities.reshape(-1)
    fate = np.where(candidates.reshape(-1), SIZE, SCORE).astype(np.int8)
    alive = chosen[has_sides(boxes[chosen], config.detection_min_size)]
    groups = np.tile(np.arange(classes), count) if config.detection_nms_per_class else np.zeros(len(scores), np.int64)
    by, kept = _suppress(
        boxes, scores, groups, alive, config.detection_nms_iou, config.detections_per_image, fate
    )  # fmt: skip
    return Fates(leave_frame(boxes, frame), scores, fate, by, kept)


def _decode(
    deltas: np.ndarray,
    sources: np.ndarray,
    candidates: np.ndarray,
    std: tuple[float, float, float, float],
    config: Config,
) -> np.ndarray:
    """Decode all boxes; the candidates by a call of their own, as the network does, which decides on the last bits."""
    boxes = decode_boxes(deltas, sources, std=std, max_log_scale=config.max_log_scale)
    boxes[candidates] = decode_boxes(
        deltas[candidates], sources[candidates], std=std, max_log_scale=config.max_log_scale
    )  # fmt: skip
    return boxes


def _suppress(
    boxes: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    alive: np.ndarray,
    threshold: float,
    limit: int,
    fate: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Do NMS and the limit among the boxes that are ``alive``; write down fates, return suppressors and survivors."""
    survivors = alive[batched_nms(boxes[alive], scores[alive], groups[alive], threshold)]
    fate[alive] = NMS
    fate[survivors] = LIMIT
    fate[survivors[:limit]] = KEPT
    by = np.full(len(boxes), -1, np.int64)
    for group in np.unique(groups[alive]):
        # what NMS keeps comes best first, so the first that overlaps a box enough is the one that took it
        strong = survivors[groups[survivors] == group]
        weak = alive[(groups[alive] == group) & (fate[alive] == NMS)]
        if not len(weak):
            continue
        overlaps = iou(boxes[weak], boxes[strong])
        enough = overlaps > boxes.dtype.type(threshold)
        # a backend's NMS may differ from ``iou`` in the last bit: then it is the one that comes closest
        by[weak] = strong[np.where(enough.any(axis=1), enough.argmax(axis=1), overlaps.argmax(axis=1))]
    return by, survivors[:limit]
