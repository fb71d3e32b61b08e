"""Pictures of boxes before there are detections: the anchors that are positive, and the best proposals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.lines import Line2D

from ..boxes import iou
from ..targets import is_positive
from .canvas import (
    PALETTE,
    add_axes,
    add_box,
    add_legend,
    add_text,
    as_rgb,
    fit_size,
    new_figure,
    save,
    shorten,
    show_image,
)


def save_anchors(
    path: str | os.PathLike[str],
    image: np.ndarray,
    anchors: Sequence[np.ndarray],
    gt_boxes: np.ndarray,
    *,
    positive_iou: float = 0.7,
    first_level: int = 2,
    size: int = 640,
) -> Path:
    """Save the anchors that are positive for some object, one colour per pyramid level.

    Parameters
    ----------
    path : path
    image : ndarray of shape (H, W, 3)
        The image the anchors lie over: the molded one, as uint8 or float in [0, 1].
    anchors : sequence of ndarray of shape (A_l, 4)
        One array per level, ``(y1, x1, y2, x2)`` in pixels of the image; they may leave it.
    gt_boxes : ndarray of shape (G, 4)
    positive_iou : float
        Anchors with at least this IoU are positive, and so is the best anchor of each object.
    first_level : int
        Number of the first level, for the legend.
    size : int
        Longer side of the drawn image in pixels, or less (``fit_size``).
    """
    image, gt_boxes = as_rgb(image), np.asarray(gt_boxes, np.float64).reshape(-1, 4)
    levels = [np.asarray(level, np.float64).reshape(-1, 4) for level in anchors]
    positive = is_positive(iou(np.concatenate([*levels, np.zeros((0, 4))]), gt_boxes), positive_iou)
    shown = [level[chosen] for level, chosen in zip(levels, np.split(positive, np.cumsum([len(v) for v in levels])))]
    figure, ax = _photo(image, size, np.concatenate([gt_boxes, *shown]))
    handles, names = [], []
    for i, boxes in enumerate(shown):
        colour = PALETTE[i % len(PALETTE)]
        for box in boxes:
            add_box(ax, box, colour, width=1.2)
        handles.append(Line2D([], [], color=colour, linewidth=2.5))
        names.append(f"P{first_level + i}: {len(boxes)} of {len(anchors[i])}")
    _draw_objects(ax, gt_boxes, handles, names)
    add_legend(ax, handles, names, title="positive anchors")
    total = f"{_count(sum(len(b) for b in shown), 'positive anchor')} for {_count(len(gt_boxes), 'object')}"
    return _finish(figure, path, f"{total} (IoU >= {positive_iou:g}, or the object's best)")


def save_proposals(
    path: str | os.PathLike[str],
    image: np.ndarray,
    proposals: np.ndarray,
    scores: np.ndarray,
    gt_boxes: np.ndarray,
    *,
    top: int = 50,
    size: int = 640,
) -> Path:
    """Save the best proposals, coloured by score, over the objects, and say how many objects they cover.

    Parameters
    ----------
    path : path
    image : ndarray of shape (H, W, 3)
    proposals : ndarray of shape (R, 4)
        ``(y1, x1, y2, x2)`` in pixels of the image.
    scores : ndarray of shape (R,)
    gt_boxes : ndarray of shape (G, 4)
    top : int
        How many are drawn.
    size : int
        Longer side of the drawn image in pixels, or less (``fit_size``).
    """
    image, gt_boxes = as_rgb(image), np.asarray(gt_boxes, np.float64).reshape(-1, 4)
    proposals, scores = np.asarray(proposals, np.float64).reshape(-1, 4), np.asarray(scores, np.float64)
    if scores.shape != (len(proposals),):
        raise ValueError(f"scores has shape {scores.shape}; expected ({len(proposals)},), one for each proposal")
    order = np.argsort(-scores, kind="stable")[:top]
    shown = scores[order]
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
    norm = Normalize(low, high if high > low else low + 1e-3)
    colours = ListedColormap(matplotlib.colormaps["plasma"](np.linspace(0.25, 1, 256)))  # its darkest quarter is lost
    figure, ax = _photo(image, size, np.concatenate([gt_boxes, proposals[order]]))
    for r in order[::-1]:
        add_box(ax, proposals[r], colours(norm(scores[r])), width=1.2)
    handles: list[Line2D] = []
    names: list[str] = []
    _draw_objects(ax, gt_boxes, handles, names)
    add_legend(ax, handles, names)
    if len(shown):
        _score_bar(figure, ax, ScalarMappable(norm, colours))
    covered = int((iou(proposals[order], gt_boxes).max(axis=0, initial=0.0) >= 0.5).sum())
    kept = f"best {len(order)} of {_count(len(proposals), 'proposal')}"
    return _finish(figure, path, f"{kept}; {covered} of {_count(len(gt_boxes), 'object')} covered (IoU >= 0.5)")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _photo(image: np.ndarray, size: int, boxes: np.ndarray, *, right: float = 190) -> tuple[Any, Axes]:
    """Return a figure with the image, a grey border that shows where boxes leave it, and white space on the right."""
    longer = max(image.shape[:2])
    outside = np.concatenate([-boxes[:, :2], boxes[:, 2:] - image.shape[:2]], axis=None).max(initial=0.0)
    border = min(outside + 0.02 * longer, 0.25 * longer) if outside > 0 else 0.0
    grown = (image.shape[0] + 2 * border, image.shape[1] + 2 * border)
    height, width = fit_size(image.shape, size)
    height, width = height * grown[0] / image.shape[0], width * grown[1] / image.shape[1]
    figure = new_figure(max(width, 300) + right, max(height, 200) + 34)
    ax = add_axes(figure, 8, 26, width, height)
    show_image(ax, image, margin=border)
    ax.set_aspect("auto")
    return figure, ax


def _draw_objects(ax: Axes, gt_boxes: np.ndarray, handles: list[Line2D], names: list[str]) -> None:
    for box in gt_boxes:
        add_box(ax, box, "white", width=2.0, dash="dashed", zorder=4)
    if len(gt_boxes):
        handles.append(Line2D([], [], color="#777777", linestyle="dashed", linewidth=2))
        names.append("object (white)")


def _score_bar(figure: Any, ax: Axes, scale: ScalarMappable) -> None:
    width, height = figure.get_size_inches() * 100
    place = ax.get_position()
    bar = figure.add_axes((place.x1 + 20 / width, place.y0 + 10 / height, 14 / width, 130 / height))
    figure.colorbar(scale, cax=bar)
    bar.tick_params(labelsize=8)
    bar.set_ylabel("objectness score", fontsize=8)


def _finish(figure: Any, path: str | os.PathLike[str], title: str) -> Path:
    width, height = figure.get_size_inches() * 100
    add_text(figure, 8 / width, 1 - 6 / height, shorten(title, int((width - 16) / 6.6)), va="top", fontsize=9)
    return save(figure, path)
