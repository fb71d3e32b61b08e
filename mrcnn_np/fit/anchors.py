"""How well anchors fit objects: the best one of each object, the positives, and what perfect proposals would find."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..anchors import pyramid_anchors
from ..boxes import encode_boxes, enter_frame, has_sides, iou
from ..config import Config
from ..proposals import propose
from ..targets import match_anchors
from .truth import Truth


def half_sides(config: Config) -> np.ndarray:
    """Return half the height and half the width of each level's anchors, (L, ratios * sizes, 2) of float64."""
    cells = pyramid_anchors(
        (1, 1),
        sizes=config.sizes_by_level,
        strides=config.anchor_strides,
        aspect_ratios=config.anchor_ratios,
        ratio_meaning=config.anchor_ratio_meaning,
        rounding=config.anchor_rounding,
        feature_shapes=[(1, 1)] * len(config.cells),
        dtype=np.float64,
    )
    return np.stack(cells)[:, :, 2:]


def grid_distances(boxes: np.ndarray, canvases: np.ndarray, config: Config) -> np.ndarray:
    """Return how far each object's centre is from the nearest line of each level's grid, whatever the anchors' sizes.

    Parameters
    ----------
    boxes : ndarray of shape (O, 4)
        ``(y1, x1, y2, x2)`` in molded pixels.
    canvases : ndarray of shape (O, 2)
        (H, W) of the canvas on which each object lies.
    config : Config
        ``anchor_strides``, ``anchor_stride_from_grid`` and ``anchor_offset``.

    Returns
    -------
    ndarray of shape (O, L, 2), float64
        Rows and columns, in molded pixels; of five levels, or one without a pyramid.
    """
    boxes, canvases = np.asarray(boxes, np.float64), np.asarray(canvases, np.int64)
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2  # (O, 1, 2)
    lines = -(-canvases[:, None] // np.array(config.cells)[:, None])  # (O, L, 2) rows and columns of the grids
    step: np.ndarray = np.broadcast_to(np.array(config.anchor_strides)[:, None], lines.shape)
    if config.anchor_stride_from_grid:
        step = canvases[:, None] // np.maximum(lines, 1)
    nearest = np.clip(np.rint(centre / step - config.anchor_offset), 0, lines - 1)
    return np.abs((nearest + config.anchor_offset) * step - centre)


def overlaps_at(distances: np.ndarray, sides: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return the IoU of each object with the best anchor of each level and ratio.

    All anchors of a level and ratio are one box at the places of a grid, so the IoU with an object grows with the area
    that both share, which is (shared rows) times (shared columns). Each of the two is largest for the line of the grid
    that is nearest to the object's centre: no search is needed, and millions of anchors cost nothing.

    Parameters
    ----------
    distances : ndarray of shape (O, L, 2)
        From ``grid_distances``.
    sides : ndarray of shape (O, 2)
        Height and width of each object.
    halves : ndarray of shape (L, ratios, 2)
        From ``half_sides``.

    Returns
    -------
    ndarray of shape (O, L, ratios), float64
    """
    d, h = distances[:, :, None], sides[:, None, None] / 2
    shared = np.maximum(np.minimum(h, halves + d) + np.minimum(h, halves - d), 0).prod(axis=3)
    return shared / (sides.prod(axis=1)[:, None, None] + 4 * halves.prod(axis=2) - shared)


def best_overlaps(boxes: np.ndarray, canvases: np.ndarray, config: Config) -> np.ndarray:
    """Return the IoU of each object with the best anchor of each level, ratio and size, (O, L, ratios * sizes).

    Parameters
    ----------
    boxes, canvases
        As in ``grid_distances``.
    config : Config
        The ``anchor_*`` fields.
    """
    sides = np.asarray(boxes[:, 2:] - boxes[:, :2], np.float64)
    return overlaps_at(grid_distances(boxes, canvases, config), sides, half_sides(config))


def positives_per_level(truth: Truth, anchors: list[np.ndarray], config: Config) -> np.ndarray:
    """Return how many anchors of each level are positive for an image, before any are drawn: (L,) of int64.

    Parameters
    ----------
    truth : Truth
    anchors : list of ndarray of shape (A_l, 4)
        Of the image's canvas.
    config : Config
        The ``rpn_*`` fields: ``targets.match_anchors`` decides.
    """
    labels, _ = match_anchors(np.concatenate(anchors), truth.boxes, truth.crowd, config)
    cuts = np.cumsum([len(level) for level in anchors])[:-1]
    return np.array([(part == 1).sum() for part in np.split(labels, cuts)], np.int64)


class PerfectProposals(NamedTuple):
    """What ``perfect_proposals`` returns; both are (P, 4), best first.

    Attributes
    ----------
    as_they_stand, decoded : ndarray of shape (P, 4)
        ``(y1, x1, y2, x2)`` in molded pixels.
    """

    as_they_stand: np.ndarray
    decoded: np.ndarray


def perfect_proposals(truth: Truth, anchors: list[np.ndarray], config: Config, *, count: int) -> PerfectProposals:
    """Return what the network would propose if its proposal head had learned all that it is taught.

    A *perfect proposal* comes from an anchor whose objectness is its largest IoU with any object: the head ranks
    anchors exactly as well as they fit. All that follows is the configuration's own (``proposals.propose``): top-k of
    each level, clipping, least size, NMS, and the best ``count`` of all. Two kinds bound what training can reach:

    - ``decoded``: the deltas are exact, too, and every anchor becomes the box of the object that it fits best. What is
      missed now is lost whatever is learned: crowded out of the top-k by anchors of other objects, suppressed by NMS
      because it overlaps another object, touched by no anchor, or beyond ``count``.
    - ``as_they_stand``: the deltas are zero, and proposals are the anchors. What is missed now is found only as far as
      the deltas are learned; that is the work that badly fitting anchors leave to the head.

    Parameters
    ----------
    truth : Truth
    anchors : list of ndarray of shape (A_l, 4)
        Of the image's canvas.
    config : Config
        Its ``proposals_*`` fields for inference; ``count`` stands for ``proposals_post_nms_test``.
    count : int
        At most so many proposals. The first n of them are what a smaller ``count`` of n gives.

    Returns
    -------
    PerfectProposals
    """
    objects, all_anchors = truth.objects, np.concatenate(anchors)
    deltas = np.zeros_like(all_anchors)
    rank = np.zeros(len(all_anchors), all_anchors.dtype)
    if len(objects):
        overlaps = iou(all_anchors, objects)
        rank, matched = overlaps.max(axis=1), overlaps.argmax(axis=1)
        framed, targets = (enter_frame(b, config.box_frame) for b in (all_anchors, objects))
        near = np.flatnonzero((rank > 0) & has_sides(targets)[matched])
        deltas[near] = encode_boxes(targets[matched[near]], framed[near], std=config.rpn_box_std)
    logits = np.stack([np.zeros_like(rank), rank], axis=1) if config.rpn_objectness == "softmax" else rank
    window = truth.molding.proposal_window(config)
    config = config.replace(proposals_post_nms_test=count)
    kinds = (propose(logits, d, anchors, window, config, training=False)[0] for d in (np.zeros_like(deltas), deltas))
    return PerfectProposals(*kinds)


def found_by(objects: np.ndarray, proposals: np.ndarray, counts: tuple[int, ...], at_iou: float) -> np.ndarray:
    """Return how many objects the first n proposals cover with at least an IoU, for each n of ``counts``.

    Parameters
    ----------
    objects : ndarray of shape (O, 4)
    proposals : ndarray of shape (P, 4)
        Best first, in the same frame.
    counts : tuple of int
    at_iou : float
        An IoU that rounding leaves a millionth below it counts.

    Returns
    -------
    ndarray of shape (len(counts),), int64
    """
    covered = iou(proposals, objects) >= at_iou - 1e-6
    return np.array([covered[:n].any(axis=0).sum() for n in counts], np.int64)
