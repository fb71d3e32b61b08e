"""Masks pasted into the image, as ``paste_into_boxes`` in ``mrcnn_np/detections.py``.

A node Scan takes one detection after the other, so that no more than one mask in float is in memory.
"""

from __future__ import annotations

import numpy as np

from ..config import Config
from .graph import Graph, Tensor


def paste_masks(g: Graph, masks: Tensor, boxes: Tensor, image_shape: Tensor, config: Config) -> Tensor:
    """Resize each mask to its box, put it into the image, and threshold it.

    Parameters
    ----------
    g : Graph
    masks : str
        (D, m, m), probabilities.
    boxes : str
        (D, 4), pixels of the image, float32.
    image_shape : str
        (2,), int64.
    config : Config
        ``mask_paste`` and ``mask_threshold``.

    Returns
    -------
    str
        (D, H, W), bool.
    """
    cells = 2 * config.mask_pool_size
    if config.mask_paste == "plus_one":
        masks, cells = g.Pad(masks, [0, 1, 1, 0, 1, 1]), cells + 2
    pixels = [g.arange(g.cut(image_shape, axis, axis + 1, 0), np.float64) for axis in (0, 1)]
    # One detection more than there are, which is cut off again: Scan wants at least one
    masks = g.Concat(masks, np.zeros((1, cells, cells), np.float32), axis=0)
    boxes = g.Concat(g.cast(boxes, np.float64), np.zeros((1, 4)), axis=0)

    def paste(mask: Tensor, box: Tensor) -> Tensor:
        rows, in_rows = _axis(g, g.Gather(box, 0), g.Gather(box, 2), pixels[0], cells, config)
        columns, in_columns = _axis(g, g.Gather(box, 1), g.Gather(box, 3), pixels[1], cells, config)
        patch = g.MatMul(g.MatMul(rows, mask), g.Transpose(columns, perm=[1, 0]))
        if config.mask_paste == "resize_zero":
            patch = g.Max(patch, g.ReduceMin(mask, keepdims=0))
        inside = g.And(g.Unsqueeze(in_rows, [1]), g.Unsqueeze(in_columns, [0]))
        return str(g.And(inside, g.GreaterOrEqual(patch, float(config.mask_threshold))))

    pasted = g.for_each(paste, [(masks, np.float32), (boxes, np.float64)], bool)
    return str(g.Slice(pasted, [0], [-1], [0], name="masks"))


def _axis(g: Graph, a: Tensor, b: Tensor, pixels: Tensor, cells: int, config: Config) -> tuple[Tensor, Tensor]:
    """Return the weights of a mask's ``cells`` over [a, b) in each pixel, (pixels, cells), and which are painted.

    In float64 up to the weights, like ``detections._paste_axis``, which lists the methods.

    Parameters
    ----------
    g : Graph
    a, b : str
        Scalars, where the box begins and ends.
    pixels : str
        0, 1 ..., one for each pixel of the image along this axis.
    cells : int
        With the border of "plus_one".
    config : Config
        ``mask_paste``.
    """
    method = config.mask_paste
    if method == "grid_sample":
        start, stop = g.Sub(g.Floor(a), np.float64(1)), g.Add(g.Ceil(b), np.float64(1))
    elif method == "plus_one":
        inner = np.float64(cells - 2)
        centre = g.Div(g.Add(a, b), np.float64(2))
        half = g.Div(g.Mul(g.Div(g.Sub(b, a), np.float64(2)), np.float64(cells)), inner)
        a, b = (g.cast(g.cast(side, np.int64), np.float64) for side in (g.Sub(centre, half), g.Add(centre, half)))
        b = g.Max(g.Add(b, np.float64(1)), g.Add(a, np.float64(1)))
        start, stop = a, b
    else:
        a, b = g.Round(a), g.Round(b)
        start, stop = a, b
    some = g.Greater(b, a)
    inside = g.And(g.And(g.GreaterOrEqual(pixels, start), g.Less(pixels, stop)), some)
    side = g.Where(some, g.Sub(b, a), np.float64(1))
    place = g.Sub(g.Mul(g.Div(g.Sub(g.Add(pixels, np.float64(0.5)), a), side), np.float64(cells)), np.float64(0.5))
    if method in ("resize", "plus_one"):
        place = g.Min(g.Max(place, np.float64(0)), np.float64(cells - 1))  # the edge is repeated
    # 1 - distance: the two cells that a place lies between share it, and beyond the mask there are none
    distance = g.Abs(g.Sub(g.Unsqueeze(place, [1]), np.arange(cells, dtype=np.float64)[None]))
    return g.cast(g.Relu(g.Sub(np.float64(1), distance)), np.float32), inside
