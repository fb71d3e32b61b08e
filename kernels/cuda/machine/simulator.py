"""Runs a kernel's Python text on the processor, with Numba's simulated ``cuda`` module (``NUMBA_ENABLE_CUDASIM=1``).

Numba starts one thread of the operating system for each of the kernel's and lets them race. Here they take turns in
one (``turns``): each runs to its next barrier, in the order of their numbers or a shuffled one (``shuffled``). So
results do not depend on luck, a kernel whose results depend on the order of its threads shows it, and so does a barrier
that not all threads reach. New memory is filled with NaN or odd numbers.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda.simulator import kernel as numba_kernel
from numba.cuda.simulator import kernelapi

from .simulated import poisoned
from .turns import as_generator, where

_seed: ContextVar[int | None] = ContextVar("seed", default=None)
_files: list[dict[str, Any]] = []  # globals of files with functions that kernels call
LANES = 32  # threads of a warp


@contextmanager
def shuffled(seed: int) -> Iterator[None]:
    """Run blocks, and the threads of a block between two barriers, in another order."""
    token = _seed.set(seed)
    try:
        yield
    finally:
        _seed.reset(token)


def called_by_kernels(function: Callable[..., Any]) -> Callable[..., Any]:
    """Remember a function's file, in which ``cuda`` has to mean the simulated module while a kernel runs."""
    if function.__globals__.get("cuda") is cuda and not any(function.__globals__ is seen for seen in _files):
        _files.append(function.__globals__)
    return function


@contextmanager
def _swapped(body: Callable[..., None], module: Any) -> Iterator[None]:
    """Let ``cuda`` mean the simulated module, in the kernel's file and in those of the functions it may call."""
    with ExitStack() as stack:
        if not any(body.__globals__ is seen for seen in _files):
            stack.enter_context(kernelapi.swapped_cuda_module(body, module))
        for file in _files:
            file["cuda"] = module
            stack.callback(file.__setitem__, "cuda", cuda)
        yield


def run(body: Callable[..., None], blocks: tuple[int, ...], threads: tuple[int, ...], args: tuple[Any, ...]) -> None:
    """Execute a kernel, block after block."""
    module: Any = _Cuda(blocks, threads, 0)
    rng = None if _seed.get() is None else random.Random(_seed.get())
    points = [kernelapi.Dim3(*point[::-1]) for point in np.ndindex(*blocks[::-1])]
    places = [kernelapi.Dim3(*point[::-1]) for point in np.ndindex(*threads[::-1])]
    with numba_kernel._push_kernel_context(module), _swapped(body, module), np.errstate(all="ignore"):
        if rng is not None:
            rng.shuffle(points)
        for point in points:
            module.enter_block(point)
            _run_block(body, args, module, list(places), rng)


class _Memory:
    """Shared memory of a block; arrays are told apart by the line that asks for them. Local memory: always new."""

    def __init__(self, local: bool = False):
        self._arrays: dict[Any, np.ndarray] | None = None if local else {}

    def array(self, shape: Any, dtype: Any, alignment: int | None = None) -> np.ndarray:
        """Return the array of this line."""
        kind = dtype if isinstance(dtype, type) else np.dtype(str(dtype))
        if self._arrays is None:
            return poisoned(shape, kind)
        frame = sys._getframe(1)
        place = frame.f_code, frame.f_lineno
        if place not in self._arrays:
            self._arrays[place] = poisoned(shape, kind)
        return self._arrays[place]


