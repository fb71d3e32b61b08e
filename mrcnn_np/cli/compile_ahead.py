"""Compile the kernels of a training step on the other cores, while the command gets to them one after another.

A compiler works on one core. The command compiles what it needs in the order in which it needs it; a helper goes the
other way round, from the last call of a step to the first, and they meet in the middle. For that the helper does the
step once in NumPy, which needs no compiler, and notes the accelerated calls; then it repeats them on the kernels. No
list of kernels is kept anywhere. That each is compiled once is the business of ``kernels/cpu/machine/once.py``.

``python -m mrcnn_np.cli.compile_ahead PART PARTS`` is such a helper; it reads a configuration from its input and ends
with it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np

import kernels

from ..bench.machine import cpu_count
from ..config import Config
from ..network import spec
from .first_run import warm_up

MOST = 3
#: bytes that all helpers may take together; a first one is worth more
MEMORY = 1.5e9


class Call(NamedTuple):
    """An accelerated call."""

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]


def helpers_for(config: Config, cores: int) -> int:
    """Return how many helpers there are beside the command, which takes a core; ``MRCNN_NP_COMPILE_AHEAD`` says less.

    One takes 0.2 GB for the preset tiny, 1.1 GB for torchvision, whose weights it makes and moves.

    Parameters
    ----------
    config : Config
    cores : int

    Raises
    ------
    ValueError
        The variable holds something else than a number from 0.
    """
    text = os.environ.get("MRCNN_NP_COMPILE_AHEAD", str(MOST))
    if not text.isdecimal():
        raise ValueError(f"MRCNN_NP_COMPILE_AHEAD is {text!r}; expected the number of helpers, 0 for none")
    each = 200e6 + 5 * sum(4 * math.prod(tensor.shape) for tensor in spec(config).values())
    return max(0, min(cores - 1, int(text), max(1, int(MEMORY / each))))


@contextmanager
def compiling_ahead(config: Config, *, wanted: bool = True) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start helpers as soon as something is compiled within the block; the list gathers them.

    Parameters
    ----------
    config : Config
        What is trained. Nothing is started where kernels are not kept on disk, or on another backend than cpu.
    wanted : bool
        False for one of several ranks, which keep all cores busy already.
    """
    started: list[subprocess.Popen[bytes]] = []
    count = helpers_for(config, cpu_count())
    if not wanted or kernels.backend() != "cpu" or not count:
        yield started
        return
    from numba.core import event

    from kernels.cpu import KEPT

    class Starter(event.Listener):
        def on_start(self, event: Any) -> None:
            if KEPT and not started:
                started.extend(_start(config, part, count) for part in range(count))

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Starter()):
        try:
            yield started
        finally:
            for helper in started:
                helper.kill()
                helper.wait()
                assert helper.stdin is not None
                with suppress(OSError):  # it ended before it had read all
                    helper.stdin.close()


def _start(config: Config, part: int, parts: int) -> subprocess.Popen[bytes]:
    """Start a helper; its input stays open as long as it is wanted."""
    command = [sys.executable, "-m", __name__, str(part), str(parts)]
    helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert helper.stdin is not None
    with suppress(OSError):
        helper.stdin.write(json.dumps(config.to_dict()).encode() + b"\n")
        helper.stdin.flush()
    return helper


def calls_of(config: Config) -> list[Call]:
    """Return the accelerated calls of a training step and a detection, without those that differ in no shape or type.

    Parameters
    ----------
    config : Config
        As ``first_run.warm_up`` takes it.
    """
    found: dict[Any, Call] = {}

    def note(name: str, args: tuple[Any, ...], options: dict[str, Any], *what_came_of_it: Any) -> None:
        found.setdefault((name, kind(args), kind(options)), Call(name, args, options))

    with kernels.use("numpy"), kernels.watch(note):
        warm_up(config)
    return list(found.values())


def kind(value: Any) -> Any:
    """Return what two values have in common that are treated by the same compiled code."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.flags.c_contiguous
    if isinstance(value, dict):
        return tuple((key, kind(v)) for key, v in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(kind, value))
    return repr(value) if isinstance(value, bool | int | str | None) else type(value).__name__


def in_turn(calls: list[Call], part: int, parts: int) -> list[Call]:
    """Return the calls from the last to the first; of several helpers each begins at another place.

    Parameters
    ----------
    calls : list of Call
        As a step does them.
    part, parts : int
        Which helper of how many.
    """
    first = len(calls) * part // parts
    back = calls[::-1]
    return back[first:] + back[:first]


def compile_calls(calls: list[Call], *, pause: float = 0.1) -> None:
    """Do all calls on the kernels; one that meets a kernel which another process compiles is tried again later.

    Parameters
    ----------
    calls : list of Call
    pause : float
        Seconds before the next round, if all of a round met such kernels.
    """
    from kernels.cpu.machine.once import Busy, without_waiting

    while calls:
        left = []
        for call in calls:
            try:
                with kernels.use("cpu"), without_waiting():
                    kernels.named(call.name)(*call.args, **call.options)
            except Busy:
                left.append(call)
        if len(left) == len(calls):
            time.sleep(pause)
        calls = left


def _end_with(stream: Any) -> None:
    """End this process when whoever started it is gone, or wants nothing more."""
    stream.read()
    os._exit(0)


if __name__ == "__main__":
    config = Config.from_dict(json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True).start()
    compile_calls(in_turn(calls_of(config), int(sys.argv[1]), int(sys.argv[2])))
