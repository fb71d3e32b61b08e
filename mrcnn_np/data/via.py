"""VIA, the VGG Image Annotator: one JSON for the photographs of a folder. matterport's balloons have this form.

Version 1 writes the regions of an image as an object with the keys "0", "1", ..., version 2 as a list, and a project
file of version 2 has the images below ``_via_img_metadata``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..errors import DataError
from ..tables import counted, one_of
from .coco_layout import name_parts
from .fractions import are_fractions
from .json_values import is_number, is_text, kind_of, parse_json
from .listed import ONE_CLASS, Instance, ListedDataset, Picture, without_common_folder, without_suffix
from .outlines import ellipse, rectangle
from .rle import RLE
from .sample import Sample
from .segmentation import polygon
from .tree import Tree

_EXPECTED = "VIA's JSON with a filename and regions for each image"
#: which attribute of a region is its class, if it has several
_CLASS_KEYS = ("class", "label", "name", "type", "category", "object")
#: JSON files that are looked at to recognise the format, and those with "via" in their name
_LOOKED_AT = 20
#: values of an attribute that is not filled in
_NOTHING = ("", "undefined", "not_defined")


class Annotated(NamedTuple):
    """One image: the JSON in the tree that lists it, its file name there, and its regions."""

    json: str
    file_name: str
    regions: list[Any]


class VIA(ListedDataset[Annotated]):
    """The images of one split of VIA's JSON files; see `ListedDataset`.

    Polygons, rectangles, circles and ellipses are objects; a region that encloses nothing (polyline, point) is broken.
    The class of a region is the value of its attribute: the only one that regions have, or that which is called class,
    label, name, type, category or object. Where no region has any, all are of the class of ``classes.txt``, or
    "object".
    """

    @classmethod
    def recognise(cls, root: Path) -> str | None:
        """Say on what ground a folder, zip or JSON is taken for VIA's; None if it is not."""
        tree = cls._tree(root)
        names = _json_files(tree)
        for name in dict.fromkeys([*names[:_LOOKED_AT], *(name for name in names if "via" in name.lower())]):
            if _is_via(tree.read(name)):
                return f"{name} has a filename and regions for each image"
        return None

    @staticmethod
    def _tree(root: Path) -> Tree:
        return Tree(root, only=root.name) if root.is_file() and root.suffix.lower() == ".json" else Tree(root)

    def _list(self) -> dict[str, Annotated]:
        found: dict[str, Annotated] = {}
        source: dict[str, str] = {}
        for name in _json_files(self.tree):
            if _is_via(content := self.tree.read(name)):
                self._add(name, content, found, source)
        if not found:
            raise DataError(f"holds no image of VIA; expected {_EXPECTED}", path=self.root)
        return {short: found[name] for short, name in without_common_folder(found).items()}

    def _add(self, name: str, content: bytes, found: dict[str, Annotated], source: dict[str, str]) -> None:
        """Add what one JSON lists."""
        path, folder = self.tree.path(name), str(PurePosixPath(name).parent)
        if source.setdefault(folder, name) != name:
            raise DataError(
                f"and {Path(source[folder]).name} both list images of one folder; expected one JSON in it, or its name "
                "as the data set",
                path=path,
            )
        document = parse_json(content, path, _EXPECTED)
        images = document.get("_via_img_metadata", document) if isinstance(document, dict) else document
        if not isinstance(images, dict):
            raise DataError(f"holds {kind_of(images)}; expected {_EXPECTED}", path=path)
        for key, image in images.items():
            file_name = image.get("filename") if isinstance(image, dict) else None
            if not isinstance(file_name, str) or not file_name.strip("/\\. ") or not is_text(file_name):
                raise DataError(f"has no filename in {key!r:.80}; expected {_EXPECTED}", path=path)
            regions = image.get("regions") or []
            regions = list(regions.values()) if isinstance(regions, dict) else regions
            if not isinstance(regions, list):
                raise DataError(f"image {file_name} has regions of type {kind_of(regions)}; expected a list", path=path)
            whole = str(PurePosixPath(folder, *name_parts(file_name)))
            image_id = without_suffix(whole)
            image_id = whole if image_id in found else image_id
            if image_id in found:
                raise DataError(f"lists image {file_name} twice; expected every image once", path=path)
            found[image_id] = Annotated(name, file_name, regions)

    # --- classes ---

    def _classes(self) -> tuple[str, ...]:
        attributes = [_attributes(region) for entry in self._entries.values() for region in entry.regions]
        keys = {key for filled in attributes for key in filled}
        self._key = _class_key(keys, self.root)
        names = self._listed_classes()
        if self._key is None:
            if names is not None and len(names) != 2:
                raise DataError(
                    f"lists {len(names) - 1} classes, and no region says which it is; expected one", path=self.root
                )
            return names or ("background", ONE_CLASS)
        found = {filled[self._key] for filled in attributes if self._key in filled}
        return names or ("background", *sorted(found))

    def _class_of(self, region: dict[str, Any]) -> int:
        if self._key is None:
            return 1
        label = _attributes(region).get(self._key)
        if label is None:
            raise ValueError(f"has no attribute {self._key!r}; expected its class, as the other regions have")
        if label not in self.class_names[1:]:
            raise ValueError(f"({label:.60}) {self._not_listed(label)}")
        return self.class_names.index(label)

    def classes_in(self, index: int) -> set[int]:
        """Return the classes of one image's regions, without reading the image."""
        found = set()
        for region in self._entry(index).regions:
            with suppress(ValueError):  # loading says what is wrong
                found.add(self._class_of(region))
        return found

    # --- one image ---

    def picture(self, index: int) -> Picture:
        """Return the photograph of an image as it lies on disk."""
        entry = self._entry(index)
        folder, parts = PurePosixPath(entry.json).parent, name_parts(entry.file_name)
        places = [folder.joinpath(*parts), folder / parts[-1], folder / "images" / parts[-1], folder.parent / parts[-1]]
        places += [folder.parent / "images" / parts[-1], PurePosixPath(*parts)]
        if not hasattr(self, "_files"):
            self._files = set(self.tree.names)
        for place in map(str, places):
            if place in self._files:
                return Picture(self.tree.path(place), self.tree.content(place))
        raise DataError(
            f"lists the image {entry.file_name!r:.80}, which is not there; expected it beside the JSON, or in images/",
            path=self.tree.path(entry.json),
            image_id=self.ids[index],
        )

    def load(self, index: int) -> Sample:
        """Read one image with its instances; anything wrong with its files is a ``DataError`` that names them."""
        image = self._image(index)
        size = (image.shape[0], image.shape[1])
        return self._sample(index, self._objects(index, size), size=size, image=image)

    def _objects(self, index: int, size: tuple[int, int]) -> Iterator[Instance]:
        entry = self._entry(index)
        path = self.tree.path(entry.json)
        for number, region in enumerate(entry.regions, start=1):
            where = f"region {number} of image {entry.file_name}"
            try:
                if not isinstance(region, dict):
                    raise ValueError(f"is {kind_of(region)}; expected an object with shape_attributes")
                rle, class_id = _drawn(region.get("shape_attributes"), size), self._class_of(region)
            except (ValueError, OverflowError) as error:
                self._bad(DataError(f"{where} {error}", path=path, image_id=self.ids[index]))
                continue
            numbers = _numbers(region["shape_attributes"])
            yield Instance(f"{path}: {where}", class_id, rle, fractions=are_fractions(numbers, size))


