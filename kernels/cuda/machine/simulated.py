"""Arrays that behave like CuPy's without a graphics card, so that what works on them works there.

A ``SimulatedArray`` holds a NumPy array. It answers NumPy's functions, operators and indexing, and refuses what CuPy
refuses: silent conversion, mixing with NumPy's arrays, functions and keywords that CuPy lacks (``cupy_names``). What
crosses to the host is counted (``COPIES``); new memory is filled with NaN or odd numbers, never with zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import cupy_names


class Copies:
    """How many times data crossed: to the device, to the host, and to the host only to learn a size of a result."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self.to_device = self.to_host = self.sizes = 0


COPIES = Copies()
# Functions whose result's size depends on values: the host waits for it.
_SIZES = {"nonzero", "flatnonzero", "argwhere", "unique", "extract", "compress", "setdiff1d", "intersect1d", "union1d"}
_FUNCTIONS = {
    line.partition("(")[0]: line.partition("(")[2].rstrip(")").split(", ") for line in cupy_names.FUNCTIONS.split("\n")
}
_UFUNCS, _ATTRIBUTES = set(cupy_names.UFUNCS.split()), set(cupy_names.ATTRIBUTES.split())


def poisoned(shape: Any, dtype: Any = np.float32) -> np.ndarray:
    """Return new memory that nobody can take for a result."""
    array = np.empty(shape, dtype)
    array.fill(np.nan if array.dtype.kind in "fc" else 1 if array.dtype.kind == "b" else 0x5A)
    return array


