"""Ctrl-C in a training: the step that is being done is ended first, so that nothing of it is lost."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """While this is entered, the first Ctrl-C sets ``asked`` and the second one interrupts as always.

    A program that has a handler of its own for SIGINT keeps it; a thread beside the main one cannot have any.

    Parameters
    ----------
    enabled : bool
        False: nothing is changed, as among several processes, which would not end at the same step.

    Attributes
    ----------
    asked : bool
    """

    def __init__(self, *, enabled: bool) -> None:
        self.asked, self._enabled = False, enabled
        self._before: Any = None

    def __enter__(self) -> Interruption:
        """Take over SIGINT."""
        main = threading.current_thread() is threading.main_thread()
        if self._enabled and main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._take_note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give SIGINT back."""
        self._give_back()

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._give_back()
        print("\nthis step is ended and saved; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    def _give_back(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
