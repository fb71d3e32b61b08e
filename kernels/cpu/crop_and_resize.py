"""Crop and resize: four taps per output pixel, runs over the channels. See ``roi_align`` for who writes what."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import CropAndResizeCache, as_pair
from .machine.arguments import are_rois, is_float32, is_target
from .roi_align import _gather, _scatter, channel_parts, zeros


@njit(cache=True, parallel=True, error_model="numpy")
def _crop(image, box_index, iy, wy, in_y, ix, wx, in_x, outside, crops):
    for r in prange(crops.shape[0]):
        source = image[box_index[r]]
        for p in range(crops.shape[1]):
            for q in range(crops.shape[2]):
                out = crops[r, p, q]
                if in_y[r, p] and in_x[r, q]:
                    out[:] = 0
                    _gather(source, iy[r, p], wy[r, p], ix[r, q], wx[r, q], out)
                else:
                    out[:] = outside


@njit(cache=True, parallel=True, error_model="numpy")
def _crop_backward(dy, box_index, iy, wy, in_y, ix, wx, in_x, parts, dimage):
    channels = dimage.shape[3]
    for part in prange(parts):
        first, last = channels * part // parts, channels * (part + 1) // parts
        for r in range(dy.shape[0]):
            target = dimage[box_index[r]]
            for p in range(dy.shape[1]):
                for q in range(dy.shape[2]):
                    if in_y[r, p] and in_x[r, q]:
                        _scatter(dy[r, p, q, first:last], iy[r, p], wy[r, p], ix[r, q], wx[r, q], target, first)


def _axis_points(low: np.ndarray, high: np.ndarray, points: int, size: int) -> tuple[np.ndarray, ...]:
    """Return neighbours (R, points, 2), their weights, and which points (R, points) are inside, as the reference."""
    last = np.float32(size - 1)
    if points > 1:
        step = (high - low) * last / np.float32(points - 1)
        coordinate = (low * last)[:, None] + np.arange(points, dtype=np.float32) * step[:, None]
    else:
        coordinate = (np.float32(0.5) * (low + high) * last)[:, None]
    inside = (coordinate >= 0) & (coordinate <= last)
    coordinate = np.where(inside, coordinate, 0)
    lower, upper = np.floor(coordinate), np.ceil(coordinate)
    fraction = coordinate - lower
    return np.stack([lower, upper], axis=-1).astype(np.int64), np.stack([1 - fraction, fraction], axis=-1), inside


def _points(boxes: np.ndarray, bins: tuple[int, int], shape: tuple[int, ...]) -> tuple[Any, ...]:
    boxes = boxes.astype(np.float32)
    down = _axis_points(boxes[:, 0], boxes[:, 2], bins[0], shape[1])
    return *down, *_axis_points(boxes[:, 1], boxes[:, 3], bins[1], shape[2])


def crop_and_resize(
    image: np.ndarray,
    boxes: np.ndarray,
    box_index: np.ndarray,
    *,
    output_size: Any,
    extrapolation_value: float = 0.0,
) -> Any:
    """See ``mrcnn_np.ops.crop_and_resize.crop_and_resize``."""
    bins = as_pair(output_size)
    if not is_float32(image) or image.ndim != 4 or 0 in image.shape or bins is None:
        return NotImplemented
    if not are_rois(boxes, box_index, len(image)):
        return NotImplemented
    crops = np.empty((len(boxes), *bins, image.shape[3]), np.float32)
    source, outside = np.ascontiguousarray(image), np.float32(extrapolation_value)
    iy, wy, in_y, ix, wx, in_x = _points(boxes, bins, image.shape)
    _crop(source, box_index.astype(np.int64), iy, wy, in_y, ix, wx, in_x, outside, crops)
    return crops, CropAndResizeCache(image.shape, image.dtype, boxes, box_index, bins)


def crop_and_resize_backward(dy: np.ndarray, cache: CropAndResizeCache, *, into: np.ndarray | None = None) -> Any:
    """See ``mrcnn_np.ops.crop_and_resize.crop_and_resize_backward``."""
    shape, dtype, boxes, box_index, bins = cache
    if not is_float32(dy) or dtype != np.float32 or dy.shape != (len(boxes), *bins, shape[3]) or 0 in shape:
        return NotImplemented
    if not is_target(into, shape):
        return NotImplemented
    dimage, parts = zeros(shape) if into is None else into, channel_parts(shape[3])
    iy, wy, in_y, ix, wx, in_x = _points(boxes, bins, shape)
    _crop_backward(np.ascontiguousarray(dy), box_index.astype(np.int64), iy, wy, in_y, ix, wx, in_x, parts, dimage)
    return dimage
