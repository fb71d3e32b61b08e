"""What ``train`` says beside its numbers: whether it can work, what they are worth, and what to do next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..data import Dataset, Sample, require_teachable
from ..evaluate.split import SplitReport, ap50_of, evaluate_split
from ..explain.advice import FEW_IMAGES
from ..model import MaskRCNN
from ..training.finished import read_result, worth
from .options import Options

#: pictures of the training set that are looked at afterwards
OWN_PICTURES = 20
#: a network that finds so much of its own pictures, and so much less of others, knows its own by heart
WELL, LESS = 0.7, 0.25


def warn(dataset: Dataset, options: Options, config: Config, *, random: bool) -> None:
    """Look at some pictures before hours are spent on them, and print what speaks against it.

    Parameters
    ----------
    dataset : Dataset
        To train on.
    options : Options
    config : Config
    random : bool
        The run begins with random weights.

    Raises
    ------
    DataError
        Nothing can be learned, or only the wrong thing.
    """
    warnings = require_teachable(dataset, boxes_from_masks=config.gt_boxes_from_masks)
    few = too_few(options, dataset) if random else None
    for warning in [*warnings, *([few] if few else [])]:
        print(f"warning: {warning}", file=sys.stderr)


def too_few(options: Options, dataset: Dataset) -> str | None:
    """Say that a network with random weights cannot learn from so few pictures, and what to type instead."""
    images, classes = len(dataset), len(dataset.class_names) - 1
    if images >= FEW_IMAGES * classes:
        return None
    data = shlex.quote(str(options.root or options.data))
    kinds = "1 class" if classes == 1 else f"{classes} classes"
    return (
        f"{images} pictures of {kinds} are too few to begin with random weights, however long it trains: about "
        f"{FEW_IMAGES} of each class are the least. Take more pictures or fewer classes, or begin with trained "
        "weights:\n"
        "  mrcnn-np weights download resnet18\n"
        f"  mrcnn-np train --data {data} --preset small --weights weights/resnet18-f37072fd.pth --freeze stem,c2,norm\n"
        "  (docs/training.md shows what that brings, docs/weights.md which other files there are)"
    )


class _Some:
    """Some pictures of a data set."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        self.dataset, self.class_names = dataset, dataset.class_names
        self._places = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
        self.ids = tuple(dataset.ids[i] for i in self._places)

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, index: int) -> Sample:
        return self.dataset.load(int(self._places[index]))


def ap50_of_own_pictures(
    model: MaskRCNN, dataset: Dataset, reports: Mapping[str, SplitReport], **how: Any
) -> tuple[float, int] | None:
    """Measure a network on pictures that it was trained on: as many as were held out, at most OWN_PICTURES.

    Parameters
    ----------
    model : MaskRCNN
    dataset : Dataset
        What it was trained on.
    reports : mapping of str to SplitReport
        What was measured; nothing is, if that is nothing.
    **how
        As in ``evaluate_split``.

    Returns
    -------
    tuple of float and int, or None
        Mask AP50 (box AP50 of a network without masks) and the number of pictures; None without objects.
    """
    if not reports:
        return None
    held_out = list(reports.values())[-1]
    images = max((evaluation.images for evaluation in held_out.evaluations.values()), default=0)
    some = _Some(dataset, min(OWN_PICTURES, max(1, images), len(dataset)))
    own = evaluate_split(model, some, label=f"evaluate {len(some)} of its own", **how)
    ap50 = _ap50(own)
    return None if ap50 is None else (ap50, len(some))


def _ap50(report: SplitReport) -> float | None:
    for kind in ("mask", "box", "keypoints"):
        if kind in report.evaluations:
            return ap50_of(report.evaluations[kind])
    return None


def last_words(
    folder: Path,
    reports: Mapping[str, SplitReport],
    own: tuple[float, int] | None,
    *,
    steps: int,
    few: bool,
) -> list[str]:
    """Return what the numbers of a run are worth, and the commands that come next, as lines.

    Parameters
    ----------
    folder : Path
        The run's.
    reports : mapping of str to SplitReport
        What was measured, by split.
    own : tuple of float and int, or None
        From ``ap50_of_own_pictures``.
    steps : int
        Done.
    few : bool
        It began with random weights and had too few pictures for that.
    """
    lines, by_heart = [], False
    for split, kinds in read_result(folder).evaluation.items():
        if kinds:
            lines.append(f"{split}: AP was measured on {worth(next(iter(kinds.values())))}")
    elsewhere = _ap50(list(reports.values())[-1]) if reports else None
    if own is not None and elsewhere is not None:
        by_heart = own[0] >= WELL and own[0] - elsewhere >= LESS
        lines.append(
            f"on {own[1]} of the pictures it was trained on AP50 is {own[0]:.3f}, on the held-out ones {elsewhere:.3f}"
            + (": it knows its own by heart. More steps do not help, more pictures do, or a changed copy in each step "
               "(--config quarter_turns=0.75 --config scale_jitter=0.75,1.33 --config colour_jitter=0.3,0.3,0.3)"
               if by_heart else "")
        )  # fmt: skip
    run = shlex.quote(str(folder))
    for split in list(reports)[-1:]:
        lines.append(f"what it misses and why:  mrcnn-np explain --run {run} --split {split}")
    lines.append(f"find objects elsewhere:  mrcnn-np detect --run {run} PICTURES --out found")
    if few:
        lines.append("too few pictures for random weights: more steps do not help, trained ones do (docs/training.md)")
    elif not by_heart:
        lines.append(f"train it for longer:     mrcnn-np train --out {run} --resume --steps {2 * steps}")
    return lines
