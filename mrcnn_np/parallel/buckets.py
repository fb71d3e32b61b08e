"""Gradients of all ranks, added up while the backward pass goes on.

The backward pass ends at the first layer, so the last layers' gradients are complete long before. They are collected in
*buckets* of some megabytes, because one message of a megabyte takes much less time than a thousand of a kilobyte, and a
bucket is on its way as soon as it is full. What arrives is the sum over ranks; the losses are divided by what counts in
the whole step (``training/accumulate.py``), so it is the gradient of the whole batch, with nothing left to divide.

Which gradients share a bucket depends on the network alone: every rank sends the same buckets in the same order. MPI
adds up in an order that depends on the sizes and the number of ranks, not on who comes first.

References
----------
Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (2020), section 3.2.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

import numpy as np

from ..params import Params
from .ranks import Ranks, Request

#: bytes from which on a bucket is sent
BUCKET = 4 << 20


class _Sent(NamedTuple):
    """A bucket on its way: names and shapes, what was sent, and where the sum arrives."""

    shapes: dict[str, tuple[int, ...]]
    own: np.ndarray
    total: np.ndarray
    request: Request


class GradientSum:
    """Adds up gradients over ranks, from when they are complete.

    Parameters
    ----------
    ranks : Ranks
    names : container of str
        The gradients that are wanted; others are left out.
    earlier : dict of str to ndarray, optional
        Added to this rank's before they are sent: what earlier parts of the step gave.
    bucket : int
        Bytes from which on a bucket is sent.

    Examples
    --------
    ::

        adding = GradientSum(ranks, velocity)
        model.backward(cache, ready=adding.ready)
        grads = adding.finish()
    """

    def __init__(
        self, ranks: Ranks, names: Container[str], earlier: Params | None = None, *, bucket: int = BUCKET
    ) -> None:
        self._ranks, self._names, self._earlier, self._bucket = ranks, names, earlier or {}, bucket
        self._seen: set[str] = set()
        self._open: Params = {}
        self._sent: list[_Sent] = []

    def ready(self, grads: Params) -> None:
        """Take over gradients; all that are there are complete, and those that were there before are not looked at."""
        for name, g in grads.items():
            if name in self._seen:
                continue
            self._seen.add(name)
            if name in self._names:
                self._open[name] = g + self._earlier[name] if name in self._earlier else g
                if sum(waiting.nbytes for waiting in self._open.values()) >= self._bucket:
                    self._send()
        for sent in self._sent:  # MPI moves messages on while it is called
            sent.request.Test()

    def finish(self) -> Params:
        """Send the last bucket, wait for all, and return the sums, in the order in which they were complete."""
        self._send()
        grads: Params = {}
        for sent in self._sent:
            sent.request.Wait()
            start = 0
            for name, shape in sent.shapes.items():
                size = int(np.prod(shape))
                grads[name] = sent.total[start : start + size].reshape(shape)
                start += size
        self._sent = []
        return grads

    def _send(self) -> None:
        if not self._open:
            return
        own = np.concatenate([g.reshape(-1) for g in self._open.values()])
        total = np.empty_like(own)
        shapes = {name: g.shape for name, g in self._open.items()}
        self._sent.append(_Sent(shapes, own, total, self._ranks.begin_total(own, total)))
        self._open = {}
