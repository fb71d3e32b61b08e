"""The masks of one image, kept as run lengths: 450 objects of a large photograph take kilobytes, not gigabytes.

`Masks` can be used like an array (G, H, W) of booleans. Areas, boxes and a choice of objects come from the runs alone.
A flip, a turn or another size moves pixels, one object at a time, within its box; what it returns keeps these pixels,
so that the next move finds them, and makes run lengths of them when somebody asks. Only what no method here knows is
done on the whole array, which `numpy.asarray` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from .rle import RLE, decode, encode, from_changes

Box = tuple[int, int, int, int]
#: pixels (h, w) of one object, and the row and column of their left upper one; outside of them the object has none
Crop = tuple[np.ndarray, tuple[int, int]]


class Masks(NDArrayOperatorsMixin):
    """Masks (G, H, W) of one image.

    Parameters
    ----------
    rles : iterable of RLE
        One for each object, all of ``size``.
    size : tuple of int
        (H, W) of the image.
    """

    dtype = np.dtype(bool)
    ndim = 3

    def __init__(self, rles: Iterable[RLE], size: tuple[int, int]) -> None:
        self.size = (int(size[0]), int(size[1]))
        self._rles: tuple[RLE, ...] | None = tuple(rles)
        for rle in self._rles:
            if tuple(rle.size) != self.size:
                raise ValueError(f"a mask has the size {rle.size}; expected {self.size}")
        self._crops: tuple[Crop, ...] | None = None
        self._boxes: np.ndarray | None = None

    @classmethod
    def of_crops(cls, crops: Iterable[Crop], size: tuple[int, int]) -> Masks:
        """Make them from the pixels of each object and where they lie, all within an image of ``size`` (H, W)."""
        masks = cls((), size)
        masks._rles, masks._crops = None, tuple(crops)
        return masks

    @classmethod
    def of_array(cls, masks: np.ndarray) -> Masks:
        """Make them from an array (G, H, W) of booleans, reading one mask after the other and only its box twice."""
        size = (masks.shape[1], masks.shape[2])

        def runs(mask: np.ndarray) -> RLE:
            rows = np.flatnonzero(mask.any(axis=1))
            if not len(rows):
                return encode(mask)
            band = mask[rows[0] : rows[-1] + 1]
            columns = np.flatnonzero(band.any(axis=0))
            return placed(band[:, columns[0] : columns[-1] + 1], (int(rows[0]), int(columns[0])), size)

        return cls((runs(mask) for mask in masks), size)

    @classmethod
    def of_labels(cls, labels: np.ndarray, numbers: Sequence[int] | np.ndarray) -> Masks:
        """Make the mask of each of some numbers from an image (H, W) of numbers, reading it once."""
        height, width = labels.shape
        pixels = labels.T.ravel()
        starts = np.append(0, np.flatnonzero(pixels[1:] != pixels[:-1]) + 1)
        ends = np.append(starts[1:], pixels.size)
        values = pixels[starts]
        order = np.argsort(values, kind="stable")
        first, last = (np.searchsorted(values[order], numbers, side) for side in ("left", "right"))
        rles = []
        for a, b in zip(first, last):
            runs = order[a:b]
            changes = np.stack([starts[runs], ends[runs]], axis=1).ravel()
            rles.append(from_changes((height, width), changes[changes < pixels.size]))
        return cls(rles, (height, width))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(G, H, W)."""
        return (len(self), *self.size)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._crops if self._rles is None else self._rles)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        """Return the shape: the pixels are too many."""
        return f"Masks of shape {self.shape}"

    @property
    def rles(self) -> tuple[RLE, ...]:
        """Run lengths of each object."""
        if self._rles is None:
            self._rles = tuple(placed(pixels, corner, self.size) for pixels, corner in self._crops or ())
        return self._rles

    @property
    def crops(self) -> tuple[Crop, ...]:
        """Pixels of each object within a box around all of them, and the row and column where it begins."""
        if self._crops is not None:
            return self._crops  # decoded anew each time otherwise: who keeps masks keeps run lengths
        return tuple((self.crop(k, box), (box[0], box[1])) for k, box in enumerate(self.boxes.tolist()))

    @property
    def areas(self) -> np.ndarray:
        """Pixels of each object, (G,) of int64."""
        if self._crops is not None:
            return np.array([np.count_nonzero(pixels) for pixels, _ in self._crops], np.int64)
        return np.array([rle.area for rle in self.rles], np.int64)

    @property
    def boxes(self) -> np.ndarray:
        """The tight box ``(y1, x1, y2, x2)`` of each object, (G, 4) of int64, half-open; 0 0 0 0 for no pixel."""
        if self._boxes is None:
            found = map(_tight, self._crops) if self._crops is not None else (rle.box() for rle in self.rles)
            self._boxes = np.array(list(found), np.int64).reshape(-1, 4)
        return self._boxes

    # --- moved ---

    def flipped(self) -> Masks:
        """Mirror them left to right."""
        return self.mapped(lambda crop, box: (crop[:, ::-1], (box[0], self.size[1] - box[3])), self.size)

    def turned(self) -> Masks:
        """Turn them counterclockwise by a quarter, as ``numpy.rot90`` does: (G, H, W) becomes (G, W, H)."""
        height, width = self.size
        return self.mapped(lambda crop, box: (crop.T[::-1], (width - box[3], box[0])), (width, height))

    def picked(self, rows: np.ndarray, columns: np.ndarray) -> Masks:
        """Return ``masks[:, rows[:, None], columns]``, what every resizing to the nearest pixel is.

        Parameters
        ----------
        rows, columns : ndarray of int
            The row (column) of these masks that each of the new ones is read from; in rising order.

        Returns
        -------
        Masks
            Of shape (G, len(rows), len(columns)).
        """

        def pick(crop: np.ndarray, box: Box) -> tuple[np.ndarray, tuple[int, int]]:
            top, bottom = np.searchsorted(rows, (box[0], box[2]))
            left, right = np.searchsorted(columns, (box[1], box[3]))
            picked = crop[rows[top:bottom, None] - box[0], columns[left:right] - box[1]]
            return picked, (int(top), int(left))

        return self.mapped(pick, (len(rows), len(columns)))

    def shifted(self, corner: tuple[int, int], size: tuple[int, int]) -> Masks:
        """Lay them on a canvas of ``size`` (H, W), their left upper corner at ``corner``; what lies outside is cut."""

        def shift(crop: np.ndarray, box: Box) -> tuple[np.ndarray, tuple[int, int]]:
            top, left = box[0] + corner[0], box[1] + corner[1]
            crop = crop[max(-top, 0) : max(size[0] - top, 0), max(-left, 0) : max(size[1] - left, 0)]
            return crop, (max(top, 0), max(left, 0))

        return self if corner == (0, 0) and size == self.size else self.mapped(shift, size)

    def without(self, void: np.ndarray) -> Masks:
        """Take pixels ``void`` (H, W) out of every mask."""
        return self.mapped(lambda crop, b: (crop & ~void[b[0] : b[2], b[1] : b[3]], (b[0], b[1])), self.size)

    def mapped(
        self, change: Callable[[np.ndarray, Box], tuple[np.ndarray, tuple[int, int]]], size: tuple[int, int]
    ) -> Masks:
        """Change each mask within a box around it.

        Parameters
        ----------
        change : callable
            Takes the pixels (h, w) of a box and the box, returns other pixels and where their left upper corner
            (row, column) lies. Called for boxes with at least one pixel.
        size : tuple of int
            (H, W) of the new masks; all that is returned must lie within.
        """
        changed = []
        for pixels, (top, left) in self.crops:
            height, width = pixels.shape
            whole = (top, left, top + height, left + width)
            changed.append(change(pixels, whole) if pixels.size else _NOTHING)
        return Masks.of_crops(changed, size)

    # --- pixels ---

    def crop(self, k: int, box: Sequence[int]) -> np.ndarray:
        """Decode object ``k`` inside a box ``(y1, x1, y2, x2)`` of whole pixels within the image: (h, w)."""
        y1, x1, y2, x2 = (int(v) for v in box)
        if self._crops is not None:
            return _window(self._crops[k], (y1, x1, y2, x2))
        height = self.size[0]
        starts, ends = self.rles[k].runs()
        near = (ends > x1 * height) & (starts < x2 * height)
        starts, ends = starts[near], ends[near]
        # a run over the foot of a column is cut into one piece for each column
        first, last = starts // height, (ends - 1) // height
        pieces = last - first + 1
        run = np.repeat(np.arange(len(starts)), pieces)
        column = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces) + first[run]
        low = np.maximum(np.maximum(starts[run] - column * height, 0), y1) - y1
        high = np.minimum(np.minimum(ends[run] - column * height, height), y2) - y1
        seen = (column >= x1) & (column < x2) & (high > low)
        marks = np.zeros((x2 - x1, y2 - y1 + 1), np.int8)  # +1 where a piece begins, -1 after its end
        marks[column[seen] - x1, low[seen]] += 1
        np.subtract.at(marks, (column[seen] - x1, high[seen]), 1)
        return np.cumsum(marks[:, :-1], axis=1, dtype=np.int8).astype(bool).T

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Decode all of them, (G, H, W)."""
        if copy is False:
            raise ValueError("run lengths become an array only by a copy")
        dense = np.zeros(self.shape, bool)
        for k, out in enumerate(dense):
            if self._crops is not None:
                pixels, (top, left) = self._crops[k]
                out[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
            else:
                out[...] = decode(self.rles[k])
        return dense if dtype is None else dense.astype(dtype)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield one mask (H, W) after the other."""
        return (self[k] for k in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        """Index like an array.

        A choice of objects gives `Masks`, one object an array (H, W), one object and two slices the array of a box.
        """
        if isinstance(key, tuple) and len(key) == 1:
            key = key[0]
        if isinstance(key, int | np.integer):
            k = range(len(self))[key]
            return decode(self.rles[k]) if self._crops is None else self.crop(k, (0, 0, *self.size))
        if isinstance(key, tuple):
            return self._inside(key)
        if isinstance(key, slice):
            return self._chosen(range(len(self))[key])
        if key is None or key is Ellipsis:
            return np.asarray(self)[key]
        chosen = np.asarray(key)
        if chosen.ndim != 1 or (chosen.dtype == bool and len(chosen) != len(self)):
            return np.asarray(self)[key]
        if not chosen.size:
            chosen = chosen.astype(bool) if chosen.dtype == bool else chosen.astype(np.intp)
        return self._chosen(np.arange(len(self))[chosen].tolist())

    def _chosen(self, rows: Iterable[int]) -> Masks:
        if self._crops is not None:
            return Masks.of_crops((self._crops[k] for k in rows), self.size)
        return Masks((self.rles[k] for k in rows), self.size)

    def _inside(self, key: tuple[Any, ...]) -> Any:
        k, *rest = key
        if isinstance(k, int | np.integer):
            slices = [part.indices(side) for part, side in zip(rest, self.size) if isinstance(part, slice)]
            if len(slices) == len(rest) == 2 and all(step == 1 and start <= stop for start, stop, step in slices):
                (y1, y2, _), (x1, x2, _) = slices
                return self.crop(range(len(self))[k], (y1, x1, y2, x2))
            return self[k][tuple(rest)]
        if isinstance(k, slice) and len(rest) == 2 and all(isinstance(part, slice) for part in rest):
            rows, columns = (np.arange(side)[part] for part, side in zip(rest, self.size))
            if all((np.diff(places) > 0).all() for places in (rows, columns)):
                return self[k].picked(rows, columns)
        return np.asarray(self)[key]

    def __getattr__(self, name: str) -> Any:
        """Whatever else an array can do, it does decoded."""
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"Masks has no attribute {name!r}")
        return getattr(np.asarray(self), name)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Compute decoded."""
        dense = (np.asarray(x) if isinstance(x, Masks) else x for x in inputs)
        return getattr(ufunc, method)(*dense, **options)


_NOTHING: Crop = (np.zeros((0, 0), bool), (0, 0))


def _tight(crop: Crop) -> Box:
    """Return the tight box of an object, 0 0 0 0 for no pixel."""
    pixels, (top, left) = crop
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return 0, 0, 0, 0
    return top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1


def _window(crop: Crop, box: Box) -> np.ndarray:
    """Return what of an object lies in a box, (h, w), a new array."""
    (pixels, (top, left)), (y1, x1, y2, x2) = crop, box
    out = np.zeros((y2 - y1, x2 - x1), bool)
    rows = slice(max(top, y1), min(top + pixels.shape[0], y2))
    columns = slice(max(left, x1), min(left + pixels.shape[1], x2))
    if rows.start < rows.stop and columns.start < columns.stop:
        seen = pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        out[rows.start - y1 : rows.stop - y1, columns.start - x1 : columns.stop - x1] = seen
    return out


def in_runs(masks: np.ndarray | Masks) -> Masks:
    """Return masks (G, H, W) as run lengths, which they may be already."""
    return masks if isinstance(masks, Masks) else Masks.of_array(masks)


def placed(pixels: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> RLE:
    """Return the run lengths of an image of ``size`` (H, W) with ``pixels`` (h, w) at ``corner`` and nothing else.

    The time is that of the box, not of the image.

    Parameters
    ----------
    pixels : ndarray of shape (h, w), bool
    corner : tuple of int
        Row and column of its left upper pixel; all of it lies within the image.
    size : tuple of int
    """
    (top, left), (height, width) = corner, size
    if pixels.size == 0:
        return RLE(size, np.array([height * width], np.int64))
    if len(pixels) < height:  # a row below, so that every run ends within its column
        pixels = np.concatenate([pixels, np.zeros((1, pixels.shape[1]), bool)])
    columnwise = pixels.T.ravel()
    changes = np.flatnonzero(np.diff(columnwise, prepend=False, append=False))
    column, row = np.divmod(changes, len(pixels))
    places = (left + column) * height + top + row
    return from_changes(size, places[places < height * width])
