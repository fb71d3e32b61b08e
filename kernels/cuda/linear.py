"""Fully connected layer: plain matrix products, by the kernels of ``machine.product``; and sums over rows.

The tile and the walk along the inner dimension are described in ``machine.tiles``: start there. The three products of
a layer differ only in how their operands lie: ``x w``; ``dy w^T``, whose right matrix is read transposed; ``x^T dy``,
whose left one is.

``machine.product`` speaks of convolutions. To read its products as plain ones: a *pixel* is a row of A, a *channel* its
column k, there is one *tap*, and the *weights* are B.
"""

from __future__ import annotations

import math
from typing import Any

from ..contract import LinearCache
from .machine.device import SIMULATED, blocks_for, contiguous, cuda, empty, float32, kernel, launch, zeros
from .machine.lines import can_compute, cut_off, fill_up
from .machine.product import Reading, Weights, Writing, correlate
from .machine.turned_product import gather_sums

ACROSS, DOWN = (2, 4) if SIMULATED else (32, 8)  # threads of a block that sums: columns, rows
CHUNK = 6 if SIMULATED else 64  # rows of a block, at least
CHUNKS = 4 if SIMULATED else 128  # at most, for each column: so few that one block adds up their sums
SUMS = ACROSS * DOWN
SUM, MASK, PRODUCT = 0, 1, 2  # what is summed


# --- products -------------------------------------------------------------------------------------------------------


def rows_of(rows: int, inner: int, group_step: int = 0) -> Reading:
    """Return a plain matrix (rows, inner), or one for each group, as one line of pixels under one tap."""
    line = max(1, rows)
    return Reading(
        pixels=rows, area=line, across=line, channels=inner, taps=1, taps_across=1, height=1, width=line,
        stride_y=1, stride_x=1, pad_top=0, pad_left=0,
        image_step=0, row_step=0, pixel_step=inner, group_step=group_step,
    )  # fmt: skip


def weights_of(columns: int, line: int, group_step: int = 0) -> Weights:
    """Return a plain matrix, or one for each group, as the weights of one tap; ``line`` numbers lie in a line of it."""
    return Weights(columns=columns, first=0, tap_row_step=0, tap_step=0, line_step=line, group_step=group_step)


def matrix_of(columns: int, group_step: int = 0) -> Writing:
    """Return a result, or one for each group, that is written as a plain matrix."""
    return Writing(
        first=0, image_step=0, row_step=0, pixel_step=columns, group_step=group_step, scale_step=0, part_step=0
    )  # fmt: skip


def multiply(a: Any, b: Any, *, transposed: bool = False, shift: Any = None) -> Any:
    """Return ``a b + shift``, or, *transposed*, ``a b^T + shift``; of matrices with any sizes."""
    rows, columns = a.shape[0], b.shape[0 if transposed else 1]
    # k in whole slabs (8), columns in whole loads (4)
    a, b = fill_up(a, 8), fill_up(b, 4, 8) if transposed else fill_up(b, 8, 4)
    wide, inner = b.shape[0 if transposed else 1], a.shape[1]
    out = empty((rows, wide))
    shift = None if shift is None else fill_up(shift, 4)
    correlate(
        a, b, out, rows_of(rows, inner), weights_of(wide, b.shape[1]), matrix_of(wide), transposed=transposed,
        shift=shift,
    )  # fmt: skip
    return cut_off(out, columns)


def multiply_transposed(a: Any, b: Any) -> Any:
    """Return ``a^T b``."""
    inner, columns = a.shape[1], b.shape[1]
    a, b = fill_up(a, 4), fill_up(b, 4)
    out = empty((a.shape[1], b.shape[1]))
    gather_sums(a, b, out, rows_of(*a.shape), b.shape[1], b.shape[1], 0)
    return contiguous(cut_off(out, columns)[:inner])


def linear(x: Any, w: Any, b: Any = None) -> Any:
    """See ``mrcnn_np.ops.linear.linear``."""
    if not can_compute(x, w, b) or x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
        return NotImplemented
    if b is not None and b.shape != w.shape[1:]:
        return NotImplemented
    return multiply(x, w, shift=b), LinearCache(x, w, b is not None)


