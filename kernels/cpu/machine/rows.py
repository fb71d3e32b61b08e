"""Intrinsics for loops over rows that LLVM does not make vectors of by itself.

It has to prove that no array overlaps another one, and gives up, or checks again for every short row. And a maximum it
takes one number at a time, unless it may assume that there is no NaN. Addresses are those of float32 numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array, populate_array

from .simd import F32, I64, VECTOR, VL, _at, _constant, _pointer, _stream
from .simd_python import floats, with_twin

ROWS = 4  # rows taken together: what belongs to the columns is loaded once for them


def _read(b: ir.IRBuilder, kind: ir.Type, address: Any) -> Any:
    value = b.load(_pointer(b, address, kind))
    value.align = 4
    return value


def _write(b: ir.IRBuilder, value: Any, address: Any, *, past: bool = False) -> None:
    """Write a vector or a number; ``past`` the caches, if it is a vector."""
    if past and value.type == VECTOR:
        _stream(b, value, address)
    else:
        b.store(value, _pointer(b, address, value.type)).align = 4


def _copy_row_in_numpy(source: int, count: int, line: int) -> Any:
    row, vectors = floats(source, (count, 4)), floats(line, (-(-count // VL) * VL, 4))
    vectors[:count], vectors[count:] = row, -np.inf
    return np.fmax.reduce(row, initial=np.float32(-np.inf))


@with_twin(_copy_row_in_numpy)
def copy_row(typingctx, source, count, line):
    """Copy ``count`` numbers and fill the last vector with -infinity; return the largest, passing over NaN."""

    def generate(context, b, signature, args):
        source, count, line = args
        most = cgutils.alloca_once_value(b, _constant(-np.inf))

        def copy(value: Any, offset: Any) -> None:
            before = b.load(most)
            b.store(b.select(b.fcmp_ordered(">", value, before), value, before), most)
            _write(b, value, b.add(line, offset))

        whole = b.and_(count, I64(-VL))
        with cgutils.for_range_slice(b, I64(0), whole, I64(VL), intp=I64) as (i, _):
            offset = b.mul(i, I64(4))
            copy(_read(b, VECTOR, b.add(source, offset)), offset)
        with b.if_then(b.icmp_signed("<", whole, count)):
            offset = b.mul(whole, I64(4))
            copy(_read_some(b, b.add(source, offset), b.sub(count, whole)), offset)
        across = ir.FunctionType(F32, [VECTOR])
        across = cgutils.get_or_insert_function(b.module, across, f"llvm.vector.reduce.fmax.v{VL}f32")
        return b.call(across, [b.load(most)])

    return types.float32(types.int64, types.int64, types.int64), generate


def _read_some(b: ir.IRBuilder, address: Any, count: Any) -> Any:
    """Read the first ``count`` lanes of a vector, without touching what lies behind them; the rest is -infinity."""
    lanes, mask = ir.VectorType(I64, VL), ir.VectorType(ir.IntType(1), VL)
    limit = b.insert_element(ir.Constant(lanes, ir.Undefined), count, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), VL), [0] * VL)
    limit = b.shuffle_vector(limit, ir.Constant(lanes, ir.Undefined), zeros)
    inside = b.icmp_signed("<", ir.Constant(lanes, list(range(VL))), limit)
    kind = ir.FunctionType(VECTOR, [VECTOR.as_pointer(), ir.IntType(32), mask, VECTOR])
    load = cgutils.get_or_insert_function(b.module, kind, f"llvm.masked.load.v{VL}f32.p0")
    return b.call(load, [_pointer(b, address, VECTOR), ir.IntType(32)(4), inside, _constant(-np.inf)])


def _array_at_twin(address: int, count: int) -> np.ndarray:
    return floats(address, (count, 4))


@with_twin(_array_at_twin)
def array_at(typingctx, address, count):
    """Return the array of ``count`` numbers at an address. It does not keep the memory alive."""
    kind = types.Array(types.float32, 1, "C")

    def generate(context, b, signature, args):
        array = make_array(kind)(context, b)
        size, stride = cgutils.pack_array(b, [args[1]]), cgutils.pack_array(b, [I64(4)])
        data = b.inttoptr(args[0], array.data.type)
        populate_array(array, data=data, shape=size, strides=stride, itemsize=I64(4), meminfo=None)
        return array._getvalue()

    return kind(types.int64, types.int64), generate


# --- rows of maps with vectors of as many columns ---------------------------------------------------------------------


def _times(b: ir.IRBuilder, x: Any, y: Any) -> Any:
    return b.fmul(x, y, flags=("contract",))


def _plus(b: ir.IRBuilder, x: Any, y: Any) -> Any:
    """Add; of a product and a number the processor may make one instruction."""
    return b.fadd(x, y, flags=("contract",))


def _over_rows(
    compute: Callable[[ir.IRBuilder, ir.Type, list[list[Any]], list[Any]], None],
    in_numpy: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], None],
) -> Any:
    """Return an intrinsic ``(count, step, width, maps, vectors)`` that goes over ``count`` rows of ``width`` columns.

    ``maps`` and ``vectors`` are tuples of addresses; the rows of each map lie ``step`` bytes apart. ``compute`` writes
    the instructions for one strip of columns, a vector or a single one: it gets the addresses of some rows of each map,
    and of the vectors. ``in_numpy`` does the same with all of the maps (count, width) and vectors (width,).
    """

    def twin(count: int, step: int, width: int, maps: Sequence[int], vectors: Sequence[int]) -> None:
        in_numpy([floats(m, (count, step), (width, 4)) for m in maps], [floats(v, (width, 4)) for v in vectors])

    @with_twin(twin)
    def over_rows(typingctx, count, step, width, maps, vectors):
        def generate(context, b, signature, args):
            count, step, width, maps, vectors = args
            maps, vectors = cgutils.unpack_tuple(b, maps), cgutils.unpack_tuple(b, vectors)
            all_rows, all_columns = b.and_(count, I64(-ROWS)), b.and_(width, I64(-VL))
            for first_row, last_row, rows in ((I64(0), all_rows, ROWS), (all_rows, count, 1)):
                with cgutils.for_range_slice(b, first_row, last_row, I64(rows), intp=I64) as (row, _):
                    starts = [b.add(m, b.mul(row, step)) for m in maps]
                    for first, last, columns, kind in ((I64(0), all_columns, VL, VECTOR), (all_columns, width, 1, F32)):
                        with cgutils.for_range_slice(b, first, last, I64(columns), intp=I64) as (column, _):
                            along = b.mul(column, I64(4))
                            places = [[b.add(_at(b, m, step, i), along) for i in range(rows)] for m in starts]
                            compute(b, kind, places, [b.add(v, along) for v in vectors])
            return context.get_dummy_value()

        addresses = [types.UniTuple(types.int64, len(group)) for group in (maps, vectors)]
        return types.void(types.int64, types.int64, types.int64, *addresses), generate

    return over_rows


def _normalise(b, kind, maps, vectors, *, past=False):
    mu, scale, shift = (_read(b, kind, v) for v in vectors)
    for x, y in zip(*maps):
        _write(b, _plus(b, _times(b, b.fsub(_read(b, kind, x), mu), scale), shift), y, past=past)


def _normalise_in_numpy(maps, vectors):
    (x, y), (mu, scale, shift) = maps, vectors
    y[...] = (x - mu) * scale + shift


def _add(b, kind, maps, vectors):
    total = _read(b, kind, vectors[0])
    for x in maps[0]:
        total = _plus(b, total, _read(b, kind, x))
    _write(b, total, vectors[0])


def _add_in_numpy(maps, vectors):
    vectors[0][...] += maps[0].sum(axis=0)


def _add_squares(b, kind, maps, vectors):
    mean, total = (_read(b, kind, v) for v in vectors)
    for x in maps[0]:
        distance = b.fsub(_read(b, kind, x), mean)
        total = _plus(b, total, _times(b, distance, distance))
    _write(b, total, vectors[1])


def _add_squares_in_numpy(maps, vectors):
    vectors[1][...] += ((maps[0] - vectors[0]) ** 2).sum(axis=0)


def _sum(b, kind, maps, vectors):
    mu, product, total = (_read(b, kind, v) for v in vectors[:3])
    for gradient, x in zip(*maps[:2]):
        dy = _read(b, kind, gradient)
        product = _plus(b, product, _times(b, dy, b.fsub(_read(b, kind, x), mu)))
        total = _plus(b, total, dy)
    _write(b, product, vectors[1])
    _write(b, total, vectors[2])


def _sum_in_numpy(maps, vectors):
    (dy, x), (mu, product, total) = maps[:2], vectors[:3]
    product += (dy * (x - mu)).sum(axis=0)
    total += dy.sum(axis=0)


def _sum_and_scale(b, kind, maps, vectors, *, past=False):
    _sum(b, kind, maps, vectors)
    scale = _read(b, kind, vectors[3])
    for dy, dx in zip(maps[0], maps[2]):
        _write(b, _times(b, _read(b, kind, dy), scale), dx, past=past)


def _sum_and_scale_in_numpy(maps, vectors):
    _sum_in_numpy(maps, vectors)
    maps[2][...] = maps[0] * vectors[3]


def _gradient(b, kind, maps, vectors, *, past=False):
    mu, scale, slope, shift = (_read(b, kind, v) for v in vectors)
    for dy, x, dx in zip(*maps):
        apart = _plus(b, _times(b, b.fsub(_read(b, kind, x), mu), slope), shift)
        _write(b, b.fsub(_times(b, _read(b, kind, dy), scale), apart, flags=("contract",)), dx, past=past)


def _gradient_in_numpy(maps, vectors):
    (dy, x, dx), (mu, scale, slope, shift) = maps, vectors
    dx[...] = dy * scale - ((x - mu) * slope + shift)


def _mask(b, kind, maps, vectors, *, past=False):
    total, zero, one = _read(b, kind, vectors[0]), ir.Constant(F32, 0.0), ir.Constant(F32, 1.0)
    if kind == VECTOR:
        zero, one = _constant(0.0), _constant(1.0)
    for dy, y, dx in zip(*maps):
        value = b.fmul(_read(b, kind, dy), b.select(b.fcmp_ordered("<=", _read(b, kind, y), zero), zero, one))
        total = b.fadd(total, value)
        _write(b, value, dx, past=past)
    _write(b, total, vectors[0])


def _mask_in_numpy(maps, vectors):
    dy, y, dx = maps
    dx[...] = dy * np.where(y <= 0, np.float32(0), np.float32(1))
    vectors[0][...] += dx.sum(axis=0)


def _twice(compute: Callable[..., None], in_numpy: Callable[..., None]) -> tuple[Any, Any]:
    """Return the intrinsic that writes its map into the caches, and the one that writes it past them."""
    return _over_rows(compute, in_numpy), _over_rows(partial(compute, past=True), in_numpy)


# Those named ..._past write the map past the caches: its rows begin at multiples of a vector's size; ``fence`` follows.
#: y = (x - mu) scale + shift; maps x, y; vectors mu, scale, shift
normalise, normalise_past = _twice(_normalise, _normalise_in_numpy)
#: total += sums over the rows of x; maps x; vectors total
add = _over_rows(_add, _add_in_numpy)
#: total += sums over the rows of (x - mean)^2; maps x; vectors mean, total
add_squares = _over_rows(_add_squares, _add_squares_in_numpy)
#: product += sums over the rows of dy (x - mu), total += those of dy; maps dy, x; vectors mu, product, total
sum_products = _over_rows(_sum, _sum_in_numpy)
#: The same, and dx = dy scale; maps dy, x, dx; vectors mu, product, total, scale
sum_products_and_scale, sum_products_and_scale_past = _twice(_sum_and_scale, _sum_and_scale_in_numpy)
#: dx = dy scale - (x - mu) slope - shift; maps dy, x, dx; vectors mu, scale, slope, shift
normalise_backward, normalise_backward_past = _twice(_gradient, _gradient_in_numpy)
#: dx = dy where y > 0 (or is NaN), else 0; total += sums over the rows of dx; maps dy, y, dx; vectors total
mask_and_add, mask_and_add_past = _twice(_mask, _mask_in_numpy)
