"""A page of pictures: the images with mistakes, dearest first; missed objects on the left, detections beside."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from PIL import Image

from ..data.few import Few
from ..data.masks import Masks
from ..data.sample import Dataset, Sample
from ..detections import Detections
from ..files import atomic_write, write_text
from ..model import MaskRCNN
from ..pictures.canvas import (
    LINE,
    NARROW,
    add_axes,
    add_box,
    add_text,
    as_rgb,
    fit_size,
    new_figure,
    pixels,
    show_image,
    wrapped,
)
from ..pictures.html import page
from ..pictures.labels import add_labels
from ..tables import one_of
from .advice import in_full
from .deaths import Miss
from .judge import BADLY_PLACED
from .mistakes import Mistake
from .report import Explanation

_GOOD, _MISSED, _FALSE = (np.array(to_rgb(c)) for c in ("#009E73", "#D62728", "#3A86FF"))
_TITLE, _GAP, _SIDE = 20, 10, 480
#: false detections that are drawn and told of for one image, at most; and the score from which even those are that
#: cost nothing: `detect` shows what is above
_MOST, SHOWN_SCORE = 12, 0.5
#: a cost that is written as 0
_NOTHING = 0.00005
LEGEND = (
    "Left the objects: missed ones red, found ones green. Right the detections: false ones blue, right ones green. Of "
    "what is wrong the mask is filled. The numbers are those of the sentences."
)
_STYLE = "li.missed::marker { color: #d62728; } li.false::marker { color: #3a86ff; } .cost { color: #777; }\n"


def draw_mistakes(
    sample: Sample, found: Detections, misses: list[Miss], mistakes: list[Mistake], class_names: tuple[str, ...]
) -> np.ndarray:
    """Return a picture: the objects, those that were missed in red, beside the detections, false ones in blue.

    Parameters
    ----------
    sample : Sample
    found : Detections
    misses, mistakes : list of Miss, of Mistake
        Of this image.
    class_names : tuple of str

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
    """
    height, width = fit_size(sample.image.shape, _SIDE)
    cell = max(width, NARROW)
    told = worth_telling(mistakes)
    titles = (
        wrapped(f"objects: {len(misses)} missed (red), found ones green", cell),
        wrapped(f"detections: {len(mistakes)} false (blue), right ones green{_which_drawn(mistakes, told)}", cell),
    )
    top = _TITLE + LINE * max(title.count("\n") for title in titles)
    figure = new_figure(2 * cell + 3 * _GAP, height + top + _GAP)
    lost = {one.number - 1: f"{one.number} {class_names[one.class_id]}: {one.stage}" for one in misses}
    wrong = {
        one.number - 1: f"det {one.number} {class_names[one.class_id]} {one.score:.2f}: {one.kind}" for one in told
    }
    right = np.setdiff1d(np.arange(len(found.scores)), [one.number - 1 for one in mistakes])
    of_objects, of_detections = _mentioned(misses, told)
    panels = (
        (sample.gt_boxes, sample.gt_masks, lost, dict.fromkeys(range(len(sample.gt_boxes)), "") | of_objects, _MISSED),
        (found.boxes, found.masks, wrong, {d: of_detections.get(d, "") for d in right.tolist()}, _FALSE),
    )
    for side, (boxes, masks, captions, others, colour) in enumerate(panels):
        left = _GAP + side * (cell + _GAP)
        ax = add_axes(figure, left + (cell - width) / 2, top, width, height)
        _panel(ax, sample.image, boxes, masks, captions, others, colour)
        add_text(figure, left / (2 * cell + 3 * _GAP), 1 - 4 / (height + top + _GAP), titles[side], va="top")
    return pixels(figure)


def _mentioned(misses: list[Miss], told: list[Mistake]) -> tuple[dict[int, str], dict[int, str]]:
    """Return labels of the objects and of the detections that sentences on others name, by their rows."""
    objects = [one.object for one in told] + [miss.numbers.get("by_object") for miss in misses]
    detections = [one.found_by if one.kind == BADLY_PLACED else one.second_name_of for one in told]
    detections += [miss.numbers.get(key) for miss in misses for key in ("detection", "by_detection")]
    return {n - 1: str(n) for n in objects if n is not None}, {n - 1: f"det {n}" for n in detections if n is not None}


def _which_drawn(mistakes: list[Mistake], told: list[Mistake]) -> str:
    """Return what the title of a picture says of the false detections that it shows; empty if it shows all."""
    if len(told) == len(mistakes):
        return ""
    if not told:
        return f"; none of the false ones drawn: none costs AP or scores {SHOWN_SCORE:g} or more"
    worth = sum(costs_something(one) or one.score >= SHOWN_SCORE for one in mistakes)
    why = f"what costs AP or scores {SHOWN_SCORE:g} or more"
    if len(told) < worth:
        why = "what costs most, then what scores highest"
    return f"; {len(told)} of the false ones drawn: {why}"


def _panel(
    ax: Axes,
    image: np.ndarray,
    boxes: np.ndarray,
    masks: np.ndarray | Masks,
    captions: dict[int, str],
    others: dict[int, str],
    colour: np.ndarray,
) -> None:
    """Draw what has a caption in a colour, with its mask, and the boxes of the others thinly, with their labels."""
    canvas = as_rgb(image) / 255.0
    for i in captions:
        mask = np.asarray(masks[i])
        canvas[mask] = 0.6 * canvas[mask] + 0.4 * colour
    show_image(ax, canvas)
    others = {i: label for i, label in others.items() if i not in captions}
    for i in others:
        add_box(ax, boxes[i], _GOOD, width=1.2)
    for i in captions:
        add_box(ax, boxes[i], colour)
    labels = captions | {i: label for i, label in others.items() if label}
    colours = np.array([colour if i in captions else _GOOD for i in labels]).reshape(-1, 3)
    add_labels(ax, boxes[list(labels)], list(labels.values()), colours, image.shape[:2], 8)


def write_page(
    path: Path,
    report: Explanation,
    model: MaskRCNN,
    dataset: Dataset,
    *,
    most: int,
    title: str,
    steps: int | None = None,
    few: Few | None = None,
) -> int:
    """Write the page as one HTML file with its pictures inside, complete or not at all; return how many it shows.

    Parameters
    ----------
    path : Path
    report : Explanation
    model : MaskRCNN
        Detects again in the images that are shown.
    dataset : Dataset
    most : int
        So many images at most.
    title : str
    steps : int, optional
        For how long the network was trained.
    few : Few, optional
        Its pictures were too few for what it began with.
    """
    rows = {image_id: index for index, image_id in enumerate(dataset.ids)}
    costs = report.costs_of_images()
    shown = list(costs)[:most]
    parts = [f"<pre>{html.escape(in_full(report, steps=steps, few=few))}</pre>"]
    if len(shown) < len(costs):
        parts.append(f"<p>The {len(shown)} dearest of {len(costs)} images with mistakes.</p>")
    if shown:
        parts.append(f"<p>{LEGEND}</p>")
    for image_id in shown:
        sample = dataset.load(rows[image_id])
        (found,) = model.detect([sample.image])
        misses, mistakes = mistakes_in(report, image_id)
        picture = draw_mistakes(sample, found, misses, mistakes, report.class_names)
        parts.append(_card(report.named(image_id), costs[image_id], picture, misses, mistakes, report.class_names))
    write_text(path, page(title, parts, style=_STYLE))
    return len(shown)


def mistakes_in(report: Explanation, image_id: str) -> tuple[list[Miss], list[Mistake]]:
    """Return what was missed and what is false in one image: dearest first, then by score.

    Parameters
    ----------
    report : Explanation
    image_id : str
    """
    misses = [one for one in report.misses if one.image_id == image_id]
    mistakes = [one for one in report.mistakes if one.image_id == image_id]
    return misses, sorted(mistakes, key=lambda one: (-one.cost, -one.score))


def worth_telling(mistakes: list[Mistake]) -> list[Mistake]:
    """Return the false detections of one image that are worth a line: those that cost something, then high scores.

    Parameters
    ----------
    mistakes : list of Mistake
        Dearest first, as ``mistakes_in`` returns them.
    """
    dear = [one for one in mistakes if costs_something(one)]
    others = [one for one in mistakes if not costs_something(one) and one.score >= SHOWN_SCORE]
    return dear[:_MOST] + others[: max(_MOST - len(dear), 0)]


def costs_something(one: Miss | Mistake) -> bool:
    """Say whether the cost of a mistake is written as more than 0."""
    return abs(one.cost) >= _NOTHING


def _card(
    name: str,
    cost: float,
    picture: np.ndarray,
    misses: list[Miss],
    mistakes: list[Mistake],
    class_names: tuple[str, ...],
) -> str:
    """Return the HTML of one image."""
    data = base64.b64encode(as_png(picture)).decode()
    lines = [f"<li class=missed>{_sentence(one, class_names)}" for one in misses]
    told = worth_telling(mistakes)
    lines += [f"<li class=false>{_sentence(one, class_names)}" for one in told]
    more = f"<p>{html.escape(left_out(mistakes, told))}</p>" if len(told) < len(mistakes) else ""
    name = html.escape(name)
    return (
        f"<section><h2>{name} <span class=cost>{cost:+.4f} AP</span></h2>"
        f"<img alt='{name}' src='data:image/png;base64,{data}'><ul>{''.join(lines)}</ul>{more}</section>"
    )


def left_out(mistakes: list[Mistake], told: list[Mistake]) -> str:
    """Return one line for the false detections that are not told of.

    Parameters
    ----------
    mistakes, told : list of Mistake
    """
    rest = len(mistakes) - len(told)
    costly = sum(costs_something(one) for one in mistakes) - sum(costs_something(one) for one in told)
    one = "detection" if rest == 1 else "detections"
    return f"and {rest} more false {one}, {f'of which {costly} cost something' if costly else 'at no cost'}"


def _sentence(one: Miss | Mistake, class_names: tuple[str, ...]) -> str:
    return f"{html.escape(in_words(one, class_names))} <span class=cost>{one.cost:+.4f} AP</span>"


def in_words(one: Miss | Mistake, class_names: tuple[str, ...]) -> str:
    """Return one mistake as a sentence.

    Parameters
    ----------
    one : Miss or Mistake
    class_names : tuple of str
    """
    if isinstance(one, Miss):
        return f"missed: object {one.number}, {one_of(class_names[one.class_id])}: {one.stage}: {one.text}"
    return f"false: detection {one.number}, {one.text}"


def as_png(picture: np.ndarray) -> bytes:
    """Return the bytes of a picture (H, W, 3) as PNG."""
    png = io.BytesIO()
    Image.fromarray(picture).save(png, format="png")
    return png.getvalue()


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) as PNG, complete or not at all."""
    atomic_write(path, as_png(picture))
