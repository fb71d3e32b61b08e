"""``mrcnn-np warmup``: compile ahead what training, detection and explain need, so that they need not stop for it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..config import presets
from ..tables import counted
from .compile_ahead import compiling_ahead
from .first_run import Say, warm_the_rest, warm_up


def run_warmup(args: argparse.Namespace) -> int:
    """Compile for one preset and print how long it took."""
    say: Say = (lambda line: None) if args.quiet else (lambda line: print(line, flush=True))
    began = time.perf_counter()
    config = presets.by_name(args.preset)
    with compiling_ahead(config), compiling(say) as seconds:
        warm_up(config, say=say)
        say("resizing, explain")
        warm_the_rest()
    total = time.perf_counter() - began
    compiled = (
        f"{counted(len(seconds), 'kernel')} compiled in {sum(seconds):.1f} s" if seconds else "all was compiled already"
    )
    print(f"preset {args.preset} is warm after {total:.1f} s: {compiled}")
    return 0


@contextmanager
def compiling(say: Say, begins: Callable[[], None] = lambda: None) -> Iterator[list[float]]:
    """Report every kernel that Numba compiles within the block; the list gathers the seconds.

    A kernel that is found compiled on disk is not reported, and one that another compiles on the way counts as part of
    that one. ``begins`` is called before each.
    """
    from numba.core import event

    seconds: list[float] = []

    class Reporter(event.Listener):
        def __init__(self) -> None:
            self.open: list[float] = []

        def on_start(self, event: Any) -> None:
            if not self.open:
                begins()
            self.open.append(time.perf_counter())

        def on_end(self, event: Any) -> None:
            took = time.perf_counter() - self.open.pop()
            if not self.open:
                function = event.data["dispatcher"].py_func
                group = Path(function.__code__.co_filename).stem
                seconds.append(took)
                say(f"  {group:<12} {function.__name__.strip('_'):<24} {took:6.1f} s")

    with event.install_listener("numba:compile", Reporter()):
        yield seconds


@contextmanager
def announced() -> Iterator[None]:
    """Say that kernels are being compiled, when they are, and every few seconds how many are done.

    How many there will be depends on the network, the images and what was found in them, so no total is said. The
    seconds are those of compiling, whatever was done before and between.
    """
    from tqdm import tqdm

    progress = Progress(lambda line: tqdm.write(line, file=sys.stderr))
    with compiling(lambda line: progress.ended(), progress.begins) as progress.seconds:
        yield


class Progress:
    """What is said of kernels that are compiled while something else is wanted.

    Parameters
    ----------
    say : callable
        Takes a line.
    every : float
        Seconds between two lines.

    Attributes
    ----------
    seconds : list of float
        Of every kernel so far.
    """

    def __init__(self, say: Say, every: float = 5.0) -> None:
        self.say, self.every, self.seconds = say, every, list[float]()
        self._said = -1.0

    def begins(self) -> None:
        """Say before the first kernel what is going on."""
        if self._said < 0:
            self.say(
                "compiling the kernels that no command has needed before; they are kept for the next one "
                "(mrcnn-np warmup does it ahead)"
            )
            self._said = time.perf_counter()

    def ended(self) -> None:
        """Say from time to time how many there are."""
        now = time.perf_counter()
        if now - self._said > self.every:
            count = len(self.seconds)
            which = "1 kernel" if count == 1 else f"{count} kernels"
            self.say(f"  {which} done, more may follow; compiling took {sum(self.seconds):.0f} s so far")
            self._said = now
