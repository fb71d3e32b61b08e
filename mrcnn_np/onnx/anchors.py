"""Anchors of every level, as ``mrcnn_np/anchors.py``: made in the graph, because their number depends on the image."""

from __future__ import annotations

import numpy as np

from ..anchors import pyramid_anchors
from ..config import Config
from .graph import Graph, Tensor


def anchors(g: Graph, pyramid: list[Tensor], canvas: Tensor, config: Config) -> list[Tensor]:
    """Return the anchors of P2..P6, or of the one map.

    Parameters
    ----------
    g : Graph
    pyramid : list of str
        (1, C, H_l, W_l); only their sizes matter.
    canvas : str
        (2,), int64, size of the molded image.
    config : Config

    Returns
    -------
    list of str
        (A_l, 4) each, molded pixels; rows, then columns, then aspect ratios, then sizes.
    """
    levels = []
    for k, (level, p) in enumerate(zip(config.levels, pyramid)):
        shape = g.Shape(p, start=2, end=4)
        step = np.full(2, config.anchor_strides[k], np.int64)
        if config.anchor_stride_from_grid:
            step = g.Div(canvas, shape)
        centres = []
        for axis in (0, 1):
            cells = g.arange(g.cut(shape, axis, axis + 1, 0), np.float64)
            distance = g.cast(g.Gather(step, axis), np.float64)
            centres.append(g.Mul(g.Add(cells, np.float64(config.anchor_offset)), distance))
        y, x = g.Unsqueeze(centres[0], [1]), g.Unsqueeze(centres[1], [0])
        both = g.Expand(y, shape), g.Expand(x, shape)
        centre = g.Concat(*(g.Unsqueeze(c, [2, 3]) for c in both * 2), axis=3)  # (rows, columns, 1, 4)
        boxes = g.cast(g.Add(centre, cell_anchors(k, config)), np.float32)
        levels.append(g.Reshape(boxes, [-1, 4], name=f"anchors.{level}"))
    return levels


def cell_anchors(k: int, config: Config) -> np.ndarray:
    """Return the anchors of map ``k`` around (0, 0), (ratios * sizes, 4), float64: those of a cell, not moved."""
    (boxes,) = pyramid_anchors(
        (1, 1),
        sizes=[config.sizes_by_level[k]],
        strides=[1],
        aspect_ratios=config.anchor_ratios,
        ratio_meaning=config.anchor_ratio_meaning,
        rounding=config.anchor_rounding,
        dtype=np.float64,
    )
    return boxes