def _json_files(tree: Tree) -> list[str]:
    return [name for name in tree.names if name.lower().endswith(".json")]


def _is_via(content: bytes) -> bool:
    """Say whether a JSON is one of VIA's, without parsing it."""
    return all(re.search(rb'"%b"\s*:' % key, content) for key in (b"filename", b"regions"))


def _attributes(region: Any) -> dict[str, str]:
    """Return what is filled in of a region's attributes; of a checkbox the one that is checked."""
    given = region.get("region_attributes") if isinstance(region, dict) else None
    filled: dict[str, str] = {}
    for key, value in given.items() if isinstance(given, dict) else ():
        if isinstance(value, dict):
            checked = [name for name, on in value.items() if on in (True, "true")]
            value = checked[0] if len(checked) == 1 else ""
        text = str(value).strip() if isinstance(value, str | int | float) else ""
        if text not in _NOTHING and is_text(text):
            filled[key] = text
    return filled


def _class_key(keys: set[str], root: Path) -> str | None:
    """Return which attribute is the class; None if there is none."""
    if len(keys) <= 1:
        return next(iter(keys), None)
    named = [key for wanted in _CLASS_KEYS for key in sorted(keys) if key.lower() == wanted]
    if not named:
        raise DataError(
            f"has regions with the attributes {', '.join(sorted(keys)[:8])}; expected one of them to be called class, "
            "as it cannot be told which it is",
            path=root,
        )
    return named[0]


def _numbers(shape: dict[str, Any]) -> list[float]:
    """Return the coordinates of a region, without the angle of an ellipse."""
    given = [v for key, v in shape.items() if key != "theta"]
    return [float(v) for value in given for v in (value if isinstance(value, list) else [value]) if is_number(v)]


def _drawn(shape: Any, size: tuple[int, int]) -> RLE:
    """Draw a region; what is wrong with it is a ``ValueError``."""
    if not isinstance(shape, dict):
        raise ValueError(f"has the shape {kind_of(shape)}; expected an object with its name and coordinates")
    kind = str(shape.get("name"))
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not (isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys) and all(map(is_number, xs + ys))):
            raise ValueError("has no all_points_x and all_points_y of one length; expected the corners of a polygon")
        if len(xs) < 3:
            raise ValueError(f"is a polygon of {counted(len(xs), 'point')}; expected three or more")
        return polygon([v for p in zip(xs, ys) for v in p], size)
    keys = {"rect": ("x", "y", "width", "height"), "circle": ("cx", "cy", "r"), "ellipse": ("cx", "cy", "rx", "ry")}
    if kind not in keys:
        raise ValueError(f"is {one_of(kind[:40])}, which encloses no area; expected polygon, rect, circle or ellipse")
    values = [shape.get(key) for key in keys[kind]]
    if not all(map(is_number, values)) or min(v for v in values[2:] if is_number(v)) < 0:
        raise ValueError(f"is {one_of(kind)} with {', '.join(keys[kind])} = {values!r:.60}; expected numbers of pixels")
    x, y, *rest = (float(v) for v in values if is_number(v))
    if kind == "rect":
        return rectangle(x, y, x + rest[0], y + rest[1], size)
    turned = shape.get("theta") or 0.0
    return ellipse(x, y, rest[0], rest[-1], size, turned=turned if is_number(turned) else float("nan"))
