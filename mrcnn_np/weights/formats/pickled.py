"""What arrays and tensors are made of when they are pickled: the functions that a pickle may have called.

NumPy pickles an array as a call of ``_reconstruct`` that makes an empty one, and a state with shape, type and bytes
that fills it; from protocol 5 on as a call of ``_frombuffer``. PyTorch pickles a tensor as a call of
``_rebuild_tensor_v2`` with a storage, an offset, sizes and strides.

Any argument may be anything that a pickle can build: a tuple where a text belongs, a tensor of a million million equal
numbers where a count does. So each function looks at the type of what it gets before it does anything else with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...schema import one_line, shown


class Name(NamedTuple):
    """What a pickle wants to have imported; never imported here."""

    module: str
    name: str


DTYPES = frozenset(f"{kind}{size}" for kind, sizes in {"f": "248", "i": "1248", "u": "1248"}.items() for size in sizes)
#: axes of an array, as many as NumPy has
AXES = 64


class Inert:
    """An object of which only the existence is kept, for instance the options of a training run."""


class Key:
    """A key of a dictionary that is no text. It equals itself alone.

    To hash a tuple takes as long as it has leaves, and numbers can be chosen so that their hashes collide.
    """

    def __init__(self, value: Any) -> None:
        self.value = value


def described(value: Any) -> str:
    """Say in a few words what something is, without looking into it: it may contain itself."""
    if isinstance(value, Name):
        return one_line(f"{value.module}.{value.name}", limit=120)
    if isinstance(value, Key):
        return described(value.value)
    if value is None or isinstance(value, (str, int, float)):
        return shown(value)
    return f"a {type(value).__name__}"


def dictionary(pairs: Iterable[Any]) -> dict[Any, Any]:
    """Make a dictionary of keys and values."""
    return {key if isinstance(key, (str, bytes)) else Key(finished(key)): value for key, value in pairs}


class DType:
    """A ``numpy.dtype`` under construction: first its code, then a state with the byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.lstrip("<>=|") if isinstance(code, str) else ""
        self.order = ">" if isinstance(code, str) and code.startswith(">") else "<"
        if self.code not in DTYPES | {"b1"}:
            raise ValueError(f"arrays of type {described(code)}")

    def build(self, state: tuple[Any, ...]) -> None:
        """Take the byte order from the state that NumPy writes."""
        self.order = ">" if _is(state[1], ">") else "<"

    def numpy(self) -> np.dtype:
        """Return the finished type."""
        return np.dtype(self.order + self.code)


class Array:
    """A ``numpy.ndarray`` under construction: first nothing, then a state with shape, type and bytes."""

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def build(self, state: tuple[Any, ...]) -> None:
        """Make the array of (version, shape, type, Fortran order, bytes)."""
        *_, shape, dtype, fortran, data = state
        if not isinstance(fortran, int):
            raise ValueError(f"{described(fortran)} as the order of an array")
        self.value = view(data, dtype, shape, "F" if fortran else "C")


def finished(value: Any) -> Any:
    """Return the array that was under construction, and anything else as it is."""
    return value.value if isinstance(value, Array) else value


