"""Pictures of the switchboard: how far each convention moves boxes, scores and masks, and the boxes that moved most."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ..pictures.canvas import (
    LINE_PALETTE,
    add_axes,
    add_box,
    add_text,
    new_figure,
    save,
    shorten,
    show_image,
    style_axes,
)
from .switchboard import MOVES, Row, Switchboard
from .table import meanings

LINE = 17  # pixels per row of the chart
NAMES = 370  # pixels for the names on the left
SMALLEST = 1e-3  # pixels; the chart's axis begins there, and what is less counts as that
#: the parts of the configuration that can move detections, in the order of the data flow
PARTS = (
    "Image to molded input", "Backbone and pyramid", "Anchors and boxes",
    "Region proposal network, its targets, and proposals", "Regions of interest", "The heads", "Detections",
)  # fmt: skip
COLOURS = dict(zip(PARTS, LINE_PALETTE))


def moving_rows(board: Switchboard) -> list[Row]:
    """Return the rows that change detections and are no mere conversions, those that lose most first, then by shift."""
    rows = [row for row in board.rows if row.effect == MOVES and not row.converted]
    return sorted(
        rows, key=lambda row: (row.kept == 0, row.max_shift, row.max_score, 1 - row.mean_mask_iou), reverse=True
    )


def save_chart(path: str | os.PathLike[str], board: Switchboard, title: str) -> Path:
    """Save one line per convention: shift of the boxes (mean and largest), change of the scores, IoU of the masks.

    Parameters
    ----------
    path : path
        Replaced if it exists.
    board : Switchboard
    title : str
        What was measured on what; stands above, cut short if need be.
    """
    rows = moving_rows(board)
    height = 110 + LINE * max(len(rows), 1)
    width = NAMES + 940
    figure = new_figure(width, height)
    add_text(figure, 10 / width, 1 - 8 / height, shorten(title, 150), va="top", fontsize=10)
    heads = ("box shift in pixels: mean ○, largest ●", "largest change of a score", "mean mask IoU")
    axes = [
        add_axes(figure, NAMES + left, 60, wide, LINE * max(len(rows), 1))
        for left, wide in ((0, 380), (410, 170), (610, 170))
    ]
    for ax, head in zip(axes, heads):
        style_axes(ax)
        ax.set(ylim=(len(rows) - 0.5, -0.5), yticks=[])
        add_text(ax, 0, 1 + 6 / (LINE * max(len(rows), 1)), head, transform=ax.transAxes, va="bottom", fontsize=9)
    for y, row in enumerate(rows):
        _draw_row(axes, y, row)
        x = axes[0].get_position().x0 - 8 / width
        place = 1 - (60 + LINE * (y + 0.5)) / height
        add_text(figure, x, place, row.flip.label, ha="right", va="center", fontsize=8)
        counts = f"{row.kept} kept, {row.lost} lost, {row.new} new"
        add_text(figure, (NAMES + 800) / width, place, counts, va="center", fontsize=8, color="#555555")
    largest = max([row.max_shift for row in rows], default=1.0)
    axes[0].set(xscale="log", xlim=(SMALLEST / 1.5, max(largest * 1.6, 1.0)))
    decades = [SMALLEST * 10**i for i in range(8) if SMALLEST * 10**i <= max(largest * 1.6, 1.0)]
    axes[0].set_xticks(decades, [f"< {SMALLEST:g}", *(f"{v:g}" for v in decades[1:])])
    for ax in axes[1:]:
        ax.set(xlim=(-0.02, 1.02), xticks=[0, 0.5, 1])
    _draw_key(axes[0], {_part(row) for row in rows}, 30 / (LINE * max(len(rows), 1)))
    return save(figure, path)


def _part(row: Row) -> str:
    return meanings()[row.flip.field].part


def _draw_row(axes: Sequence[Axes], y: int, row: Row) -> None:
    """Draw one convention.

    Parameters
    ----------
    axes : sequence of 3 Axes
        For shifts, scores and masks.
    y : int
        The line of the chart.
    row : Row
    """
    colour = COLOURS.get(_part(row), "#000000")
    if row.kept == 0:
        place = axes[0].get_yaxis_transform()
        add_text(
            axes[0], 0.5, y, "no detection finds its partner", transform=place, ha="center", va="center", color=colour
        )
        return
    low, high = (max(v, SMALLEST) for v in (row.mean_shift, row.max_shift))
    axes[0].plot([low, high], [y, y], color=colour, linewidth=1.2)
    axes[0].plot([low], [y], "o", markersize=5, markerfacecolor="white", markeredgecolor=colour)
    axes[0].plot([high], [y], "o", markersize=5, color=colour)
    for ax, value, rest in ((axes[1], row.max_score, 0.0), (axes[2], row.mean_mask_iou, 1.0)):
        ax.plot([rest, value], [y, y], color=colour, linewidth=1.2)
        ax.plot([value], [y], "o", markersize=5, color=colour)


def _draw_key(ax: Axes, parts: set[str], below: float) -> None:
    """Name the colours below the chart, in the order of the data flow.

    Parameters
    ----------
    ax : Axes
        The leftmost of the chart.
    parts : set of str
        Those of ``PARTS`` that have a line.
    below : float
        Distance from the chart, as a share of its height.
    """
    x = -0.9
    for part in (p for p in COLOURS if p in parts):
        name = part.partition(",")[0]
        add_text(ax, x, -below, "● " + name, transform=ax.transAxes, va="top", color=COLOURS[part], fontsize=8)
        x += 0.07 + 0.0185 * len(name)


def save_crops(
    path: str | os.PathLike[str],
    board: Switchboard,
    class_names: Sequence[str],
    title: str,
    *,
    count: int = 8,
    side: int = 250,
) -> Path:
    """Save crops around the boxes that moved most, at most one for each convention: before white, after orange.

    Parameters
    ----------
    path : path
        Replaced if it exists.
    board : Switchboard
    class_names : sequence of str
        Entry 0 is background.
    title : str
        What was measured on what.
    count : int
        Of crops, at most.
    side : int
        Of a crop, in pixels of the picture.
    """
    rows = [row for row in moving_rows(board) if row.worst is not None and row.max_shift > 0]
    fields = list(dict.fromkeys(row.flip.field for row in rows))[:count]
    chosen = [next(row for row in rows if row.flip.field == field) for field in fields]
    columns = min(max(len(chosen), 1), 4)
    lines = -(-max(len(chosen), 1) // columns)
    width, height = columns * (side + 20) + 20, lines * (side + 62) + 50
    figure = new_figure(width, height)
    add_text(figure, 10 / width, 1 - 8 / height, shorten(title, int(width / 6.6)), va="top", fontsize=9)
    note = "the box that moves most: before white, after orange dashed" if chosen else "no box moves"
    add_text(figure, 10 / width, 1 - 26 / height, note, va="top", fontsize=9, color="#555555")
    for i, row in enumerate(chosen):
        line, column = divmod(i, columns)
        left, top = 20 + column * (side + 20), 50 + line * (side + 62) + 34
        ax = add_axes(figure, left, top, side, side)
        _draw_crop(ax, board.sample.image, row)
        words = f"{row.flip.field}: {row.max_shift:.1f} px"
        assert row.worst is not None
        name, (before, after) = class_names[row.worst.class_id], row.worst.scores
        change = f"{shorten(name, 20)}, score {before:.2f} → {after:.2f}"
        add_text(figure, left / width, 1 - (top - 32) / height, words, va="top", fontsize=9)
        add_text(figure, left / width, 1 - (top - 17) / height, change, va="top", fontsize=8, color="#555555")
    return save(figure, path)


def _draw_crop(ax: Axes, image: np.ndarray, row: Row) -> None:
    """Draw the box that moved most, before and after.

    Parameters
    ----------
    ax : Axes
    image : ndarray of shape (H, W, 3), uint8
    row : Row
        Its ``worst`` is not None.
    """
    assert row.worst is not None
    before, after = row.worst.boxes
    low, high = np.minimum(before[:2], after[:2]), np.maximum(before[2:], after[2:])
    half = max(0.65 * float((high - low).max()), 4.0)
    y, x = (float(v) for v in (low + high) / 2)
    show_image(ax, image)
    ax.images[0].set_interpolation("nearest")
    add_box(ax, before, "white", width=1.8)
    add_box(ax, after, "#E69F00", width=1.8, dash="dashed")
    ax.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
