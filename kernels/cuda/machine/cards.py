"""Several processes with a card each: which card is whose, and sums from card to card by NCCL.

NCCL, NVIDIA's library for this, is called through CuPy and works on a stream of its own, so that a sum travels while
the card computes on. Events keep the order: a sum begins when its array has been written, and whoever reads the result
waits for it, on the card and not on the host.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .device import SIMULATED, Array, cupy
from .require import LEAST_CAPABILITY


def number_of_cards() -> int:
    """Return how many cards this process sees; in the simulator one."""
    return 1 if SIMULATED else int(cupy.cuda.runtime.getDeviceCount())


def take_card(number: int) -> str:
    """Let this thread's arrays and kernels be on a card from now on.

    Parameters
    ----------
    number : int
        Among the cards that this process sees.

    Returns
    -------
    str
        Which card it is, whatever number other processes give it.

    Raises
    ------
    OSError
        The kernels cannot run on it.
    """
    if SIMULATED:
        return "simulated"
    card = cupy.cuda.Device(number)
    card.use()
    facts, capability = cupy.cuda.runtime.getDeviceProperties(number), str(card.compute_capability)
    if (int(capability[:-1]), int(capability[-1])) < LEAST_CAPABILITY:
        least = ".".join(map(str, LEAST_CAPABILITY))
        raise OSError(f"GPU {number}, {facts['name'].decode()}, has compute capability {capability}; expected {least}")
    return bytes(facts["uuid"]).hex()


def why_no_nccl() -> str | None:
    """Return what keeps NCCL from being used, None if nothing does."""
    if SIMULATED:
        return "the simulator has none"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = _nccl().available
    reason = " ".join(str(said[-1].message).split()) if said else "CuPy does not find it"
    return None if there else reason


def nccl_version() -> str:
    """Return the version of NCCL."""
    number = int(_nccl().get_version())
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def new_key() -> tuple[int, ...]:
    """Return what the processes that want to add up together need to find each other."""
    return tuple(_nccl().get_unique_id())


def _nccl() -> Any:
    """Return CuPy's module for NCCL; its import loads the library."""
    from cupy.cuda import nccl

    return nccl


class Arrival:
    """A sum that is on its way.

    Parameters
    ----------
    event : cupy.cuda.Event
        Passed when the sum is there.
    arrays : tuple of arrays
        Kept until then.
    """

    def __init__(self, event: Any, arrays: tuple[Any, ...]) -> None:
        self._event, self._arrays = event, arrays

    def Test(self) -> bool:
        """Say whether it is there."""
        return bool(self._event.done)

    def Wait(self) -> None:
        """Let what the current stream does next wait for it."""
        cupy.cuda.get_current_stream().wait_event(self._event)
        self._arrays = ()


class NcclSums:
    """Sums of arrays that lie on the cards of several processes.

    Parameters
    ----------
    rank, size : int
        Number of this process, from 0, and how many there are.
    key : tuple of int
        Of one ``new_key``, the same for all.

    Notes
    -----
    All processes must make it, and call its methods, in the same order. No two may be on the same card.
    """

    def __init__(self, rank: int, size: int, key: tuple[int, ...]) -> None:
        self._nccl = _nccl()
        self._communicator = self._nccl.NcclCommunicator(size, key, rank)
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._types = {
            np.dtype(np.float32): self._nccl.NCCL_FLOAT32,
            np.dtype(np.float64): self._nccl.NCCL_FLOAT64,
        }

    def begin(self, x: Any, out: Any) -> Arrival:
        """Begin to write the sum of all processes' arrays ``x`` into ``out``.

        Parameters
        ----------
        x, out : cupy.ndarray
            float32 or float64, C-contiguous, of the same shape in all processes; not to be touched before the arrival.
        """
        if not isinstance(x, Array) or x.dtype not in self._types or not alike(x, out):
            what = f"{type(x).__name__} of {x.dtype}, into {type(out).__name__} of {out.dtype}"
            raise TypeError(f"what is to be added up is {what}; expected arrays of float32 or float64, alike")
        self._stream.wait_event(cupy.cuda.get_current_stream().record())
        if x.size:
            how = self._types[x.dtype], self._nccl.NCCL_SUM, self._stream.ptr
            self._communicator.allReduce(x.data.ptr, out.data.ptr, x.size, *how)
        return Arrival(self._stream.record(), (x, out))


def alike(x: Any, out: Any) -> bool:
    """Tell whether two arrays lie in memory alike, without gaps."""
    same = x.dtype == out.dtype and x.shape == out.shape
    return bool(same and x.flags.c_contiguous and out.flags.c_contiguous)
