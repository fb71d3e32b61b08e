"""What the intrinsics compute, in NumPy: their definition, and what runs in their place under NUMBA_DISABLE_JIT=1.

Each factory returns the twin of an intrinsic of ``simd``, ``slide``, ``stem`` or ``exponential``: a function of the
same arguments that reads and writes the same addresses. All memory is reached through ``floats`` and ``integers``, so a
test can watch every access. What only makes things faster has no counterpart: a twin does not prefetch, and streams
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import config
from numba.extending import intrinsic


class _Memory:
    """What ``np.asarray`` takes for an array at an address."""

    def __init__(self, address: int, kind: str, sides: tuple[tuple[int, int], ...]) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (int(address), False),
            "typestr": kind,
            "shape": tuple(int(count) for count, _ in sides),
            "strides": tuple(int(stride) for _, stride in sides),
        }


def view(address: int, kind: str, *sides: tuple[int, int]) -> np.ndarray:
    """Return the array of ``kind`` whose element (i, j, ...) stands ``i stride_0 + j stride_1 + ...`` bytes further on.

    ``sides`` are pairs of a count and a stride. It is a view: writing to it writes to memory.
    """
    return np.asarray(_Memory(address, kind, sides))


def floats(address: int, *sides: tuple[int, int]) -> np.ndarray:
    """Return float32 numbers in memory."""
    return view(address, "<f4", *sides)


def integers(address: int, count: int) -> np.ndarray:
    """Return int64 numbers in memory, one after the other."""
    return view(address, "<i8", (count, 8))


def with_twin(twin: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make an intrinsic that remembers its twin; without Numba's compiler, take the twin itself."""

    def choose(function: Callable[..., Any]) -> Any:
        if config.DISABLE_JIT:  # type: ignore[attr-defined]
            return twin
        compiled = intrinsic(function)
        compiled.twin = twin  # type: ignore[attr-defined]
        return compiled

    return choose


def nothing(*args: Any) -> None:
    """Stand in for ``fence`` and ``prefetch``."""


def take(turns: np.ndarray) -> int:
    """Return the first number of an array and add one to it."""
    turns[0] += 1
    return int(turns[0]) - 1


def check_aligned(address: int, vl: int) -> None:
    """Raise if a vector cannot be streamed to an address; the processor would end the program."""
    if address % (4 * vl):
        raise ValueError(f"a streamed store to {address:#x}, which is no multiple of a vector's size")


def power_of_two(rounded: np.float32) -> np.float32:
    """Return 2^n, where n stands in the low bits of ``rounded``."""
    bits = int(np.float32(rounded).view(np.uint32))
    return np.uint32(((bits << 23) + (127 << 23)) % 2**32).view(np.float32)


def finish(value: np.ndarray, scale: Any, shift: Any, residual: Any, floor: np.float32) -> np.ndarray:
    """Return ``max(value * scale + shift + residual, floor)``; NaN stays NaN."""
    value = value * scale + shift + residual
    return np.where(value < floor, np.float32(floor), value)


# --- simd -----------------------------------------------------------------------------------------------------------


def _add_products(
    total: np.ndarray, count: int, taps: int, k: int, a: int, a_row: int, a_col: int, b: int, b_tap: int, b_row: int
) -> np.ndarray:
    """Return ``total`` (rows, columns) plus the products of all taps, added one after the other as the tile does."""
    rows, columns = total.shape
    for tap, offset in enumerate(integers(taps, count)):
        left = floats(a + int(offset), (k, a_col), (rows, a_row))
        right = floats(b + tap * b_tap, (k, b_row), (columns, 4))
        with np.errstate(invalid="ignore", over="ignore"):  # in rows that nobody reads there may be anything
            products = left[:, :, None] * right[:, None, :]
            total = np.add.reduce(np.concatenate([total[None], products]))
    return total


def gemm_tile(rows: int, columns: int) -> Callable[..., None]:
    """Return the twin of a tile of ``rows`` x ``columns`` sums that are added to ``out`` or replace it."""

    def tile(
        count: int, taps: int, k: int, a: int, a_row: int, b: int, b_tap: int, out: int, out_row: int, accumulate: int
    ) -> None:
        result = floats(out, (rows, out_row), (columns, 4))
        sums = _add_products(np.zeros_like(result), count, taps, k, a, a_row, 4, b, b_tap, columns * 4)
        result[...] = result + sums if accumulate else sums

    return tile


def gemm_tile_columns(rows: int, columns: int) -> Callable[..., None]:
    """Return the twin of the same tile whose left side lies column by column."""

    def tile(
        count: int, taps: int, k: int, a: int, a_col: int, b: int, b_tap: int, b_row: int, out: int, out_row: int,
        accumulate: int,
    ) -> None:  # fmt: skip
        result = floats(out, (rows, out_row), (columns, 4))
        sums = _add_products(np.zeros_like(result), count, taps, k, a, 4, a_col, b, b_tap, b_row)
        result[...] = result + sums if accumulate else sums

    return tile


