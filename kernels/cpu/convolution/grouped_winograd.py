"""Winograd's F(4x4, 3x3) for convolutions in groups of many channels.

See ``winograd`` for the algebra. The products at the 36 points are block-diagonal here: a panel of ``NR`` output
channels needs the inputs of its own groups only. So a panel is a convolution by itself, small enough that everything
it needs between its input and its output stays in the second-level cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..machine import memory
from ..machine.arguments import scale_and_shift
from ..machine.simd import MR, NR, VL
from ..machine.tiles import gemm_tile, gemm_tile_columns
from .geometry import Geometry
from .grouped_slide import pack
from .winograd import LEAST_PIXELS, PAD, P, R, _transform_dy, _transform_input, _transform_weight, scatter_tiles
from .winograd_tiles import N, addresses, lay_out
from .winograd_weights import _transform_dw

BLOCK = 4 * MR  # tiles at a time
LEAST = 32  # channels of a group: with 16 the transforms cost more than the products save (0.5 to 0.9 x, measured)
TAPS = np.arange(R)
NO_MAP = np.empty((0, 0, 0, 0), np.float32)


def suits(sizes: Geometry) -> bool:
    """Tell whether a convolution and its gradients are for here: 3x3, one pixel of padding, groups of ``LEAST``."""
    n, height, width, _ = sizes.maps
    same = sizes.groups > 1 and sizes.is_three_by_three(1) and sizes.padding == ((1, 1), (1, 1))
    return same and sizes.per_in % LEAST == 0 == sizes.per_out % LEAST and n * height * width >= LEAST_PIXELS


@njit(cache=True, error_model="numpy", inline="never")
def _inputs(panel, per_in, per_out, channels):
    """Return the range of the input channels, of ``channels``, that a panel of outputs needs."""
    groups = channels // per_in
    first, last = panel * NR // per_out, (panel * NR + NR - 1) // per_out
    return first * per_in, min(last + 1, groups) * per_in


@njit(cache=True, error_model="numpy", inline="never")
def _gather(x, sheets, first, last, begin, end, v, v_row, plane, is_dy):
    """Transform the patches of tiles first..last, channels begin..end, into ``v``: point planes of (tile, channel)."""
    size, offset = (N, 0) if is_dy else (P, 1)
    table, zeros = np.empty((size, size), np.int64), np.zeros(x.shape[3], np.float32)
    for tile in range(first, last):
        addresses(x, sheets, tile, offset, zeros.ctypes.data, table)
        for channel in range(begin, end, VL):
            target = v.ctypes.data + ((tile - first) * v_row + channel - begin) * 4
            if is_dy:
                _transform_dy(table.ctypes.data, channel * 4, target, P * plane * 4, plane * 4)
            else:
                _transform_input(table.ctypes.data, channel * 4, target, P * plane * 4, plane * 4)


@njit(cache=True, error_model="numpy", inline="never")
def _transform_panel(packed, panel, per_out, begin, u, plane):
    """Write the 36 point planes (inputs of the panel's groups, NR) of one panel of packed weights."""
    vectors, inner = packed.shape[0], packed.shape[3]
    u[:] = 0
    for part in range(NR // VL):
        v = panel * (NR // VL) + part
        if v < vectors:
            skip = v * VL // per_out * inner - begin  # inputs of the panel's groups before this one
            source = packed.ctypes.data + v * R * R * inner * VL * 4
            for k in range(inner):
                target = u.ctypes.data + ((skip + k) * NR + part * VL) * 4
                _transform_weight(
                    source + k * VL * 4, R * inner * VL * 4, inner * VL * 4, target, P * plane * 4, plane * 4
                )


@njit(cache=True, parallel=True, error_model="numpy")
def _convolve(x, packed, per_out, y, scale, shift, residual, floor, sheets):
    """Write max(conv(x, w) * scale + shift + residual, floor) to ``y``; ``packed`` is from ``grouped_slide.pack``."""
    inner, c_in, c_out = packed.shape[3], x.shape[3], y.shape[3]
    for panel in prange((c_out + NR - 1) // NR):
        begin, end = _inputs(panel, inner, per_out, c_in)
        k = end - begin
        u_plane, v_plane, m_plane = k * NR + PAD, BLOCK * k + PAD, BLOCK * NR + PAD
        u, v = np.empty(P * P * u_plane, np.float32), np.empty(P * P * v_plane, np.float32)
        m, no_taps = np.empty(P * P * m_plane, np.float32), np.zeros(1, np.int64)
        _transform_panel(packed, panel, per_out, begin, u, u_plane)
        for first in range(0, sheets.tiles, BLOCK):
            last = min(first + BLOCK, sheets.tiles)
            _gather(x, sheets, first, last, begin, end, v, k, v_plane, False)
            for point in range(P * P):
                for row in range(0, last - first, MR):
                    gemm_tile(
                        1, no_taps.ctypes.data, k, v.ctypes.data + (point * v_plane + row * k) * 4, k * 4,
                        u.ctypes.data + point * u_plane * 4, 0,
                        m.ctypes.data + (point * m_plane + row * NR) * 4, NR * 4, 0,
                    )  # fmt: skip
            channels = (panel * NR, min(panel * NR + NR, c_out))
            scatter_tiles(m, m_plane, NR, first, last, sheets, y, channels, scale, shift, residual, floor)


@njit(cache=True, parallel=True, error_model="numpy")
def _weight_gradient(x, dy, per_in, per_out, sheets):
    """Return dw (3, 3, per_in, C_out)."""
    c_in, c_out = x.shape[3], dy.shape[3]
    dw = np.empty((R, R, per_in, c_out), np.float32)
    for panel in prange((c_out + NR - 1) // NR):
        begin, end = _inputs(panel, per_in, per_out, c_in)
        k = end - begin
        rows = (k + MR - 1) // MR
        v_plane, m_plane, u_plane = BLOCK * k + PAD, BLOCK * NR + PAD, rows * MR * NR + PAD
        # MR floats to spare: the last rows of a product may belong to no channel, and nobody reads them
        v, m = np.empty(P * P * v_plane + MR, np.float32), np.zeros(P * P * m_plane, np.float32)
        u, no_taps = np.empty(P * P * u_plane, np.float32), np.zeros(1, np.int64)
        last_channel = min(panel * NR + NR, c_out)
        for first in range(0, sheets.tiles, BLOCK):
            last = min(first + BLOCK, sheets.tiles)
            _gather(x, sheets, first, last, begin, end, v, k, v_plane, False)
            _gather(dy, sheets, first, last, panel * NR, last_channel, m, NR, m_plane, True)
            for point in range(P * P):
                for row in range(rows):
                    gemm_tile_columns(
                        1, no_taps.ctypes.data, last - first, v.ctypes.data + (point * v_plane + row * MR) * 4,
                        k * 4, m.ctypes.data + point * m_plane * 4, 0, NR * 4,
                        u.ctypes.data + (point * u_plane + row * MR * NR) * 4, NR * 4, first,
                    )  # fmt: skip
        for channel in range(panel * NR, last_channel, VL):
            skip = channel // per_out * per_in - begin
            for c in range(per_in):
                _transform_dw(
                    u.ctypes.data + ((skip + c) * NR + channel - panel * NR) * 4, P * u_plane * 4, u_plane * 4,
                    dw.ctypes.data + (c * c_out + channel) * 4, R * per_in * c_out * 4, per_in * c_out * 4,
                )  # fmt: skip
    return dw


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    sizes: Geometry,
    *,
    scale: np.ndarray | None = None,
    shift: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    floor: np.float32 = np.float32(-np.inf),  # noqa: B008
) -> np.ndarray:
    """Convolve (N, H, W, C_in) with (3, 3, C_in of a group, C_out): ``max(conv * scale + shift + residual, floor)``."""
    y, beside = memory.empty(sizes.out), NO_MAP if residual is None else residual
    packed = pack(np.ascontiguousarray(w), sizes.per_in, sizes.per_out, TAPS, TAPS, False)
    scale, shift = scale_and_shift(scale, shift, y.shape[3])
    _convolve(x, packed, sizes.per_out, y, scale, shift, beside, floor, lay_out(*y.shape[:3]))
    return y


def input_gradient(dy: np.ndarray, w: np.ndarray, sizes: Geometry, *, residual: np.ndarray | None = None) -> np.ndarray:
    """Return the convolution of dy with the kernel turned and the channels of each group swapped, plus ``residual``."""
    dx, beside = memory.empty(sizes.maps), NO_MAP if residual is None else residual
    taps = np.ascontiguousarray(TAPS[::-1])
    packed = pack(np.ascontiguousarray(w), sizes.per_in, sizes.per_out, taps, taps, True)
    scale, shift = scale_and_shift(None, None, dx.shape[3])
    _convolve(dy, packed, sizes.per_in, dx, scale, shift, beside, np.float32(-np.inf), lay_out(*dx.shape[:3]))
    return dx


def weight_gradient(x: np.ndarray, dy: np.ndarray, sizes: Geometry) -> np.ndarray:
    """Return dw (3, 3, C_in of a group, C_out)."""
    return _weight_gradient(x, dy, sizes.per_in, sizes.per_out, lay_out(*sizes.maps[:3]))
