"""3x3 convolution with stride 2 by Winograd's F(2, 2): 25 multiplications where the definition needs 36.

In one dimension, outputs 0 and 1 are made of columns 0 to 4 of a patch. Taps 0 and 2 meet the even columns and are a
convolution with stride 1, for which F(2, 2) takes 3 multiplications; tap 1 meets columns 1 and 3 and takes 2. With
weights a, b, c::

    m0 = (d2 - d0) (-a) + d1 b        y0 = m0 + m1
    m1 = d2 (a + c)                   y1 = m1 + m2
    m2 = (d4 - d2) c    + d3 b

So a patch becomes five values (``BT``), and there are three sums to interpolate (``AT``), two of which are over both
halves of the columns. In two dimensions, 5 x 5 pixels become 25 values for each channel, and 2 x 2 outputs are made of
9 sums over one, two or four of them and all channels. The numbers are only added and subtracted, so the errors are
about those of direct convolution. ``winograd`` explains the algorithm.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..machine import memory
from ..machine.arguments import scale_and_shift
from ..machine.simd import MR, NR, VL, make_transform, make_transform_finish, make_transform_from
from ..machine.threads import shares
from ..machine.tiles import gemm_tile_still
from ..machine.turns import new_turns, take
from .geometry import Geometry
from .winograd import PAD, block_size

BT = (
    (-1.0, 0.0, 1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 1.0, 0.0, 0.0),
    (0.0, 0.0, -1.0, 0.0, 1.0),
    (0.0, 0.0, 0.0, 1.0, 0.0),
)
G = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
AT = ((1.0, 1.0, 0.0), (0.0, 1.0, 1.0))
FIRST, COUNT = (0, 2, 3), (2, 1, 2)  # which of the five values are added up in each of the three sums
P, R, S, N = 5, 3, 3, 2  # values, taps, sums and outputs along one side
STRIDE = 2
BLOCK = 36  # tiles of a block, at most: their values stay in the caches
LEAST = 512  # tiles that are worth transforming the weights for

_transform_input = make_transform_from(BT)
_transform_weight = make_transform(G)
_transform_output = make_transform_finish(AT)


def _tiles(sizes: Geometry) -> int:
    n, rows, columns, _ = sizes.out
    return n * -(-rows // N) * -(-columns // N)


def suits(sizes: Geometry) -> bool:
    """Tell whether it is such a convolution, of whole vectors of channels, on a map that is not small."""
    c_in, c_out = sizes.weights[2:]
    whole = c_in % VL == 0 and c_out % VL == 0 and c_in >= 32
    return sizes.is_three_by_three(STRIDE) and sizes.groups == 1 and whole and _tiles(sizes) >= LEAST


@njit(cache=True, parallel=True, error_model="numpy")
def transform_weights(w):
    """Return G w G^T for (3, 3, C_in, C_out): P lines of S groups of panels.

    A group is (panels of C_out, values of the sum, C_in, NR).
    """
    c_in, c_out = w.shape[2], w.shape[3]
    panels = (c_out + NR - 1) // NR
    u = np.zeros((P, P * panels * c_in * NR + PAD), np.float32)
    for task in prange(panels * c_in):
        panel, k = task // c_in, task % c_in
        values = np.empty((P, P, VL), np.float32)
        for column in range(0, min(NR, c_out - panel * NR), VL):
            source = w.ctypes.data + (k * c_out + panel * NR + column) * 4
            _transform_weight(
                source, R * c_in * c_out * 4, c_in * c_out * 4, values.ctypes.data, P * VL * 4, VL * 4
            )  # fmt: skip
            for group in range(S):
                for j in range(COUNT[group]):
                    at = ((FIRST[group] * panels + panel * COUNT[group] + j) * c_in + k) * NR + column
                    for i in range(P):
                        for lane in range(VL):
                            u[i, at + lane] = values[i, FIRST[group] + j, lane]
    return u


@njit(cache=True, error_model="numpy", inline="never")
def _addresses(x, n, row, col, elsewhere, table):
    """Write where the pixels of a patch stand in memory; what lies outside the map is ``elsewhere``."""
    size, height, width, channels = table.shape[0], x.shape[1], x.shape[2], x.shape[3]
    for i in range(size):
        for j in range(size):
            inside = 0 <= row + i < height and 0 <= col + j < width
            at = x.ctypes.data + ((n * height + row + i) * width + col + j) * channels * 4
            table[i, j] = at if inside else elsewhere


@njit(cache=True, error_model="numpy", inline="never")
def _gather(x, first, last, tiles_y, tiles_x, top, left, v, line, tile_size):
    """Transform the patches of tiles first..last: P lines of tiles of P values of all channels."""
    channels = x.shape[3]
    table, zeros = np.empty((P, P), np.int64), np.zeros(channels, np.float32)
    for tile in range(first, last):
        n, rest = tile // (tiles_y * tiles_x), tile % (tiles_y * tiles_x)
        row, col = rest // tiles_x * N * STRIDE - top, rest % tiles_x * N * STRIDE - left
        _addresses(x, n, row, col, zeros.ctypes.data, table)
        for channel in range(0, channels, VL):
            target = v.ctypes.data + ((tile - first) * tile_size + channel) * 4
            _transform_input(table.ctypes.data, channel * 4, target, line * 4, channels * 4)


@njit(cache=True, error_model="numpy", inline="never")
def _scatter(m, plane, columns, first, last, tiles_y, tiles_x, y, scale, shift, residual, floor):
    """Transform back the sums of tiles first..last and write their 2x2 outputs."""
    table, beside = np.empty((N, N), np.int64), np.empty((N, N), np.int64)
    unused, zeros = np.empty(y.shape[3], np.float32), np.zeros(y.shape[3], np.float32)
    for tile in range(first, last):
        n, rest = tile // (tiles_y * tiles_x), tile % (tiles_y * tiles_x)
        row, col = rest // tiles_x * N, rest % tiles_x * N
        _addresses(y, n, row, col, unused.ctypes.data, table)
        besides = 0
        if residual.size > 0:
            _addresses(residual, n, row, col, zeros.ctypes.data, beside)
            besides = beside.ctypes.data
        for channel in range(0, y.shape[3], VL):
            _transform_output(
                m.ctypes.data + ((tile - first) * columns + channel) * 4, S * plane * 4, plane * 4,
                table.ctypes.data, channel * 4, scale.ctypes.data + channel * 4, shift.ctypes.data + channel * 4,
                besides, floor,
            )  # fmt: skip


@njit(cache=True, error_model="numpy", inline="never")
def _multiply(v, v_line, tile_size, tiles, u, c_in, m, plane, columns):
    """Add up the S x S sums of some tiles, for all output channels."""
    panels = columns // NR
    next_line = np.array([0, v_line * 4])
    for a in range(S):
        for b in range(S):
            k = COUNT[b] * c_in
            v_at = v.ctypes.data + (FIRST[a] * v_line + FIRST[b] * c_in) * 4
            u_at = u.ctypes.data + (FIRST[a] * u.shape[1] + FIRST[b] * panels * c_in * NR) * 4
            m_at = m.ctypes.data + (a * S + b) * plane * 4
            for panel in range(panels):
                # The last rows may lie past the last tile: sums of old scratch, which nobody reads
                for row in range(0, tiles, MR):
                    gemm_tile_still(
                        COUNT[a], next_line.ctypes.data, k, v_at + row * tile_size * 4, tile_size * 4,
                        u_at + panel * k * NR * 4, u.shape[1] * 4,
                        m_at + (row * columns + panel * NR) * 4, columns * 4, 0,
                    )  # fmt: skip


@njit(cache=True, parallel=True, error_model="numpy")
def _convolve(x, u, top, left, y, scale, shift, residual, floor, block, threads):
    c_in = x.shape[3]
    columns = (y.shape[3] + NR - 1) // NR * NR
    tiles_y, tiles_x = (y.shape[1] + N - 1) // N, (y.shape[2] + N - 1) // N
    tiles = y.shape[0] * tiles_y * tiles_x
    tile_size, m_plane = P * c_in + PAD, block * columns + PAD
    scratch_v = np.empty((threads, P * block * tile_size), np.float32)
    scratch_m = np.empty((threads, S * S * m_plane), np.float32)
    turns = new_turns()
    for thread in prange(threads):
        v, m = scratch_v[thread], scratch_m[thread]
        number = take(turns)
        while number * block < tiles:
            first, last = number * block, min((number + 1) * block, tiles)
            _gather(x, first, last, tiles_y, tiles_x, top, left, v, block * tile_size, tile_size)
            _multiply(v, block * tile_size, tile_size, last - first, u, c_in, m, m_plane, columns)
            _scatter(m, m_plane, columns, first, last, tiles_y, tiles_x, y, scale, shift, residual, floor)
            number = take(turns)


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
    """Convolve (N, H, W, C_in) with (3, 3, C_in, C_out): ``max(conv * scale + shift + residual, floor)``."""
    c_out = w.shape[3]
    y = memory.empty(sizes.out)
    scale, shift = scale_and_shift(scale, shift, c_out)
    residual = np.empty((0, 0, 0, 0), np.float32) if residual is None else residual
    threads = shares()
    u = transform_weights(np.ascontiguousarray(w))
    block = block_size(_tiles(sizes), threads, BLOCK)
    _convolve(x, u, sizes.top, sizes.left, y, scale, shift, residual, floor, block, threads)
    return y
