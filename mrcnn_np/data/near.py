"""Pictures that are nearly the same: one photograph, stored a second time as JPEG, in another size, or brightened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

#: rows and columns of what is compared
_CELLS = 24
#: correlation from which two pictures are called one. Measured: of different pictures of Pascal VOC, COCO and the Data
#: Science Bowl the most similar two have 0.68, 0.65 and 0.46; of one picture, stored as JPEG of quality 20, at a third
#: of its size, or 1.3 times as bright, the least similar two have 0.968
SAME = 0.96
#: standard deviation of the cells' grey values below which a picture shows too little to tell
_LEAST_CONTRAST = 3.0
#: how far the ratios of the sides may be apart, as logarithm: a resized picture has whole pixels
_SHAPE = 0.03
#: pictures that are compared with all others at a time: with 10,000 these are 10 MB
_BLOCK = 256


class Thumbnail(NamedTuple):
    """What of a picture is compared: ``cells`` of mean 0 and length 1, (576,) of float32, and log(height / width)."""

    cells: np.ndarray
    shape: float


def thumbnail(image: np.ndarray) -> Thumbnail | None:
    """Return the mean grey of a picture in 24 x 24 cells, without its brightness and contrast.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8

    Returns
    -------
    Thumbnail or None
        None if the picture has no side of 24 pixels or more, or hardly differs from one grey.
    """
    height, width = image.shape[:2]
    if min(height, width) < _CELLS:
        return None
    small = Image.fromarray(image).convert("L").resize((_CELLS, _CELLS), Image.Resampling.BOX)
    cells = np.asarray(small, np.float32).ravel()
    cells = cells - cells.mean()
    if cells.std() < _LEAST_CONTRAST:
        return None
    return Thumbnail(cells / np.linalg.norm(cells), float(np.log(height / width)))


def nearest(ones: Sequence[Thumbnail], others: Sequence[Thumbnail]) -> list[tuple[int, int]]:
    """Return the pairs of pictures of which the second is the most similar to the first, and nearly the same.

    Two pictures are nearly the same if the correlation of their cells is at least ``SAME`` and their sides have the
    same ratio.

    Parameters
    ----------
    ones, others : sequence of Thumbnail

    Returns
    -------
    list of (int, int)
        Places in the two sequences; each of the first at most once.
    """
    if not ones or not others:
        return []
    right = np.stack([other.cells for other in others])
    ratios = np.array([other.shape for other in others])
    pairs = []
    for start in range(0, len(ones), _BLOCK):
        block = ones[start : start + _BLOCK]
        alike = np.stack([one.cells for one in block]) @ right.T
        alike[np.abs(np.array([one.shape for one in block])[:, None] - ratios) > _SHAPE] = -1
        best = alike.argmax(axis=1)
        pairs += [(start + int(k), int(best[k])) for k in np.flatnonzero(alike.max(axis=1) >= SAME)]
    return pairs


def earlier(pictures: Sequence[Thumbnail]) -> list[tuple[int, int]]:
    """Return each picture that is nearly the same as an earlier one, with the most similar of these.

    Parameters
    ----------
    pictures : sequence of Thumbnail

    Returns
    -------
    list of (int, int)
        Places in the sequence, the later one first; each picture at most once as the later one.
    """
    if not pictures:
        return []
    cells = np.stack([picture.cells for picture in pictures])
    ratios = np.array([picture.shape for picture in pictures], np.float32)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(pictures), _BLOCK):
        stop = min(start + _BLOCK, len(pictures))
        alike = cells[start:stop] @ cells[:stop].T
        alike[np.abs(ratios[start:stop, None] - ratios[:stop]) > _SHAPE] = -1
        block = alike[:, start:]
        block[np.triu_indices(stop - start)] = -1  # itself, and what comes later
        best = alike.argmax(axis=1)
        pairs += [(start + int(k), int(best[k])) for k in np.flatnonzero(alike.max(axis=1) >= SAME)]
    return pairs
