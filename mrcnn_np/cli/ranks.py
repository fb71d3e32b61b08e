"""A command on several processes, as ``mpirun -n 4 mrcnn-np train ...`` starts it: who speaks, and how all of them end.

The first rank speaks and writes. The others are silent, but for the message with which a failure of theirs ends all:
nobody may wait for a rank that is no more.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UserError
from ..parallel.launch import Launch, launched

#: commands that share their work; the others are for one process
SHARE = ("train", "detect", "eval")
#: seconds that a rank waits before it speaks of a failure: what goes wrong on all alike, the first one has said by then
_GRACE = 1.0


@contextmanager
def first_speaks() -> Iterator[None]:
    """Let a block print nothing, unless this is the first rank, or there is one process only."""
    launch = launched()
    if launch is None or launch.rank == 0:
        yield
        return
    streams = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams


def joined(args: argparse.Namespace) -> None:
    """Meet the other processes, if there are any, and set ``args.ranks``.

    Raises
    ------
    UserError
        They cannot meet, or the command is none that several can share.
    """
    from ..parallel.ranks import join

    launch = launched()
    if launch is not None and args.command not in SHARE:
        raise UserError(
            f"{args.command} was started as {launch.size} processes, which cannot share its work (those of "
            f"{', '.join(SHARE)} can); start it without mpirun"
        )
    args.ranks = join(launch)


def stop_others(args: argparse.Namespace, code: int, message: str | None) -> None:
    """End all ranks with an exit code, because this one cannot go on; without others, return.

    Parameters
    ----------
    args : argparse.Namespace
    code : int
    message : str or None
        What to say of it where the first rank does not; None: the traceback of the error that is being handled.
    """
    launch = launched()
    if launch is None:
        return
    if launch.rank > 0:
        time.sleep(_GRACE)
        _say(launch, traceback.format_exc() if message is None else message)
    elif message is None:
        traceback.print_exc()
    ranks = getattr(args, "ranks", None)
    if ranks is not None:
        sys.stdout.flush()
        ranks.stop(code)


def _say(launch: Launch, message: str) -> None:
    """Print to the standard error that this rank was started with."""
    stream = sys.__stderr__
    if stream is not None:
        print(f"error: rank {launch.rank} of {launch.size}: {message}", file=stream, flush=True)
