"""COCO's ``segmentation``: polygons, drawn pixel for pixel as pycocotools draws them, or run lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .rle import RLE, from_changes, from_text, merge, to_text

#: polygons are drawn on a grid this many times finer than the pixels
_FINER = 5
#: how far outside a polygon may reach, in sides of the image: the points drawn along an edge grow with its length
_REACH = 10


def polygon(points: Sequence[float] | np.ndarray, size: tuple[int, int]) -> RLE:
    """Draw a polygon, pixel for pixel as pycocotools does.

    Parameters
    ----------
    points : sequence of float
        ``x0, y0, x1, y1, ...`` in pixels; the left upper corner of the image is (0, 0). The last point is joined to the
        first. Of crossing outlines, what lies inside an even number of times is outside.
    size : tuple of int
        (H, W). What lies outside the image is cut off.

    Returns
    -------
    RLE
        Empty for a polygon that encloses nothing, as one of two points.

    Raises
    ------
    ValueError
        An odd number of coordinates, none, or one that is no pixel coordinate.

    Notes
    -----
    Corners are rounded to fifths of a pixel, and every edge is drawn on that grid, one grid point per grid column or
    row, whichever it crosses more of. Where the outline goes from one grid column to the next in the middle of a pixel
    column, inside and outside change places at the first pixel below: these positions, sorted, are where the runs begin
    and end, and two at one place cancel. Rounding is towards zero after adding 1/2, as a C cast does; it decides about
    pixels and is part of the definition.
    """
    xy = np.asarray(points, np.float64)
    if xy.ndim != 1 or len(xy) % 2 or not len(xy):
        count = len(xy) if xy.ndim == 1 else f"an array of shape {xy.shape}"
        raise ValueError(f"polygon has {count} coordinates; expected x and y of each point, an even number")
    strange = ~(np.abs(xy) <= _REACH * max(size) + 100)  # also true of NaN
    if strange.any():
        raise ValueError(f"polygon has the coordinate {xy[strange][0]}, far outside the image; expected pixels")
    corners = (_FINER * xy.reshape(-1, 2) + 0.5).astype(np.int64)
    u, v = _outline(corners)

    height, width = size
    left, right = u[:-1], u[1:]
    crossing = left != right
    column = (np.minimum(left, right)[crossing] + 0.5) / _FINER - 0.5
    row = (np.minimum(v[:-1], v[1:])[crossing] + 0.5) / _FINER - 0.5
    middle = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    row = np.ceil(np.clip(row[middle], 0, height)).astype(np.int64)
    places, times = np.unique(column[middle].astype(np.int64) * height + row, return_counts=True)
    return from_changes(size, places[(times % 2 == 1) & (places < height * width)])


def _outline(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the grid points (u, v) along all edges of a closed polygon with these corners (P, 2), edge after edge."""
    start, end = corners, np.roll(corners, -1, axis=0)
    along = np.abs(end - start)  # (P, 2): columns and rows that the edge crosses
    steep = along[:, 0] < along[:, 1]
    edges = np.arange(len(corners))
    axis = steep.astype(np.int64)  # the coordinate that advances by one per point
    # always drawn from the lower end, so that an edge and the same edge backwards are the same points
    backwards = start[edges, axis] > end[edges, axis]
    low, high = np.where(backwards[:, None], end, start), np.where(backwards[:, None], start, end)
    length = along[edges, axis]
    slope = (high - low)[edges, 1 - axis] / np.maximum(length, 1)

    points = length + 1
    edge = np.repeat(edges, points)
    t = np.arange(points.sum()) - np.repeat(np.cumsum(points) - points, points)
    t = np.where(backwards[edge], length[edge] - t, t)
    advancing = low[edge, axis[edge]] + t
    other = (low[edge, 1 - axis[edge]] + slope[edge] * t + 0.5).astype(np.int64)
    return np.where(steep[edge], other, advancing), np.where(steep[edge], advancing, other)


def from_coco(segmentation: object, size: tuple[int, int]) -> RLE:
    """Read a ``segmentation`` of COCO's JSON: polygons, or run lengths as a list of numbers or as text.

    Parameters
    ----------
    segmentation : object
        A list of polygons, whose union is the mask, or ``{"size": [H, W], "counts": ...}``. A polygon of two points
        encloses nothing (pycocotools takes its four numbers for x, y, width, height if it is the first).
    size : tuple of int
        (H, W) of the image.

    Raises
    ------
    ValueError
        It is none of these, or broken; the message says what was expected.
    """
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, size)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError(f"segmentation is {_short(segmentation)}; expected polygons, or an object of size and counts")
    stated, counts = segmentation["size"], segmentation["counts"]
    if stated != [*size] and stated != size:
        raise ValueError(f"RLE has the size {_short(stated)}; expected {[*size]}, height and width of the image")
    if isinstance(counts, str | bytes):
        return from_text(counts, size)
    if not isinstance(counts, list) or not all(type(n) is int and abs(n) < 1 << 62 for n in counts):
        raise ValueError(f"RLE has the counts {_short(counts)}; expected a list of whole numbers, or text")
    return RLE(size, np.array(counts, np.int64))


def _from_polygons(polygons: list, size: tuple[int, int]) -> RLE:
    if not polygons:
        raise ValueError("segmentation is an empty list; expected at least one polygon")
    drawn = []
    for number, points in enumerate(polygons, start=1):
        if not isinstance(points, list) or not all(type(v) in (int, float) for v in points):
            raise ValueError(f"polygon {number} is {_short(points)}; expected a list of coordinates x, y, x, y, ...")
        try:
            drawn.append(polygon(points, size))
        except OverflowError as error:  # a whole number that no float holds
            raise ValueError(f"polygon {number} has a coordinate of hundreds of digits; expected pixels") from error
        except ValueError as error:
            raise ValueError(str(error).replace("polygon", f"polygon {number}", 1)) from error
    return merge(drawn)


def to_coco(rle: RLE) -> dict[str, object]:
    """Return ``{"size": [H, W], "counts": text}`` for JSON."""
    return {"size": [int(side) for side in rle.size], "counts": to_text(rle)}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
