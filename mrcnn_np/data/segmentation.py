"""COCO's ``segmentation``: polygons, drawn pixel for pixel as pycocotools draws them, or run lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .rle import RLE, from_changes, from_text, merge, to_text

#: polygons are drawn on a grid this many times finer than the pixels
_FINER = 5
#: how far outside a polygon may reach, in sides of the image
_REACH = 10
#: pixel columns that the edges of one polygon may cross, all together; a photograph's outline crosses some thousands
_MAX_CROSSINGS = 20_000_000
#: of these so many are worked on at a time
_BLOCK = 1 << 20


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
    and end, and two at one place cancel. Only these crossings are computed, and only in the image's columns. Rounding
    is towards zero after adding 1/2, as a C cast does; it decides about pixels and is part of the definition.
    """
    xy = np.asarray(points, np.float64)
    if xy.ndim != 1 or len(xy) % 2 or not len(xy):
        count = len(xy) if xy.ndim == 1 else f"an array of shape {xy.shape}"
        raise ValueError(f"polygon has {count} coordinates; expected x and y of each point, an even number")
    strange = ~(np.abs(xy) <= _REACH * max(size) + 100)  # also true of NaN
    if strange.any():
        raise ValueError(f"polygon has the coordinate {xy[strange][0]}, far outside the image; expected pixels")
    corners = (_FINER * xy.reshape(-1, 2) + 0.5).astype(np.int64)
    height, width = size
    edges = _Edges.of_polygon(corners)
    first, last = edges.columns(width)
    count = np.maximum(last - first + 1, 0)
    if count.sum() > _MAX_CROSSINGS:
        raise ValueError(f"polygon crosses {count.sum()} pixel columns; expected at most {_MAX_CROSSINGS}")
    places = np.zeros(0, np.int64)
    for block in _blocks(count):
        edge = np.repeat(block, count[block])
        column = np.arange(len(edge)) - np.repeat(np.cumsum(count[block]) - count[block], count[block]) + first[edge]
        row = (edges.rows(edge, column) + 0.5) / _FINER - 0.5
        row = np.ceil(np.clip(row, 0, height)).astype(np.int64)
        found, times = np.unique(np.concatenate([places, column * height + row]), return_counts=True)
        places = found[times % 2 == 1]
    return from_changes(size, places[places < height * width])


def _blocks(count: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the numbers of some edges after the other, those of a block with about ``_BLOCK`` crossings at most."""
    crossing = np.flatnonzero(count)
    if len(crossing):
        group = np.cumsum(count[crossing]) // _BLOCK
        yield from np.split(crossing, np.flatnonzero(np.diff(group)) + 1)


@dataclass(frozen=True)
class _Edges:
    """The edges of a polygon on the fine grid, each drawn from its lower end.

    So an edge and the same edge backwards are the same points. There is one for each column of the grid that it
    crosses, or, where it is steep, for each row.

    Attributes
    ----------
    low, high : ndarray of shape (P, 2), int64
        Their ends (u, v); ``low`` has the smaller coordinate along ``axis``.
    steep : ndarray of shape (P,), bool
        Point t lies at ``low + t`` in rows if steep, else in columns.
    slope : ndarray of shape (P,)
        What the other coordinate grows by from point to point.
    """

    low: np.ndarray
    high: np.ndarray
    steep: np.ndarray
    slope: np.ndarray

    @classmethod
    def of_polygon(cls, corners: np.ndarray) -> _Edges:
        """Join the corners (P, 2), the last with the first."""
        start, end = corners, np.roll(corners, -1, axis=0)
        along = np.abs(end - start)  # (P, 2): columns and rows that the edge crosses
        steep = along[:, 0] < along[:, 1]
        axis, edge = steep.astype(np.int64), np.arange(len(corners))
        backwards = (start[edge, axis] > end[edge, axis])[:, None]
        low, high = np.where(backwards, end, start), np.where(backwards, start, end)
        slope = (high - low)[edge, 1 - axis] / np.maximum(along[edge, axis], 1)
        return cls(low, high, steep, slope)

    def columns(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and last pixel column of the image in whose middle each edge changes its grid column.

        That is between the grid columns 5 c + 2 and 5 c + 3. The last is below the first where there is none.
        """
        left, right = (f(self.low[:, 0], self.high[:, 0]) for f in (np.minimum, np.maximum))
        before = _FINER // 2
        return np.maximum(-(-(left - before) // _FINER), 0), np.minimum((right - before - 1) // _FINER, width - 1)

    def rows(self, edge: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return the grid row at which edges cross the middles of pixel columns: the smaller of the two points'."""
        before = _FINER * column + _FINER // 2
        low, slope, steep = self.low[edge], self.slope[edge], self.steep[edge]
        t = np.where(steep, self._steps(low[:, 0], slope, before), before - low[:, 0])
        flat = np.minimum(_rounded(low[:, 1], slope, t), _rounded(low[:, 1], slope, t + 1))
        return np.where(steep, low[:, 1] + t, flat)

    @staticmethod
    def _steps(low: np.ndarray, slope: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Return the last t before the points of steep edges go over from one side of ``before`` + 1/2 to the other."""
        estimate = np.floor((before + 0.5 - low) / np.where(slope == 0, 1, slope)).astype(np.int64)
        t = np.maximum(estimate - 2, -1)
        for _ in range(5):  # the estimate may be off by rounding; the points themselves decide
            after = _rounded(low, slope, t + 1)
            t += np.where(slope > 0, after <= before, after > before)
        return t


def _rounded(low: np.ndarray, slope: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the coordinate of point t that does not grow by one."""
    return (low + slope * t + 0.5).astype(np.int64)


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
    drawn: list[RLE] = []
    for number, points in enumerate(polygons, start=1):
        if points in ([], None) and any(polygons):  # a part that somebody deleted
            continue
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
