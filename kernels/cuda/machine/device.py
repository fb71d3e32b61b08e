"""The graphics card behind a few functions: the only place that knows of ``numba.cuda`` and of CuPy.

Arrays on the device are CuPy's. Kernels are Python functions under ``@kernel``, which says the types of their arguments
and remembers them in ``REGISTRY``, so that all can be compiled without a card; ``launch`` runs one. A kernel is
compiled at its first launch, or read from disk (``compiled``).

With ``NUMBA_ENABLE_CUDASIM=1`` there is no card: arrays are ``simulated.SimulatedArray``, and ``simulator.run``
executes the kernels' Python text. Then ``SIMULATED`` is True, and files with tiles take small ones.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import config
from numba import cuda as numba_cuda

from ... import scalar
from . import compiled
from .simulated import COPIES, SimulatedArray, poisoned

SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", 0))
if not hasattr(np, "row_stack"):  # gone since NumPy 2.5; numba-cuda 0.30 still asks for it when it compiles
    np.row_stack = np.vstack
float32, int32 = np.float32, np.int32
Array: Any = SimulatedArray
cuda: Any = numba_cuda  # not typed: to mypy its properties are functions
cupy: Any = None

if SIMULATED:
    from . import simulator
else:
    if importlib.util.find_spec("numba_cuda") is None:
        raise ModuleNotFoundError("the package numba-cuda is not installed; install mrcnn-np with the extra 'cuda'")
    try:
        import cupy  # type: ignore[no-redef]

        Array = cupy.ndarray
    except ModuleNotFoundError:  # kernels can be compiled, not run
        pass

if not SIMULATED:
    from numba import types
    from numba.cuda import libdevice
    from numba.cuda.extending import overload

    # Without annotations: Numba compares the parameters with those of the function that is returned, and where they
    # differ it silently takes the CPU's text.

    @overload(scalar.product, target="cuda")
    def _product(a, b):
        """Multiply so that no addition is drawn in."""
        if types.float64 in (a, b):
            return lambda a, b: libdevice.dmul_rn(a, b)
        return lambda a, b: libdevice.fmul_rn(a, b)

    @overload(scalar.multiply_add, target="cuda")
    def _multiply_add(a, b, c):
        """Use the instruction that rounds once."""
        return lambda a, b, c: libdevice.fmaf_rn(a, b, c)


LARGEST_GRID = (2**31 - 1, 65535, 65535)  # blocks along each axis
_TYPES = {"b1": "boolean", "u1": "uint8", "i4": "int32", "u4": "uint32", "i8": "int64", "u8": "uint64"}
_TYPES |= {"i1": "int8", "u2": "uint16", "i2": "int16", "f4": "float32", "f8": "float64"}


# --- kernels --------------------------------------------------------------------------------------------------------


class Argument(NamedTuple):
    """Type of a kernel's argument: of its elements, and the axes of an array (0: a number), which is C-contiguous."""

    dtype: np.dtype
    ndim: int

    @classmethod
    def parse(cls, text: str) -> Argument:
        """Read Numba's short name: ``f4``, ``i4``, ``f4[:,:,::1]``."""
        name, _, axes = text.partition("[")
        if name not in _TYPES or (axes and not axes.endswith("::1]")):
            raise ValueError(f"type of a kernel's argument is {text!r}; expected as f4 or f4[:,::1]")
        return cls(np.dtype(name if name != "b1" else bool), axes.count(",") + 1 if axes else 0)

    def for_numba(self) -> Any:
        """Return Numba's type."""
        from numba import types

        element = getattr(types, _TYPES["b1" if self.dtype == bool else self.dtype.str[1:]])
        return types.Array(element, self.ndim, "C", aligned=True) if self.ndim else element


class Kernel:
    """A kernel: its Python text, the types of its arguments, and once it was launched its compiled form."""

    def __init__(self, function: Callable[..., None], types: tuple[str, ...], name: str, options: dict[str, Any]):
        self.function, self.types, self.name, self.options = function, types, name, options
        self.arguments = tuple(Argument.parse(text) for text in types)
        self._cards: dict[int, compiled.Loaded] = {}
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> None:
        """Refuse: a kernel needs blocks and threads."""
        raise TypeError(f"kernel {self.name}: use launch(kernel, blocks, threads, ...)")

    @property
    def signature(self) -> tuple[Any, ...]:
        """Numba's types of the arguments."""
        return tuple(argument.for_numba() for argument in self.arguments)

    def on_card(self) -> compiled.Loaded:
        """Return the kernel on the card that is in use; at first it is compiled, or its machine code is read."""
        number = cupy.cuda.runtime.getDevice()
        loaded = self._cards.get(number)
        if loaded is None:
            capability = cupy.cuda.Device(number).compute_capability
            loaded = self._cards[number] = compiled.Loaded(self, (int(capability[:-1]), int(capability[-1])))
        return loaded


REGISTRY: dict[str, Kernel] = {}  # by name


def kernel(*types: str, name: str | None = None, **options: Any) -> Callable[[Callable[..., None]], Kernel]:
    """Make a function a kernel.

    ``types`` are those of its arguments, as in ``"f4[:,::1]", "i4"``; ``options`` are of ``cuda.jit``, and left out in
    the simulator. A ``name`` is needed where one text gives several kernels.
    """

    def decorate(function: Callable[..., None]) -> Kernel:
        made = Kernel(function, types, name or function.__name__, options)
        if made.name in REGISTRY:
            raise ValueError(f"there are two kernels of the name {made.name}")
        REGISTRY[made.name] = made
        return made

    return decorate


