"""Register tiles of a matrix product, and what brings its sides into the order in which a tile reads them.

Like all of ``simd``: Python loops that write LLVM instructions; addresses and strides in bytes; no bounds checks.

====================== ============================================ ================================================
tile                   left side                                    what it is for
====================== ============================================ ================================================
``gemm_tile_packed``   interleaved: MR numbers of each step         ``product``: both sides have been copied
``gemm_tile``          rows anywhere, next number of a row beside   maps that are read where they lie
``gemm_tile_panels``   the same                                     the same, each panel of weights met by few tiles
``gemm_tile_still``    the same                                     the same, where all is in the caches
``gemm_tile_columns``  columns anywhere, next row beside            weight gradients: the sum runs over pixels
``gemm_tile_finish``   as ``gemm_tile``                             the same, with scale, shift, residual and ReLU
====================== ============================================ ================================================

A processor that does two multiply-adds of 16 numbers a cycle has 12 cycles for a step of 24 of them, and takes four to
six instructions in each. Everything else in the loop has to fit between. So UNROLL steps are written one after the
other, and rows are reached without computing addresses (``_opaque``). By llvm-mca's model of a Skylake with AVX-512 the
loops take 1.06 to 1.12 times as long as their multiply-adds; step by step, with a chain of addresses, 1.33 to 1.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from . import simd_python
from .simd import (
    AVX512,
    F32,
    I64,
    LANES,
    MR,
    NR,
    NV,
    VL,
    _at,
    _constant,
    _finish,
    _fma,
    _load,
    _pointer,
    _prefetch,
    _splat,
    _store,
    _stream,
)
from .simd_python import with_twin

UNROLL = 2 if AVX512 else 4  # steps of the inner loop written one after the other


def _opaque(b: ir.IRBuilder, address: Any) -> Any:
    """Return an address whose history the compiler cannot see.

    It would derive the address of each row from the row before, in every step: a chain of twelve additions that takes
    as long as the arithmetic. From a few addresses it knows nothing of, it reaches all rows within its loads.
    """
    same = ir.InlineAsm(ir.FunctionType(I64, [I64]), "", "=r,0", side_effect=False)
    return b.call(same, [address])


def _sum_products(
    b: ir.IRBuilder, acc: list[list[Any]], sides: Sequence[Any], columns: bool, ask: Callable[[Any, Any, int], None]
) -> None:
    """Add the products of a run of ``k`` steps to the accumulators.

    ``sides`` are k and, of the left and the right side, the address and the bytes to the next row (``columns``: of the
    left to the next column). ``ask`` prefetches; it gets the number of the step, the address of the right side, and the
    step's place among the UNROLL written one after the other.
    """
    k, left, a_step, right, b_row = sides
    fma, rows = _fma(b), len(acc)
    every = rows if columns else 3  # rows reached from one address: + step and + 2 steps are part of a load
    begins = [left if columns else _at(b, left, a_step, m) for m in range(0, rows, every)]
    addresses = [cgutils.alloca_once_value(b, address) for address in (*begins, right, I64(0))]

    def row_at(lefts: Sequence[Any], m: int, step: int) -> Any:
        if columns:
            return b.add(_at(b, lefts[0], a_step, step), I64(4 * m))
        near = lefts[m // every]
        return b.add(_at(b, near, a_step, m % every) if m % every else near, I64(4 * step))

    def loop(times: Any, steps: int) -> None:
        with cgutils.for_range(b, times, intp=I64):
            *lefts, right, done = (_opaque(b, b.load(address)) for address in addresses)
            for step in range(steps):
                line = _at(b, right, b_row, step)
                values = [_load(b, b.add(line, I64(4 * VL * v))) for v in range(NV)]
                ask(b.add(done, I64(step)), line, step)
                for m in range(rows):
                    one = _splat(b, b.load(_pointer(b, row_at(lefts, m, step), F32)))
                    for v in range(NV):
                        b.store(b.call(fma, [one, values[v], b.load(acc[m][v])]), acc[m][v])
            further = b.mul(a_step, I64(steps)) if columns else I64(4 * steps)
            for address, value in zip(addresses, lefts):
                b.store(b.add(value, further), address)
            b.store(_at(b, right, b_row, steps), addresses[-2])
            b.store(b.add(done, I64(steps)), addresses[-1])

    loop(b.sdiv(k, I64(UNROLL)), UNROLL)
    loop(b.srem(k, I64(UNROLL)), 1)


def _make_gemm_tile(rows: int, *, columns: bool = False, ahead: bool = False, panels: bool = False) -> Any:
    """Return an intrinsic that computes ``rows`` x NR results of a product whose left side lies scattered in memory.

    ``sum over t, k of a[taps[t] + m a_row + k] * b[t b_tap + k NR + n]`` for m < rows, n < NR goes to
    ``out[m out_row + n]``: added to what is there (``accumulate``), or in its place. With ``columns`` the left side is
    ``a[taps[t] + m + k a_col]``, and the rows of the right side lie ``b_row`` apart, an argument more.

    What takes long is not the arithmetic but the memory behind it. So a tile asks for lines of the left side that
    follow its own rows (``ahead``): where the rows are pixels, the next tile reads them. ``panels`` asks for the right
    side of the next product where that follows in memory: a panel that no other product has brought into the caches.
    """

    def compute(b: ir.IRBuilder, args: Sequence[Any]) -> None:
        count, taps, k, a, a_step, b_start, b_tap, b_row, out, out_row, accumulate = args
        acc = [[cgutils.alloca_once_value(b, _constant(0.0)) for _ in range(NV)] for _ in range(rows)]
        if columns:
            _ask_for_rows(b, out, out_row, rows)
        _over_taps(b, acc, (count, taps, k, a, a_step, b_start, b_tap, b_row), columns, ahead, panels)
        _put(b, acc, [_at(b, out, out_row, m) for m in range(rows)], accumulate)

    if columns:

        @with_twin(simd_python.gemm_tile_columns(rows, NR))
        def tile_of_columns(
            typingctx, count, taps, k, a, a_col, b_start, b_tap, b_row, out, out_row, accumulate
        ):  # fmt: skip
            def generate(context, b, signature, args):
                compute(b, args)
                return context.get_dummy_value()

            return types.void(*[types.int64] * 11), generate

        return tile_of_columns

    @with_twin(simd_python.gemm_tile(rows, NR))
    def tile(typingctx, count, taps, k, a, a_row, b_start, b_tap, out, out_row, accumulate):
        def generate(context, b, signature, args):
            compute(b, [*args[:7], I64(NR * 4), *args[7:]])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 10), generate

    return tile


def _over_taps(
    b: ir.IRBuilder, acc: list[list[Any]], args: Sequence[Any], columns: bool, ahead: bool, panels: bool,
    beside: Any = None,
) -> None:  # fmt: skip
    """Add the products of all taps to the accumulators, and meanwhile ask for what ``_make_gemm_tile`` says.

    ``beside`` is the address of as many numbers as there are results, which will be read next.
    """
    count, taps, k, a, a_step, b_start, b_tap, b_row = args
    rows = len(acc)
    pace = b.sdiv(I64(rows * NR * 4), b.add(k, I64(1)))  # so many bytes of ``beside`` in every step
    with cgutils.for_range(b, count, intp=I64) as tap:
        start = b.add(a, b.load(_pointer(b, b.add(taps, b.mul(tap.index, I64(8))), I64)))
        follows, span = _at(b, start, a_step, rows), b.mul(b_row, k)

        def ask(step: Any, line: Any, number: int) -> None:
            if panels:
                for near in range(0, NR * 4, 64):
                    _prefetch(b, b.add(line, b.add(span, I64(near))), write=False, locality=2)
            if ahead:
                _prefetch(b, b.add(follows, b.mul(step, I64(64))), write=False, locality=2)
            if beside is not None:
                _prefetch(b, b.add(beside, b.mul(step, pace)), write=False, locality=2)

        _sum_products(b, acc, (k, start, a_step, _at(b, b_start, b_tap, tap.index), b_row), columns, ask)


@with_twin(simd_python.gemm_tile_packed(MR, NR))
def gemm_tile_packed(typingctx, k, a, b_start, out, out_row, accumulate, beside, pace):
    """Compute MR x NR results of a product whose sides lie in the order in which they are read.

    ``sum over k of a[k MR + m] * b[k NR + n]`` goes to ``out[m out_row + n]``: added to what is there (``accumulate``),
    or in its place. In step k the tile asks for what lies at ``beside + k pace``: what will be copied next.
    """

    def generate(context, b, signature, args):
        k, a, b_start, out, out_row, accumulate, beside, pace = args
        outs = [_at(b, out, out_row, m) for m in range(MR)]
        _ask_for_rows(b, out, out_row, MR)
        acc = [[cgutils.alloca_once_value(b, _constant(0.0)) for _ in range(NV)] for _ in range(MR)]

        def ask(step: Any, line: Any, number: int) -> None:
            if number == 0:
                _prefetch(b, b.add(beside, b.mul(step, pace)), write=False, locality=2)

        _sum_products(b, acc, (k, a, I64(MR * 4), b_start, I64(NR * 4)), True, ask)
        _put(b, acc, outs, accumulate)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), generate


def _ask_for_rows(b: ir.IRBuilder, out: Any, out_row: Any, rows: int) -> None:
    """Ask for the rows that a tile will write."""
    for m in range(rows):
        for near in range(0, NR * 4, 64):
            _prefetch(b, b.add(_at(b, out, out_row, m), I64(near)), write=True, locality=2)


def _put(b: ir.IRBuilder, acc: list[list[Any]], outs: Sequence[Any], accumulate: Any) -> None:
    """Write the results of a tile to its rows, or add them to what is there."""
    with b.if_else(b.icmp_signed("!=", accumulate, I64(0))) as (then, otherwise):
        for branch, adds in ((then, True), (otherwise, False)):
            with branch:
                for line, cells in zip(outs, acc):
                    for v, cell in enumerate(cells):
                        total, at = b.load(cell), b.add(line, I64(4 * VL * v))
                        _store(b, b.fadd(_load(b, at), total) if adds else total, at)


def _make_gemm_tile_finish(rows: int) -> Any:
    """Return the tile of ``_make_gemm_tile`` (``ahead``) with an epilogue.

    ``max(. * scale + shift + residual, floor)`` goes to the address ``outs[m] + skip``. The residual lies
    ``residual_by`` behind the output; 0 means none. Lines that will be written later, those at ``later + m later_row``,
    are asked for, too, and the residual there. With ``stream`` results are written past the caches, and lines that will
    be written are left alone.
    """

    @with_twin(simd_python.gemm_tile_finish(rows, NR))
    def tile_finish(
        typingctx, count, taps, k, a, a_row, b_start, b_tap, outs, skip, later, later_row, scale, shift, residual_by,
        floor, stream,
    ):  # fmt: skip
        def generate(context, b, signature, args):
            outs, skip, later, later_row, scale, shift, residual_by, floor, stream = args[7:]
            fma, least = _fma(b), _splat(b, floor)
            has_residual = b.icmp_signed("!=", residual_by, I64(0))
            acc = [[cgutils.alloca_once_value(b, _constant(0.0)) for _ in range(NV)] for _ in range(rows)]
            # In place of what is not needed, ask for what is in the caches already: a branch would cost more
            streams = b.icmp_signed("!=", stream, I64(0))
            written, apart = b.select(streams, args[5], later), b.select(streams, I64(0), later_row)
            _ask_for_rows(b, written, apart, rows)
            beside = b.select(has_residual, b.add(later, residual_by), args[5])
            _over_taps(b, acc, [*args[:7], I64(NR * 4)], False, True, False, beside)
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

        return types.void(*[types.int64] * 14, types.float32, types.int64), generate

    return tile_finish


gemm_tile = _make_gemm_tile(MR, ahead=True)
gemm_tile_panels = _make_gemm_tile(MR, ahead=True, panels=True)
gemm_tile_still = _make_gemm_tile(MR)
gemm_tile_columns = _make_gemm_tile(MR, columns=True)
gemm_tile_finish = _make_gemm_tile_finish(MR)


def _make_transpose(count: int) -> Any:
    """Return an intrinsic that copies ``count`` rows of VL numbers, at most VL, to columns: VL vectors at ``target``.

    Rows lie ``source_row`` apart, vectors ``target_row``. Their numbers from ``count`` on are zeros. Vectors that lie
    closer than they are long overwrite the zeros of those before.
    """

    @with_twin(simd_python.transpose(count, VL))
    def transpose(typingctx, source, source_row, target, target_row):
        def generate(context, b, signature, args):
            source, source_row, target, target_row = args
            lines = [_load(b, _at(b, source, source_row, i)) for i in range(count)]
            lines += [_constant(0.0)] * (VL - count)
            # After each round, lines 2i and 2i + 1 are what lines i and i + VL / 2 were, number by number in turns;
            # after log2(VL) rounds the index of a line and that of a number in it have changed places, bit by bit.
            halves = [range(first, first + VL // 2) for first in (0, VL // 2)]
            turns = [ir.Constant(LANES, [lane for i in half for lane in (i, VL + i)]) for half in halves]
            for _ in range(VL.bit_length() - 1):
                lines = [b.shuffle_vector(lines[i // 2], lines[i // 2 + VL // 2], turns[i % 2]) for i in range(VL)]
            for i, line in enumerate(lines):
                _store(b, line, _at(b, target, target_row, i))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), generate

    return transpose


def _make_copy(width: int) -> Any:
    """Return an intrinsic that copies ``count`` rows of ``width`` numbers to rows that lie one behind the other."""
    kind = ir.VectorType(F32, width)

    @with_twin(simd_python.copy_rows(width))
    def copy_rows(typingctx, source, source_row, target, count):
        def generate(context, b, signature, args):
            source, source_row, target, count = args
            with cgutils.for_range(b, count, intp=I64) as loop:
                row = b.load(_pointer(b, _at(b, source, source_row, loop.index), kind))
                row.align = 4
                b.store(row, _pointer(b, _at(b, target, I64(width * 4), loop.index), kind)).align = 4
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), generate

    return copy_rows


copy_to_tile = _make_copy(MR)
copy_to_panel = _make_copy(NR)
transpose_vectors = _make_transpose(VL)
transpose_rows = _make_transpose(MR)
