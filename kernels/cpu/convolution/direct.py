"""Convolution on the tiles of ``direct_loops`` and ``direct_weights``: any kernel, any stride, forward and backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..machine import memory
from ..machine.arguments import scale_and_shift
from ..machine.product import multiply
from ..machine.simd import MR, NR
from ..machine.threads import shares
from . import direct_loops, direct_weights
from .geometry import Geometry

NONE = np.empty(0, np.float32)
NO_MAPS = np.empty((0, 0, 0, 0), np.float32)
NO_FLOOR = np.float32(-np.inf)
HEAVY = 1 << 19  # weights of a 1x1 kernel
LARGE = 1 << 26  # multiplications
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
        rounds * threads, threads,
    )  # fmt: skip
    return y


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
    # a block of lines of x and dy that stays in the second-level cache
    block = max(1, 64 * 1024 // max(1, out_w * (min(stride, kw) * c_in + c_out)))
    dw = direct_weights.correlate_weights(
        padded, n, rows, line, c_in, stride, wide, out_h, out_w, kh, k, block, shares()
    )
    if k >= MR and k % MR:  # the last tile was moved up to end at k
        dw = np.concatenate([dw[:, : k - k % MR], dw[:, -(k % MR) :]], axis=1)
    return np.ascontiguousarray(dw[:, :k, :c_out]).reshape(kh, kw, c_in, c_out)


def is_pointwise(sizes: Geometry) -> bool:
    """Tell whether every output is made of one pixel: a 1x1 kernel without padding."""
    return sizes.weights[:2] == (1, 1) and sizes.groups == 1 and sizes.padding == ((0, 0), (0, 0))


def is_heavy_pointwise(sizes: Geometry) -> bool:
    """Tell whether it is one with so many weights that even a panel of them stays in no cache."""
    return is_pointwise(sizes) and sizes.weights[2] * sizes.weights[3] >= HEAVY


def _rows(maps: np.ndarray, stride: int) -> np.ndarray:
    """Return every ``stride``-th pixel of the maps, as a matrix."""
    maps = np.ascontiguousarray(maps)
    return (maps if stride == 1 else direct_loops.thin(maps, stride)).reshape(-1, maps.shape[3])


def is_large_pointwise(sizes: Geometry) -> bool:
    """Tell whether it is one with so much to do that copying both sides of the product pays."""
    return is_pointwise(sizes) and math.prod(sizes.out) * sizes.weights[2] >= LARGE


def pointwise_scatter(
    dy: np.ndarray, w: np.ndarray, sizes: Geometry, *, residual: np.ndarray | None = None
) -> np.ndarray:
    """Do what ``scatter`` does. With a stride there are pixels that nothing has read."""
    stride, c_in = sizes.stride, sizes.maps[3]
    beside = None if residual is None else _rows(residual, stride)
    part = multiply(_rows(dy, 1), np.ascontiguousarray(w[0, 0]), turn_b=True, residual=beside)
    if stride == 1:
        return part.reshape(sizes.maps)
    dx = memory.empty(sizes.maps)
    direct_loops.spread(part.reshape(*sizes.out[:3], c_in), NO_MAPS if residual is None else residual, stride, dx)
    return dx


def pointwise_weight_gradient(x: np.ndarray, dy: np.ndarray, sizes: Geometry) -> np.ndarray:
    """Do what ``weight_gradient`` does, as one product of matrices over all pixels.

    It is turned where that leaves less of its tiles empty.
    """
    c_in, c_out = sizes.weights[2:]
    rows, others = _rows(x, sizes.stride), _rows(dy, 1)

    def tiles(down: int, across: int) -> int:
        return -(-down // MR) * -(-across // NR)

    turned = tiles(c_out, c_in) < 0.95 * tiles(c_in, c_out)
    dw = multiply(others, rows, turn_a=True).T if turned else multiply(rows, others, turn_a=True)
    return np.ascontiguousarray(dw).reshape(1, 1, c_in, c_out)
