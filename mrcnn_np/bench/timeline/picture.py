"""``timeline.png``: each run as a band in the order of time, and its parts as bars with their floors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...pictures.canvas import (
    CHARACTER,
    FONTS,
    PALETTE,
    add_axes,
    add_legend,
    add_text,
    new_figure,
    save,
    style_axes,
)
from ..quiet import mark
from .page import NOT_QUIET, Row, disturbed, milliseconds, parts, total
from .record import WIRING

Record = dict[str, Any]

LEFT, WIDTH, RIGHT = 210, 800, 190  # pixels: names, what is drawn, the legend
HEAD, BAND, ROW, GAP = 56, 44, 17, 58
#: a part that takes less of the whole has no bar of its own
LEAST = 0.004
REST = "all others"
#: colours by what a part works on, in the order of the legend; a gradient has the colour of its forward pass, paler
GROUPS = {
    "image": "#9E9E9E", "backbone": PALETTE[5], "pyramid": PALETTE[1], "proposals": PALETTE[3], "regions": PALETTE[0],
    "heads": PALETTE[2], "losses, targets": PALETTE[6], "detections": PALETTE[4], "optimiser, checks": "#555555",
}  # fmt: skip
#: the group of a part, by the beginning of its name; the first that fits
BEGINS = {
    "mold_image": "image", "backbone": "backbone", "fpn": "pyramid", "pyramid_roi_align": "regions",
    "rpn_head": "proposals", "propose": "proposals", "rpn_": "losses, targets", "roi_targets": "losses, targets",
    "head_": "losses, targets", "box_head": "heads", "mask_head": "heads", "c5_head": "heads",
    "keypoint_head": "heads", "refine": "detections", "own_masks": "detections", "unmold": "detections",
    "paste_masks": "detections", "heatmap_peaks": "detections", "require_finite": "optimiser, checks",
    "clip_gradients": "optimiser, checks", "update": "optimiser, checks",
}  # fmt: skip


def group(part: str) -> str | None:
    """Return what a part works on; None for what lies between the parts."""
    return next((name for begin, name in BEGINS.items() if part.startswith(begin)), None)


def colour(part: str) -> tuple[float, float, float]:
    """Return the colour of a part: that of its group, paler for a gradient; white between the parts."""
    found = group(part)
    if found is None:
        return 1.0, 1.0, 1.0
    red, green, blue = to_rgb(GROUPS[found])
    pale = 0.45 if part.endswith("_backward") else 0.0
    return red + (1 - red) * pale, green + (1 - green) * pale, blue + (1 - blue) * pale


def draw(path: Path, found: Record, machine: Record) -> Path:
    """Save the picture.

    Parameters
    ----------
    path : Path
    found : dict
        As ``measure.run`` returns it.
    machine : dict
        As ``machine.info`` returns it.
    """
    bars = [_bars(run, found["peak"]) for run in found["runs"]]
    height = HEAD + sum(BAND + 2 * GAP + ROW * len(rows) for rows in bars)
    figure = new_figure(LEFT + WIDTH + RIGHT, height)
    add_text(
        figure, 0.01, 1 - 18 / height, "Where the time goes: white is Python and NumPy between the kernels",
        fontsize=10, va="center",
    )  # fmt: skip
    told = f"{machine['processor']}, {machine['threads']} thread{'s' * (machine['threads'] != 1)}"
    if disturbed(found):
        told += f"; {NOT_QUIET}"
    add_text(figure, 0.01, 1 - 36 / height, told, va="center", color="#555555")
    top = HEAD
    for run, rows in zip(found["runs"], bars):
        top = _draw_run(figure, top, run, rows)
    return save(figure, path)


def _draw_run(figure: Figure, top: int, run: Record, rows: list[Row]) -> int:
    """Draw one run; return where the next one begins.

    Parameters
    ----------
    figure : Figure
    top : int
        Pixels from the upper edge.
    run : dict
    rows : list of Row
        Its bars.
    """
    height, width = run["size"]
    seconds = sum(one["seconds"] for one in run["slices"])
    band = add_axes(figure, LEFT, top + 20, WIDTH, BAND)
    band.set_title(
        f"{run['preset']} {run['what']}, {height}x{width}: {milliseconds(seconds)} ms{mark(run)}, in the order of time",
        loc="left", fontsize=9, family=FONTS,
    )  # fmt: skip
    _draw_band(band, run, seconds)
    below = add_axes(figure, LEFT, top + BAND + GAP, WIDTH, ROW * len(rows))
    _draw_bars(below, rows, seconds)
    add_legend(band, *_legend({one["part"] for one in run["slices"]}))
    return top + BAND + 2 * GAP + ROW * len(rows)


def _draw_band(ax: Axes, run: Record, seconds: float) -> None:
    """Draw the slices one after the other, and name the wide parts.

    Parameters
    ----------
    ax : Axes
    run : dict
    seconds : float
        Of the whole run.
    """
    at, ink = 0.0, []
    blocks: list[tuple[str, float, float]] = []  # part, begin, length
    for one in run["slices"]:
        if one["op"]:
            ink.append((at, one["seconds"], colour(one["part"])))
        begin = blocks.pop()[1] if blocks and blocks[-1][0] == one["part"] else at
        at += one["seconds"]
        blocks.append((one["part"], begin, at - begin))
    ax.broken_barh(
        [(1e3 * begin, 1e3 * length) for begin, length, _ in ink], (0, 1), facecolors=[shade for *_, shade in ink],
        linewidth=0,
    )  # fmt: skip
    for part, begin, length in blocks:
        if part != WIRING and length / seconds * WIDTH > CHARACTER * len(part) * 0.9:
            add_text(ax, 1e3 * (begin + length / 2), -0.12, part, ha="center", va="top", fontsize=7)
    ax.set(xlim=(0, 1e3 * seconds), ylim=(0, 1), yticks=[], xticks=[])


def _draw_bars(ax: Axes, rows: list[Row], seconds: float) -> None:
    """Draw a bar for each part: its kernels, then white for what lies between, and a line at its floor.

    Parameters
    ----------
    ax : Axes
    rows : list of Row
    seconds : float
        Of the whole run.
    """
    style_axes(ax)
    for place, row in enumerate(rows):
        kernels = row.seconds - row.between
        ax.barh(place, 1e3 * kernels, height=0.72, color=colour(row.part) if group(row.part) else "#BDBDBD")
        ax.barh(
            place, 1e3 * row.between, left=1e3 * kernels, height=0.72, color="white", edgecolor="#888888",
            linewidth=0.7,
        )  # fmt: skip
        if row.floor:
            ax.plot([1e3 * row.floor] * 2, [place - 0.45, place + 0.45], color="black", linewidth=1.4)
        share = f", floor {100 * row.floor / row.seconds:.0f} %" if row.floor and row.seconds else ""
        text = f" {100 * row.seconds / seconds:.1f} %{share}"
        add_text(ax, 1e3 * max(row.seconds, row.floor), place, text, va="center", fontsize=7)
    ax.set_yticks(range(len(rows)), [row.part for row in rows], family=FONTS, fontsize=7)
    longest = max(max(row.seconds, row.floor) for row in rows)
    ax.set(xlim=(0, 1.22e3 * longest), ylim=(len(rows) - 0.4, -0.6))
    ax.set_xlabel("ms", fontsize=8)


def _bars(run: Record, peak: Record) -> list[Row]:
    """Return the rows that have a bar: those of some length, and one for all others."""
    rows = parts(run, peak)
    seconds = sum(row.seconds for row in rows)
    short = {row.part for row in rows if row.seconds < LEAST * seconds}
    kept = [row for row in rows if row.part not in short]
    if short:
        kept.append(total((one for one in run["slices"] if one["part"] in short), peak, part=REST))
    return kept


def _legend(there: set[str]) -> tuple[list[Any], list[str]]:
    """Return what the colours mean, of those parts that are there, and the line of a floor."""
    names = [name for name in GROUPS if name in map(group, there)]
    handles: list[Any] = [Patch(color=GROUPS[name]) for name in names]
    if any(part.endswith("_backward") for part in there):
        handles.append(Patch(color=colour("backbone_backward")))
        names.append("paler: a gradient")
    handles += [Patch(facecolor="white", edgecolor="#888888"), Line2D([], [], color="black", linewidth=1.4)]
    return handles, [*names, "between the kernels", "the floor"]