def gemm_tile_packed(rows: int, columns: int) -> Callable[..., None]:
    """Return the twin of the tile whose sides lie in the order in which they are read."""
    tile = gemm_tile_columns(rows, columns)

    def packed(k: int, a: int, b: int, out: int, out_row: int, accumulate: int, beside: int, pace: int) -> None:
        no_taps = np.zeros(1, np.int64)
        tile(1, no_taps.ctypes.data, k, a, rows * 4, b, 0, columns * 4, out, out_row, accumulate)

    return packed


def gemm_tile_finish(rows: int, columns: int) -> Callable[..., None]:
    """Return the twin of a tile whose sums are scaled, shifted, added to a residual and clamped from below."""

    def tile(
        count: int, taps: int, k: int, a: int, a_row: int, b: int, b_tap: int, outs: int, skip: int, later: int,
        later_row: int, scale: int, shift: int, residual_by: int, floor: np.float32, stream: int,
    ) -> None:  # fmt: skip
        sums = np.zeros((rows, columns), np.float32)
        sums = _add_products(sums, count, taps, k, a, a_row, 4, b, b_tap, columns * 4)
        scales, shifts = floats(scale, (columns, 4)), floats(shift, (columns, 4))
        for place, row in zip(integers(outs, rows), sums):
            out = int(place) + skip
            residual = floats(out + residual_by, (columns, 4)) if residual_by else np.float32(0)
            if stream:
                check_aligned(out, columns // 2)
            floats(out, (columns, 4))[...] = finish(row, scales, shifts, residual, floor)

    return tile


def copy_rows(width: int) -> Callable[..., None]:
    """Return the twin of the intrinsic that copies rows of ``width`` numbers."""

    def run(source: int, source_row: int, target: int, count: int) -> None:
        floats(target, (count, width * 4), (width, 4))[...] = floats(source, (count, source_row), (width, 4))

    return run


def transpose(count: int, vl: int) -> Callable[..., None]:
    """Return the twin of the intrinsic that turns ``count`` rows of ``vl`` numbers."""

    def run(source: int, source_row: int, target: int, target_row: int) -> None:
        columns = np.zeros((vl, vl), np.float32)
        columns[:, :count] = floats(source, (count, source_row), (vl, 4)).T
        for i, column in enumerate(columns):  # one after the other: they may overlap
            floats(target + i * target_row, (vl, 4))[...] = column

    return run


def _two_sided(matrix: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return matrix @ grid @ matrix.T for a grid (n, n, VL) of vectors."""
    down = (matrix @ grid.reshape(len(grid), -1)).reshape(len(matrix), *grid.shape[1:])
    return matrix @ down


def _vectors(table: int, side: int, offset: int, vl: int) -> list[np.ndarray]:
    """Return the side^2 vectors whose addresses, less ``offset``, stand in a table."""
    return [floats(int(address) + offset, (vl, 4)) for address in integers(table, side * side)]


def transform(matrix: Sequence[Sequence[float]], vl: int) -> Callable[..., None]:
    """Return the twin of ``simd.make_transform(matrix)``, for vectors of ``vl`` floats."""
    m = np.array(matrix, np.float32)
    n_out, n_in = m.shape

    def run(source: int, source_row: int, source_col: int, target: int, target_row: int, target_col: int) -> None:
        grid = floats(source, (n_in, source_row), (n_in, source_col), (vl, 4))
        floats(target, (n_out, target_row), (n_out, target_col), (vl, 4))[...] = _two_sided(m, grid)

    return run


def transform_from(matrix: Sequence[Sequence[float]], vl: int) -> Callable[..., None]:
    """Return the twin of ``simd.make_transform_from(matrix)``."""
    m = np.array(matrix, np.float32)
    n_out, n_in = m.shape

    def run(sources: int, offset: int, target: int, target_row: int, target_col: int) -> None:
        grid = np.stack(_vectors(sources, n_in, offset, vl)).reshape(n_in, n_in, vl)
        floats(target, (n_out, target_row), (n_out, target_col), (vl, 4))[...] = _two_sided(m, grid)

    return run


def transform_finish(matrix: Sequence[Sequence[float]], vl: int) -> Callable[..., None]:
    """Return the twin of ``simd.make_transform_finish(matrix)``."""
    m = np.array(matrix, np.float32)
    n_out, n_in = m.shape

    def run(
        source: int, source_row: int, source_col: int, targets: int, offset: int, scale: int, shift: int,
        residuals: int, floor: np.float32,
    ) -> None:  # fmt: skip
        grid = floats(source, (n_in, source_row), (n_in, source_col), (vl, 4))
        beside = np.stack(_vectors(residuals, n_out, offset, vl)) if residuals else np.float32(0)
        results = _two_sided(m, grid).reshape(-1, vl)
        results = finish(results, floats(scale, (vl, 4)), floats(shift, (vl, 4)), beside, floor)
        for target, result in zip(_vectors(targets, n_out, offset, vl), results):
            target[...] = result

    return run


# --- slide ----------------------------------------------------------------------------------------------------------


def _input_of_lane(mode: int, channels: int, vl: int) -> np.ndarray:
    """Return (channels, vl): where, in what is read at a position, input channel c of each lane's group stands."""
    lane, channel = np.arange(vl), np.arange(channels)[:, None]
    return lane // mode * mode + channel if mode else channel + 0 * lane


def _positions(
    x: int, x_step: int, low: int, high: int, zeros: int, count: int, size: int, skip: int = 0
) -> np.ndarray:
    """Return (count, size): the floats from ``skip`` on at each position of x, zeros outside [low, high)."""
    return np.stack([floats(x + t * x_step + skip if low <= t < high else zeros, (size, 4)) for t in range(count)])


def slide(pixels: int, columns: int, stride: int, vl: int) -> Callable[..., None]:
    """Return the twin of ``slide.make_slide(pixels, columns, stride)``, for vectors of ``vl`` floats."""
    meets = stride * np.arange(pixels)[:, None] + np.arange(columns)  # positions of each output's taps
    count_x = stride * (pixels - 1) + columns

    def run(
        mode: int, count: int, runs: int, x: int, x_step: int, first: int, zeros: int, channels: int, w: int,
        out: int, out_step: int, scale: int, shift: int, residual: int, floor: np.float32, stream: int,
    ) -> None:  # fmt: skip
        lanes, size = _input_of_lane(mode, channels, vl), vl if mode else channels
        total = np.zeros((pixels, vl), np.float32)
        for from_x, from_w, low, high in integers(runs, 4 * count).reshape(-1, 4).tolist():
            start = x + from_x + first * x_step
            inputs = _positions(start, x_step, low - first, high - first, zeros, count_x, size)[:, lanes]
            weights = floats(w + from_w, (columns, channels * vl * 4), (channels, vl * 4), (vl, 4))
            total += np.einsum("pjcv,jcv->pv", inputs[meets], weights)
        beside = floats(residual, (pixels, out_step), (vl, 4)) if residual else np.float32(0)
        result = finish(total, floats(scale, (vl, 4)), floats(shift, (vl, 4)), beside, floor)
        for m in range(pixels if stream else 0):
            check_aligned(out + m * out_step, vl)
        floats(out, (pixels, out_step), (vl, 4))[...] = result

    return run


def slide_weights(outputs: int, columns: int, stride: int, vl: int, block_size: int) -> Callable[..., None]:
    """Return the twin of ``slide.make_slide_weights(outputs, columns, stride)``: ``block_size`` channels at a time."""

    def run(
        mode: int, block: int, count: int, x: int, x_step: int, low: int, high: int, zeros: int, dy: int, dy_step: int,
        dw: int, dw_tap: int, dw_channel: int,
    ) -> None:  # fmt: skip
        count = count // outputs * outputs
        if mode:
            lanes, size, skip = _input_of_lane(mode, mode, vl)[block * block_size :][:block_size], vl, 0
        else:
            lanes, size, skip = _input_of_lane(0, block_size, vl), block_size, block * block_size * 4
        gradient = floats(dy, (count, dy_step), (vl, 4))
        meets = stride * np.arange(count)[:, None] + np.arange(columns)
        result = floats(dw, (columns, dw_tap), (block_size, dw_channel), (vl, 4))
        if count:
            inputs = _positions(x, x_step, low, high, zeros, stride * (count - 1) + columns, size, skip)[:, lanes]
            result += np.einsum("qjcv,qv->jcv", inputs[meets], gradient)

    return run


# --- stem -----------------------------------------------------------------------------------------------------------


def transform_line(pattern: Sequence[Sequence[float]], lanes: int) -> Callable[..., None]:
    """Return the twin of ``stem._transform_line``: weights that ``pattern`` says are zero are not read."""
    used = np.array(pattern) != 0
    n_out, n_in = used.shape

    def run(count: int, source: int, source_step: int, weights: int, target: int, target_point: int) -> None:
        table = np.where(used[:, :, None], floats(weights, (n_out, n_in * lanes * 4), (n_in, lanes * 4), (lanes, 4)), 0)
        columns = floats(source, (count, 2 * source_step), (n_in, source_step), (lanes, 4))
        result = floats(target, (n_out, target_point), (count, lanes * 4), (lanes, 4))
        result[...] = (table[:, None] * columns[None]).sum(axis=2)

    return run


def finish_pairs(matrix: Sequence[Sequence[float]], vl: int) -> Callable[..., None]:
    """Return the twin of ``stem._finish_pairs``, for vectors of ``vl`` floats."""
    m = np.array(matrix, np.float32)
    n_out, n_in = m.shape

    def run(
        count: int, source: int, point: int, row: int, out: int, out_step: int, scale: int, shift: int, residual: int,
        floor: np.float32, stream: int,
    ) -> None:  # fmt: skip
        if count <= 0:
            return
        sums = np.tensordot(m, floats(source, (n_in, point), (count, row), (vl, 4)), 1)
        sides = ((n_out, out_step), (count, n_out * out_step), (vl, 4))
        beside = floats(residual, *sides) if residual else np.float32(0)
        if stream:
            check_aligned(out, vl)
            check_aligned(out_step, vl)
        floats(out, *sides)[...] = finish(sums, floats(scale, (vl, 4)), floats(shift, (vl, 4)), beside, floor)

    return run
