"""Which code runs the network, and on how many threads: what the user wants, and what a run remembers.

All of it changes the last bits of a training: the backend, the threads among which sums are divided (of the kernels, or
of BLAS under the NumPy backend), and the length of a vector.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import kernels

from ..bench.machine import cpu_count
from ..errors import UserError
from ..parallel.ranks import Ranks
from ..tables import counted
from .surroundings import check, kernels_loaded, require_gpu

#: where OpenBLAS looks for its number of threads, in its order
BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")


class Machine(NamedTuple):
    """What of the machine and its settings changes bits.

    Attributes
    ----------
    backend : {"numpy", "cpu", "cuda"}
    threads : int or None
        Of the kernels, or of BLAS; None under the cuda backend.
    vector : int or None
        Numbers in a vector of the cpu backend's kernels; None under the others.
    """

    backend: str
    threads: int | None
    vector: int | None


@contextmanager
def chosen(args: argparse.Namespace) -> Iterator[None]:
    """Run a block on the backend and the threads that the options ask for, else on those of the environment."""
    name = getattr(args, "backend", None) or kernels.backend()
    check(name)
    with _loaded(name, args):
        runs_network = hasattr(args, "threads") and name == "cpu"
        if runs_network and args.ranks.several and args.threads is None and args.command != "train":
            args.threads = threads_of(args.ranks)  # `train` may remember another number
        with _threads(args.threads if runs_network else None), _announced(runs_network and not args.quiet):
            yield


@contextmanager
def _loaded(name: str, args: argparse.Namespace) -> Iterator[None]:
    """Run a block on a backend, all of which is loaded before; several ranks take a graphics card each."""
    if name == "cuda":
        require_gpu()
    with kernels_loaded():
        chosen = kernels.use(name)
        chosen.__enter__()
        if name == "cpu":
            import numba

            numba.get_num_threads()  # starts the threads: a threading layer that cannot be had shows now
    try:
        if name == "cuda" and args.ranks.several and args.ranks.card_sums is None:
            from ..parallel.cards import take_cards

            said = take_cards(args.ranks)
            if not getattr(args, "quiet", False):
                print(said, file=sys.stderr)
        yield
    finally:
        chosen.__exit__(None, None, None)


def threads_of(ranks: Ranks) -> int:
    """Return how many threads each process has if all of a machine share its cores."""
    import numba

    return ranks.threads(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def _announced(wanted: bool) -> Any:
    if not wanted:
        return nullcontext()
    from .warmup import announced

    return announced()


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Let the kernels run on so many threads; ``UserError`` if there are not so many."""
    if number is None:
        yield
        return
    import numba

    there: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if number > there:
        raise UserError(f"--threads {number}: there are {there} (cores, or NUMBA_NUM_THREADS if it is set)")
    from kernels.cpu.machine.threads import cut_into, shares

    before = shares()
    cut_into(number)
    try:
        yield
    finally:
        cut_into(before)


def machine() -> Machine:
    """Return what the network runs on now."""
    if kernels.backend() == "cuda":
        return Machine("cuda", None, None)
    if kernels.backend() == "numpy":
        return Machine("numpy", _blas_threads(), None)
    from kernels.cpu.machine.simd import VL
    from kernels.cpu.machine.threads import shares

    return Machine("cpu", shares(), VL)


def _blas_threads() -> int:
    for name in BLAS_VARIABLES:
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text) > 0:
            return int(text)
    return cpu_count()


@contextmanager
def remembered(recorded: Mapping[str, Any], args: argparse.Namespace, folder: Path) -> Iterator[Machine]:
    """Run a block on what a run was started on, so that it goes on with the same bits.

    Parameters
    ----------
    recorded : mapping
        The run's options; nothing is demanded that they do not hold.
    args : argparse.Namespace
        The wishes for now.
    folder : Path
        The run's, for messages.

    Yields
    ------
    Machine
        What the block runs on.

    Raises
    ------
    UserError
        A wish, by option or environment variable, differs from what the run was started on; or that cannot be had.
    """
    backend, threads, vector = (recorded.get(name) for name in Machine._fields)
    by = "--backend" if args.backend else "MRCNN_NP_BACKEND" if os.environ.get("MRCNN_NP_BACKEND") else None
    if backend and by and backend != kernels.backend():
        raise _refused(folder, by, kernels.backend(), backend)
    name = backend or kernels.backend()
    check(name)
    with _loaded(name, args):
        if kernels.backend() == "cpu":
            _check_kernels(args, threads, vector, folder)
        elif kernels.backend() == "numpy" and threads and threads != _blas_threads():
            raise UserError(
                f"the run in {folder} was started with {counted(threads, 'thread')} of BLAS, now there are "
                f"{_blas_threads()}; set OPENBLAS_NUM_THREADS={threads}, or start anew with --overwrite"
            )
        with _threads(threads if kernels.backend() == "cpu" else None):
            yield machine()


def _check_kernels(args: argparse.Namespace, threads: int | None, vector: int | None, folder: Path) -> None:
    import numba

    there: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if threads and args.threads and args.threads != threads:
        raise _refused(folder, "--threads", args.threads, threads)
    if threads and threads > there:
        raise UserError(
            f"the run in {folder} was started with {counted(threads, 'thread')}, now there are {there}; set "
            f"NUMBA_NUM_THREADS={threads}, or start anew with --overwrite"
        )
    if vector and vector != machine().vector:
        raise UserError(
            f"the run in {folder} was started with vectors of {vector} numbers, now they have {machine().vector}; set "
            f"MRCNN_NP_VECTOR={vector} where the processor has such, or start anew with --overwrite"
        )


def _refused(folder: Path, option: str, here: object, there: object) -> UserError:
    return UserError(
        f"{option} is {here}, but the run in {folder} was started with {there}; leave it out, or start anew with "
        "--overwrite"
    )
