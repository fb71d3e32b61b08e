"""The heart of every matrix product here: a block computes a tile of the result, a thread 8 x 8 numbers of it.

To multiply A (M, K) by B (K, N), a block owns a tile of ``rows`` x ``columns`` of the result and walks along K in
*slabs* of 8. It copies the slab of A (``rows`` x 8) and that of B (8 x ``columns``) into shared memory, each once, and
then every thread takes what it needs from there. Each number of A is used by all columns of the tile, each of B by all
its rows: a tile of 128 x 128 does 64 multiplications for each number it reads (and uses each 128 times).

**Why 8 x 8 for a thread.** Per step of k it reads 8 numbers of A and 8 of B, four at a time, into registers, and does
64 multiplications: 4 loads for 64 multiply-adds, which is what a multiprocessor can sustain. The 8 rows are two runs
of 4, and the lanes of a warp lie 8 down and 4 across (in some tiles 4 and 8), so that the lanes' loads of 16 bytes are
neighbours or the same. Lanes 0 to 3 form a 2 x 2 square, and so on: lane i reads the same of A as lane i^1 and the same
of B as lane i^2. Loads of 16 bytes are served a part of a warp at a time, and, as far as is known, two parts at once
where their lanes ask for the same.

**Why two slabs.** While the threads multiply one, the next is on its way from memory to registers; after that it is
written to the other half of shared memory. A load does not stop a thread; only the first use of its value does, and
that is in ``put_down``, after the multiplications. So there is one barrier for each slab: no thread writes a half that
another still reads, because that one was read before the last barrier.

The slab of A is stored transposed, k by k, so that the 8 numbers that a thread wants are two runs; each line has 4
numbers more than the tile has rows, or the transposed stores of a warp would fall two by two on the same banks of
shared memory.

**Rounding.** Unless k is cut into parts (``plan``), a number is one sum over all of k, in order.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .device import SIMULATED, blocks_for, cuda, device_function, float32
from .vectors import load4, store4

SLAB = 8  # of the inner dimension at a time
THREAD = 8  # rows and columns of a thread
# Numba would take 64 bits, which are two registers. In the simulator a Python integer, which is quicker there
int32 = int if SIMULATED else np.int32
PROCESSORS = 132  # multiprocessors of an H100; a constant, so that the order of sums is the same on every card


class Tile(NamedTuple):
    """How a block is made up: warps down and across, lanes of a warp down and across; 8 x 8 numbers each."""

    warps_down: int
    warps_across: int
    lanes_down: int
    lanes_across: int

    @property
    def warp_rows(self) -> int:
        """Rows of a warp."""
        return self.lanes_down * THREAD

    @property
    def warp_columns(self) -> int:
        """Columns of a warp."""
        return self.lanes_across * THREAD

    @property
    def rows(self) -> int:
        """Rows of the result that a block owns."""
        return self.warps_down * self.warp_rows

    @property
    def columns(self) -> int:
        """Columns of the result that a block owns."""
        return self.warps_across * self.warp_columns

    @property
    def lanes(self) -> int:
        """Threads of a warp: 32, but in the simulator."""
        return self.lanes_down * self.lanes_across

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.warps_down * self.warps_across * self.lanes

    @property
    def beside(self) -> int:
        """Blocks that a multiprocessor works on at a time: its 65536 registers are enough for so many.

        512, 384 and 256 are the threads of a multiprocessor at 128, 170 and 256 registers each.
        """
        return (512 if self.threads == 256 else 384 if self.columns > 32 else 256) // self.threads

    @property
    def line_left(self) -> int:
        """Numbers between two lines of A's slab in shared memory."""
        return self.rows + 4

    @property
    def line_right(self) -> int:
        """Numbers between two lines of B's slab in shared memory."""
        return self.columns + 4

    @property
    def name(self) -> str:
        """Rows x columns, for names of kernels."""
        return f"{self.rows}x{self.columns}"


