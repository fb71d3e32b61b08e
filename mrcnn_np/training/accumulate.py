"""One step from several batches, one at a time in memory: the losses and gradients of the bigger batch.

Each loss is a sum over anchors or RoIs, divided by how many of them count in the *whole* step (``objective.py``). How
many that are is known once every part has been forward, because most are sampled among proposals. So the mean of the
parts' gradients would be wrong: an image with two positive RoIs would weigh as much as one with twenty.

::

    part 1   forward, keep targets and denominators
    part 2   forward, keep targets and denominators
    part 3   forward, backward, with the denominators of all parts
    part 1   forward with its targets, backward
    part 2   forward with its targets, backward

With k parts that is k - 1 forward passes more than the bigger batch takes: with a backward pass that costs twice a
forward, (k - 1) / 3k of its time, a sixth for two parts and never more than a third. Small batches cost time of their
own: a step of four images of 192 pixels takes 1.2 times as long in two parts with NumPy and 1.4 times with the kernels,
in four parts 1.4 and 1.8 times (``small`` preset, one thread). Memory is that of one part, and the gradients twice.

The other way, one backward pass for each of the five losses, so that their gradients can be weighted afterwards, would
cost more and keep five times the gradients.

With several ranks (``parallel/ranks.py``) each batch is divided among them, and the denominators are those of all ranks
and all parts: once more a sum that is not known before everything has been forward, but here nobody has to go forward
twice. The gradients are added up over ranks while the last backward pass goes on (``parallel/buckets.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..model import Cache, MaskRCNN
from ..molding import Batch
from ..parallel.buckets import GradientSum
from ..parallel.norm import of_all
from ..parallel.ranks import ALONE, Ranks
from ..params import Params, trainable
from ..targets import Targets


class Forward(NamedTuple):
    """What the parts of a step left for the way back.

    Attributes
    ----------
    cache : Cache
        Of the last part.
    again : list of (Batch, Targets)
        The parts before it, which go forward once more.
    denominators : dict of str to int
        What each loss of the whole step is divided by; empty if there is one part only, on one rank: its own are right.
    positives : dict of str to int
        Of all parts, on all ranks.
    ranks : Ranks
    """

    cache: Cache
    again: list[tuple[Batch, Targets]]
    denominators: dict[str, int]
    positives: dict[str, int]
    ranks: Ranks = ALONE


def forward(
    model: MaskRCNN, parts: Sequence[Batch], rng: np.random.Generator, ranks: Ranks = ALONE
) -> tuple[dict[str, float], Forward]:
    """Compute the losses of all parts together.

    Parameters
    ----------
    model : MaskRCNN
    parts : sequence of Batch
        At least one.
    rng : numpy.random.Generator
        Every image gets a generator spawned from it, so the parts draw what the bigger batch would.
    ranks : Ranks
        If there are several, each part is this rank's share of ``config.batch_size`` images.

    Returns
    -------
    losses : dict
        Those of ``model.losses`` for one batch of all images, where the parts' canvases are equal.
    left : Forward
        For ``backward``.

    Notes
    -----
    With ``bn_mode="train"`` each part is normalised by its own statistics and moves the running ones once, so there a
    step is not that of the bigger batch. Ranks share the statistics of a part (``parallel/norm.py``). Group norm and
    instance norm have none of this: their statistics are each map's own (its padding included), so where the parts'
    canvases are equal a step in parts is that of the bigger one.
    """
    with of_all(ranks):
        return _forward(model, parts, rng, ranks)


def _forward(
    model: MaskRCNN, parts: Sequence[Batch], rng: np.random.Generator, ranks: Ranks
) -> tuple[dict[str, float], Forward]:
    losses, cache = _losses(model, parts[0], rng, ranks)
    if len(parts) == 1 and not ranks.several:
        return losses, Forward(cache, [], {}, cache.positives)
    values, counts, positives = [losses], [_denominators(cache)], [cache.positives]
    again = []
    for before, part in pairwise(parts):
        again.append((before, cache.targets))
        del cache  # its activations, before those of the next part come
        losses, cache = _losses(model, part, rng, ranks)
        values.append(losses)
        counts.append(_denominators(cache))
        positives.append(cache.positives)
    own = {name: sum(loss[name] * count[name] for loss, count in zip(values, counts)) for name in losses}
    # in the order of the ranks, whatever came first
    sums, total, positive = (_summed(row) for row in zip(*ranks.gather((own, _summed(counts), _summed(positives)))))
    means = {name: sums[name] / max(total[name], 1) for name in losses}
    return means, Forward(cache, again, total, positive, ranks)


def _losses(model: MaskRCNN, part: Batch, rng: np.random.Generator, ranks: Ranks) -> tuple[dict[str, float], Cache]:
    """Compute the losses of a part; the generators of images that other ranks have are spawned and left alone."""
    if not ranks.several:
        return model.losses(part, rng)
    own, whole = ranks.share(model.config.batch_size), model.config.batch_size
    if len(part.images) != len(own):
        raise ValueError(f"{ranks} has {len(part.images)} images of a batch of {whole}; expected {len(own)}")
    rng.spawn(own.start)
    found = model.losses(part, rng)
    rng.spawn(whole - own.stop)
    return found


def _summed(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(row[name] for row in rows) for name in rows[0]}


def backward(model: MaskRCNN, left: Forward, names: Container[str] | None = None) -> Params:
    """Return the gradients of the losses that ``forward`` returned; what it left is used up.

    Parameters
    ----------
    model : MaskRCNN
        With the parameters that it had in ``forward``.
    left : Forward
    names : container of str, optional
        Gradients of others are not needed, and not exchanged between ranks; by default all are.
    """
    if left.ranks.several:
        with of_all(left.ranks):
            return _backward_of_all(model, left, set(model.params) if names is None else names)
    if not left.again:
        return model.backward(left.cache, consume=True)
    return _backward_of_parts(model, left)


def _backward_of_all(model: MaskRCNN, left: Forward, names: Container[str]) -> Params:
    """Add up gradients over the ranks, from the moment at which the last part to go backward has them."""
    if not left.again:
        adding = GradientSum(left.ranks, names)
        _backward(model, left.cache, left.denominators, adding.ready)
        return adding.finish()
    *earlier, (batch, targets) = left.again
    with _unmoved(model):
        adding = GradientSum(left.ranks, names, _backward_of_parts(model, left._replace(again=earlier)))
        _, cache = model.losses(batch, 0, targets=targets)
        _backward(model, cache, left.denominators, adding.ready)
    return adding.finish()


def _backward_of_parts(model: MaskRCNN, left: Forward) -> Params:
    """Add up the gradients of this rank's parts."""
    grads = _backward(model, left.cache, left.denominators)
    with _unmoved(model):
        for batch, targets in left.again:
            _, cache = model.losses(batch, 0, targets=targets)  # no draws: the targets are there
            for name, g in _backward(model, cache, left.denominators).items():
                grads[name] += g
            del cache
    return grads


@contextmanager
def _unmoved(model: MaskRCNN) -> Iterator[None]:
    """Leave running statistics as they are, whatever goes forward again: each part has moved them once."""
    moved_once = {}
    if model.config.bn_mode == "train":
        moved_once = {name: p.copy() for name, p in model.params.items() if not trainable(name)}
    yield
    for name, statistics in moved_once.items():
        model.params[name][...] = statistics


def _denominators(cache: Cache) -> dict[str, int]:
    return {name: loss.denominator for name, loss in cache.losses.items()}


def _backward(
    model: MaskRCNN,
    cache: Cache,
    denominators: dict[str, int],
    ready: Callable[[Params], None] = lambda grads: None,
) -> Params:
    for name, loss in cache.losses.items():
        cache.losses[name] = loss._replace(denominator=denominators[name])
    return model.backward(cache, consume=True, ready=ready)
