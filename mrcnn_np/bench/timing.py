"""Taking turns, and what is read off: seconds, memory, errors."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: where Linux says how much memory this process has held at most
STATUS = "/proc/self/status"
#: seconds before each turn, until the threads of the contender before have gone to sleep (see the package's docstring)
REST = 0.15
#: a contender that is slower gets fewer rounds, but always one: seconds for all rounds of one row
BUDGET = {"numpy": 4.0}
SHORT = 0.05


def clock(run: Callable[[], Any]) -> float:
    """Return the seconds one call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def turn(run: Callable[[], Any]) -> float:
    """Return the seconds of one turn: one call, or the median of several warm ones if it is short."""
    seconds = clock(run)
    if seconds >= SHORT:
        return seconds
    calls = max(1, min(15, int(SHORT / max(seconds, 1e-6))))
    return statistics.median(clock(run) for _ in range(calls))


def interleave(
    contenders: Mapping[str, Callable[[], Any]],
    *,
    repeat: int,
    rest: float = REST,
    keep: Callable[[str, Any], None] = lambda name, result: None,
) -> dict[str, list[float]]:
    """Let contenders take turns.

    Parameters
    ----------
    contenders : mapping of str to callable
    repeat : int
        Rounds. A contender named in ``BUDGET`` stops earlier when its time is used up.
    rest : float
        Seconds before each turn.
    keep : callable
        Gets each name with what its first call, which is not timed, returned.

    Returns
    -------
    dict of str to list of float
        Seconds, one number for each turn.
    """
    rounds: dict[str, int] = {}
    for name, run in contenders.items():
        time.sleep(rest)
        began = time.perf_counter()
        result = run()
        spent = time.perf_counter() - began
        keep(name, result)
        rounds[name] = max(1, min(repeat, int(BUDGET[name] / spent))) if name in BUDGET else repeat
        del result
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(repeat):
        for name, run in contenders.items():
            if number < rounds[name]:
                time.sleep(rest)
                seconds[name].append(turn(run))
    return seconds


def summarise(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return times, medians, and the ratio of the fastest framework variant to our cpu backend (None without one)."""
    median = {name: statistics.median(times) for name, times in seconds.items()}
    theirs = [value for name, value in median.items() if name.startswith("torch")]
    ratio = min(theirs) / median["cpu"] if theirs and "cpu" in median else None
    return {"seconds": {name: list(times) for name, times in seconds.items()}, "median": median, "ratio": ratio}


def relative_error(found: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float:
    """Return the largest difference over the largest magnitude, the worst of several arrays.

    Of booleans the share that differs; of integers, which are indices, the share that only one of the two has.
    """
    worst = 0.0
    for mine, right in zip(found, exact, strict=True):
        if right.dtype == bool:
            error = float(np.mean(mine != right)) if right.size else 0.0
        elif np.issubdtype(right.dtype, np.integer):
            error = len(np.setxor1d(mine, right)) / max(1, len(right))
        else:
            difference = np.abs(mine.astype(np.float64) - right).max(initial=0.0)
            error = float(difference / max(np.abs(right).max(initial=0.0), 1e-300))
        worst = max(worst, error)
    return worst


def reset_peak() -> None:
    """Forget the peak so far, where the system can (Linux): what loading took is not to be counted."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_mib() -> float | None:
    """Return the largest memory this process has held since ``reset_peak``, in MiB; None where no system says so.

    On Linux from ``VmHWM``, because ``ru_maxrss`` starts at what the parent held when it forked.
    """
    try:
        with open(STATUS) as status:
            (line,) = (line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        if resource is None:
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def in_mib(peak: float | None, unit: str = "") -> str:
    """Write a peak of memory for a table; None is ``unknown``."""
    return "unknown" if peak is None else f"{peak:.0f}{unit}"