# 128x128 for most; 128x64, a narrow one, for 64 columns; 64x64 for small results; 128x32, a strip, for few columns
TILES = (
    (Tile(1, 1, 2, 2), Tile(2, 1, 2, 2), Tile(2, 1, 4, 8))
    if SIMULATED
    else (Tile(2, 4, 8, 4), Tile(4, 1, 4, 8), Tile(2, 1, 4, 8), Tile(2, 1, 8, 4))
)


class Plan(NamedTuple):
    """Which tile, and into how many parts the inner dimension is cut, each summed by a block of its own."""

    tile: Tile
    splits: int


@functools.cache
def plan(rows: int, columns: int, slabs: int, products: int = 1) -> Plan:
    """Choose for ``products`` products of these sizes, by a rough model of the time.

    Blocks run in rounds, as many as there is room for at a time. What is idle in the last round counts as used; a slab
    costs what its multiplications cost, and, with few threads on a multiprocessor, the time until memory answers. The
    parts of a cut sum are written and read again.
    """
    choices = [Plan(tile, splits) for tile in TILES for splits in _splits(slabs)]
    return min(choices, key=lambda choice: _time(*choice, rows, columns, slabs, products))


def _splits(slabs: int) -> list[int]:
    """Return into how many parts one may cut: each of 16 slabs at least (2 in the simulator)."""
    return [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64) if n == 1 or slabs >= n * (2 if SIMULATED else 16)]


def _turns(tile: Tile, splits: int, rows: int, columns: int) -> tuple[float, int]:
    """Return what to compare in the simulator.

    For small results many parts and either small tile, so that all are tried; for larger ones the fewest turns.
    """
    threads = blocks_for(rows, tile.rows) * blocks_for(columns, tile.columns) * tile.threads
    if rows * columns >= 1 << 10:
        return threads * (1 + (tile.rows + tile.columns) / tile.threads), splits
    return (tile.columns > 16) * 2 + ((tile.rows > tile.columns) == (columns % 3 > 0)), -splits


def _time(tile: Tile, splits: int, rows: int, columns: int, slabs: int, products: int) -> Any:
    """Return the modelled time in microseconds."""
    if SIMULATED:
        return _turns(tile, splits, rows, columns)
    blocks = blocks_for(rows, tile.rows) * blocks_for(columns, tile.columns) * products * splits
    rounds, rest = divmod(blocks, PROCESSORS * tile.beside)
    loads = (tile.rows + tile.columns) * SLAB // 4 / tile.threads
    # Share of the time that is multiplications. Of a slab a thread has 512 multiply-adds, 32 loads from shared memory
    # and some 16 more for the loop, which makes 560; each 16 bytes that it carries cost some 40 (place, tests, load,
    # stores). Of ten instructions that could be issued nine are.
    share_of_time = 0.9 * 512 / (560 + 40 * loads)
    multiply = tile.rows * tile.columns * SLAB / 128 / 1755  # microseconds: 128 multiply-adds a cycle, 1755 MHz
    length = blocks_for(slabs, splits) + 6  # first loads and the result's way out
    full = length * multiply * tile.beside / share_of_time
    alone = length * max(multiply * blocks_for(rest, PROCESSORS) / share_of_time, 0.35)
    together = 0.0 if splits == 1 else 3 + 4 * products * rows * columns * (2 * splits) / 2.5e6
    return rounds * full + (alone if rest else 0.0) + together


class Core(NamedTuple):
    """What all products of a tile share, as functions for kernels."""

    place: Callable[..., Any]
    multiply: Callable[..., Any]
    multiply_text: Callable[..., Any]  # what ``multiply`` is on a card
    transpose_in: Callable[..., Any]


