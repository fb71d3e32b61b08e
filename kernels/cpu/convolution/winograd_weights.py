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

WIDE = 128 * 128  # input times output channels above which the sums of one part are too large for a core's cache
BLOCK, LARGE_BLOCK = 48, 72  # tiles that are multiplied at a time, of few channels, of many: the order of the sums
FEW_THREADS = 4  # threads up to which each may transform all of dy for itself

_transform_dw = make_transform([list(column) for column in zip(*G)])


def parts_of(tiles: int, c_in: int, c_out: int) -> int:
    """Return into how many parts to cut the tiles.

    As many as cost at most an eighth of what the transformed tiles cost, at most 16, and at least 2, so that two
    threads have work. A part's sums are 36 C_in C_out numbers, what is transformed for it 36 (C_in + C_out) a tile.
    """
    return max(2, min(16, tiles * (c_in + c_out) // (8 * c_in * c_out)))


# Sums are (parts, 36, C_in, C_out), filled up to whole tiles of MR x NR: over the patches of each part, block by block,
# at each of the 36 points. The order in which numbers are added depends on parts and blocks, not on who adds them.


@njit(cache=True, error_model="numpy", inline="never")
def _multiply(points, rows, panels, planes, block, pitches, sums, add):
    """Add the products of a block of tiles to some points, rows and panels of ``sums`` (36, C_in, C_out).

    ``points``, ``rows`` and ``panels`` are (first, last); ``planes`` the addresses of the two sides and how many bytes
    apart their points are; ``block`` the first tile in them and how many; ``pitches`` the channels of a tile. The first
    block (``add`` is 0) begins the sums.
    """
    v, m, v_plane, m_plane = planes
    first, size = block
    v_pitch, m_pitch = pitches
    no_taps = np.zeros(1, np.int64)
    _, height, width = sums.shape
    for point in range(points[0], points[1]):
        for row in range(rows[0], rows[1]):
            for panel in range(panels[0], panels[1]):
                gemm_tile_columns(
                    1, no_taps.ctypes.data, size, v + point * v_plane + (first * v_pitch + row * MR) * 4, v_pitch * 4,
                    m + point * m_plane + (first * m_pitch + panel * NR) * 4, 0, m_pitch * 4,
                    sums.ctypes.data + ((point * height + row * MR) * width + panel * NR) * 4, width * 4, add,
                )  # fmt: skip


@njit(cache=True, parallel=True, error_model="numpy")
def _correlate_together(x, dy, c_out_wide, sheets, chunk, block, parts, threads):
    """Correlate: all threads transform a chunk of tiles; then each adds up its own share of the results.

    That keeps many threads busy, but each reads from the caches of all others what they have transformed.
    """
    c_in, c_out = x.shape[3], dy.shape[3]
    rows, panels, tiles = (c_in + MR - 1) // MR, c_out_wide // NR, sheets.tiles
    v_plane, m_plane = chunk * c_in + PAD, chunk * c_out + PAD
    # PAD and NR floats to spare: whole tiles read past the last channel, and what they compute there is left behind
    v, m = np.empty(P * P * v_plane + NR, np.float32), np.empty(P * P * m_plane + NR, np.float32)
    planes = v.ctypes.data, m.ctypes.data, v_plane * 4, m_plane * 4
    sums = np.empty((parts, P * P, rows * MR, c_out_wide), np.float32)
    share = 4 * threads
    for part in range(parts):
        start, stop = tiles * part // parts, tiles * (part + 1) // parts
        for first in range(start, stop, chunk):
            last = min(first + chunk, stop)
            gathering, turns = new_turns(), new_turns()
            for _thread in prange(threads):
                task = take(gathering)
                while task < share:
                    begin, end = first + (last - first) * task // share, first + (last - first) * (task + 1) // share
                    skip = begin - first  # the tiles of this chunk that lie before those of the task
                    gather_tiles(x, begin, end, (0, c_in), sheets, v[skip * c_in :], v_plane, False)
                    gather_tiles(dy, begin, end, (0, c_out), sheets, m[skip * c_out :], m_plane, True)
                    task = take(gathering)
            for _thread in prange(threads):
                task = take(turns)
                while task < P * P * rows:
                    point, row = task // rows, task % rows
                    for begin in range(first, last, block):
                        _multiply(
                            (point, point + 1), (row, row + 1), (0, panels), planes,
                            (begin - first, min(block, last - begin)), (c_in, c_out), sums[part], begin - start,
                        )  # fmt: skip
                    task = take(turns)
    return sums


@njit(cache=True, parallel=True, error_model="numpy")
def _correlate_apart(x, dy, c_out_wide, sheets, block, parts, threads):
    """Correlate: a part belongs to one thread, from which nobody else reads; a block and its sums stay in its cache.

    Only where there are few channels, so that several sums are not too many.
    """
    c_in, c_out = x.shape[3], dy.shape[3]
    rows, panels, tiles = (c_in + MR - 1) // MR, c_out_wide // NR, sheets.tiles
    v_plane, m_plane = block * c_in + PAD, block * c_out + PAD
    v, m = np.empty((threads, P * P * v_plane + NR), np.float32), np.empty((threads, P * P * m_plane + NR), np.float32)
    sums = np.empty((parts, P * P, rows * MR, c_out_wide), np.float32)
    turns = new_turns()
    for thread in prange(threads):
        left, right = v[thread], m[thread]
        planes = left.ctypes.data, right.ctypes.data, v_plane * 4, m_plane * 4
        part = take(turns)
        while part < parts:
            start, stop = tiles * part // parts, tiles * (part + 1) // parts
            for first in range(start, stop, block):
                last = min(first + block, stop)
                gather_tiles(x, first, last, (0, c_in), sheets, left, v_plane, False)
                gather_tiles(dy, first, last, (0, c_out), sheets, right, m_plane, True)
                _multiply(
                    (0, P * P), (0, rows), (0, panels), planes, (0, last - first), (c_in, c_out), sums[part],
                    first - start,
                )  # fmt: skip
            part = take(turns)
    return sums


@njit(cache=True, error_model="numpy", inline="never")
def _transform_back(sums, row, dw, channel):
    """Write G^T du G to an input channel of ``dw`` (3, 3, C_in, C_out); du is a row of ``sums`` (36, rows, C_out)."""
    c_in, c_out = dw.shape[2:]
    plane = sums.shape[1] * sums.shape[2] * 4
    for first in range(0, c_out, VL):
        source = sums.ctypes.data + (row * sums.shape[2] + first) * 4
        target = dw.ctypes.data + (channel * c_out + first) * 4
        _transform_dw(source, P * plane, plane, target, R * c_in * c_out * 4, c_in * c_out * 4)


@njit(cache=True, parallel=True, error_model="numpy")
def _gradient_by_rows(x, dy, c_out_wide, sheets, block, cuts, most):
    """Return the kernel's gradient; thread t has input channels ``cuts[t]`` to ``cuts[t + 1]``, at most ``most``.

    Each transforms all of dy for itself, so only a few threads gain by it; they read nothing that another has written.
    With as many channels on both sides, output channels of its own and all of x would be more to transform: patches of
    x are 6x6, those of dy 4x4.
    """
    c_in, c_out, threads = x.shape[3], dy.shape[3], cuts.size - 1
    rows, panels, tiles = (most + MR - 1) // MR, c_out_wide // NR, sheets.tiles
    v_plane, m_plane = block * most + PAD, block * c_out + PAD
    v, m = np.empty((threads, P * P * v_plane + NR), np.float32), np.empty((threads, P * P * m_plane + NR), np.float32)
    sums = np.empty((threads, P * P, rows * MR, c_out_wide), np.float32)
    dw = np.empty((R, R, c_in, c_out), np.float32)
    for thread in prange(threads):
        left, right, begin, end = v[thread], m[thread], cuts[thread], cuts[thread + 1]
        planes = left.ctypes.data, right.ctypes.data, v_plane * 4, m_plane * 4
        own = (0, (end - begin + MR - 1) // MR)
        for first in range(0, tiles, block):
            last = min(first + block, tiles)
            gather_tiles(x, first, last, (begin, end), sheets, left, v_plane, False)
            gather_tiles(dy, first, last, (0, c_out), sheets, right, m_plane, True)
            _multiply(
                (0, P * P), own, (0, panels), planes, (0, last - first), (end - begin, c_out), sums[thread], first
            )
        for channel in range(begin, end):
            _transform_back(sums[thread], channel - begin, dw, channel)
    return dw


@njit(cache=True, parallel=True, error_model="numpy")
def _transform_gradient(sums, c_in, c_out):
    """Return G^T du G, (3, 3, C_in, C_out), of the sum of all parts, which is left in the first."""
    dw = np.empty((R, R, c_in, c_out), np.float32)
    parts, points = sums.shape[:2]
    for k in prange(c_in):
        for part in range(1, parts):
            for point in range(points):
                total, more = sums[0, point, k], sums[part, point, k]
                for j in range(c_out):
                    total[j] += more[j]
        _transform_back(sums[0], k, dw, k)
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
            gather_tiles(x, begin, end, (0, c_in), sheets, v[begin * c_in :], v_plane, False)
            gather_tiles(dy, begin, end, (0, c_out), sheets, m[begin * c_out :], m_plane, True)
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
    sheets, threads, c_out_wide = lay_out(*sizes.maps[:3]), shares(), -(-c_out // NR) * NR
    if sheets.tiles <= FEW_TILES:
        return _gradient_few(x, dy, c_out_wide, sheets, threads)
    # What is transformed together is a multiple of what is multiplied at a time, for the same bits with any threads
    parts, vectors = parts_of(sheets.tiles, c_in, c_out), c_in // VL
    if c_in * c_out <= WIDE and threads <= parts:
        sums = _correlate_apart(x, dy, c_out_wide, sheets, BLOCK, parts, threads)
    elif c_in * c_out <= WIDE:
        sums = _correlate_together(x, dy, c_out_wide, sheets, 6 * BLOCK, BLOCK, parts, threads)
    elif 2 <= threads <= min(FEW_THREADS, vectors // 2):  # two vectors of channels for each, at least
        cuts = vectors * np.arange(threads + 1) // threads * VL
        return _gradient_by_rows(x, dy, c_out_wide, sheets, LARGE_BLOCK, cuts, int(np.diff(cuts).max()))
    else:
        sums = _correlate_together(x, dy, c_out_wide, sheets, 2 * LARGE_BLOCK, LARGE_BLOCK, 1, threads)
    return _transform_gradient(sums, c_in, c_out)
