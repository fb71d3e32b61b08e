"""Instances drawn over their image: masks, boxes, classes and scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from ..boxes import tight_box
from ..data.masks import Masks
from ..keypoints.pose import Pose, Skeletons
from .canvas import (
    DASHES,
    LINE,
    NARROW,
    PALETTE,
    add_axes,
    add_box,
    add_text,
    add_title,
    as_rgb,
    fit_size,
    new_figure,
    pixels,
    save_pixels,
    show_image,
    wrapped,
)
from .labels import add_labels, label_size

TITLE = 20  # pixels above a panel
_SIZE, _LARGEST = 640, 2048  # pixels of the longer side of a picture: the usual one, and that of a large image
_POINTS = 8.0  # of letters in a picture of the usual size
_VOID = np.array([224, 224, 192]) / 255  # VOC's colour for label 255
_MOST_PIXELS, _REDUCED = 1 << 23, 1 << 23  # of an image that is drawn as it is, and of a larger one, at most


def draw_on(
    ax: Axes,
    image: np.ndarray,
    boxes: np.ndarray,
    class_ids: np.ndarray,
    masks: np.ndarray | Masks | None,
    class_names: Sequence[str],
    *,
    scores: np.ndarray | None = None,
    captions: Sequence[str] | None = None,
    void: np.ndarray | None = None,
    fontsize: float = _POINTS,
    skeletons: Skeletons | None = None,
    outlines: bool = False,
) -> bool:
    """Draw an image and its instances on axes of a figure whose size is final.

    Every instance has a colour of its own, so that two of one class are told apart; the class is in the label. After
    seven instances the colours repeat with another dash. Where there is one class only, its name is left out.

    Parameters
    ----------
    ax : Axes
    image : ndarray of shape (H, W, 3)
        uint8, or float in [0, 1].
    boxes : ndarray of shape (D, 4)
        ``(y1, x1, y2, x2)`` in pixels, half-open; what lies outside the image is cut off.
    class_ids : ndarray of shape (D,)
        An id without a name is written as a number.
    masks : Masks, or ndarray of shape (D, H, W), bool, or None
    class_names : sequence of str
        Entry 0 is background.
    scores : ndarray of shape (D,), optional
        Best first: the first is drawn on top.
    captions : sequence of D str, optional
        In place of "class score".
    void : ndarray of shape (H, W), bool, optional
        Unlabelled pixels, shown pale.
    fontsize : float
        Of the labels, in points of 1/72 inch at 100 pixels per inch.
    skeletons : Skeletons, optional
        Of D objects: their keypoints and the lines between them.
    outlines : bool
        Draw the masks' outlines and nothing else, so that the image can be seen beneath; boxes, where there are no
        masks.

    Returns
    -------
    bool
        Whether labels are drawn; with many small objects there are none, as they would hide these.

    Raises
    ------
    ValueError
        The number of boxes, classes, masks, scores or captions differs, or masks do not have the image's size.
    """
    image, boxes = as_rgb(image), np.asarray(boxes).reshape(-1, 4)
    if masks is not None and not isinstance(masks, Masks):
        masks = np.asarray(masks, bool)
    height, width = image.shape[:2]
    _check(boxes, class_ids, masks, scores, captions, (height, width))
    colours = np.array([to_rgb(PALETTE[i % len(PALETTE)]) for i in range(len(boxes))]).reshape(-1, 3)
    dashes = [DASHES[i // len(PALETTE) % len(DASHES)] for i in range(len(boxes))]

    canvas = image / 255.0
    if void is not None:
        canvas[void] = 0.35 * canvas[void] + 0.65 * _VOID
    for i in reversed(range(len(boxes))):
        if masks is not None and not outlines:
            (y, x), mask = _within_box(masks, i)
            part = canvas[y : y + mask.shape[0], x : x + mask.shape[1]]
            part[mask] = 0.5 * part[mask] + 0.5 * colours[i]
    show_image(ax, canvas)
    for i in reversed(range(len(boxes))):
        if masks is not None:
            (y, x), mask = _within_box(masks, i)
            outline: Any = _outline(mask) + np.array([x, y])
            if not outlines:
                ax.add_collection(LineCollection(outline, colors="black", linewidths=2.0, alpha=0.5), autolim=False)
            width_of_line = 0.8 if outlines else 1.2
            ax.add_collection(LineCollection(outline, colors=[colours[i]], linewidths=width_of_line), autolim=False)
        if masks is None or not outlines:
            add_box(ax, boxes[i], colours[i], dash=dashes[i])
        if skeletons is not None and not outlines:
            _draw_skeleton(ax, skeletons.points[i], skeletons.drawn[i], skeletons.pose, colours[i])
    if outlines:
        return False
    if captions is None:
        captions = [caption(i, class_ids, class_names, scores) for i in range(len(boxes))]
    letters = label_size(ax, boxes, captions, (height, width), fontsize)
    if letters is not None:
        add_labels(ax, boxes, captions, colours, (height, width), letters)
    return letters is not None


def draw_instances(
    image: np.ndarray,
    boxes: np.ndarray,
    class_ids: np.ndarray,
    masks: np.ndarray | Masks | None,
    class_names: Sequence[str],
    *,
    scores: np.ndarray | None = None,
    captions: Sequence[str] | None = None,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
    size: int | None = None,
    skeletons: Skeletons | None = None,
    outlines: bool = False,
) -> np.ndarray:
    """Return a picture of an image with its instances, and save it if a path is given.

    See ``draw_on`` for the parameters. Small images are enlarged, because a label needs about 60 pixels whatever the
    image.

    Parameters
    ----------
    image, boxes, class_ids, masks, class_names, scores, captions
        As in ``draw_on``.
    title : str, optional
        Above the picture.
    path : path, optional
        Where it is saved.
    size : int, optional
        Longer side of the drawn image in pixels, or less: an image that grows to twice its size or more does so by a
        whole factor (``fit_size``). By default 640, and of a larger image its own, 2048 at most.
        The title, and the line on what dashes mean, add to the height.
    skeletons, outlines
        As in ``draw_on``.

    Returns
    -------
    ndarray of shape (H', W', 3), uint8
    """
    if size is None:
        size = max(_SIZE, min(max(np.shape(image)[:2]), _LARGEST))
    height, width = fit_size(np.shape(image), size)
    before = np.shape(image)[1]
    image, boxes, masks = _reduced(image, boxes, masks)
    if skeletons is not None and image.shape[1] < before:
        skeletons = skeletons.scaled(image.shape[1] / before)
    full_width = max(width, NARROW)
    top, bottom = TITLE if title else 0, 0 if outlines else legend_height(len(boxes), full_width - 4)
    figure = new_figure(full_width, height + top + bottom)
    ax = add_axes(figure, (full_width - width) / 2, top, width, height)
    labelled = draw_on(
        ax, image, boxes, class_ids, masks, class_names, scores=scores, captions=captions, skeletons=skeletons,
        fontsize=letter_size(max(height, width)), outlines=outlines,
    )  # fmt: skip
    if title:
        y = 1 - 4 / (height + top + bottom)
        add_title(figure, 0.5, y, title, "", full_width - 4, ha="center", va="top")
    if bottom:
        y = (bottom - 4) / (height + top + bottom)
        add_text(figure, 0.5, y, legend(labelled, full_width - 4), ha="center", va="top")
    picture = pixels(figure)
    if path is not None:
        save_pixels(picture, path)
    return picture


def letter_size(side: float) -> float:
    """Return the points of labels in a picture whose longer side has so many pixels.

    A screen shows a large picture smaller, so that letters grow, but slower than the picture: small objects are to be
    seen beside them.
    """
    return _POINTS * min(max(side / _SIZE, 1.0), 4.0) ** 0.5


def _reduced(
    image: np.ndarray, boxes: np.ndarray, masks: np.ndarray | Masks | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | Masks | None]:
    """Leave out lines and columns of an image that is too large to be drawn: as floats it would fill the memory."""
    pixels = int(np.prod(np.shape(image)[:2]))
    if pixels <= _MOST_PIXELS:
        return image, boxes, masks
    step = int(np.ceil(np.sqrt(pixels / _REDUCED)))
    return image[::step, ::step], np.asarray(boxes) / step, None if masks is None else masks[:, ::step, ::step]


def caption(i: int, class_ids: np.ndarray, class_names: Sequence[str], scores: np.ndarray | None) -> str:
    """Return "class score" of an instance, without score if there are none, without class if there is one only.

    Parameters
    ----------
    i : int
        Which.
    class_ids : ndarray of shape (D,)
    class_names : sequence of str
        An id without a name is written as a number.
    scores : ndarray of shape (D,), or None
    """
    class_id = int(class_ids[i])
    if len(class_names) == 2 and class_id == 1:
        return "" if scores is None else f"{float(scores[i]):.2f}"
    name = str(class_names[class_id]) if 0 <= class_id < len(class_names) else f"class {class_id}"
    return name if scores is None else f"{name} {float(scores[i]):.2f}"


def legend_height(count: int, width: float) -> int:
    """Return how many pixels a picture of so many instances needs below for what dashes mean; 0 if it needs none.

    Parameters
    ----------
    count : int
    width : float
        Pixels that there are for it.
    """
    return TITLE + LINE * legend(False, width).count("\n") if count > len(PALETTE) else 0


def legend(labelled: bool, width: float) -> str:
    """Return what stands below a picture in which colours repeat.

    Parameters
    ----------
    labelled : bool
        Whether labels are drawn.
    width : float
        Pixels that there are for it.
    """
    dashes = "solid or dashed only tells objects of one colour apart"
    return wrapped(dashes if labelled else f"{dashes}; no labels where they would hide the objects", width)


def _within_box(masks: np.ndarray | Masks, i: int) -> tuple[tuple[int, int], np.ndarray]:
    """Return the row and column of the left upper corner of a mask's tight box, and the mask inside it."""
    if isinstance(masks, Masks):
        y1, x1, y2, x2 = masks.boxes[i].tolist()
        return (y1, x1), masks.crop(i, (y1, x1, y2, x2))
    y1, x1, y2, x2 = tight_box(masks[i]).astype(int).tolist() if masks[i].any() else (0, 0, 0, 0)
    return (y1, x1), masks[i, y1:y2, x1:x2]


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the edges between mask and background as segments ``((x, y), (x, y))`` along the pixels' borders."""
    padded = np.pad(mask, 1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])  # borders between a row and the next
    across = np.stack([np.stack([x, y], 1), np.stack([x + 1, y], 1)], 1)
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    along = np.stack([np.stack([x, y], 1), np.stack([x, y + 1], 1)], 1)
    return np.concatenate([across, along])