@functools.cache
def core(tile: Tile) -> Core:
    """Return the functions of a tile."""
    lanes, pairs, warps_across = tile.lanes, tile.lanes_across // 2, tile.warps_across
    warp_rows, warp_columns = tile.warp_rows, tile.warp_columns
    line_left, line_right = tile.line_left, tile.line_right
    half_down, half_across = warp_rows // 2, warp_columns // 2

    @device_function
    def place(thread: Any) -> Any:
        """Return row and column of the tile where the thread's numbers begin.

        Its rows are row to row + 3, and the same half a warp's tile (``half_down``) further; columns likewise.
        """
        warp, lane = thread // lanes, thread % lanes
        down, across = lane // 2 % 2 + lane // 4 // pairs * 2, lane % 2 + lane // 4 % pairs * 2
        row = warp // warps_across * warp_rows + down * 4
        return int32(row), int32(warp % warps_across * warp_columns + across * 4)

    @device_function
    def add_step(left: Any, at_left: Any, right: Any, at_right: Any, a: Any, b: Any, sums: Any) -> None:
        """Add the products of one line of either slab."""
        a[0], a[1], a[2], a[3] = load4(left, at_left)
        a[4], a[5], a[6], a[7] = load4(left, at_left + half_down)
        b[0], b[1], b[2], b[3] = load4(right, at_right)
        b[4], b[5], b[6], b[7] = load4(right, at_right + half_across)
        for i in range(8):
            for j in range(8):
                sums[i * 8 + j] += a[i] * b[j]

    @device_function
    def multiply(left: Any, right: Any, half: Any, row: Any, column: Any, sums: Any) -> None:
        """Add the product of the slabs in one half of shared memory to a thread's 8 x 8 sums.

        The eight steps are written out: the compiler leaves a loop of this length as it is, and cannot then load the
        numbers of the next step while it multiplies.
        """
        a = cuda.local.array(8, float32)
        b = cuda.local.array(8, float32)
        p, q = int32(half * SLAB * line_left + row), int32(half * SLAB * line_right + column)
        add_step(left, p, right, q, a, b, sums)
        add_step(left, p + line_left, right, q + line_right, a, b, sums)
        add_step(left, p + 2 * line_left, right, q + 2 * line_right, a, b, sums)
        add_step(left, p + 3 * line_left, right, q + 3 * line_right, a, b, sums)
        add_step(left, p + 4 * line_left, right, q + 4 * line_right, a, b, sums)
        add_step(left, p + 5 * line_left, right, q + 5 * line_right, a, b, sums)
        add_step(left, p + 6 * line_left, right, q + 6 * line_right, a, b, sums)
        add_step(left, p + 7 * line_left, right, q + 7 * line_right, a, b, sums)

    def multiply_quickly(left: Any, right: Any, half: Any, row: Any, column: Any, sums: Any) -> None:
        """Do what ``multiply`` does, for the simulator: a test holds them together."""
        lines = slice(half * SLAB, (half + 1) * SLAB)
        a, b = left.reshape(-1, line_left)[lines], right.reshape(-1, line_right)[lines]
        a = np.concatenate((a[:, row : row + 4], a[:, row + half_down : row + half_down + 4]), axis=1)
        b = np.concatenate((b[:, column : column + 4], b[:, column + half_across : column + half_across + 4]), axis=1)
        sums += (a.T @ b).reshape(64)

    @device_function
    def transpose_in(shared: Any, line: Any, half: Any, k: Any, at: Any, value: Any, part: Any) -> None:
        """Write four neighbours along k, parts of ``value``, to four lines of a slab."""
        for j in range(4):
            shared[(half * SLAB + k + j) * line + at] = value[part * 4 + j]

    return Core(place, multiply_quickly if SIMULATED else multiply, multiply, transpose_in)


def shared_left(tile: Tile) -> int:
    """Return the numbers of A's two slabs in shared memory."""
    return 2 * SLAB * tile.line_left


def shared_right(tile: Tile) -> int:
    """Return the numbers of B's two slabs in shared memory."""
    return 2 * SLAB * tile.line_right


def share(items: int, threads: int) -> int:
    """Return how many of the items each thread carries, rounded up; with the tiles of today all carry as much."""
    return math.ceil(items / threads)


__all__ = ["SLAB", "Plan", "Tile", "core", "plan", "share", "shared_left", "shared_right", "store4"]
