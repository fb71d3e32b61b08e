"""A comparison as text, Markdown, a web page of one file, and two pictures."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..files import atomic_write, prepare, write_text
from ..pictures.canvas import add_axes, add_text, fit_size, new_figure, pixels, style_axes
from ..pictures.instances import draw_on
from .comparison import Comparison, Row

if TYPE_CHECKING:
    from .torchvision.side_by_side import TrainingComparison

HEAD = ("tensor", "shape", "max abs", "relative", "", "")
STYLE = """\
.compare { font: 15px/1.5 system-ui, sans-serif; max-width: 72em; color: #222 }
.compare table { border-collapse: collapse; font-size: 13px }
.compare td, .compare th { border: 1px solid #ddd; padding: 2px 8px; text-align: left }
.compare tr.bad { background: #fbd9d3 } .compare tr.first { background: #d55e00; color: white }
.compare tr.none { color: #888 } .compare img { max-width: 100%; display: block; margin: 1em 0 }
"""


def number(value: float) -> str:
    """Return a figure of the table."""
    if math.isnan(value):
        return "–"
    return (
        f"{value:g}" if value == int(value) and abs(value) < 1000 else f"{value:.1e}" if math.isfinite(value) else "∞"
    )


def verdict(row: Row) -> str:
    """Return one word for a row."""
    return {True: "ok", False: "DIFFERS", None: "not compared"}[row.within]


def cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table."""
    shape = " × ".join(str(side) for side in row.shape)
    return row.name, shape, number(row.max_abs), number(row.relative), verdict(row), row.note


def heading(comparison: Comparison) -> str:
    """Return the two sides' names."""
    return f"{comparison.names[0]} beside {comparison.names[1]}"


def text(comparison: Comparison) -> str:
    """Return the table for a terminal, and the verdict."""
    facts = [f"{key}: {value}" for key, value in comparison.info.items()]
    lines = columns(HEAD, [cells(row) for row in comparison.rows])
    return "\n".join([heading(comparison), *facts, "", lines, "", comparison.verdict])


def columns(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    lines = [head, *lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(rows + ["| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines])


def markdown(comparison: Comparison, pictures: Sequence[str] = ()) -> str:
    """Return a document that shows the pictures of these file names."""
    facts = "\n".join(f"- {key}: {value}" for key, value in comparison.info.items())
    shown = "\n\n".join(f"![{Path(name).stem.replace('_', ' ')}]({name})" for name in pictures)
    parts = [f"# {heading(comparison)}", facts, f"**{comparison.verdict}**"]
    parts += [table(HEAD, [cells(row) for row in comparison.rows]), shown]
    return "\n\n".join(part for part in parts if part) + "\n"


def html(comparison: Comparison, *, whole: bool = True) -> str:
    """Return a web page that needs no other file, or (``whole=False``) the part of one that a notebook shows."""
    first = comparison.first
    kinds = ["first" if row is first else {True: "", False: "bad", None: "none"}[row.within] for row in comparison.rows]
    images = "".join(
        f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for name, png in pictures(comparison).items()
    )
    rows = html_table(HEAD, [cells(row) for row in comparison.rows], kinds)
    return page(heading(comparison), comparison.info, comparison.verdict, images + rows, whole=whole)


def html_table(head: Sequence[str], lines: Sequence[Sequence[str]], kinds: Sequence[str]) -> str:
    """Return a table; ``kinds`` are the rows' classes."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    rows = [
        f'<tr class="{kind}">' + "".join(f"<td>{escape(c)}</td>" for c in line) + "</tr>"
        for kind, line in zip(kinds, lines)
    ]
    return f"<table><tr>{top}</tr>{''.join(rows)}</table>"


def page(title: str, info: Mapping[str, str], verdict: str, content: str, *, whole: bool) -> str:
    """Return a web page, or the part of one."""
    facts = "".join(f"<li>{escape(key)}: {escape(value)}</li>" for key, value in info.items())
    body = (
        f'<style>{STYLE}</style><div class="compare"><h2>{escape(title)}</h2><ul>{facts}</ul>'
        f"<p><b>{escape(verdict)}</b></p>{content}</div>"
    )
    if not whole:
        return body
    head = f'<meta charset="utf-8"><title>{escape(title)}</title>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


# --- training -------------------------------------------------------------------------------------------------------


TRAINING_HEAD = ("step", "loss", "mrcnn-np", "torchvision", "relative")


def training_lines(training: TrainingComparison) -> list[tuple[str, ...]]:
    """Return a line for every loss of every step."""
    return [
        (str(step + 1), name, f"{ours[name]:.6f}", f"{theirs[name]:.6f}", number(training.relative(step, name)))
        for step, (ours, theirs) in enumerate(zip(training.ours, training.theirs))
        for name in ours
    ]


def gradient_lines(training: TrainingComparison) -> list[tuple[str, ...]]:
    """Return a line for every gradient of the first step, the farthest off first."""
    return [cells(row) for row in sorted(training.gradients, key=lambda row: -row.relative)]


def training_text(training: TrainingComparison) -> str:
    """Return losses and the ten worst gradients for a terminal, and the verdict."""
    facts = [f"{key}: {value}" for key, value in training.info.items()]
    losses = columns(TRAINING_HEAD, training_lines(training))
    gradients = columns(("gradient, step 1", *HEAD[1:]), gradient_lines(training)[:10])
    return "\n".join([*facts, "", losses, "", gradients, "", training.verdict])


def training_html(training: TrainingComparison, *, whole: bool = True) -> str:
    """Return losses and all gradients as a web page, or the part of one."""
    losses, gradients = training_lines(training), gradient_lines(training)
    content = html_table(TRAINING_HEAD, losses, [""] * len(losses))
    content += "<h3>Gradients of the first step</h3>" + html_table(HEAD, gradients, [""] * len(gradients))
    return page("Training beside torchvision", training.info, training.verdict, content, whole=whole)


def write_training(training: TrainingComparison, folder: Path) -> list[Path]:
    """Write ``training.md`` and ``training.html``; return their paths."""
    prepare(folder)
    facts = "\n".join(f"- {key}: {value}" for key, value in training.info.items())
    parts = ["# Training beside torchvision", facts, f"**{training.verdict}**"]
    parts += [table(TRAINING_HEAD, training_lines(training)), "## Gradients of the first step"]
    parts.append(table(HEAD, gradient_lines(training)))
    write_text(folder / "training.md", "\n\n".join(parts) + "\n")
    write_text(folder / "training.html", training_html(training))
    return [folder / "training.md", folder / "training.html"]


# --- pictures -------------------------------------------------------------------------------------------------------


def pictures(comparison: Comparison) -> dict[str, bytes]:
    """Return the pictures by file name: both results side by side (if there is an image), and the errors."""
    drawn = {}
    if comparison.image is not None and "masks" in comparison.ours and "masks" in comparison.theirs:
        drawn["side_by_side.png"] = _png(side_by_side(comparison))
    drawn["errors.png"] = _png(error_profile(comparison))
    return drawn


def side_by_side(comparison: Comparison, *, most: int = 12, size: int = 560) -> np.ndarray:
    """Draw the best detections of both sides beside each other: uint8 (H, W, 3)."""
    image = comparison.image
    assert image is not None
    height, width = fit_size(image.shape, size)
    gap, top = 8, 24
    figure = new_figure(2 * width + 3 * gap, height + top + gap)
    for i, (name, trace) in enumerate(zip(comparison.names, (comparison.ours, comparison.theirs))):
        left = gap + i * (width + gap)
        ax = add_axes(figure, left, top, width, height)
        shown = min(len(trace["boxes"]), len(trace["masks"]), most)
        draw_on(
            ax, image, trace["boxes"][:shown], trace["detection_classes"][:shown], trace["masks"][:shown], (),
            scores=trace["detection_scores"][:shown],
        )  # fmt: skip
        found = len(trace["boxes"])
        which = f"the best {shown} of {found} detections" if shown < found else f"{found} detections"
        x, y = left / (2 * width + 3 * gap), 1 - (top - 4) / (height + top + gap)
        add_text(figure, x, y, f"{name}: {which}", va="bottom")
    return pixels(figure)


def error_profile(comparison: Comparison) -> np.ndarray:
    """Draw the relative error of every tensor along the network, on a logarithmic scale: uint8 (H, W, 3)."""
    rows = [row for row in comparison.rows if row.within is not None and np.isfinite(row.relative)]
    figure = new_figure(max(16 * len(rows) + 120, 320), 320)
    ax = add_axes(figure, 80, 12, max(16 * len(rows), 200), 180)
    style_axes(ax)
    smallest = min([row.relative for row in rows if row.relative > 0] + [comparison.tolerance]) / 10
    colours = ["#0072B2" if row.within else "#D55E00" for row in rows]
    ax.bar(range(len(rows)), [max(row.relative, smallest) for row in rows], bottom=0, color=colours, width=0.8)
    ax.axhline(comparison.tolerance, color="black", linewidth=1, linestyle="dashed")
    ax.set_yscale("log")
    ax.set_ylim(smallest, None)
    ax.set_xlim(-0.7, max(len(rows), 1) - 0.3)
    ax.set_xticks(range(len(rows)), [row.name for row in rows], rotation=90, fontsize=7)
    ax.set_ylabel("relative error", fontsize=8)
    return pixels(figure)


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="png", optimize=True)
    return file.getvalue()


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``compare.md``, ``compare.html`` and the pictures; return their paths.

    Raises
    ------
    UserError
        The folder cannot be written.
    """
    prepare(folder)
    files = pictures(comparison)
    documents = {
        "compare.md": markdown(comparison, tuple(files)).encode(errors="backslashreplace"),
        "compare.html": html(comparison).encode(errors="backslashreplace"),
    }
    for name, data in {**documents, **files}.items():
        atomic_write(folder / name, data)
    return [folder / name for name in (*documents, *files)]
