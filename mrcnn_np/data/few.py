"""Whether pictures are too few to begin with random weights, found out with as few of them read as it takes."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any, NamedTuple

from ..errors import DataError
from .check import FEW
from .sample import Dataset

#: of more pictures than so many it is not asked whether they are too few
LOOKED_AT = 300


class Few(NamedTuple):
    """Most classes are seen in too few pictures.

    Attributes
    ----------
    few, seen : int
        How many classes are seen in fewer than ``FEW`` pictures, but in one, and how many in any.
    pictures : int
        There are.
    unseen : int
        How many classes are listed and seen in none.
    start : str
        What training begins with.
    """

    few: int
    seen: int
    pictures: int
    unseen: int = 0
    start: str = "random weights"

    def __str__(self) -> str:
        """Return the beginning of a sentence."""
        listed = self.seen + self.unseen
        classes = "the class is" if listed == 1 else f"{self.few} of {listed} classes are"
        none = f", and {self.unseen} in none," if self.unseen else ""
        return f"{classes} seen in fewer than {FEW}{none} of the {self.pictures} pictures"


def too_few(dataset: Dataset) -> Few | None:
    """Say if most classes are seen in too few pictures to be learned from random weights.

    Parameters
    ----------
    dataset : Dataset
        What is trained on. Where it has a method ``classes_in(index)``, that says what is seen without reading pixels.

    Returns
    -------
    Few or None
        None if at least half of the classes that are seen are seen in ``FEW`` pictures or more; also of more pictures
        than ``LOOKED_AT``. A class that is listed and never seen does not count, nor does a picture that cannot be
        read.
    """
    if len(dataset) > LOOKED_AT:
        return None
    seen: Counter[int] = Counter()
    listed = len(dataset.class_names) - 1
    for index in range(len(dataset)):
        with suppress(DataError):  # training says which, or leaves them out
            seen.update(classes_in(dataset, index))
        if 2 * sum(count >= FEW for count in seen.values()) >= max(listed, 1):
            return None  # whatever the other pictures show
    few = sum(count < FEW for count in seen.values())
    return Few(few, len(seen), len(dataset), listed - len(seen)) if 2 * few > len(seen) else None


def classes_in(dataset: Any, index: int) -> set[int]:
    """Return the classes that are seen in a picture, without reading its pixels where that can be known."""
    known = dataset.classes_in(index) if hasattr(dataset, "classes_in") else None
    return set(dataset.load(index).gt_class_ids.tolist()) if known is None else known
