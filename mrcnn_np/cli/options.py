"""What decides the course of a training run: its options, which the run remembers, and the data that they name."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .. import data
from ..config.presets import PRESETS
from ..data import formats
from ..data.opening import has_split
from ..data.sample import Dataset
from ..data.shapes import SHAPES_ROOT
from ..data.to_correct import uncorrected
from ..errors import UserError, did_you_mean
from ..files import did_you_mean_path, read_json
from ..schema import OneOf, Optional
from ..tables import counted
from ..training.run_folder import CHECKPOINT, OPTIONS
from ..weights.place import of_run

_COUNT, _TEXT = (range(1, 2**63), None), (str, None)
_OPTIONS = {
    "data": OneOf(*formats.names()), "root": _TEXT, "split": str, "val_split": str,
    "preset": (OneOf(*PRESETS), None), "weights": _TEXT, "class_names": _TEXT, "freeze": str, "config": [str],
    "steps": (range(2**63), None), "minutes": (float, None), "batch_size": _COUNT, "size": _COUNT, "seed": range(2**63),
    "val_fraction": float, "subset": _COUNT, "val_subset": _COUNT, "ids": _TEXT, "skip_bad": bool,
    "checkpoint_every": range(1, 2**63), "backend": (OneOf("numpy", "cpu", "cuda"), None), "threads": _COUNT,
    "vector": _COUNT, "eval_every": _COUNT, "eval_splits": str, "no_eval": bool, "no_pictures": bool,
    "tensorboard": bool, "processes": _COUNT,
}  # fmt: skip
#: what ``options.json`` holds; older runs lack some
SCHEMA = {name: Optional(schema) for name, schema in _OPTIONS.items()}


@dataclass(frozen=True)
class Options:
    """What decides a run's course, as given on the command line; kept in ``options.json`` so that --resume knows it.

    ``val_fraction`` is 0 if nothing is drawn. ``minutes`` is what ``steps`` was planned from.

    ``backend``, ``threads`` and ``vector`` are what the run was started on (``backend.Machine``), asked for or not;
    ``processes`` is how many shared it, None for one.
    """

    data: str = "shapes"
    root: str | None = None
    split: str = "train"
    val_split: str = "val"
    preset: str | None = None
    weights: str | None = None
    class_names: str | None = None
    freeze: str = ""
    config: tuple[str, ...] = ()
    steps: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    size: int | None = None
    seed: int = 0
    subset: int | None = None
    val_subset: int | None = None
    ids: str | None = None
    val_fraction: float = 0.0
    skip_bad: bool = False
    checkpoint_every: int = 50
    eval_every: int | None = None
    eval_splits: str = "val"
    no_eval: bool = False
    no_pictures: bool = False
    tensorboard: bool = False
    backend: str | None = None
    threads: int | None = None
    vector: int | None = None
    processes: int | None = None

    @classmethod
    def merge(cls, recorded: Mapping[str, Any], given: argparse.Namespace) -> Options:
        """Take what is given on the command line, else what was recorded, else the default."""
        names = [f.name for f in fields(cls)]
        values = {name: recorded[name] for name in names if name in recorded}
        values |= {name: getattr(given, name) for name in names if getattr(given, name, None) is not None}
        if getattr(given, "weights", None) is not None:
            values["weights"] = str(of_run(given.weights))  # a run keeps the file that it began with, not a folder
        # what is given now comes after what the run was started with: it changes that, and need not repeat it
        config = [*recorded.get("config", ()), *(getattr(given, "config", None) or ())]
        values["config"] = tuple(reversed(dict.fromkeys(reversed(config))))
        if getattr(given, "eval_splits", None) is not None and given.no_eval is None:
            values["no_eval"] = False  # a run that was started without is evaluated now
        return cls(**values)

    @property
    def place(self) -> str | None:
        """Where the images are; the shapes have a place of their own, if none is named."""
        return SHAPES_ROOT if self.data == "shapes" and self.root is None else self.root

    def absolute(self) -> Options:
        """Return the options with whole paths, so that the same files are found from any folder and any terminal."""
        config = tuple(text if "=" in text else str(Path(text).absolute()) for text in self.config)
        root = self.place or os.environ.get(formats.by_name(self.data).variable) or None
        return replace(
            self, root=_absolute(root), weights=_absolute(self.weights), ids=_absolute(self.ids), config=config
        )


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def recorded_options(folder: Path) -> dict[str, Any]:
    """Return the options of the run in a folder; {} if none are recorded."""
    path = folder / OPTIONS
    if not os.path.lexists(path):
        return {}
    values: dict[str, Any] = read_json(path, SCHEMA)
    return values


def require_run(args: argparse.Namespace, folder: Path, recorded: dict[str, Any]) -> None:
    """Raise ``UserError`` if a run is to go on that is not there, and nothing says what else to train on.

    With ``--data`` the same line begins a run and goes on with it, as ``make train`` does; but not where the folder's
    name was made up and there is a run on the same data of another name, which may be meant.

    Parameters
    ----------
    args : Namespace
        The command line of ``train``.
    folder : Path
        Where the run should be.
    recorded : dict
        Its options; empty if there are none.
    """
    told = args.data is not None or args.root is not None
    if not args.resume or recorded or (folder / CHECKPOINT).exists():
        return
    near = folder.parent.iterdir() if folder.parent.is_dir() else ()
    runs = [path.name for path in near if (path / CHECKPOINT).exists()]
    if told:
        given = Options(data=args.data or Options.data, root=args.root).absolute()
        others = [folder.parent / name for name in sorted(runs)] if args.out is None else []
        for other in others:
            begun = recorded_options(other)
            if (begun.get("data"), begun.get("root")) == (given.data, given.root):
                raise UserError(
                    f"--resume: there is no run in {folder}, but there is {other} on the same data; to go on with it "
                    f"add --out {other}, to begin a new one leave --resume out"
                )
        return
    hint = did_you_mean(folder.name, runs)
    raise UserError(
        f"--resume: there is no run in {folder}{hint or '; expected the folder of one'} "
        "(to begin one, say what to train on with --data)"
    )


def open_dataset(options: Options, split: str, *, subset: int | None, ids: str | None) -> Dataset:
    """Open the data set; the shapes are generated the first time.

    Parameters
    ----------
    options : Options
        Which data set, and where it is.
    split : str
    subset : int, optional
        The first so many images only.
    ids : str, optional
        A file with the ids of the images to take.
    """
    root = options.place
    if options.data == "shapes" and root is not None and not Path(root).exists():
        print(f"generating shapes in {root}", file=sys.stderr)
        data.generate(root)
    dataset: Dataset = data.open_dataset(
        options.data,
        root,
        split,
        subset=subset,
        ids=read_ids(ids),
        skip_bad=options.skip_bad,
        val_fraction=options.val_fraction,
        val_of=options.split,
    )
    return dataset


def images_of_run(args: argparse.Namespace, folder: Path) -> tuple[Options, str]:
    """Return which images a run is looked at on, and the split: those that it held out, unless options say otherwise.

    Parameters
    ----------
    args : argparse.Namespace
        ``data``, ``root``, ``split`` as given; a path becomes the name of a format and its root.
    folder : Path
        The run's, with its ``options.json``.
    """
    recorded = recorded_options(folder)
    # the recorded root is no use for other data
    is_path = recognise_data(args)
    same_data = args.data is None or args.data == recorded.get("data")
    chosen = Options.merge({k: recorded[k] for k in ("data", "root") if k in recorded and same_data}, args)
    if same_data and (not is_path or Path(args.root).absolute() == Path(recorded.get("root") or "")):
        # what is drawn is drawn of the split that was trained on
        drawn = {k: recorded[k] for k in ("val_fraction", "split") if k in recorded}
        chosen = replace(chosen, **{"val_fraction": 0.0, "split": "train", **drawn})
    split = args.split or recorded.get("val_split", "val")
    return chosen, split if args.split or not is_path else _split_there(chosen, split)


def images_named(args: argparse.Namespace) -> tuple[Options, str]:
    """Return which images --data and --root name for weights that are of no run, and the split."""
    if args.data is None:
        raise UserError(
            "--weights does not say which images to look at; expected --data shapes, voc or coco, or a path"
        )
    is_path = recognise_data(args)
    options = Options.merge({}, argparse.Namespace(data=args.data, root=args.root))
    return options, args.split or (_split_there(options, "val") if is_path else "val")


def _split_there(options: Options, split: str) -> str:
    """Return the split to look at of data that has perhaps none: all of it then."""
    if options.val_fraction or has_split(options.data, options.root, split):
        return split
    print(f"measured on all images, as there is no split {split!r}")
    return "train"


def recognise_data(args: argparse.Namespace) -> bool:
    """Where --data is a path, find out what is there and say it; return whether it is one.

    Afterwards ``args.data`` is the name of a format and ``args.root`` the path.
    """
    if args.data is None or args.data in formats.names():
        return False
    if args.root is not None:
        raise UserError(
            f"--data {args.data} is a path, and --root names another; expected --data PATH alone, or --data with "
            f"one of {', '.join(formats.names())}"
        )
    found = data.recognise(args.data)
    print(f"{args.data}: {found.what}, because {found.ground}", flush=True)
    same, written = uncorrected(args.data, labelme=found.kind == "labelme")
    if same:
        print(
            f"warning: {same} of the {counted(written, 'annotation')} in {args.data} that `detect` wrote are as it "
            "wrote them: a network that learns from them repeats what was found, and AP measured on them is too good",
            file=sys.stderr,
        )
    args.data, args.root = found.kind, args.data
    return True


def read_ids(path: str | None) -> list[str] | None:
    """Read image ids from a text file, one on each line; None without a file."""
    if path is None:
        return None
    try:
        lines = Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
        return [line.strip() for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        meant = did_you_mean_path(path) if isinstance(error, FileNotFoundError) else ""
        raise UserError(
            f"cannot read the image ids in {path}: {reason}; expected a text file with one id on each line, as "
            f"`mrcnn-np data check --good-ids FILE` writes it{meant}"
        ) from error
