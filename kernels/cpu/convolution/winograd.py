"""3x3 convolution with stride 1 by Winograd's F(4x4, 3x3): 36 multiplications where the definition needs 144.

Take one dimension, and polynomials: one with 4 coefficients times one with 3 has degree 5 and is known by its values at
6 points. So evaluate both (``A``, ``G``), multiply value by value, and interpolate (``B``): 6 multiplications for 12.
A layer slides its kernel instead, 4 outputs from 6 inputs; that is the transpose of the product, and takes the same
matrices transposed. In two dimensions, with a 6x6 patch d of the input: transform it and the kernel (``B^T d B``,
``G w G^T``), multiply value by value, and transform back to a 4x4 patch of the output (``A^T m A``). With many channels
"multiply value by value" is a matrix product over the channels at each of the 36 points, and that is where the time
goes.

The points are 0, 1, -1, 1/2, -2 and infinity: their powers stay small, which keeps the rounding error lower than the
textbook's 0, 1, -1, 2, -2 does.

The gradients are the same algebra. Input: convolve dy with the kernel turned by 180 degrees and its channels swapped.
Weights: see ``winograd_weights``.

References
----------
Lavin and Gray, "Fast algorithms for convolutional neural networks" (2016), section 4; Barabasz et al., "Error analysis
and improving the accuracy of Winograd convolution" (2020), on the choice of points.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numba import njit, prange

from ..machine.arguments import scale_and_shift
from ..machine.simd import MR, NR, VL, make_transform, make_transform_finish, make_transform_from
from ..machine.threads import shares
from ..machine.tiles import gemm_tile_panels
from ..machine.turns import new_turns, take
from ..machine.weight_cache import kept
from .geometry import Geometry
from .winograd_tiles import N, addresses, lay_out

POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))
R = 3  # kernel taps along one side
P = N + R - 1  # 6


def toom_cook(points: Sequence[Fraction], n: int, r: int) -> tuple[list[list[float]], ...]:
    """Return A^T, G and B^T of F(n, r) by Toom and Cook: evaluate at ``points`` and infinity, multiply, interpolate."""

    def times_linear(polynomial: list[Fraction], root: Fraction) -> list[Fraction]:
        shifted, scaled = [Fraction(0), *polynomial], [*(-root * c for c in polynomial), Fraction(0)]
        return [a + b for a, b in zip(shifted, scaled)]

    bt, g = [], []
    for point in points:
        lagrange, denominator = [Fraction(1)], Fraction(1)
        for other in points:
            if other != point:
                lagrange, denominator = times_linear(lagrange, other), denominator * (point - other)
        bt.append([*lagrange, Fraction(0)])
        g.append([point**k / denominator for k in range(r)])
    infinity = [Fraction(1)]
    for point in points:
        infinity = times_linear(infinity, point)
    bt.append(infinity)
    g.append([*[Fraction(0)] * (r - 1), Fraction(1)])
    at = [[*(point**i for point in points), Fraction(int(i == n - 1))] for i in range(n)]
    return tuple([[float(v) for v in row] for row in m] for m in (at, g, bt))


AT, G, BT = toom_cook(POINTS, N, R)
A = [list(column) for column in zip(*AT)]

_transform_input = make_transform_from(BT)
_transform_weight = make_transform(G)
_transform_output = make_transform_finish(AT)
_transform_dy = make_transform_from(A)

LEAST_PIXELS = 256  # that are worth transforming the weights for
FEW_TILES = 256  # up to here the weights are more work than the map
PAD = VL  # floats between point planes, so that their addresses do not fall on the same cache lines


@njit(cache=True, parallel=True, error_model="numpy")
def transform_weights(w):
    """Return G w G^T for (3, 3, C_in, C_out): 36 point planes, each of panels (C_out / NR, C_in, NR), padded by PAD."""
    c_in, c_out = w.shape[2], w.shape[3]
    panels = (c_out + NR - 1) // NR
    plane = panels * c_in * NR + PAD
    u = np.empty((P * P, plane), np.float32)
    for task in prange(panels * c_in):
        panel, k = task // c_in, task % c_in
        at = (panel * c_in + k) * NR
        for column in range(0, NR, VL):
            if panel * NR + column < c_out:
                source = w.ctypes.data + (k * c_out + panel * NR + column) * 4
                target = u.ctypes.data + (at + column) * 4
                _transform_weight(source, R * c_in * c_out * 4, c_in * c_out * 4, target, P * plane * 4, plane * 4)
            else:
                for point in range(P * P):
                    u[point, at + column : at + column + VL] = 0
    return u


@njit(cache=True, parallel=True, error_model="numpy")
def turn(w):
    """Turn a (3, 3, C_in, C_out) kernel by 180 degrees and swap its channels: the kernel of the input gradient."""
    c_in, c_out = w.shape[2], w.shape[3]
    turned = np.empty((R, R, c_out, c_in), np.float32)
    for task in prange((c_out + 15) // 16):
        for i in range(R):
            for j in range(R):
                for first in range(0, c_in, 16):
                    for o in range(task * 16, min(task * 16 + 16, c_out)):
                        for c in range(first, min(first + 16, c_in)):
                            turned[R - 1 - i, R - 1 - j, o, c] = w[i, j, c, o]
    return turned


@njit(cache=True, error_model="numpy", inline="never")
def gather_tiles(x, first, last, channels, sheets, v, plane, is_dy):
    """Transform some channels of the patches of tiles first..last into ``v``: point planes of (tile, channel)."""
    begin, end = channels
    size, offset = (N, 0) if is_dy else (P, 1)
    table, zeros = np.empty((size, size), np.int64), np.zeros(x.shape[3], np.float32)
    for tile in range(first, last):
        addresses(x, sheets, tile, offset, zeros.ctypes.data, table)
        for channel in range(begin, end, VL):
            target = v.ctypes.data + ((tile - first) * (end - begin) + channel - begin) * 4
            if is_dy:
                _transform_dy(table.ctypes.data, channel * 4, target, P * plane * 4, plane * 4)
            else:
                _transform_input(table.ctypes.data, channel * 4, target, P * plane * 4, plane * 4)


@njit(cache=True, error_model="numpy", inline="never")
def scatter_tiles(m, plane, columns, first, last, sheets, y, channels, scale, shift, residual, floor):
    """Transform back the products of tiles first..last and write their 4x4 outputs, from channel to channel."""
    begin, end = channels
    table, beside = np.empty((N, N), np.int64), np.empty((N, N), np.int64)
    unused, zeros = np.empty(y.shape[3], np.float32), np.zeros(y.shape[3], np.float32)
    for tile in range(first, last):
        addresses(y, sheets, tile, 0, unused.ctypes.data, table)
        besides = 0
        if residual.size > 0:
            addresses(residual, sheets, tile, 0, zeros.ctypes.data, beside)
            besides = beside.ctypes.data
        for channel in range(begin, end, VL):
            _transform_output(
                m.ctypes.data + ((tile - first) * columns + channel - begin) * 4, P * plane * 4, plane * 4,
                table.ctypes.data, channel * 4, scale.ctypes.data + channel * 4, shift.ctypes.data + channel * 4,
                besides, floor,
            )  # fmt: skip


@njit(cache=True, parallel=True, error_model="numpy")
def convolve_many(x, u, y, scale, shift, residual, floor, sheets, block, threads):
    """Write max(conv(x, w) * scale + shift + residual, floor) to ``y`` (N, H, W, C_out), padding 1.

    ``u`` comes from ``transform_weights``, ``sheets`` from ``winograd_tiles.lay_out``. Each thread works through blocks
    of ``block`` tiles (a multiple of MR) with its own scratch: transform, 36 matrix products, transform back.
    """
    c_in = x.shape[3]
    panels = (y.shape[3] + NR - 1) // NR
    tiles = sheets.tiles
    blocks = (tiles + block - 1) // block
    v_plane, columns = block * c_in + PAD, panels * NR
    m_plane = block * columns + PAD
    scratch_v = np.empty((threads, P * P * v_plane), np.float32)
    scratch_m = np.empty((threads, P * P * m_plane), np.float32)
    no_taps = np.zeros(1, np.int64)
    turns = new_turns()
    for thread in prange(threads):
        v, m = scratch_v[thread], scratch_m[thread]
        number = take(turns)
        while number < blocks:
            first, last = number * block, min((number + 1) * block, tiles)
            gather_tiles(x, first, last, (0, c_in), sheets, v, v_plane, False)
            # The last rows of a tile may lie past the last patch: products of old scratch, which nobody reads
            for point in range(P * P):
                v_at, m_at = v.ctypes.data + point * v_plane * 4, m.ctypes.data + point * m_plane * 4
                for panel in range(panels):
                    u_at = u.ctypes.data + (point * u.shape[1] + panel * c_in * NR) * 4
                    for row in range(0, last - first, MR):
                        gemm_tile_panels(
                            1, no_taps.ctypes.data, c_in, v_at + row * c_in * 4, c_in * 4, u_at, 0,
                            m_at + (row * columns + panel * NR) * 4, columns * 4, 0,
                        )  # fmt: skip
            scatter_tiles(m, m_plane, columns, first, last, sheets, y, (0, y.shape[3]), scale, shift, residual, floor)
            number = take(turns)


@njit(cache=True, error_model="numpy", inline="never")
def _transform_panel(w, panel, turned, part, u, plane):
    """Write the 36 point planes (K, NR) of one panel of weights; ``turned``: of the kernel of the input gradient."""
    k, c_out = (w.shape[3], w.shape[2]) if turned else (w.shape[2], w.shape[3])
    columns = min(NR, c_out - panel * NR)
    source, line = w.ctypes.data + panel * NR * 4, c_out
    if turned:
        for i in range(R):
            for j in range(R):
                for first in range(0, k, 16):  # a cache line of each row at a time
                    for c in range(columns):
                        for o in range(first, min(first + 16, k)):
                            part[R - 1 - i, R - 1 - j, o, c] = w[i, j, panel * NR + c, o]
        source, line = part.ctypes.data, NR
    for row in range(k):
        for column in range(0, columns, VL):
            _transform_weight(
                source + (row * line + column) * 4, R * k * line * 4, k * line * 4,
                u.ctypes.data + (row * NR + column) * 4, P * plane * 4, plane * 4,
            )  # fmt: skip


@njit(cache=True, parallel=True, error_model="numpy")
def convolve_few(x, w, turned, y, scale, shift, residual, floor, sheets, threads):
    """Do what ``convolve_many`` does, for a map of few tiles, panel by panel of the output channels.

    A small map has many channels, and its transformed weights are larger than the third-level cache. Here each panel of
    them is transformed, multiplied with all tiles, and forgotten.
    """
    c_in, c_out = x.shape[3], y.shape[3]
    panels = (c_out + NR - 1) // NR
    tiles = sheets.tiles
    rows = (tiles + MR - 1) // MR * MR
    v_plane, u_plane, m_plane = rows * c_in + PAD, c_in * NR + PAD, rows * NR + PAD
    v = np.empty(P * P * v_plane, np.float32)
    share = min(4 * threads, tiles)
    gathering, turns = new_turns(), new_turns()
    for _thread in prange(threads):
        part = take(gathering)
        while part < share:
            begin, end = tiles * part // share, tiles * (part + 1) // share
            gather_tiles(x, begin, end, (0, c_in), sheets, v[begin * c_in :], v_plane, False)
            part = take(gathering)
    scratch_u = np.zeros((threads, P * P * u_plane), np.float32)
    scratch_m = np.empty((threads, P * P * m_plane), np.float32)
    no_taps = np.zeros(1, np.int64)
    for thread in prange(threads):
        u, m = scratch_u[thread], scratch_m[thread]
        piece = np.empty((R, R, c_in, NR) if turned else (R, R, 0, NR), np.float32)
        panel = take(turns)
        while panel < panels:
            _transform_panel(w, panel, turned, piece, u, u_plane)
            for point in range(P * P):
                u_at = u.ctypes.data + point * u_plane * 4
                for row in range(0, rows, MR):
                    gemm_tile_panels(
                        1, no_taps.ctypes.data, c_in, v.ctypes.data + (point * v_plane + row * c_in) * 4, c_in * 4,
                        u_at, 0, m.ctypes.data + (point * m_plane + row * NR) * 4, NR * 4, 0,
                    )  # fmt: skip
            channels = (panel * NR, min(panel * NR + NR, c_out))
            scatter_tiles(m, m_plane, NR, 0, sheets.tiles, sheets, y, channels, scale, shift, residual, floor)
            panel = take(turns)


def block_size(tiles: int, threads: int, largest: int = 96) -> int:
    """Return the tiles of a block: a multiple of MR, at most ``largest``, such that the threads get equal shares."""
    rounds = -(-tiles // (largest * threads))
    return -(-tiles // (rounds * threads * MR)) * MR


def suits(sizes: Geometry) -> bool:
    """Tell whether it is such a convolution, of whole vectors of channels, on tiles that fill the products."""
    return _suits(sizes, sizes.weights[2])


def suits_turned(sizes: Geometry) -> bool:
    """Tell whether the input gradient is such a convolution: of the output's channels, with the kernel turned."""
    return _suits(sizes, sizes.weights[3])


