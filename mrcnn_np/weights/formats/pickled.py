"""What arrays and tensors are made of when they are pickled: the functions that a pickle may have called.

NumPy pickles an array as a call of ``_reconstruct`` that makes an empty one, and a state with shape, type and bytes
that fills it; from protocol 5 on as a call of ``_frombuffer``. PyTorch pickles a tensor as a call of
``_rebuild_tensor_v2`` with a storage, an offset, sizes and strides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Name(NamedTuple):
    """What a pickle wants to have imported; never imported here."""

    module: str
    name: str


DTYPES = frozenset(f"{kind}{size}" for kind, sizes in {"f": "248", "i": "1248", "u": "1248"}.items() for size in sizes)


class Inert:
    """An object of which only the existence is kept, for instance the options of a training run."""


class DType:
    """A ``numpy.dtype`` under construction: first its code, then a state with the byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = str(code).lstrip("<>=|")
        self.order = ">" if str(code).startswith(">") else "<"
        if self.code not in DTYPES | {"b1"}:
            raise ValueError(f"arrays of type {code!r}")

    def build(self, state: Any) -> None:
        """Take the byte order from the state that NumPy writes."""
        self.order = ">" if state[1] == ">" else "<"

    def numpy(self) -> np.dtype:
        """Return the finished type."""
        return np.dtype(self.order + self.code)


class Array:
    """A ``numpy.ndarray`` under construction: first nothing, then a state with shape, type and bytes."""

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Make the array of (version, shape, type, Fortran order, bytes)."""
        *_, shape, dtype, fortran, data = state
        self.value = view(data, dtype, shape, "F" if fortran else "C")


def finished(value: Any) -> Any:
    """Return the array that was under construction, and anything else as it is."""
    return value.value if isinstance(value, Array) else value


def view(data: Any, dtype: DType, shape: Any, order: str = "C") -> np.ndarray:
    """Return bytes as an array; their number must fit."""
    raw = _latin1(data)
    array = np.frombuffer(raw, dtype.numpy())
    shape = tuple(_sizes(shape))
    if int(np.prod(shape, dtype=object)) != array.size:
        raise ValueError(f"{array.size} numbers for an array of shape {shape}")
    return array.reshape(shape, order="F" if order == "F" else "C")


def _latin1(data: Any, *_: Any) -> bytes | bytearray:
    """Return bytes; older protocols, and Python 2, keep them as text."""
    if isinstance(data, str):
        return data.encode("latin-1")
    if not isinstance(data, (bytes, bytearray)):
        raise ValueError(f"{type(data).__name__} instead of bytes")
    return data


def _sizes(values: Any) -> list[int]:
    sizes = list(values)
    if any(isinstance(v, bool) or not isinstance(v, int) or not 0 <= v < 2**62 for v in sizes):
        raise ValueError(f"{sizes} are no sizes")
    return sizes


@dataclass(frozen=True)
class Storage:
    """The numbers behind one or several tensors, in one row."""

    data: np.ndarray


def tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """Return the view of a storage that a tensor is.

    Raises
    ------
    ValueError
        The view reaches beyond the storage.
    """
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    (start,), shape, steps = _sizes([offset]), _sizes(size), _sizes(stride)
    if len(shape) != len(steps):
        raise ValueError(f"a tensor of shape {shape} with strides {steps}")
    if 0 in shape:
        return np.zeros(shape, storage.data.dtype)
    last = start + sum((n - 1) * step for n, step in zip(shape, steps))
    if last >= storage.data.size:
        raise ValueError(f"a tensor that ends at number {last} of a storage of {storage.data.size}")
    itemsize = storage.data.itemsize
    return np.lib.stride_tricks.as_strided(
        storage.data[start:], shape, [step * itemsize for step in steps], writeable=False
    )


def _frombuffer(data: Any, dtype: DType, shape: Any, order: str) -> np.ndarray:
    return view(data, dtype, shape, order)


def _container(value: Any) -> Any:
    """Return a container as it is; a tensor with strides of 0 would be an endless one."""
    if not isinstance(value, (dict, list, tuple)):
        raise ValueError(f"{type(value).__name__} instead of a container")
    return value


def _scalar(dtype: DType, data: Any = b"") -> Any:
    return view(data, dtype, ()).item()


CORES = ("numpy.core", "numpy._core")  # before and from NumPy 2
ARRAYS: dict[Name, Callable[..., Any]] = {
    **{Name(f"{core}.multiarray", "_reconstruct"): Array for core in CORES},
    **{Name(f"{core}.multiarray", "scalar"): _scalar for core in CORES},
    **{Name(f"{core}.numeric", "_frombuffer"): _frombuffer for core in CORES},
    Name("numpy", "ndarray"): Array,
    Name("numpy", "dtype"): DType,
    Name("_codecs", "encode"): _latin1,
    Name("__builtin__", "bytes"): lambda: b"",
    Name("builtins", "bytes"): lambda: b"",
    Name("__builtin__", "bytearray"): lambda data="", *_: _latin1(data),
    Name("builtins", "bytearray"): lambda data="", *_: _latin1(data),
    Name("collections", "OrderedDict"): lambda pairs=(): dict(_container(pairs)),
    Name("collections", "Counter"): lambda pairs=(): dict(_container(pairs)),
    Name("argparse", "Namespace"): lambda *args: Inert(),
}
TENSORS: dict[Name, Callable[..., Any]] = {
    Name("torch._utils", "_rebuild_tensor"): tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): tensor,
    Name("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    Name("torch", "Size"): lambda values: tuple(_container(values)),
    Name("torch", "device"): lambda *args: Inert(),
}
