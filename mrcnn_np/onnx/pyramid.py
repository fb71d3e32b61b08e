"""Which level a region is read from, and RoIAlign or RoIPool there, as ``mrcnn_np/pyramid.py``."""

from __future__ import annotations

import numpy as np

from ..config import Config
from .boxes import corners
from .graph import Graph, Tensor

LEVELS = (2, 3, 4, 5)


def roi_features(g: Graph, pyramid: list[Tensor], rois: Tensor, size: int, canvas: Tensor, config: Config) -> Tensor:
    """Read ``size`` x ``size`` features of each RoI from the level of P2..P5 that fits it, or from the one map.

    Parameters
    ----------
    g : Graph
    pyramid : list of str
        P2..P6, or the one map, (1, C, H_l, W_l).
    rois : str
        (R, 4), molded pixels.
    size : int
        Bins along one side.
    canvas : str
        (2,), int64, size of the molded image.
    config : Config

    Returns
    -------
    str
        (R, C, size, size), in the order of ``rois``.
    """
    boxes = measured = rois
    if config.roi_method == "crop_and_resize":
        sides = g.cast(g.Concat(canvas, canvas, axis=0), np.float32)
        boxes = g.Div(g.Sub(rois, np.array([0, 0, 1, 1], np.float32)), g.Max(g.Sub(sides, 1.0), 1.0))
        measured = g.Mul(boxes, sides)
    if len(pyramid) == 1:
        return _read(g, pyramid[0], boxes, size, config.anchor_strides[0], config)
    levels = roi_level(g, measured, config)
    read, order = [], []
    for level, feature, stride in zip(LEVELS, pyramid, config.anchor_strides):
        members = g.Squeeze(g.NonZero(g.Equal(levels, float(level))), [0])
        read.append(_read(g, feature, g.Gather(boxes, members), size, stride, config))
        order.append(members)
    # Row i of what was read, level by level, belongs to RoI order[i]: place[order[i]] = i
    order_of_all = g.Concat(*order, axis=0)
    numbers = g.arange(g.side(rois, 0))
    place = g.ScatterElements(numbers, order_of_all, numbers, axis=0)
    return str(g.Gather(g.Concat(*read, axis=0), place))


def _read(g: Graph, feature: Tensor, boxes: Tensor, size: int, stride: int, config: Config) -> Tensor:
    """Read all boxes from one map, by ``roi_method``."""
    if config.roi_method == "crop_and_resize":
        return _crop_and_resize(g, feature, boxes, size)
    if config.roi_method == "roi_pool":
        return _roi_pool(g, feature, boxes, size, stride)
    return _roi_align(g, feature, boxes, size, stride, config)


def roi_level(g: Graph, rois: Tensor, config: Config) -> Tensor:
    """Return the level of each RoI as a whole number in float32, (R,).

    The logarithm is taken in float64 and rounded to float32, where NumPy's float32 one has the same value.

    Parameters
    ----------
    g : Graph
    rois : str
        (R, 4).
    config : Config
    """
    first, second = corners(g, rois)
    sides = g.Max(g.Sub(second, first), 0.0)
    area = g.Squeeze(g.Mul(g.cut(sides, 0, 1, 1), g.cut(sides, 1, 2, 1)), [1])
    ratio = g.Max(g.Div(g.Sqrt(area), float(config.roi_canonical_size)), 1e-30)
    log2 = g.cast(g.Div(g.Log(g.cast(ratio, np.float64)), np.log(np.float64(2))), np.float32)
    canonical = float(config.roi_canonical_level)
    if config.roi_level_rounding == "floor":
        level = g.Floor(g.Add(g.Add(log2, canonical), 1e-6))
    else:
        level = g.Add(g.Round(log2), canonical)
    clipped: Tensor = g.Min(g.Max(level, float(LEVELS[0])), float(LEVELS[-1]))
    return clipped