def _suits(sizes: Geometry, inner: int) -> bool:
    """Do both; ``inner`` channels are summed over."""
    n, height, width, _ = sizes.maps
    whole = sizes.weights[2] % VL == 0 and sizes.weights[3] % VL == 0 and inner >= 32
    same = sizes.is_three_by_three(1) and sizes.padding == ((1, 1), (1, 1)) and sizes.groups == 1
    return same and whole and n * height * width >= LEAST_PIXELS


def convolve(x: np.ndarray, w: np.ndarray, sizes: Geometry, **finish: Any) -> np.ndarray:
    """Convolve (N, H, W, C_in) with (3, 3, C_in, C_out): ``max(conv * scale + shift + residual, floor)``."""
    return _compute(x, w, sizes, turned=False, **finish)


def input_gradient(dy: np.ndarray, w: np.ndarray, sizes: Geometry, **finish: Any) -> np.ndarray:
    """Convolve (N, H, W, C_out) with the kernel turned and its channels swapped on the way; finish likewise."""
    return _compute(dy, w, sizes, turned=True, **finish)


def _compute(
    x: np.ndarray,
    w: np.ndarray,
    sizes: Geometry,
    *,
    turned: bool,
    scale: np.ndarray | None = None,
    shift: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    floor: np.float32 = np.float32(-np.inf),  # noqa: B008
) -> np.ndarray:
    """Do both, on the way for a map of few tiles or of many."""
    w = np.ascontiguousarray(w)
    c_out = w.shape[2] if turned else w.shape[3]
    y = np.empty((*x.shape[:3], c_out), np.float32)
    scale, shift = scale_and_shift(scale, shift, c_out)
    residual = np.empty((0, 0, 0, 0), np.float32) if residual is None else residual
    sheets, threads = lay_out(*x.shape[:3]), shares()
    if sheets.tiles <= FEW_TILES:
        convolve_few(x, w, turned, y, scale, shift, residual, floor, sheets, threads)
    else:
        u = transform_weights(turn(w)) if turned else kept(w, transform_weights)
        convolve_many(x, u, y, scale, shift, residual, floor, sheets, block_size(sheets.tiles, threads), threads)
    return y
