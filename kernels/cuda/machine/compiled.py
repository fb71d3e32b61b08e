"""From a kernel's Python text to machine code, kept on disk, and its launch.

Numba translates the text to PTX, NVIDIA's linker PTX to the machine code of a card (a *cubin*). Neither needs a card:
tests do the same. Machine code is kept in a folder that is named after the text of all files below ``kernels/``, as
that of the kernels for the CPU is, so only the first run waits for the compiler.

CuPy loads the code and launches it. An array is handed over as Numba's code expects it: two unused pointers, the number
of elements, their bytes, the address, the shape, and the strides in bytes. All arguments go in one block of memory,
laid out as C lays out a struct: packing it takes a few microseconds, where handing over forty arguments one by one
would take longer than many a kernel.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import re
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .device import Argument, Kernel

_LETTERS = {"f4": "f", "f8": "d", "i1": "b", "u1": "B", "b1": "?", "i2": "h", "u2": "H", "i4": "i", "u4": "I"}
_LETTERS |= {"i8": "q", "u8": "Q"}
_POINTER, _SIZE, _END = 1, 2, 0  # CU_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE and _END


# --- compile --------------------------------------------------------------------------------------------------------


@contextmanager
def _target(capability: tuple[int, int]) -> Iterator[None]:
    """Let Numba compile functions that kernels call for this capability, where it would ask the card that there is."""
    from numba.cuda import dispatcher

    before = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = before


def to_ptx(kernel: Kernel, capability: tuple[int, int]) -> str:
    """Return a kernel's PTX for a capability, as (9, 0)."""
    from numba import cuda

    with _target(capability):
        ptx, _ = cuda.compile_ptx(kernel.function, kernel.signature, cc=capability, **kernel.options)
    return ptx


def link(ptx: str, capability: tuple[int, int]) -> tuple[bytes, str]:
    """Return the machine code, and what the linker says of registers and memory."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}", ptxas_options=["-v"], verbose=True)
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    code = linker.link("cubin").code
    return bytes(code), linker.get_info_log()


def entry(ptx: str) -> tuple[str, list[str]]:
    """Return the name of the kernel in PTX, and the types of its parameters, as ``u64`` or ``f32``."""
    found = re.search(r"\.visible \.entry (\w+)\((.*?)\)", ptx, re.S)
    assert found is not None, "PTX without a kernel"
    return found[1], re.findall(r"\.param \.(\w+)", found[2])


def _folder() -> Path:
    """Return the folder for machine code of these very sources and compilers."""
    from ...cpu.machine.folders import private_folder, temporary_folder

    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parents[2].rglob("*.py")))
    versions = "".join(importlib.metadata.version(name) for name in ("numba", "numba-cuda", "llvmlite"))
    name = hashlib.sha256(text + versions.encode()).hexdigest()[:16]
    try:
        base = os.environ.get("NUMBA_CACHE_DIR") or Path.home() / ".cache" / "mrcnn_np"
        return private_folder(Path(base) / f"cuda-{name}")
    except (OSError, RuntimeError):  # a read-only home: this run compiles for itself
        return temporary_folder()


folder = functools.cache(_folder)


def machine_code(kernel: Kernel, capability: tuple[int, int]) -> tuple[bytes, str]:
    """Return a kernel's machine code and the name it has there: from disk, or compiled and put there."""
    place = folder() / f"{kernel.name}-{capability[0]}{capability[1]}"
    code, name = place.with_suffix(".cubin"), place.with_suffix(".name")
    if not (code.exists() and name.exists()):
        ptx = to_ptx(kernel, capability)
        for path, content in ((code, link(ptx, capability)[0]), (name, entry(ptx)[0].encode())):
            part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")  # of this process and thread, on whatever machine
            part.write_bytes(content)
            part.replace(path)  # whole, or not at all
    return code.read_bytes(), name.read_text()


# --- launch ---------------------------------------------------------------------------------------------------------