def _wrap(value: Any) -> Any:
    """Return results of NumPy as results of CuPy: numbers, too, are arrays."""
    if isinstance(value, (np.ndarray, np.generic)):
        return SimulatedArray(np.asarray(value))
    if isinstance(value, (list, tuple)):
        parts = [_wrap(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _unwrap(value: Any) -> Any:
    """Return arguments for NumPy; an array that lies on the host is refused."""
    if isinstance(value, SimulatedArray):
        return value._array
    if isinstance(value, np.ndarray) and value.ndim > 0:
        raise TypeError(f"Unsupported type {type(value)}: an array on the host, shape {value.shape}")
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_unwrap(part) for part in value)
    if isinstance(value, slice):
        return slice(*(_unwrap_bound(bound) for bound in (value.start, value.stop, value.step)))
    return value


def _unwrap_bound(bound: Any) -> Any:
    """Refuse a bound of a slice that lies on the device: CuPy's arrays are no indices of Python."""
    if isinstance(bound, SimulatedArray):
        raise TypeError("slice indices must be integers, not arrays on the device")
    return bound


class SimulatedArray:
    """A NumPy array in the clothes of CuPy's ``ndarray``."""

    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("__weakref__", "_array")

    def __init__(self, array: np.ndarray):
        self._array = array

    # --- what crosses to the host ---

    def get(self) -> np.ndarray:
        """Return a copy on the host."""
        COPIES.to_host += 1
        return self._array.copy()

    def item(self, *args: Any) -> Any:
        """Return one element on the host."""
        COPIES.to_host += 1
        return self._array.item(*args)

    def tolist(self) -> Any:
        """Return the elements on the host."""
        COPIES.to_host += 1
        return self._array.tolist()

    def __float__(self) -> float:
        COPIES.to_host += 1
        return float(self._array)

    def __int__(self) -> int:
        COPIES.to_host += 1
        return int(self._array)

    def __bool__(self) -> bool:
        COPIES.to_host += 1
        return bool(self._array)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()` for that.")

    # --- NumPy's protocols ---

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        module = (function.__module__ or "").removeprefix("numpy").removeprefix(".").replace("_core", "")
        name = f"linalg.{function.__name__}" if module.startswith("linalg") else function.__name__
        parameters = _FUNCTIONS.get(name)
        if parameters is None:
            return NotImplemented
        unknown = set(kwargs) - set(parameters) - {"like"}
        if unknown and not any(parameter.startswith("**") for parameter in parameters):
            raise TypeError(f"{name}() got an unexpected keyword argument {sorted(unknown)[0]!r} (CuPy has none)")
        if name in _SIZES:
            COPIES.sizes += 1
        if name == "where" and len(args) == 1:
            COPIES.sizes += 1
        if name in ("array", "asarray", "ascontiguousarray") and not isinstance(args[0], SimulatedArray):
            COPIES.to_device += 1  # these carry arrays and lists across
            plain = [args[0] if isinstance(args[0], np.ndarray) else _unwrap(args[0]), *map(_unwrap, args[1:])]
        else:
            plain = [_unwrap(arg) for arg in args]
        options = {key: _unwrap(value) for key, value in kwargs.items()}
        result = function(*plain, **{key: value for key, value in options.items() if key != "like"})
        if kwargs.get("out") is not None:
            return kwargs["out"]
        if name.startswith("empty"):
            result = poisoned(result.shape, result.dtype)
        return _wrap(result)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if ufunc.__name__ not in _UFUNCS or method not in ("__call__", "at", "reduce", "accumulate", "outer"):
            return NotImplemented
        unknown = set(kwargs) - {"out", "dtype", "axis", "keepdims", "casting"}
        if unknown:
            raise TypeError(f"{ufunc.__name__}: wrong arguments {sorted(unknown)} (CuPy has none)")
        outs = kwargs.get("out")
        result = getattr(ufunc, method)(*map(_unwrap, inputs), **{key: _unwrap(kwargs[key]) for key in kwargs})
        if outs is not None:
            return outs[0] if len(outs) == 1 else outs
        return _wrap(result)

    # --- parts ---

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[SimulatedArray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> SimulatedArray:
        return SimulatedArray(np.asarray(self._array[self._index(index)]))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, SimulatedArray) and index.dtype == bool:
            self._array[index._array] = _unwrap(value)  # the size is not needed: no copy is counted
            return
        self._array[self._index(index)] = _unwrap(value)

    @staticmethod
    def _index(index: Any) -> Any:
        """Return NumPy's index; a list is carried to the device, a mask makes a result of a size that must be known."""
        for part in index if isinstance(index, tuple) else (index,):
            COPIES.to_device += isinstance(part, list)
            COPIES.sizes += isinstance(part, SimulatedArray) and part.dtype == bool
        return _unwrap(index)

    def __getattr__(self, name: str) -> Any:
        if name not in _ATTRIBUTES:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        value = getattr(self._array, name)
        if not callable(value):
            return _wrap(value) if isinstance(value, np.ndarray) else value

        def method(*args: Any, **kwargs: Any) -> Any:
            COPIES.sizes += name in _SIZES
            result = value(*map(_unwrap, args), **{key: _unwrap(kwargs[key]) for key in kwargs})
            return self if result is self._array else _wrap(result)

        return method

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_array":
            object.__setattr__(self, name, value)
        else:
            setattr(self._array, name, value)  # shape

    def __repr__(self) -> str:
        return f"simulated {self._array!r}"


def _operator(name: str) -> Callable[..., Any]:
    """Return an operator of arrays: both sides on the device, or one of them a number."""

    def operator(self: SimulatedArray, *others: Any) -> Any:
        method = getattr(np.ndarray, name)
        if any(isinstance(other, (list, tuple)) for other in others):
            return NotImplemented
        result = method(self._array, *map(_unwrap, others))
        if result is NotImplemented:
            return NotImplemented
        return self if result is self._array else _wrap(result)

    operator.__name__ = name
    return operator


_BINARY = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift",
)  # fmt: skip
for _name in (
    *(f"__{kind}{operation}__" for operation in _BINARY for kind in ("", "r", "i")),
    *(f"__{name}__" for name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert")),
):
    if hasattr(np.ndarray, _name) and _name != "__imatmul__":
        setattr(SimulatedArray, _name, _operator(_name))
