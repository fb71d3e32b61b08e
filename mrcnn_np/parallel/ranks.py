"""The processes that share one piece of work, each a *rank*, and the few ways in which they talk.

What is shared are images: a batch, the images of an evaluation, the files of a detection. Which rank takes which is
computed, never negotiated, so the result is that of one process, up to the order of sums.

Every method that talks must be called by all ranks, in the same order. The first rank, number 0, is the one that
writes.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np

from kernels import on_device

from ..errors import UserError
from .launch import Launch

T = TypeVar("T")
S = TypeVar("S")

#: things that each rank does between two meetings of ``Ranks.spread``: more wait less for each other and hold more
AT_ONCE = 4
#: how the extra is installed
INSTALL = "pip install 'mrcnn-np[mpi]'"


class Request(Protocol):
    """A sum that is on its way."""

    def Test(self) -> bool:
        """Move it on, and say whether it has arrived."""

    def Wait(self) -> Any:
        """Wait until it has arrived."""


class SumsOnCards(Protocol):
    """What adds up arrays that lie on the ranks' cards: ``parallel/cards.py`` makes it."""

    def begin(self, x: Any, out: Any) -> Request:
        """Begin to write the sum of all ranks' arrays into ``out``."""


class Communicator(Protocol):
    """What is used of mpi4py's communicators; anything that has it will do."""

    def Get_rank(self) -> int:
        """Return this process' number, from 0."""

    def Get_size(self) -> int:
        """Return the number of processes."""

    def allgather(self, sendobj: Any) -> list[Any]:
        """Return every process' object, in their order."""

    def gather(self, sendobj: Any, root: int) -> list[Any] | None:
        """Return every process' object to one of them, None to the others."""

    def bcast(self, obj: Any, root: int) -> Any:
        """Return the object of one process."""

    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> Any:
        """Add up the arrays of all."""

    def Iallreduce(self, sendbuf: Any, recvbuf: Any) -> Request:
        """Begin to add up the arrays of all."""

    def Abort(self, errorcode: int) -> Any:
        """End all processes."""


class Ranks:
    """The processes that share one piece of work.

    Parameters
    ----------
    comm : Communicator, optional
        mpi4py's, say; None for a process by itself.

    Attributes
    ----------
    rank, size : int
        The number of this process, from 0, and that of all.
    card_sums : SumsOnCards or None
        Adds up arrays that lie on cards, where the ranks have some.
    """

    def __init__(self, comm: Communicator | None = None) -> None:
        self._comm = comm
        self.card_sums: SumsOnCards | None = None
        self.rank = 0 if comm is None else comm.Get_rank()
        self.size = 1 if comm is None else comm.Get_size()

    def __repr__(self) -> str:
        """Return which one this is."""
        return f"rank {self.rank} of {self.size}"

    def __deepcopy__(self, memo: Any) -> Ranks:
        """Return itself: there is one set of processes, however many copies of a model."""
        return self

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def share(self, count: int) -> range:
        """Return which of ``count`` things are this rank's: neighbours, as many as others have, or one more or less."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    # --- all together -----------------------------------------------------------------------------------------------

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order."""
        return [value] if self._comm is None else self._comm.allgather(value)

    def of_first(self, make: Callable[[], T]) -> T:
        """Return what the first rank makes; the others do not call ``make``."""
        if self._comm is None:
            return make()
        value: T = self._comm.bcast(make() if self.first else None, root=0)
        return value

    def after_first(self, make: Callable[[], T]) -> T:
        """Let every rank make something, the first one before the others, and wait until all have."""
        if not self.several:
            return make()
        value = make() if self.first else None
        self.gather(None)
        if not self.first:
            value = make()
        self.gather(None)
        return value  # type: ignore[return-value]

    def total(self, x: np.ndarray) -> np.ndarray:
        """Return the sum of all ranks' arrays, which are alike."""
        if self._comm is None:
            return x
        x = x if x.flags.c_contiguous else x.copy()
        out = np.empty_like(x)
        if on_device(x):
            self.begin_total(x, out).Wait()
        else:
            self._comm.Allreduce(x, out)
        return out

    def begin_total(self, x: np.ndarray, out: np.ndarray) -> Request:
        """Begin to write the sum of all ranks' arrays into ``out``; neither may be touched until it has arrived."""
        assert self._comm is not None, "nobody to add up with"
        if on_device(x):
            assert self.card_sums is not None, "the ranks have not taken cards"
            return self.card_sums.begin(x, out)
        return self._comm.Iallreduce(x, out)

    def spread(self, work: Callable[[T], S], things: Sequence[T]) -> Iterator[S]:
        """Do work on many things, each on one rank, and yield the results in their order: to the first rank only.

        Parameters
        ----------
        work : callable
            Called with each of this rank's things. What it returns is sent to the first rank, so it must be possible
            to pickle it.
        things : sequence
            The same on all ranks.

        Yields
        ------
        object
            What ``work`` returned. On all ranks but the first nothing, though they must go through the iterator, too:
            that is where they work.
        """
        if not self.several:
            yield from map(work, things)
            return
        todo = iter(range(len(things)))
        while turn := list(islice(todo, AT_ONCE * self.size)):
            assert self._comm is not None
            done = self._comm.gather([work(things[i]) for i in turn[self.rank :: self.size]], root=0)
            if done is not None:
                yield from (done[i % self.size][i // self.size] for i in range(len(turn)))

    def stop(self, code: int) -> None:
        """End all ranks, wherever they are."""
        if self._comm is not None:
            self._comm.Abort(code)

    def threads(self, there: int) -> int:
        """Return how many of so many threads are for this rank: others on the same cores of the same machine have some.

        Parameters
        ----------
        there : int
            Threads of one process that had the cores to itself.
        """
        if not self.several:
            return there
        cores = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
        place = (platform.node(), cores)
        return max(1, there // self.gather(place).count(place))


#: a process by itself
ALONE = Ranks()


def join(launch: Launch | None) -> Ranks:
    """Meet the other processes.

    Parameters
    ----------
    launch : Launch or None
        From ``launched``; with None nothing is imported.

    Raises
    ------
    UserError
        mpi4py is missing or finds no MPI; or its MPI is another than the launcher's, and so sees other processes.
    """
    if launch is None:
        return ALONE
    several = f"this is one of {launch.size} processes, which would all do the same work and write the same files"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{several}; to share it they need mpi4py and its MPI ({reason}). Install them by {INSTALL}, or start one "
            "process without mpirun"
        ) from error
    comm = MPI.COMM_WORLD
    if comm.Get_size() != launch.size:
        name, version = MPI.get_vendor()
        raise UserError(
            f"{several}: the launcher started {launch.size}, but mpi4py's MPI, {name} {'.'.join(map(str, version))}, "
            f"sees {comm.Get_size()}. Use the mpirun that belongs to it (the extra's lies beside the Python that runs "
            "this)"
        )
    return Ranks(comm)
