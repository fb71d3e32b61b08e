"""Register tiles of one vector of output channels, for convolutions whose matrix product would be too narrow.

The tile of ``simd`` multiplies one number of x with ``NR`` columns of weights. In a convolution with groups a number
meets only the few output channels of its own group, so here a vector of outputs may span several groups. With groups
of 4 channels, a vector of 16 outputs belongs to 4 groups, and the 16 inputs of these groups are one vector too:
shuffled so that each group's first channel fills the group's 4 lanes, it meets a vector of weights in one multiply-add;
then each group's second channel, and so on: no multiplication is by zero.

=====  ===================================  ============================================================
mode   a vector of outputs belongs to       input channel c of the lanes
=====  ===================================  ============================================================
4      ``VL / 4`` groups of 4 channels      the vector at the pixel, shuffled within each 4 lanes
8      ``VL / 8`` groups of 8 channels      the same, within each 8 lanes
0      one group (of any multiple of 4)     one number for all lanes
=====  ===================================  ============================================================

The tiles take 4 input channels at a time. Neighbouring outputs share most of their inputs: a tile of several pixels
reads each position of x once and uses it for all kernel columns that meet it there. Positions outside the map are read
from a vector of zeros, so borders cost nothing extra, need no padded copy, and nothing is read out of bounds.

As in ``simd``, addresses and strides are in bytes and nothing is checked.
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
    VECTOR,
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

PIXELS = 12 if AVX512 else 8  # outputs of the large tile: they, and the weights of three columns, fill 32 registers
FEW = 4
BLOCK = 4  # input channels at a time
LANES = (4, 8) if AVX512 else (4,)  # groups of so many channels share vectors


def _picked(b: ir.IRBuilder, mode: int, address: Any, block: int) -> list[Any]:
    """Return, for each of 4 input channels from ``block * 4`` on, the vector that multiplies the weights."""
    if mode == 0:
        return [_splat(b, b.load(_pointer(b, b.add(address, I64(4 * c)), F32))) for c in range(BLOCK)]
    value, undefined = _load(b, address), ir.Constant(VECTOR, ir.Undefined)
    lanes = ir.VectorType(ir.IntType(32), VL)
    return [
        b.shuffle_vector(
            value, undefined, ir.Constant(lanes, [o // mode * mode + block * BLOCK + c for o in range(VL)])
        )
        for c in range(BLOCK)
    ]


def _positions(b: ir.IRBuilder, start: Any, step: Any, low: Any, high: Any, zeros: Any, count: int) -> list[Any]:
    """Return the addresses of ``count`` positions, those outside [low, high) replaced by ``zeros``."""
    addresses = []
    for t in range(count):
        inside = b.and_(b.icmp_signed("<=", low, I64(t)), b.icmp_signed("<", I64(t), high))
        addresses.append(b.select(inside, _at(b, start, step, t), zeros))
    return addresses


def _for_mode(b: ir.IRBuilder, mode: Any, body: Callable[[int], None]) -> None:
    """Write ``body`` once for each mode and branch to the right one."""
    after = b.append_basic_block("modes.end")
    cases = {number: b.append_basic_block(f"mode.{number}") for number in (0, *LANES)}
    switch = b.switch(mode, cases[0])
    for number, case in cases.items():
        if number:
            switch.add_case(I64(number), case)
        b.position_at_end(case)
        body(number)
        b.branch(after)
    b.position_at_end(after)


@with_twin(simd_python.nothing)
def prefetch(typingctx, address):
    """Ask for the cache line at an address; nothing happens if there is none."""

    def generate(context, b, signature, args):
        _prefetch(b, args[0], write=False)
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _align_stack(b: ir.IRBuilder) -> None:
    """Keep a vector on the stack, so that registers that do not fit are put at multiples of 64 bytes."""
    slot = cgutils.alloca_once(b, VECTOR)
    slot.align = 4 * VL
    kind = ir.FunctionType(ir.VoidType(), [slot.type])
    b.call(ir.InlineAsm(kind, "", "r", side_effect=True), [slot])


def _for_block(b: ir.IRBuilder, mode: int, block: Any, body: Callable[[int], None]) -> None:
    """Write ``body`` once for each block of a group of ``mode`` channels and branch to the right one."""
    if mode == BLOCK:
        body(0)
        return
    with b.if_else(b.icmp_signed("==", block, I64(0))) as (then, otherwise):
        for which, branch in enumerate((then, otherwise)):
            with branch:
                body(which)


def _meetings(outputs: int, columns: int, stride: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """Return the positions, each with the outputs m and taps j that meet there.

    In such an order that neighbours share no outputs: their additions need not wait for each other.
    """
    found = []
    for t in sorted(range(stride * (outputs - 1) + columns), key=lambda t: (t % columns, t)):
        meets = [(m, t - stride * m) for m in range(outputs) if 0 <= t - stride * m < columns]
        if meets:
            found.append((t, meets))
    return found


def make_slide(pixels: int, columns: int, stride: int) -> Any:
    """Return an intrinsic that computes ``pixels`` neighbouring outputs, one vector of channels each.

    Output m is the sum over ``count`` runs of ``columns`` taps and over ``channels`` inputs of x at position
    ``first + stride m + j`` of the run times the weights of tap j. A run is four integers: the addresses of its
    position 0 and of its weights, (columns, channels, VL) of them, from ``x`` and ``w`` on, and the positions [low,
    high) that exist; the others are zero. Positions are ``x_step`` apart, and ``max(sum * scale + shift + residual,
    floor)`` goes to ``out + m out_step``, past the caches if ``stream``. ``zeros`` is the address of as many zeros as
    there are channels, or VL.
    """
    positions = stride * (pixels - 1) + columns

    @with_twin(simd_python.slide(pixels, columns, stride, VL))
    def slide(
        typingctx, mode, count, runs, x, x_step, first, zeros, channels, w, out, out_step, scale, shift, residual,
        floor, stream,
    ):  # fmt: skip
        def generate(context, b, signature, args):
            (mode, count, runs, x, x_step, first, zeros, channels, w, out, out_step, scale, shift, residual, floor,
             stream) = args  # fmt: skip
            fma = _fma(b)
            _align_stack(b)
            acc = [cgutils.alloca_once(b, VECTOR) for _ in range(pixels)]
            for cell in acc:
                b.store(_constant(0.0), cell)

            def multiply(number: int, block: int, at: Sequence[Any], weights: Any) -> None:
                """Add the products of 4 input channels: positions ``at``, tap j's weights at ``weights + j tap``."""
                tap = b.mul(channels, I64(4 * VL))
                held = [
                    [_load(b, b.add(_at(b, weights, tap, j), I64(4 * VL * c))) for c in range(BLOCK)]
                    for j in range(columns)
                ]
                for t, meets in _meetings(pixels, columns, stride):
                    for c, value in enumerate(_picked(b, number, at[t], block)):
                        for m, j in meets:
                            b.store(b.call(fma, [value, held[j][c], b.load(acc[m])]), acc[m])

            def add_run(number: int, at: Sequence[Any], weights: Any) -> None:
                if number == BLOCK:
                    multiply(number, 0, at, weights)
                    return
                # A loop over the blocks even where their number is known: unrolled, it would need too many registers
                with cgutils.for_range(b, b.sdiv(channels, I64(BLOCK)), intp=I64) as loop:
                    block = loop.index
                    there = b.add(weights, b.mul(block, I64(4 * VL * BLOCK)))
                    if number == 0:
                        multiply(0, 0, [b.add(address, b.mul(block, I64(4 * BLOCK))) for address in at], there)
                    else:
                        _for_block(b, number, block, lambda which: multiply(number, which, at, there))

            def body(number: int) -> None:
                with cgutils.for_range(b, count, intp=I64) as run:
                    entry = b.add(runs, b.mul(run.index, I64(32)))
                    from_x, from_w, low, high = (b.load(_pointer(b, b.add(entry, I64(8 * i)), I64)) for i in range(4))
                    start = b.add(b.add(x, from_x), b.mul(first, x_step))
                    at = _positions(b, start, x_step, b.sub(low, first), b.sub(high, first), zeros, positions)
                    add_run(number, at, b.add(w, from_w))

            _for_mode(b, mode, body)
            scales, shifts, least = _load(b, scale), _load(b, shift), _splat(b, floor)
            for cell in acc:
                b.store(b.call(fma, [b.load(cell), scales, shifts]), cell)
            with b.if_else(b.icmp_signed("!=", residual, I64(0))) as (then, otherwise):
                for branch, beside in ((then, True), (otherwise, False)):
                    with branch:
                        for m, cell in enumerate(acc):
                            added = _load(b, _at(b, residual, out_step, m)) if beside else _constant(-0.0)
                            b.store(_finish(b, b.load(cell), added, least), cell)
            with b.if_else(b.icmp_signed("!=", stream, I64(0))) as (then, otherwise):
                for branch, write in ((then, _stream), (otherwise, _store)):
                    with branch:
                        for m, cell in enumerate(acc):
                            write(b, b.load(cell), _at(b, out, out_step, m))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 14, types.float32, types.int64), generate

    return slide