def linear_backward(dy: Any, cache: LinearCache) -> Any:
    """See ``mrcnn_np.ops.linear.linear_backward``."""
    x, w, has_bias = cache
    if not can_compute(dy, x, w) or dy.shape != (len(x), w.shape[1]):
        return NotImplemented
    return multiply(dy, w, transposed=True), multiply_transposed(x, dy), sum_rows(dy) if has_bias else None


# --- sums over rows -------------------------------------------------------------------------------------------------


@kernel("f4[:,::1]", "f4[:,::1]", "f4[:,::1]", "f4[::1]", "f4[:,::1]", "i4", "i4")
def sum_chunks(x, other, written, factors, sums, rows_each, what):
    """Sum a chunk of rows of (P, C) for each block.

    ``what`` is SUM; or MASK, to set to zero first what a ReLU stopped whose result is ``other``, and to write that; or
    PRODUCT, to sum x times ``other``, and to write x times the column's factor.

    With SUM ``x`` stands for ``other`` and ``written``, and with SUM and MASK for ``factors``: they are never looked at
    with this ``what``.

    **Owns:** a block, ``rows_each`` rows of 32 columns; a thread, each 8th of these rows of one column, and their
    elements of ``written``. **Shared:** the threads' sums, added as a tree. **No race:** in each round of the tree the
    lower half of the threads writes its own places and reads those of the upper half, which nobody writes; then all
    wait. **Floor:** x is read once, 4 bytes an element (12 where something is written).
    """
    parts = cuda.shared.array(SUMS, float32)
    column = cuda.blockIdx.y * ACROSS + cuda.threadIdx.x
    first = cuda.blockIdx.x * rows_each
    last = min(first + rows_each, x.shape[0])
    total = float32(0)
    if column < x.shape[1]:
        for row in range(first + cuda.threadIdx.y, last, DOWN):
            value = x[row, column]
            if what == MASK:
                if other[row, column] <= float32(0):
                    value = float32(0)
                written[row, column] = value
            elif what == PRODUCT:
                written[row, column] = value * factors[column]
                value *= other[row, column]
            total += value
    at = cuda.threadIdx.y * ACROSS + cuda.threadIdx.x
    parts[at] = total
    step = DOWN // 2
    while step > 0:
        cuda.syncthreads()
        if cuda.threadIdx.y < step:
            parts[at] += parts[at + step * ACROSS]
        step //= 2
    if cuda.threadIdx.y == 0 and column < x.shape[1]:
        sums[cuda.blockIdx.x, column] = parts[at]


def _sum(x: Any, what: int, other: Any, written: Any, factors: Any) -> Any:
    """Sum chunks, and then the chunks' sums, which are a few rows."""
    rows, columns = x.shape
    if rows == 0 or columns == 0:
        return zeros(columns)
    each = max(CHUNK, blocks_for(rows, CHUNKS)) if rows > CHUNKS else rows
    chunks = blocks_for(rows, each)
    sums = empty((chunks, columns))
    blocks = (chunks, blocks_for(columns, ACROSS))
    launch(sum_chunks, blocks, (ACROSS, DOWN), x, other, written, factors, sums, each, what)
    return sums[0] if chunks == 1 else _sum(sums, SUM, sums, sums, sums)


def _rows(x: Any) -> Any:
    """Return (..., C) as (P, C)."""
    return contiguous(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])


def sum_rows(x: Any) -> Any:
    """Return the sums over all axes of (..., C) but the last, in an order that depends on the shape alone."""
    x = _rows(x)
    return _sum(x, SUM, x, x, x)


def masked_sum(dy: Any, y: Any) -> tuple[Any, Any]:
    """Return the gradient that passes a ReLU whose result is ``y``, and its sum over all but the last axis."""
    masked = empty(dy.shape)
    dy = _rows(dy)
    return masked, _sum(dy, MASK, _rows(y), _rows(masked), dy)


def scaled_and_product(x: Any, other: Any, factors: Any) -> tuple[Any, Any]:
    """Return ``x factors`` and the sum of ``x other`` over all axes but the last."""
    scaled = empty(x.shape)
    return scaled, _sum(_rows(x), PRODUCT, _rows(other), _rows(scaled), factors)


def channel_sum(x: Any) -> Any:
    """See ``mrcnn_np.ops.linear.channel_sum``."""
    if not can_compute(x) or x.ndim < 2:
        return NotImplemented
    return sum_rows(x)
