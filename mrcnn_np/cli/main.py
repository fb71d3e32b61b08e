"""The command line ``mrcnn-np``: run a command, with one message in place of a traceback for what a user can mend."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from ..errors import UserError
from ..files import only_filled
from .arguments import build_parser
from .interrupts import INTERRUPTED, caused_by_interrupt, raise_from_now_on
from .ranks import first_speaks, joined, stop_others
from .terminal import escaped
from .warned import show_data_warnings


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Without the program's name; ``sys.argv`` by default.

    Returns
    -------
    int
        0; 2 for something the user can mend (a message is on stderr); 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that the terminal cannot show is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    with first_speaks(), escaped(), only_filled():
        return _run(build_parser().parse_args(argv))


def _run(args: argparse.Namespace) -> int:
    show_data_warnings()
    try:
        from .backend import chosen  # it loads NumPy, which --help need not wait for

        joined(args)
        with chosen(args):
            command = _command(args)
            raise_from_now_on()
            code = command(args)
            if code == INTERRUPTED:
                stop_others(args, code, "interrupted")
            return args.ranks.of_first(lambda: code)
    except BrokenPipeError:  # the reader of a pipe, say `head`, has seen enough
        stop_others(args, 0, "nobody reads what is printed")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if caused_by_interrupt(error):
            print("\ninterrupted", file=sys.stderr)
            stop_others(args, INTERRUPTED, (isinstance(error, KeyboardInterrupt) and str(error)) or "interrupted")
            return INTERRUPTED
        message = _message(error)
        if message is None or args.debug:
            stop_others(args, 1, None)
            raise
        print(f"error: {message}", file=sys.stderr)
        stop_others(args, 2, message)
        return 2


def _message(error: BaseException) -> str | None:
    """Return what to say of an error that the user can mend; None for any other."""
    from .surroundings import address_space

    if isinstance(error, MemoryError):
        return f"not enough memory ({error}); try smaller images (--size) or batches"
    if isinstance(error, ImportError) and (limit := address_space()) is not None:
        return f"cannot be loaded under a limit on memory of {limit} MiB (ulimit -v): {error}"
    # OSError: a disk that filled up while a picture was written, say
    return str(error) if isinstance(error, (UserError, OSError)) else None


def _command(args: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    """Return ``run_NAME`` of the module of a command's name. Imported here, so that --help answers at once."""
    function: Callable[[argparse.Namespace], int]
    function = getattr(import_module(f".{args.command}", __package__), f"run_{args.command}")
    return function
