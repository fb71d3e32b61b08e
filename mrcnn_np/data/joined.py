"""Several data sets as one: the pictures of all, with the classes of equal names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .images import SUFFIXES
from .notes import Notes
from .sample import Dataset, Sample


def bare(name: str) -> str:
    """Return a picture's name without its suffix."""
    return name[: -len(Path(name).suffix)] if name.lower().endswith(SUFFIXES) else name


def _free(name: str, number: int, taken: Callable[[str], bool]) -> str:
    """Return a name, with a number in front if it is taken: this one, or the next that makes it free."""
    free = name
    while taken(free):
        free, number = f"{number}/{name}", number + 1
    return free


class Joined:
    """The images of several data sets, one set after the other.

    Parameters
    ----------
    datasets : sequence of Dataset
    class_names : sequence of str
        Of all sets, also more than once; those of the first set come first.

    Attributes
    ----------
    class_names : tuple of str
        Each once.
    ids : tuple of str
        An id, or a file's name without its suffix, that is there already gets a number in front, that of its set, or
        the next that makes it one of its own: ``2/cat.png``.
    notes : Notes
        Of all, up to now.

    Raises
    ------
    DataError
        Objects of the sets have different keypoints.
    """

    def __init__(self, datasets: Sequence[Dataset], class_names: Sequence[str]) -> None:
        self.class_names = tuple(dict.fromkeys(class_names))
        poses = list(dict.fromkeys(getattr(dataset, "pose", None) for dataset in datasets))
        if len(poses) > 1:
            which = " and ".join("none" if pose is None else f"{len(pose.names)} keypoints" for pose in poses)
            raise DataError(f"the sets have different keypoints ({which}); expected sets that have the same, or none")
        self._places = [(number, index) for number, dataset in enumerate(datasets) for index in range(len(dataset))]
        self._datasets = tuple(datasets)
        number_of = {name: number for number, name in enumerate(self.class_names)}
        self._class_ids = [np.array([number_of[name] for name in d.class_names], np.int64) for d in datasets]
        self._names: dict[str, str] = {}
        taken: set[str] = set()
        for number, index in self._places:
            own = datasets[number].ids[index]
            name_of: Any = getattr(datasets[number], "name_of", str)
            name = _free(str(name_of(own)), number + 1, lambda text: bare(text).lower() in taken)
            taken.add(bare(name).lower())
            self._names[_free(str(own), number + 1, self._names.__contains__)] = name
        self.ids = tuple(self._names)
        self._paths: dict[int, Path] = {}

    @property
    def notes(self) -> Notes:
        """See the class."""
        notes = Notes(quiet=True)
        for dataset in self._datasets:
            if isinstance(own := getattr(dataset, "notes", None), Notes):
                notes.take_over(own)
        return notes

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._places)

    def load(self, index: int) -> Sample:
        """Read one sample, with the classes and the id that it has here."""
        number, own = self._places[index]
        sample = self._datasets[number].load(own)
        self._paths[index] = Path(sample.path)
        return sample.replace(image_id=self.ids[index], gt_class_ids=self._class_ids[number][sample.gt_class_ids])

    def name_of(self, image_id: str) -> str:
        """Return what an image's file is to be called."""
        return self._names[image_id]

    def picture(self, index: int) -> tuple[Path, bytes | None]:
        """Return where the photograph of a loaded sample is, and its bytes where it is no file of its own."""
        number, own = self._places[index]
        of_reader: Any = getattr(self._datasets[number], "picture", None)
        return (self._paths[index], None) if of_reader is None else of_reader(own)
