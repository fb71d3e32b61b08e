"""``mrcnn-np eval``: average precision of a run, a checkpoint or weights of any kind on a split."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data import open_dataset as open_data
from ..data.coco import COCODataset
from ..data.coco_json import Instances
from ..data.coco_results import Result, read_results
from ..data.sample import Dataset
from ..errors import UserError, some_of
from ..evaluate.classes import in_classes_of
from ..evaluate.results import evaluate_results
from ..evaluate.split import evaluate_split, kinds_of, never_taught
from ..files import prepare_file, write_json
from ..model import MaskRCNN
from ..parallel.ranks import Ranks
from ..weights.class_names import class_rows
from .beginnings import untaught_by
from .network import checkpoint_path, load_model, of_weights, refuse_options_of_weights
from .options import images_named, images_of_run, open_dataset, recognise_data, recorded_options
from .results_file import ResultsFile

#: so many of the pictures that have objects may be without a detection; of more it is said
_EMPTY_SHARE = 0.1


class Subject(NamedTuple):
    """What is measured, and on what.

    Attributes
    ----------
    model : MaskRCNN
    dataset : Dataset
    split : str
    class_ids : ndarray of shape (num_classes,), or None
        The data set's class for each class of the model, 0 where it has none; None if the classes are the same.
    out : Path or None
        Where the numbers go.
    facts : dict
        What the file says of where they come from.
    learned_from : bool
        These are the images that the model was trained on.
    untaught : tuple of str
        Classes that nothing taught the model, as its run recorded them.
    """

    model: MaskRCNN
    dataset: Dataset
    split: str
    class_ids: np.ndarray | None
    out: Path | None
    facts: dict[str, Any]
    learned_from: bool = False
    untaught: tuple[str, ...] = ()


def run_eval(args: argparse.Namespace) -> int:
    """Measure a model on a split, or detections in a file."""
    ranks: Ranks = args.ranks
    if args.results is not None and not ranks.first:
        return 0
    if args.results is not None:
        refuse_options_of_weights(args)
        if args.config:
            raise UserError(
                "--config changes the configuration of a network, and there is none with --results: --preset, "
                "--class-names and --config go with --weights, the last with --run and --checkpoint, too"
            )
        return _measure_results(args)
    if args.ground_truth is not None:
        raise UserError("--ground-truth belongs to --results; a model is measured on the images of --data")
    subject = ranks.after_first(lambda: _of_run(args) if args.weights is None else _of_weights(args))
    there = kinds_of(subject.model.config)
    kinds = there if args.iou_type == "both" else (args.iou_type,)
    if args.iou_type not in ("both", *there):
        raise UserError(f"--iou-type {args.iou_type}: the network has no such branch; expected {' or '.join(there)}")
    results = None if args.coco_results is None else ResultsFile.of_dataset(args.coco_results, subject.dataset)
    report = evaluate_split(
        subject.model,
        subject.dataset,
        method=args.method or "voc10",
        iou_types=kinds,
        class_ids=subject.class_ids,
        skip_bad=args.skip_bad,
        progress=not args.quiet,
        learned_from=subject.learned_from,
        with_coco=args.method != "coco",
        on_image=None if results is None else results.add,
        ranks=ranks,
    )
    if not ranks.first:
        return 0
    report.notes += never_taught(report, subject.untaught)
    for kind in report.evaluations:
        print(f"{kind}\n{report.table(kind)}\n")
    if report.counts is not None:
        print(f"what detect finds\n{report.counts.table()}\n")
    for line in report.notes:
        print(line)
    for image_id, reason in report.skipped.items():
        print(f"skipped image {image_id}: {reason}", file=sys.stderr)
    if subject.out is not None:
        write_json(subject.out, {**subject.facts, "split": subject.split, **report.as_dict()})
        print(f"written to {subject.out}")
    if results is not None:
        results.write()
    return 0


def _of_run(args: argparse.Namespace) -> Subject:
    """Open what --run or --checkpoint names; unless options say otherwise, on the held-out images of the run."""
    refuse_options_of_weights(args)
    path = checkpoint_path(args)
    folder = path.parent
    chosen, split = images_of_run(args, folder)
    out = Path(args.out) if args.out else folder / f"eval-{split}.json"
    model, checkpoint = load_model(path, args.config or ())
    _prepare(out, args.coco_results)
    dataset = open_dataset(chosen, split, subset=args.subset, ids=args.ids)
    dataset = in_classes_of(dataset, checkpoint.class_names, f"split {split!r}", print)
    recorded = recorded_options(folder)
    own = (recorded.get("data"), recorded.get("root"), recorded.get("split", "train"))
    learned_from = (chosen.data, chosen.root, split) == own
    facts = _facts(path, checkpoint.step, args.config)
    return Subject(model, dataset, split, None, out, facts, learned_from, untaught_by(folder))


def _of_weights(args: argparse.Namespace) -> Subject:
    """Open what --weights names, and find its classes among those of --data by name."""
    options, split = images_named(args)
    path = Path(args.weights)
    model = of_weights(args)
    class_names = model.class_names
    if not class_names:
        raise UserError(
            f"{path} does not say what its {model.config.num_classes - 1} classes are; expected their names by "
            "--class-names NAMES"
        )
    out = Path(args.out) if args.out else None
    _prepare(out, args.coco_results)
    dataset = open_dataset(options, split, subset=args.subset, ids=args.ids)
    class_ids = _map_classes(class_names, dataset.class_names, path)
    facts = {"weights": str(path), "classes": {class_names[k]: dataset.class_names[i] for k, i in class_ids.items()}}
    lookup = np.array([class_ids.get(k, 0) for k in range(len(class_names))])
    return Subject(model, dataset, split, lookup, out, facts)


def _facts(path: Path, step: int, changed: list[str] | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"checkpoint": str(path), "step": step}
    return facts | ({"config": changed} if changed else {})


def _prepare(*paths: str | Path | None) -> None:
    """Raise ``UserError`` if a file that is asked for cannot be written."""
    for path in paths:
        if path is not None:
            prepare_file(Path(path))


def _map_classes(theirs: tuple[str, ...], ours: tuple[str, ...], path: Path) -> dict[int, int]:
    """Return our class for each of theirs that has one, and say which classes have no counterpart."""
    rows = class_rows(theirs, ours)
    found = {row: k for k, row in enumerate(rows) if row > 0}
    if not found:
        raise UserError(
            f"no class of {path} ({some_of(theirs[1:])}) has the name of one of the data set ({some_of(ours[1:])})"
        )
    print(f"{len(found)} of the data set's {len(ours) - 1} classes are among the {len(theirs) - 1} of {path}")
    missing = [name for name, row in zip(ours, rows) if row < 0]
    if missing:
        print(f"not in the weights, so never found (AP 0): {', '.join(missing)}")
    unused = [name for k, name in enumerate(theirs) if k > 0 and k not in found and name != "unused"]
    if unused:
        print(f"not in the data set, so left out: {some_of(unused)}")
    return found


# --- detections in a file ---------------------------------------------------------------------------------------------


def _measure_results(args: argparse.Namespace) -> int:
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
    lacking = any(r.keypoints is None for r in results)
    if args.iou_type == "keypoints" and (lacking or instances.pose is None):
        raise UserError(
            f"{args.results} has a detection without keypoints, or {instances.path} none; expected them in all"
        )
    if args.iou_type == "both" and results and not lacking:
        kinds.append("keypoints")
        if all(r.mask is None for r in results):
            kinds = [kind for kind in ("box", "keypoints") if kind != "box" or all(r.box for r in results)]
    if "mask" in kinds and any(r.mask is None for r in results):
        if args.iou_type == "mask":
            raise UserError(
                f"{args.results} has a detection without segmentation; expected masks in all, or --iou-type box"
            )
        kinds.remove("mask")
        print("there are detections without segmentation: boxes are compared, masks are not", file=sys.stderr)
    evaluations = {kind: evaluate_results(instances, results, iou_type=kind, area=args.area) for kind in kinds}
    for kind, evaluation in evaluations.items():
        print(f"{kind}\n{evaluation.table()}\n")
    _warn_of_empty(results, instances, args.results)
    if args.out:
        files = {"results": str(args.results), "ground_truth": str(instances.path)}
        write_json(Path(args.out), files | {kind: e.as_dict() for kind, e in evaluations.items()})
        print(f"written to {args.out}")
    return 0


def _warn_of_empty(results: list[Result], instances: Instances, path: str) -> None:
    """Say that many pictures have no detection: the results may be of a part of the pictures only."""
    found = {result.image_id for result in results}
    some = [i for i in instances.images if any(not one.crowd for one in instances.objects(i, masks=False))]
    empty = sum(image_id not in found for image_id in some)
    if empty > _EMPTY_SHARE * len(some):
        print(
            f"warning: {empty} of {len(some)} pictures of {instances.path} that have objects have no detection in "
            f"{path}: these objects count as missed; if the detections are of fewer pictures, measure them on the "
            "truth of the same ones, which `mrcnn-np data coco --ids FILE` writes",
            file=sys.stderr,
        )


def _ground_truth(args: argparse.Namespace) -> Instances:
    """Open the instances JSON that is given, or that of the COCO data set."""
    if args.ground_truth:
        if args.data or args.root or args.split:
            raise UserError("--ground-truth names the file itself; it does not go with --data, --root or --split")
        return Instances(args.ground_truth)
    recognise_data(args)
    if args.data not in (None, "coco"):
        raise UserError(f"--data {args.data} has no instances JSON; write one with `mrcnn-np data coco`, or use coco")
    dataset = open_data("coco", args.root, args.split or "val")
    assert isinstance(dataset, COCODataset)
    return dataset.instances
