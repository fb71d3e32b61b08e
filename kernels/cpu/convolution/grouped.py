"""Convolution in groups (ResNeXt's 32 groups of 4 channels): no multiplication by zero.

It runs on the tiles of ``slide``, whose vectors span groups that are narrower. Like the dense kernels it reads x and dy
where they lie, writes every output once, and finishes it in the last store. Groups of a size that has no tile, say of 3
channels, are filled up with zeros to the next size that has one; that takes copies, but no network here has such
groups.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..machine import memory
from ..machine.arguments import scale_and_shift
from ..machine.simd import VL
from ..machine.slide import LANES
from ..machine.threads import shares
from .geometry import Geometry
from .grouped_slide import pack, slide, slide_weights

NO_MAP = np.empty((0, 0, 0, 0), np.float32)
NO_FLOOR = np.float32(-np.inf)
RESIDENT = 128 * 1024  # floats of x and dy that stay in the second-level cache


class Groups(NamedTuple):
    """How many groups there are, and the input and output channels of each."""

    number: int
    per_in: int
    per_out: int

    def mode(self) -> int:
        """Return the mode of ``slide``; for groups that are filled up."""
        return self.per_in if self.per_in == self.per_out and self.per_in in LANES else 0

    def filled(self) -> Groups:
        """Return the smallest groups that have tiles, both ways, and so many of them that they fill whole vectors."""
        lanes = next((size for size in LANES if size >= max(self.per_in, self.per_out)), 0)
        if lanes:
            return Groups(-(-self.number * lanes // VL) * VL // lanes, lanes, lanes)
        return Groups(self.number, -(-self.per_in // VL) * VL, -(-self.per_out // VL) * VL)


def _fill(a: np.ndarray, count: int, per: int, filled_count: int, filled_per: int) -> np.ndarray:
    """Return ``a``, whose last axis is (count * per), with zeros where its groups are filled up."""
    if (count, per) == (filled_count, filled_per):
        return a
    filled = np.zeros((*a.shape[:-1], filled_count, filled_per), np.float32)
    filled[..., :count, :per] = a.reshape(*a.shape[:-1], count, per)
    return filled.reshape(*a.shape[:-1], -1)


def _cut(a: np.ndarray, count: int, per: int, filled_count: int, filled_per: int) -> np.ndarray:
    """Undo ``_fill``."""
    if (count, per) == (filled_count, filled_per):
        return a
    parts = a.reshape(*a.shape[:-1], filled_count, filled_per)[..., :count, :per]
    return np.ascontiguousarray(parts).reshape(*a.shape[:-1], -1)


def _fill_weights(w: np.ndarray, groups: Groups, filled: Groups) -> np.ndarray:
    wide = _fill(np.ascontiguousarray(w), groups.number, groups.per_out, filled.number, filled.per_out)
    if filled.per_in == groups.per_in:
        return wide
    return np.pad(wide, ((0, 0), (0, 0), (0, filled.per_in - groups.per_in), (0, 0)))


def suits(sizes: Geometry) -> bool:
    """Tell whether there are groups."""
    return sizes.groups > 1


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    sizes: Geometry,
    *,
    scale: np.ndarray | None = None,
    shift: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    floor: np.float32 = NO_FLOOR,
) -> np.ndarray:
    """Convolve (N, H, W, C_in) with weights in groups: ``max(conv * scale + shift + residual, floor)``."""
    plain = Groups(sizes.groups, sizes.per_in, sizes.per_out)
    filled = plain.filled()
    (count, per_in, per_out), (total, wide_in, wide_out) = plain, filled
    inside = _fill(x, count, per_in, total, wide_in)
    rows, cols = np.arange(w.shape[0]), np.arange(w.shape[1])
    packed = pack(_fill_weights(w, plain, filled), wide_in, wide_out, rows, cols, False)
    scale, shift = scale_and_shift(scale, shift, count * per_out)[:, : count * per_out]
    beside: np.ndarray = NO_MAP if residual is None else _fill(residual, count, per_out, total, wide_out)
    n, (height, width) = len(x), sizes.size
    y = memory.empty((n, height, width, total * wide_out))
    slide(
        inside.reshape(-1), inside.shape, packed, filled.mode(), wide_out, sizes.stride, sizes.top, sizes.left,
        y.reshape(-1), (n, height, width, height * width * y.shape[3]), 0, width * y.shape[3], y.shape[3],
        _fill(scale, count, per_out, total, wide_out), _fill(shift, count, per_out, total, wide_out),
        beside.reshape(-1), floor, memory.streams(y),
    )  # fmt: skip
    return _cut(y, count, per_out, total, wide_out)


def scatter(dy: np.ndarray, w: np.ndarray, sizes: Geometry, *, residual: np.ndarray | None = None) -> np.ndarray:
    """Return the transpose of ``convolve``, phase by phase as in ``direct.scatter``, plus ``residual``."""
    n, height, width, _ = sizes.maps
    (kh, kw), stride, top, left = w.shape[:2], sizes.stride, sizes.top, sizes.left
    plain = Groups(sizes.groups, sizes.per_in, sizes.per_out)
    filled = plain.filled()
    (count, per_in, per_out), (total, wide_in, wide_out) = plain, filled
    dy, w = _fill(dy, count, per_out, total, wide_out), _fill_weights(w, plain, filled)
    channels = total * wide_in
    beside: np.ndarray = NO_MAP if residual is None else _fill(residual, count, per_in, total, wide_in)
    dx = memory.empty((n, height, width, channels))
    one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    for a in range(min(stride, height)):
        for b in range(min(stride, width)):
            i0, j0 = (a + top) % stride, (b + left) % stride
            rows, cols = np.arange(i0, kh, stride)[::-1], np.arange(j0, kw, stride)[::-1]
            if not (len(rows) and len(cols)):
                dx[:, a::stride, b::stride] = beside[:, a::stride, b::stride] if beside.size else 0
                continue
            packed = pack(w, wide_in, wide_out, np.ascontiguousarray(rows), np.ascontiguousarray(cols), True)
            size = (-(-(height - a) // stride), -(-(width - b) // stride))
            slide(
                dy.reshape(-1), dy.shape, packed, filled.mode(), wide_in, 1,
                len(rows) - 1 - (a + top - i0) // stride, len(cols) - 1 - (b + left - j0) // stride, dx.reshape(-1),
                (n, *size, height * width * channels), (a * width + b) * channels, stride * width * channels,
                stride * channels, one, zero, beside.reshape(-1), NO_FLOOR, memory.streams(dx),
            )  # fmt: skip
    return _cut(dx, count, per_in, total, wide_in)


def weight_gradient(x: np.ndarray, dy: np.ndarray, sizes: Geometry) -> np.ndarray:
    """Return dw (kh, kw, C_in of a group, C_out)."""
    plain = Groups(sizes.groups, sizes.per_in, sizes.per_out)
    filled = plain.filled()
    (count, per_in, per_out), (total, wide_in, wide_out) = plain, filled
    x, dy = _fill(x, count, per_in, total, wide_in), _fill(dy, count, per_out, total, wide_out)
    out_h, out_w = dy.shape[1:3]
    threads = shares()
    lines = max(1, threads * RESIDENT // max(1, sizes.stride * x.shape[2] * x.shape[3] + out_w * dy.shape[3]))
    dw = slide_weights(
        x.reshape(-1), x.shape, filled.mode(), wide_in, wide_out, sizes.stride, sizes.top, sizes.left, dy.reshape(-1),
        out_h, out_w, *sizes.weights[:2], lines, threads,
    )  # fmt: skip
    return _cut(dw[:, :, :per_in], count, per_out, total, wide_out)
