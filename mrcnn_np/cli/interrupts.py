"""Ctrl-C: until a command runs it ends the process, then it raises ``KeyboardInterrupt``, at the end it comes too late.

Python's own way, an exception wherever the program happens to be, does not suit imports: libraries turn it into others,
and print them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

#: the exit code, as shells have it
INTERRUPTED = 130


def leave(*_: Any) -> NoReturn:
    """Say so and end the process, whatever it is doing."""
    os.write(2, b"\ninterrupted\n")
    os._exit(INTERRUPTED)


def on_interrupt(handler: Callable[..., Any] | signal.Handlers) -> None:
    """Let Ctrl-C do this, unless it is ignored, as in the background jobs of a script."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def raise_from_now_on() -> None:
    """Let Ctrl-C raise ``KeyboardInterrupt`` if it ends the process so far; what others have set stays."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def caused_by_interrupt(error: BaseException | None) -> bool:
    """Say whether Ctrl-C is behind an exception: an interrupted import fails with another one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
