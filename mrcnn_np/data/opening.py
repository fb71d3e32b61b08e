"""Open a data set by the name of its format, or find out the format; draw what is held out where there is no split."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, printable, some_of
from ..files import did_you_mean_path
from .choice import choose_ids
from .formats import RECOGNISED, UNPACKED, Format, by_name, names
from .held_out import drawn
from .sample import Dataset
from .shapes import SHAPES_CLASSES, SHAPES_ROOT
from .unpacking import holds_annotations, unpacked


class Recognised(NamedTuple):
    """What a path was taken for: the name of the format, and on what ground."""

    kind: str
    what: str
    ground: str


def reader(form: Format) -> Any:
    """Import the class that reads a format."""
    module, _, name = form.reader.partition(".")
    return getattr(import_module(f".{module}", __package__), name)


def recognise(path: str | Path) -> Recognised:
    """Find out of which format a folder, a zip or a file is.

    Raises
    ------
    DataError
        It does not exist, or is of none or of several formats; the message says of which.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"is no folder, zip or JSON that exists, and no name of a data set; expected one of "
            f"{', '.join(names())}, or a path{did_you_mean_path(path, names())}",
            path=path,
        )
    if path.is_file() and path.suffix.lower() not in (".zip", ".json"):
        raise DataError("is a file; expected a folder, a zip, or a JSON of annotations", path=path)
    found = _taken_for(path)
    if not found and path.is_file() and holds_annotations(path):
        folder = unpacked(path)
        found = [one._replace(ground=f"{one.ground}; unpacked into {folder}") for one in _taken_for(folder)]
    if len(found) > 1:
        said = "; ".join(f"{one.what} ({one.ground})" for one in found)
        raise DataError(
            f"may be {said}. Say which: --data {' or --data '.join(one.kind for one in found)}, with --root", path=path
        )
    if not found:
        known = "; ".join(f"{form.name}, {form.what} ({form.layout})" for form in RECOGNISED)
        raise DataError(f"{printable(_contents(path))}; expected one of these: {known}", path=path)
    return found[0]


def _contents(path: Path) -> str:
    """Say what lies in a folder or a zip, at its top."""
    if path.is_dir():
        names = {p.name + "/" * p.is_dir() for p in path.iterdir()}
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                names = {name.partition("/")[0] + "/" * ("/" in name) for name in archive.namelist()}
        except (OSError, ValueError, zipfile.BadZipFile):
            return "holds something else"
    return f"holds {some_of(sorted(names), 5) or 'nothing'}"


def _taken_for(path: Path) -> list[Recognised]:
    """Return all formats that a path may be of."""
    found = []
    for form in RECOGNISED:
        if path.suffix.lower() == ".json" and path.is_file() and form.name not in ("coco", "labelme", "via"):
            continue
        ground = reader(form).recognise(path)
        if ground is not None:
            found.append(Recognised(form.name, form.what, printable(ground)))
    return found


def find_root(kind: str, root: str | Path | None) -> Path:
    """Return where a data set is: ``root``, or what its format's environment variable says; shapes have their place.

    A zip of a format that is not read inside zips is unpacked beside it, once.

    Raises
    ------
    DataError
        The kind is unknown, or there is nothing; the message says how to get it.
    """
    form = by_name(kind)
    given = root
    if root is None:
        given = SHAPES_ROOT if kind == "shapes" else os.environ.get(form.variable)
    path = Path(given) if given else None
    if path is not None and path.is_file() and path.suffix.lower() == ".zip" and kind in UNPACKED:
        return unpacked(path)
    if path is None or not (path.is_dir() or (kind not in ("shapes", "voc") and path.is_file())):
        where = "no folder is given" if path is None else "does not exist"
        meant = "" if path is None or path.exists() else did_you_mean_path(path)
        raise DataError(f"{where}; expected the {kind} data set: {form.advice}{meant}", path=path)
    return path


def open_dataset(
    kind: str | Path,
    root: str | Path | None = None,
    split: str = "train",
    *,
    subset: int | None = None,
    ids: Sequence[str] | None = None,
    skip_bad: bool = False,
    val_fraction: float = 0.0,
    val_of: str = "train",
) -> Any:
    """Open a data set by name, or by its path alone: then its format is found out, as by ``--data PATH``.

    Parameters
    ----------
    kind : str or path
        A name of ``formats.FORMATS``: ``"shapes"``, ``"voc"``, ``"coco"``, ``"dsb"``, ...; without ``root`` also the
        path of a folder, zip or JSON.
    root : path, optional
        Where it is on disk, for formats of one file also that file; None stands for the environment variable
        ``VOC_ROOT``, ``COCO_ROOT``, ``DSB_ROOT``, ...
    split : str
        ``"train"``, ``"val"``, ...
    subset, ids, skip_bad : optional
        See `VOCDataset`.
    val_fraction : float
        If there is no split "val", so much of ``val_of`` is it, and that is the rest; see `held_out.drawn`. 0: there is
        none then.
    val_of : str
        The split of which "val" is drawn.

    Returns
    -------
    dataset : Dataset
        Of the class that reads the format; shapes are in VOC layout.

    Raises
    ------
    DataError
        The kind is unknown, the folder is missing (the message says how to get it), a path is of no format or of
        several, or as the class says.
    """
    if root is None and str(kind) not in names():
        kind, root = recognise(kind).kind, kind
    kind = str(kind)
    path, form = find_root(kind, root), by_name(kind)
    options: dict[str, Any] = {"skip_bad": skip_bad}
    if kind == "shapes":
        options["class_names"] = SHAPES_CLASSES
    if split not in (val_of, "val") or not draws(kind, path, val_fraction):
        return reader(form)(path, split, subset=subset, ids=ids, **options)
    dataset = reader(form)(path, val_of, **options)
    held = drawn(image_names(dataset), val_fraction)
    part = [image_id for image_id, out in zip(dataset.ids, held) if out == (split == "val")]
    name_of = getattr(dataset, "name_of", None)
    dataset.ids, dataset.split = choose_ids(part, path, split, subset, ids, name_of=name_of), split
    return dataset


def draws(kind: str, root: str | Path | None, val_fraction: float) -> bool:
    """Say whether "val" is drawn, because it is to be held out and there is no such split.

    Parameters
    ----------
    kind : str
    root : path or None
    val_fraction : float
    """
    return val_fraction > 0 and not has_split(kind, root, "val")


def has_split(kind: str, root: str | Path | None, split: str) -> bool:
    """Say whether a data set has a split.

    Parameters
    ----------
    kind : str
    root : path or None
    split : str
    """
    found: bool = reader(by_name(kind)).has_split(find_root(kind, root), split)
    return found


def image_names(dataset: Dataset) -> list[str]:
    """Return the names of a data set's images: their ids, or where these are numbers those of their files."""
    name_of = getattr(dataset, "name_of", str)
    return [name_of(image_id) for image_id in dataset.ids]
