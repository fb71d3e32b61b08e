"""Annotation files of Pascal VOC: one XML file per image, one ``<object>`` per instance."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError


@dataclass(frozen=True)
class VOCObject:
    """One ``<object>`` of an annotation file.

    Attributes
    ----------
    name : str
        The class.
    box : tuple of 4 floats
        ``(y1, x1, y2, x2)`` in pixels, half-open: VOC's 1-based inclusive ``xmin .. xmax`` is ``[xmin - 1, xmax)``.
    truncated : bool
        Part of the object lies outside the box (cut off by the image's edge, or hidden).
    difficult : bool
        Evaluation neither demands nor punishes the object.
    """

    name: str
    box: tuple[float, float, float, float]
    truncated: bool = False
    difficult: bool = False

    def moved(self, by: tuple[int, int]) -> VOCObject:
        """Return the object with ``by[0]`` added to its first coordinates and ``by[1]`` to its last."""
        y1, x1, y2, x2 = self.box
        return replace(self, box=(y1 + by[0], x1 + by[0], y2 + by[1], x2 + by[1]))


def read_annotation(path: str | Path, *, image_id: str | None = None) -> list[VOCObject]:
    """Read the objects of a VOC annotation file.

    Raises
    ------
    DataError
        The file is missing or no XML, or an object lacks its name or box, or the box is empty (x2 <= x1).
    """

    def fail(error: DataError) -> None:
        raise error

    return [obj for obj in read_objects(path, image_id=image_id, on_error=fail) if obj is not None]


def read_objects(
    path: str | Path, *, image_id: str | None, on_error: Callable[[DataError], None]
) -> list[VOCObject | None]:
    """Read the objects of a VOC annotation file, None for those that are broken.

    Parameters
    ----------
    path : path
    image_id : str, optional
        For messages.
    on_error : callable
        Takes the error of each broken object; it may raise it.

    Raises
    ------
    DataError
        The file is missing or no XML.
    """
    if not Path(path).is_file():
        raise DataError("does not exist; expected the XML annotation of the image", path=path, image_id=image_id)
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise DataError(f"is not well-formed XML ({error})", path=path, image_id=image_id) from error
    if root.tag != "annotation":
        raise DataError(f"has the root element <{root.tag}>; expected <annotation>", path=path, image_id=image_id)
    # Only direct children: a person's <part>s have names and boxes of their own.
    found: list[VOCObject | None] = []
    for number, element in enumerate(root.findall("object"), start=1):
        try:
            found.append(_object(element, number, path, image_id))
        except DataError as error:
            on_error(error)
            found.append(None)
    return found


def _object(element: ElementTree.Element, number: int, path: str | Path, image_id: str | None) -> VOCObject:
    """Read one ``<object>`` element."""

    def error(message: str) -> DataError:
        return DataError(message, path=path, image_id=image_id)

    name = (element.findtext("name") or "").strip()
    if not name:
        raise error(f"object {number} of image {image_id} has no <name>; expected its class")
    corner: dict[str, float] = {}
    for key in ("xmin", "ymin", "xmax", "ymax"):
        text = (element.findtext(f"bndbox/{key}") or "").strip()
        try:
            corner[key] = float(text)
        except ValueError:
            corner[key] = math.nan
        if not math.isfinite(corner[key]):
            raise error(f"box {number} of image {image_id} has {key} {text or 'missing'!r}; expected a number")
    for axis in ("x", "y"):
        first, last = corner[axis + "min"], corner[axis + "max"]
        if last < first:
            raise error(empty_box_message(number, image_id, axis, first, last))
    flags = {}
    for key in ("truncated", "difficult"):
        text = (element.findtext(key) or "0").strip()
        if text not in ("0", "1"):
            raise error(f"object {number} of image {image_id} has {key} {text!r}; expected 0 or 1")
        flags[key] = text == "1"
    box = (corner["ymin"] - 1, corner["xmin"] - 1, corner["ymax"], corner["xmax"])
    return VOCObject(name, box, **flags)


def empty_box_message(number: int, image_id: str | None, axis: str, first: float, last: float) -> str:
    """Return the message for a box without extent.

    Parameters
    ----------
    number : int
        Of the object in its file, from 1.
    image_id : str or None
    axis : {"x", "y"}
    first, last : float
        Its coordinates as the file has them, counted from 1.
    """
    return (
        f"box {number} of image {image_id} has {axis}2 <= {axis}1 ({axis}1={first:g}, {axis}2={last:g}); "
        f"expected {axis}1 < {axis}2"
    )