def view(data: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    """Return bytes as an array; their number must fit.

    Parameters
    ----------
    data : bytes
    dtype : numpy.dtype
    shape : tuple of int
    order : {"C", "F"}
        Rows or columns first.
    """
    if not isinstance(dtype, DType):
        raise ValueError(f"{described(dtype)} as the type of an array")
    array = np.frombuffer(_latin1(data), dtype.numpy())
    shape = _sizes(shape)
    if int(np.prod(shape, dtype=object)) != array.size:
        raise ValueError(f"{array.size} numbers for an array of shape {tuple(shape)}")
    return array.reshape(shape, order="F" if _is(order, "F") else "C")


def _is(value: Any, text: str) -> bool:
    """Compare texts; to compare an array goes through all of its numbers."""
    return isinstance(value, str) and value == text


def _latin1(data: Any, *_: Any) -> bytes | bytearray:
    """Return bytes; older protocols, and Python 2, keep them as text."""
    if isinstance(data, str):
        return data.encode("latin-1")
    if not isinstance(data, (bytes, bytearray)):
        raise ValueError(f"{described(data)} instead of bytes")
    return data


def _sizes(values: Any) -> list[int]:
    if not isinstance(values, (list, tuple)) or len(values) > AXES:
        raise ValueError(f"{described(values)} instead of up to {AXES} sizes")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**62:
            raise ValueError(f"{described(value)} instead of a size")
    return list(values)


@dataclass(frozen=True)
class Storage:
    """The numbers behind one or several tensors, in one row."""

    data: np.ndarray


def tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """Return the view of a storage that a tensor is.

    Parameters
    ----------
    storage : ndarray of shape (n,)
    offset : int
        Its first number.
    size, stride : tuple of int
        One for each axis, in numbers.
    *_
        What else a pickle says of a tensor: gradients and hooks, which are left alone.

    Raises
    ------
    ValueError
        The view reaches beyond the storage.
    """
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    (start,), shape, steps = _sizes([offset]), _sizes(size), _sizes(stride)
    if len(shape) != len(steps):
        raise ValueError(f"a tensor of {len(shape)} sizes and {len(steps)} strides")
    if 0 in shape:
        return np.zeros(shape, storage.data.dtype)
    last = start + sum((n - 1) * step for n, step in zip(shape, steps))
    if last >= storage.data.size:
        raise ValueError(f"a tensor that ends at number {last} of a storage of {storage.data.size}")
    itemsize = storage.data.itemsize
    a = np.ndarray(shape, storage.data.dtype, storage.data, start * itemsize, [step * itemsize for step in steps])
    a.flags.writeable = False
    return a


#: types that PyTorch keeps in storages without a type
UNTYPED = {"uint16": "u2", "uint32": "u4", "uint64": "u8"}


def _tensor_of_bytes(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> np.ndarray:
    """Return a tensor of a type that came later than storages with types."""
    if not isinstance(storage, Storage) or not isinstance(dtype, Name) or dtype.name not in UNTYPED:
        raise ValueError(f"a tensor of type {described(dtype)}")
    return tensor(Storage(storage.data.view(UNTYPED[dtype.name])), offset, size, stride)


def _with_attributes(function: Any, _type: Any, arguments: Any, *_: Any) -> Any:
    """Return a tensor to which attributes were given; they are left aside."""
    if not isinstance(function, Name) or function not in REBUILD or len(_members(arguments)) > AXES:
        raise ValueError(f"a tensor made by {described(function)}")
    return REBUILD[function](*arguments)


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return view(data, dtype, shape, order)


def _members(value: Any = ()) -> list[Any] | tuple[Any, ...]:
    """Return a list or tuple as it is; a tensor with strides of 0 would be an endless one."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{described(value)} instead of a container")
    return value


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    """Return the dictionary of a subclass of ``dict``."""
    if isinstance(pairs, dict):
        return dict(pairs)
    if any(not isinstance(pair, (list, tuple)) or len(pair) != 2 for pair in _members(pairs)):
        raise ValueError("a dictionary of something other than keys and values")
    return dictionary(pairs)


def _scalar(dtype: Any, data: Any = b"") -> Any:
    return view(data, dtype, ()).item()


CORES = ("numpy.core", "numpy._core")  # before and from NumPy 2
BUILTINS = ("__builtin__", "builtins")  # Python 2 and 3
ARRAYS: dict[Name, Callable[..., Any]] = {
    **{Name(f"{core}.multiarray", "_reconstruct"): Array for core in CORES},
    **{Name(f"{core}.multiarray", "scalar"): _scalar for core in CORES},
    **{Name(f"{core}.numeric", "_frombuffer"): _frombuffer for core in CORES},
    Name("numpy", "ndarray"): Array,
    Name("numpy", "dtype"): DType,
    Name("_codecs", "encode"): _latin1,
    **{Name(module, "bytes"): lambda: b"" for module in BUILTINS},
    **{Name(module, "bytearray"): lambda data="", *_: _latin1(data) for module in BUILTINS},
    **{Name(module, "set"): _members for module in BUILTINS},
    Name("collections", "OrderedDict"): _ordered,
    Name("collections", "Counter"): _ordered,
    Name("argparse", "Namespace"): lambda *args: Inert(),
}
REBUILD: dict[Name, Callable[..., Any]] = {
    Name("torch._utils", "_rebuild_tensor"): tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): tensor,
    Name("torch._utils", "_rebuild_tensor_v3"): _tensor_of_bytes,
}
TENSORS: dict[Name, Callable[..., Any]] = {
    **REBUILD,
    Name("torch._tensor", "_rebuild_from_type_v2"): _with_attributes,
    Name("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    Name("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    Name("torch", "Size"): lambda values=(): tuple(_members(values)),
    Name("torch", "device"): lambda *args: Inert(),
}