class _Cuda(kernelapi.FakeCUDAModule):
    """Numba's simulated module for the thread whose turn it is (``place``), with faster memory."""

    def __init__(self, *sizes: Any):
        super().__init__(*sizes)
        self._local: Any = _Memory(local=True)
        self.place: Any = None

    def enter_block(self, point: Any) -> None:
        """Begin a block, with shared memory of its own."""
        self._shared: Any = _Memory()
        self.point = point

    @property
    def threadIdx(self) -> Any:
        """The number of the thread."""
        return self.place

    @property
    def blockIdx(self) -> Any:
        """The number of the block."""
        return self.point

    @property
    def laneid(self) -> int:
        """The number of the thread in its warp."""
        return self.number(self.place) % LANES

    def number(self, place: Any) -> int:
        """Return the number of a thread in its block."""
        return int(place.x + self.blockDim.x * (place.y + self.blockDim.y * place.z))


def _run_block(body: Any, args: Any, module: _Cuda, places: list[Any], rng: random.Random | None) -> None:
    """Run the threads of a block to their ends, from meeting to meeting."""
    if rng is not None:
        rng.shuffle(places)
    generator = as_generator(body)
    if generator is None:
        for module.place in places:
            with _named(module):
                body(*args)
        return
    waiting = {place: generator(*args) for place in places}
    answers: dict[Any, Any] = dict.fromkeys(places)
    while waiting:
        requests = {}
        for module.place in waiting:
            with _named(module), suppress(StopIteration):
                requests[module.place] = waiting[module.place].send(answers[module.place])
        ended = len(places) - len(requests)
        waiting = {place: waiting[place] for place in requests}
        lines = {where(thread) for thread in waiting.values()}
        if requests and (ended or len(lines) > 1):
            raise RuntimeError(
                f"divergent barrier: {ended} of {len(places)} threads have ended, the others wait at "
                f"{sorted(f'{name}, line {line}' for name, line in lines)}"
            )
        answers = _answers(requests, module)
        if rng is not None:
            order = list(waiting)
            rng.shuffle(order)
            waiting = {place: waiting[place] for place in order}


@contextmanager
def _named(module: _Cuda) -> Iterator[None]:
    """Say which thread an error comes from."""
    try:
        yield
    except StopIteration:
        raise
    except Exception as error:
        raise type(error)(f"thread {tuple(module.place)} of block {tuple(module.point)}: {error}") from error


def _answers(requests: dict[Any, Any], module: _Cuda) -> dict[Any, Any]:
    """Return what each thread learns where all have met. A warp's threads meet where their whole block does."""
    answers: dict[Any, Any] = dict.fromkeys(requests)
    if not requests:
        return answers
    (name,) = {request[0] for request in requests.values()}
    if name in ("syncthreads", "syncwarp"):
        return answers
    if name in _OF_BLOCK:
        return dict.fromkeys(requests, _OF_BLOCK[name]([bool(request[1]) for request in requests.values()]))
    warps: dict[int, dict[int, Any]] = {}
    for place, request in requests.items():
        number = module.number(place)
        warps.setdefault(number // LANES, {})[number % LANES] = request[2]
    for place, (_, _, value, *more) in requests.items():
        number = module.number(place)
        lane, values = number % LANES, warps[number // LANES]
        if name in _OF_WARP:
            answers[place] = _OF_WARP[name](values)
        else:
            answers[place] = values.get(_SOURCE[name](lane, more[0]), value)
    return answers


_OF_BLOCK: dict[str, Callable[[list[bool]], int]] = {
    "syncthreads_count": sum,
    "syncthreads_and": lambda votes: int(all(votes)),
    "syncthreads_or": lambda votes: int(any(votes)),
}
_OF_WARP: dict[str, Callable[[dict[int, Any]], Any]] = {
    "ballot_sync": lambda values: sum(1 << lane for lane, value in values.items() if value),
    "any_sync": lambda values: any(values.values()),
    "all_sync": lambda values: all(values.values()),
}
_SOURCE: dict[str, Callable[[int, int], int]] = {
    "shfl_sync": lambda lane, other: other % LANES,
    "shfl_up_sync": lambda lane, delta: lane - delta,
    "shfl_down_sync": lambda lane, delta: lane + delta,
    "shfl_xor_sync": lambda lane, bits: lane ^ bits,
}
