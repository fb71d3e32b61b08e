"""Crop and resize: four taps per output pixel, runs over the channels. See ``roi_align`` for who writes what."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import CropAndResizeCache, as_pair
from .machine.arguments import are_rois, is_float32, is_target
from .machine.threads import shares
from .machine.turns import new_turns, take
from .roi_align import band_of, gather, row_bands, scatter, zeros


@njit(cache=True, parallel=True, error_model="numpy")
def _crop(image, box_index, iy, wy, ny, ix, wx, nx, outside, crops):
    for r in prange(crops.shape[0]):
        gather(image[box_index[r]], iy[r], wy[r], ny[r], ix[r], wx[r], nx[r], crops[r])
        for p in range(crops.shape[1]):
            for q in range(crops.shape[2]):
                if ny[r, p] == 0 or nx[r, q] == 0:
                    crops[r, p, q] = outside


@njit(cache=True, parallel=True, error_model="numpy")
def _crop_backward(dy, box_index, iy, wy, ny, ix, wx, nx, bands, threads, dimage):
    images, height = dimage.shape[:2]
    turns = new_turns()
    for _thread in prange(threads):
        task = take(turns)
        while task < images * bands:
            n, band = task // bands, band_of(task % bands, bands, height)
            for r in range(dy.shape[0]):
                if box_index[r] == n:
                    scatter(dy[r], iy[r], wy[r], ny[r], ix[r], wx[r], nx[r], dimage[n], band)
            task = take(turns)


def _axis_points(low: np.ndarray, high: np.ndarray, points: int, size: int) -> tuple[np.ndarray, ...]:
    """Return neighbours (R, points, 2) as the reference's, their weights, and how many count: 2, outside none."""
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
    taps, weights = np.stack([lower, upper], axis=-1).astype(np.int64), np.stack([1 - fraction, fraction], axis=-1)
    return taps, weights, 2 * inside.astype(np.int64)


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
    _crop(source, box_index.astype(np.int64), *_points(boxes, bins, image.shape), outside, crops)
    return crops, CropAndResizeCache(image.shape, image.dtype, boxes, box_index, bins)


def crop_and_resize_backward(dy: np.ndarray, cache: CropAndResizeCache, *, into: np.ndarray | None = None) -> Any:
    """See ``mrcnn_np.ops.crop_and_resize.crop_and_resize_backward``."""
    shape, dtype, boxes, box_index, bins = cache
    if not is_float32(dy) or dtype != np.float32 or dy.shape != (len(boxes), *bins, shape[3]) or 0 in shape:
        return NotImplemented
    if not is_target(into, shape):
        return NotImplemented
    dimage, threads = zeros(shape) if into is None else into, shares()
    dy, index, bands = np.ascontiguousarray(dy), box_index.astype(np.int64), row_bands(*shape[:2], threads)
    _crop_backward(dy, index, *_points(boxes, bins, shape), bands, threads, dimage)
    return dimage
