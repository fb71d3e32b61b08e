"""labelme: beside each photograph a JSON with its shapes, drawn by hand."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..tables import counted, one_of
from .coco_layout import name_parts
from .fractions import are_fractions
from .images import SUFFIXES, read_silhouette
from .json_values import is_number, is_text, kind_of, number_of, parse_json
from .listed import Instance, ListedDataset, Picture, without_common_folder, without_suffix
from .masks import placed
from .outlines import ellipse, rectangle
from .rle import RLE, decode, merge
from .sample import Sample
from .segmentation import polygon
from .tree import Tree

_EXPECTED = "labelme's JSON with shapes and imagePath"
_IGNORED = "__ignore__"
_NOT_LABELME = "a JSON that is none of labelme's is left out"
_BROKEN = "a file that cannot be read is left out"
#: files that are looked at to recognise the format
_LOOKED_AT = 20
#: a photograph inside a JSON is not parsed to list the shapes
_IMAGE_DATA = re.compile(rb'"imageData"\s*:\s*"[^"]*"')


class Annotated(NamedTuple):
    """One JSON: its name in the tree, and the labels that occur in it."""

    name: str
    labels: tuple[str, ...]


class Labelme(ListedDataset[Annotated]):
    """The images of one split of a folder of labelme's JSON files; see `ListedDataset`.

    Polygons, rectangles, circles and masks are objects, and those with one ``group_id`` and one label are one object. A
    shape that encloses nothing (line, linestrip, point) is broken. Pixels of a shape ``__ignore__`` are void. Classes
    are those of ``classes.txt`` or ``labels.txt``, or all that occur, in alphabetical order. A photograph inside
    the JSON is preferred to one beside it, as labelme does.
    """

    @classmethod
    def recognise(cls, root: Path) -> str | None:
        """Say on what ground a folder, zip or JSON is taken for labelme's; None if it is not."""
        tree = cls._tree(root)
        names = [name for name in tree.names if name.lower().endswith(".json")]
        for name in names[:_LOOKED_AT]:
            content = tree.read(name)
            if b'"shapes"' in content and b'"imagePath"' in content:
                return f"{counted(len(names), 'JSON file')}, and {name} has shapes and imagePath"
        return None

    @staticmethod
    def _tree(root: Path) -> Tree:
        return Tree(root, only=root.name) if root.is_file() and root.suffix.lower() == ".json" else Tree(root)

    def _list(self) -> dict[str, Annotated]:
        found: dict[str, Annotated] = {}
        first: DataError | None = None
        for name in (name for name in self.tree.names if name.lower().endswith(".json")):
            path = self.tree.path(name)
            try:
                document = self._document(name, image=False)
            except DataError as error:
                first = first or error
                self.notes.add(_BROKEN, path)
                continue
            if document is None:
                self.notes.add(_NOT_LABELME, path)
                continue
            shapes = [shape for shape in document["shapes"] if isinstance(shape, dict)]
            labels = {str(shape["label"]).strip() for shape in shapes if isinstance(shape.get("label"), str)}
            found[without_suffix(name)] = Annotated(name, tuple(sorted(label for label in labels if is_text(label))))
        if first is not None and not self.skip_bad:
            raise first
        if not found:
            raise DataError(f"holds no JSON of labelme; expected {_EXPECTED} for each image", path=self.root)
        return {short: found[name] for short, name in without_common_folder(found).items()}

    def _document(self, name: str, *, image: bool) -> dict[str, Any] | None:
        """Read a JSON; None if it is not one of labelme's."""
        content, path = self.tree.read(name), self.tree.path(name)
        if not image:
            content = _IMAGE_DATA.sub(b'"imageData": null', content)
        document = parse_json(content, path, _EXPECTED)
        if not isinstance(document, dict) or "shapes" not in document:
            return None
        if not isinstance(document["shapes"], list):
            raise DataError(f"has shapes of type {kind_of(document['shapes'])}; expected a list", path=path)
        return document

    def _classes(self) -> tuple[str, ...]:
        names = self._listed_classes()
        if names is not None:
            return names
        found = {label for entry in self._entries.values() for label in entry.labels} - {_IGNORED, ""}
        if not found:
            raise DataError("names no class in any shape; expected at least one shape with a label", path=self.root)
        return ("background", *sorted(found))

    def classes_in(self, index: int) -> set[int]:
        """Return the classes of one image's shapes, without reading the image."""
        return {self.class_names.index(k) for k in self._entry(index).labels if k in self.class_names[1:]}

    # --- one image ---

    def picture(self, index: int) -> Picture:
        """Return the photograph of an image as it lies on disk."""
        name, image_id = self._entry(index).name, self.ids[index]
        return self._picture(self._whole(name, image=True), name, image_id)

    def _whole(self, name: str, *, image: bool) -> dict[str, Any]:
        document = self._document(name, image=image)
        if document is None:
            raise DataError(f"has no shapes any more; expected {_EXPECTED}", path=self.tree.path(name))
        return document

    def _picture(self, document: dict[str, Any], name: str, image_id: str) -> Picture:
        path = self.tree.path(name)
        data = document.get("imageData")
        if isinstance(data, str) and data:
            try:
                return Picture(path / "imageData", base64.b64decode(data, validate=True))
            except (binascii.Error, ValueError) as error:
                raise DataError(
                    f"has imageData that is no base64 ({error}); expected the image, or null",
                    path=path,
                    image_id=image_id,
                ) from error
        given = document.get("imagePath")
        places = _places(name, given if isinstance(given, str) else "")
        there = self._there()
        for place in places:
            if place in there:
                return Picture(self.tree.path(place), self.tree.content(place))
        raise DataError(
            f"has imagePath {given!r:.80} and no imageData, and there is no such image; expected it beside the JSON, "
            f"or in images/, within {self.root}",
            path=path,
            image_id=image_id,
        )

    def _there(self) -> set[str]:
        if not hasattr(self, "_files"):
            self._files = set(self.tree.names)
        return self._files

    def load(self, index: int) -> Sample:
        """Read one image with its instances; anything wrong with its files is a ``DataError`` that names them."""
        document, path = self._whole(self._entry(index).name, image=False), self.tree.path(self._entry(index).name)
        image = self._image(index)
        sides = document.get("imageHeight"), document.get("imageWidth")
        if sides == (None, None):
            size = image.shape[:2]
        else:
            size = number_of(sides[0]) or 0, number_of(sides[1]) or 0
            if min(size) < 1:
                raise DataError(
                    f"has imageHeight {sides[0]!r:.40} and imageWidth {sides[1]!r:.40}; expected pixels",
                    path=path,
                    image_id=self.ids[index],
                )
        void = np.zeros(size, bool) if size == image.shape[:2] else None
        objects = list(self._objects(document["shapes"], size, path, self.ids[index], void))
        return self._sample(index, objects, size=size, image=image, void=void)

    def _objects(
        self, shapes: list[Any], size: tuple[int, int], path: Path, image_id: str, void: np.ndarray | None
    ) -> Iterator[Instance]:
        """Yield the objects; shapes of one group and label are joined."""
        parts: dict[object, list[RLE]] = {}
        named: dict[object, tuple[str, int]] = {}
        fractions: dict[object, bool] = {}
        for number, shape in enumerate(shapes, start=1):
            where = f"shape {number}"
            try:
                label = _label(shape)
                where = f"shape {number} ({label})"
                rle = _drawn(shape, size)
                if label == _IGNORED:
                    if void is not None:
                        void |= decode(rle)
                    continue
                if label not in self.class_names[1:]:
                    raise ValueError(self._not_listed(label))
            except (ValueError, OverflowError) as error:
                self._bad(DataError(f"{where} {error}", path=path, image_id=image_id))
                continue
            group = shape.get("group_id")
            key: object = number if group is None else (str(group), label)
            parts.setdefault(key, []).append(rle)
            numbers = [v for p in shape["points"] for v in p]
            fractions[key] = fractions.get(key, True) and shape.get("mask") is None and are_fractions(numbers, size)
            named.setdefault(key, (f"{path}: {where}", self.class_names.index(label)))
        for key, rles in parts.items():
            yield Instance(*named[key], merge(rles), fractions=fractions[key])


