"""Whether the objects of an XML file and the numbers in the image of masks belong together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import DataError, some_of
from .annotation import VOCObject, empty_box_message
from .fractions import REMEDY, are_fractions
from .masks import Masks
from .voc_labels import VOID
from .voc_layout import CLASSES


def check_numbers(
    labels: np.ndarray, masks: Masks, path: Path, xml_path: Path, image_id: str, bad: Callable[[DataError], None]
) -> None:
    """Demand that the numbers present are exactly 1 .. the number of objects.

    Parameters
    ----------
    labels : ndarray of shape (H, W)
        The number of each pixel's object, 0 for none.
    masks : Masks
        Those of the numbers 1, 2, ...
    path, xml_path : Path
        Of the image of numbers and of the XML file, for messages.
    image_id : str
    bad : callable
        Takes the error for each number or object that has no counterpart.
    """
    count = len(masks)
    surplus = np.unique(labels[(labels < 0) | (labels > count)])
    if len(surplus):
        bad(
            DataError(
                f"mask id {surplus[0]} of image {image_id} has no object: {xml_path.name} holds {count} object(s); "
                f"expected {f'ids 1 .. {count}, ' if count else ''}0 for background and {VOID} for void",
                path=path,
                image_id=image_id,
            )
        )
    for k in np.flatnonzero(masks.areas == 0):
        bad(
            DataError(
                f"object {k + 1} of image {image_id} has no pixel; {xml_path.name} holds {count} object(s), "
                f"expected the mask ids 1 .. {count}",
                path=path,
                image_id=image_id,
            )
        )


def check_object(
    number: int,
    obj: VOCObject,
    tight: np.ndarray,
    size: tuple[int, int],
    class_names: tuple[str, ...],
    path: Path,
    image_id: str,
) -> None:
    """Check one object against the class list, the image and its own mask.

    Parameters
    ----------
    number : int
        Of the object in its file, from 1.
    obj : VOCObject
    tight : ndarray of shape (4,)
        The tight box ``(y1, x1, y2, x2)`` of its mask.
    size : tuple of int
        (H, W) of the image.
    class_names : tuple of str
    path : Path
        The XML file, for messages.
    image_id : str
    """

    def error(message: str) -> DataError:
        return DataError(message, path=path, image_id=image_id)

    if obj.name not in class_names[1:]:
        known = some_of(class_names[1:], 40)
        raise error(
            f"object {number} of image {image_id} has the unknown class {obj.name!r}; expected one of {known} (a "
            f"data set of your own lists its classes in {path.parents[1] / CLASSES}, one on each line)"
        )
    y1, x1, y2, x2 = obj.box
    height, width = size
    if are_fractions((y1 + 1, x1 + 1, y2, x2), size):
        raise error(
            f"box {number} of image {image_id} has fractions of the image for coordinates (x {x1 + 1:g} .. {x2:g}, y "
            f"{y1 + 1:g} .. {y2:g}); {REMEDY}"
        )
    if y1 < 0 or x1 < 0 or y2 > height or x2 > width:
        raise error(
            f"box {number} of image {image_id} is outside the image (x {x1 + 1:g} .. {x2:g}, y {y1 + 1:g} .. {y2:g}); "
            f"expected x within 1 .. {width} and y within 1 .. {height}"
        )
    for axis, first, last, low, high in (("y", y1, y2, tight[0], tight[2]), ("x", x1, x2, tight[1], tight[3])):
        # xmin == xmax is one pixel; that is a slip of the pen unless the mask, too, is one pixel wide.
        if last - first <= 1 and high - low > 1:
            raise error(empty_box_message(number, image_id, axis, first + 1, last))
        if high <= first or low >= last:
            raise error(
                f"box {number} of image {image_id} ({axis} {first + 1:g} .. {last:g}) does not meet its mask "
                f"({axis} {low + 1} .. {high}); expected object k of the XML to be mask id k"
            )
