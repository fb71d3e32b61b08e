"""Pictures of numbers: losses over the steps of training, precision over recall."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ..evaluate import Evaluation
from ..evaluate.ranking import precision_envelope
from ..objective import KEYPOINT_LOSS, LOSSES
from .canvas import DASHES, LINE_PALETTE, add_axes, add_legend, add_text, new_figure, save, shorten, style_axes


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the last ``window`` values at each place, fewer at the start; NaN counts as missing.

    Parameters
    ----------
    values : ndarray of shape (N,)
    window : int
        At least 1.

    Returns
    -------
    ndarray of shape (N,), float64
        NaN where none of the values is a number.
    """
    if window < 1:
        raise ValueError(f"window is {window}; expected at least 1")
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - window, 0)
    number = count[end] - count[start]
    return np.divide(total[end] - total[start], number, out=np.full(len(values), np.nan), where=number > 0)


def plot_losses(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]], *, window: int | None = None) -> Path:
    """Save the course of training: total loss, its five terms, and the learning rate over the steps.

    Parameters
    ----------
    path : path
        A PNG, written whole or not at all.
    rows : iterable of mappings
        Lines of ``metrics.jsonl``: ``step``, ``loss``, the five terms, ``learning_rate``. What a row lacks, or holds as
        something other than a finite number, is left out; rows without ``step`` are counted.
    window : int, optional
        Of the running mean drawn over the raw values; default a fiftieth of the rows.
    """
    rows = list(rows)
    steps = _column(rows, "step")
    steps = np.where(np.isnan(steps), np.arange(len(rows)), steps)
    window = max(len(rows) // 50, 1) if window is None else window
    figure = new_figure(900, 760)
    top = add_axes(figure, 80, 40, 660, 230)
    middle = add_axes(figure, 80, 310, 660, 250)
    bottom = add_axes(figure, 80, 600, 660, 100)
    kind = f"running mean of {window} steps over single steps" if window > 1 else "every step"
    add_text(figure, 80 / 900, 1 - 12 / 760, f"Training losses, {kind}", va="top", fontsize=11)
    _curves(top, steps, [("loss", _column(rows, "loss"), "#000000")], window)
    _curves(middle, steps, [(n, _column(rows, n), c) for n, c in zip((*LOSSES, KEYPOINT_LOSS), LINE_PALETTE)], window)
    _curves(bottom, steps, [("learning_rate", _column(rows, "learning_rate"), LINE_PALETTE[0])], 1)
    top.set_ylabel("total loss")
    middle.set_ylabel("five terms")
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("step")
    span = (float(steps.min()), float(steps.max())) if len(steps) else (0.0, 1.0)
    for ax in (top, middle, bottom):
        ax.set_xlim(span[0], max(span[1], span[0] + 1))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return save(figure, path)


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    values = [row.get(key) for row in rows]
    numbers = [float(v) if isinstance(v, (int, float, np.number)) else np.nan for v in values]
    return np.array([v if np.isfinite(v) else np.nan for v in numbers], np.float64)


def _curves(ax: Axes, steps: np.ndarray, lines: list[tuple[str, np.ndarray, str]], window: int) -> None:
    """Draw raw values pale and their running mean above; logarithmic if that is possible and of use."""
    lines = [line for line in lines if np.isfinite(line[1]).any()]
    style_axes(ax)
    if not lines:
        add_text(ax, 0.5, 0.5, "no values", transform=ax.transAxes, ha="center", va="center", color="#666666")
        return
    drawn = []
    for _, values, colour in lines:
        if window > 1:
            ax.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3)
        mark = "o" if np.isfinite(values).sum() == 1 else None
        drawn += ax.plot(
            steps,
            running_mean(values, window),
            color=colour,
            linewidth=1.6,
            marker=mark,
            markersize=4,
            clip_on=mark is None,
        )
    everything = np.concatenate([values[np.isfinite(values)] for _, values, _ in lines])
    if everything.min() > 0 and everything.max() > 10 * everything.min():
        ax.set_yscale("log")
        decades = np.log10(everything.max() / everything.min())
        tall = ax.get_position().height > 0.2  # room for ticks at 1, 2, 5, not only at powers of ten
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if tall and decades < 3 else (1,)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        low = np.percentile(everything, 0.5)  # single tiny values must not flatten the rest
        ax.set_ylim(low / 1.5, everything.max() * 1.3)
    else:
        ax.set_ylim(min(0.0, everything.min()), max(everything.max(), 1e-12) * 1.08)
    if len(lines) > 1:
        add_legend(ax, drawn, [name for name, _, _ in lines])


def plot_precision_recall(path: str | os.PathLike[str], evaluation: Evaluation) -> Path:
    """Save precision over recall of every class with objects, best AP first in the legend.

    The steps are the envelope that average precision is computed from; up to seven classes the raw curve is drawn
    too, thin. A curve ends at the largest recall reached.
    """
    classes = [k for k in np.argsort(-np.nan_to_num(evaluation.ap, nan=-1.0), kind="stable") if evaluation.gt[k]]
    per_column = 28
    legend_columns = min(max(-(-len(classes) // per_column), 1), 3)
    width = 640 + 190 * legend_columns
    figure = new_figure(width, 560)
    ax = add_axes(figure, 65, 50, 540, 450)
    style_axes(ax)
    mean = "none" if np.isnan(evaluation.mean_ap) else f"{evaluation.mean_ap:.3f}"
    title = f"{evaluation.method} {evaluation.iou_type} AP at IoU {evaluation.iou_threshold:g}: mean {mean}"
    add_text(figure, 65 / width, 1 - 15 / 560, f"{title} ({evaluation.images} images)", va="top", fontsize=11)
    ax.set(xlim=(0, 1.01), ylim=(0, 1.03))
    ax.set_xlabel("recall")
    ax.set_ylabel("precision")
    drawn, names = [], []
    for i, k in enumerate(classes):
        colour, dash = LINE_PALETTE[i % len(LINE_PALETTE)], DASHES[i // len(LINE_PALETTE) % len(DASHES)]
        recall, precision = evaluation.recall[k], evaluation.precision[k]
        steps = precision_envelope(precision)
        x = np.concatenate([[0.0], recall, recall[-1:]])
        y = np.concatenate([steps[:1] if len(steps) else [0.0], steps, np.zeros(min(len(steps), 1))])
        drawn += ax.plot(x, y, drawstyle="steps-pre", color=colour, linestyle=dash, linewidth=1.6, clip_on=False)
        if len(classes) <= len(LINE_PALETTE):
            ax.plot(recall, precision, color=colour, linewidth=0.7, alpha=0.6)
        names.append(f"{evaluation.ap[k]:.2f} {shorten(evaluation.class_names[k], 18)} ({evaluation.gt[k]})")
    if drawn:
        shown = per_column * legend_columns
        add_legend(ax, drawn[:shown], names[:shown], title="AP, class (objects)", ncols=legend_columns)
    else:
        add_text(ax, 0.5, 0.5, "no class has objects", transform=ax.transAxes, ha="center", color="#666666")
    return save(figure, path)
