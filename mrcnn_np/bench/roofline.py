"""What this machine's cores can do at best: multiply-adds on registers, and streams through memory.

As a program it answers every line with the peaks of one thread and of two, for ``quiet.py``.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange, set_num_threads

from kernels.cpu.machine.simd import MR, NR
from kernels.cpu.machine.tiles import gemm_tile

RUN = 0.008  # seconds that a run for ``peaks_now`` takes at least: a few time slices
DEPTH = 128  # with it the operands of a tile, 6 + 16 KiB, stay in the first-level cache


@njit(cache=True, parallel=True, error_model="numpy")
def _multiply_add(threads: int, times: int) -> float:
    """Let each thread compute the same small matrix product many times."""
    total = 0.0
    for _thread in prange(threads):
        a = np.ones((MR, DEPTH), np.float32)
        b = np.ones((DEPTH, NR), np.float32)
        out = np.zeros((MR, NR), np.float32)
        taps = np.zeros(1, np.int64)
        for _time in range(times):
            gemm_tile(
                1, taps.ctypes.data, DEPTH, a.ctypes.data, DEPTH * 4, b.ctypes.data, 0,
                out.ctypes.data, NR * 4, 0,
            )  # fmt: skip
        total += out[0, 0] + a[0, 0] + b[0, 0] + taps[0]  # keeps the arrays alive until here
    return total


@njit(cache=True, parallel=True, error_model="numpy")
def _copy(a: Any, b: Any) -> None:
    for i in prange(a.size):
        a[i] = b[i]


@njit(cache=True, parallel=True, error_model="numpy")
def _triad(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.size):
        a[i] = b[i] + np.float32(3) * c[i]


def measure(threads: int, *, quick: bool = False) -> dict[str, dict[str, float]]:
    """Return the peaks for 1 and for ``threads`` threads.

    Returns
    -------
    dict
        ``{"1": {"gflops": ..., "gbytes": ...}, "2": ...}``: 10^9 float32 operations (a multiply-add is two) and 10^9
        bytes moved a second. The best of several runs, because a peak is meant.
    """
    size = (1 << 20) if quick else (1 << 26)  # 256 MB each, beyond all caches
    a, b, c = (np.full(size, value, np.float32) for value in (0, 1, 2))
    times = 10_000 if quick else 200_000
    peaks = {}
    for count in sorted({1, threads}):
        set_num_threads(count)
        gflops = _operations(count, times) / _best(_multiply_add, count, times) / 1e9
        copied = 2 * a.nbytes / _best(_copy, a, b) / 1e9
        added = 3 * a.nbytes / _best(_triad, a, b, c) / 1e9
        peaks[str(count)] = {"gflops": gflops, "gbytes": max(copied, added)}
    set_num_threads(threads)
    return peaks


def _operations(threads: int, times: int) -> float:
    """Return the number of operations that ``_multiply_add`` does."""
    return 2.0 * MR * NR * DEPTH * times * threads


def peaks_now() -> tuple[float, float]:
    """Return the peaks of one thread and of two as they are now, in 10^9 operations a second.

    Of one thread the best of some short runs, of two the median: a neighbour that slows one thread down must not make
    two look fast beside it.
    """
    peaks = []
    for count, choose in ((1, min), (2, statistics.median)):
        set_num_threads(count)
        _multiply_add(count, 1)
        times = 1000
        while _seconds(_multiply_add, count, times) < RUN and times < 10**7:
            times *= 2
        seconds = choose([_seconds(_multiply_add, count, times) for _ in range(7)])
        peaks.append(_operations(count, times) / seconds / 1e9)
    return peaks[0], peaks[1]


def _seconds(run: Callable[..., Any], *args: Any) -> float:
    began = time.perf_counter()
    run(*args)
    return time.perf_counter() - began


def _best(run: Callable[..., Any], *args: Any, repeat: int = 5) -> float:
    """Return the seconds of the fastest of several calls, after one that compiles.

    Parameters
    ----------
    run : callable
    *args
        Its arguments.
    repeat : int
    """
    run(*args)  # compile
    return min(_seconds(run, *args) for _ in range(repeat))


if __name__ == "__main__":
    for _line in sys.stdin:
        print(json.dumps(peaks_now()), flush=True)
