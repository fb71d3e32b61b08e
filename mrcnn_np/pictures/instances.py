"""Ground truth beside detections, one image or a gallery.

Instances are drawn over an image in ``overlay.py``, curves in ``curves.py``, anchors and proposals in ``regions.py``;
they can be imported from here too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.photographs import name_of
from ..data.sample import Sample
from ..detections import Detections
from ..keypoints.pose import Skeletons
from .canvas import NARROW, add_axes, add_text, add_title, fit_size, new_figure, save
from .curves import plot_losses as plot_losses
from .curves import plot_precision_recall as plot_precision_recall
from .overlay import TITLE, caption, draw_on, legend, legend_height
from .overlay import draw_instances as draw_instances
from .regions import save_anchors as save_anchors
from .regions import save_proposals as save_proposals

_GAP = 8  # pixels between panels


def save_comparison(
    path: str | os.PathLike[str], sample: Sample, detections: Detections, class_names: Sequence[str], *, size: int = 560
) -> Path:
    """Save ground truth (left) beside detections (right) of one image; returns the path.

    Parameters
    ----------
    path : path
    sample : Sample
    detections : Detections
        Of the same image.
    class_names : sequence of str
        Entry 0 is background.
    size : int
        Longer side of each drawn image in pixels, or less (``fit_size``).
    """
    return save_gallery(path, [sample], [detections], class_names, columns=1, size=size)


def save_gallery(
    path: str | os.PathLike[str],
    samples: Sequence[Sample],
    detections: Sequence[Detections],
    class_names: Sequence[str],
    *,
    columns: int = 2,
    size: int = 320,
) -> Path:
    """Save a grid of pairs, ground truth on the left of each and detections on its right; returns the path.

    Parameters
    ----------
    path : path
        A PNG, written whole or not at all.
    samples, detections : sequences of equal length
    class_names : sequence of str
        Entry 0 is background.
    columns : int
        Pairs in a row.
    size : int
        Longer side of one drawn image in pixels, or less (``fit_size``).
    """
    return save(gallery(samples, detections, class_names, columns=columns, size=size), path)


def gallery(
    samples: Sequence[Sample],
    detections: Sequence[Detections],
    class_names: Sequence[str],
    *,
    columns: int = 2,
    size: int = 320,
) -> Figure:
    """Draw what ``save_gallery`` saves.

    Parameters
    ----------
    samples, detections, class_names, columns, size
        As there.
    """
    if len(samples) != len(detections):
        raise ValueError(f"{len(samples)} samples and {len(detections)} detections; expected one for each")
    if columns < 1:
        raise ValueError(f"columns is {columns}; expected at least 1")
    columns = max(min(columns, len(samples)), 1)
    sizes = [fit_size(s.image.shape, size) for s in samples]
    cell_width = max([NARROW, *(w for _, w in sizes)])
    pair = 2 * cell_width + 4 * _GAP
    rows = [sizes[i : i + columns] for i in range(0, len(sizes), columns)]
    heights = [max(h for h, _ in row) + TITLE + _GAP for row in rows]
    counts = [len(boxes) for s, found in zip(samples, detections) for boxes in (s.gt_boxes, found.boxes)]
    room = columns * pair - 2 * _GAP
    foot = _GAP + legend_height(max(counts, default=0), room)
    figure, labelled = new_figure(columns * pair, sum(heights) + foot if rows else 60), True
    if not rows:
        add_text(figure, 0.5, 0.5, "no images", ha="center", va="center")
    for i, (sample, found) in enumerate(zip(samples, detections)):
        row, column = divmod(i, columns)
        height, width = sizes[i]
        for side in range(2):
            left = column * pair + 1.5 * _GAP + side * (cell_width + _GAP)
            top = sum(heights[:row]) + TITLE
            ax = add_axes(figure, left + (cell_width - width) / 2, top, width, height)
            kind, all_labels = (
                _draw_truth(ax, sample, class_names) if side == 0 else _draw_found(ax, sample, found, class_names)
            )
            labelled &= all_labels
            x, y = left / (columns * pair), 1 - (top - 4) / (sum(heights) + foot)
            add_title(figure, x, y, name_of(sample), f": {kind}", cell_width, va="bottom")
    if foot > _GAP:
        x, y = 1.5 * _GAP / (columns * pair), (foot - _GAP - 4) / (sum(heights) + foot)
        add_text(figure, x, y, legend(labelled, room), va="top")
    return figure


def annotated_skeletons(sample: Sample) -> Skeletons | None:
    """Return the keypoints that are annotated in a sample as pictures draw them; None if there are none."""
    if sample.gt_keypoints is None or sample.pose is None:
        return None
    return Skeletons.of(sample.gt_keypoints, sample.gt_keypoints[..., 2] > 0, sample.pose)


def truth_captions(sample: Sample, class_names: Sequence[str]) -> list[str]:
    """Return what to write at each annotated object of a sample: its class, and whether it is a crowd or difficult."""
    captions = []
    for i in range(len(sample.gt_boxes)):
        flags = [n for n, flag in (("crowd", sample.gt_crowd), ("difficult", sample.gt_difficult)) if flag[i]]
        words = [caption(i, sample.gt_class_ids, class_names, None), *(f"({n})" for n in flags)]
        captions.append(" ".join(word for word in words if word))
    return captions


def _draw_truth(ax: Axes, sample: Sample, class_names: Sequence[str]) -> tuple[str, bool]:
    labelled = draw_on(
        ax, sample.image, sample.gt_boxes, sample.gt_class_ids, sample.gt_masks, class_names,
        captions=truth_captions(sample, class_names), void=sample.void, skeletons=annotated_skeletons(sample),
    )  # fmt: skip
    return f"ground truth ({len(sample.gt_boxes)})", labelled


def _draw_found(ax: Axes, sample: Sample, found: Detections, class_names: Sequence[str]) -> tuple[str, bool]:
    found = found[np.argsort(-found.scores, kind="stable")]
    labelled = draw_on(
        ax, sample.image, found.boxes, found.class_ids, found.masks if found.has_masks else None, class_names,
        scores=found.scores, skeletons=found.skeletons,
    )  # fmt: skip
    return f"detections ({len(found.scores)})", labelled
