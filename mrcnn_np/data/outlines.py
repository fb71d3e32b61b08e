"""The outlines that annotation tools draw besides polygons, as polygons: rectangles, circles, ellipses."""

from __future__ import annotations

import math

import numpy as np

from .rle import RLE
from .segmentation import polygon

#: corners of a circle's polygon at least and at most; in between one for each pixel of its length
_CORNERS = (32, 4096)


def rectangle(x1: float, y1: float, x2: float, y2: float, size: tuple[int, int]) -> RLE:
    """Draw the rectangle between two corners, in any order.

    Parameters
    ----------
    x1, y1, x2, y2 : float
        Pixels; the left upper corner of the image is (0, 0).
    size : tuple of int
        (H, W) of the image.

    Raises
    ------
    ValueError
        As `polygon`.
    """
    return polygon([x1, y1, x2, y1, x2, y2, x1, y2], size)


def ellipse(x: float, y: float, rx: float, ry: float, size: tuple[int, int], *, turned: float = 0.0) -> RLE:
    """Draw an ellipse.

    Parameters
    ----------
    x, y : float
        Its centre in pixels.
    rx, ry : float
        Its radii.
    size : tuple of int
        (H, W) of the image.
    turned : float
        Radians by which the first radius is turned from the x axis towards the y axis.

    Raises
    ------
    ValueError
        A radius below 0, or as `polygon`.
    """
    if not (rx >= 0 and ry >= 0 and math.isfinite(turned)):
        raise ValueError(f"ellipse has the radii {rx:g} and {ry:g}; expected 0 or more")
    length = 2 * math.pi * max(rx, ry)
    corners = int(min(max(length, _CORNERS[0]), _CORNERS[1]))
    angle = 2 * math.pi * np.arange(corners) / corners
    u, v = rx * np.cos(angle), ry * np.sin(angle)
    cos, sin = math.cos(turned), math.sin(turned)
    return polygon(np.stack([x + cos * u - sin * v, y + sin * u + cos * v], axis=1).ravel(), size)
