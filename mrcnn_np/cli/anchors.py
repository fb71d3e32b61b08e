"""``mrcnn-np data anchors``: how a preset, or the configuration of a run, fits the objects of a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

import kernels

from ..files import prepare, write_json
from ..fit import measure
from ..pictures.fit import save_fit
from .network import config_of_run, folder_of_run
from .options import Options, open_dataset, recognise_data, recorded_options
from .train_config import make_config

REPORT, PICTURE = "anchors.json", "anchors.png"


def run_anchors(args: argparse.Namespace) -> int:
    """Measure, print the table, and write it with its picture."""
    run = folder_of_run(args.run) if args.run else None
    base = None if run is None else config_of_run(run)
    recorded = {} if run is None else recorded_options(run)
    recognise_data(args)
    same_data = args.data is None or args.data == recorded.get("data")
    known = {k: v for k, v in recorded.items() if k in ("data", "root", "split", "val_fraction") and same_data}
    options = Options.merge(known, args)
    out = Path(args.out)
    prepare(out)
    dataset = open_dataset(options, options.split, subset=args.subset, ids=args.ids)
    config = make_config(options, tuple(dataset.class_names), base)
    with kernels.use("numpy"):  # compiling the kernels would take longer than all of this
        report = measure(dataset, config, progress=not args.quiet)
    print(report.table())
    write_json(out / REPORT, report.as_dict())
    picture = save_fit(out / PICTURE, report)
    print(f"\nwritten to {out / REPORT}; picture: {picture}")
    return 0
