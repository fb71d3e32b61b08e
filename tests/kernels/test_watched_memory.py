"""The watch over memory sees what it is there for."""

import ctypes

import numpy as np
import pytest
from watched_memory import watched

from kernels.cpu.machine import simd_python


def test_new_memory_is_nan():
    with watched():
        assert np.isnan(np.empty(1000, np.float32)).all()
        assert np.isnan(np.empty(3)).all()
        assert not np.zeros(1000).any()
        grown = np.arange(10)
        grown.resize(1000, refcheck=False)
        assert grown[:10].tolist() == list(range(10))


def test_an_address_outside_of_all_arrays_is_found():
    with watched():
        x = np.arange(12, dtype=np.float32)
        address = x.ctypes.data
        assert simd_python.floats(address + 8, (3, 16), (2, 4)).tolist() == [[2, 3], [6, 7], [10, 11]]
        assert simd_python.floats(address + 44, (4, -4)).tolist() == [11, 10, 9, 8]
        assert simd_python.floats(address + 48, (0, 4)).size == 0
        for start, sides in ((address + 40, [(3, 4)]), (address + 12, [(3, 16), (2, 4)]), (address + 8, [(4, -4)])):
            with pytest.raises(IndexError, match="belong to no array"):
                simd_python.floats(start, *sides)
        del x
        with pytest.raises(IndexError, match="belong to no array"):
            simd_python.floats(address, (1, 4))
    own = (ctypes.c_float * 2)(1, 2)  # nobody watches here
    assert simd_python.floats(ctypes.addressof(own), (2, 4)).tolist() == [1, 2]


def test_arrays_outlive_the_watch():
    with watched():
        x = np.ones(5000, np.float32)
    y = x + 1
    del x
    assert y.sum() == 10000
