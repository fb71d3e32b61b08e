"""How anchors and mask cells fit the objects of a data set, in one picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter

from ..fit.anchor_fit import AnchorFit
from ..fit.anchors import half_sides
from ..fit.report import MASK_SIZES, FitReport
from .canvas import LINE_PALETTE, add_axes, add_legend, add_text, new_figure, save, style_axes

_NOW, _THEN = LINE_PALETTE[1], LINE_PALETTE[0]
_MOST = 3000  # objects drawn as points


def save_fit(path: str | os.PathLike[str], report: FitReport) -> Path:
    """Save objects and anchors by width and height, the best IoU of the objects, and what masks lose.

    Parameters
    ----------
    path : path
        A PNG, written whole or not at all.
    report : FitReport
    """
    figure = new_figure(1180, 560)
    add_text(
        figure, 70 / 1180, 1 - 12 / 560, f"{len(report.boxes)} objects of {report.images} images at the training size, "
        f"preset {report.now.config.name}", va="top", fontsize=11,
    )  # fmt: skip
    _draw_sizes(add_axes(figure, 70, 45, 450, 450), report)
    _draw_best(add_axes(figure, 640, 45, 380, 220), report)
    _draw_masks(add_axes(figure, 640, 335, 380, 160), report.masks)
    return save(figure, path)


def _fits(report: FitReport) -> list[tuple[str, AnchorFit, str, str]]:
    fits = [("anchors now", report.now, _NOW, "x")]
    return fits + ([("suggested", report.better, _THEN, "+")] if report.better else [])


def _draw_sizes(ax: Axes, report: FitReport) -> None:
    shown = np.linspace(0, len(report.boxes) - 1, min(len(report.boxes), _MOST)).astype(int)
    boxes = report.boxes[shown]
    height, width = (boxes[:, 2:] - boxes[:, :2]).T
    handles = [ax.scatter(width, height, s=9, color="#999999", alpha=0.6, linewidths=0)]
    names = ["object"]
    for name, fit, colour, marker in _fits(report):
        high, wide = 2 * half_sides(fit.config).reshape(-1, 2).T
        handles.append(ax.scatter(wide, high, s=55, color=colour, marker=marker, linewidths=1.6, zorder=3))
        names.append(name)
    ax.set(xscale="log", yscale="log", xlabel="width, pixels", ylabel="height, pixels")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    style_axes(ax)
    legend = ax.legend(handles, names, loc="lower right", fontsize=8)
    legend.set_zorder(5)


def _draw_best(ax: Axes, report: FitReport) -> None:
    at = np.linspace(0, 1, 101)
    handles, names = [], []
    for name, fit, colour, _ in _fits(report):
        share = 1 - np.searchsorted(np.sort(fit.best), at - 1e-9) / max(len(fit.best), 1)
        handles += ax.plot(at, share, color=colour)
        names.append(name)
    config = report.now.config
    for value in (config.rpn_negative_iou, config.rpn_positive_iou):
        ax.axvline(value, color="#777777", linestyle="dashed", linewidth=1)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="IoU with the best anchor (dashed: negative below, positive above)")
    ax.set_ylabel("share of objects above")
    style_axes(ax)
    add_legend(ax, handles, names)


def _draw_masks(ax: Axes, masks: np.ndarray) -> None:
    places = np.arange(len(masks))
    values = np.nan_to_num(masks)
    bars = [ax.bar(places - 0.2, values[:, 0], 0.38, color=_THEN), ax.bar(places + 0.2, values[:, 1], 0.38, color=_NOW)]
    ax.set(ylim=(0, 1.02), xticks=places)
    ax.set_xticklabels(["training size", *(f"m = {m}" for m in MASK_SIZES)])
    ax.set_xlabel("what is left of perfect masks")
    style_axes(ax)
    add_legend(ax, bars, ["mean IoU", "outline lost"])
