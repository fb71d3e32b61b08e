"""Ranks with graphics cards: each takes one of its machine's, and sums of arrays on them go from card to card.

There are two ways of adding up, alike but for the order of sums. Where every rank has a card of its own, NCCL adds up
from card to card, beside what the card computes. Where NCCL is not installed, or ranks share a card, which NCCL
refuses, arrays are copied to the host, added up by MPI, and copied back: slower, and the way to try several ranks on
one card.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from kernels import to_device, to_host

from ..errors import UserError
from .ranks import Ranks, Request

#: how NCCL is installed beside the rest
INSTALL = "pip install 'mrcnn-np[cuda-mpi]'"


class FromCardToCard:
    """Sums by NCCL. The first one makes its connections, so that `detect` and `eval`, which need none, do not wait.

    Parameters
    ----------
    ranks : Ranks
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._sums: Any = None

    def begin(self, x: Any, out: Any) -> Request:
        """Begin to write the sum of all ranks' arrays into ``out``.

        Parameters
        ----------
        x, out : array on a card
            float32 or float64, C-contiguous, alike on all ranks.

        Raises
        ------
        UserError
            NCCL finds no way to the others.
        """
        if self._sums is None:
            from kernels.cuda.machine import cards

            try:
                key = self._ranks.of_first(cards.new_key)
                self._sums = cards.NcclSums(self._ranks.rank, self._ranks.size, key)
            except RuntimeError as error:
                raise UserError(
                    f"the cards cannot reach each other by NCCL: {error}. NCCL_DEBUG=INFO says more; usual reasons are "
                    "too little shared memory in a container, and the wrong network (NCCL_SOCKET_IFNAME)"
                ) from error
        request: Request = self._sums.begin(x, out)
        return request


class ThroughTheHost:
    """Sums that go through the memory of the host, and MPI.

    Parameters
    ----------
    ranks : Ranks
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def begin(self, x: Any, out: Any) -> Request:
        """Begin to write the sum of all ranks' arrays into ``out``.

        Parameters
        ----------
        x, out : array on a card
            Alike on all ranks.
        """
        host = np.ascontiguousarray(to_host(x))
        total = np.empty_like(host)
        return _Copied(self._ranks.begin_total(host, total), (host, total), out)


class _Copied:
    """A sum on its way on the host, and the array on a card that it is for."""

    def __init__(self, request: Request, arrays: tuple[np.ndarray, np.ndarray], out: Any) -> None:
        self._request, self._arrays, self._out = request, arrays, out

    def Test(self) -> bool:
        """Move it on, and say whether it has arrived at the host."""
        return self._request.Test()

    def Wait(self) -> None:
        """Wait until it has arrived, and copy it to the card."""
        self._request.Wait()
        self._out[...] = to_device(self._arrays[1])


def take_cards(ranks: Ranks) -> str:
    """Give every rank a card, and let ``ranks`` add up arrays that lie on cards.

    Parameters
    ----------
    ranks : Ranks
        All of them call this, before anything is on a card.

    Returns
    -------
    str
        Which way sums go, in words.

    Raises
    ------
    UserError
        The card that is this rank's cannot run the kernels.
    """
    from kernels.cuda.machine import cards

    node = platform.node()
    neighbours = [rank for rank, name in enumerate(ranks.gather(node)) if name == node]
    try:
        taken = cards.take_card(neighbours.index(ranks.rank) % cards.number_of_cards())
    except OSError as error:
        raise UserError(str(error)) from error
    there = len(set(ranks.gather(taken)))
    without = [reason for reason in ranks.gather(cards.why_no_nccl()) if reason is not None]
    if there == ranks.size and not without:
        ranks.card_sums = FromCardToCard(ranks)
        return f"{ranks.size} ranks take a card each; sums go from card to card (NCCL {cards.nccl_version()})"
    ranks.card_sums = ThroughTheHost(ranks)
    number = "one card" if there == 1 else f"{there} cards"
    why = "ranks that share a card cannot use NCCL"
    if there == ranks.size:
        why = f"NCCL cannot be loaded: {without[0]}; {INSTALL}"
    return f"{ranks.size} ranks on {number}; sums go through the host's memory ({why})"
