"""The intrinsics against their definitions in NumPy: the same arguments, the same memory afterwards."""

from functools import cache

import numpy as np
import pytest
from kernel_cases import INTERPRETED, draw, error
from numba import njit

from kernels.cpu.convolution import stem, winograd, winograd_weights
from kernels.cpu.machine import exponential, memory, rows, simd, simd_python, slide, tiles
from kernels.cpu.machine.simd import MR, NR, VL

if INTERPRETED:
    pytest.skip("twins are compared with what the compiler makes", allow_module_level=True)

NO_FLOOR = np.float32(-np.inf)
SEEDS = range(6)


@cache
def compiled(intrinsic):
    @njit
    def run(*args):
        return intrinsic(*args)

    return run


def check(intrinsic, targets, arguments, tolerance):
    """Let both run, each on its own copy of the targets; ``arguments`` gets the copies' addresses."""
    results = []
    for function in (compiled(intrinsic), intrinsic.twin):
        copies = []
        for target in targets:
            copies.append(memory.empty(target.shape))
            copies[-1][...] = target
        function(*arguments(*(copy.ctypes.data for copy in copies)))
        results.append(copies)
    assert any((copy != target).any() for copy, target in zip(results[0], targets))
    for fast, plain, target in zip(*results, targets):
        np.testing.assert_array_equal(fast == target, plain == target)  # neither wrote more than the other
        assert error(fast, plain.astype(np.float64)) <= tolerance, error(fast, plain.astype(np.float64))


def product(rng, rows):
    """Return (count, taps, k, a, a_row, b, b_tap) and the arrays that have to live."""
    count, k = int(rng.integers(1, 4)), int(rng.integers(1, 30))
    a_row = int(rng.integers(0, 9))
    a, b = draw(rng, 600), draw(rng, count * k * NR)
    taps = rng.integers(0, 600 - rows * a_row - k, count) * 4
    return (count, taps.ctypes.data, k, a.ctypes.data, a_row * 4, b.ctypes.data, k * NR * 4), (a, b, taps)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tile", [tiles.gemm_tile, tiles.gemm_tile_panels, tiles.gemm_tile_still])
