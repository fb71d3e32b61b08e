"""Groups of numbers side by side: a thread reads and writes four at once, or one where four would not be aligned.

``loader(4)`` and ``loader(1)`` let one text of a kernel serve both. ``place`` is the number of an element, where arrays
of any rank are taken as one row; with four it is a multiple of four, of an array whose memory begins at a multiple of
16 bytes, which ``device.aligned`` sees to.

``load1_at`` to ``store4_at`` do the same to a tensor given by its address, for kernels that go over hundreds of tensors
in one launch: the only place where a kernel has an address and no array.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .device import SIMULATED, device_function
from .vectors import load4, store4

ALIGNMENT = 16  # bytes

if SIMULATED:

    def load4_of(array: Any, place: Any) -> Any:
        """Return four numbers of an array of any rank."""
        return load4(array.reshape(-1), place)

    def store4_of(array: Any, place: Any, a: Any, b: Any, c: Any, d: Any) -> None:
        """Write four numbers of an array of any rank."""
        store4(array.reshape(-1), place, a, b, c, d)

    def load1(array: Any, place: Any) -> Any:
        """Return one number."""
        assert 0 <= place < array.size, f"number {place} of an array of {array.size}"
        return array.reshape(-1)[place]

    def store1(array: Any, place: Any, a: Any) -> None:
        """Write one number."""
        assert 0 <= place < array.size, f"number {place} of an array of {array.size}"
        array.reshape(-1)[place] = a

    def _numbers(address: Any, place: Any, count: int) -> Any:
        return (ctypes.c_float * count).from_address(int(address) + 4 * int(place))

    def load1_at(address: Any, place: Any) -> Any:
        """Return one number of the tensor at an address."""
        return np.float32(_numbers(address, place, 1)[0])

    def load4_at(address: Any, place: Any) -> Any:
        """Return four numbers of the tensor at an address."""
        return tuple(map(np.float32, _numbers(address, place, 4)))

    def store1_at(address: Any, place: Any, a: Any) -> None:
        """Write one number of the tensor at an address."""
        _numbers(address, place, 1)[0] = a

    def store4_at(address: Any, place: Any, a: Any, b: Any, c: Any, d: Any) -> None:
        """Write four numbers of the tensor at an address."""
        _numbers(address, place, 4)[:] = (a, b, c, d)

else:
    from llvmlite import ir
    from numba.cuda import types
    from numba.cuda.extending import intrinsic

    _F32 = ir.FloatType()

    def _address(context: Any, builder: Any, kind: Any, base: Any, place: Any, count: int) -> Any:
        """Return where element ``place`` lies: of an array, in its own memory, or of a tensor in global memory."""
        if isinstance(kind, types.Array):
            start = context.make_array(kind)(context, builder, base).data
        else:
            start = builder.addrspacecast(builder.inttoptr(base, _F32.as_pointer()), _F32.as_pointer(1))
        start = builder.gep(start, [place])
        element = _F32 if count == 1 else ir.VectorType(_F32, count)
        return builder.bitcast(start, element.as_pointer(getattr(start.type, "addrspace", 0)))

    def _index(k: int) -> Any:
        return ir.Constant(ir.IntType(32), k)

    def _load(count: int) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(_address(context, builder, signature.args[0], *args, count))
            value.align = 4 * count
            if count == 1:
                return value
            parts = [builder.extract_element(value, _index(k)) for k in range(count)]
            return context.make_tuple(builder, signature.return_type, parts)

        return generate

    def _store(count: int) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = args[2]
            if count > 1:
                value = ir.Constant(ir.VectorType(_F32, count), ir.Undefined)
                for k in range(count):
                    value = builder.insert_element(value, args[2 + k], _index(k))
            builder.store(value, _address(context, builder, signature.args[0], *args[:2], count)).align = 4 * count
            return context.get_dummy_value()

        return generate

    @intrinsic
    def load1(typing: Any, base: Any, place: Any) -> Any:
        """Return one number of an array, or of the tensor at an address."""
        return types.float32(base, types.intp), _load(1)

    @intrinsic
    def store1(typing: Any, base: Any, place: Any, a: Any) -> Any:
        """Write one number of an array, or of the tensor at an address."""
        return types.void(base, types.intp, types.float32), _store(1)

    @intrinsic
    def load4_at(typing: Any, base: Any, place: Any) -> Any:
        """Return four numbers of the tensor at an address."""
        return types.UniTuple(types.float32, 4)(base, types.intp), _load(4)

    @intrinsic
    def store4_at(typing: Any, base: Any, place: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        """Write four numbers of the tensor at an address."""
        return types.void(base, types.intp, *(types.float32,) * 4), _store(4)

    load1_at, store1_at = load1, store1  # type: ignore[assignment]  # the base may be either
    load4_of, store4_of = load4, store4  # type: ignore[assignment]  # compiled, they take arrays of any rank


@functools.cache
def loader(width: int) -> Callable[..., None]:
    """Return a function of kernels that reads ``width`` numbers (1 or 4) from ``place`` on into a local array."""
    if width == 1:

        def load(array, place, values):
            values[0] = load1(array, place)

    else:

        def load(array, place, values):
            values[0], values[1], values[2], values[3] = load4_of(array, place)

    return device_function(load)


@functools.cache
def row_loader(width: int) -> Callable[..., None]:
    """Return a function of kernels that reads ``width`` numbers (1 or 4) from ``place`` on into row ``i`` of some."""
    if width == 1:

        def load(array, place, values, i):
            values[i, 0] = load1(array, place)

    else:

        def load(array, place, values, i):
            values[i, 0], values[i, 1], values[i, 2], values[i, 3] = load4_of(array, place)

    return device_function(load)


@functools.cache
def storer(width: int) -> Callable[..., None]:
    """Return a function of kernels that writes a local array of ``width`` numbers (1 or 4) from ``place`` on."""
    if width == 1:

        def store(array, place, values):
            store1(array, place, values[0])

    else:

        def store(array, place, values):
            store4_of(array, place, values[0], values[1], values[2], values[3])

    return device_function(store)


def group_width(channels: int) -> int:
    """Return how many numbers to read at once where rows of so many begin: four if that keeps them aligned."""
    return 4 if channels % 4 == 0 else 1


def address_of(array: Any) -> int:
    """Return where an array on the device begins."""
    return int(array._array.ctypes.data) if SIMULATED else int(array.data.ptr)


def is_aligned(array: Any) -> bool:
    """Tell whether four numbers can be read at once from the beginning on; a part of an array may begin anywhere."""
    return address_of(array) % ALIGNMENT == 0
