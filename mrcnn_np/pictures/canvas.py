"""What all pictures share: figures without global state, colours, text that cannot fail, and how a picture is saved.

Pixel ``(row, column)`` of an image covers ``[row, row + 1) x [column, column + 1)`` of the axes, so half-open boxes are
drawn where they are.
"""

from __future__ import annotations

import contextlib
import io
import os
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager, patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from ..errors import printable
from ..files import atomic_write, make_folder

DPI = 100
#: Okabe and Ito's colours, told apart by colour-blind readers; neighbours in the list differ most
PALETTE = ("#E69F00", "#56B4E9", "#D55E00", "#009E73", "#F0E442", "#0072B2", "#CC79A7")
#: the same for lines on white, where yellow would be lost
LINE_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("solid", "dashed", "dotted", "dashdot")
NARROW = 160.0  # pixels a panel has at least, so that a label fits beside a narrow image
CHARACTER = 6.2  # pixels per character of 8 point text, rounded up
LINE = 14  # pixels from one line of such text to the next
_WIDEST = 12.0  # pixels of the widest letters
_MAX_SIDE = 30000  # pixels; Agg fails beyond 2**16

# DejaVu comes with matplotlib; the others are used, where they are installed, for what it lacks
_CJK = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC", "SimHei")
FONTS = ["DejaVu Sans", *(name for name in _CJK if name in font_manager.fontManager.get_font_names())]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure of so many pixels that no pyplot window knows of."""
    if max(width, height) > _MAX_SIDE:
        raise ValueError(f"picture would be {width:.0f} x {height:.0f} pixels; expected at most {_MAX_SIDE}")
    figure = Figure(figsize=(max(width, 1) / DPI, max(height, 1) / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return axes at a place given in pixels from the figure's top left corner.

    Parameters
    ----------
    figure : Figure
    left, top, width, height : float
        Pixels.
    """
    full_width, full_height = figure.get_size_inches() * DPI
    bottom = full_height - top - height
    return figure.add_axes((left / full_width, bottom / full_height, width / full_width, height / full_height))


def add_text(where: Axes | Figure, x: float, y: float, text: str, **style: Any) -> Text:
    """Write text as it is: a dollar sign starts no formula, and other scripts find a font if there is one.

    Parameters
    ----------
    where : Axes or Figure
    x, y : float
        In the coordinates of ``where``.
    text : str
    **style
        What Matplotlib's ``text`` takes.
    """
    shown = printable(text, keep="\n")  # also the bytes of a file name that are no letters
    return where.text(x, y, shown, parse_math=False, **{"fontfamily": FONTS, "fontsize": 8, **style})


