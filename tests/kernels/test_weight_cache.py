"""What is kept of weights must never outlive the numbers it was computed from."""

import gc

import numpy as np
import pytest
from kernel_cases import draw

from kernels.cpu.machine import weight_cache


def double(w):
    return w * 2


def test_what_is_met_twice_is_kept_until_a_number_changes():
    w = draw(np.random.default_rng(0), 3, 3, 8, 70)
    first, second, third = (weight_cache.kept(w, double) for _ in range(3))
    assert first is not second and second is third
    w[1, 2, 3, 4] += np.float32(1e-7) + np.spacing(w[1, 2, 3, 4])
    np.testing.assert_array_equal(weight_cache.kept(w, double), w * 2)
    assert weight_cache.kept(w, double) is weight_cache.kept(w, double)
    w[...] = w[..., ::-1].copy()
    np.testing.assert_array_equal(weight_cache.kept(w, double), w * 2)


def test_nothing_is_kept_of_arrays_that_are_gone():
    before = len(weight_cache._entries)
    for _ in range(3):
        w = draw(np.random.default_rng(1), 5, 5)
        weight_cache.kept(w, double)
        weight_cache.kept(w, double)
    assert len(weight_cache._entries) == before + 1
    del w
    gc.collect()
    assert len(weight_cache._entries) == before


@pytest.mark.parametrize("size", [1, 5, weight_cache.LANES, weight_cache.LANES + 1, 3 * weight_cache.LANES - 1])
def test_every_bit_counts(size):
    w = draw(np.random.default_rng(2), size)
    seen = {weight_cache.checksum(w)}
    for i in range(0, size, max(1, size // 50)):
        for bit in (0, 13, 31):
            w.view(np.uint32)[i] ^= np.uint32(1 << bit)
            seen.add(weight_cache.checksum(w))
            w.view(np.uint32)[i] ^= np.uint32(1 << bit)
    assert len(seen) == 1 + 3 * len(range(0, size, max(1, size // 50)))


def test_the_place_counts():
    w = np.zeros(4 * weight_cache.LANES, np.float32)
    sums = set()
    for i in range(0, len(w), 97):
        w[i] = 1
        sums.add(weight_cache.checksum(w))
        w[i] = 0
    assert len(sums) == len(range(0, len(w), 97))


def test_pieces_count():
    """More numbers than one task takes in, the last piece not full."""
    w = np.zeros(weight_cache.PIECE + 100, np.float32)
    one = weight_cache.checksum(w)
    w[-1] = 1
    assert weight_cache.checksum(w) != one
    w[-1], w[0] = 0, 1
    assert weight_cache.checksum(w) != one
