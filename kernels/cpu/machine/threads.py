"""How many threads: into how many shares work is cut, and how many threads work while a neighbour needs a core.

The threads of one loop wait for each other. Beside a program that keeps one of two cores busy, one of our two threads
gets half a core; the other waits for it, spinning, which takes still more of that core: a step of training took 4 to 40
times as long. Waiting without spinning mends that, but waking a thread costs as much as a small convolution: 30 to 50 %
of the speed on a quiet machine. So the threads spin, and there are only as many of them as there are free cores.

How work is cut decides in which order numbers are added, so results to the last bit depend on the number of *shares*.
That stays what it is; fewer threads do the same shares, one after another.

Whether cores are free is read from ``/proc/stat`` (Linux; elsewhere nothing is changed): what all programs have used
less what this one has used. ``MRCNN_NP_GIVE_WAY=0`` turns it off.
"""

from __future__ import annotations

import math
import os
import threading
import time
from typing import NamedTuple

import numba

LOOK = 0.25  # seconds between two looks: cores are counted in hundredths of seconds
SPARE = 0.3  # a core of which others use at most this much is free


_now = time.monotonic


def _cores() -> set[int]:
    return os.sched_getaffinity(0)


class Usage(NamedTuple):
    """Seconds of processor time up to a moment, on the cores that this process may use."""

    moment: float
    everyone: float
    own: float


def usage() -> Usage | None:
    """Return what has been used, or ``None`` where the system does not say."""
    try:
        mine = {f"cpu{core}" for core in _cores()}
        with open("/proc/stat", encoding="ascii") as file:
            rows = [line.split() for line in file if line.startswith("cpu")]
        # user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user already
        ticks = sum(sum(map(int, row[1:4])) + sum(map(int, row[6:9])) for row in rows if row[0] in mine)
        return Usage(_now(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time())
    except (OSError, AttributeError, ValueError):
        return None


def free_threads(before: Usage, now: Usage, cores: int, shares: int) -> int:
    """Return how many threads find a free core.

    Parameters
    ----------
    before, now : Usage
    cores : int
        That this process may use.
    shares : int
        The most threads that there is work for.
    """
    others = ((now.everyone - before.everyone) - (now.own - before.own)) / (now.moment - before.moment)
    return max(1, min(shares, math.floor(cores - others + SPARE)))


class _State(threading.local):
    """What a thread of Python has asked of Numba, whose count is the thread's own, too."""

    before: Usage | None = None
    wanted = 0  # shares
    given = 0  # threads; as long as Numba still says so, nobody else has changed it


_state = _State()
_start = usage() if os.environ.get("MRCNN_NP_GIVE_WAY") != "0" else None


def shares() -> int:
    """Return into how many parts work is to be cut; now and then, look for free cores first."""
    count: int = numba.get_num_threads()
    if _state.given != count:  # the first time, or somebody has set another number
        _state.wanted = _state.given = count
    if _start is not None and _state.wanted > 1:
        _look()
    return _state.wanted


def cut_into(number: int) -> None:
    """Cut work into so many shares from now on, in this thread of Python."""
    numba.set_num_threads(number)
    _state.wanted = _state.given = number


def _look() -> None:
    before = _state.before or _start
    assert before is not None
    if _now() - before.moment < LOOK:
        return
    now = usage()
    if now is None:
        return
    _state.before = now
    count = free_threads(before, now, len(_cores()), _state.wanted)
    if count != _state.given:
        numba.set_num_threads(count)
        _state.given = count
