"""Ranks with graphics cards: each takes one of its machine's, and sums of arrays on them go from card to card.

Two ways of adding up lead to the same sum. Where every rank has a card of its own, NCCL adds up from card to card,
beside what the card computes. Where NCCL is not installed, or ranks share a card, which NCCL refuses, arrays are copied
to the host, added up by MPI, and copied back: slower, and the right way to try several ranks on one card.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from kernels import to_device, to_host

from .ranks import Ranks, Request

#: how NCCL is installed beside the rest
INSTALL = "pip install 'mrcnn-np[cuda-mpi]'"


class ThroughTheHost:
    """Sums of arrays on cards that go through the memory of the host, and MPI."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def begin(self, x: Any, out: Any) -> Request:
        """Begin to write the sum of all ranks' arrays ``x`` into ``out``."""
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
    """
    from kernels.cuda.machine import cards

    node = platform.node()
    neighbours = [rank for rank, name in enumerate(ranks.gather(node)) if name == node]
    name = cards.take_card(neighbours.index(ranks.rank) % cards.number_of_cards())
    places = ranks.gather((node, name))
    shared = len(places) - len(set(places))
    if shared or not all(ranks.gather(cards.has_nccl())):
        ranks.on_cards = ThroughTheHost(ranks)
        there = len(set(places))
        number = "one card" if there == 1 else f"{there} cards"
        why = "ranks that share a card cannot use NCCL" if shared else f"NCCL is not installed: {INSTALL}"
        return f"{ranks.size} ranks on {number} add up through the host's memory ({why})"
    sums = cards.CardSums(ranks.rank, ranks.size, ranks.of_first(cards.new_key))
    ranks.on_cards = sums
    return f"{ranks.size} ranks on as many cards add up from card to card (NCCL {sums.version})"
