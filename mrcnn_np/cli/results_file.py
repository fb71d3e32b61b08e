"""COCO's results JSON: what ``detect`` and ``eval`` write with ``--coco-results``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ..data.coco import COCODataset, category_ids_of
from ..data.coco_json import Instances, dump_json, image_numbers
from ..data.coco_results import result_records
from ..data.sample import Dataset
from ..detections import Detections
from ..errors import UserError
from ..evaluate.classes import Renumbered
from ..files import atomic_write, prepare_file
from ..tables import counted


class ResultsFile:
    """Collects detections for a results JSON.

    Parameters
    ----------
    path : path
    numbers : dict of str to int
        COCO's image id of each image.
    category_ids : tuple of int
        The category id of each class id; detections of a class with -1 are left out.
    """

    def __init__(self, path: str | Path, numbers: dict[str, int], category_ids: tuple[int, ...]) -> None:
        self.path = Path(path)
        self.numbers, self.category_ids = numbers, category_ids
        self.last = max(numbers.values(), default=0)
        self.records: list[dict[str, Any]] = []
        self.left_out = 0
        prepare_file(self.path)

    @classmethod
    def of_dataset(cls, path: str | Path, dataset: Dataset) -> ResultsFile:
        """Take the numbers of a data set: its own if it is in COCO's format."""
        return cls(path, image_numbers(dataset.ids), dataset_category_ids(dataset))

    @classmethod
    def of_files(
        cls, path: str | Path, names: dict[Path, str], class_names: tuple[str, ...], ground_truth: str | None
    ) -> ResultsFile:
        """Give image files the ids of an instances JSON that lists them, else those in their names, else 1, 2, 3, ...

        Parameters
        ----------
        path : path
        names : dict of Path to str
            A name for each image file, by which ``add`` will be called.
        class_names : tuple of str
            The classes of the model.
        ground_truth : str or None
            The instances JSON, of which annotations are not needed.
        """
        if ground_truth is None:
            return cls(path, image_numbers(names.values()), category_ids_of(class_names))
        instances = Instances(ground_truth, annotated=False)
        id_of = dict(zip(instances.class_names[1:], instances.category_ids[1:]))
        if not id_of.keys() & set(class_names[1:]):
            raise UserError(
                f"{ground_truth} has the categories {', '.join(id_of)}; expected some of those that the model knows, "
                f"{', '.join(class_names[1:])}"
            )
        listed = {Path(entry.file_name).name: number for number, entry in instances.images.items()}
        for image in names:
            if image.name not in listed:
                raise UserError(f"{ground_truth} does not list {image.name}; expected every image in it")
        category_ids = tuple(id_of.get(name, -1) for name in class_names)
        return cls(path, {n: listed[p.name] for p, n in names.items()}, category_ids)

    def number(self, name: str) -> int:
        """Return the id of an image; a frame, which nobody numbered before, gets the next number."""
        if name not in self.numbers:
            self.last += 1
            self.numbers[name] = self.last
        return self.numbers[name]

    def add(self, name: str, found: Detections) -> None:
        """Add the detections of one image."""
        number = self.number(name)
        records = result_records(found, number, self.category_ids)
        self.records += [r for r in records if r["category_id"] >= 0]
        self.left_out += sum(r["category_id"] < 0 for r in records)

    def write(self) -> None:
        """Write the file."""
        atomic_write(self.path, dump_json(self.records))
        print(f"{counted(len(self.records), 'detection')} written to {self.path}")
        if self.left_out:
            print(f"{self.left_out} detections of classes without a category id are left out", file=sys.stderr)


def dataset_category_ids(dataset: Dataset) -> tuple[int, ...]:
    """Return the category id of each class of a data set: its own, if it is in COCO's format; -1 for none."""
    if isinstance(dataset, Renumbered):
        theirs, ours = dataset_category_ids(dataset.dataset), [-1] * len(dataset.class_names)
        for category_id, k in zip(theirs, dataset.match.lookup):
            ours[k] = category_id
        return (-1, *ours[1:])
    return dataset.category_ids if isinstance(dataset, COCODataset) else category_ids_of(dataset.class_names)