def _roi_align(g: Graph, feature: Tensor, rois: Tensor, size: int, stride: int, config: Config) -> Tensor:
    """Add RoiAlign. A maximum of samples is taken by MaxPool over a finer grid with one sample a bin.

    The maximum of the node itself is that of the weighted neighbours of all samples, which is something else.
    """
    samples, fine = config.roi_sampling_ratio, 1
    if config.roi_reduce == "max":
        samples, fine = 1, config.roi_sampling_ratio
    read = g.RoiAlign(
        feature,
        g.Gather(rois, [1, 0, 3, 2], axis=1),  # x1 y1 x2 y2
        g.zeros(g.side(rois, 0), np.int64),
        output_height=size * fine,
        output_width=size * fine,
        sampling_ratio=samples,
        spatial_scale=1.0 / stride,
        coordinate_transformation_mode="half_pixel" if config.roi_aligned else "output_half_pixel",
        mode="avg",
    )
    return str(read if fine == 1 else g.MaxPool(read, kernel_shape=[fine] * 2, strides=[fine] * 2))


def _roi_pool(g: Graph, feature: Tensor, rois: Tensor, size: int, stride: int) -> Tensor:
    """Add MaxRoiPool, whose rounding ONNX leaves open: that of onnxruntime is Caffe's, as of ours."""
    image = g.zeros(g.Concat(g.side(rois, 0), [1], axis=0))
    rois = g.Concat(image, g.Gather(rois, [1, 0, 3, 2], axis=1), axis=1)  # index, x1 y1 x2 y2
    return str(g.MaxRoiPool(feature, rois, pooled_shape=[size, size], spatial_scale=1.0 / stride))


def _crop_and_resize(g: Graph, feature: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Sample normalised boxes at ``size`` x ``size`` points: GridSample, which reads all of them as one tall map."""
    shape = g.Shape(feature, start=2, end=4)
    first, second = corners(g, boxes)
    places, inside = [], []
    for axis in (0, 1):
        last = g.cast(g.Sub(g.cut(shape, axis, axis + 1, 0), 1), np.float32)
        low, high = g.cut(first, axis, axis + 1, 1), g.cut(second, axis, axis + 1, 1)  # (R, 1)
        if size > 1:
            step = g.Div(g.Mul(g.Sub(high, low), last), float(size - 1))
            place = g.Add(g.Mul(low, last), g.Mul(step, np.arange(size, dtype=np.float32)[None]))
        else:
            place = g.Mul(g.Mul(g.Add(low, high), 0.5), last)
        within = g.And(g.GreaterOrEqual(place, 0.0), g.LessOrEqual(place, last))
        # From pixels to -1 .. 1, the centres of the first and the last pixel
        place = g.Where(within, place, 0.0)
        places.append(g.Sub(g.Div(g.Mul(place, 2.0), g.Max(last, 1.0)), 1.0))
        inside.append(within)
    grid_shape = g.Concat(g.side(boxes, 0), [size, size], axis=0)
    y, x = g.Expand(g.Unsqueeze(places[0], [2]), grid_shape), g.Expand(g.Unsqueeze(places[1], [1]), grid_shape)
    grid = g.Concat(g.Unsqueeze(x, [3]), g.Unsqueeze(y, [3]), axis=3)  # (R, size, size, 2)
    points = g.Reshape(grid, g.Concat([1], g.Mul(g.side(boxes, 0), size), [size, 2], axis=0), allowzero=1)
    read = g.GridSample(feature, points, align_corners=1)  # (1, C, R size, size)
    split = g.Concat(g.side(feature, 1), grid_shape, axis=0)
    read = g.Transpose(g.Reshape(read, split, allowzero=1), perm=[1, 0, 2, 3])
    within = g.And(g.Unsqueeze(inside[0], [2]), g.Unsqueeze(inside[1], [1]))  # (R, size, size)
    return str(g.Where(g.Unsqueeze(within, [1]), read, 0.0))
