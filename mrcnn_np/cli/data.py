"""``mrcnn-np data shapes | voc | coco | check | anchors``: generate, download, convert, check or measure a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from .. import data
from ..data.coco_json import dump_json, instances_of
from ..errors import UserError
from ..files import atomic_write, prepare_file
from .anchors import run_anchors
from .options import read_ids
from .results_file import dataset_category_ids


def run_data(args: argparse.Namespace) -> int:
    """Run one of the commands."""
    commands = {"shapes": run_shapes, "voc": run_voc, "coco": run_coco, "check": run_check, "anchors": run_anchors}
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


def run_coco(args: argparse.Namespace) -> int:
    """Write the ground truth of a split as an instances JSON."""
    out = Path(args.out)
    dataset = data.open_dataset(args.data, args.root, args.split, subset=args.subset, ids=read_ids(args.ids))
    prepare_file(out)
    content = instances_of(
        (dataset.load(i) for i in tqdm(range(len(dataset)), unit="image", disable=args.quiet)),
        ids=dataset.ids,
        class_names=dataset.class_names,
        category_ids=dataset_category_ids(dataset),
    )
    atomic_write(out, dump_json(content))
    print(f"{len(content['annotations'])} objects in {len(content['images'])} images written to {out}")
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Read every image of a split and report."""
    dataset = data.open_dataset(
        args.data,
        args.root,
        args.split,
        subset=args.subset,
        ids=read_ids(args.ids),
    )
    if args.good_ids is not None:
        prepare_file(Path(args.good_ids))
    report = data.check_dataset(dataset)
    print(data.describe(report))
    if args.good_ids is not None:
        bad = set(report.bad_ids)
        good = "".join(f"{i}\n" for i in dataset.ids if i not in bad)
        atomic_write(Path(args.good_ids), good.encode(errors="surrogateescape"))  # an id may be a file's name
        print(f"the ids of the images without problems are in {args.good_ids} (for --ids)")
    return 0 if report.ok else 2
