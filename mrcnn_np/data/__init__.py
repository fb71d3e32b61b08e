"""Data sets: generated shapes and Pascal VOC, both read by the same loader."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .augment import augment
from .check import Report, check_dataset, describe
from .download import download_voc2012
from .images import read_image
from .sample import Dataset, Sample
from .shapes import SHAPES_CLASSES, generate
from .voc import VOC_CLASSES, VOCDataset, colour_map

__all__ = [
    "SHAPES_CLASSES",
    "VOC_CLASSES",
    "Dataset",
    "Report",
    "Sample",
    "VOCDataset",
    "augment",
    "check_dataset",
    "colour_map",
    "describe",
    "download_voc2012",
    "generate",
    "open_dataset",
    "read_image",
]


def open_dataset(
    kind: str,
    root: str | Path | None,
    split: str = "train",
    *,
    subset: int | None = None,
    ids: Sequence[str] | None = None,
) -> VOCDataset:
    """Open a data set by name.

    Parameters
    ----------
    kind : str
        ``"shapes"`` or ``"voc"``.
    root : path or None
        Where it is on disk; for VOC, None stands for the environment variable ``VOC_ROOT``.
    split : str
        ``"train"``, ``"val"`` or ``"trainval"``.
    subset, ids : optional
        See `VOCDataset`.

    Returns
    -------
    dataset : VOCDataset
        Shapes, too, are in VOC layout.

    Raises
    ------
    DataError
        The kind is unknown, the folder is missing (the message says how to get it), or as `VOCDataset`.
    """
    if kind not in ("shapes", "voc"):
        raise DataError(f"unknown data set {kind!r}; expected shapes or voc")
    if root is None and kind == "voc":
        root = os.environ.get("VOC_ROOT") or None
    if root is None or not Path(root).is_dir():
        where = "no folder is given" if root is None else "does not exist"
        if kind == "voc":
            advice = "set VOC_ROOT to the VOCdevkit folder, or run `mrcnn-np data voc --download`"
        else:
            advice = "run `mrcnn-np data shapes` to generate it"
        raise DataError(f"{where}; expected the {kind} data set: {advice}", path=root)
    names = VOC_CLASSES if kind == "voc" else SHAPES_CLASSES
    return VOCDataset(root, split, class_names=names, subset=subset, ids=ids)
