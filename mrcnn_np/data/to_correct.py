"""Detections as folders that are corrected by hand and read again: labelme's JSON files, label images.

The reverse of ``labelme.py`` and ``label_images.py``.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..detections import Detections
from ..errors import DataError, UserError
from ..files import atomic_write, prepare, read_bytes, write_json, write_text
from .given import GivenFile
from .images import MAX_PIXELS, SUFFIXES
from .tracing import polygons_of, without_specks
from .voc_labels import VOID

#: bytes of a picture that is copied: more than the largest, uncompressed
_MOST_BYTES = 16 * MAX_PIXELS


class FolderToCorrect:
    """A new folder with a copy of each picture and what was found in it.

    Parameters
    ----------
    folder : path
        New or empty: what was corrected there is not overwritten.
    class_names : tuple of str
        Background first.

    Attributes
    ----------
    hidden_in : dict of str to int
        Pictures with detections that have no pixel of their own, which the format cannot say, and how many each.
    why_hidden : str
        What it means to have no pixel.
    program : str
        With what the folder is corrected.
    beside : str
        What it may be copied beside and trained on with; empty where numbers or classes would get mixed up.

    Raises
    ------
    UserError
        The folder holds something, or cannot be written.
    """

    why_hidden = program = beside = ""

    def __init__(self, folder: str | Path, class_names: tuple[str, ...]) -> None:
        self.folder, self.class_names = Path(folder), class_names
        self.hidden_in: dict[str, int] = {}
        if os.path.lexists(self.folder) and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UserError(f"{folder} is there already; expected the name of a folder that is new or empty")
        prepare(self.folder)
        names = self._listed()
        if names:
            write_text(self.folder / "classes.txt", "".join(f"{name}\n" for name in names))

    @property
    def hidden(self) -> int:
        """Return the detections without a pixel of their own."""
        return sum(self.hidden_in.values())

    def _listed(self) -> tuple[str, ...]:
        """Return what ``classes.txt`` lists, so that classes keep their numbers, also those that were not found."""
        return self.class_names[1:]

    def add(self, name: str, file: GivenFile, frame: int | None, image: np.ndarray, found: Detections) -> None:
        """Write one picture and what was found in it.

        Parameters
        ----------
        name : str
            What the files are called, without suffix; of each picture another.
        file : GivenFile
            Where the picture came from. It is copied byte for byte; a frame becomes a PNG.
        frame : int or None
        image : ndarray of shape (H, W, 3), uint8
        found : Detections
        """
        hidden = self._write(_as_text(name), file, frame, image, found)
        if hidden:
            self.hidden_in[name] = hidden

    def _write(self, name: str, file: GivenFile, frame: int | None, image: np.ndarray, found: Detections) -> int:
        """Write one picture; return how many detections have no pixel of their own."""
        raise NotImplementedError

    def _copy(self, name: str, file: GivenFile, frame: int | None, image: np.ndarray) -> str:
        suffix = file.path.suffix.lower()
        if frame is None and suffix in SUFFIXES:
            content = file.content()
            content = read_bytes(file.path, most=_MOST_BYTES) if content is None else content
        else:
            suffix, content = ".png", _png(image)
        atomic_write(self.folder / f"{name}{suffix}", content)
        return f"{name}{suffix}"


class LabelmeFolder(FolderToCorrect):
    """labelme's JSON beside each picture; an object is a polygon, or several of one ``group_id``."""

    why_hidden = "their masks are empty, only their boxes are there"
    program, beside = "labelme", "labelme files"

    def _write(self, name: str, file: GivenFile, frame: int | None, image: np.ndarray, found: Detections) -> int:
        picture = self._copy(name, file, frame, image)
        write_json(self.folder / f"{name}.json", labelme_document(found, self.class_names, picture))
        return int((~found.masks.any(axis=(1, 2))).sum())


def labelme_document(found: Detections, class_names: tuple[str, ...], picture: str) -> dict[str, Any]:
    """Return what labelme saves for one picture.

    Parameters
    ----------
    found : Detections
        The masks become polygons, of few corners (`polygons_of`), without specks (`without_specks`). One without a
        pixel is left out.
    class_names : tuple of str
        Background first.
    picture : str
        The path of the picture from the JSON on.

    Returns
    -------
    dict
        ``shapes`` with their label, points, and the score as their description.
    """
    shapes: list[dict[str, Any]] = []
    for number, (class_id, score, mask) in enumerate(zip(found.class_ids, found.scores, found.masks), start=1):
        polygons = polygons_of(without_specks(mask))
        shapes += [
            {
                "label": class_names[int(class_id)],
                "points": [[float(x), float(y)] for x, y in points],
                "group_id": number if len(polygons) > 1 else None,
                "description": f"score {float(score):.3f}",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for points in polygons
        ]
    height, width = found.masks.shape[1:]
    return {
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": picture, "imageData": None,
        "imageHeight": int(height), "imageWidth": int(width),
    }  # fmt: skip


class LabelImageFolder(FolderToCorrect):
    """Beside each picture ``NAME_image`` a PNG ``NAME_mask`` whose pixels are the numbers of objects, the best on top.

    Label images say no classes: objects of several classes become objects of one.
    """

    def _listed(self) -> tuple[str, ...]:
        return self.class_names[1:] if len(self.class_names) == 2 else ()

    why_hidden = "better detections cover them, or their masks are empty"
    program = "a program that paints label images"

    def _write(self, name: str, file: GivenFile, frame: int | None, image: np.ndarray, found: Detections) -> int:
        self._copy(f"{name}_image", file, frame, image)
        numbers = numbered(found)
        # 255, and in 16 bits 65535, stand for pixels that nobody labelled
        depth = np.uint8 if len(found) < VOID else np.uint16
        atomic_write(self.folder / f"{name}_mask.png", _png(numbers.astype(depth)))
        return len(found) - len(np.unique(numbers[numbers > 0]))


def numbered(found: Detections) -> np.ndarray:
    """Return an image of the detections' numbers.

    Parameters
    ----------
    found : Detections

    Returns
    -------
    ndarray of shape (H, W), uint8, or uint16 where there are more than 255
        0 is background, n detection n, counted from 1; where masks overlap, the better score is on top.

    Raises
    ------
    DataError
        There are more than 16 bits can number.
    """
    if len(found) >= 65535:
        raise DataError(f"{len(found)} detections in one image; expected less than 65535, as many as 16 bits number")
    numbers = np.zeros(found.masks.shape[1:], np.uint8 if len(found) < 256 else np.uint16)
    for number in range(len(found), 0, -1):  # best last, so that it lies on top
        numbers[found.masks[number - 1]] = number
    return numbers


def _png(array: np.ndarray) -> bytes:
    png = io.BytesIO()
    Image.fromarray(array).save(png, format="png")
    return png.getvalue()


def _as_text(name: str) -> str:
    """Return a name that JSON and labelme can say, for one that is no text (Linux's names are bytes)."""
    return name.encode(errors="backslashreplace").decode().replace("\\", "_")
