"""Boxes ``(y1, x1, y2, x2)``: decoding, clipping, sides, as ``mrcnn_np/boxes.py``."""

from __future__ import annotations

import numpy as np

from ..config import Config
from .graph import Graph, Tensor

_CORNER = [0, 0, 1, 1]


def enter_frame(g: Graph, boxes: Tensor, config: Config, dtype: type = np.float32) -> Tensor:
    """Measure boxes between the centres of pixels, if ``box_frame`` says so.

    Parameters
    ----------
    g : Graph
    boxes : str
        (..., 4).
    config : Config
    dtype : type
        Of the boxes.
    """
    return boxes if config.box_frame == "edges" else g.Sub(boxes, np.array(_CORNER, dtype))


def leave_frame(g: Graph, boxes: Tensor, config: Config, dtype: type = np.float32) -> Tensor:
    """Return half-open boxes: the inverse of ``enter_frame``.

    Parameters
    ----------
    g : Graph
    boxes : str
        (..., 4).
    config : Config
    dtype : type
        Of the boxes.
    """
    return boxes if config.box_frame == "edges" else g.Add(boxes, np.array(_CORNER, dtype))


def corners(g: Graph, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(y1, x1)`` and ``(y2, x2)``, each (..., 2)."""
    return g.cut(boxes, 0, 2, -1), g.cut(boxes, 2, 4, -1)


def decode_boxes(
    g: Graph, deltas: Tensor, anchors: Tensor, *, std: tuple[float, ...], max_log_scale: float | None
) -> Tensor:
    """Move and scale anchors by deltas.

    Parameters
    ----------
    g : Graph
    deltas : str
        (..., 4), ``(dy, dx, log dh, log dw) / std``.
    anchors : str
        (..., 4), broadcast.
    std : 4 floats
    max_log_scale : float or None
    """
    moves, log_scale = corners(g, g.Mul(deltas, np.array(std, np.float32)))
    first, second = corners(g, anchors)
    sides = g.Sub(second, first)
    centres = g.Add(first, g.Mul(sides, 0.5))
    if max_log_scale is not None:
        log_scale = g.Min(log_scale, float(max_log_scale))
    half = g.Mul(g.Mul(sides, g.Exp(log_scale)), 0.5)
    centres = g.Add(centres, g.Mul(moves, sides))
    boxes: Tensor = g.Concat(g.Sub(centres, half), g.Add(centres, half), axis=-1)
    return boxes


def clip_boxes(g: Graph, boxes: Tensor, window: Tensor) -> Tensor:
    """Move every corner into the window.

    Parameters
    ----------
    g : Graph
    boxes : str
        (..., 4).
    window : str
        (4,).
    """
    low, high = corners(g, window)
    low, high = g.Concat(low, low, axis=0), g.Concat(high, high, axis=0)
    clipped: Tensor = g.Min(g.Max(boxes, low), high)
    return clipped


def has_sides(g: Graph, boxes: Tensor, minimum: float) -> Tensor:
    """Tell which boxes have an area, and both sides at least ``minimum`` long: (...), bool.

    Parameters
    ----------
    g : Graph
    boxes : str
        (..., 4).
    minimum : float
        In the unit of the boxes.
    """
    first, second = corners(g, boxes)
    sides = g.Sub(second, first)
    shorter = g.ReduceMin(sides, axes=[-1], keepdims=0)
    large: Tensor = g.And(g.GreaterOrEqual(shorter, float(minimum)), g.Greater(shorter, 0.0))
    return large


def for_suppression(g: Graph, boxes: Tensor, config: Config) -> Tensor:
    """Return boxes that NonMaxSuppression reads as ours does.

    It exchanges the corners of a box that is inside out, which has no area here. Between centres of pixels there are
    such boxes: those thinner than a pixel.

    Parameters
    ----------
    g : Graph
    boxes : str
        (..., 4), in the frame.
    config : Config
        ``box_frame``.
    """
    if config.box_frame == "edges":
        return boxes
    first, second = corners(g, boxes)
    return str(g.Concat(first, g.Max(first, second), axis=-1))
