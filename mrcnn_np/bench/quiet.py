"""Was the machine quiet? Two threads are measured beside one, and what was disturbed is measured again.

On a quiet machine two threads multiply nearly twice as fast as one. Where another program takes a core, they do not:
each waits for the other, and times say more about that program than about ours. So the peak of one thread and that of
two are measured at the beginning and around each group of rows, by ``python -m mrcnn_np.bench.roofline``, a process of
its own that sleeps in between.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from .machine import cpu_count
from .team import environment
from .timing import REST

Record = dict[str, Any]

#: what the peak of two threads must be at least, in multiples of that of one
QUIET = 1.6
#: how often a group is measured at most
TRIES = 3
#: after so many groups in a row that were disturbed at every try, groups are measured once: this machine is not quiet
PATIENCE = 3
#: seconds for which an answer is taken to hold: from the end of a group to the beginning of the next
FRESH = 1.0
#: seconds until a disturbed group is measured again
PAUSE = 2.0
#: what stands behind a figure from a machine that was not quiet
MARK = " †"


class Probe:
    """A process that measures the peaks of one thread and of two; None in place of a ratio on a single core."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Probe:
        if cpu_count() >= 2:
            command = [sys.executable, "-m", "mrcnn_np.bench.roofline"]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(2)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def __call__(self) -> float | None:
        """Return the peak of two threads in multiples of that of one, as it is now; None on a single core."""
        if self.process is None:
            return None
        assert self.process.stdin is not None and self.process.stdout is not None
        time.sleep(REST)
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            one, two = json.loads(self.process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            raise RuntimeError(f"the process that measures peaks died with code {self.process.wait()}") from error
        return float(two / one)


class Watch:
    """Measures groups of rows, and marks them with whether the machine was quiet.

    Parameters
    ----------
    probe : callable
        Returns the peak of two threads in multiples of that of one, or None if it cannot be told; see ``Probe``.
    tries : int
        How often a group is measured at most.
    pause : float
        Seconds before a group is measured again.
    say : callable
        Gets a line for each group that was disturbed.
    clock : callable
        Returns seconds.

    Attributes
    ----------
    first : float or None
        What the probe said at the beginning.
    """

    def __init__(
        self,
        probe: Callable[[], float | None],
        *,
        tries: int = TRIES,
        pause: float = PAUSE,
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.probe, self.tries, self.pause, self.say, self.clock = probe, tries, pause, say, clock
        self.disturbed = 0  # groups in a row
        self.first = self.ask()

    def ask(self) -> float | None:
        """Ask the probe, and remember what it said and when."""
        self.latest = self.probe()
        self.when = self.clock()
        return self.latest

    def around(self, what: str, measure: Callable[[], list[Record]]) -> list[Record]:
        """Measure a group; again, if the machine was not quiet before or after it.

        Parameters
        ----------
        what : str
            The group in words.
        measure : callable
            Returns its records.

        Returns
        -------
        list of dict
            The records of the try around which two threads were fastest. Each says so: ``two_threads``, the lower of
            the two figures around it, None if they cannot be told; ``quiet``; ``tries``.
        """
        tries = self.tries if self.disturbed < PATIENCE else 1
        best: tuple[float, list[Record]] | None = None
        for number in range(1, tries + 1):
            before = self.latest if self._fresh() else self.ask()
            records = measure()
            after = self.ask()
            if before is None or after is None:
                return _marked(records, None, number)
            figure = min(before, after)
            if best is None or figure > best[0]:
                best = figure, records
            if figure >= QUIET:
                self.disturbed = 0
                return _marked(records, figure, number)
            again = number < tries
            self.say(
                f"NOT QUIET during {what}: two threads reach {figure:.2f} times the peak of one, expected {QUIET:g}; "
                + ("it is measured again" if again else "its figures say nothing about the programs")
            )
            if again:
                time.sleep(self.pause)
        assert best is not None
        self.disturbed += 1
        if self.disturbed == PATIENCE and self.tries > 1:
            self.say(f"not quiet {PATIENCE} times in a row: what follows is measured once, until it is quiet again")
        return _marked(best[1], best[0], tries)

    def _fresh(self) -> bool:
        """Tell whether the last answer holds for what begins now; a disturbance may have passed."""
        return self.latest is None or (self.latest >= QUIET and self.clock() - self.when < FRESH)


def _marked(records: list[Record], figure: float | None, tries: int) -> list[Record]:
    """Write into records whether the machine was quiet.

    Parameters
    ----------
    records : list of dict
        Changed in place.
    figure : float or None
        The peak of two threads in multiples of that of one.
    tries : int
        How often they were measured.
    """
    for record in records:
        record |= {"two_threads": figure, "quiet": None if figure is None else figure >= QUIET, "tries": tries}
    return records


def mark(record: Mapping[str, Any]) -> str:
    """Return what stands behind the figures of a record."""
    return MARK if record.get("quiet") is False else ""


def together(records: Iterable[Mapping[str, Any]]) -> bool | None:
    """Return whether the machine was quiet for all of several records; None if it cannot be told of one."""
    answers = {record["quiet"] for record in records}
    return False if False in answers else None if None in answers else True


def in_words(figure: float | None) -> str:
    """Say how quiet the machine is."""
    if figure is None:
        return "whether the machine is quiet cannot be told on a single core"
    verdict = "the machine is quiet" if figure >= QUIET else f"the machine is NOT QUIET (expected {QUIET:g} or more)"
    return f"two threads reach {figure:.2f} times the peak of one: {verdict}"
