"""Transposed convolution on the CPU: ``direct`` the other way round. Float32 only; anything else is left to NumPy.

Outputs that lie ``stride`` apart are reached by the same taps, so each of the stride^2 *phases* of the output is a
convolution of x with its share of the taps. Where all phases have equally many, as with 2x2 and stride 2, they are one
product, whose columns are phases and channels: x is read once, and the results are written where they belong.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...contract import TransposedConvCache
from ..activation import masked_sum
from ..conv import NO_FLOOR, _correlate, _fits, _one_stride, _out_shape, _plain, correlate, scatter, weight_gradient
from ..machine import memory
from ..machine.arguments import is_float32
from ..machine.simd import NR
from . import direct


def conv2d_transpose(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *, stride: Any = 2, activate: bool = False
) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_transpose``."""
    step, floor = _one_stride(stride), np.float32(0) if activate else NO_FLOOR
    if not (_plain(x, w, b) and step and _fits(x, w, b, ((w.shape[0],) * 2, (w.shape[1],) * 2), 1)):
        return NotImplemented
    (_, height, width, _), (kh, kw, _, c_out) = x.shape, w.shape
    shape = (len(x), (height - 1) * step + kh, (width - 1) * step + kw, c_out)
    if kh % step == kw % step == c_out % NR == 0:
        y = _all_phases(np.ascontiguousarray(x), w, shape, step, b, floor)
    else:
        y = scatter(np.ascontiguousarray(x), w.swapaxes(2, 3), shape, step, 0, 0, shift=b, floor=floor)
    return y, TransposedConvCache(x, w, b is not None, y if activate else None, (step, step))


def _all_phases(
    x: np.ndarray, w: np.ndarray, shape: tuple[int, ...], step: int, shift: np.ndarray | None, floor: np.float32
) -> np.ndarray:
    """Compute an output of ``shape`` as one product."""
    kh, kw, c_in, c_out = w.shape
    down, across = kh // step, kw // step  # taps of a phase
    y = memory.empty(shape)
    columns = w.reshape(down, step, across, step, c_in, c_out)[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    packed = direct.pack(np.ascontiguousarray(columns).reshape(down, across * c_in, step * step * c_out))
    channels = np.arange(0, c_out, NR)
    phases = np.add.outer(np.arange(step) * shape[2], np.arange(step)).reshape(-1, 1) * c_out
    return _correlate(
        x, packed, across, (phases + channels).reshape(-1), np.tile(channels, step * step),
        (shape[1] // step, shape[2] // step), 1, down - 1, across - 1, y,
        (0, math.prod(shape[1:]), step * shape[2] * c_out, step * c_out), None, shift, None, floor,
    )  # fmt: skip


def conv2d_transpose_backward(dy: np.ndarray, cache: TransposedConvCache) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_transpose_backward``."""
    x, w, has_bias, y, (step, across) = cache
    none = ((0, 0), (0, 0))
    if not (_plain(dy, x, w) and step == across and dy.ndim == 4):
        return NotImplemented
    if dy.shape[3] != w.shape[3] or x.shape != _out_shape(dy, w.swapaxes(2, 3), step, none):
        return NotImplemented
    dy, db = np.ascontiguousarray(dy), None
    if y is not None:
        if not is_float32(y) or y.shape != dy.shape:
            return NotImplemented
        dy, db = masked_sum(dy, y)
    elif has_bias:
        db = direct.channel_sum(dy.reshape(-1, dy.shape[3]))
    # the kernel as it stands, but its channels swapped
    packed = direct.pack_swapped(np.ascontiguousarray(w), np.arange(w.shape[0]), np.arange(w.shape[1]))
    dx = correlate(dy, packed, w.shape[1], w.shape[2], x.shape[1:3], step, 0, 0)
    dw = weight_gradient(dy, np.ascontiguousarray(x), w.shape[0], w.shape[1], step, none)
    return dx, np.ascontiguousarray(dw.swapaxes(2, 3)), db if has_bias else None
