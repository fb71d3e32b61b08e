"""EXIF orientation: cameras store pixels as the sensor reads them, and beside them how the picture is to be turned."""

from __future__ import annotations

import numpy as np

from .masks import Masks

TURNED = (
    "the EXIF orientation turns the picture; its size does not tell whether boxes and masks were drawn on the turned "
    "one, so that is assumed"
)
TURNED_WITH = "boxes and masks fit the picture before its EXIF orientation, so they are turned with it"

TURNS = {  # whether rows and columns change places, and then whether rows and columns are reversed
    1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip
#: orientations that mirror the picture: left and right change places
MIRRORED = tuple(number for number, turns in TURNS.items() if sum(turns) % 2)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels (H, W, ...) as an EXIF orientation says, so that they are as a viewer shows them."""
    swap, rows, columns = TURNS[orientation]
    turned = array.swapaxes(0, 1) if swap else array
    turned = turned[:: -1 if rows else 1, :: -1 if columns else 1]
    return np.ascontiguousarray(turned)


def upright_boxes(boxes: np.ndarray, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Turn boxes as `upright` turns pixels.

    Parameters
    ----------
    boxes : ndarray of shape (G, 4)
        ``(y1, x1, y2, x2)`` on the stored image.
    orientation : int
        Of EXIF, 1 .. 8.
    size : tuple of int
        (H, W) of the stored image.
    """
    swap, rows, columns = TURNS[orientation]
    y1, x1, y2, x2 = boxes.T
    height, width = size
    if swap:
        y1, x1, y2, x2, height, width = x1, y1, x2, y2, width, height
    if rows:
        y1, y2 = height - y2, height - y1
    if columns:
        x1, x2 = width - x2, width - x1
    return np.stack([y1, x1, y2, x2], axis=1)


def upright_points(points: np.ndarray, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Turn keypoints as `upright` turns pixels.

    Parameters
    ----------
    points : ndarray of shape (G, K, 3)
        ``(y, x, visibility)`` on the stored image; whole numbers name pixels.
    orientation : int
        Of EXIF, 1 .. 8.
    size : tuple of int
        (H, W) of the stored image.
    """
    swap, rows, columns = TURNS[orientation]
    y, x, visible = np.moveaxis(points, -1, 0)
    height, width = size
    if swap:
        y, x, height, width = x, y, width, height
    y = height - 1 - y if rows else y
    x = width - 1 - x if columns else x
    return np.where(visible[..., None] > 0, np.stack([y, x, visible], axis=-1), 0)


def upright_masks(masks: Masks, orientation: int) -> Masks:
    """Turn the masks of a stored image as `upright` turns its pixels."""

    def turn(crop: np.ndarray, box: tuple[int, int, int, int]) -> tuple[np.ndarray, tuple[int, int]]:
        (corner,) = upright_boxes(np.array([box]), orientation, masks.size)
        return upright(crop, orientation), (int(corner[0]), int(corner[1]))

    height, width = masks.size
    return masks.mapped(turn, (width, height) if orientation >= 5 else (height, width))
