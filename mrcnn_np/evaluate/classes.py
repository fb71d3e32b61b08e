"""A network's classes and a data set's, by name: what is measured, in the network's numbers, is what both have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.sample import Dataset, Sample
from ..errors import UserError, some_of
from ..weights.class_names import class_rows


@dataclass(frozen=True)
class ClassMatch:
    """How the classes of a network and those of a data set belong together.

    Attributes
    ----------
    lookup : ndarray of shape (classes of the data set,)
        The network's class for each of the data set, 0 where it has none.
    missing : tuple of str
        Classes of the network that the data set does not have: they have no objects, hence no AP.
    unknown : tuple of str
        Classes of the data set that the network does not know.
    """

    lookup: np.ndarray
    missing: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the classes are the same in the same order."""
        return not self.missing and np.array_equal(self.lookup, np.arange(len(self.lookup)))

    def describe(self, what: str) -> list[str]:
        """Return what is to be said about it, a sentence each; ``what`` is the data set."""
        lines = []
        if not self.same and not self.missing and not self.unknown:
            lines.append(f"{what} numbers the classes otherwise: they are matched by name")
        if self.missing:
            lines.append(
                f"{what} lacks {some_of(self.missing)}: no AP of these classes, and the mean is that of the others"
            )
        if self.unknown:
            lines.append(
                f"{what} has {some_of(self.unknown)}, which the network does not know: objects of these classes "
                "are left out"
            )
        return lines


def match_classes(network: Sequence[str], data: Sequence[str], what: str) -> ClassMatch:
    """Match classes by name.

    Parameters
    ----------
    network, data : sequence of str
        Class names of both, the background first.
    what : str
        The data set, for messages.

    Raises
    ------
    UserError
        They have no class in common.

    Notes
    -----
    The same name is the same class; then one that differs in case, spaces, hyphens and underscores only, or is VOC's
    word for COCO's (``weights.class_names.class_rows``), unless that one is taken.
    """
    exact = {name: k for k, name in enumerate(network) if k > 0}
    lookup = np.array([0, *(exact.get(name, 0) for name in data[1:])])
    for i, row in enumerate(class_rows(network, data)):
        if row > 0 and lookup[i] == 0 and row not in lookup:
            lookup[i] = row
    if not lookup.any():
        raise UserError(
            f"the network was trained on the classes {some_of(network)}; "
            f"{what} has {some_of(data[1:])}, none of which has "
            "the name of one of those"
        )
    missing = tuple(name for k, name in enumerate(network) if k > 0 and k not in lookup)
    return ClassMatch(lookup, missing, tuple(name for i, name in enumerate(data) if i > 0 and lookup[i] == 0))


class Renumbered:
    """A data set with the class numbers of a network; objects of classes that it does not know are left out.

    Parameters
    ----------
    dataset : Dataset
    class_names : tuple of str
        Of the network.
    match : ClassMatch
    """

    def __init__(self, dataset: Dataset, class_names: tuple[str, ...], match: ClassMatch) -> None:
        self.dataset, self.class_names, self.match = dataset, class_names, match
        self.ids = dataset.ids

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.dataset)

    def load(self, index: int) -> Sample:
        """Read one sample; see ``Dataset.load``."""
        sample = self.dataset.load(index)
        class_ids = self.match.lookup[sample.gt_class_ids]
        return sample.replace(gt_class_ids=class_ids).of_objects(class_ids > 0)


def in_classes_of(dataset: Dataset, class_names: tuple[str, ...], what: str, say: Callable[[str], object]) -> Dataset:
    """Return a data set in the class numbers of a network: itself, where these are the same.

    Parameters
    ----------
    dataset : Dataset
    class_names : tuple of str
        Of the network.
    what : str
        The data set, for messages.
    say : callable
        Gets what is to be said, a sentence each.

    Raises
    ------
    UserError
        They have no class in common.
    """
    match = match_classes(class_names, dataset.class_names, what)
    for line in match.describe(what):
        say(line)
    return dataset if match.same else Renumbered(dataset, class_names, match)
