"""Detections as folders that are corrected by hand and read again: labelme's JSON files, label images.

The reverse of ``labelme.py`` and ``label_images.py``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..detections import Detections
from ..errors import DataError, UserError
from ..files import json_bytes, prepare, read_bytes
from .given import GivenFile
from .images import MAX_PIXELS, SUFFIXES
from .json_values import parse_json
from .tracing import polygons_of, without_specks
from .tree import Tree
from .voc_labels import VOID
from .written import WrittenFiles

#: a digest of the shapes that were written, in a field that labelme keeps when it saves
MARK = "mrcnn_np_wrote"
#: bytes of a picture that is copied: more than the largest, uncompressed
_MOST_BYTES = 16 * MAX_PIXELS
_EXPECTED = "expected the name of a folder that is new or empty"


class FolderToCorrect:
    """A folder with a copy of each picture and what was found in it.

    Parameters
    ----------
    folder : path
        New, empty, or as an earlier detection left it, to which pictures are added, and those of the same content are
        written once more: what was corrected there is not overwritten.
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
    ends : str
        How the names of its annotations end.
    earlier : dict of str to str
        The pictures of an earlier detection that this one has not come across yet, by their names without suffix.

    Raises
    ------
    UserError
        The folder holds something that no detection wrote, or that was changed since, or other classes; or it cannot
        be written. Of ``add``, too: another picture of that name is there.
    """

    why_hidden = program = beside = ends = ""

    def __init__(self, folder: str | Path, class_names: tuple[str, ...]) -> None:
        self.folder, self.class_names = Path(folder), class_names
        self.hidden_in: dict[str, int] = {}
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise UserError(f"{folder} is no folder; {_EXPECTED}")
        self._files = WrittenFiles(self.folder)
        names = self._listed()
        classes = "".join(f"{name}\n" for name in names).encode(errors="backslashreplace")
        self.earlier = {Path(n).stem: n for n in self._files.names if self._is_picture(n)}
        against = self._files.changed() or self._of_others(classes)
        if against:
            raise UserError(f"{folder} is there already, and {against}; {_EXPECTED}")
        prepare(self.folder)
        if names:
            self._files.write("classes.txt", classes)

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

    def _of_others(self, classes: bytes) -> str:
        """Say why what an earlier detection left cannot be added to; empty if it can."""
        ends = ".json" if any(name.endswith(".json") for name in self._files.names) else "_mask.png"
        if any(name.endswith(ends) for name in self._files.names) and ends != self.ends:
            return "it is not of this option's format"
        listed = "classes.txt" in self._files.names
        if self.earlier and (listed != bool(classes) or (listed and not self._files.same("classes.txt", classes))):
            return "a network of other classes wrote it"
        return ""

    def _is_picture(self, name: str) -> bool:
        """Say whether a file of ours is the copy of a picture."""
        return name.lower().endswith(SUFFIXES)

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
        copy = f"{name}{suffix}"
        before = self.earlier.pop(name, None)
        if before is not None and (before != copy or not self._files.same(copy, content)):
            raise UserError(f"{self.folder / before} is a copy of another picture than {file.path}; {_EXPECTED}")
        self._files.write(copy, content)
        return copy


class LabelmeFolder(FolderToCorrect):
    """labelme's JSON beside each picture; an object is a polygon, or several of one ``group_id``."""

    why_hidden = "their masks are empty, only their boxes are there"
    program, beside, ends = "labelme", "labelme files", ".json"

    def _write(self, name: str, file: GivenFile, frame: int | None, image: np.ndarray, found: Detections) -> int:
        picture = self._copy(name, file, frame, image)
        self._files.write(f"{name}.json", json_bytes(labelme_document(found, self.class_names, picture)))
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
        ``shapes`` with their label, points, and the score as their description; and under ``MARK`` a digest of them.
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
        "imageHeight": int(height), "imageWidth": int(width), MARK: _digest(shapes),
    }  # fmt: skip


class LabelImageFolder(FolderToCorrect):
    """Beside each picture ``NAME_image`` a PNG ``NAME_mask`` whose pixels are the numbers of objects, the best on top.

    Label images say no classes: objects of several classes become objects of one.
    """

    def _listed(self) -> tuple[str, ...]:
        return self.class_names[1:] if len(self.class_names) == 2 else ()

    def _is_picture(self, name: str) -> bool:
        return Path(name).stem.endswith("_image")

    why_hidden = "better detections cover them, or their masks are empty"
    program, ends = "a program that paints label images", "_mask.png"

    def _write(self, name: str, file: GivenFile, frame: int | None, image: np.ndarray, found: Detections) -> int:
        self._copy(f"{name}_image", file, frame, image)
        numbers = numbered(found)
        # 255, and in 16 bits 65535, stand for pixels that nobody labelled
        depth = np.uint8 if len(found) < VOID else np.uint16
        self._files.write(f"{name}_mask.png", _png(numbers.astype(depth)))
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


def uncorrected(folder: str | Path, *, labelme: bool = False) -> tuple[int, int]:
    """Return how many annotations in a folder are still as ``detect`` wrote them, and how many it wrote in all.

    Parameters
    ----------
    folder : path
        As ``detect`` left it, by its record; a data set without one holds none.
    labelme : bool
        It is a folder, zip or file of labelme's, whose JSON files say so themselves, wherever they were copied to.
    """
    ends = (LabelmeFolder.ends, LabelImageFolder.ends)
    same, every = set[str](), set[str]()
    with suppress(UserError):
        files = WrittenFiles(Path(folder))
        same, every = set(files.as_written(ends)), {name for name in files.names if name.endswith(ends)}
    for name, mark, shapes in _marked(Path(folder)) if labelme else ():
        every.add(name)
        same |= {name} if mark == _digest(shapes) else set()
    return len(same), len(every)


def _marked(root: Path) -> Iterator[tuple[str, object, object]]:
    """Yield the JSON files that have a mark: name, mark and shapes. What cannot be read is left to the reader."""
    with suppress(DataError):
        tree = Tree(root, only=root.name if root.is_file() and root.suffix.lower() == ".json" else None)
        for name in (name for name in tree.names if name.lower().endswith(".json")):
            with suppress(DataError):
                content = tree.read(name)
                document = parse_json(content, tree.path(name), "JSON") if MARK.encode() in content else None
                if isinstance(document, dict) and MARK in document:
                    yield name, document[MARK], document.get("shapes")


def _digest(shapes: object) -> str:
    """Return a digest of what a user may correct in shapes; labelme adds other fields when it saves."""
    kept = ("label", "points", "group_id", "shape_type")
    listed = shapes if isinstance(shapes, list) else []
    rows = [[shape.get(k) for k in kept] if isinstance(shape, dict) else shape for shape in listed]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
