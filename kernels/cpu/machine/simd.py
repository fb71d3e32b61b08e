"""Building blocks that Numba cannot express itself: small linear transforms here, register tiles in ``tiles``.

They are *intrinsics*: Python loops write LLVM instructions on vectors of ``VL`` floats, so a tile is unrolled by
writing a loop, not by a thousand lines of source. All addresses and strides are in bytes, as 64-bit integers;
there are no bounds checks. Everything above these files is ordinary Numba.

With AVX-512 there are 32 registers of 16 floats: a tile of 12 x 32 results takes 24 of them. With AVX2 there are 16 of
8 floats: 6 x 16 results take 12. In both cases the loads keep up with the two fused multiply-adds per cycle.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from . import simd_python
from .simd_python import with_twin

# MRCNN_NP_VECTOR=8 does on any processor what is done without AVX-512: for tests
_WIDTH = os.environ.get("MRCNN_NP_VECTOR") or ("16" if llvm.get_host_cpu_features().get("avx512f", False) else "8")
if _WIDTH not in ("8", "16"):
    raise ValueError(f"MRCNN_NP_VECTOR is {_WIDTH!r}; expected 8 or 16")
VL = int(_WIDTH)  # floats in a vector
AVX512 = VL == 16
MR = 12 if AVX512 else 6  # rows of a tile
NV = 2  # vectors across a tile
NR = NV * VL  # columns of a tile

I64, F32 = ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(F32, VL)
LANES = ir.VectorType(ir.IntType(32), VL)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(VECTOR, [float(np.float32(value))] * VL)


def _pointer(b: ir.IRBuilder, address: Any, kind: ir.Type) -> Any:
    return b.inttoptr(address, kind.as_pointer())


def _load(b: ir.IRBuilder, address: Any) -> Any:
    value = b.load(_pointer(b, address, VECTOR))
    value.align = 4
    return value


def _store(b: ir.IRBuilder, value: Any, address: Any) -> None:
    b.store(value, _pointer(b, address, VECTOR)).align = 4


def _stream(b: ir.IRBuilder, value: Any, address: Any) -> None:
    """Write to memory past the caches. The address is a multiple of the vector's size; ``fence`` must follow."""
    store = b.store(value, _pointer(b, address, VECTOR))
    store.align = 4 * VL
    store.set_metadata("nontemporal", b.module.add_metadata([ir.IntType(32)(1)]))


@with_twin(simd_python.nothing)
def fence(typingctx):
    """Wait until streamed stores can be seen by other threads."""

    def generate(context, b, signature, args):
        b.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


def _splat(b: ir.IRBuilder, scalar: Any) -> Any:
    one = b.insert_element(ir.Constant(VECTOR, ir.Undefined), scalar, ir.IntType(32)(0))
    return b.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), ir.Constant(LANES, [0] * VL))


def _fma(b: ir.IRBuilder) -> Any:
    return cgutils.get_or_insert_function(b.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{VL}f32")


def _prefetch(b: ir.IRBuilder, address: Any, *, write: bool, locality: int = 3) -> None:
    """Ask for a cache line ahead of its use: into the first-level cache (locality 3) or the second (2)."""
    i32, byte = ir.IntType(32), ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32]), "llvm.prefetch.p0"
    )
    b.call(function, [b.inttoptr(address, byte), i32(int(write)), i32(locality), i32(1)])


def _at(b: ir.IRBuilder, base: Any, stride: Any, i: Any) -> Any:
    return b.add(base, b.mul(stride, I64(i) if isinstance(i, int) else i))


# --- small linear transforms ----------------------------------------------------------------------------------------


def _combine(b: ir.IRBuilder, fma: Any, weights: Sequence[float], values: Sequence[Any]) -> Any:
    """Return sum of weights[i] * values[i], without multiplying by 0, 1 and -1."""
    total = None
    for weight, value in sorted(zip(weights, values), key=lambda pair: abs(pair[0]) != 1):
        if weight == 0:
            continue
        if total is None:
            total = value if weight == 1 else b.fmul(value, _constant(weight))
        elif weight == 1:
            total = b.fadd(total, value)
        elif weight == -1:
            total = b.fsub(total, value)
        else:
            total = b.call(fma, [value, _constant(weight), total])
    return total


def _two_sided(b: ir.IRBuilder, matrix: Sequence[Sequence[float]], grid: list[list[Any]]) -> list[list[Any]]:
    """Return matrix @ grid @ matrix.T, where each entry of the grid is a vector."""
    fma = _fma(b)
    columns = [[_combine(b, fma, row, [line[j] for line in grid]) for row in matrix] for j in range(len(grid[0]))]
    return [[_combine(b, fma, row, [column[i] for column in columns]) for row in matrix] for i in range(len(matrix))]


