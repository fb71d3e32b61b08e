"""Runs a kernel's Python text on the processor, with Numba's simulated ``cuda`` module (``NUMBA_ENABLE_CUDASIM=1``).

Numba starts one thread of the operating system for each of the kernel's and lets them race. Here they take turns: each
runs to its next barrier, in the order of their numbers or a shuffled one (``shuffled``), and threads that meet no
barrier share one of the system's. So results do not depend on luck, a kernel whose results depend on the order of its
threads shows it, and so does a barrier that not all threads reach. New memory is filled with NaN or odd numbers.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda.simulator import kernel as numba_kernel
from numba.cuda.simulator import kernelapi

from .simulated import poisoned

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
    with numba_kernel._push_kernel_context(module), _swapped(body, module):
        if rng is not None:
            rng.shuffle(points)
        for point in points:
            module._shared = _Memory()
            _Block(body, args, point, places, rng).run()


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
    """Numba's simulated module, with faster memory and with the operations of a warp, which it lacks.

    All threads of a block have to meet at a warp operation, because it is made of the block's barrier.
    """

    def __init__(self, *sizes: Any):
        super().__init__(*sizes)
        self._local: Any = _Memory(local=True)
        self._shared: Any = _Memory()

    def _from_lane(self, value: Any, choose: Callable[[int], int]) -> Any:
        lane, values = threading.current_thread().exchange(value)  # type: ignore[attr-defined]
        source = choose(lane)
        return values[source] if 0 <= source < LANES and source in values else value

    def shfl_sync(self, mask: int, value: Any, lane: int) -> Any:
        """Return the value of a lane."""
        return self._from_lane(value, lambda _: lane % LANES)

    def shfl_up_sync(self, mask: int, value: Any, delta: int) -> Any:
        """Return the value of the lane ``delta`` before."""
        return self._from_lane(value, lambda lane: lane - delta)

    def shfl_down_sync(self, mask: int, value: Any, delta: int) -> Any:
        """Return the value of the lane ``delta`` after."""
        return self._from_lane(value, lambda lane: lane + delta)

    def shfl_xor_sync(self, mask: int, value: Any, bits: int) -> Any:
        """Return the value of the lane whose number differs in these bits."""
        return self._from_lane(value, lambda lane: lane ^ bits)

    def ballot_sync(self, mask: int, predicate: Any) -> int:
        """Return one bit for each lane."""
        _, values = threading.current_thread().exchange(bool(predicate))  # type: ignore[attr-defined]
        return sum(1 << lane for lane, value in values.items() if value)

    def any_sync(self, mask: int, predicate: Any) -> bool:
        """Tell whether it holds in any lane."""
        return self.ballot_sync(mask, predicate) != 0

    def all_sync(self, mask: int, predicate: Any) -> bool:
        """Tell whether it holds in all lanes."""
        return self.ballot_sync(mask, not predicate) == 0

    def syncwarp(self, mask: int = 0xFFFFFFFF) -> None:
        """Wait for the other lanes."""
        threading.current_thread().exchange(0)  # type: ignore[attr-defined]


class _Stopped(Exception):
    """Another thread of the block failed."""


class _Block:
    """The threads of one block. They take turns; ``signal`` gives the turn back to ``run``."""

    def __init__(self, body: Any, args: Any, point: Any, places: list[Any], rng: random.Random | None):
        self.body, self.args, self.point, self.rng = body, args, point, rng
        width, height = (max(getattr(place, axis) for place in places) + 1 for axis in "xy")
        self.number = {place: place.x + width * (place.y + height * place.z) for place in places}
        order = list(places)
        if rng is not None:
            rng.shuffle(order)
        self.pending, self.count = deque(order), len(order)
        self.signal = threading.Semaphore(0)
        self.error: tuple[Any, BaseException] | None = None
        self.stopping = False
        self.finished = 0
        self.votes: dict[int, Any] = {}

    def run(self) -> None:
        """Run all threads to their ends, from barrier to barrier."""
        waiting: list[_Worker] = []
        while self.pending and self.error is None:
            worker = _Worker(self)
            worker.start()
            self.signal.acquire()
            if worker.barrier is not None:
                waiting.append(worker)
        while waiting and self.error is None:
            self._check(waiting)
            if self.rng is not None:
                self.rng.shuffle(waiting)
            for worker in waiting:
                worker.barrier = None
                worker.go.release()
                self.signal.acquire()
            waiting = [worker for worker in waiting if worker.barrier is not None]
        if self.error is not None:
            self.stopping = True
            for worker in waiting:
                worker.go.release()
            (place, error) = self.error
            raise type(error)(f"thread {tuple(place)} of block {tuple(self.point)}: {error}") from error

    def _check(self, waiting: list[_Worker]) -> None:
        """Refuse a barrier that not all threads of the block have reached."""
        places = {worker.barrier for worker in waiting}
        if self.finished or len(places) > 1:
            lines = sorted(f"{code.co_name}, line {line}" for code, line in places)  # type: ignore[misc]
            self.error = (
                waiting[0].threadIdx,
                RuntimeError(
                    f"divergent barrier: {self.finished} of {self.count} threads have ended, the others wait at {lines}"
                ),
            )


class _Worker(threading.Thread):
    """Runs threads of a block, one after the other, until one of them meets a barrier; then it stays with that one."""

    def __init__(self, block: _Block):
        super().__init__(daemon=True)
        self.block, self.blockIdx = block, block.point
        self.threadIdx: Any = None
        self.thread_id = 0
        self.go = threading.Semaphore(0)
        self.barrier: tuple[Any, int] | None = None

    def run(self) -> None:
        """Take threads that nobody has begun."""
        block = self.block
        while block.pending and block.error is None:
            self.threadIdx = block.pending.popleft()
            self.thread_id = block.number[self.threadIdx]
            try:
                block.body(*block.args)
            except _Stopped:
                return
            except Exception as error:
                block.error = block.error or (self.threadIdx, error)
            block.finished += 1
        block.signal.release()

    def syncthreads(self) -> None:
        """Wait for the other threads of the block."""
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename in (__file__, kernelapi.__file__):
            frame = frame.f_back
        self.barrier = frame.f_code, frame.f_lineno
        self.block.signal.release()
        self.go.acquire()
        if self.block.stopping:
            raise _Stopped

    def _votes(self, value: Any) -> dict[int, Any]:
        self.block.votes[self.thread_id] = value
        self.syncthreads()
        votes = dict(self.block.votes)
        self.syncthreads()
        return votes

    def exchange(self, value: Any) -> tuple[int, dict[int, Any]]:
        """Return this thread's lane, and the values of the lanes of its warp."""
        lane = self.thread_id % LANES
        first = self.thread_id - lane
        return lane, {n - first: vote for n, vote in self._votes(value).items() if first <= n < first + LANES}

    def syncthreads_count(self, value: Any) -> int:
        """Wait, and count the threads where it holds."""
        return sum(map(bool, self._votes(value).values()))

    def syncthreads_and(self, value: Any) -> int:
        """Wait, and tell whether it holds in all threads."""
        return int(all(self._votes(value).values()))

    def syncthreads_or(self, value: Any) -> int:
        """Wait, and tell whether it holds in any thread."""
        return int(any(self._votes(value).values()))