slide_three = make_slide(PIXELS, 3, 1)
slide_pair = make_slide(PIXELS, 2, 1)
slide_three_apart = make_slide(PIXELS, 3, 2)
slide_one = make_slide(PIXELS, 1, 1)
slide_one_few = make_slide(FEW, 1, 1)
slide_one_single = make_slide(1, 1, 1)


def make_slide_weights(outputs: int, columns: int, stride: int) -> Any:
    """Return an intrinsic for the weight gradient: what one line of outputs adds to ``columns`` taps, 4 input channels.

    For j < columns, c < 4, it adds the sum over ``count`` outputs q of ``x[stride q + j, block * 4 + c] * dy[q]`` to
    the vector at ``dw + j dw_tap + c dw_channel``. The outputs are ``dy_step`` apart, the positions of x ``x_step``;
    those outside [low, high) are zero. ``outputs`` are worked on together; ``count`` is rounded down to a multiple.
    """
    positions = stride * (outputs - 1) + columns

    @with_twin(simd_python.slide_weights(outputs, columns, stride, VL, BLOCK))
    def slide_weights(typingctx, mode, block, count, x, x_step, low, high, zeros, dy, dy_step, dw, dw_tap, dw_channel):
        def generate(context, b, signature, args):
            mode, block, count, x, x_step, low, high, zeros, dy, dy_step, dw, dw_tap, dw_channel = args
            fma = _fma(b)
            acc = [[cgutils.alloca_once(b, VECTOR) for _ in range(BLOCK)] for _ in range(columns)]
            for cell in (cell for line in acc for cell in line):
                b.store(_constant(0.0), cell)

            def add_up(number: int, which: int, channel: Any) -> None:
                with cgutils.for_range(b, b.sdiv(count, I64(outputs)), intp=I64) as loop:
                    first = b.mul(loop.index, I64(outputs))
                    skip = b.mul(first, I64(stride))
                    start = b.add(b.add(x, channel), b.mul(skip, x_step))
                    at = _positions(b, start, x_step, b.sub(low, skip), b.sub(high, skip), zeros, positions)
                    begin = b.add(dy, b.mul(first, dy_step))
                    gradient = [_load(b, _at(b, begin, dy_step, m)) for m in range(outputs)]
                    for t, meets in _meetings(outputs, columns, stride):
                        for c, value in enumerate(_picked(b, number, at[t], which)):
                            for m, j in meets:
                                b.store(b.call(fma, [value, gradient[m], b.load(acc[j][c])]), acc[j][c])

            def body(number: int) -> None:
                if number == 0:
                    add_up(0, 0, b.mul(block, I64(4 * BLOCK)))
                else:
                    _for_block(b, number, block, lambda which: add_up(number, which, I64(0)))

            _for_mode(b, mode, body)
            for j in range(columns):
                for c in range(BLOCK):
                    place = _at(b, _at(b, dw, dw_tap, j), dw_channel, c)
                    _store(b, b.fadd(_load(b, place), b.load(acc[j][c])), place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 13), generate

    return slide_weights


slide_weights_three = make_slide_weights(4, 3, 1)
slide_weights_three_apart = make_slide_weights(4, 3, 2)
slide_weights_three_single = make_slide_weights(1, 3, 1)
slide_weights_one = make_slide_weights(4, 1, 1)
slide_weights_one_single = make_slide_weights(1, 1, 1)