def show_image(ax: Axes, image: np.ndarray, *, margin: float = 0.0) -> None:
    """Show an image without ticks; ``margin`` pixels of grey around it make room for boxes that leave it.

    Parameters
    ----------
    ax : Axes
    image : ndarray of shape (H, W, 3), uint8
    margin : float
        Pixels.
    """
    height, width = image.shape[:2]
    ax.imshow(image, extent=(0, width, height, 0))
    ax.set(xlim=(-margin, width + margin), ylim=(height + margin, -margin), xticks=[], yticks=[], facecolor="#DDDDDD")
    for spine in ax.spines.values():
        spine.set_visible(False)


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W, 3) from uint8, or from floats in [0, 1], grey or RGB."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image has shape {image.shape}; expected (H, W, 3)")
    if np.issubdtype(image.dtype, np.floating):
        return np.round(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    return image.astype(np.uint8)


def add_box(
    ax: Axes, box: np.ndarray, colour: Any, *, width: float = 1.5, dash: str = "solid", zorder: float = 3
) -> None:
    """Draw ``(y1, x1, y2, x2)`` with a dark rim, so that it shows on bright and on dark ground.

    Parameters
    ----------
    ax : Axes
    box : ndarray of shape (4,)
        Pixels.
    colour : colour
    width : float
        Of the line, in points.
    dash : str
        Matplotlib's style of lines.
    zorder : float
        What has more lies on top.
    """
    y1, x1, y2, x2 = (float(v) for v in box)
    rim = [patheffects.Stroke(linewidth=width + 1.2, foreground="black", alpha=0.6), patheffects.Normal()]
    ax.add_patch(
        Rectangle(
            (x1, y1), x2 - x1, y2 - y1,
            fill=False, edgecolor=colour, linewidth=width, linestyle=dash, zorder=zorder, path_effects=rim,
        )
    )  # fmt: skip


def shorten(text: str, length: int) -> str:
    """Cut text to so many characters, the last of them an ellipsis if any were lost."""
    text = printable(text)
    return text if len(text) <= length else text[: max(length - 1, 0)] + "…"


def shorten_middle(text: str, length: int) -> str:
    """Cut text to so many characters by an ellipsis in its middle: names of files differ at their ends.

    Parameters
    ----------
    text : str
    length : int
        Characters; at least the ellipsis is left.
    """
    text = printable(text)
    if len(text) <= length:
        return text
    kept = max(length - 1, 0)
    return text[: kept - kept // 2] + "…" + text[len(text) - kept // 2 :]


def wrapped(text: str, width: float) -> str:
    """Break 8 point text between its words into lines of so many pixels at most."""
    return "\n".join(textwrap.wrap(printable(text), max(int(width / CHARACTER), 1)))


def add_title(figure: Figure, x: float, y: float, name: str, after: str, width: float, **style: Any) -> None:
    """Write a name and what follows it; the name is cut in its middle until all of it fits into ``width`` pixels.

    Parameters
    ----------
    figure : Figure
    x, y : float
        In the coordinates of the figure.
    name, after : str
    width : float
        Pixels.
    **style
        What Matplotlib's ``text`` takes.
    """
    canvas: Any = figure.canvas
    text, length = add_text(figure, x, y, name + after, **style), len(printable(name))
    with missing_letters():
        while length > 1 and (taken := text.get_window_extent(canvas.get_renderer()).width) > width:
            length = min(length - 1, max(int(length - (taken - width) / _WIDEST), 1))
            text.set_text(printable(shorten_middle(name, length) + after, keep="\n"))


def fit_size(shape: tuple[int, ...], size: float) -> tuple[float, float]:
    """Return the drawn (height, width) in pixels of an image whose longer side shall have ``size``, or less.

    An image that grows to twice its size or more does so by a whole factor, so that every pixel of it stays a square:
    128 become 384, not 500. Both sides have at least 1 pixel.
    """
    height, width = shape[:2]
    factor = size / max(height, width)
    factor = float(int(factor)) if factor >= 2 else factor
    return max(round(height * factor), 1), max(round(width * factor), 1)


def style_axes(ax: Axes) -> None:
    """Give axes small ticks, a pale grid behind the curves, and no box around them."""
    ax.grid(color="#E0E0E0", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def add_legend(
    ax: Axes, handles: Sequence[Any], names: Sequence[str], *, title: str | None = None, ncols: int = 1
) -> None:
    """Put a legend to the right of the axes; names are shown as they are.

    Parameters
    ----------
    ax : Axes
    handles : sequence of artists
    names : sequence of str
        One for each handle.
    title : str, optional
    ncols : int
        Columns.
    """
    if not handles:
        return
    # matplotlib drops names that begin with an underscore; a space in front keeps them
    names = [f" {name}" if name.startswith("_") else name for name in names]
    legend = ax.legend(
        handles, names, title=title, ncols=ncols, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0,
        frameon=False, prop={"family": FONTS, "size": 8}, title_fontproperties={"family": FONTS, "size": 8},
        handlelength=2.4, alignment="left",
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


@contextlib.contextmanager
def missing_letters() -> Iterator[None]:
    """Let letters that no installed font has be drawn as boxes without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        yield


def pixels(figure: Figure) -> np.ndarray:
    """Render a figure: uint8 (H, W, 3)."""
    with missing_letters():
        figure.canvas.draw()
    canvas: Any = figure.canvas
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a PNG whose bytes depend on the picture alone (no date, no version), complete or not at all.

    Raises
    ------
    UserError
        The place cannot be written; what was there stays.
    """
    png = io.BytesIO()
    with missing_letters():
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return _write(png, path)


def save_pixels(picture: np.ndarray, path: str | os.PathLike[str]) -> Path:
    """Write what ``pixels`` returned, as ``save`` does, which would render the figure again, in a third of the time."""
    png = io.BytesIO()
    Image.fromarray(picture).save(png, format="png", dpi=(DPI, DPI))
    return _write(png, path)


def _write(png: io.BytesIO, path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    make_folder(path.parent)
    atomic_write(path, png.getvalue())
    return path
