"""Pasting masks: first which mask cells each row and column of the image reads, then only the pixels of the boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..scalar import PASTE_METHODS, ZERO, paste_span, paste_tap, product
from .machine.arguments import is_float32
from .machine.device import (
    SIMULATED,
    blocks_for,
    contiguous,
    cuda,
    empty,
    float32,
    is_device,
    kernel,
    launch,
    to_device,
    zeros,
)

THREADS = 4 if SIMULATED else 128
COLUMNS, ROWS = (4, 2) if SIMULATED else (64, 4)  # threads of a block that paints
ROWS_EACH = 2 if SIMULATED else 8  # rows of a thread
LARGEST = float(2**31)
INFINITY = np.float32(np.inf)


@kernel("f8[:,::1]", "i4", "i4", "i4", "i4", "i4", "i4[:,:,::1]", "i4[:,:,::1]", "f4[:,:,:,::1]")
def paste_axes(boxes, rows, columns, height, width, method, spans, cells, weights):
    """Write what each box (D, 4) paints on both axes of the image, and from which cells of its mask.

    ``spans`` (D, 2, 2): the first pixel, and how many. For each of these pixels ``cells`` (D, 2, max(H, W)) has the
    first of its two cells, and ``weights`` (.., 2) both weights. In float64, like the reference, for the coordinates
    decide which cells a pixel reads. A box that is not finite, or 2^31 pixels away, paints nothing.

    **Owns:** a thread, one pixel of an axis. **Shared:** nothing. **No race:** each writes its own. **Floor:** 12 bytes
    written for each.
    """
    d, axis, i = cuda.blockIdx.y, cuda.blockIdx.z, cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    cells_before, length = (rows, height) if axis == 0 else (columns, width)
    start, count = 0, 0
    if abs(boxes[d, axis]) < LARGEST and abs(boxes[d, axis + 2]) < LARGEST:  # not for NaN
        start, count, a, b, across = paste_span(boxes[d, axis], boxes[d, axis + 2], cells_before, length, method)
        if i < count:
            cell, fraction = paste_tap(start + i, a, b, across, method)
            cells[d, axis, i] = cell
            weights[d, axis, i, 0], weights[d, axis, i, 1] = float32(1.0 - fraction), float32(fraction)
    if i == 0:
        spans[d, axis, 0], spans[d, axis, 1] = start, count


@kernel("f4[:,:,::1]", "f4[::1]")
def smallest_of_masks(masks, smallest):
    """Write the smallest number of each mask (D, m, m), or NaN if there is one.

    **Owns:** a block, one mask. **Shared:** the smallest that each thread saw. **No race:** a thread writes its own
    entry, and after a barrier the first reads all. **Floor:** the masks read once.
    """
    parts = cuda.shared.array(THREADS, float32)
    d, t, least = cuda.blockIdx.x, cuda.threadIdx.x, INFINITY
    columns = masks.shape[2]
    for cell in range(t, masks.shape[1] * columns, THREADS):
        value = masks[d, cell // columns, cell % columns]
        if value != value or value < least:  # once NaN, ``least`` stays
            least = value
    parts[t] = least
    cuda.syncthreads()
    if t == 0:
        for other in range(THREADS):
            if parts[other] != parts[other] or parts[other] < least:
                least = parts[other]
        smallest[d] = least


@kernel("f4[:,:,::1]", "i4[:,:,::1]", "i4[:,:,::1]", "f4[:,:,:,::1]", "f4[::1]", "i4", "f4", "u1[:,:,::1]")
def paste_pixels(masks, spans, cells, weights, smallest, method, threshold, pasted):
    """Write 1 to the pixels of pasted (D, H, W) where the mask between its cells reaches the threshold.

    Interpolated across, then down, rounded after each product: the CPU's bits.

    **Owns:** a thread, every ``COLUMNS``-th column of a box, in ``ROWS_EACH`` of its rows, ``ROWS`` apart; neighbours
    own neighbours. **Shared:** nothing. **No race:** nobody reads a result. **Floor:** the image's pixels cleared, one
    byte each, before the kernel; those of the boxes written once. Four cells of the mask, from the cache, for each.
    """
    d, first_x = cuda.blockIdx.y, cuda.threadIdx.x
    rows, columns = masks.shape[1], masks.shape[2]
    border = 1 if method == 2 else 0
    top, painted_y, left, painted_x = spans[d, 0, 0], spans[d, 0, 1], spans[d, 1, 0], spans[d, 1, 1]
    # "resize_zero" does not fall below the smallest value; NaN is below everything
    lowest = smallest[d] if method == 3 else ZERO
    if lowest != lowest:
        painted_y = 0
    everywhere = method == 3 and lowest >= threshold
    first_y = cuda.blockIdx.x * ROWS * ROWS_EACH + cuda.threadIdx.y
    for y in range(first_y, min(first_y + ROWS * ROWS_EACH, painted_y), ROWS):
        cell_y, wa, wb = cells[d, 0, y] - border, weights[d, 0, y, 0], weights[d, 0, y, 1]
        for x in range(first_x, painted_x, COLUMNS):
            cell_x, wl, wr = cells[d, 1, x] - border, weights[d, 1, x, 0], weights[d, 1, x, 1]
            above, below = ZERO, ZERO
            has_left, has_right = 0 <= cell_x < columns, -1 <= cell_x < columns - 1
            if 0 <= cell_y < rows:
                first = masks[d, cell_y, cell_x] if has_left else ZERO
                second = masks[d, cell_y, cell_x + 1] if has_right else ZERO
                above = product(first, wl) + product(second, wr)
            if -1 <= cell_y < rows - 1:
                first = masks[d, cell_y + 1, cell_x] if has_left else ZERO
                second = masks[d, cell_y + 1, cell_x + 1] if has_right else ZERO
                below = product(first, wl) + product(second, wr)
            reached = everywhere or product(above, wa) + product(below, wb) >= threshold
            pasted[d, top + y, left + x] = 1 if reached else 0


def paste_into_boxes(masks: Any, boxes: Any, image_shape: tuple[int, int], *, method: str, threshold: float) -> Any:
    """See ``mrcnn_np.detections.paste_into_boxes``. The boxes may lie on the host: they are copied."""
    if not is_float32(masks) or masks.ndim != 3 or 0 in masks.shape[1:] or method not in PASTE_METHODS:
        return NotImplemented
    if not is_device(boxes):
        boxes = to_device(np.asarray(boxes, np.float64))
    if boxes.shape != (len(masks), 4):
        return NotImplemented
    masks, corners = contiguous(masks), contiguous(boxes.astype(np.float64, copy=False))
    (height, width), number, count = image_shape, PASTE_METHODS.index(method), len(masks)
    longest = max(height, width)
    spans, smallest = empty((count, 2, 2), np.int32), empty(count)
    cells, weights = empty((count, 2, longest), np.int32), empty((count, 2, longest, 2))
    pasted = zeros((count, height, width), np.bool_)  # not touched where nothing is painted
    blocks, bands = (blocks_for(longest, THREADS), count, 2), (blocks_for(height, ROWS * ROWS_EACH), count)
    launch(paste_axes, blocks, THREADS, corners, *masks.shape[1:], height, width, number, spans, cells, weights)
    if method == "resize_zero":
        launch(smallest_of_masks, count, THREADS, masks, smallest)
    launch(
        paste_pixels, bands, (COLUMNS, ROWS), masks, spans, cells, weights, smallest, number, threshold,
        pasted.view(np.uint8),
    )  # fmt: skip
    return pasted
