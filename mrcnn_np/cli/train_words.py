"""What ``train`` says beside its numbers: whether it can work, what they are worth, and what to do next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..config import Config
from ..data import Dataset, Sample, require_teachable
from ..data.few import Few, too_few
from ..evaluate.split import SplitReport, ap50_of, evaluate_split
from ..explain.advice import LOW_AP
from ..model import MaskRCNN
from ..parallel.ranks import Ranks
from ..training.checkpoint import load_checkpoint
from ..training.finished import read_result, worth
from ..training.run_folder import CHECKPOINT

#: pictures of the training set that are looked at afterwards
OWN_PICTURES = 20
#: a network that finds so much of its own pictures, and so much less of as many others, knows its own by heart
WELL, LESS, LEAST = 0.7, 0.25, 5


def warn(dataset: Dataset, config: Config, *, random: bool) -> bool:
    """Look at some pictures before hours are spent on them, and print what speaks against it.

    Parameters
    ----------
    dataset : Dataset
        To train on.
    config : Config
    random : bool
        The run begins with random weights.

    Returns
    -------
    bool
        There are too few pictures for random weights.

    Raises
    ------
    DataError
        Nothing can be learned, or only the wrong thing.
    """
    warnings = require_teachable(dataset, boxes_from_masks=config.gt_boxes_from_masks)
    few = too_few(dataset) if random else None
    for warning in [*warnings, *([in_words(few)] if few else [])]:
        print(f"warning: {warning}", file=sys.stderr)
    return few is not None


def in_words(few: Few) -> str:
    """Say that there are too few pictures for random weights, and what to type instead."""
    return (
        f"{few}: too few to begin with random weights, "
        "however long it trains. More pictures or fewer classes help, and trained weights may:\n"
        "  mrcnn-np weights download resnet18\n"
        "  and the same command with --preset small --weights weights/resnet18-f37072fd.pth --freeze stem,c2,norm\n"
        "  (docs/training.md, Fine-tune; docs/weights.md says which other files there are)"
    )


def go_on(folder: Path, ranks: Ranks) -> str:
    """Say how an interrupted run goes on."""
    step = load_checkpoint(folder / CHECKPOINT).step if (folder / CHECKPOINT).exists() else 0
    launcher = f"mpirun -n {ranks.size} " if ranks.several else ""
    return (
        f"interrupted; the checkpoint of step {step} is kept. Continue with:\n"
        f"  {launcher}mrcnn-np train --out {folder} --resume"
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
    model: MaskRCNN, dataset: Dataset, reports: Mapping[str, SplitReport], *, progress: bool = True
) -> tuple[float, int] | None:
    """Measure a network on pictures that it was trained on: as many as were held out, at most OWN_PICTURES.

    Parameters
    ----------
    model : MaskRCNN
    dataset : Dataset
        What it was trained on.
    reports : mapping of str to SplitReport
        What was measured; nothing is, if that is nothing. If the split "train" was, that is the answer.
    progress : bool
        Show a bar.

    Returns
    -------
    tuple of float and int, or None
        AP50 of masks (boxes, keypoints: what the network has) and the number of pictures; None without objects.
    """
    if not reports:
        return None
    own = reports.get("train")
    if own is None:
        some = _Some(dataset, min(OWN_PICTURES, max(1, _images(list(reports.values())[-1])), len(dataset)))
        # a picture that cannot be read must not end a run that is done
        own = evaluate_split(model, some, skip_bad=True, progress=progress, label=f"evaluate {len(some)} of its own")
    ap50 = _ap50(own)
    return None if ap50 is None else (ap50, _images(own))


def _images(report: SplitReport) -> int:
    return max((evaluation.images for evaluation in report.evaluations.values()), default=0)


def _ap50(report: SplitReport) -> float | None:
    for kind in ("mask", "box", "keypoints"):
        if kind in report.evaluations:
            return ap50_of(report.evaluations[kind])
    return None


def last_words(
    folder: Path, reports: Mapping[str, SplitReport], own: tuple[float, int] | None, *, steps: int, few: bool
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
    others = [report for split, report in reports.items() if split != "train"]
    elsewhere = _ap50(others[-1]) if others else None
    if own is not None and elsewhere is not None:
        by_heart = min(own[1], _images(others[-1])) >= LEAST and own[0] >= WELL and own[0] - elsewhere >= LESS
        lines.append(
            f"on {own[1]} of the pictures it was trained on AP50 is {own[0]:.3f}, on the held-out ones {elsewhere:.3f}"
            + (": it seems to know its own by heart. Then more steps do not help, but more pictures, or such as are "
               "turned, scaled and coloured anew in each step (docs/training.md, Augmentation)" if by_heart else "")
        )  # fmt: skip
    run = shlex.quote(str(folder))
    for split in list(reports)[-1:]:
        lines.append(f"what it misses and why:  mrcnn-np explain --run {run} --split {split}")
    lines.append(f"find objects elsewhere:  mrcnn-np detect --run {run} PICTURES --out found")
    if few and (elsewhere is None or elsewhere < LOW_AP):
        lines.append("too few pictures for random weights: more of them help, or trained weights; more steps hardly do")
    elif not by_heart:
        lines.append(f"train it for longer:     mrcnn-np train --out {run} --resume --steps {2 * steps}")
    return lines
