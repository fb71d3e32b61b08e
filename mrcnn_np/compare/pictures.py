"""The two pictures of a comparison: what both sides found, and the error of every tensor."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from ..pictures.canvas import add_axes, add_text, fit_size, new_figure, pixels, style_axes
from ..pictures.instances import draw_on
from .rows import Row
from .trace import Trace


def side_by_side(image: np.ndarray, sides: Mapping[str, Trace], *, most: int = 12, size: int = 560) -> np.ndarray:
    """Draw the best detections of both sides beside each other.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    sides : mapping of str to dict of str to ndarray
        The traces by the names of the sides.
    most : int
        How many detections are drawn.
    size : int
        Largest side of the image as drawn, in pixels.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
    """
    height, width = fit_size(image.shape, size)
    gap, top = 8, 24
    figure = new_figure(2 * width + 3 * gap, height + top + gap)
    for i, (name, trace) in enumerate(sides.items()):
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


def error_profile(rows: Sequence[Row], tolerance: float) -> np.ndarray:
    """Draw the relative error of every tensor along the network, on a logarithmic scale: uint8 (H, W, 3)."""
    rows = [row for row in rows if row.within is not None and np.isfinite(row.relative)]
    figure = new_figure(max(16 * len(rows) + 120, 320), 320)
    ax = add_axes(figure, 80, 12, max(16 * len(rows), 200), 180)
    style_axes(ax)
    smallest = min([row.relative for row in rows if row.relative > 0] + [tolerance]) / 10
    colours = ["#0072B2" if row.within else "#D55E00" for row in rows]
    ax.bar(range(len(rows)), [max(row.relative, smallest) for row in rows], bottom=0, color=colours, width=0.8)
    ax.axhline(tolerance, color="black", linewidth=1, linestyle="dashed")
    ax.set_yscale("log")
    ax.set_ylim(smallest, None)
    ax.set_xlim(-0.7, max(len(rows), 1) - 0.3)
    ax.set_xticks(range(len(rows)), [row.name for row in rows], rotation=90, fontsize=7)
    ax.set_ylabel("relative error", fontsize=8)
    return pixels(figure)


def png(picture: np.ndarray) -> bytes:
    """Return a picture (H, W, 3) of uint8 as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="png", optimize=True)
    return file.getvalue()
