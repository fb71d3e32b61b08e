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
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..model import Cache, MaskRCNN
from ..molding import Batch
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
        What each loss of the whole step is divided by; empty if there is one part only, whose own are right.
    positives : dict of str to int
        Of all parts.
    """

    cache: Cache
    again: list[tuple[Batch, Targets]]
    denominators: dict[str, int]
    positives: dict[str, int]


def forward(model: MaskRCNN, parts: Sequence[Batch], rng: np.random.Generator) -> tuple[dict[str, float], Forward]:
    """Compute the losses of all parts together.

    Parameters
    ----------
    model : MaskRCNN
    parts : sequence of Batch
        At least one.
    rng : numpy.random.Generator
        Every image gets a generator spawned from it, so the parts draw what the bigger batch would.

    Returns
    -------
    losses : dict
        Those of ``model.losses`` for one batch of all images, where the parts' canvases are equal.
    left : Forward
        For ``backward``.

    Notes
    -----
    With ``bn_mode="train"`` each part is normalised by its own statistics and moves the running ones once, so there a
    step is not that of the bigger batch.
    """
    losses, cache = model.losses(parts[0], rng)
    if len(parts) == 1:
        return losses, Forward(cache, [], {}, cache.positives)
    values, counts, positives = [losses], [_denominators(cache)], [cache.positives]
    again = []
    for before, part in pairwise(parts):
        again.append((before, cache.targets))
        del cache  # its activations, before those of the next part come
        losses, cache = model.losses(part, rng)
        values.append(losses)
        counts.append(_denominators(cache))
        positives.append(cache.positives)
    total = {name: sum(count[name] for count in counts) for name in losses}
    sums = {name: sum(loss[name] * count[name] for loss, count in zip(values, counts)) for name in losses}
    means = {name: sums[name] / max(total[name], 1) for name in losses}
    return means, Forward(cache, again, total, {name: sum(p[name] for p in positives) for name in positives[0]})


def backward(model: MaskRCNN, left: Forward) -> Params:
    """Return the gradients of the losses that ``forward`` returned; what it left is used up.

    Parameters
    ----------
    model : MaskRCNN
        With the parameters that it had in ``forward``.
    left : Forward
    """
    if not left.again:
        return model.backward(left.cache, consume=True)
    grads = _backward(model, left.cache, left.denominators)
    moved_once = {}
    if model.config.bn_mode == "train":
        moved_once = {name: p.copy() for name, p in model.params.items() if not trainable(name)}
    for batch, targets in left.again:
        _, cache = model.losses(batch, 0, targets=targets)  # no draws: the targets are there
        for name, g in _backward(model, cache, left.denominators).items():
            grads[name] += g
        del cache
    for name, statistics in moved_once.items():
        model.params[name][...] = statistics
    return grads


def _denominators(cache: Cache) -> dict[str, int]:
    return {name: loss.denominator for name, loss in cache.losses.items()}


def _backward(model: MaskRCNN, cache: Cache, denominators: dict[str, int]) -> Params:
    for name, loss in cache.losses.items():
        cache.losses[name] = loss._replace(denominator=denominators[name])
    return model.backward(cache, consume=True)