def device_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function one that kernels can call; it becomes part of their text. In the simulator: as it is."""
    return simulator.called_by_kernels(function) if SIMULATED else cuda.jit(device=True, forceinline=True)(function)


def _sizes(size: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return three sizes."""
    if type(size) is not tuple:
        return int(size), 1, 1  # type: ignore[arg-type]
    if len(size) == 2:
        return int(size[0]), int(size[1]), 1
    x, y, z = size
    return int(x), int(y), int(z)


def launch(body: Kernel, blocks: int | tuple[int, ...], threads: int | tuple[int, ...], *args: Any) -> None:
    """Run a kernel: ``blocks`` blocks of ``threads`` threads (along x; or along x, y and z). No block: nothing to do.

    It runs on CuPy's current stream, in the order of the launches, while the host goes on. Arrays have to be of the
    kernel's types and C-contiguous; a kernel that takes a flat array gets any array as one. Numbers are converted.
    """
    grid, block = _sizes(blocks), _sizes(threads)
    if 0 in grid:
        return
    if grid[0] > LARGEST_GRID[0] or grid[1] > LARGEST_GRID[1] or grid[2] > LARGEST_GRID[2]:
        raise ValueError(f"kernel {body.name}: a grid of {grid} blocks is too large")
    if SIMULATED:
        simulator.run(body.function, grid, block, _simulated_arguments(body, args))
    else:
        body.on_card().launch(grid, block, cupy.cuda.get_current_stream().ptr, args)


def _simulated_arguments(body: Kernel, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Check all arguments."""
    if len(args) != len(body.arguments):
        raise TypeError(f"kernel {body.name} takes {len(body.arguments)} arguments, got {len(args)}")
    return tuple(_simulated(*pair) for pair in zip(body.arguments, args))


def _simulated(argument: Argument, value: Any) -> Any:
    """Check an argument as the compiled kernel does, and take it out of its clothes."""
    if argument.ndim == 0:
        if isinstance(value, SimulatedArray):
            raise TypeError("a kernel's number is an array on the device")
        return argument.dtype.type(value) if argument.dtype.kind == "f" else int(value)
    if not isinstance(value, SimulatedArray):
        raise TypeError(f"a kernel's array does not lie on the device: {type(value).__name__}")
    array = value._array
    if argument.ndim == 1 and array.flags.c_contiguous:
        array = array.reshape(-1)
    if array.dtype != argument.dtype or array.ndim != argument.ndim or not array.flags.c_contiguous:
        raise TypeError(f"a kernel expects {argument}, got {array.dtype} {array.shape} (strides {array.strides})")
    return array


# --- arrays ---------------------------------------------------------------------------------------------------------


def is_device(value: Any) -> bool:
    """Tell whether this is an array on the device."""
    return isinstance(value, Array)


def empty(shape: Any, dtype: Any = np.float32) -> Any:
    """Return a new array whose elements are anything."""
    return SimulatedArray(poisoned(shape, dtype)) if SIMULATED else cupy.ndarray(shape, dtype)


def zeros(shape: Any, dtype: Any = np.float32) -> Any:
    """Return a new array of zeros."""
    return SimulatedArray(np.zeros(shape, dtype)) if SIMULATED else cupy.zeros(shape, dtype)


def to_device(host: Any) -> Any:
    """Copy an array to the device; one that lies there already is returned as it is."""
    if is_device(host):
        return host
    COPIES.to_device += 1
    return SimulatedArray(np.array(host, order="C")) if SIMULATED else cupy.array(host, order="C")


def to_host(array: Any) -> Any:
    """Copy an array to the host; anything else is returned as it is."""
    if not is_device(array):
        return array
    if SIMULATED:
        return array.get()
    COPIES.to_host += 1
    return cupy.asnumpy(array)


def memory() -> tuple[int, int] | None:
    """Return the card's free memory (what CuPy keeps for later counts as free) and all of it, in bytes."""
    if SIMULATED:
        return None
    free, total = cupy.cuda.runtime.memGetInfo()
    return free + cupy.get_default_memory_pool().free_bytes(), total


def contiguous(array: Any) -> Any:
    """Return the array, or a copy without gaps if it has some."""
    if array.flags.c_contiguous:
        return array
    return array.copy()


def aligned(array: Any) -> Any:
    """Return the array, or a copy that begins at an address that 16 divides and has no gaps, for loads of 16 bytes."""
    array = contiguous(array)
    address = array._array.ctypes.data if SIMULATED else array.data.ptr
    return array if address % 16 == 0 else array.copy()


def blocks_for(n: int, threads: int) -> int:
    """Return how many blocks of so many threads are needed for ``n``."""
    return -(-n // threads)


__all__ = [
    "COPIES", "REGISTRY", "SIMULATED", "Array", "Kernel", "aligned", "blocks_for", "contiguous", "cuda", "cupy",
    "device_function", "empty", "float32", "int32", "is_device", "kernel", "launch", "memory", "to_device", "to_host",
    "zeros",
]  # fmt: skip