def make_transform(matrix: Sequence[Sequence[float]]) -> Any:
    """Return an intrinsic that computes ``matrix @ x @ matrix.T`` for VL channels at once.

    ``x[i, j]`` is the vector at ``source + i source_row + j source_col``; the result goes to ``target`` likewise.
    """
    n_in = len(matrix[0])

    @with_twin(simd_python.transform(matrix, VL))
    def transform(typingctx, source, source_row, source_col, target, target_row, target_col):
        def generate(context, b, signature, args):
            source, source_row, source_col, target, target_row, target_col = args
            grid = [
                [_load(b, _at(b, _at(b, source, source_row, i), source_col, j)) for j in range(n_in)]
                for i in range(n_in)
            ]
            for i, line in enumerate(_two_sided(b, matrix, grid)):
                for j, value in enumerate(line):
                    _store(b, value, _at(b, _at(b, target, target_row, i), target_col, j))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return transform


def _entry(b: ir.IRBuilder, table: Any, index: int, offset: Any) -> Any:
    """Return an address of a table plus an offset."""
    return b.add(b.load(_pointer(b, b.add(table, I64(8 * index)), I64)), offset)


def make_transform_from(matrix: Sequence[Sequence[float]]) -> Any:
    """Return ``make_transform`` whose vectors ``x[i, j]`` stand at ``sources[i, j] + offset``, a table of addresses.

    So the pixels of a patch that lie outside the map can be read from a row of zeros, and a patch at the border takes
    no longer than one inside.
    """
    n_in = len(matrix[0])

    @with_twin(simd_python.transform_from(matrix, VL))
    def transform(typingctx, sources, offset, target, target_row, target_col):
        def generate(context, b, signature, args):
            sources, offset, target, target_row, target_col = args
            grid = [[_load(b, _entry(b, sources, i * n_in + j, offset)) for j in range(n_in)] for i in range(n_in)]
            for i, line in enumerate(_two_sided(b, matrix, grid)):
                for j, value in enumerate(line):
                    _store(b, value, _at(b, _at(b, target, target_row, i), target_col, j))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), generate

    return transform


def _finish(b: ir.IRBuilder, value: Any, residual: Any, floor: Any) -> Any:
    """Add the residual and clamp from below; NaN stays NaN because it compares false."""
    value = b.fadd(value, residual)
    return b.select(b.fcmp_ordered("<", value, floor), floor, value)


def make_transform_finish(matrix: Sequence[Sequence[float]]) -> Any:
    """Return ``make_transform`` with an epilogue, ``max(result * scale + shift + residual, floor)``.

    Result (i, j) goes to ``targets[i, j] + offset``, a table of addresses: what lies outside the map goes to a row that
    nobody reads. ``scale`` and ``shift`` are the addresses of VL floats. ``residuals`` is a table like ``targets``,
    or 0 for none.
    """
    n_in, n_out = len(matrix[0]), len(matrix)

    @with_twin(simd_python.transform_finish(matrix, VL))
    def transform(typingctx, source, source_row, source_col, targets, offset, scale, shift, residuals, floor):
        def generate(context, b, signature, args):
            source, source_row, source_col, targets, offset, scale, shift, residuals, floor = args
            fma, least = _fma(b), _splat(b, floor)
            grid = [
                [_load(b, _at(b, _at(b, source, source_row, i), source_col, j)) for j in range(n_in)]
                for i in range(n_in)
            ]
            scales, shifts = _load(b, scale), _load(b, shift)
            lines = _two_sided(b, matrix, grid)
            lines = [[b.call(fma, [value, scales, shifts]) for value in line] for line in lines]
            cells = [(i, j) for i in range(n_out) for j in range(n_out)]
            with b.if_else(b.icmp_signed("!=", residuals, I64(0))) as (then, otherwise):
                with then:
                    for i, j in cells:
                        beside = _load(b, _entry(b, residuals, i * n_out + j, offset))
                        _store(b, _finish(b, lines[i][j], beside, least), _entry(b, targets, i * n_out + j, offset))
                with otherwise:
                    for i, j in cells:
                        value = _finish(b, lines[i][j], _constant(-0.0), least)
                        _store(b, value, _entry(b, targets, i * n_out + j, offset))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8, types.float32), generate

    return transform
