"""The product of two matrices, either of them turned, in blocks that stay in the caches (``caches`` has their sizes).

Every thread computes a rectangle of the result, block of rows by block of rows: it copies a stretch of the left side
and, a few panels at a time, of the right side, into the order in which the tiles read them. That takes the place of a
pass over memory, and turns a matrix for nothing. While the tiles compute, they ask for what will be copied next.

A small result of long sums, as a weight gradient is, has no rectangles for many threads; then the sums are cut, too.

Every result is a sum of sums over stretches, added in order. That keeps the rounding error of long sums low, and makes
it the same whatever the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .caches import ROWS, STRETCH
from .memory import empty
from .simd import MR, NR, VL
from .threads import shares
from .tiles import copy_to_panel, copy_to_tile, gemm_tile_packed, transpose_rows, transpose_vectors

PANELS = 4  # of the right side that are copied together: as many columns in a row of memory as the prefetcher likes
GAP = 16  # floats between tiles of the left side, so that they do not fall on the same cache lines
DEPTH = 8  # stretches of a sum that is worth cutting
PARTS = 16  # into which it is cut at most
SMALL = 1 << 16  # results that are so few
NO_MATRIX = np.empty((0, 0), np.float32)
WIDTH = 32 * NR  # columns of a block: its sums stay in the last cache from one stretch to the next


@njit(cache=True, error_model="numpy", inline="never")
def _copy_left(a, turned, row, rows, first, size, block):
    """Copy ``rows`` rows by ``size`` columns of the left side to tiles (size, MR), the last one filled up."""
    pitch, whole = size * MR + GAP, rows // MR * MR
    if rows > whole:
        block[whole // MR * pitch : whole // MR * pitch + size * MR] = 0
    if turned:
        for m in range(0, whole, MR):
            source = a.ctypes.data + (first * a.shape[1] + row + m) * 4
            copy_to_tile(source, a.shape[1] * 4, block.ctypes.data + m // MR * pitch * 4, size)
        for k in range(size if whole < rows else 0):
            for i in range(whole, rows):
                block[whole // MR * pitch + k * MR + i - whole] = a[first + k, row + i]
        return
    along = size // VL * VL
    for m in range(0, whole, MR):
        begin = m // MR * pitch
        for k in range(0, along, VL):
            transpose_rows(
                a.ctypes.data + ((row + m) * a.shape[1] + first + k) * 4, a.shape[1] * 4,
                block.ctypes.data + (begin + k * MR) * 4, MR * 4,
            )  # fmt: skip
        for k in range(along, size):
            for i in range(MR):
                block[begin + k * MR + i] = a[row + m + i, first + k]
    for i in range(whole, rows):
        for k in range(size):
            block[whole // MR * pitch + k * MR + i - whole] = a[row + i, first + k]


@njit(cache=True, error_model="numpy", inline="never")
def _copy_right(b, turned, column, columns, first, size, panels):
    """Copy ``size`` rows by ``columns`` columns of the right side to panels (size, NR), the last one filled up."""
    whole = columns // NR * NR
    if columns > whole:
        panels[whole * size : (whole + NR) * size] = 0
    if not turned:
        for n in range(0, whole, NR):
            source = b.ctypes.data + (first * b.shape[1] + column + n) * 4
            copy_to_panel(source, b.shape[1] * 4, panels.ctypes.data + n * size * 4, size)
        for k in range(size if whole < columns else 0):
            for n in range(whole, columns):
                panels[whole * size + k * NR + n - whole] = b[first + k, column + n]
        return
    across, along = columns // VL * VL, size // VL * VL
    for n in range(0, across, VL):
        target = n // NR * NR * size + n % NR
        for k in range(0, along, VL):
            transpose_vectors(
                b.ctypes.data + ((column + n) * b.shape[1] + first + k) * 4, b.shape[1] * 4,
                panels.ctypes.data + (target + k * NR) * 4, NR * 4,
            )  # fmt: skip
        for k in range(along, size):
            for i in range(VL):
                panels[target + k * NR + i] = b[column + n + i, first + k]
    for n in range(across, columns):
        for k in range(size):
            panels[n // NR * NR * size + n % NR + k * NR] = b[column + n, first + k]


@njit(cache=True, error_model="numpy", inline="never")
def _ask(a, turned, row, rows, first, size, part, parts, calls):
    """Return how ``calls`` tiles ask for a part of what ``_copy_left`` or ``_copy_right`` will copy.

    That is an address, how many rows from there on, the bytes from one to the next, and the bytes in a step of a tile.
    Rows that lie one behind the other are cut anew, into as many as there are calls.
    """
    lines, length = (size, rows) if turned else (rows, size)
    stride = a.shape[1] * 4
    begin = a.ctypes.data + ((first if turned else row) * a.shape[1] + (row if turned else first)) * 4
    if length * 4 == stride:
        stride = max(1, lines * length * 4 // (parts * calls))
        return begin + part * calls * stride, calls, stride, (stride + size - 1) // size
    from_line, to_line = lines * part // parts, lines * (part + 1) // parts
    return begin + from_line * stride, to_line - from_line, stride, (length * 4 + size - 1) // size


@njit(cache=True, error_model="numpy", inline="never")
def _meet(left, tiles, panel, size, sums, add, asked):
    """Let all tiles of a block meet a panel; the results are (tiles, MR, NR). Meanwhile ask for what comes next."""
    beside, many, apart, pace = asked
    for t in range(tiles):
        gemm_tile_packed(
            size, left.ctypes.data + t * (size * MR + GAP) * 4, panel, sums.ctypes.data + t * MR * NR * 4, NR * 4, add,
            beside + t * many // tiles * apart, pace,
        )  # fmt: skip


@njit(cache=True, error_model="numpy", inline="never")
def _write(sums, shift, residual, out, row, rows, column, columns):
    """Write panels of tiles (panels, tiles, MR, NR), plus shift and residual, to where they belong in ``out``."""
    for m in range(rows):
        for start in range(0, columns, NR):
            source, begin, end = sums[start // NR, m // MR, m % MR], column + start, column + min(start + NR, columns)
            target, added = out[row + m, begin:end], shift[begin:end]
            for j in range(target.size):
                target[j] = source[j] + added[j]
            if residual.size > 0:
                beside = residual[row + m, begin:end]
                for j in range(target.size):
                    target[j] += beside[j]


@njit(cache=True, parallel=True, error_model="numpy")
def _multiply(a, a_turned, b, b_turned, shift, residual, out, down, across, stretch, most):
    """Write a @ b + shift + residual to ``out`` (parts, M, N), a and b turned or not, each part a part of the sums.

    A part is computed in ``down`` x ``across`` rectangles; these in blocks of at most ``most`` rows and WIDTH columns,
    ``stretch`` steps of the sums at a time.
    """
    parts, m, n = out.shape
    k = a.shape[0] if a_turned else a.shape[1]
    stretches = (k + stretch - 1) // stretch
    tiles_in_all, panels_in_all = (m + MR - 1) // MR, (n + NR - 1) // NR
    for task in prange(parts * down * across):
        part, i, j = task // (down * across), task // across % down, task % across
        top, bottom = tiles_in_all * i // down * MR, min(m, tiles_in_all * (i + 1) // down * MR)
        begin, end = panels_in_all * j // across * NR, min(n, panels_in_all * (j + 1) // across * NR)
        from_k, to_k = stretches * part // parts * stretch, min(k, stretches * (part + 1) // parts * stretch)
        blocks = max(1, (bottom - top + most - 1) // most)
        block = ((bottom - top + MR - 1) // MR + blocks - 1) // blocks * MR
        left = np.empty(block // MR * (stretch * MR + GAP) + VL, np.float32)
        right = np.empty(PANELS * NR * stretch, np.float32)
        sums = np.zeros((min(WIDTH, end - begin + NR - 1) // NR, block // MR, MR, NR), np.float32)
        for row in range(top, bottom, block):
            rows = min(block, bottom - row)
            tiles = (rows + MR - 1) // MR
            for near in range(begin, end, WIDTH):
                width = min(WIDTH, end - near)
                panels = (width + NR - 1) // NR
                for first in range(from_k, to_k, stretch):
                    size, then = min(stretch, to_k - first), min(first + stretch, to_k)
                    _copy_left(a, a_turned, row, rows, first, size, left)
                    for panel in range(panels):
                        number = panel % PANELS
                        group = (panel - number) * NR
                        if number == 0:
                            columns = min(PANELS * NR, width - group)
                            _copy_right(b, b_turned, near + group, columns, first, size, right)
                        asked = (left.ctypes.data, 0, 0, 0)
                        if panel % 2 == 0 and then < to_k:
                            following = min(stretch, to_k - then)
                            asked = _ask(
                                a, a_turned, row, rows, then, following, panel // 2, (panels + 1) // 2, tiles
                            )  # fmt: skip
                        elif panel % 2 == 1:
                            further = group + PANELS * NR
                            at = first
                            if further >= width:
                                further, at = 0, then
                            if at < to_k:
                                following, wide = min(stretch, to_k - at), min(PANELS * NR, width - further)
                                asked = _ask(
                                    b, not b_turned, near + further, wide, at, following, number // 2, PANELS // 2,
                                    tiles,
                                )  # fmt: skip
                        _meet(
                            left, tiles, right.ctypes.data + number * NR * size * 4, size, sums[panel], first > from_k,
                            asked,
                        )  # fmt: skip
                if from_k == to_k:
                    sums[:] = 0
                _write(sums, shift, residual, out[part], row, rows, near, width)


def rectangles(rows: int, columns: int, threads: int) -> tuple[int, int]:
    """Return how often to cut a result down and across, so that each thread copies as little as possible.

    Each copies the rows and the columns that its rectangle is made of.
    """
    tiles, panels = -(-rows // MR), -(-columns // NR)
    cuts = [(down, threads // down) for down in range(1, threads + 1) if threads % down == 0]
    return min(cuts, key=lambda cut: -(-tiles // cut[0]) * MR + -(-panels // cut[1]) * NR)


def multiply(
    a: np.ndarray,
    b: np.ndarray,
    *,
    turn_a: bool = False,
    turn_b: bool = False,
    shift: np.ndarray | None = None,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """Return ``a @ b + shift + residual`` for contiguous float32 matrices.

    Parameters
    ----------
    a : ndarray
        (M, K); ``turn_a``: (K, M).
    b : ndarray
        (K, N); ``turn_b``: (N, K).
    shift : ndarray, optional
        (N,).
    residual : ndarray, optional
        (M, N), contiguous.
    """
    m, n, k = a.shape[1 if turn_a else 0], b.shape[0 if turn_b else 1], a.shape[0 if turn_a else 1]
    alone = shift is None and residual is None
    parts = max(1, min(PARTS, k // (DEPTH * STRETCH))) if alone and m * n <= SMALL else 1
    cuts = rectangles(m, n, shares()) if parts == 1 else (1, 1)
    out = empty((parts, m, n))
    added = np.zeros(n, np.float32) if shift is None else np.ascontiguousarray(shift)
    beside = NO_MATRIX if residual is None else residual
    _multiply(a, turn_a, b, turn_b, added, beside, out, *cuts, STRETCH, ROWS)
    return out[0] if parts == 1 else out.sum(axis=0)
