"""Samples that were read once are kept in memory, as many as there is room for: decoding files takes time."""

from __future__ import annotations

import numpy as np

from .masks import Masks
from .sample import Dataset, Sample

#: bytes; the 670 pictures of the Data Science Bowl 2018 take 210 MB of it
ROOM = 256 << 20


class Remembered:
    """A data set that reads each image once, until the room is full; what came later is read again every time.

    Nothing is ever thrown out: an epoch asks for every image once, in a new order, so that what was used last is no
    more likely to be asked for than the rest.

    Parameters
    ----------
    dataset : Dataset
        Its samples must not be changed by whoever gets them.
    room : int
        Bytes for the samples.
    """

    def __init__(self, dataset: Dataset, room: int = ROOM) -> None:
        self.dataset, self.class_names, self.ids = dataset, dataset.class_names, dataset.ids
        self.left, self._kept = room, dict[int, Sample]()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.dataset)

    def load(self, index: int) -> Sample:
        """Return one sample, from memory or as the data set reads it."""
        if (known := self._kept.get(index)) is not None:
            return known
        sample = self.dataset.load(index)
        if (size := bytes_of(sample)) <= self.left:
            self.left -= size
            self._kept[index] = sample
        return sample


def bytes_of(sample: Sample) -> int:
    """Return how much memory the arrays of a sample take."""
    arrays = [value for value in vars(sample).values() if isinstance(value, np.ndarray)]
    if isinstance(sample.gt_masks, Masks):
        arrays += [rle.counts for rle in sample.gt_masks.rles]
    return sum(array.nbytes for array in arrays)
