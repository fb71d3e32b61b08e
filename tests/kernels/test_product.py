"""The product of matrices, against NumPy in float64, on every shape that leaves something over; and its blocks."""

import numpy as np
import pytest
from kernel_cases import draw, error

from kernels.cpu.machine import caches, product
from kernels.cpu.machine.caches import DEFAULT, Cache
from kernels.cpu.machine.product import multiply
from kernels.cpu.machine.simd import MR, NR, VL

SHAPES = [
    (1, 1, 1), (MR, 8, NR), (MR + 1, 5, NR + 1), (3 * MR - 1, 2 * VL + 3, 3 * NR - 1), (2, 70, 5 * NR + VL), (50, 7, 3),
]  # fmt: skip


def sides(rng, m, k, n, turn_a, turn_b):
    a, b = draw(rng, *((k, m) if turn_a else (m, k))), draw(rng, *((n, k) if turn_b else (k, n)))
    exact = (a.T if turn_a else a).astype(np.float64) @ (b.T if turn_b else b).astype(np.float64)
    return a, b, exact


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("turn_a", [False, True])
@pytest.mark.parametrize("turn_b", [False, True])
def test_either_side_may_be_turned(shape, turn_a, turn_b):
    rng = np.random.default_rng(0)
    a, b, exact = sides(rng, *shape, turn_a, turn_b)
    how = {"turn_a": turn_a, "turn_b": turn_b}
    assert error(multiply(a, b, **how), exact) <= 1e-6  # measured: 3e-7
    shift, residual = draw(rng, shape[2]), draw(rng, shape[0], shape[2])
    assert error(multiply(a, b, shift=shift, **how), exact + shift) <= 1e-6
    assert error(multiply(a, b, shift=shift, residual=residual, **how), exact + shift + residual) <= 1e-6


def test_a_small_result_of_long_sums_is_cut_into_parts(monkeypatch):
    """The parts do not depend on the threads; without a remainder and with one."""
    rng = np.random.default_rng(4)
    for k in (product.STRETCH * product.DEPTH * 3, product.STRETCH * product.DEPTH * 2 + 77):
        a, b, exact = sides(rng, MR + 5, k, NR + 3, True, False)
        results = []
        for threads in (1, 3):
            monkeypatch.setattr(product, "shares", lambda count=threads: count)
            results.append(multiply(a, b, turn_a=True))
        assert error(results[0], exact) <= 2e-6
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("size", ["64", "256", "512", "1280", "2048"])
@pytest.mark.parametrize("turned", [False, True])
def test_any_cache_gives_the_same_product(size, turned, monkeypatch):
    """The blocks of other processors: only where they are cut differs, not in which order numbers are added."""
    a, b, exact = sides(np.random.default_rng(1), 600, 300, 2 * NR + 3, turned, turned)
    monkeypatch.setattr(product, "ROWS", 4 * MR)
    small = multiply(a, b, turn_a=turned, turn_b=turned)
    monkeypatch.setenv("MRCNN_NP_CACHE", size)
    monkeypatch.setattr(product, "ROWS", caches.rows_of_a_block(caches.read()))
    found = multiply(a, b, turn_a=turned, turn_b=turned)
    assert error(found, exact) <= 1e-6  # measured: 3e-7
    np.testing.assert_array_equal(found, small)


@pytest.mark.parametrize("stretch", [1, VL, 100])
def test_every_length_of_a_stretch(stretch, monkeypatch):
    monkeypatch.setattr(product, "STRETCH", stretch)
    for turned in (False, True):
        a, b, exact = sides(np.random.default_rng(5), 2 * MR + 1, 230, NR + 1, turned, turned)
        assert error(multiply(a, b, turn_a=turned, turn_b=turned), exact) <= 1e-6


def test_results_do_not_depend_on_how_many_work_on_them(monkeypatch):
    a, b, _ = sides(np.random.default_rng(2), 7 * MR + 1, 400, 7 * NR, False, False)
    results = []
    for threads in (1, 2, 3, 16):
        monkeypatch.setattr(product, "shares", lambda count=threads: count)
        results.append(multiply(a, b))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_long_sums_are_sums_of_sums():
    rng = np.random.default_rng(3)
    a, b = draw(rng, 4, 12544) + np.float32(1), draw(rng, 12544, 8) + np.float32(1)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    assert error(multiply(a, b), exact) <= 2e-6  # one sum after the other: 1e-5


@pytest.mark.parametrize(
    ("size", "threads", "expected"),
    [((1000, 1024), 2, (1, 2)), ((12544, 64), 4, (4, 1)), ((64, 12544), 4, (1, 4)), ((512, 512), 4, (2, 2))],
)
def test_rectangles_are_nearly_square(size, threads, expected):
    assert product.rectangles(*size, threads) == expected


@pytest.mark.parametrize("cache", [DEFAULT, Cache(2 << 20, 16), Cache(1 << 20, 0), Cache(1280 << 10, 20)])
def test_blocks_leave_room_in_their_cache(cache):
    rows = caches.rows_of_a_block(cache)
    assert rows % MR == 0 and cache.size / 2 < caches.STRETCH * rows * 4 < cache.size
    assert caches.STRETCH == 192 and caches.STRETCH * NR * 4 < 32 << 10


def cache_folder(tmp_path, entries):
    for number, (level, kind, size, ways) in enumerate(entries):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        named = {"level": level, "type": kind, "size": size, "ways_of_associativity": ways}
        for name, value in named.items():
            (folder / name).write_text(f"{value}\n")
    return tmp_path


def test_the_cache_is_read_from_the_system(tmp_path):
    entries = [
        (1, "Data", "48K", 12),
        (1, "Instruction", "32K", 8),
        (2, "Unified", "1280K", 20),
        (3, "Unified", "9M", 9),
    ]
    assert caches.read(cache_folder(tmp_path, entries)) == Cache(1280 << 10, 20)


@pytest.mark.parametrize(
    "entries", [[], [(2, "Data", "?", 8)], [(2, "Unified", "0K", 0)], [(2, "Unified", "512K", "")]]
)
def test_what_no_system_says_is_assumed(tmp_path, entries):
    assert caches.read(cache_folder(tmp_path, entries)) == DEFAULT
    assert caches.read(tmp_path / "nowhere") == DEFAULT


@pytest.mark.parametrize("words", ["0", "48", "a", "512K", "48,1280", "-1", "9" * 5000])
def test_odd_words_about_the_cache(words, monkeypatch):
    monkeypatch.setenv("MRCNN_NP_CACHE", words)
    with pytest.raises(ValueError, match=r"MRCNN_NP_CACHE is .*expected the KiB of a second-level cache, at least 64"):
        caches.read()
