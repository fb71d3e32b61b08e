"""Labels at objects: where each has room, how large they are, and when there are too many for any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .canvas import CHARACTER, NARROW, add_text, missing_letters, shorten

#: more objects than this have smaller labels, or none, if these would hide more than this share of the objects
MANY, _COVERED, _SMALL = 8, 0.35, 0.7
#: smaller labels that take no more of the ground between the objects find a place there, up to so many of them
_BESIDE, _FEW = 0.08, 20


def add_labels(
    ax: Axes,
    boxes: np.ndarray,
    captions: Sequence[str],
    colours: np.ndarray,
    shape: tuple[int, int],
    fontsize: float,
) -> None:
    """Put each label at a corner of its box where it covers no earlier label and hides no object; no empty ones.

    Where there is no such place, it goes where it covers least of the labels, then of the objects.

    Parameters
    ----------
    ax : Axes
    boxes : ndarray of shape (R, 4)
        ``(y1, x1, y2, x2)`` in pixels.
    captions : sequence of str
    colours : ndarray of shape (R, 3)
    shape : tuple of int
        (H, W) of the image.
    fontsize : float
        Points.
    """
    figure: Any = ax.get_figure()
    renderer = figure.canvas.get_renderer()
    scale = ax.get_window_extent(renderer).height / shape[0]  # picture pixels per image pixel
    height, width = shape[0] * scale, shape[1] * scale
    beside = max((NARROW - width) / 2, 0.0)  # a narrow image has white on both sides
    view = (-beside, 0.0, width + beside, max(height, 20.0))
    placed: list[tuple[float, float, float, float]] = []
    room = int((view[2] - view[0]) / (CHARACTER * max(fontsize / 8, 1.0)))
    pad = 1.5
    for i, caption in enumerate(captions):
        if not caption:
            continue
        dark = colours[i] @ [0.299, 0.587, 0.114] < 0.5
        style = {
            "boxstyle": f"square,pad={pad / (fontsize * 100 / 72):.3f}",
            "fc": colours[i],
            "ec": "none",
            "alpha": 0.9,
        }
        tone = "white" if dark else "black"
        text = add_text(ax, 0, 0, shorten(caption, room), fontsize=fontsize, color=tone, va="top", bbox=style, zorder=5)
        with missing_letters():
            size = text.get_window_extent(renderer)
        x, y = _free_place(boxes[i] * scale, size.width + 2 * pad, size.height + 2 * pad, view, placed, boxes * scale)
        text.set_position(((x + pad) / scale, (y + pad) / scale))


def label_size(
    ax: Axes, boxes: np.ndarray, captions: Sequence[str], shape: tuple[int, int], fontsize: float
) -> float | None:
    """Return the size of letters at which labels leave the objects to be seen; None if labels would hide them.

    Parameters
    ----------
    ax : Axes
    boxes : ndarray of shape (R, 4)
        ``(y1, x1, y2, x2)`` in pixels.
    captions : sequence of str
    shape : tuple of int
        (H, W) of the image.
    fontsize : float
        Points, where there is room.
    """
    if len(boxes) <= MANY:
        return fontsize
    figure: Any = ax.get_figure()
    scale = ax.get_window_extent(figure.canvas.get_renderer()).height / shape[0]
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    objects = min(float(sides.prod(axis=1).sum()), float(np.prod(shape))) * scale**2
    letter = CHARACTER * fontsize / 8
    letters = (
        sum(len(caption) for caption in captions) * letter * 2 * letter
    )  # a label is twice as high as a letter wide
    for size in (1.0, _SMALL):
        if letters * size**2 <= _COVERED * objects:
            return fontsize * size
    if len(boxes) > _FEW:
        return None
    ground = float(np.prod(shape)) * scale**2 - objects
    return fontsize * _SMALL if letters * _SMALL**2 <= min(objects, _BESIDE * ground) else None


def _free_place(
    box: np.ndarray,
    width: float,
    height: float,
    view: tuple[float, float, float, float],
    placed: list[tuple[float, float, float, float]],
    boxes: np.ndarray,
) -> tuple[float, float]:
    """Return the label's top left corner: at a corner of the box or next to a label, covering others least.

    Parameters
    ----------
    box : ndarray of shape (4,)
        ``(y1, x1, y2, x2)`` in pixels of the picture, as all that follows.
    width, height : float
        Of the label.
    view : tuple of float
        ``(x1, y1, x2, y2)`` in which labels have to stay.
    placed : list of tuple of float
        The labels so far, likewise; the new one is added.
    boxes : ndarray of shape (R, 4)
        Of all objects, this one too; small ones are not to be hidden.
    """
    y1, x1, y2, x2 = (float(v) for v in box)
    corners = [(x, y) for y in (y1 - height, y1, y2, y2 - height) for x in (x1, x2 - width)]
    near = [q for q in placed if abs(q[1] - y1) < 6 * height]
    corners += [(x1, y) for q in near for y in (q[3], q[1] - height)]  # stacked below or above another label
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    best, least = (0.0, 0.0), (np.inf, np.inf)
    for x, y in corners:
        x = max(min(x, view[2] - width), view[0])
        y = max(min(y, view[3] - height), view[1])
        covered = sum(
            max(min(x + width, q[2]) - max(x, q[0]), 0) * max(min(y + height, q[3]) - max(y, q[1]), 0) for q in placed
        )
        if covered > least[0]:
            continue
        over = np.minimum(boxes[:, 2:], (y + height, x + width)) - np.maximum(boxes[:, :2], (y, x))
        shared = np.clip(over, 0, None).prod(axis=1)
        hidden = float(shared[shared > _COVERED * areas].sum())
        if (covered, hidden) < least:
            best, least = (x, y), (covered, hidden)
        if covered == hidden == 0:
            break
    placed.append((best[0], best[1], best[0] + width, best[1] + height))
    return best
