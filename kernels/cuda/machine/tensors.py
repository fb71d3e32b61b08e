"""Kernels over many tensors in one launch: a network has 160, and a launch for each would cost more than the work.

A table says where the tensors are. Each tensor is cut into chunks, a block of threads has one chunk, and finds its
tensor in the table by bisection.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .device import SIMULATED, to_device
from .groups import ALIGNMENT, address_of

THREADS = 8 if SIMULATED else 256  # of a block; a power of two
CHUNK = THREADS * (4 if SIMULATED else 16)  # numbers of a block, a multiple of four
BEGIN, SIZE, WHOLE, OPTION, FIRST = range(5)  # columns of the table; from FIRST on, the tensors' addresses


def tensor_table(rows: Sequence[Sequence[Any]], options: Sequence[float]) -> tuple[Any, int]:
    """Return a table on the device, and how many blocks its tensors make.

    Parameters
    ----------
    rows : sequence of sequence of array
        In each row tensors that go together, of one size, without gaps.
    options : sequence of float
        One for each row.

    Returns
    -------
    table : array of shape (rows, 4 + tensors), int64
        The blocks before this row; the size; how many numbers of it can be read four at a time; the option, as the
        bits of a float32; the addresses.
    blocks : int
    """
    lines, blocks = [], 0
    for arrays in rows:
        size, addresses = arrays[0].size, [address_of(array) for array in arrays]
        whole = size // 4 * 4 if not any(address % ALIGNMENT for address in addresses) else 0
        lines.append([blocks, size, whole, 0, *addresses])
        blocks += -(-size // CHUNK)
    table = np.array(lines, np.int64).reshape(len(rows), FIRST + (len(rows[0]) if rows else 0))
    table.view(np.float32)[:, 2 * OPTION] = options
    return _copied(table.tobytes(), table.shape), blocks


@functools.lru_cache(maxsize=16)
def _copied(table: bytes, shape: tuple[int, int]) -> Any:
    """Copy a table to the device, or find it there: a pool gives the tensors of every step the same places."""
    return to_device(np.frombuffer(table, np.int64).reshape(shape))


def options_of(table: Any) -> Any:
    """Return the same memory as float32: the option is number ``2 * OPTION`` of a row."""
    return table.view(np.float32)
