"""Arrays whose memory is watched: what kernels read and write by address has to lie inside one that is alive.

NumPy lets a program allocate the memory of its arrays (NEP 49). Here every block is noted while it lives, and new
memory is filled with bytes that are NaN as floats, so that a result computed from it shows. Without Numba's compiler
all memory is NumPy's, and all access by address goes through ``simd_python.view``.
"""

from __future__ import annotations

import bisect
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from kernels.cpu.machine import simd_python

SET_HANDLER = 304  # place of PyDataMem_SetHandler in NumPy's table of C functions, part of its ABI
SIZE, ADDRESS = ctypes.c_size_t, ctypes.c_void_p
MALLOC = ctypes.CFUNCTYPE(ADDRESS, ADDRESS, SIZE)
CALLOC = ctypes.CFUNCTYPE(ADDRESS, ADDRESS, SIZE, SIZE)
REALLOC = ctypes.CFUNCTYPE(ADDRESS, ADDRESS, ADDRESS, SIZE)
FREE = ctypes.CFUNCTYPE(None, ADDRESS, ADDRESS, SIZE)

_libc = ctypes.CDLL(None)
for _name, _arguments in {"malloc": [SIZE], "calloc": [SIZE] * 2, "realloc": [ADDRESS, SIZE]}.items():
    getattr(_libc, _name).restype, getattr(_libc, _name).argtypes = ADDRESS, _arguments
_libc.free.restype, _libc.free.argtypes = None, [ADDRESS]

_starts: list[int] = []  # of the blocks that are alive, sorted
_sizes: dict[int, int] = {}


def _note(start: int, size: int) -> int:
    if start not in _sizes:
        bisect.insort(_starts, start)
    _sizes[start] = size
    return start


def _forget(start: int) -> None:
    if start in _sizes:
        del _sizes[start], _starts[bisect.bisect_left(_starts, start)]


@MALLOC
def _malloc(_, size):
    start = _libc.malloc(size)
    ctypes.memset(start, 0xFF, size)
    return _note(start, size)


@CALLOC
def _calloc(_, count, size):
    return _note(_libc.calloc(count, size), count * size)


@REALLOC
def _realloc(_, start, size):
    _forget(start)
    return _note(_libc.realloc(start, size), size)


@FREE
def _free(_, start, size):
    if start is not None:
        _forget(start)
        _libc.free(start)


class _Handler(ctypes.Structure):
    """``PyDataMem_Handler`` of NumPy's ndarraytypes.h."""

    _fields_ = (
        ("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("context", ADDRESS),
        ("malloc", MALLOC), ("calloc", CALLOC), ("realloc", REALLOC), ("free", FREE),
    )  # fmt: skip


def _as_function(address: int) -> ctypes._CFuncPtr:
    return ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(address)


_handler = _Handler(b"watched", 1, None, _malloc, _calloc, _realloc, _free)
ctypes.pythonapi.PyCapsule_New.restype = ctypes.py_object
ctypes.pythonapi.PyCapsule_New.argtypes = [ADDRESS, ctypes.c_char_p, ADDRESS]
_NAME = b"mem_handler"  # a capsule keeps a pointer to its name
_capsule = ctypes.pythonapi.PyCapsule_New(ctypes.addressof(_handler), _NAME, None)
ctypes.pythonapi.PyCapsule_GetPointer.restype = ADDRESS
ctypes.pythonapi.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_table = ctypes.pythonapi.PyCapsule_GetPointer(np._core._multiarray_umath._ARRAY_API, None)
_set_handler = _as_function(ADDRESS.from_address(_table + SET_HANDLER * ctypes.sizeof(ADDRESS)).value)


def check(first: int, last: int) -> None:
    """Raise unless the bytes first..last belong to one array that is alive."""
    at = bisect.bisect_right(_starts, first) - 1
    if at < 0 or last > _starts[at] + _sizes[_starts[at]]:
        before = (
            f"; the nearest array before it is {_sizes[_starts[at]]} bytes from {_starts[at]:#x}" if at >= 0 else ""
        )
        raise IndexError(f"bytes {first:#x} to {last:#x} belong to no array{before}")


def _checked_view(address: int, kind: str, *sides: tuple[int, int]) -> np.ndarray:
    if all(count > 0 for count, _ in sides):
        steps = [(count - 1) * stride for count, stride in sides]
        first = address + sum(step for step in steps if step < 0)
        check(first, address + sum(step for step in steps if step > 0) + np.dtype(kind).itemsize)
    return _view(address, kind, *sides)


_view = simd_python.view


@contextmanager
def watched() -> Iterator[None]:
    """Watch the arrays made in this block, and raise where a twin of an intrinsic leaves them."""
    before = _set_handler(_capsule)
    simd_python.view = _checked_view
    try:
        yield
    finally:
        simd_python.view = _view
        _set_handler(before)
