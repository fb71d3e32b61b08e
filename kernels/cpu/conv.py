"""Convolutions on the CPU: which of the kernels takes which case. Float32 only; anything else is left to NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import get_num_threads

from ..contract import ConvCache, FrozenNorm, FusedConvCache, FusedGradients, Sides, as_padding, as_pair
from .activation import masked_sum
from .convolution import (
    direct,
    direct_weights,
    few_channels,
    grouped,
    stem,
    winograd,
    winograd_strided,
    winograd_weights,
)
from .convolution.folded_norm import scaled, unfold
from .machine import memory
from .machine.arguments import is_float32, scale_and_shift
from .machine.simd import MR, NR, VL

NONE = np.empty(0, np.float32)
NO_FLOOR = np.float32(-np.inf)
TASK = 1 << 19  # multiplications of a pixel's number with NR weights that make a task worth starting
STREAMED = 32 << 20  # bytes of a map that the next layer finds in no cache, so that it may as well go past them


def _suits_winograd(shape: tuple[int, ...], w: np.ndarray, stride: tuple[int, int], padding: Any, groups: int) -> bool:
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


def correlate(
    x: np.ndarray,
    packed: np.ndarray,
    kw: int,
    c_out: int,
    out_shape: tuple[int, int],
    stride: int,
    top: int,
    left: int,
    *,
    y: np.ndarray | None = None,
    phase: tuple[int, int] = (0, 0),
    step: int = 1,
    scale: np.ndarray | None = None,
    shift: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    floor: np.float32 = NO_FLOOR,
) -> np.ndarray:
    """Slide packed weights of kw columns over x; write every ``step``-th pixel of ``y`` from ``phase`` on."""
    if y is None:
        y = memory.empty((len(x), *out_shape, c_out))
    places = (
        (phase[0] * y.shape[2] + phase[1]) * c_out, math.prod(y.shape[1:]), step * y.shape[2] * c_out, step * c_out,
    )  # fmt: skip
    at = np.arange(len(packed)) * NR
    return _correlate(x, packed, kw, at, at, out_shape, stride, top, left, y, places, scale, shift, residual, floor)


def _correlate(
    x: np.ndarray,
    packed: np.ndarray,
    kw: int,
    panel_places: np.ndarray,
    panel_channels: np.ndarray,
    out_shape: tuple[int, int],
    stride: int,
    top: int,
    left: int,
    y: np.ndarray,
    places: tuple[int, int, int, int],
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    residual: np.ndarray | None,
    floor: np.float32,
) -> np.ndarray:
    """Call ``direct.correlate`` with as many tasks as give all threads the same, none of them too short."""
    c_out, threads, pixels = y.shape[3], get_num_threads(), len(x) * out_shape[0] * out_shape[1]
    scale, shift = scale_and_shift(scale, shift, c_out)
    stretch = direct.STRETCH * MR
    share = stretch * max(1, TASK * NR // (stretch * packed.size))
    rounds = -(-pixels // (share * threads))
    stream = y.nbytes >= STREAMED and memory.streams(y)
    direct.correlate(
        x.reshape(-1), x.shape, packed, panel_places, panel_channels, kw, stride, top, left, y.reshape(-1), out_shape,
        places, c_out, scale, shift, NONE if residual is None else residual.reshape(-1), floor, stream,
        rounds * threads,
    )  # fmt: skip
    return y


def _divisor(number: int, near: int, otherwise: int) -> int:
    """Return a divisor of ``number`` from near / 2 to 2 near, the closest to ``near`` there is."""
    fitting = [d for d in range(near // 2, 2 * near + 1) if number % d == 0]
    return min(fitting, key=lambda d: abs(d - near)) if fitting else otherwise


def pack(w: np.ndarray) -> np.ndarray:
    """Pack (kh, kw, C_in, C_out) weights for ``correlate``."""
    kh, kw, c_in, c_out = w.shape
    return direct.pack(np.ascontiguousarray(w).reshape(kh, kw * c_in, c_out))


def scatter(
    dy: np.ndarray, w: np.ndarray, shape: tuple[int, ...], stride: int, top: int, left: int, **finish: Any
) -> np.ndarray:
    """Return the transpose of ``correlate``: what an input (N, H, W, C_in) gets from all outputs it took part in.

    Inputs that lie ``stride`` apart are reached by the same taps, so each of the stride^2 phases is a convolution of dy
    with its share of the taps, turned by 180 degrees.
    """
    _, height, width, c_in = shape
    kh, kw = w.shape[:2]
    dx = memory.empty(shape)
    w = np.ascontiguousarray(w)
    for a in range(min(stride, height)):
        for b in range(min(stride, width)):
            i0, j0 = (a + top) % stride, (b + left) % stride
            rows, cols = np.arange(i0, kh, stride)[::-1], np.arange(j0, kw, stride)[::-1]
            if not (len(rows) and len(cols)):  # a stride wider than the kernel leaves inputs that nothing reads
                shift, beside = finish.get("shift"), finish.get("residual")
                rest = 0 if shift is None else shift
                rest = rest if beside is None else rest + beside[:, a::stride, b::stride]
                dx[:, a::stride, b::stride] = np.maximum(rest, finish.get("floor", NO_FLOOR))
                continue
            packed = direct.pack_swapped(w, np.ascontiguousarray(rows), np.ascontiguousarray(cols))
            size = (-(-(height - a) // stride), -(-(width - b) // stride))
            up = len(rows) - 1 - (a + top - i0) // stride
            before = len(cols) - 1 - (b + left - j0) // stride
            correlate(dy, packed, len(cols), c_in, size, 1, up, before, y=dx, phase=(a, b), step=stride, **finish)
    return dx


def weight_gradient(x: np.ndarray, dy: np.ndarray, kh: int, kw: int, stride: int, padding: Sides) -> np.ndarray:
    """Return dw (kh, kw, C_in, C_out)."""
    (top, bottom), (left, right) = padding
    n, height, width, c_in = x.shape
    _, out_h, out_w, c_out = dy.shape
    k = kw * c_in
    if k >= MR and not (top or bottom or left or right):
        padded = x.reshape(-1)
    else:
        padded = direct_weights.pad_maps(x, top, bottom, left, right)
    wide = dy.reshape(-1, c_out)
    if c_out % NR:
        wide = direct_weights.widen_channels(wide, -(-c_out // NR) * NR)
    rows, line = top + height + bottom, (left + width + right) * c_in
    if kh == kw == stride == 1 and padded.size == x.size:
        across = _divisor(n * out_h * out_w, 192, out_w)
        n, out_h, out_w, line = 1, n * out_h * out_w // across, across, across * c_in
        rows = out_h
    # a block of lines of x and dy that stays in the second-level cache
    block = max(1, 64 * 1024 // max(1, out_w * (min(stride, kw) * c_in + c_out)))
    dw = direct_weights.correlate_weights(
        padded, n, rows, line, c_in, stride, wide, out_h, out_w, kh, k, block, get_num_threads()
    )
    if k >= MR and k % MR:  # the last tile was moved up to end at k
        dw = np.concatenate([dw[:, : k - k % MR], dw[:, -(k % MR) :]], axis=1)
    return np.ascontiguousarray(dw[:, :k, :c_out]).reshape(kh, kw, c_in, c_out)


# --- what replaces the functions of mrcnn_np.ops.conv ---------------------------------------------------------------


def _plain(*arrays: np.ndarray | None) -> bool:
    """Tell whether all arrays that are there are float32 and hold something; only then is there a kernel."""
    there = [a for a in arrays if a is not None]
    return is_float32(*there) and all(a.size for a in there)


def _one_stride(stride: Any) -> int:
    """Return the stride if it is the same both ways, else 0."""
    pair = as_pair(stride)
    return pair[0] if pair is not None and pair[0] == pair[1] else 0


def _fits(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, padding: Sides, groups: int) -> bool:
    """Tell whether the arguments make sense; where they do not, the reference has the error message."""
    if x.ndim != 4 or w.ndim != 4 or (b is not None and b.shape != w.shape[3:]):
        return False
    padded = (x.shape[1] + sum(padding[0]), x.shape[2] + sum(padding[1]))
    fits = groups >= 1 and x.shape[3] == w.shape[2] * groups and w.shape[3] % groups == 0
    return fits and w.shape[0] <= padded[0] and w.shape[1] <= padded[1]


def _out_shape(x: np.ndarray, w: np.ndarray, step: int, sides: Sides) -> Any:
    """Return the shape of a convolution's result."""
    down, across = ((x.shape[1 + i] + sum(sides[i]) - w.shape[i]) // step + 1 for i in (0, 1))
    return x.shape[0], down, across, w.shape[3]


def conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *, stride: Any = 1, padding: Any = 0, groups: int = 1
) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d``."""
    step, sides = _one_stride(stride), as_padding(padding)
    if not (_plain(x, w, b) and step and sides and _fits(x, w, b, sides, groups)):
        return NotImplemented
    y = _forward(x, w, step, sides, groups, shift=b)
    return y, ConvCache(x, w, b is not None, (step, step), sides, groups)


def _forward(x: np.ndarray, w: np.ndarray, step: int, sides: Sides, groups: int, **finish: Any) -> Any:
    (top, _), (left, _) = sides
    x = np.ascontiguousarray(x)
    if groups > 1:
        size = _out_shape(x, w, step, sides)[1:3]
        return grouped.correlate(x, w, groups, size, step, top, left, **finish)
    if _suits_winograd(x.shape, w, (step, step), sides, 1):
        return winograd.forward(x, np.ascontiguousarray(w), **finish)
    size = _out_shape(x, w, step, sides)[1:3]
    if stem.suits(w.shape[2], w.shape[3], w.shape[1], step):
        return stem.convolve(x, w, size, top, left, **finish)
    if winograd_strided.suits(len(x), size, w.shape, step):
        return winograd_strided.convolve(x, w, size, top, left, **finish)
    return correlate(x, pack(w), w.shape[1], w.shape[3], size, step, top, left, **finish)


def conv2d_fused(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    norm: tuple[Any, ...] | None = None,
    residual: np.ndarray | None = None,
    activate: bool = False,
    stride: Any = 1,
    padding: Any = 0,
    groups: int = 1,
) -> Any:
    """See ``mrcnn_np.ops.fused.conv2d_fused``."""
    step, sides = _one_stride(stride), as_padding(padding)
    if not (_plain(x, w, b, residual) and step and sides and _fits(x, w, b, sides, groups)):
        return NotImplemented
    scale, shift = None, b
    if norm is not None:
        norm = FrozenNorm(*norm)
        gamma, beta, mean, var, eps = norm
        if not _plain(gamma, beta, mean, var) or any(p.shape != w.shape[3:] for p in (gamma, beta, mean, var)):
            return NotImplemented
        scale = gamma / np.sqrt(var + np.float32(eps))
        shift = beta + ((0 if b is None else b) - mean) * scale
    if residual is not None:
        if residual.shape != _out_shape(x, w, step, sides):
            return NotImplemented
        residual = np.ascontiguousarray(residual)
    floor = np.float32(0) if activate else NO_FLOOR
    y = _forward(x, w, step, sides, groups, scale=scale, shift=shift, residual=residual, floor=floor)
    return y, FusedConvCache(
        x, w, b, norm, residual is not None, y if activate else None, (step, step), sides, groups
    )  # fmt: skip


def conv2d_fused_backward(
    dy: np.ndarray, cache: FusedConvCache, *, need_dx: bool = True, plus: np.ndarray | None = None
) -> Any:
    """See ``mrcnn_np.ops.fused.conv2d_fused_backward``."""
    x, w, b, norm, has_residual, y, (step, across), sides, groups = cache
    if not (_plain(dy, x, w, b, y, plus) and step == across and dy.shape == _out_shape(x, w, step, sides)):
        return NotImplemented
    if (plus is not None and plus.shape != x.shape) or (norm is not None and not _plain(*norm[:4])):
        return NotImplemented
    dy = np.ascontiguousarray(dy)
    if y is None:
        dshift = direct.channel_sum(dy.reshape(-1, dy.shape[3]))
    else:
        dy, dshift = masked_sum(dy, y)
    dresidual = dy if has_residual else None
    if norm is None:
        dx, dw = _gradients(dy, x, w, step, sides, groups, need_dx, plus)
        return FusedGradients(dx, dw, None if b is None else dshift, None, None, dresidual)
    gamma, _, mean, var, eps = norm
    inverse_std = 1 / np.sqrt(var + np.float32(eps))
    scale = gamma * inverse_std
    rows = np.ascontiguousarray(w).reshape(-1, w.shape[3])
    dx, dv = _gradients(dy, x, scaled(rows, scale).reshape(w.shape), step, sides, groups, need_dx, plus)
    dw, dscale = unfold(rows, dv.reshape(rows.shape), scale)
    offset = -mean if b is None else b - mean
    dgamma = (dscale + offset * dshift) * inverse_std
    return FusedGradients(
        dx, dw.reshape(w.shape), None if b is None else dshift * scale, dgamma, dshift, dresidual
    )  # fmt: skip


def conv2d_backward(dy: np.ndarray, cache: ConvCache, *, need_dx: bool = True) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_backward``."""
    x, w, has_bias, (step, across), sides, groups = cache
    if not (_plain(dy, x, w) and step == across and dy.shape == _out_shape(x, w, step, sides)):
        return NotImplemented
    dy = np.ascontiguousarray(dy)
    gradients = _gradients(dy, x, w, step, sides, groups, need_dx)
    return *gradients, direct.channel_sum(dy.reshape(-1, dy.shape[3])) if has_bias else None


def _gradients(
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
    if need_dx and _suits_winograd(dy.shape, w.swapaxes(2, 3), (step, step), sides, 1):
        dx = winograd.forward(dy, np.ascontiguousarray(w), turned=True, residual=residual)
    elif need_dx and residual is None and few_channels.suits(w.shape[2], w.shape[3], step):
        dx = few_channels.scatter(dy, w, x.shape, step, top, left)
    elif need_dx:
        dx = scatter(dy, w, x.shape, step, top, left, residual=residual)
    if _suits_winograd(x.shape, w, (step, step), sides, 1):
        return dx, winograd_weights.weight_gradient(x, dy)
    if w.shape[:2] == (1, 1) and step == 1 and w.shape[3] > w.shape[2] and not np.any(sides):
        # Of two maps that lie pixel by pixel, the wider one is read in rows of tiles: less of a tile is left empty,
        # and the threads share it out
        return dx, np.ascontiguousarray(weight_gradient(dy, x, 1, 1, 1, sides).swapaxes(2, 3))
    return dx, weight_gradient(x, dy, w.shape[0], w.shape[1], step, sides)
