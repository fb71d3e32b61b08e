"""Crop and resize: a thread reads the four taps of one point. See ``regions.gather`` for the backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import CropAndResizeCache, as_pair
from ..scalar import ONE, ZERO, crop_axis, crop_taps, scalar
from .machine.arguments import is_float32
from .machine.device import SIMULATED, blocks_for, contiguous, cuda, empty, float32, kernel, launch
from .regions import are_rois, is_target, plain
from .regions.gather import gather, launch_gather

ACROSS, POINTS = (2, 2) if SIMULATED else (64, 4)  # a block: channels, points
THREADS = 4 if SIMULATED else 128
NAN, INFINITY = np.float32(np.nan), np.float32(np.inf)


@kernel("f4[:,::1]", "i4[::1]", "i4", "i4", "i4", "i4", "i4", "f4[:,:,::1]", "i4[:,::1]")
def crop_axes(boxes, map_of, ph, pw, images, height, width, axes, reach):
    """Write first point and step of each box on both axes, (R, 2, 3), and the pixels it reaches, (R, 5).

    The third number is 1, or -1 for a box that cannot be read. ``reach`` is the map, first and last row, first and last
    column. ``map_of`` (R,) is the number of each box's image.

    **Owns:** a thread, one box. **Shared:** nothing. **No race:** each writes its own. **Floor:** 64 bytes for each.
    """
    r = cuda.grid(1)
    if r >= boxes.shape[0]:
        return
    reach[r, 0] = map_of[r]
    readable = 0 <= map_of[r] < images
    for axis in range(2):
        points, size = (ph, height) if axis == 0 else (pw, width)
        origin, step = crop_axis(boxes[r, axis], boxes[r, axis + 2], points, size)
        end = origin + float32(points - 1) * step
        low, high = max(min(origin, end), ZERO), min(max(origin, end), float32(size - 1))
        readable = readable and abs(origin) < INFINITY and abs(step) < INFINITY
        axes[r, axis, 0], axes[r, axis, 1], axes[r, axis, 2] = origin, step, ONE
        if readable and low <= high + ONE:
            reach[r, 1 + 2 * axis], reach[r, 2 + 2 * axis] = int(low) - 1, int(high) + 2  # one more, for rounding
        else:
            reach[r, 1 + 2 * axis], reach[r, 2 + 2 * axis] = size, -1
    if not readable:
        axes[r, 0, 2], axes[r, 1, 2] = -ONE, -ONE


@kernel("f4[:,:,:,::1]", "i4[::1]", "f4[:,:,::1]", "f4", "f4[:,:,:,::1]")
def crop_points(image, map_of, axes, outside, crops):
    """Write each point of each box, crops (R, ph, pw, C), or ``outside`` for points outside their image.

    **Owns:** a thread, one channel of one point (and further ones, ``ACROSS`` apart), so that neighbours read and write
    neighbours. **Shared:** nothing. **No race:** nobody reads a result. **Floor:** the pixels that are touched read
    once, crops written once.
    """
    number = cuda.blockIdx.x * POINTS + cuda.threadIdx.y
    count, ph, pw, channels = crops.shape
    if number >= count * ph * pw:
        return
    r, p, q = number // (ph * pw), number // pw % ph, number % pw
    top, bottom, fy, inside_y = crop_taps(axes[r, 0, 0], axes[r, 0, 1], p, image.shape[1])
    left, right, fx, inside_x = crop_taps(axes[r, 1, 0], axes[r, 1, 1], q, image.shape[2])
    readable = axes[r, 0, 2] > ZERO
    for c in range(cuda.threadIdx.x, channels, ACROSS):
        value = outside if readable else NAN
        if readable and inside_y and inside_x:
            above = (ONE - fx) * image[map_of[r], top, left, c] + fx * image[map_of[r], top, right, c]
            below = (ONE - fx) * image[map_of[r], bottom, left, c] + fx * image[map_of[r], bottom, right, c]
            value = (ONE - fy) * above + fy * below
        crops[r, p, q, c] = value


@scalar
def point_weight(axes, r, axis, number, points, size, pixel):
    """Return the weight of a pixel of one axis in a point of box r."""
    low, high, fraction, inside = crop_taps(axes[r, axis, 0], axes[r, axis, 1], number, size)
    weight = ZERO
    if inside and low == pixel:
        weight += ONE - fraction
    if inside and high == pixel:
        weight += fraction
    return weight


_backward = gather("crop_and_resize_backward", point_weight)


def _axes(boxes: Any, box_index: Any, shape: tuple[int, ...], size: tuple[int, int]) -> Any:
    """Return the number of each box's image, and what ``crop_axes`` writes."""
    map_of, axes, reach = plain(box_index, np.int32), empty((len(boxes), 2, 3)), empty((len(boxes), 5), np.int32)
    blocks = blocks_for(len(boxes), THREADS)
    launch(crop_axes, blocks, THREADS, plain(boxes, np.float32), map_of, *size, *shape[:3], axes, reach)
    return map_of, axes, reach


def crop_and_resize(
    image: Any,
    boxes: Any,
    box_index: Any,
    *,
    output_size: Any,
    extrapolation_value: float = 0.0,
) -> Any:
    """See ``mrcnn_np.ops.crop_and_resize.crop_and_resize``."""
    size = as_pair(output_size)
    if not is_float32(image) or image.ndim != 4 or 0 in image.shape[1:3] or size is None:
        return NotImplemented
    if not are_rois(boxes, box_index):
        return NotImplemented
    crops = empty((len(boxes), *size, image.shape[3]))
    map_of, axes, _ = _axes(boxes, box_index, image.shape, size)
    blocks = blocks_for(len(boxes) * size[0] * size[1], POINTS)
    launch(crop_points, blocks, (ACROSS, POINTS), contiguous(image), map_of, axes, extrapolation_value, crops)
    return crops, CropAndResizeCache(image.shape, image.dtype, boxes, box_index, size)


def crop_and_resize_backward(dy: Any, cache: CropAndResizeCache, *, into: Any = None) -> Any:
    """See ``mrcnn_np.ops.crop_and_resize.crop_and_resize_backward``."""
    shape, dtype, boxes, box_index, size = cache
    if not is_float32(dy) or dtype != np.float32 or dy.shape != (len(boxes), *size, shape[3]):
        return NotImplemented
    if not are_rois(boxes, box_index) or not is_target(into, shape):
        return NotImplemented
    _, axes, reach = _axes(boxes, box_index, shape, size)
    return launch_gather(_backward, contiguous(dy), axes, reach, shape, into)
