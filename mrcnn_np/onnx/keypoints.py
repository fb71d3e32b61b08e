"""The keypoint head, and where its maps are highest, as ``mrcnn_np/keypoints/head.py`` and ``peaks.py``."""

from __future__ import annotations

import numpy as np

from ..config import Config
from ..keypoints.head import ENLARGED
from ..keypoints.peaks import CUBIC
from .boxes import corners
from .graph import Graph, Operand, Tensor
from .layers import TRANSPOSED, conv_bn, to_nhwc


def keypoint_head(g: Graph, features: Tensor, config: Config) -> Tensor:
    """Predict one map per kind of keypoint for each RoI: ``keypoint_logits``, (R, 56, 56, K).

    Parameters
    ----------
    g : Graph
    features : str
        (R, C, 14, 14).
    config : Config
    """
    x = features
    for i in range(1, config.keypoint_head_convs + 1):
        x = conv_bn(g, x, f"keypoint_head.conv{i}", None, config, padding=1)
    weights = g.parameter("keypoint_head.deconv.w", TRANSPOSED), g.parameter("keypoint_head.deconv.b")
    x = g.ConvTranspose(x, *weights, name="keypoint_head.deconv", strides=[2, 2], pads=[1, 1, 1, 1])
    # Samples lie at quarters of a cell, which float32 has exactly
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    x = g.Resize(x, "", np.array([1, 1, 2, 2], np.float32), **how)
    return to_nhwc(g, x, name="keypoint_logits")


