"""Convolution on the tiles of ``direct_loops`` and ``direct_weights``: any kernel, any stride, forward and backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..machine import memory
from ..machine.arguments import scale_and_shift
from ..machine.simd import MR, NR
from ..machine.threads import shares
from . import direct_loops, direct_weights
from .geometry import Geometry

NONE = np.empty(0, np.float32)
NO_FLOOR = np.float32(-np.inf)
TASK = 1 << 19  # multiplications of a pixel's number with NR weights that make a task worth starting
STREAMED = 32 << 20  # bytes of a map that the next layer finds in no cache, so that it may as well go past them


def slide(
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
    return correlate_panels(
        x, packed, kw, at, at, out_shape, stride, top, left, y, places, scale, shift, residual, floor
    )


def correlate_panels(
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
    """Call ``direct_loops.correlate`` with as many tasks as give all threads the same, none of them too short."""
    c_out, threads, pixels = y.shape[3], shares(), len(x) * out_shape[0] * out_shape[1]
    scale, shift = scale_and_shift(scale, shift, c_out)
    stretch = direct_loops.STRETCH * MR
    share = stretch * max(1, TASK * NR // (stretch * packed.size))
    rounds = -(-pixels // (share * threads))
    stream = y.nbytes >= STREAMED and memory.streams(y)
    direct_loops.correlate(
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
    """Pack (kh, kw, C_in, C_out) weights for ``slide``."""
    kh, kw, c_in, c_out = w.shape
    return direct_loops.pack(np.ascontiguousarray(w).reshape(kh, kw * c_in, c_out))


def convolve(x: np.ndarray, w: np.ndarray, sizes: Geometry, **finish: Any) -> np.ndarray:
    """Convolve (N, H, W, C_in) with (kh, kw, C_in, C_out): ``max(conv * scale + shift + residual, floor)``."""
    _, kw, _, c_out = w.shape
    return slide(x, pack(w), kw, c_out, sizes.size, sizes.stride, sizes.top, sizes.left, **finish)


def scatter(dy: np.ndarray, w: np.ndarray, sizes: Geometry, **finish: Any) -> np.ndarray:
    """Return the transpose of ``convolve``: what an input (N, H, W, C_in) gets from all outputs it took part in.

    Inputs that lie ``stride`` apart are reached by the same taps, so each of the stride^2 phases is a convolution of dy
    with its share of the taps, turned by 180 degrees. It is finished as in ``convolve``.
    """
    _, height, width, c_in = sizes.maps
    (kh, kw), stride, top, left = w.shape[:2], sizes.stride, sizes.top, sizes.left
    dx = memory.empty(sizes.maps)
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
            packed = direct_loops.pack_swapped(w, np.ascontiguousarray(rows), np.ascontiguousarray(cols))
            size = (-(-(height - a) // stride), -(-(width - b) // stride))
            up = len(rows) - 1 - (a + top - i0) // stride
            before = len(cols) - 1 - (b + left - j0) // stride
            slide(dy, packed, len(cols), c_in, size, 1, up, before, y=dx, phase=(a, b), step=stride, **finish)
    return dx


def weight_gradient(x: np.ndarray, dy: np.ndarray, sizes: Geometry) -> np.ndarray:
    """Return dw (kh, kw, C_in, C_out)."""
    (top, bottom), (left, right) = sizes.padding
    n, height, width, c_in = sizes.maps
    _, out_h, out_w, c_out = sizes.out
    (kh, kw), stride = sizes.weights[:2], sizes.stride
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
        padded, n, rows, line, c_in, stride, wide, out_h, out_w, kh, k, block, shares()
    )
    if k >= MR and k % MR:  # the last tile was moved up to end at k
        dw = np.concatenate([dw[:, : k - k % MR], dw[:, -(k % MR) :]], axis=1)
    return np.ascontiguousarray(dw[:, :k, :c_out]).reshape(kh, kw, c_in, c_out)


def is_wide_pointwise(sizes: Geometry) -> bool:
    """Tell whether input and output lie pixel by pixel, and the output has more channels."""
    plain = sizes.weights[:2] == (1, 1) and sizes.stride == 1 and sizes.groups == 1
    return plain and sizes.maps[:3] == sizes.out[:3] and sizes.weights[3] > sizes.weights[2]


def wide_pointwise_weight_gradient(x: np.ndarray, dy: np.ndarray, sizes: Geometry) -> np.ndarray:
    """Do what ``weight_gradient`` does, but read the wider of the two maps, dy, in rows of tiles.

    Less of a tile is left empty, and the threads share it out.
    """
    _, _, c_in, c_out = sizes.weights
    turned = sizes._replace(maps=dy.shape, weights=(1, 1, c_out, c_in), out=x.shape)
    return np.ascontiguousarray(weight_gradient(dy, x, turned).swapaxes(2, 3))
