"""Coordinates that are fractions of the image, as some tools write them, where pixels are expected."""

from __future__ import annotations

from collections.abc import Iterable

#: how far outside 0 .. 1 a fraction may lie: tools round, and draw a little across the edge
_TOLERANCE = 0.05
#: in an image whose longer side is no more than so many pixels, a coordinate may well be 0.5
_FEW = 8

REMEDY = "expected pixels: multiply x by the image's width and y by its height"


def are_fractions(numbers: Iterable[float], size: tuple[int, ...]) -> bool:
    """Say whether the coordinates of one object look like fractions of the image.

    They do if all lie within 0 .. 1 and one of them is not whole: the object would be as small as a pixel in the
    corner. An object that truly is one stands among others that are not.

    Parameters
    ----------
    numbers : iterable of float
        Of its outline or its box, in any order.
    size : tuple of int
        (H, W) of the image.
    """
    if max(size[:2]) <= _FEW:
        return False
    some = False
    for number in numbers:
        if not -_TOLERANCE <= number <= 1 + _TOLERANCE:
            return False
        some = some or number != int(number)
    return some