def layout(arguments: tuple[Argument, ...]) -> str:
    """Return how arguments lie in memory, as a format of ``struct``."""
    letters = (
        "qqqqq" + "qq" * argument.ndim if argument.ndim else _LETTERS[_short(argument.dtype)] for argument in arguments
    )
    return "@" + "".join(letters)


def _short(dtype: np.dtype) -> str:
    """Return Numba's short name of a number's type."""
    return "b1" if dtype.kind == "b" else dtype.str[1:]


def values(argument: Argument, array: Any) -> tuple[int, ...]:
    """Return what stands for an array."""
    dtype, ndim = argument
    # _c_contiguous: the public ``flags`` make an object each time, which takes as long as all the rest
    if (array.dtype is not dtype and array.dtype != dtype) or not array._c_contiguous:
        raise TypeError(f"a kernel expects {argument}, got {array.dtype} {array.shape}, with gaps or of another type")
    step, size = dtype.itemsize, array.size
    if ndim == 1:
        return 0, 0, size, step, array.data.ptr, size, step
    shape = array.shape
    if len(shape) != ndim:
        raise TypeError(f"a kernel expects {argument}, got {array.dtype} {array.shape}")
    if ndim == 2:  # most often; the others have their strides made in a loop
        return 0, 0, size, step, array.data.ptr, *shape, shape[1] * step, step
    strides = [step]
    for length in shape[:0:-1]:
        strides.append(strides[-1] * length)
    return 0, 0, size, step, array.data.ptr, *shape, *reversed(strides)


def pieces(arguments: tuple[Argument, ...]) -> list[tuple[Argument | None, int, int]]:
    """Return where arrays are among the arguments, and where numbers follow each other, which go over at once.

    A product takes five arrays and thirty numbers: one by one they would take longer than the launch.
    """
    found: list[tuple[Argument | None, int, int]] = []
    for i, argument in enumerate(arguments):
        if argument.ndim:
            found.append((argument, i, i + 1))
        elif found and found[-1][0] is None:
            found[-1] = None, found[-1][1], i + 1
        else:
            found.append((None, i, i + 1))
    return found


class Block:
    """Memory for a kernel's arguments, and the list that tells the driver where it lies.

    It is made once, and filled anew for each launch: the driver has copied it when the launch returns.
    """

    def __init__(self, kernel: Kernel):
        self.arguments, self.struct = kernel.arguments, struct.Struct(layout(kernel.arguments))
        self.pieces = pieces(kernel.arguments)
        self.memory, self.size = ctypes.create_string_buffer(self.struct.size), ctypes.c_size_t(self.struct.size)
        where = ctypes.addressof(self.memory), ctypes.addressof(self.size)
        self.extra = (ctypes.c_void_p * 5)(_POINTER, where[0], _SIZE, where[1], _END)
        self.address = ctypes.addressof(self.extra)

    def fill(self, args: tuple[Any, ...]) -> None:
        """Write the arguments."""
        if len(args) != len(self.arguments):
            raise TypeError(f"the kernel takes {len(self.arguments)} arguments, got {len(args)}")
        flat: list[Any] = []
        for argument, start, stop in self.pieces:
            flat += args[start:stop] if argument is None else values(argument, args[start])
        self.struct.pack_into(self.memory, 0, *flat)


class Loaded:
    """A kernel on a card: its function, and the block of its arguments."""

    def __init__(self, kernel: Kernel, capability: tuple[int, int]):
        from cupy.cuda import driver, function

        code, name = machine_code(kernel, capability)
        self.module = function.Module()
        self.module.load(code)
        self.function = self.module.get_function(name)
        self.number, self.start = self.function.ptr, driver.launchKernel
        self.block, self.lock = Block(kernel), threading.Lock()

    def launch(self, grid: tuple[int, ...], block: tuple[int, ...], stream: int, args: tuple[Any, ...]) -> None:
        """Launch it."""
        with self.lock:  # two threads share the block
            self.block.fill(args)
            self.start(self.number, *grid, *block, 0, stream, 0, self.block.address)


__all__ = ["Block", "Loaded", "entry", "folder", "layout", "link", "machine_code", "pieces", "to_ptx", "values"]
