"""What a mask loses when it is said in m x m cells: the best that a mask head of that size can do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..config import Config
from ..data.masks import Masks
from ..detections import paste_masks
from ..molding import minimise_masks
from ..targets import mask_targets
from .truth import Truth

_BLOCK = 16  # objects whose masks are pixels of the canvas at one time


def mask_losses(truth: Truth, config: Config, sizes: Sequence[int]) -> np.ndarray:
    """Return what is left of each object's mask after the training size alone, and after m x m cells.

    The mask goes the way that training and inference take it, with a perfect box and a head that answers exactly its
    target: onto the canvas, cut out of the object's box at m x m (``targets.mask_targets``), pasted into the original
    image (``detections.paste_masks``) and compared there, pixel by pixel, with the mask that was annotated.

    Parameters
    ----------
    truth : Truth
    config : Config
        The ``mask_*`` fields; each m takes the place of twice ``mask_pool_size``.
    sizes : sequence of int
        Even numbers m; empty for the training size alone.

    Returns
    -------
    ndarray of shape (O, 1 + len(sizes), 2)
        For each object that is no crowd and has a pixel: first for the training size alone (brought back by the
        nearest pixel), then for each m: the IoU with the true mask, and the share of its outline that is lost. The
        outline are its pixels that have a neighbour outside, above, below, left or right; such a pixel is lost if no
        pixel of the other outline is at most one step away, diagonals included.
    """
    chosen = np.flatnonzero(~truth.crowd & (truth.original.areas > 0))
    results = np.zeros((len(chosen), 1 + len(sizes), 2))
    boxes = truth.molding.unmold_boxes(truth.boxes, config.box_frame)
    rows, columns = _places(truth)
    back = truth.masks[chosen].picked(rows, columns)
    for start in range(0, len(chosen), _BLOCK):
        block = chosen[start : start + _BLOCK]
        # targets of any size, for which there need be no head
        cut = [_cells(truth, block, config.replace(mask_pool_size=m // 2, mask_branch=False)) for m in sizes]
        for n, k in enumerate(block):
            place = start + n
            y1, x1, y2, x2 = window = _window(
                boxes[k], truth.original.boxes[k], truth.original.size, min(sizes, default=1)
            )
            true = truth.original.crop(int(k), window)
            results[place, 0] = _compare(true, back.crop(place, window))
            moved = boxes[k][None] - np.array([y1, x1, y1, x1], boxes.dtype)
            for i, masks in enumerate(cut):
                pasted = paste_masks(masks[n][None], moved, (y2 - y1, x2 - x1), config)[0]
                results[place, 1 + i] = _compare(true, pasted)
    return results


def _cells(truth: Truth, block: np.ndarray, config: Config) -> np.ndarray:
    """Return the targets of some objects for their own boxes, (B, m, m)."""
    boxes, masks = truth.boxes[block], truth.masks[block]
    cells: np.ndarray | Masks = masks
    if config.mini_mask_shape is not None:
        cells = minimise_masks(boxes, masks, config.mini_mask_shape, border=config.resize_border)
    return mask_targets(boxes, np.arange(len(block)), boxes, cells, config, window=truth.molding.window)


def _places(truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the column of the canvas in which the centre of each row and column of the image lies."""
    molding = truth.molding
    sides = zip(molding.original_shape, molding.resized_shape, molding.scale, molding.offset)
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) * scale, resized - 1).astype(np.int64) + before
        for n, resized, scale, before in sides
    )
    return rows, columns


def _window(box: np.ndarray, tight: np.ndarray, size: tuple[int, int], cells: int) -> tuple[int, int, int, int]:
    """Return the part of the image that a mask or its copy can touch; its corner is even, as halves are rounded so."""
    margin = (box[2:] - box[:2]) / max(cells, 1) + 4  # what pasting adds at most: a cell on each side
    low = np.maximum(np.minimum(np.floor(box[:2] - margin), tight[:2]), 0).astype(int) // 2 * 2
    high = np.minimum(np.maximum(np.ceil(box[2:] + margin), tight[2:]), size).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _compare(true: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the IoU of two masks (h, w), of which the first has a pixel, and the share of its outline that is lost."""
    edge, near = outline(true), np.pad(outline(other), 1)
    height, width = true.shape
    reached = np.zeros_like(true)
    for dy in range(3):
        for dx in range(3):
            reached |= near[dy : dy + height, dx : dx + width]
    return (true & other).sum() / (true | other).sum(), 1 - (edge & reached).sum() / edge.sum()


def outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask (h, w) of which one of the four neighbours is none; beyond the array is none."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