def _places(name: str, given: str) -> list[str]:
    """Return where the photograph of a JSON may be, the likeliest first; never outside the data set."""
    folder = PurePosixPath(name).parent
    parts, found = name_parts(given), []
    if given:
        found = [folder.joinpath(*parts), folder / parts[-1], folder.parent.joinpath(*parts), PurePosixPath(*parts)]
        for base in (folder, folder.parent, PurePosixPath(".")):
            found += [base / "images" / parts[-1], base / "JPEGImages" / parts[-1], base / parts[-1]]
    stem = PurePosixPath(name).stem
    found += [folder / f"{stem}{suffix}" for suffix in SUFFIXES]
    return list(dict.fromkeys(map(str, found)))


def _label(shape: Any) -> str:
    if not isinstance(shape, dict):
        raise ValueError(f"is {kind_of(shape)}; expected an object with label, points and shape_type")
    label = shape.get("label")
    if not isinstance(label, str) or not label.strip() or not is_text(label):
        raise ValueError(f"has the label {label!r:.80}; expected the name of a class")
    return label.strip()


def _drawn(shape: dict[str, Any], size: tuple[int, int]) -> RLE:
    """Draw a shape; what is wrong with it is a ``ValueError``."""
    kind, points = str(shape.get("shape_type") or "polygon"), shape.get("points")
    if not isinstance(points, list) or not all(
        isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in points
    ):
        raise ValueError(f"has the points {points!r:.60}; expected a list of [x, y]")
    if kind == "polygon" or (kind == "rectangle" and len(points) == 4):
        if len(points) < 3:
            raise ValueError(f"is a polygon of {counted(len(points), 'point')}; expected three or more")
        return polygon([v for p in points for v in p], size)
    expected = {"rectangle": "two corners", "circle": "the centre and a point of the circle", "mask": "two corners"}
    if kind not in expected:
        raise ValueError(f"is {one_of(kind[:40])}, which encloses no area; expected polygon, rectangle, circle or mask")
    if len(points) != 2:
        raise ValueError(f"is {one_of(kind)} of {counted(len(points), 'point')}; expected {expected[kind]}")
    (x1, y1), (x2, y2) = points
    if kind == "rectangle":
        return rectangle(x1, y1, x2, y2, size)
    if kind == "circle":
        radius = math.hypot(x2 - x1, y2 - y1)
        return ellipse(x1, y1, radius, radius, size)
    return _mask(shape.get("mask"), (int(min(y1, y2)), int(min(x1, x2))), size)


def _mask(text: Any, corner: tuple[int, int], size: tuple[int, int]) -> RLE:
    """Read the PNG of a shape "mask", which lies with its left upper pixel at ``corner``."""
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
        pixels = read_silhouette("mask", content=content)
    except (binascii.Error, ValueError, DataError) as error:
        raise ValueError(f"has a mask that cannot be read ({error}); expected a PNG in base64") from error
    top, left = corner
    pixels = pixels[max(-top, 0) : max(size[0] - top, 0), max(-left, 0) : max(size[1] - left, 0)]
    return placed(pixels, (max(top, 0), max(left, 0)), size)
