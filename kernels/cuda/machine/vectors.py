"""Four floats at a time: the widest load and store of a thread, 16 bytes, at an address that 16 divides.

A warp that reads 4 bytes a thread needs four instructions for what one of these brings, and both the issue of
instructions and the number of loads in flight limit a kernel's bandwidth. Numba has no word for it, so it is written
as LLVM instructions. In the simulator it is plain Python, which checks the alignment.
"""

from __future__ import annotations

from typing import Any

from .device import SIMULATED

if SIMULATED:

    def load4(array: Any, at: Any) -> Any:
        """Return four neighbours of a flat array of float32, the first at ``at``, a multiple of 4."""
        _check(array, at)
        return tuple(array[at : at + 4])

    def store4(array: Any, at: Any, a: Any, b: Any, c: Any, d: Any) -> None:
        """Write four neighbours of a flat array of float32, the first at ``at``, a multiple of 4."""
        _check(array, at)
        array[at : at + 4] = a, b, c, d

    def _check(array: Any, at: Any) -> None:
        """Refuse what would fail, or read something else, on a card."""
        if at % 4 or at < 0 or at + 4 > len(array):
            raise IndexError(f"four floats at {at} of an array {array.dtype} {array.shape}")

else:
    import importlib

    from llvmlite import ir

    types: Any = importlib.import_module("numba.cuda.types")
    intrinsic: Any = importlib.import_module("numba.cuda.extending").intrinsic

    _FOUR = ir.VectorType(ir.FloatType(), 4)

    def _address(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
        """Return the address of an element as one of four floats, in the array's own memory (global or shared)."""
        data = context.make_array(kind)(context, builder, array).data
        return builder.bitcast(builder.gep(data, [at]), _FOUR.as_pointer(getattr(data.type, "addrspace", 0)))

    @intrinsic
    def load4(typing: Any, array: Any, at: Any) -> Any:
        """Return four neighbours of a flat array of float32, the first at ``at``, a multiple of 4."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            loaded = builder.load(_address(context, builder, signature.args[0], *args))
            loaded.align = 16
            parts = [builder.extract_element(loaded, ir.Constant(ir.IntType(32), k)) for k in range(4)]
            return context.make_tuple(builder, signature.return_type, parts)

        return types.UniTuple(types.float32, 4)(array, types.intp), generate

    @intrinsic
    def store4(typing: Any, array: Any, at: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        """Write four neighbours of a flat array of float32, the first at ``at``, a multiple of 4."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = ir.Constant(_FOUR, ir.Undefined)
            for k in range(4):
                value = builder.insert_element(value, args[2 + k], ir.Constant(ir.IntType(32), k))
            stored = builder.store(value, _address(context, builder, signature.args[0], *args[:2]))
            stored.align = 16
            return context.get_dummy_value()

        one = types.float32
        return types.void(array, types.intp, one, one, one, one), generate


__all__ = ["load4", "store4"]
