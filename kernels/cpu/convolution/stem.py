"""The first convolution of a ResNet, 7 taps across with stride 2 on an image, by Winograd's algorithm along the lines.

It has so few input channels that a transform of two dimensions would leave products too short to be worth their loads.
Along one dimension they are as long as the kernel is high. Of the 7 taps of a row, 0, 2, 4 and 6 meet every second
column of the image, 1, 3 and 5 the columns between. Each half is a convolution with stride 1, and two neighbouring
outputs take 5 multiplications by F(2, 4) and 4 by F(2, 3), where the definition takes 14.

Both halves are evaluated at the points 0, 1, -1 and infinity, F(2, 4) also at 1/2, and what belongs to one point is
interpolated in the same way: so the halves are added before that, as channels are. A pair of outputs is five sums:
over rows, both halves and the channels at four points, over rows and channels at 1/2.

The largest error is about that of direct convolution (``winograd`` explains the algorithm, and has references).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils

from ..machine import memory, simd_python
from ..machine.arguments import scale_and_shift
from ..machine.simd import (
    F32,
    I64,
    MR,
    NR,
    VL,
    _at,
    _combine,
    _finish,
    _fma,
    _load,
    _pointer,
    _splat,
    _store,
    _stream,
    fence,
)
from ..machine.simd_python import with_twin
from ..machine.threads import shares
from ..machine.tiles import gemm_tile_still
from ..machine.turns import new_turns, take
from .geometry import Geometry
from .winograd import toom_cook

TAPS, STRIDE = 7, 2
POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2))
HALF = POINTS.index(Fraction(1, 2))  # the point that only the four taps need
COMMON = [p for p in range(len(POINTS) + 1) if p != HALF]
LANES = 8  # floats for a pair of columns of the image, at each point
STRETCH = 4  # tiles that meet a panel of weights, one after the other
CHUNK = 48  # lines of outputs of a task; fewer if each thread would get none

AT, G_FOUR, BT_FOUR = toom_cook(POINTS, 2, 4)
_, G_THREE, BT_THREE = toom_cook(tuple(p for p in POINTS if p != POINTS[HALF]), 2, 3)
SIZE = len(AT[0])  # points, and pairs of columns that a pair of outputs reads: 5


def suits(sizes: Geometry) -> bool:
    """Tell whether it is such a convolution, and its outputs are whole vectors."""
    _, kw, c_in, c_out = sizes.weights
    return kw == TAPS and sizes.stride == STRIDE and sizes.groups == 1 and 2 * c_in <= LANES and c_out % VL == 0


def transform_weights(w: np.ndarray) -> np.ndarray:
    """Return (panels, points, kh, 2 C_in, NR): channels of the even columns, then of the odd ones (zero at 1/2)."""
    kh, _, c_in, c_out = w.shape
    panels = -(-c_out // NR)
    u = np.zeros((SIZE, kh, 2 * c_in, panels * NR), np.float32)
    for first, g, points in ((0, G_FOUR, list(range(SIZE))), (1, G_THREE, COMMON)):
        taps = np.ascontiguousarray(w[:, first::2]).reshape(kh, -1, c_in * c_out)
        values = (np.array(g, np.float32) @ taps).reshape(kh, len(points), c_in, c_out)
        u[points, :, first * c_in : (first + 1) * c_in, :c_out] = values.swapaxes(0, 1)
    return np.ascontiguousarray(u.reshape(SIZE, kh, 2 * c_in, panels, NR).transpose(3, 0, 1, 2, 4))


def _line_weights(c_in: int) -> np.ndarray:
    """Return B^T for each lane of a pair of columns: (points, pairs of columns, lanes)."""
    lanes = np.zeros((SIZE, SIZE, LANES), np.float32)
    lanes[:, :, :c_in] = np.array(BT_FOUR)[:, :, None]
    lanes[np.ix_(COMMON, range(SIZE - 1), range(c_in, 2 * c_in))] = np.array(BT_THREE)[:, :, None]
    return lanes


@with_twin(simd_python.transform_line(BT_FOUR, LANES))
def _transform_line(typingctx, count, source, source_step, weights, target, target_point):
    """Transform ``count`` pairs of outputs: the vectors of LANES at ``source + 2 source_step t + source_step i``.

    Point p of pair t goes to ``target + target_point p + 4 LANES t``. Where ``BT_FOUR`` is zero, so are all lanes.
    """

    def generate(context, b, signature, args):
        count, source, source_step, weights, target, target_point = args
        vector = ir.VectorType(F32, LANES)
        fma = cgutils.get_or_insert_function(
            b.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32"
        )  # fmt: skip

        def load(address):
            value = b.load(_pointer(b, address, vector))
            value.align = 4
            return value

        used = [(p, i) for p in range(SIZE) for i in range(SIZE) if BT_FOUR[p][i]]
        held = {(p, i): load(b.add(weights, I64(4 * LANES * (p * SIZE + i)))) for p, i in used}
        with cgutils.for_range(b, count, intp=I64) as loop:
            start = b.add(source, b.mul(b.mul(loop.index, I64(2)), source_step))
            columns = [load(_at(b, start, source_step, i)) for i in range(SIZE)]
            place = b.add(target, b.mul(loop.index, I64(4 * LANES)))
            for p in range(SIZE):
                total = None
                for i in (i for q, i in used if q == p):
                    product = [columns[i], held[p, i]]
                    total = b.fmul(*product) if total is None else b.call(fma, [*product, total])
                b.store(total, _pointer(b, _at(b, place, target_point, p), vector)).align = 4
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@with_twin(simd_python.finish_pairs(AT, VL))
def _finish_pairs(
    typingctx, count, source, point, row, out, out_step, scale, shift, residual, floor, stream
):  # fmt: skip
    """Interpolate ``count`` pairs of outputs, VL channels each, and finish them as ``gemm_tile_finish`` does.

    Point p of pair t stands at ``source + point p + row t``; output m goes to ``out + out_step m``, past the caches if
    ``stream``.
    """

    def generate(context, b, signature, args):
        count, source, point, row, out, out_step, scale, shift, residual, floor, stream = args
        fma, least = _fma(b), _splat(b, floor)
        scales, shifts = _load(b, scale), _load(b, shift)
        with cgutils.for_range(b, count, intp=I64) as loop:
            start = b.add(source, b.mul(loop.index, row))
            values = [_load(b, _at(b, start, point, p)) for p in range(SIZE)]
            place = b.mul(b.mul(loop.index, I64(2)), out_step)
            cells = []
            for m, weights in enumerate(AT):
                value = b.call(fma, [_combine(b, fma, weights, values), scales, shifts])
                cells.append((value, _at(b, place, out_step, m)))
            with b.if_else(b.icmp_signed("!=", residual, I64(0))) as (then, otherwise):
                with then:
                    for value, at in cells:
                        _store(b, _finish(b, value, _load(b, b.add(residual, at)), least), b.add(out, at))
                with otherwise:
                    done = [(_finish(b, value, ir.Constant(value.type, [-0.0] * VL), least), at) for value, at in cells]
                    with b.if_else(b.icmp_signed("!=", stream, I64(0))) as (past, through):
                        for branch, write in ((past, _stream), (through, _store)):
                            with branch:
                                for value, at in done:
                                    write(b, value, b.add(out, at))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9, types.float32, types.int64), generate


@njit(cache=True, error_model="numpy", inline="never")
def _transform(x, n, row, left, line, weights, ring):
    """Put row ``row`` of map ``n`` into its place in the ring; ``line`` is a line of zeros as long as all patches."""
    c_in = x.shape[3]
    source = x[n, row].reshape(-1)
    target = line[left * c_in :]
    for j in range(min(source.size, target.size)):
        target[j] = source[j]
    lines, points, pairs, _ = ring.shape
    _transform_line(
        pairs, line.ctypes.data, 2 * c_in * 4, weights.ctypes.data,
        ring.ctypes.data + row % lines * points * pairs * LANES * 4, pairs * LANES * 4,
    )  # fmt: skip


@njit(cache=True, error_model="numpy", inline="never")
def _multiply(ring, taps, begin, count, u, y, at, out_w, c_out, scale, shift, residual, floor, stream):
    """Write the line of outputs at ``y[at]``: kernel rows from ``begin`` on meet ``count`` lines of the ring."""
    panels, points, kh, k, _ = u.shape
    pairs = ring.shape[2]
    sums = np.empty((points, MR, NR), np.float32)
    last, beside = np.empty(2 * NR, np.float32), np.zeros(2 * NR, np.float32)
    plane, out_step = MR * NR * 4, c_out * 4
    for stretch in range(0, pairs, STRETCH * MR):
        for panel in range(panels):
            columns = min(NR, c_out - panel * NR)
            for start in range(stretch, min(stretch + STRETCH * MR, pairs), MR):
                for point in range(points):
                    gemm_tile_still(
                        count, taps.ctypes.data, k // 2 if point == HALF else k,
                        ring.ctypes.data + (point * pairs + start) * LANES * 4, LANES * 4,
                        u.ctypes.data + ((panel * points + point) * kh + begin) * k * NR * 4, k * NR * 4,
                        sums.ctypes.data + point * plane, NR * 4, 0,
                    )  # fmt: skip
                whole = min(MR, out_w // 2 - start)
                first = at + 2 * start * c_out + panel * NR
                for c in range(0, columns, VL):
                    channel = (panel * NR + c) * 4
                    scales, shifts = scale.ctypes.data + channel, shift.ctypes.data + channel
                    side = residual.ctypes.data + (first + c) * 4 if residual.size > 0 else 0
                    _finish_pairs(
                        whole, sums.ctypes.data + c * 4, plane, NR * 4, y.ctypes.data + (first + c) * 4, out_step,
                        scales, shifts, side, floor, stream,
                    )  # fmt: skip
                    if out_w % 2 == 0 or not 0 <= whole < MR:
                        continue
                    # half a pair at the end of the line, whose other half is not to be seen
                    place = first + 2 * whole * c_out + c
                    if side:
                        beside[:VL] = residual[place : place + VL]
                        side = beside.ctypes.data
                    _finish_pairs(
                        1, sums.ctypes.data + (whole * NR + c) * 4, plane, 0, last.ctypes.data, NR * 4,
                        scales, shifts, side, floor, 0,
                    )  # fmt: skip
                    y[place : place + VL] = last[:VL]


@njit(cache=True, parallel=True, error_model="numpy")
def _convolve(x, u, weights, top, left, y, out_shape, scale, shift, residual, floor, stream, chunks, threads):
    n_maps, height = x.shape[:2]
    out_h, out_w, c_out = out_shape
    points, kh, k = u.shape[1:4]
    pairs = ((out_w + 1) // 2 + MR - 1) // MR * MR
    slot = points * pairs * LANES
    turns = new_turns()
    for _thread in prange(threads):
        task = take(turns)
        while task < n_maps * chunks:
            n, chunk = task // chunks, task % chunks
            ring = np.empty((kh, points, pairs, LANES), np.float32)
            line = np.zeros((2 * pairs + SIZE) * k + LANES, np.float32)
            taps = np.empty(kh, np.int64)
            done = 0  # rows of the map up to here are in the ring
            for p in range(out_h * chunk // chunks, out_h * (chunk + 1) // chunks):
                row = p * STRIDE - top
                begin, end = min(max(0, row), height), min(max(0, row + kh), height)
                for line_number in range(max(done, begin), end):
                    _transform(x, n, line_number, left, line, weights, ring)
                done = end
                for i in range(end - begin):
                    taps[i] = (begin + i) % kh * slot * 4
                _multiply(
                    ring, taps, begin - row, end - begin, u, y, (n * out_h + p) * out_w * c_out, out_w, c_out, scale,
                    shift, residual, floor, stream,
                )  # fmt: skip
            task = take(turns)
        if stream:
            fence()


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    sizes: Geometry,
    *,
    scale: np.ndarray | None = None,
    shift: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    floor: np.float32 = np.float32(-np.inf),  # noqa: B008
) -> np.ndarray:
    """Convolve (N, H, W, C_in) with (kh, 7, C_in, C_out): ``max(conv * scale + shift + residual, floor)``."""
    c_in, c_out = w.shape[2:]
    y = memory.empty(sizes.out)
    scale, shift = scale_and_shift(scale, shift, c_out)
    beside = np.empty(0, np.float32) if residual is None else residual.reshape(-1)
    # the first lines of a chunk transform rows that the chunk before has, too
    chunks = shares() * max(1, sizes.out[1] // (shares() * CHUNK))
    _convolve(
        x, transform_weights(w), _line_weights(c_in), sizes.top, sizes.left, y.reshape(-1), sizes.out[1:], scale, shift,
        beside, floor, int(memory.streams(y)), chunks, shares(),
    )  # fmt: skip
    return y
