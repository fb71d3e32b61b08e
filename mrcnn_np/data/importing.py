"""Write a data set of any format as a folder in COCO's, with copies of its photographs."""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..errors import DataError, UserError
from ..files import atomic_write, make_folder
from .coco import category_ids_of
from .coco_layout import name_parts
from .coco_writing import dump_json, instances_of
from .findings import far_apart
from .images import FORMATS, SUFFIXES, pillow_quiet
from .masks import Masks
from .sample import Dataset, Sample


class Imported(NamedTuple):
    """What was written of one split.

    Attributes
    ----------
    split : str
    images, objects : int
    void : int
        Images with pixels that nobody labelled, which COCO's format cannot say.
    left_out : list of str
        Why images are left out.
    tightened : int
        Objects of such images whose box fitted their mask only with those pixels: it is the box around the mask now.
    crowds : int
        Objects that were crowds.
    """

    split: str
    images: int
    objects: int
    void: int
    left_out: list[str]
    tightened: int
    crowds: int


def write_as_coco(
    splits: Mapping[str, Dataset],
    out: str | Path,
    *,
    skip_bad: bool = False,
    crowds_as_objects: bool = False,
    progress: Callable[[Iterable[int], str], Iterable[int]] = lambda indices, split: indices,
) -> list[Imported]:
    """Write splits as ``annotations/instances_SPLIT.json`` and ``images/SPLIT/``.

    Parameters
    ----------
    splits : mapping of str to Dataset
    out : path
        A folder that does not exist, or is empty.
    skip_bad : bool
        Leave out images that cannot be read.
    crowds_as_objects : bool
        Crowds become objects (``iscrowd`` 0): for tools that write every painted mask as one.
    progress : callable
        Takes the indices of a split and its name, and returns them, say with a bar.

    Returns
    -------
    imported : list of Imported

    Raises
    ------
    UserError
        There is something at ``out``, or it cannot be written; or a `DataError` of an image. Nothing is left behind.

    Notes
    -----
    Files are copied byte for byte. Everything is written beside ``out``, and gets its name when all is there.
    """
    out = Path(out).absolute()
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already; expected the name of a folder that is new or empty")
    make_folder(out.parent)
    partial = out.parent / f".mrcnn-np.{secrets.token_hex(8)}.partial"
    try:
        partial.mkdir()
        for folder in ("annotations", "images"):
            (partial / folder).mkdir()
        done = [_write(split, data, partial, skip_bad, crowds_as_objects, progress) for split, data in splits.items()]
        os.replace(partial, out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return done


def _write(
    split: str,
    dataset: Dataset,
    folder: Path,
    skip_bad: bool,
    crowds_as_objects: bool,
    progress: Callable[[Iterable[int], str], Iterable[int]],
) -> Imported:
    names: dict[str, str] = {}
    left_out: list[str] = []
    void = tightened = crowds = 0

    def samples() -> Iterator[Sample]:
        nonlocal void, tightened, crowds
        for index in progress(range(len(dataset)), split):
            try:
                sample = dataset.load(index)
            except DataError as error:
                if not skip_bad:
                    raise
                left_out.append(str(error))
                continue
            crowds += int(sample.gt_crowd.sum())
            if crowds_as_objects:
                sample = sample.replace(gt_crowd=np.zeros_like(sample.gt_crowd))
            names[sample.image_id] = _copy(dataset, index, sample, folder / "images" / split)
            if sample.void.any():
                void += 1
                sample, count = _tightened(sample)
                tightened += count
            yield sample

    content = instances_of(
        samples(),
        ids=dataset.ids,
        class_names=dataset.class_names,
        category_ids=getattr(dataset, "category_ids", None) or category_ids_of(dataset.class_names),
        file_names=names,
    )
    if not content["images"]:
        raise DataError(f"no image of the split {split!r} can be read; the first error: {left_out[0]}")
    atomic_write(folder / "annotations" / f"instances_{split}.json", dump_json(content))
    return Imported(split, len(content["images"]), len(content["annotations"]), void, left_out, tightened, crowds)


def _tightened(sample: Sample) -> tuple[Sample, int]:
    """Without its void pixels, a box that counted them as the object's would be wrong: take that around the mask."""
    masks = sample.gt_masks if isinstance(sample.gt_masks, Masks) else Masks.of_array(sample.gt_masks)
    tight = masks.boxes.astype(sample.gt_boxes.dtype)
    apart = (masks.areas > 0) & ~sample.gt_crowd & far_apart(sample.gt_boxes, tight)
    return sample.replace(gt_boxes=np.where(apart[:, None], tight, sample.gt_boxes)), int(apart.sum())


def _copy(dataset: Dataset, index: int, sample: Sample, folder: Path) -> str:
    """Copy a photograph below a folder, and return its name there: its id with the suffix of its format."""
    of_reader: Any = getattr(dataset, "picture", None)
    path, content = (Path(sample.path), None) if of_reader is None else of_reader(index)
    name_of: Any = getattr(dataset, "name_of", str)
    parts = name_parts(name_of(sample.image_id))
    suffix = path.suffix.lower() if path.suffix.lower() in SUFFIXES else _suffix(path, content)
    if not parts[-1].lower().endswith(SUFFIXES):
        parts[-1] += suffix
    to = folder.joinpath(*parts)
    if to.exists():
        raise DataError(f"and another image have the name {'/'.join(parts)}; expected one name each", path=sample.path)
    to.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        shutil.copyfile(path, to)
    else:
        to.write_bytes(content)
    return "/".join(parts)


def _suffix(path: Path, content: bytes | None) -> str:
    with (
        pillow_quiet(),
        Image.open(path if content is None else io.BytesIO(content), formats=tuple(FORMATS)) as picture,
    ):
        return FORMATS[picture.format or "PNG"][0]
