"""The weight gradient of a 3x3 convolution by Winograd's F(4x4, 3x3).

The forward pass is ``y = A^T [sum over channels (G w G^T) (B^T d B)] A``, a linear map of w. Its transpose takes dy
with A instead of A^T and gives dw with G^T instead of G; d is transformed as before: ``dw = G^T [sum over tiles (B^T d
B) (A dy A^T)] G``. At each of the 36 points the sum over the tiles is a product of two matrices.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..machine.simd import MR, NR, VL, make_transform
from ..machine.threads import shares
from ..machine.tiles import gemm_tile_columns
from ..machine.turns import new_turns, take
from .geometry import Geometry
from .winograd import FEW_TILES, PAD, G, P, R, gather_tiles
from .winograd_tiles import lay_out

_transform_dw = make_transform([list(column) for column in zip(*G)])


@njit(cache=True, parallel=True, error_model="numpy")
def _correlate_points(x, dy, c_out_wide, sheets, block, threads):
    """Return, for each of the 36 points, the sum over tiles of (B^T x B) (A dy A^T): (36, C_in, C_out), filled up.

    All threads transform a chunk of tiles; then each adds up its own share of the results, in the order of the tiles.
    """
    c_in, c_out = x.shape[3], dy.shape[3]
    rows, panels = (c_in + MR - 1) // MR, c_out_wide // NR
    tiles = sheets.tiles
    v_plane, m_plane = block * c_in + PAD, block * c_out + PAD
    # NR floats to spare: whole tiles read past the last channel, and what they compute there is left behind
    v, m = np.empty(P * P * v_plane + NR, np.float32), np.empty(P * P * m_plane + NR, np.float32)
    du = np.zeros((P * P, rows * MR, c_out_wide), np.float32)
    no_taps = np.zeros(1, np.int64)
    share = 4 * threads
    for first in range(0, tiles, block):
        last = min(first + block, tiles)
        gathering, turns = new_turns(), new_turns()
        for _thread in prange(threads):
            part = take(gathering)
            while part < share:
                begin, end = first + (last - first) * part // share, first + (last - first) * (part + 1) // share
                skip = begin - first  # the tiles of this chunk that lie before those of the part
                gather_tiles(x, begin, end, sheets, v[skip * c_in :], v_plane, False)
                gather_tiles(dy, begin, end, sheets, m[skip * c_out :], m_plane, True)
                part = take(gathering)
        for _thread in prange(threads):
            task = take(turns)
            while task < P * P * rows:
                point, row = task // rows, task % rows
                a = v.ctypes.data + (point * v_plane + row * MR) * 4
                for panel in range(panels):
                    gemm_tile_columns(
                        1, no_taps.ctypes.data, last - first, a, c_in * 4,
                        m.ctypes.data + (point * m_plane + panel * NR) * 4, 0, c_out * 4,
                        du.ctypes.data + ((point * rows + row) * MR * c_out_wide + panel * NR) * 4, c_out_wide * 4, 1,
                    )  # fmt: skip
                task = take(turns)
    return du


@njit(cache=True, parallel=True, error_model="numpy")
def _transform_gradient(du, c_in, c_out):
    """Return G^T du G, (3, 3, C_in, C_out)."""
    dw = np.empty((R, R, c_in, c_out), np.float32)
    plane, line = du.shape[1] * du.shape[2] * 4, du.shape[2]
    for k in prange(c_in):
        for first in range(0, c_out, VL):
            source, target = du.ctypes.data + (k * line + first) * 4, dw.ctypes.data + (k * c_out + first) * 4
            _transform_dw(source, P * plane, plane, target, R * c_in * c_out * 4, c_in * c_out * 4)
    return dw


@njit(cache=True, parallel=True, error_model="numpy")
def _gradient_few(x, dy, c_out_wide, sheets, threads):
    """Return the kernel's gradient, for a map of few tiles: MR input channels at a time, transformed back at once."""
    c_in, c_out = x.shape[3], dy.shape[3]
    rows, panels = (c_in + MR - 1) // MR, c_out_wide // NR
    tiles = sheets.tiles
    v_plane, m_plane, u_plane = tiles * c_in + PAD, tiles * c_out + PAD, MR * c_out_wide + PAD
    v, m = np.empty(P * P * v_plane + NR, np.float32), np.empty(P * P * m_plane + NR, np.float32)
    share = min(4 * threads, tiles)
    gathering, turns = new_turns(), new_turns()
    for _thread in prange(threads):
        part = take(gathering)
        while part < share:
            begin, end = tiles * part // share, tiles * (part + 1) // share
            gather_tiles(x, begin, end, sheets, v[begin * c_in :], v_plane, False)
            gather_tiles(dy, begin, end, sheets, m[begin * c_out :], m_plane, True)
            part = take(gathering)
    dw = np.empty((R, R, c_in, c_out), np.float32)
    scratch = np.empty((threads, P * P * u_plane), np.float32)
    no_taps = np.zeros(1, np.int64)
    for thread in prange(threads):
        du = scratch[thread]
        row = take(turns)
        while row < rows:
            for point in range(P * P):
                for panel in range(panels):
                    gemm_tile_columns(
                        1, no_taps.ctypes.data, tiles, v.ctypes.data + (point * v_plane + row * MR) * 4, c_in * 4,
                        m.ctypes.data + (point * m_plane + panel * NR) * 4, 0, c_out * 4,
                        du.ctypes.data + (point * u_plane + panel * NR) * 4, c_out_wide * 4, 0,
                    )  # fmt: skip
            for k in range(row * MR, min((row + 1) * MR, c_in)):
                for first in range(0, c_out, VL):
                    source = du.ctypes.data + ((k - row * MR) * c_out_wide + first) * 4
                    target = dw.ctypes.data + (k * c_out + first) * 4
                    _transform_dw(source, P * u_plane * 4, u_plane * 4, target, R * c_in * c_out * 4, c_in * c_out * 4)
            row = take(turns)
    return dw


def weight_gradient(x: np.ndarray, dy: np.ndarray, sizes: Geometry) -> np.ndarray:
    """Return the gradient of a 3x3 kernel, stride 1, padding 1, from the input and the gradient of the output."""
    c_in, c_out = sizes.weights[2:]
    sheets, threads, wide = lay_out(*sizes.maps[:3]), shares(), -(-c_out // NR) * NR
    if sheets.tiles <= FEW_TILES:
        return _gradient_few(x, dy, wide, sheets, threads)
    block = min(sheets.tiles, 288 if max(c_in, c_out) <= 128 else 144)
    return _transform_gradient(_correlate_points(x, dy, wide, sheets, block, threads), c_in, c_out)
