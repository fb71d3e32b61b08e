"""The program ``mrcnn-np``, which is ``python -m mrcnn_np``, too."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

from .cli.interrupts import INTERRUPTED, leave, on_interrupt
from .installation import foreign_kernels


def run() -> NoReturn:
    """Run the command of ``sys.argv`` and exit with its code."""
    on_interrupt(leave)
    if (problem := foreign_kernels()) is not None:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    from .cli.main import main

    try:
        code = main()
    except KeyboardInterrupt:  # outside of what main itself watches
        leave()
    on_interrupt(signal.SIG_IGN)  # the work is done
    if code == INTERRUPTED:  # Python itself may otherwise end by the signal
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
