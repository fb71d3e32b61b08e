"""What decides the course of a training run: its options, which the run remembers, and the data that they name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from .. import data
from ..data.sample import Dataset
from ..errors import UserError
from ..files import read_json
from ..training.run_folder import OPTIONS

SHAPES_ROOT = "datasets/shapes"


@dataclass(frozen=True)
class Options:
    """What decides a run's course, as given on the command line; kept in ``options.json`` so that --resume knows it."""

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
    batch_size: int | None = None
    size: int | None = None
    seed: int = 0
    subset: int | None = None
    val_subset: int | None = None
    ids: str | None = None
    skip_bad: bool = False
    checkpoint_every: int = 50

    @classmethod
    def merge(cls, recorded: Mapping[str, Any], given: argparse.Namespace) -> Options:
        """Take what is given on the command line, else what was recorded, else the default."""
        names = [f.name for f in fields(cls)]
        values = {name: recorded[name] for name in names if name in recorded}
        values |= {name: getattr(given, name) for name in names if getattr(given, name, None) is not None}
        values["config"] = tuple(values.get("config", ()))
        return cls(**values)

    def absolute(self) -> Options:
        """Return the options with whole paths, so that --resume finds the same files from any folder."""
        root = SHAPES_ROOT if self.data == "shapes" and self.root is None else self.root
        config = tuple(text if "=" in text else str(Path(text).absolute()) for text in self.config)
        return replace(
            self, root=_absolute(root), weights=_absolute(self.weights), ids=_absolute(self.ids), config=config
        )


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def recorded_options(folder: Path) -> dict[str, Any]:
    """Return the options of the run in a folder; {} if none are recorded."""
    path = folder / OPTIONS
    if not path.exists():
        return {}
    values, types = read_json(path), get_type_hints(Options) | {"config": list}
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}; expected a JSON object of options")
    for name, value in values.items():
        if name in types and not isinstance(value, types[name]):
            raise UserError(f"{path} has {name} {value!r}; expected {getattr(types[name], '__name__', types[name])}")
    return values


def open_dataset(options: Options, split: str, *, subset: int | None, ids: str | None) -> Dataset:
    """Open the data set; the shapes are generated the first time."""
    root = options.root
    if options.data == "shapes":
        root = root or SHAPES_ROOT
        if not Path(root).exists():
            print(f"generating shapes in {root}", file=sys.stderr)
            data.generate(root)
    return data.open_dataset(options.data, root, split, subset=subset, ids=read_ids(ids), skip_bad=options.skip_bad)


def read_ids(path: str | None) -> list[str] | None:
    """Read image ids from a text file, one on each line; None without a file."""
    if path is None:
        return None
    try:
        lines = Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
        return [line.strip() for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the image ids in {path}: {error}") from error
