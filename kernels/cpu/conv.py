"""Convolutions on the CPU: which of the kernels takes which case. Float32 only; anything else is left to NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import ConvCache, Sides, TransposedConvCache, as_padding, as_pair
from .activation import masked_sum
from .convolution import (
    direct,
    direct_loops,
    few_channels,
    grouped,
    stem,
    transposed,
    winograd,
    winograd_strided,
    winograd_weights,
)
from .linear import sum_rows
from .machine.arguments import can_compute, is_float32
from .machine.simd import NR, VL


def suits_winograd(shape: tuple[int, ...], w: np.ndarray, stride: tuple[int, int], padding: Any, groups: int) -> bool:
    """3x3, stride 1, one pixel of padding, whole vectors of channels, and enough tiles to fill the matrix products."""
    return (
        w.shape[:2] == (3, 3)
        and stride == (1, 1)
        and padding == ((1, 1), (1, 1))
        and groups == 1
        and w.shape[2] % VL == 0
        and w.shape[3] % VL == 0
        and w.shape[2] >= 32
        and shape[0] * shape[1] * shape[2] >= 256
    )


def one_stride(stride: Any) -> int:
    """Return the stride if it is the same both ways, else 0."""
    pair = as_pair(stride)
    return pair[0] if pair is not None and pair[0] == pair[1] else 0


def fits(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, padding: Sides, groups: int) -> bool:
    """Tell whether the arguments make sense; where they do not, the reference has the error message."""
    if x.ndim != 4 or w.ndim != 4 or (b is not None and b.shape != w.shape[3:]):
        return False
    padded = (x.shape[1] + sum(padding[0]), x.shape[2] + sum(padding[1]))
    good = groups >= 1 and x.shape[3] == w.shape[2] * groups and w.shape[3] % groups == 0
    return good and w.shape[0] <= padded[0] and w.shape[1] <= padded[1]


def out_shape(x: np.ndarray, w: np.ndarray, step: int, sides: Sides) -> Any:
    """Return the shape of a convolution's result."""
    down, across = ((x.shape[1 + i] + sum(sides[i]) - w.shape[i]) // step + 1 for i in (0, 1))
    return x.shape[0], down, across, w.shape[3]


def forward(x: np.ndarray, w: np.ndarray, step: int, sides: Sides, groups: int, **finish: Any) -> Any:
    """Compute a convolution and finish it: ``max(conv * scale + shift + residual, floor)``."""
    (top, _), (left, _) = sides
    x = np.ascontiguousarray(x)
    if groups > 1:
        size = out_shape(x, w, step, sides)[1:3]
        return grouped.correlate(x, w, groups, size, step, top, left, **finish)
    if suits_winograd(x.shape, w, (step, step), sides, 1):
        return winograd.forward(x, np.ascontiguousarray(w), **finish)
    size = out_shape(x, w, step, sides)[1:3]
    if stem.suits(w.shape[2], w.shape[3], w.shape[1], step):
        return stem.convolve(x, w, size, top, left, **finish)
    if winograd_strided.suits(len(x), size, w.shape, step):
        return winograd_strided.convolve(x, w, size, top, left, **finish)
    return direct.correlate(x, direct.pack(w), w.shape[1], w.shape[3], size, step, top, left, **finish)


def gradients(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    step: int,
    sides: Sides,
    groups: int,
    need_dx: bool,
    plus: np.ndarray | None = None,
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return dx (+ ``plus``; None if it is not needed) and dw."""
    x, (top, _), (left, _) = np.ascontiguousarray(x), *sides
    residual = None if plus is None else np.ascontiguousarray(plus)
    dx = None
    if groups > 1:
        dx = grouped.scatter(dy, w, groups, x.shape, step, top, left, residual=residual) if need_dx else None
        return dx, grouped.weight_gradient(x, dy, groups, w.shape[:2], step, top, left)
    if need_dx and suits_winograd(dy.shape, w.swapaxes(2, 3), (step, step), sides, 1):
        dx = winograd.forward(dy, np.ascontiguousarray(w), turned=True, residual=residual)
    elif need_dx and residual is None and few_channels.suits(w.shape[2], w.shape[3], step):
        dx = few_channels.scatter(dy, w, x.shape, step, top, left)
    elif need_dx:
        dx = direct.scatter(dy, w, x.shape, step, top, left, residual=residual)
    if suits_winograd(x.shape, w, (step, step), sides, 1):
        return dx, winograd_weights.weight_gradient(x, dy)
    if w.shape[:2] == (1, 1) and step == 1 and w.shape[3] > w.shape[2] and not np.any(sides):
        # Of two maps that lie pixel by pixel, the wider one is read in rows of tiles: less of a tile is left empty,
        # and the threads share it out
        return dx, np.ascontiguousarray(direct.weight_gradient(dy, x, 1, 1, 1, sides).swapaxes(2, 3))
    return dx, direct.weight_gradient(x, dy, w.shape[0], w.shape[1], step, sides)


def conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *, stride: Any = 1, padding: Any = 0, groups: int = 1
) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d``."""
    step, sides = one_stride(stride), as_padding(padding)
    if not (can_compute(x, w, b) and step and sides and fits(x, w, b, sides, groups)):
        return NotImplemented
    y = forward(x, w, step, sides, groups, shift=b)
    return y, ConvCache(x, w, b is not None, (step, step), sides, groups)


def conv2d_backward(dy: np.ndarray, cache: ConvCache, *, need_dx: bool = True) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_backward``."""
    x, w, has_bias, (step, across), sides, groups = cache
    if not (can_compute(dy, x, w) and step == across and dy.shape == out_shape(x, w, step, sides)):
        return NotImplemented
    dy = np.ascontiguousarray(dy)
    dx, dw = gradients(dy, x, w, step, sides, groups, need_dx)
    return dx, dw, sum_rows(dy.reshape(-1, dy.shape[3])) if has_bias else None


def conv2d_transpose(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *, stride: Any = 2, activate: bool = False
) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_transpose``."""
    step, floor = one_stride(stride), np.float32(0) if activate else direct.NO_FLOOR
    if not (can_compute(x, w, b) and step and fits(x, w, b, ((w.shape[0],) * 2, (w.shape[1],) * 2), 1)):
        return NotImplemented
    (_, height, width, _), (kh, kw, _, c_out) = x.shape, w.shape
    shape = (len(x), (height - 1) * step + kh, (width - 1) * step + kw, c_out)
    if kh % step == kw % step == c_out % NR == 0:
        y = transposed.all_phases(np.ascontiguousarray(x), w, shape, step, b, floor)
    else:
        y = direct.scatter(np.ascontiguousarray(x), w.swapaxes(2, 3), shape, step, 0, 0, shift=b, floor=floor)
    return y, TransposedConvCache(x, w, b is not None, y if activate else None, (step, step))


def conv2d_transpose_backward(dy: np.ndarray, cache: TransposedConvCache) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_transpose_backward``."""
    x, w, has_bias, y, (step, across) = cache
    none = ((0, 0), (0, 0))
    if not (can_compute(dy, x, w) and step == across and dy.ndim == 4):
        return NotImplemented
    if dy.shape[3] != w.shape[3] or x.shape != out_shape(dy, w.swapaxes(2, 3), step, none):
        return NotImplemented
    dy, db = np.ascontiguousarray(dy), None
    if y is not None:
        if not is_float32(y) or y.shape != dy.shape:
            return NotImplemented
        dy, db = masked_sum(dy, y)
    elif has_bias:
        db = sum_rows(dy.reshape(-1, dy.shape[3]))
    # the kernel as it stands, but its channels swapped
    packed = direct_loops.pack_swapped(np.ascontiguousarray(w), np.arange(w.shape[0]), np.arange(w.shape[1]))
    dx = direct.correlate(dy, packed, w.shape[1], w.shape[2], x.shape[1:3], step, 0, 0)
    dw = direct.weight_gradient(dy, np.ascontiguousarray(x), w.shape[0], w.shape[1], step, none)
    return dx, np.ascontiguousarray(dw.swapaxes(2, 3)), db if has_bias else None
