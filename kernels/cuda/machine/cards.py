"""Several processes with a card each: which card is whose, and sums from card to card by NCCL.

NCCL, NVIDIA's library for this, is called through CuPy and works on a stream of its own, so that a sum travels while
the card computes on. Events keep the order: a sum begins when its array has been written, and whoever reads the result
waits for it on the card. The host waits for neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import SIMULATED, Array, cupy


def number_of_cards() -> int:
    """Return how many cards this process sees; in the simulator one."""
    return 1 if SIMULATED else int(cupy.cuda.runtime.getDeviceCount())


def take_card(number: int) -> str:
    """Let this thread's arrays and kernels be on a card from now on, and return which it is among all of the machine.

    Where every process sees only its own, all call it number 0; the name that is returned tells them apart.
    """
    if SIMULATED:
        return "simulated"
    card = cupy.cuda.Device(number)
    card.use()
    return str(card.pci_bus_id)


def has_nccl() -> bool:
    """Tell whether NCCL is installed."""
    return not SIMULATED and bool(_nccl().available)


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


class CardSums:
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

    @property
    def version(self) -> str:
        """The version of NCCL."""
        number = int(self._nccl.get_version())
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"

    def begin(self, x: Any, out: Any) -> Arrival:
        """Begin to write the sum of all processes' arrays ``x`` into ``out``.

        Parameters
        ----------
        x, out : cupy.ndarray
            float32 or float64, C-contiguous, of the same shape in all processes; not to be touched before the arrival.
        """
        if not isinstance(x, Array) or x.dtype not in self._types:
            what = f"{type(x).__name__} of {x.dtype}"
            raise TypeError(f"what is added up from card to card is {what}; expected an array of float32 or float64")
        self._stream.wait_event(cupy.cuda.get_current_stream().record())
        if x.size:
            how = self._types[x.dtype], self._nccl.NCCL_SUM, self._stream.ptr
            self._communicator.allReduce(x.data.ptr, out.data.ptr, x.size, *how)
        return Arrival(self._stream.record(), (x, out))
