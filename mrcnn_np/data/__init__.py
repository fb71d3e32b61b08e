"""Data sets: generated shapes, Pascal VOC, and COCO's format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .augment import augment
from .check import Report, check_dataset, describe
from .coco import COCO_CATEGORIES, COCODataset
from .download import download_voc2012
from .findings import require_teachable
from .images import read_image
from .sample import Dataset, Sample
from .shapes import SHAPES_CLASSES, generate
from .voc import VOC_CLASSES, VOCDataset, colour_map

__all__ = [
    "COCO_CATEGORIES",
    "SHAPES_CLASSES",
    "VOC_CLASSES",
    "COCODataset",
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
    "require_teachable",
]


#: where a data set is, if no folder is given
ROOT_VARIABLES = {"voc": "VOC_ROOT", "coco": "COCO_ROOT"}
_ADVICE = {
    "shapes": "run `mrcnn-np data shapes` to generate it",
    "voc": "set VOC_ROOT to the VOCdevkit folder, or run `mrcnn-np data voc --download`",
    "coco": "set COCO_ROOT to the folder that holds annotations/ and the images",
}


def open_dataset(
    kind: str,
    root: str | Path | None,
    split: str = "train",
    *,
    subset: int | None = None,
    ids: Sequence[str] | None = None,
    skip_bad: bool = False,
) -> VOCDataset | COCODataset:
    """Open a data set by name.

    Parameters
    ----------
    kind : str
        ``"shapes"``, ``"voc"`` or ``"coco"``.
    root : path or None
        Where it is on disk, for ``"coco"`` also the JSON itself; None stands for the environment variable
        ``VOC_ROOT`` or ``COCO_ROOT``.
    split : str
        ``"train"``, ``"val"``, ...
    subset, ids, skip_bad : optional
        See `VOCDataset`.

    Returns
    -------
    dataset : VOCDataset or COCODataset
        Shapes are in VOC layout.

    Raises
    ------
    DataError
        The kind is unknown, the folder is missing (the message says how to get it), or as `VOCDataset` or
        `COCODataset`.
    """
    if kind not in _ADVICE:
        raise DataError(f"unknown data set {kind!r}; expected {', '.join(_ADVICE)}")
    if root is None and kind in ROOT_VARIABLES:
        root = os.environ.get(ROOT_VARIABLES[kind]) or None
    if root is None or not (Path(root).is_dir() or (kind == "coco" and Path(root).is_file())):
        where = "no folder is given" if root is None else "does not exist"
        raise DataError(f"{where}; expected the {kind} data set: {_ADVICE[kind]}", path=root)
    if kind == "coco":
        return COCODataset(root, split, subset=subset, ids=ids, skip_bad=skip_bad)
    names = SHAPES_CLASSES if kind == "shapes" else None
    return VOCDataset(root, split, class_names=names, subset=subset, ids=ids, skip_bad=skip_bad)
