"""From head outputs to detections, as ``refine`` and ``own_masks`` in ``mrcnn_np/detections.py``."""

from __future__ import annotations

import numpy as np

from ..config import Config
from .boxes import clip_boxes, decode_boxes, enter_frame, for_suppression, has_sides, leave_frame
from .graph import Graph, Tensor

#: the score of what is no candidate, and what every candidate's is above
NONE, ABOVE = -1.0, -0.5


def refine(
    g: Graph, proposals: Tensor, class_logits: Tensor, box_deltas: Tensor, window: Tensor, config: Config
) -> tuple[Tensor, Tensor, Tensor]:
    """Classify, drop what scores low, apply the deltas of the class, clip, suppress, keep the best.

    Parameters
    ----------
    g : Graph
    proposals : str
        (P, 4), molded pixels.
    class_logits, box_deltas : str
        (P, K), (P, K, 4).
    window : str
        (4,), float32, of the image within the canvas.
    config : Config

    Returns
    -------
    boxes : str
        ``detection_boxes``, (D, 4), molded pixels, best first.
    class_ids : str
        ``class_ids``, (D,), int64.
    scores : str
        ``scores``, (D,).
    """
    most = config.num_classes
    scores = g.cut(g.Softmax(class_logits, axis=1), 1, most, 1)  # (P, K - 1): without the background
    places = g.Unsqueeze(enter_frame(g, proposals, config), [1])
    deltas = g.cut(box_deltas, 1, most, 1)
    boxes = decode_boxes(g, deltas, places, std=config.head_box_std, max_log_scale=config.max_log_scale)
    boxes = clip_boxes(g, boxes, enter_frame(g, window, config))  # (P, K - 1, 4)
    scores = g.Where(_candidates(g, class_logits, scores, boxes, config), scores, NONE)

    suppressed = _suppressed_per_class if config.detection_nms_per_class else _suppressed_together
    flags = suppressed(g, boxes, scores, config)
    pairs = g.Transpose(g.NonZero(flags), perm=[1, 0])  # in ascending order, in which equal scores are ranked
    found = g.GatherND(scores, pairs)
    best, index = g.TopK(found, g.Min(g.Shape(found), [config.detections_per_image]), outputs=2)
    pairs = g.Gather(pairs, index)
    boxes = g.Identity(leave_frame(g, g.GatherND(boxes, pairs), config), name="detection_boxes")
    class_ids = g.Add(g.Squeeze(g.cut(pairs, 1, 2, 1), [1]), 1, name="class_ids")
    return boxes, class_ids, g.Identity(best, name="scores")


def _suppressed_per_class(g: Graph, boxes: Tensor, scores: Tensor, config: Config) -> Tensor:
    """Return 1 where a proposal's box of a class, (P, K - 1), survives those of its class.

    A class is to NonMaxSuppression what an image of a batch is: boxes of its own.
    """
    shown = g.Transpose(for_suppression(g, boxes, config), perm=[1, 0, 2])
    by_class = g.Unsqueeze(g.Transpose(scores, perm=[1, 0]), [1])  # (K - 1, 1, P)
    limit = [config.detections_per_image]  # of one class; more of it cannot be among the best of all
    kept = g.NonMaxSuppression(shown, by_class, limit, [config.detection_nms_iou], [ABOVE])
    pairs = g.Gather(kept, [2, 0], axis=1)  # (class, 0, proposal) -> (proposal, class)
    return g.ScatterND(g.zeros(g.Shape(scores)), pairs, g.zeros(g.side(pairs, 0), value=1))


def _suppressed_together(g: Graph, boxes: Tensor, scores: Tensor, config: Config) -> Tensor:
    """Return 1 where a proposal's box of a class, (P, K - 1), survives those of all classes."""
    shown = g.Reshape(for_suppression(g, boxes, config), [1, -1, 4])
    flat = g.Reshape(scores, [1, 1, -1])
    limit = [config.detections_per_image]
    kept = g.NonMaxSuppression(shown, flat, limit, [config.detection_nms_iou], [ABOVE])
    places = g.Gather(kept, [2], axis=1)  # (0, 0, place)
    flags = g.ScatterND(g.zeros(g.Shape(g.Reshape(scores, [-1]))), places, g.zeros(g.side(places, 0), value=1))
    return g.Reshape(flags, g.Shape(scores))


def _candidates(g: Graph, class_logits: Tensor, scores: Tensor, boxes: Tensor, config: Config) -> Tensor:
    """Tell which classes of which proposals can become detections, (P, K - 1), bool."""
    compare = g.GreaterOrEqual if config.detection_score_inclusive else g.Greater
    candidates: Tensor = compare(scores, float(config.detection_score_threshold))
    if config.detection_classes == "argmax":
        best = g.ArgMax(g.Softmax(class_logits, axis=1), axis=1)  # (P, 1), the first of equals
        candidates = g.And(candidates, g.Equal(best, np.arange(1, config.num_classes)))
    if config.detection_min_size is not None:
        candidates = g.And(candidates, has_sides(g, boxes, config.detection_min_size))
    return candidates


def own_masks(g: Graph, logits: Tensor, class_ids: Tensor) -> Tensor:
    """Choose from the masks of all classes that of each detection's own class: ``mask_probabilities``, (D, m, m).

    Parameters
    ----------
    g : Graph
    logits : str
        (D, m, m, K).
    class_ids : str
        (D,), int64.
    """
    rows = g.arange(g.side(logits, 0))
    pairs = g.Concat(g.Unsqueeze(rows, [1]), g.Unsqueeze(class_ids, [1]), axis=1)
    own = g.GatherND(g.Transpose(logits, perm=[0, 3, 1, 2]), pairs)
    probabilities: Tensor = g.Sigmoid(own, name="mask_probabilities")
    return probabilities