def heatmap_peaks(g: Graph, logits: Tensor, boxes: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Find the highest place of each map; ``keypoints.peaks`` lists the methods.

    Parameters
    ----------
    g : Graph
    logits : str
        (D, s, s, K).
    boxes : str
        (D, 4), float32, pixels.
    config : Config
        ``keypoint_decode``.

    Returns
    -------
    points : str
        (D, K, 2), ``(y, x)`` in pixels, in the frame of the boxes.
    scores : str
        (D, K).
    """
    size = ENLARGED * config.keypoint_pool_size
    # One detection more than there are, which is cut off again: Scan wants at least one
    maps = g.Transpose(logits, perm=[0, 3, 1, 2])
    maps = g.Concat(maps, np.zeros((1, config.keypoints, size, size), np.float32), axis=0)
    first, second = corners(g, g.Concat(boxes, np.zeros((1, 4), np.float32), axis=0))
    sides = g.Max(g.Sub(second, first), 1.0)  # (D, 2)
    if config.keypoint_decode == "bicubic":
        grids = g.Ceil(sides)
        peaks = _enlarged_peaks(g, maps, grids, size)
        cells = g.cut(peaks, 0, 2, 2)
    else:
        grids = float(size)
        flat = g.Reshape(maps, [0, 0, -1])  # (D, K, s s)
        peaks = _highest(g, flat, size)
        cells = g.cut(peaks, 0, 2, 2)
        if config.keypoint_decode == "quarter" and size > 2:
            cells = g.Add(cells, g.Mul(_slopes(g, flat, cells, size), 0.25))
    side = g.cast(g.Div(g.cast(sides, np.float64), g.cast(grids, np.float64)), np.float32)
    points = g.Add(g.Unsqueeze(first, [1]), g.Mul(g.Add(cells, 0.5), g.Unsqueeze(side, [1])))
    scores = g.Squeeze(g.cut(peaks, 2, 3, 2), [2])
    return g.Slice(points, [0], [-1], [0]), g.Slice(scores, [0], [-1], [0])


def _highest(g: Graph, flat: Tensor, columns: Operand) -> Tensor:
    """Return row, column and height of the highest cell, the first of equals: (..., 3), float32.

    Parameters
    ----------
    g : Graph
    flat : str
        (..., rows * columns).
    columns : int, or str of shape (1,), int64
    """
    best = g.ArgMax(flat, axis=-1)
    row = g.Div(best, columns)
    cell = (g.cast(x, np.float32) for x in (row, g.Sub(best, g.Mul(row, columns))))
    return str(g.Concat(*cell, g.ReduceMax(flat, axes=[-1]), axis=-1))


def _slopes(g: Graph, flat: Tensor, cells: Tensor, size: int) -> Tensor:
    """Return 1 where the next cell along an axis is higher than the one before, -1 where it is lower, (D, K, 2).

    Parameters
    ----------
    g : Graph
    flat : str
        (D, K, s s), s at least 3.
    cells : str
        (D, K, 2), float32.
    size : int
        s.
    """
    last = float(size - 1)
    inner = g.Min(g.Max(cells, 1.0), last - 1)
    row, column = g.cut(cells, 0, 1, 2), g.cut(cells, 1, 2, 2)
    inner_row, inner_column = g.cut(inner, 0, 1, 2), g.cut(inner, 1, 2, 2)

    def height(y: Tensor, x: Tensor) -> Tensor:
        return str(g.GatherElements(flat, g.cast(g.Add(g.Mul(y, float(size)), x), np.int64), axis=2))

    along_y = g.Sub(height(g.Add(inner_row, 1.0), column), height(g.Sub(inner_row, 1.0), column))
    along_x = g.Sub(height(row, g.Add(inner_column, 1.0)), height(row, g.Sub(inner_column, 1.0)))
    slopes = g.Sign(g.Concat(along_y, along_x, axis=2))
    within = g.And(g.Greater(cells, 0.0), g.Less(cells, last))  # the outermost cells have one neighbour only
    return str(g.Where(within, slopes, 0.0))


def _enlarged_peaks(g: Graph, maps: Tensor, grids: Tensor, size: int) -> Tensor:
    """Enlarge the maps of each box to its own size, and return row, column and height of the highest, (D, K, 3).

    Parameters
    ----------
    g : Graph
    maps : str
        (D, K, s, s).
    grids : str
        (D, 2), float32, whole numbers.
    size : int
        s.
    """
    # The kernel reaches two cells beyond the first and last one, whose values go on there
    maps = g.Pad(maps, [0, 0, 2, 2, 0, 0, 2, 2], mode="edge")

    def peaks(own: Tensor, grid: Tensor) -> Tensor:
        sides = g.cast(grid, np.int64)
        rows, columns = g.cut(sides, 0, 1, 0), g.cut(sides, 1, 2, 0)
        down, across = _cubic_weights(g, size, rows), g.Transpose(_cubic_weights(g, size, columns), perm=[1, 0])
        enlarged = g.MatMul(g.MatMul(down, own), across)  # (K, rows, columns)
        return _highest(g, g.Reshape(enlarged, [0, -1]), columns)

    return g.for_each(peaks, [(maps, np.float32), (grids, np.float32)], np.float32)


def _cubic_weights(g: Graph, n: int, m: Tensor) -> Tensor:
    """Return the weights of cells -2 to ``n`` + 1 in each of ``m`` new ones, (m, n + 4): ``peaks.cubic_weights``.

    Parameters
    ----------
    g : Graph
    n : int
    m : str
        (1,), int64.
    """
    half, a = np.float64(0.5), np.float64(CUBIC)
    scale = g.Div(np.float64(n), g.cast(m, np.float64))
    place = g.Sub(g.Mul(g.Add(g.arange(m, np.float64), half), scale), half)
    t = g.Abs(g.Sub(g.Unsqueeze(place, [1]), np.arange(-2, n + 2, dtype=np.float64)[None]))
    near = g.Add(g.Mul(g.Sub(g.Mul(t, a + 2), a + 3), g.Mul(t, t)), np.float64(1))
    far = g.Sub(g.Mul(g.Add(g.Mul(g.Sub(g.Mul(t, a), 5 * a), t), 8 * a), t), 4 * a)
    far = g.Where(g.Less(t, np.float64(2)), far, np.float64(0))
    return g.cast(g.Where(g.LessOrEqual(t, np.float64(1)), near, far), np.float32)
