"""Masks as run lengths down the columns, COCO's form: encode, decode, the text form, union, areas, boxes, overlaps.

A mask is read column by column; ``counts`` are the lengths of its runs, background first. The 3 x 3 mask ::

    0 1 0
    0 1 1      read downwards: 000 111 010, so counts are 3 3 1 1 1
    0 1 0

Areas, boxes and overlaps come from the runs alone: a thousand masks of a large image need no thousand large arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: of five bits: 29 bits and the sign, more than any run or difference of runs needs
_MAX_GROUPS = 6


@dataclass(frozen=True, eq=False)
class RLE:
    """A mask of size (H, W) as run lengths.

    Attributes
    ----------
    size : tuple of int
        (H, W).
    counts : ndarray of int64
        Lengths of the runs, background first (0 if the first pixel belongs to the mask); they add up to H * W.
    """

    size: tuple[int, int]
    counts: np.ndarray

    def __post_init__(self) -> None:
        """Check the counts, which come from files."""
        pixels = self.size[0] * self.size[1]
        if (self.counts < 0).any():
            raise ValueError(f"run length {int(self.counts[self.counts < 0][0])} is negative; expected 0 or more")
        if (self.counts > pixels).any() or int(self.counts.sum()) != pixels:
            # a float sum, because a broken file may hold lengths whose sum leaves int64
            total = self.counts.astype(np.float64).sum()
            raise ValueError(
                f"run lengths add up to {total:.0f} pixels; expected {pixels}, the pixels of {self.size[1]} x "
                f"{self.size[0]} (width x height)"
            )

    def runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return first position and one past the last of every run that belongs to the mask, counted down the columns.

        Runs of length 0 are left out.
        """
        ends = np.cumsum(self.counts)
        starts = ends - self.counts
        on = np.zeros(len(ends), bool)
        on[1::2] = self.counts[1::2] > 0
        return starts[on], ends[on]

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.counts[1::2].sum())

    def box(self) -> np.ndarray:
        """Return the tight box ``(y1, x1, y2, x2)``, half-open, as float64; all 0 for an empty mask."""
        starts, ends = self.runs()
        if not len(starts):
            return np.zeros(4)
        height = self.size[0]
        first, last = starts // height, (ends - 1) // height  # columns
        y1, y2 = starts % height, (ends - 1) % height
        if (last > first).any():  # a run over the foot of a column goes on at the head of the next
            y1, y2 = np.zeros(1, np.int64), np.array([height - 1])
        return np.array([y1.min(), first.min(), y2.max() + 1, last.max() + 1], np.float64)


def encode(mask: np.ndarray) -> RLE:
    """Return the run lengths of a mask.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool

    Returns
    -------
    RLE
        Every run but the first is at least one pixel long.
    """
    if mask.ndim != 2 or mask.dtype != bool:
        raise ValueError(f"mask has shape {mask.shape} and dtype {mask.dtype}; expected (H, W) of bool")
    column_wise = mask.T.ravel()
    changes = np.flatnonzero(column_wise[1:] != column_wise[:-1]) + 1
    if column_wise.size and column_wise[0]:
        changes = np.concatenate([[0], changes])
    return from_changes((mask.shape[0], mask.shape[1]), changes)


def decode(rle: RLE) -> np.ndarray:
    """Return the mask, (H, W) of bool."""
    values = np.zeros(len(rle.counts), bool)
    values[1::2] = True
    return np.ascontiguousarray(np.repeat(values, rle.counts).reshape(rle.size[::-1]).T)


def from_changes(size: tuple[int, int], changes: np.ndarray) -> RLE:
    """Make the run lengths from the rising positions at which the mask begins or ends."""
    return RLE(size, np.diff(changes, prepend=0, append=size[0] * size[1]).astype(np.int64))


# --- as text --------------------------------------------------------------------------------------------------------


def to_text(rle: RLE) -> str:
    """Return the run lengths in COCO's compressed form.

    From the fourth on, each length is replaced by its difference from the one before the last, which is small because
    neighbouring columns are alike. Then each number is written as groups of five bits, lowest first, in two's
    complement: a character is 48 + group, plus 32 if more groups follow.
    """
    numbers = rle.counts.astype(np.int64).copy()
    numbers[3:] -= rle.counts[1:-2]
    text = bytearray()
    for number in numbers.tolist():
        more = True
        while more:
            group = number & 31
            number >>= 5
            # done when what is left is only the sign, and the group's highest bit says the same
            more = number != (-1 if group & 16 else 0)
            text.append(48 + group + 32 * more)
    return text.decode("ascii")


