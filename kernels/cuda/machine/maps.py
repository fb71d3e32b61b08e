"""Blocks and threads for maps (N, H, W, C): a thread has a group of channels of one cell."""

from __future__ import annotations

from .device import SIMULATED, blocks_for

THREADS = 16 if SIMULATED else 256  # of a block; a power of two
LANES = 4 if SIMULATED else 32  # of them on one cell, at most: neighbours read neighbours


def map_blocks(shape: tuple[int, ...], width: int) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Return blocks and threads where every group of ``width`` channels of every cell has a thread.

    Blocks: x is the row of the map, ``n H + row`` (there may be many), y counts columns, z groups. Threads: x counts
    groups, y columns.
    """
    n, height, across, channels = shape
    groups = blocks_for(channels, width)
    lanes = min(LANES, 1 << max(0, groups - 1).bit_length())
    columns = THREADS // lanes
    return (n * height, blocks_for(across, columns), blocks_for(groups, lanes)), (lanes, columns)
