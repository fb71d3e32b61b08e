"""Shapes: a generated data set of circles, squares and triangles, written in the layout of Pascal VOC.

It needs no download, and because it is read by the same loader as the real data set, training on it exercises the
whole path from files to losses.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError
from .scene import SHAPES_CLASSES, Scene, draw_scene
from .voc import VOID, colour_map

SHAPES_ROOT = "datasets/shapes"  # where they are, if nobody says
_STAMP = "shapes.json"
_VERSION = 1  # of the drawing: raise it when the same seed gives other images


def generate(
    root: str | Path, *, train: int = 1000, val: int = 200, size: int = 128, seed: int = 0, force: bool = False
) -> Path:
    """Write a data set of generated images in VOC layout, unless it is already there.

    Parameters
    ----------
    root : path
        The folder to create; it then contains ``VOC2012`` and the stamp ``shapes.json``.
    train, val : int
        Number of images of each split, at least 1.
    size : int
        Side of the square images in pixels, at least 32.
    seed : int
        Image i of a split depends only on the seed, the split, i and ``size``: a longer data set begins with the
        images of a shorter one.
    force : bool
        Replace a data set that was generated with other arguments.

    Returns
    -------
    root : Path

    Raises
    ------
    DataError
        ``root`` holds something else, or shapes of other arguments and ``force`` is not given; or it is not writable.

    Notes
    -----
    Everything is written into a folder beside ``root`` that is renamed at the end. A data set that an interruption cut
    short is therefore never taken for a whole one.
    """
    root = Path(root)
    arguments = {"train": train, "val": val, "size": size, "seed": seed}
    for name, least in (("train", 1), ("val", 1), ("size", 32), ("seed", 0)):
        if arguments[name] < least:
            raise DataError(f"{name} is {arguments[name]}; expected at least {least}", path=root)
    stamp = arguments | {"version": _VERSION}
    if _already_there(root, stamp, force):
        return root
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(root)
        partial = Path(tempfile.mkdtemp(prefix=_partial_prefix(root), dir=root.parent))
        try:
            _write_voc(partial / "VOC2012", arguments)
            (partial / _STAMP).write_text(json.dumps(stamp, indent=2) + "\n")
            partial.chmod(0o755)  # mkdtemp's 0o700 would hide the data set from other users
            _put_in_place(partial, root, stamp)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(f"cannot be written ({error})", path=root) from error
    return root


def is_generated(root: Path) -> bool:
    """Say whether a folder holds a data set that ``generate`` wrote."""
    return (root / _STAMP).is_file()


def _already_there(root: Path, stamp: dict[str, int], force: bool) -> bool:
    """Say whether ``root`` holds the wanted data set; refuse if it holds something that must not be replaced."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / _STAMP).read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"exists and is no shapes data set (no {_STAMP}); choose another folder, nothing was changed", path=root
        ) from error
    if found == stamp:
        return True
    if not force:
        raise DataError(f"holds shapes generated with {found}; expected {stamp} (force replaces them)", path=root)
    return False


def _partial_prefix(root: Path) -> str:
    return f".{root.name}.partial-"


def _remove_stale(root: Path) -> None:
    """Remove what killed runs left behind; a younger folder may belong to a run that is still writing."""
    for leftover in root.parent.glob(_partial_prefix(root) + "*"):
        with contextlib.suppress(FileNotFoundError):  # its owner may be renaming it just now
            if time.time() - leftover.stat().st_mtime > 3600:
                shutil.rmtree(leftover, ignore_errors=True)


def _put_in_place(partial: Path, root: Path, stamp: dict[str, int]) -> None:
    """Rename the finished folder to its name, away with an older data set (`_already_there` has allowed that)."""
    if (root / _STAMP).exists():
        old = Path(tempfile.mkdtemp(prefix=_partial_prefix(root), dir=root.parent))
        root.rename(old / "old")
        partial.rename(root)
        shutil.rmtree(old)
        return
    try:
        partial.rename(root)
    except OSError:
        # Another process may have finished the same data set first.
        if not _already_there(root, stamp, force=False):
            raise


def _write_voc(folder: Path, arguments: dict[str, int]) -> None:
    """Write images, annotations, masks and splits."""
    for name in ("JPEGImages", "Annotations", "SegmentationObject", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    everything: list[str] = []
    for number, split in enumerate(("train", "val")):
        ids = [f"{split}_{i:06d}" for i in range(arguments[split])]
        for i, image_id in enumerate(ids):
            rng = np.random.default_rng([arguments["seed"], number, i])
            _write_scene(folder, image_id, draw_scene(arguments["size"], rng))
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{i}\n" for i in ids))
        everything += ids
    (folder / "ImageSets" / "Segmentation" / "trainval.txt").write_text("".join(f"{i}\n" for i in everything))


def _write_scene(folder: Path, image_id: str, scene: Scene) -> None:
    """Write the files of one image."""
    Image.fromarray(scene.image).save(folder / "JPEGImages" / f"{image_id}.jpg", quality=95)
    class_of = np.zeros(256, dtype=np.uint8)
    class_of[1 : len(scene.class_ids) + 1] = scene.class_ids
    class_of[VOID] = VOID
    _save_indices(scene.indices, folder / "SegmentationObject" / f"{image_id}.png")
    _save_indices(class_of[scene.indices], folder / "SegmentationClass" / f"{image_id}.png")
    (folder / "Annotations" / f"{image_id}.xml").write_text(_annotation(image_id, scene))


def _save_indices(indices: np.ndarray, path: Path) -> None:
    """Save indices as a PNG with VOC's palette."""
    picture = Image.fromarray(indices)
    picture.putpalette(colour_map().tobytes())
    picture.save(path)


def _annotation(image_id: str, scene: Scene) -> str:
    """Return the XML of one image; boxes are the tight boxes of the visible masks, 1-based and inclusive."""
    height, width = scene.indices.shape
    lines = [
        "<annotation>",
        "\t<folder>VOC2012</folder>",
        f"\t<filename>{image_id}.jpg</filename>",
        f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        "\t<segmented>1</segmented>",
    ]
    for k, (class_id, truncated) in enumerate(zip(scene.class_ids, scene.truncated), start=1):
        rows, columns = np.nonzero(scene.indices == k)
        corners = {"xmin": columns.min(), "ymin": rows.min(), "xmax": columns.max(), "ymax": rows.max()}
        box = "".join(f"<{key}>{value + 1}</{key}>" for key, value in corners.items())
        lines += [
            "\t<object>",
            f"\t\t<name>{SHAPES_CLASSES[class_id]}</name>",
            f"\t\t<truncated>{int(truncated)}</truncated>",
            "\t\t<difficult>0</difficult>",
            f"\t\t<bndbox>{box}</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])