def _draw_skeleton(ax: Axes, points: np.ndarray, drawn: np.ndarray, pose: Pose, colour: np.ndarray) -> None:
    """Draw the keypoints of one object that are to be seen, and the lines whose both ends are.

    Parameters
    ----------
    ax : Axes
    points : ndarray of shape (K, 2)
        ``(y, x)`` in pixels.
    drawn : ndarray of shape (K,), bool
    pose : Pose
    colour : ndarray of shape (3,)
    """
    lines: Any = [points[[a, b], ::-1] for a, b in pose.skeleton if drawn[a] and drawn[b]]
    for width, of in ((3.2, "black"), (1.8, colour)):
        ax.add_collection(LineCollection(lines, colors=[of], linewidths=width), autolim=False)
    y, x = points[drawn].T
    ax.scatter(x, y, s=11, color=[colour] * len(x), edgecolors="black", linewidths=0.7, zorder=3)


def _check(
    boxes: np.ndarray,
    class_ids: np.ndarray,
    masks: np.ndarray | Masks | None,
    scores: np.ndarray | None,
    captions: Sequence[str] | None,
    shape: tuple[int, int],
) -> None:
    count = len(boxes)
    for name, values in (("class_ids", class_ids), ("scores", scores), ("captions", captions)):
        if values is not None and len(values) != count:
            raise ValueError(f"{len(values)} {name} for {count} boxes; expected one for each")
    if masks is not None and np.shape(masks) != (count, *shape):
        raise ValueError(f"masks has shape {np.shape(masks)}; expected {(count, *shape)}")