def from_text(text: str | bytes, size: tuple[int, int]) -> RLE:
    """Read ``to_text``'s form.

    Raises
    ------
    ValueError
        A character that cannot occur, a text that is cut short, or lengths that do not fill the image.
    """
    if isinstance(text, str):
        text = text.encode("utf-8", errors="replace")
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    strange = np.flatnonzero((codes < 0) | (codes > 63))
    if len(strange):
        place = int(strange[0])
        raise ValueError(f"character {place} of the run lengths is {chr(text[place])!r}; expected compressed RLE")
    if not len(codes):
        return RLE(size, codes)
    last = codes & 32 == 0
    if not last[-1]:
        raise ValueError("the run lengths end in the middle of a number; expected compressed RLE, whole")
    starts = np.flatnonzero(np.append(True, last[:-1]))
    lengths = np.diff(starts, append=len(codes))
    if lengths.max() > _MAX_GROUPS:
        raise ValueError("a run is longer than any image; expected compressed RLE")
    place_in_number = np.arange(len(codes)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 31) << (5 * place_in_number), starts)
    numbers[codes[last] & 16 > 0] -= 1 << (5 * lengths[codes[last] & 16 > 0])  # the sign
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return RLE(size, numbers)


# --- several masks --------------------------------------------------------------------------------------------------


def merge(rles: Sequence[RLE], *, intersect: bool = False) -> RLE:
    """Return the union (or intersection) of one mask or more of one size."""
    sizes = {rle.size for rle in rles}
    if len(sizes) != 1:
        raise ValueError(f"masks have the sizes {sorted(sizes)}; expected one size, and at least one mask")
    runs = [rle.runs() for rle in rles]
    position = np.concatenate([part for pair in runs for part in pair])
    step = np.concatenate([np.repeat([1, -1], len(starts)) for starts, _ in runs])
    order = np.argsort(position, kind="stable")
    position, depth = position[order], np.cumsum(step[order])  # how many masks cover what follows
    last = np.append(position[1:] != position[:-1], True) if len(position) else np.zeros(0, bool)
    position, inside = position[last], depth[last] >= (len(rles) if intersect else 1)
    changed = inside != np.append(False, inside[:-1]) if len(inside) else inside
    position = position[changed]
    size = rles[0].size
    return from_changes(size, position[position < size[0] * size[1]])


def mask_overlaps(a: Sequence[RLE], b: Sequence[RLE], *, crowd: np.ndarray | None = None) -> np.ndarray:
    """Return what ``matching.mask_iou`` returns for dense masks, the same numbers, from run lengths.

    Parameters
    ----------
    a : sequence of D RLE
        Detections.
    b : sequence of G RLE
        Ground truth.
    crowd : ndarray of shape (G,), bool, optional

    Returns
    -------
    ndarray of shape (D, G), float64

    Notes
    -----
    Let F(p) be the number of a's pixels before position p. It grows by one per pixel inside a's runs and is flat
    outside them, so that linear interpolation between the ends of the runs is exact, and a run of b from s to e shares
    F(e) - F(s) pixels with a.
    """
    sizes = {rle.size for rle in (*a, *b)}
    if len(sizes) > 1:
        raise ValueError(f"masks have the sizes {sorted(sizes)}; expected one size")
    shared = np.zeros((len(a), len(b)))
    if not len(a) or not len(b):
        return shared
    runs = [rle.runs() for rle in b]
    starts, ends = (np.concatenate(parts) for parts in zip(*runs))
    owner = np.repeat(np.arange(len(b)), [len(s) for s, _ in runs])
    for row, rle in zip(shared, a):
        first, last = rle.runs()
        if not len(first) or not len(starts):
            continue
        before = np.cumsum(last - first)
        knots = np.stack([first, last], axis=1).ravel()
        pixels = np.stack([before - (last - first), before], axis=1).ravel()
        row += np.bincount(owner, np.interp(ends, knots, pixels) - np.interp(starts, knots, pixels), minlength=len(b))
    area_a = np.array([rle.area for rle in a], np.float64)[:, None]
    whole = area_a + np.array([rle.area for rle in b], np.float64)[None, :] - shared
    if crowd is not None:
        whole = np.where(crowd[None, :], area_a, whole)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
