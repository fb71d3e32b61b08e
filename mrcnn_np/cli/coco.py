"""The parts of the command line that read and write COCO's files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..data import open_dataset
from ..data.coco import COCODataset, category_ids_of
from ..data.coco_json import Instances, dump_json, image_numbers, instances_of
from ..data.coco_results import read_results, result_records
from ..data.sample import Dataset
from ..detections import Detections
from ..errors import UserError
from ..evaluate.results import evaluate_results
from ..files import atomic_write, prepare_file, write_json
from .options import read_ids


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
        self.records: list[dict[str, Any]] = []
        self.left_out = 0
        prepare_file(self.path)

    @classmethod
    def of_dataset(cls, path: str | Path, dataset: Dataset) -> ResultsFile:
        """Take the numbers of a data set: its own if it is in COCO's format."""
        return cls(path, image_numbers(dataset.ids), _category_ids(dataset))

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

    def add(self, name: str, found: Detections) -> None:
        """Add the detections of one image."""
        records = result_records(found, self.numbers[name], self.category_ids)
        self.records += [r for r in records if r["category_id"] >= 0]
        self.left_out += sum(r["category_id"] < 0 for r in records)

    def write(self) -> None:
        """Write the file."""
        atomic_write(self.path, dump_json(self.records))
        print(f"{len(self.records)} detections written to {self.path}")
        if self.left_out:
            print(f"{self.left_out} detections of classes without a category id are left out", file=sys.stderr)


def _category_ids(dataset: Dataset) -> tuple[int, ...]:
    return dataset.category_ids if isinstance(dataset, COCODataset) else category_ids_of(dataset.class_names)


def run_eval_results(args: argparse.Namespace) -> int:
    """Measure the detections in a results JSON."""
    for option in ("subset", "ids", "skip_bad", "coco_results"):
        if getattr(args, option):
            raise UserError(f"--{option.replace('_', '-')} chooses images for a model; it does not go with --results")
    if args.method not in (None, "coco"):
        raise UserError(f"--method {args.method} does not go with --results; expected coco")
    if args.out:
        prepare_file(Path(args.out))
    instances = _ground_truth(args)
    results = read_results(args.results, instances)
    kinds = ["box", "mask"] if args.iou_type == "both" else [args.iou_type]
    if "mask" in kinds and any(r.mask is None for r in results):
        if args.iou_type == "mask":
            raise UserError(
                f"{args.results} has a detection without segmentation; expected masks in all, or --iou-type box"
            )
        kinds = ["box"]
        print("there are detections without segmentation: boxes are compared, masks are not", file=sys.stderr)
    evaluations = {kind: evaluate_results(instances, results, iou_type=kind, area=args.area) for kind in kinds}
    for kind, evaluation in evaluations.items():
        print(f"{kind}\n{evaluation.table()}\n")
    if args.out:
        files = {"results": str(args.results), "ground_truth": str(instances.path)}
        write_json(Path(args.out), files | {kind: e.as_dict() for kind, e in evaluations.items()})
        print(f"written to {args.out}")
    return 0


def _ground_truth(args: argparse.Namespace) -> Instances:
    """Open the instances JSON that is given, or that of the COCO data set."""
    if args.ground_truth:
        if args.data or args.root or args.split:
            raise UserError("--ground-truth names the file itself; it does not go with --data, --root or --split")
        return Instances(args.ground_truth)
    if args.data not in (None, "coco"):
        raise UserError(f"--data {args.data} has no instances JSON; write one with `mrcnn-np data coco`, or use coco")
    dataset = open_dataset("coco", args.root, args.split or "val")
    assert isinstance(dataset, COCODataset)
    return dataset.instances


def run_coco(args: argparse.Namespace) -> int:
    """Write the ground truth of a split as an instances JSON."""
    out = Path(args.out)
    dataset = open_dataset(args.data, args.root, args.split, subset=args.subset, ids=read_ids(args.ids))
    prepare_file(out)
    content = instances_of(
        (dataset.load(i) for i in tqdm(range(len(dataset)), unit="image", disable=args.quiet)),
        ids=dataset.ids,
        class_names=dataset.class_names,
        category_ids=_category_ids(dataset),
    )
    atomic_write(out, dump_json(content))
    print(f"{len(content['annotations'])} objects in {len(content['images'])} images written to {out}")
    return 0