@pytest.mark.parametrize("accumulate", [0, 1])
def test_tiles_that_add(tile, accumulate, seed):
    rng = np.random.default_rng(seed)
    numbers, _alive = product(rng, MR)
    out_row = int(rng.integers(NR, 2 * NR))
    # measured: 2.5e-7
    check(tile, [draw(rng, MR, out_row)], lambda out: (*numbers, out, out_row * 4, accumulate), 1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("accumulate", [0, 1])
def test_tile_of_columns(accumulate, seed):
    rng = np.random.default_rng(seed)
    count, k, a_col, b_row = (int(v) for v in rng.integers((1, 1, 1, NR), (4, 30, 9, NR + 5)))
    a, b = draw(rng, 600), draw(rng, count * k * b_row + NR)
    taps = rng.integers(0, 600 - MR - k * a_col, count) * 4
    left = (count, taps.ctypes.data, k, a.ctypes.data, a_col * 4)
    right, out_row = (b.ctypes.data, k * b_row * 4, b_row * 4), int(rng.integers(NR, 2 * NR))
    # measured: 2.5e-7
    check(
        tiles.gemm_tile_columns, [draw(rng, MR, out_row)],
        lambda out: (*left, *right, out, out_row * 4, accumulate), 1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("accumulate", [0, 1])
def test_packed_tile(accumulate, seed):
    rng = np.random.default_rng(seed)
    k, out_row = int(rng.integers(1, 30)), int(rng.integers(NR, 2 * NR))
    a, b = draw(rng, k, MR), draw(rng, k, NR)
    sides, hints = (k, a.ctypes.data, b.ctypes.data), (a.ctypes.data, 3)
    # measured: 2.5e-7
    check(
        tiles.gemm_tile_packed, [draw(rng, MR, out_row)],
        lambda out: (*sides, out, out_row * 4, accumulate, *hints), 1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("which", [tiles.transpose_vectors, tiles.transpose_rows], ids=["vectors", "rows"])
def test_transposed(which, seed):
    """Far apart, and so close together that vectors overwrite the ends of those before, as tiles of MR rows do."""
    rng = np.random.default_rng(seed)
    row = int(rng.integers(VL, 2 * VL))
    source, out_row = draw(rng, VL * row), MR if seed == 0 else int(rng.integers(VL, 2 * VL))
    check(
        which, [draw(rng, VL * max(out_row, VL))],
        lambda out: (source.ctypes.data, row * 4, out, out_row * 4), 0,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("which", [tiles.copy_to_tile, tiles.copy_to_panel], ids=["tile", "panel"])
def test_copied_rows(which, count):
    rng = np.random.default_rng(count)
    width, step = (MR if which is tiles.copy_to_tile else NR), NR + count
    source = draw(rng, count * step)
    check(
        which, [draw(rng, (count + 1) * width)],
        lambda out: (source.ctypes.data, step * 4, out, count), 0,
    )  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("floor", [NO_FLOOR, np.float32(0)])
@pytest.mark.parametrize("has_residual", [False, True])
def test_tiles_that_finish(floor, has_residual, seed):
    rng = np.random.default_rng(seed)
    numbers, (a, *_alive) = product(rng, MR)
    a[rng.integers(0, 600)] = np.nan if floor == 0 and seed == 0 else 1  # NaN is no reason to clamp
    stream = seed % 2
    scale, shift = draw(rng, NR), draw(rng, NR)
    gap = VL if stream else 1  # where rows of results may begin, and which of these places they take
    places, skip = (rng.permutation(20)[:MR] * 3 * VL + int(rng.integers(0, 5))) // gap * gap * 4, VL * 4
    results = []
    for function in (compiled(tiles.gemm_tile_finish), tiles.gemm_tile_finish.twin):
        out = memory.empty((2, 64 * VL))  # the residual behind the results
        out[0], out[1] = 0, np.linspace(-1, 1, 64 * VL, dtype=np.float32)
        outs = out.ctypes.data + places
        hints = (out.ctypes.data, 64)
        residual_by = out[0].nbytes if has_residual else 0
        function(
            *numbers, outs.ctypes.data, skip, *hints, scale.ctypes.data, shift.ctypes.data, residual_by, floor, stream
        )
        results.append(out)
    np.testing.assert_array_equal(results[0] == 0, results[1] == 0)  # neither wrote more than the other
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-5 * np.nanmax(np.abs(results[1])))
    assert np.nanmax(np.abs(results[0])) > 1


def transform_strides(rng, rows, cols):
    """Return strides of a grid of vectors and the floats it takes."""
    col = VL + int(rng.integers(0, 5))
    row = cols * col + int(rng.integers(0, 5))
    return row, col, rows * row


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("which", [winograd._transform_weight, winograd_weights._transform_dw], ids=["weight", "dw"])
def test_transforms(which, seed):
    n_in, n_out = (3, 6) if which is winograd._transform_weight else (6, 3)
    rng = np.random.default_rng(seed)
    (row, col, size), (out_row, out_col, out_size) = (transform_strides(rng, n, n) for n in (n_in, n_out))
    source = draw(rng, size)
    first = (source.ctypes.data, row * 4, col * 4)
    # measured: 1.6e-7
    check(which, [draw(rng, out_size)], lambda out: (*first, out, out_row * 4, out_col * 4), 1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("which", [winograd._transform_input, winograd._transform_dy], ids=["input", "dy"])
def test_transforms_from_a_table(which, seed):
    n_in = 6 if which is winograd._transform_input else 4
    rng = np.random.default_rng(seed)
    out_row, out_col, out_size = transform_strides(rng, 6, 6)
    source = draw(rng, 500)
    table = source.ctypes.data + rng.integers(0, 400, n_in**2) * 4
    # measured: 1.6e-7
    check(which, [draw(rng, out_size)], lambda out: (table.ctypes.data, 64, out, out_row * 4, out_col * 4), 1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("floor", [NO_FLOOR, np.float32(0)])
@pytest.mark.parametrize("beside", [False, True])
def test_transform_that_finishes(floor, beside, seed):
    rng = np.random.default_rng(seed)
    row, col, size = transform_strides(rng, 6, 6)
    source, scale, shift, residual = (draw(rng, n) for n in (size, VL, VL, 500))
    places = rng.permutation(16) * (VL + 3) * 4
    besides = residual.ctypes.data + places

    def arguments(out):
        arguments.targets = out + places  # kept alive
        last = (64, scale.ctypes.data, shift.ctypes.data, besides.ctypes.data if beside else 0, floor)
        return (source.ctypes.data, row * 4, col * 4, arguments.targets.ctypes.data, *last)

    check(winograd._transform_output, [draw(rng, 500)], arguments, 1e-6)  # measured: 1.6e-7


SLIDES = {
    "three": (slide.slide_three, slide.PIXELS, 3, 1),
    "pair": (slide.slide_pair, slide.PIXELS, 2, 1),
    "three_apart": (slide.slide_three_apart, slide.PIXELS, 3, 2),
    "one": (slide.slide_one, slide.PIXELS, 1, 1),
    "one_few": (slide.slide_one_few, slide.FEW, 1, 1),
    "one_single": (slide.slide_one_single, 1, 1, 1),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SLIDES)
@pytest.mark.parametrize("mode", [0, *slide.LANES])
def test_slides(name, mode, seed):
    which, pixels, columns, stride = SLIDES[name]
    rng = np.random.default_rng(seed)
    channels, count, first = mode or 4 * int(rng.integers(1, 5)), int(rng.integers(0, 4)), int(rng.integers(0, 4))
    read = VL if mode else channels
    positions = first + stride * (pixels - 1) + columns
    step = read + int(rng.integers(0, 5))
    x, w = draw(rng, positions * step + 50), draw(rng, count * columns * channels * VL + 1)
    runs = np.zeros((count, 4), np.int64)
    for run in range(count):
        low, high = np.sort(rng.integers(-2, positions + 3, 2))
        runs[run] = int(rng.integers(0, 40)) * 4, run * columns * channels * VL * 4, max(low, 0), high
    zeros, scale, shift = np.zeros(max(channels, VL), np.float32), draw(rng, VL), draw(rng, VL)
    stream, beside, floor = seed % 2, seed % 3 == 0, np.float32(0) if seed > 2 else NO_FLOOR
    out_step = VL if stream else VL + 3
    residual = draw(rng, pixels, out_step)
    numbers = (
        mode, count, runs.ctypes.data, x.ctypes.data, step * 4, first, zeros.ctypes.data, channels, w.ctypes.data,
    )  # fmt: skip
    last = (scale.ctypes.data, shift.ctypes.data, residual.ctypes.data if beside else 0, floor, stream)
    check(
        which, [draw(rng, pixels, out_step)], lambda out: (*numbers, out, out_step * 4, *last), 2e-6
    )  # measured: 4e-7


SLIDE_WEIGHTS = {
    "three": (slide.slide_weights_three, 3, 1),
    "three_apart": (slide.slide_weights_three_apart, 3, 2),
    "three_single": (slide.slide_weights_three_single, 3, 1),
    "one": (slide.slide_weights_one, 1, 1),
    "one_single": (slide.slide_weights_one_single, 1, 1),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SLIDE_WEIGHTS)
@pytest.mark.parametrize("mode", [0, *slide.LANES])
def test_slides_of_weights(name, mode, seed):
    which, columns, stride = SLIDE_WEIGHTS[name]
    rng = np.random.default_rng(seed)
    block = int(rng.integers(0, mode // 4 if mode else 3))
    count = int(rng.integers(4, 15))
    positions, step, dy_step = stride * (count - 1) + columns, VL + int(rng.integers(0, 5)), VL + 2
    low, high = int(rng.integers(0, 3)), int(rng.integers(positions // 2, positions + 2))
    x, dy, zeros = draw(rng, (positions + 2) * step + VL), draw(rng, count, dy_step), np.zeros(VL, np.float32)
    numbers = (
        mode, block, count, x.ctypes.data, step * 4, low, high, zeros.ctypes.data, dy.ctypes.data, dy_step * 4,
    )  # fmt: skip
    out = draw(rng, columns, 4, VL + 5)
    check(which, [out], lambda dw: (*numbers, dw, 4 * (VL + 5) * 4, (VL + 5) * 4), 1e-6)  # measured: 2e-7


@pytest.mark.parametrize("seed", SEEDS)
def test_lines_of_a_stem(seed):
    rng = np.random.default_rng(seed)
    count, step, point = int(rng.integers(1, 9)), int(rng.integers(1, 10)), int(rng.integers(80, 90))
    source, weights = draw(rng, 2 * count * step + 5 * step + stem.LANES), draw(rng, stem.SIZE, stem.SIZE, stem.LANES)
    numbers = (count, source.ctypes.data, step * 4, weights.ctypes.data)
    out = draw(rng, stem.SIZE * point)
    check(stem._transform_line, [out], lambda target: (*numbers, target, point * 4), 1e-6)  # measured: 1e-7


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("floor", [NO_FLOOR, np.float32(0)])
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("stream", [0, 1])
def test_pairs_of_a_stem(floor, beside, stream, seed):
    rng = np.random.default_rng(seed)
    count, row, out_step = int(rng.integers(1, 9)), VL + int(rng.integers(0, 9)), VL + (0 if stream else 3)
    point = count * row + 7
    source, scale, shift = draw(rng, stem.SIZE * point + VL), draw(rng, VL), draw(rng, VL)
    residual = draw(rng, 2 * count, out_step)
    last = (scale.ctypes.data, shift.ctypes.data, residual.ctypes.data if beside else 0, floor, stream)
    numbers = (count, source.ctypes.data, point * 4, row * 4)
    out = draw(rng, 2 * count, out_step)
    check(stem._finish_pairs, [out], lambda y: (*numbers, y, out_step * 4, *last), 1e-6)  # measured: 1.5e-7


def test_a_streamed_store_is_aligned():
    target = memory.empty((2 * VL,)).ctypes.data
    simd_python.check_aligned(target, VL)
    with pytest.raises(ValueError, match="streamed store"):
        simd_python.check_aligned(target + 4, VL)


def test_powers_of_two():
    run = compiled(exponential._power_of_two)
    for n in range(-126, 128):
        rounded = np.float32(n) + exponential.ROUND
        assert run(rounded) == exponential._power_of_two.twin(rounded) == 2.0**n


@pytest.mark.parametrize("count", [1, VL - 1, VL, 5 * VL + 3])
def test_a_row_is_copied(count):
    row = draw(np.random.default_rng(count), count)
    for value in (0, np.nan, np.inf, -np.inf):
        row[count // 2] = value
        lines = [np.full(7 * VL, 9, np.float32) for _ in range(2)]
        for function, line in zip((compiled(rows.copy_row), rows.copy_row.twin), lines):
            assert function(row.ctypes.data, count, line.ctypes.data) == np.nanmax(np.append(row, -np.inf))
        np.testing.assert_array_equal(lines[0][:count], row)
        np.testing.assert_array_equal(*lines)


def test_an_array_at_an_address():
    x = draw(np.random.default_rng(0), 9)

    @njit
    def negate(address, count):
        part = rows.array_at(address, count)
        for i in range(part.size):
            part[i] = -part[i]

    before = x.copy()
    negate(x[2:].ctypes.data, 5)
    np.testing.assert_array_equal(x, np.concatenate([before[:2], -before[2:7], before[7:]]))
    assert rows.array_at.twin(x[2:].ctypes.data, 5).tolist() == x[2:7].tolist()


@pytest.mark.parametrize("count", [1, rows.ROWS, 2 * rows.ROWS + 3])
@pytest.mark.parametrize("width", [1, VL, 2 * VL + 5])
@pytest.mark.parametrize(
    ("intrinsic", "maps", "written", "vectors", "summed"),
    [
        (rows.normalise, 1, 1, 3, 0),
        (rows.add, 1, 0, 0, 1),
        (rows.add_squares, 1, 0, 1, 1),
        (rows.sum_products, 2, 0, 1, 2),
        (rows.normalise_backward, 2, 1, 4, 0),
        (rows.mask_and_add, 2, 1, 0, 1),
    ],
)
def test_rows_with_vectors(intrinsic, maps, written, vectors, summed, width, count):
    rng = np.random.default_rng(width)
    step = width + 3
    inputs = [draw(rng, count, step) for _ in range(maps)]
    across = [draw(rng, width) for _ in range(vectors)]
    targets = [draw(rng, count, step) for _ in range(written)] + [draw(rng, width) for _ in range(summed)]

    def arguments(*places):
        m = (*(a.ctypes.data for a in inputs), *places[:written])
        return count, step * 4, width, m, (*(v.ctypes.data for v in across), *places[written:])

    check(intrinsic, targets, arguments, 1e-6)  # measured: 4e-7


def test_rows_summed_and_scaled():
    rng = np.random.default_rng(0)
    count, width = 7, VL + 2
    dy, x, mu, scale = draw(rng, count, width), draw(rng, count, width), draw(rng, width), draw(rng, width)

    def arguments(dx, product, total):
        vectors = (mu.ctypes.data, product, total, scale.ctypes.data)
        return count, width * 4, width, (dy.ctypes.data, x.ctypes.data, dx), vectors

    check(rows.sum_products_and_scale, [draw(rng, count, width), draw(rng, width), draw(rng, width)], arguments, 1e-6)


@pytest.mark.parametrize("count", [1, 2 * rows.ROWS + 3])
@pytest.mark.parametrize(
    ("within", "past", "maps", "vectors", "summed"),
    [
        (rows.normalise, rows.normalise_past, 1, 3, 0),
        (rows.normalise_backward, rows.normalise_backward_past, 2, 4, 0),
        (rows.mask_and_add, rows.mask_and_add_past, 2, 0, 1),
        (rows.sum_products_and_scale, rows.sum_products_and_scale_past, 2, 4, 0),
    ],
)
def test_what_is_written_past_the_caches_is_the_same(within, past, maps, vectors, summed, count):
    rng, width = np.random.default_rng(count), 2 * VL
    inputs, across = [draw(rng, count, width) for _ in range(maps)], [draw(rng, width) for _ in range(vectors)]
    results = []
    for intrinsic in (within, past):
        result, sums = (
            memory.empty((count, width)),
            [a.copy() for a in across] + [np.zeros(width, np.float32) for _ in range(summed)],
        )
        addresses = tuple(a.ctypes.data for a in sums)
        compiled(intrinsic)(count, width * 4, width, (*(a.ctypes.data for a in inputs), result.ctypes.data), addresses)
        compiled(simd.fence)()
        results.append([result, *sums])
    for one, other in zip(*results):
        np.testing.assert_array_equal(one, other)


def test_what_only_makes_things_faster_changes_nothing():
    x = np.arange(4.0)
    for intrinsic, args in ((simd.fence, ()), (slide.prefetch, (x.ctypes.data,)), (slide.prefetch, (0,))):
        assert intrinsic.twin is simd_python.nothing
        assert compiled(intrinsic)(*args) is intrinsic.twin(*args) is None
    assert x.tolist() == [0, 1, 2, 3]
