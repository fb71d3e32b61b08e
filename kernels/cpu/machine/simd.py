"""Building blocks that Numba cannot express itself: a register tile of a matrix product, and small linear transforms.

Both are *intrinsics*: Python loops below write LLVM instructions on vectors of ``VL`` floats, so a tile is unrolled by
writing a loop here, not by a thousand lines of source. All addresses and strides are in bytes, as 64-bit integers;
there are no bounds checks. Everything above this file is ordinary Numba.

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
_LANES = ir.VectorType(ir.IntType(32), VL)


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
    return b.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), ir.Constant(_LANES, [0] * VL))


def _fma(b: ir.IRBuilder) -> Any:
    return cgutils.get_or_insert_function(b.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{VL}f32")


def _prefetch(b: ir.IRBuilder, address: Any, *, write: bool, locality: int = 3) -> None:
    """Ask for a cache line ahead of its use: into the first-level cache (locality 3) or the second (2)."""
    i32, byte = ir.IntType(32), ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32]), "llvm.prefetch.p0"
    )
    b.call(function, [b.inttoptr(address, byte), i32(int(write)), i32(locality), i32(1)])


def _at(b: ir.IRBuilder, base: Any, stride: Any, i: int) -> Any:
    return b.add(base, b.mul(stride, I64(i)))


# --- matrix product -------------------------------------------------------------------------------------------------


def _make_gemm_tile(rows: int, *, finish: bool = False, ahead: bool = True, panels: bool = False) -> Any:
    """Return an intrinsic that computes ``rows`` x NR results of a product whose left side lies scattered in memory.

    ``sum over t, k of a[taps[t] + m a_row + k a_col] * b[t b_tap + k b_row + n]`` for m < rows, n < NR goes to
    ``out[m out_row + n]``: added to what is there (``accumulate``), or finished, ``max(. * scale + shift + residual,
    floor)``, to the address ``outs[m] + skip``. The residual lies ``residual_by`` behind the output; 0 means none.

    What takes long is not the arithmetic but the memory behind it. So a tile asks for lines that will be written later,
    those at ``later + m later_row``, for the residual there, and (``ahead``) for those of the left side that follow its
    own rows: where the rows are pixels, the next tile reads them. ``panels`` asks for the right side of the next
    product where that follows in memory: a panel that no other product has brought into the caches. With ``stream``
    results are written past the caches, and lines that will be written are left alone.
    """

    def sum_up(b: ir.IRBuilder, args: Sequence[Any], acc: list[list[Any]], beside: Any = None) -> None:
        count, taps, k, a, a_row, a_col, right_start, b_tap, b_row = args
        fma = _fma(b)
        pace = b.sdiv(I64(rows * NR * 4), b.add(k, I64(1)))  # so many bytes of ``beside`` in every step
        with cgutils.for_range(b, count, intp=I64) as tap:
            start = b.add(a, b.load(_pointer(b, b.add(taps, b.mul(tap.index, I64(8))), I64)))
            row = [_at(b, start, a_row, m) for m in range(rows)]
            panel = b.add(right_start, b.mul(tap.index, b_tap))
            with cgutils.for_range(b, k, intp=I64) as loop:
                right_at = b.add(panel, b.mul(loop.index, b_row))
                right = [_load(b, b.add(right_at, I64(4 * VL * v))) for v in range(NV)]
                column = b.mul(loop.index, a_col)
                if panels:
                    for line in range(0, NR * 4, 64):
                        further = b.add(right_at, b.add(b.mul(b_row, k), I64(line)))
                        _prefetch(b, further, write=False, locality=2)
                if ahead:
                    line = b.add(_at(b, start, a_row, rows), b.mul(loop.index, I64(64)))
                    _prefetch(b, line, write=False, locality=2)
                if beside is not None:
                    _prefetch(b, b.add(beside, b.mul(loop.index, pace)), write=False, locality=2)
                for m in range(rows):
                    left = _splat(b, b.load(_pointer(b, b.add(row[m], column), F32)))
                    for v in range(NV):
                        b.store(b.call(fma, [left, right[v], b.load(acc[m][v])]), acc[m][v])

    cells = [(m, v) for m in range(rows) for v in range(NV)]

    @with_twin(simd_python.gemm_tile(rows, NR))
    def tile_accumulate(typingctx, count, taps, k, a, a_row, a_col, b_start, b_tap, b_row, out, out_row, accumulate):
        def generate(context, b, signature, args):
            out, out_row, accumulate = args[9:]
            acc = [[cgutils.alloca_once(b, VECTOR) for _ in range(NV)] for _ in range(rows)]
            outs = [[b.add(_at(b, out, out_row, m), I64(4 * VL * v)) for v in range(NV)] for m in range(rows)]
            with b.if_else(b.icmp_signed("!=", accumulate, I64(0))) as (then, otherwise):
                with then:
                    for m, v in cells:
                        b.store(_load(b, outs[m][v]), acc[m][v])
                with otherwise:
                    for m, v in cells:
                        b.store(_constant(0.0), acc[m][v])
            sum_up(b, args[:9], acc)
            for m, v in cells:
                _store(b, b.load(acc[m][v]), outs[m][v])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 12), generate

    @with_twin(simd_python.gemm_tile_finish(rows, NR))
    def tile_finish(
        typingctx,
        count,
        taps,
        k,
        a,
        a_row,
        a_col,
        b_start,
        b_tap,
        b_row,
        outs,
        skip,
        later,
        later_row,
        scale,
        shift,
        residual_by,
        floor,
        stream,
    ):
        def generate(context, b, signature, args):
            outs, skip, later, later_row, scale, shift, residual_by, floor, stream = args[9:]
            fma, least = _fma(b), _splat(b, floor)
            has_residual = b.icmp_signed("!=", residual_by, I64(0))
            acc = [[cgutils.alloca_once(b, VECTOR) for _ in range(NV)] for _ in range(rows)]
            for m, v in cells:
                b.store(_constant(0.0), acc[m][v])
            # In place of what is not needed, ask for what is in the caches already: a branch would cost more
            streams = b.icmp_signed("!=", stream, I64(0))
            written, apart = b.select(streams, args[6], later), b.select(streams, I64(0), later_row)
            for m in range(rows):
                for line in range(0, NR * 4, 64):
                    _prefetch(b, b.add(_at(b, written, apart, m), I64(line)), write=True, locality=2)
            sum_up(b, args[:9], acc, b.select(has_residual, b.add(later, residual_by), args[6]))
            scales = [_load(b, b.add(scale, I64(4 * VL * v))) for v in range(NV)]
            shifts = [_load(b, b.add(shift, I64(4 * VL * v))) for v in range(NV)]

            def write(adds: bool, put: Any) -> None:
                for m in range(rows):
                    place = b.add(b.load(_pointer(b, b.add(outs, I64(8 * m)), I64)), skip)
                    for v in range(NV):
                        at = b.add(place, I64(4 * VL * v))
                        value = b.call(fma, [b.load(acc[m][v]), scales[v], shifts[v]])
                        added = _load(b, b.add(at, residual_by)) if adds else _constant(-0.0)
                        put(b, _finish(b, value, added, least), at)

            with b.if_else(has_residual) as (then, otherwise):
                for branch, adds in ((then, True), (otherwise, False)):
                    with branch, b.if_else(streams) as (past, through):
                        with past:
                            write(adds, _stream)
                        with through:
                            write(adds, _store)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 16, types.float32, types.int64), generate

    return tile_finish if finish else tile_accumulate


gemm_tile = _make_gemm_tile(MR)
gemm_tile_panels = _make_gemm_tile(MR, panels=True)
gemm_tile_sum = _make_gemm_tile(MR, ahead=False)
gemm_tile_finish = _make_gemm_tile(MR, finish=True)


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
