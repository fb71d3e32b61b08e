"""Which images a step trains on, and which random numbers it takes: the same however many ranks share it.

All of it is a function of the run's seed and the step. Where ranks share a step, each loads its neighbours of every
batch and leaves out the random numbers of the others.
"""

from __future__ import annotations

import sys
from functools import lru_cache

import numpy as np
from tqdm import tqdm

from ..config import Config
from ..data.sample import Dataset, Sample, not_read
from ..errors import DataError
from ..molding import Batch, make_batch
from ..parallel.ranks import Ranks

#: what a stream of random numbers is for; the last word of its seed, and not 0, because trailing zeros do not count
INITIALISE, STEP, ORDER = 1, 2, 3


def stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    """Return the random numbers of one step, one epoch's order, or the initialisation: a pure function.

    Parameters
    ----------
    seed : int
        Of the run.
    index : int
        Of the step or the epoch.
    purpose : int
        ``INITIALISE``, ``ORDER`` or ``STEP``.
    """
    return np.random.default_rng([seed, index, purpose])


@lru_cache(maxsize=2)  # a batch touches one epoch, or two where they meet
def epoch_order(seed: int, epoch: int, images: int) -> tuple[int, ...]:
    """Return the order of the images in one epoch: each exactly once.

    Parameters
    ----------
    seed, epoch : int
    images : int
        In the training set.
    """
    return tuple(int(i) for i in stream(seed, epoch, ORDER).permutation(images))


def batch_indices(seed: int, step: int, batch_size: int, images: int) -> list[int]:
    """Return the images of one step (from 0): the next ``batch_size`` in the endless row of epochs.

    Parameters
    ----------
    seed, step : int
    batch_size : int
        Images of a step.
    images : int
        In the training set.
    """
    positions = range(step * batch_size, (step + 1) * batch_size)
    return [epoch_order(seed, p // images, images)[p % images] for p in positions]


def load_samples(dataset: Dataset, indices: list[int], skipped: dict[str, str] | None) -> list[Sample]:
    """Load images; one that cannot be read is replaced by the next in the data set.

    Parameters
    ----------
    dataset : Dataset
    indices : list of int
    skipped : dict of str to str, or None
        Ids of unreadable images and why; new ones are added. ``None``: nothing is skipped.

    Returns
    -------
    list of Sample

    Raises
    ------
    DataError
        An image cannot be read and ``skipped`` is ``None``, or no image of the data set can be read.
    """
    samples = []
    for index in indices:
        for candidate in ((index + i) % len(dataset) for i in range(len(dataset))):
            image_id = dataset.ids[candidate]
            if skipped is not None and image_id in skipped:
                continue
            try:
                samples.append(dataset.load(candidate))
                break
            except DataError as error:
                if skipped is None:
                    raise DataError(not_read(image_id, error), image_id=image_id) from error
                skipped[image_id] = str(error)
                tqdm.write(f"skipped image {image_id}: {error}", file=sys.stderr)
        else:
            reasons = list((skipped or {"": "there are none"}).values())
            raise DataError(f"none of the {len(dataset)} images can be read; the last error: {reasons[-1]}")
    return samples


def as_one_batch(
    samples: list[Sample],
    batches: list[Batch],
    config: Config,
    *,
    skipped: dict[str, str] | None,
    ranks: Ranks,
) -> tuple[list[str], list[Batch]]:
    """Make the shares of all ranks parts of the batch that one process would have.

    Parameters
    ----------
    samples, batches
        Of this rank, from ``loop.step_samples``.
    config : Config
    skipped : dict of str to str, or None
        Receives what other ranks could not read.
    ranks : Ranks

    Returns
    -------
    image_ids : list of str
        Of all ranks' images, in the order of one process.
    batches : list of Batch
        On canvases as large as that of one process, which has one for all images of a batch.
    """
    if not ranks.several:
        return [sample.image_id for sample in samples], batches
    own = [batch.image_ids for batch in batches], [batch.images.shape for batch in batches], dict(skipped or {})
    ids, shapes, theirs = zip(*ranks.gather(own))
    for image_id, why in ((i, why) for others in theirs for i, why in others.items()):
        if skipped is not None and image_id not in skipped:
            skipped[image_id] = why
            tqdm.write(f"skipped image {image_id}: {why}", file=sys.stderr)
    for i, of_part in enumerate(zip(*shapes)):
        height, width = (max(shape[axis] for shape in of_part) for axis in (1, 2))
        if batches[i].images.shape[1:3] != (height, width):
            first, count = sum(len(b.image_ids) for b in batches[:i]), len(batches[i].image_ids)
            batches[i] = make_batch(samples[first : first + count], config, least=(height, width))
    return [image_id for part in zip(*ids) for share in part for image_id in share], batches
