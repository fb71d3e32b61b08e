"""``mrcnn-np data``: generate, download, convert, draw, check or measure a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .. import data
from ..config import presets
from ..data.augment import augmented_as
from ..data.coco_json import dump_json, instances_of
from ..data.importing import write_as_coco
from ..data.joined import Joined
from ..data.opening import draws, find_root, has_split
from ..data.photographs import name_of
from ..data.sample import Dataset, for_training
from ..data.well_known import by_name, download_set
from ..errors import DataError, UserError
from ..files import atomic_write, prepare, prepare_file, write_json
from ..fit.small import small_objects
from ..pictures.instances import annotated_skeletons, draw_instances, truth_captions
from ..tables import counted, of_each_class
from .anchors import run_anchors
from .options import Options, read_ids, recognise_data
from .results_file import dataset_category_ids
from .train_config import make_config

SPLITS = ("train", "val", "test")
#: what `train` holds out where there is no split for it
_HELD_OUT = "--val-fraction 0.1"


def run_data(args: argparse.Namespace) -> int:
    """Run one of the commands."""
    commands = {
        "shapes": run_shapes, "voc": run_voc, "coco": run_coco, "check": run_check, "import": run_import,
        "show": run_show, "anchors": run_anchors, "get": run_get,
    }  # fmt: skip
    return commands[args.data_command](args)


def run_shapes(args: argparse.Namespace) -> int:
    """Generate the shapes."""
    root = data.generate(
        args.root, train=args.train, val=args.val, size=args.size, seed=args.seed, force=args.overwrite
    )
    print(f"shapes are in {root}: {args.train} images in train, {args.val} in val")
    return 0


def run_voc(args: argparse.Namespace) -> int:
    """Download VOC 2012."""
    if not args.download:
        raise UserError("nothing to do; --download fetches VOC 2012 (2 GB), `mrcnn-np data check --data voc` checks it")
    root = data.download_voc2012(args.root)
    print(f"VOC 2012 is in {root}; train with: mrcnn-np train --data voc --root {root}")
    return 0


def run_get(args: argparse.Namespace) -> int:
    """Download a small well-known data set."""
    chosen = by_name(args.name)
    root = download_set(args.name, args.root, url=args.url, known_hash=args.checksum, progress=not args.quiet)
    print(f"{chosen.what}: in {root}; terms: {chosen.terms}")
    print(f"train with: mrcnn-np train --data {root}")
    return 0


def run_coco(args: argparse.Namespace) -> int:
    """Write the ground truth of a split as an instances JSON."""
    out = Path(args.out)
    recognise_data(args)
    dataset = data.open_dataset(args.data, args.root, args.split, subset=args.subset, ids=read_ids(args.ids))
    prepare_file(out)
    content = instances_of(
        (dataset.load(i) for i in tqdm(range(len(dataset)), unit="image", disable=args.quiet)),
        ids=dataset.ids,
        class_names=dataset.class_names,
        category_ids=dataset_category_ids(dataset),
    )
    atomic_write(out, dump_json(content))
    objects, images = len(content["annotations"]), len(content["images"])
    print(f"{counted(objects, 'object')} in {counted(images, 'image')} written to {out}")
    return 0


def run_import(args: argparse.Namespace) -> int:
    """Write a data set of any format in COCO's, or several of them as one."""
    parts: dict[str, list[Any]] = {}
    for path in args.path:
        args.data, args.root = path, None
        if not recognise_data(args):
            args.root = str(find_root(args.data, None))
        splits = [args.split] if args.split else [s for s in SPLITS if has_split(args.data, args.root, s)] or ["train"]
        for split in splits:
            part = data.open_dataset(args.data, args.root, split, skip_bad=args.skip_bad)
            parts.setdefault(split, []).append(part)
    names = [name for of_split in parts.values() for part in of_split for name in part.class_names]
    several = len(args.path) > 1
    opened = {split: Joined(part, names) if several else part[0] for split, part in parts.items()}
    done = write_as_coco(
        opened,
        args.out,
        skip_bad=args.skip_bad,
        crowds_as_objects=args.crowds_as_objects,
        progress=lambda indices, split: tqdm(indices, unit="image", desc=split, disable=args.quiet),
    )
    for one in done:
        for reason in one.left_out:
            print(f"left out: {reason}", file=sys.stderr)
        if one.void:
            print(f"{one.void} images have void pixels, which COCO's format does not know; they are background now")
        if one.tightened:
            print(
                f"{one.tightened} boxes fitted their masks only with void pixels; they are those around the masks now"
            )
        written = Path(args.out) / "annotations" / f"instances_{one.split}.json"
        crowds = f", {one.crowds} of them {'crowds until now' if args.crowds_as_objects else 'crowds'}"
        print(f"{one.objects} objects{crowds if one.crowds else ''} in {one.images} images written to {written}")
    for dataset in opened.values():
        for line in dataset.notes.repeated():
            print(f"warning: {line}", file=sys.stderr)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Draw the first images of a split with their ground truth, and ways in which training may see them."""
    if args.augmented is None and (args.config or args.preset):
        raise UserError("--config and --preset say how images are augmented; expected --augmented with them")
    shown, args.subset = args.subset, None  # all are opened, which reads no picture, to know how many are left out
    dataset = _open_part(args)
    config = presets.by_name(args.preset or "tiny", num_classes=len(dataset.class_names))
    config = config.with_overrides(args.config or [])
    out = Path(args.out)
    prepare(out)
    for index in range(min(shown, len(dataset))):
        sample = dataset.load(index)
        _draw_truth(sample, dataset.class_names, out, "truth", args.outlines)
        rng = np.random.default_rng([args.seed, index])
        for way in range(1, 1 + (args.augmented or 0)):
            seen = augmented_as(for_training(sample), rng, config)
            _draw_truth(seen, dataset.class_names, out, f"augmented_{way}", args.outlines)
    if shown < len(dataset):
        print(f"{shown} of {len(dataset)} images; --subset N shows more")
    return 0


def _draw_truth(sample: data.Sample, class_names: tuple[str, ...], out: Path, what: str, outlines: bool) -> None:
    """Draw one image with its objects as ``ID_WHAT.png`` or ``ID_FILE_WHAT.png``, and say so."""
    name = name_of(sample)
    file = "" if name == sample.image_id else f"_{Path(sample.path).stem}"
    path = out / f"{sample.image_id.replace('/', '_')}{file}_{what}.png"
    title = f"{name}: {_number(sample)}"
    truth = (sample.gt_boxes, sample.gt_class_ids, sample.gt_masks)
    captions, skeletons = truth_captions(sample, class_names), annotated_skeletons(sample)
    more: dict[str, Any] = {"captions": captions, "skeletons": skeletons, "outlines": outlines}
    draw_instances(sample.image, *truth, class_names, title=title, path=path, **more)
    print(f"{name}: {_counted(sample, class_names)} -> {path}")


def _number(sample: data.Sample) -> str:
    crowds = int(sample.gt_crowd.sum())
    objects = counted(len(sample.gt_boxes) - crowds, "object")
    return f"{objects}, {counted(crowds, 'crowd')}" if crowds else objects


def _counted(sample: data.Sample, class_names: tuple[str, ...]) -> str:
    """Return how many objects and, apart from them, crowds there are of each class."""
    objects = of_each_class(sample.gt_class_ids[~sample.gt_crowd], class_names)
    crowds = of_each_class(sample.gt_class_ids[sample.gt_crowd], class_names)
    return ", ".join([*objects, *(f"{text} (crowd)" for text in crowds)]) or "nothing"


def run_check(args: argparse.Namespace) -> int:
    """Read every image of a split, compare it with the other splits, and report."""
    for path in (args.good_ids, args.json):
        if path is not None:
            prepare_file(Path(path))
    dataset = _open_part(args)
    config = make_config(Options(preset=args.preset, size=args.size), tuple(dataset.class_names))
    report = data.check_dataset(dataset, progress=_bar(f"check {args.split}", args))
    report.advice += small_objects(report, config)
    if args.subset is None and args.ids is None:
        if args.split == Options.split:
            report.advice += data.few_pictures(report)
        wrong, advice = data.compare_splits(report.overview, _other_splits(args))
        report.findings += wrong
        report.advice += advice
    print(data.describe(report))
    if args.json is not None:
        write_json(Path(args.json), {"split": args.split} | report.as_dict())
        print(f"all that was found, with every image, object and class that it concerns, is in {args.json}")
    elif not report.names_all:
        print("the lines above name only the first of what they concern; --json FILE names all of it")
    if args.good_ids is not None:
        bad = {*report.bad_ids, *report.spare_ids}
        good = "".join(f"{i}\n" for i in dataset.ids if i not in bad)
        atomic_write(Path(args.good_ids), good.encode(errors="surrogateescape"))  # an id may be a file's name
        spare = f" (copies left out: {len(report.spare_ids)})" if report.spare_ids else ""
        print(f"the ids of the images without problems are in {args.good_ids}, for --ids{spare}")
    return 0 if report.ok else 2


def _open_part(args: argparse.Namespace) -> Dataset:
    """Open what is to be looked at, and say how much it is if a share is held out by a draw."""
    recognise_data(args)
    fraction, ids = args.val_fraction or 0.0, read_ids(args.ids)
    try:
        dataset: Dataset = data.open_dataset(
            args.data, args.root, args.split, subset=args.subset, ids=ids, val_fraction=fraction
        )
    except DataError as error:
        there = [args.split != "val" or fraction, *(has_split(args.data, args.root, name) for name in ("val", "train"))]
        if there != [False, False, True]:
            raise
        raise DataError(f"{error}; {_HELD_OUT} takes a part of split 'train' for it, as `train` does") from error
    if args.split in ("train", "val") and draws(args.data, args.root, fraction):
        print(
            f"split {args.split!r}: {counted(len(dataset), 'image')}, drawn by a hash of their names "
            f"(--val-fraction {fraction:g}), as there is no split 'val'"
        )
    return dataset


def _other_splits(args: argparse.Namespace) -> list[data.Overview]:
    """Look at the splits that are there or drawn besides that which is checked."""
    drawn = draws(args.data, args.root, args.val_fraction or 0.0)
    others = []
    for split in SPLITS if args.split in SPLITS else ():
        if split == args.split or not ((drawn and split != "test") or has_split(args.data, args.root, split)):
            continue
        try:
            other = data.open_dataset(args.data, args.root, split, val_fraction=args.val_fraction or 0.0)
        except DataError as error:
            print(f"not compared with split {split!r}: {error}", file=sys.stderr)
            continue
        others.append(data.look_at(other, split, progress=_bar(f"compare with {split}", args)))
    return others


def _bar(text: str, args: argparse.Namespace) -> Callable[[Sequence[int]], Iterable[int]]:
    """Return a progress bar, which only a terminal is shown."""
    return partial(tqdm, desc=text, unit="image", disable=True if args.quiet else None)
