"""Overlaps of boxes and their decoding: every thread computes one result, with the CPU's arithmetic.

See ``kernels.cpu.boxes``. Overlaps have the CPU's bits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..scalar import box_area, box_overlap, decode_axis
from .machine.arguments import is_float32
from .machine.device import SIMULATED, blocks_for, contiguous, cuda, empty, float32, kernel, launch

THREADS = 4 if SIMULATED else 256
COLUMNS, ROWS = (4, 2) if SIMULATED else (64, 4)  # overlaps of one block


@kernel("f4[:,::1]", "f4[:,::1]", "f4[:,::1]", name="iou")
def _iou(a, b, out):
    """Write the overlaps of a (A, 4) with b (B, 4).

    **Owns:** a thread, one of the (A, B) results, neighbours along B, so that they write whole lines of memory.
    **Shared:** nothing; a box is read through the cache by all who need it. **No race:** nobody reads a result.
    **Floor:** 4 bytes written for each result, 15 operations.
    """
    i = cuda.blockIdx.x * ROWS + cuda.threadIdx.y
    j = cuda.blockIdx.y * COLUMNS + cuda.threadIdx.x
    if i < out.shape[0] and j < out.shape[1]:
        y1, x1, y2, x2 = a[i, 0], a[i, 1], a[i, 2], a[i, 3]
        top, left, bottom, right = b[j, 0], b[j, 1], b[j, 2], b[j, 3]
        area, other = box_area(y1, x1, y2, x2), box_area(top, left, bottom, right)
        out[i, j] = box_overlap(y1, x1, y2, x2, area, top, left, bottom, right, other)


@kernel("f4[:,::1]", "f4[:,::1]", "f4", "f4", "f4", "f4", "f4", "f4[:,::1]", name="decode")
def _decode(deltas, anchors, std_y, std_x, std_h, std_w, limit, out):
    """Move and scale anchors by deltas, (N, 4) each.

    **Owns:** a thread, one box. **Shared:** nothing. **No race:** each writes its own. **Floor:** 48 bytes a box, 32
    read and 16 written.
    """
    i = cuda.grid(1)
    if i < out.shape[0]:
        y1, y2 = decode_axis(anchors[i, 0], anchors[i, 2], deltas[i, 0] * std_y, deltas[i, 2] * std_h, limit)
        x1, x2 = decode_axis(anchors[i, 1], anchors[i, 3], deltas[i, 1] * std_x, deltas[i, 3] * std_w, limit)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = y1, x1, y2, x2


def iou(a: Any, b: Any) -> Any:
    """See ``mrcnn_np.boxes.iou``."""
    if not is_float32(a, b) or a.ndim != 2 or b.ndim != 2 or a.shape[1] != 4 or b.shape[1] != 4:
        return NotImplemented
    out = empty((len(a), len(b)))
    blocks = blocks_for(len(a), ROWS), blocks_for(len(b), COLUMNS)
    launch(_iou, blocks, (COLUMNS, ROWS), contiguous(a), contiguous(b), out)
    return out


def decode_boxes(
    deltas: Any,
    anchors: Any,
    *,
    std: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    max_log_scale: float | None = math.log(1000 / 16),
) -> Any:
    """See ``mrcnn_np.boxes.decode_boxes``."""
    if not is_float32(deltas, anchors) or deltas.shape[-1:] != (4,) or anchors.shape[-1:] != (4,):
        return NotImplemented
    if np.shape(std) != (4,):
        return NotImplemented
    shape = np.broadcast_shapes(deltas.shape, anchors.shape)
    deltas, anchors = (contiguous(np.broadcast_to(x, shape)).reshape(-1, 4) for x in (deltas, anchors))
    out = empty(shape)
    limit = float32(math.inf if max_log_scale is None else max_log_scale)
    launch(_decode, blocks_for(len(deltas), THREADS), THREADS, deltas, anchors, *std, limit, out.reshape(-1, 4))
    return out
