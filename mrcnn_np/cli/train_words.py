"""What ``train`` says beside its numbers: whether it can work, what they are worth, and what to do next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..config import Config
from ..data import Dataset, Sample, require_teachable
from ..data.few import LOOKED_AT, Few, classes_in, too_few
from ..errors import DataError, some_of
from ..evaluate.counting import DEFAULT_SCORE
from ..evaluate.split import SplitReport, ap50_of, evaluate_split
from ..explain.advice import LOW_AP
from ..model import MaskRCNN
from ..parallel.ranks import Ranks
from ..training.checkpoint import load_checkpoint
from ..training.finished import read_result, worth
from ..training.run_folder import CHECKPOINT
from ..weights.class_names import class_rows, coco_names
from ..weights.download import PUBLISHED
from .options import Options

#: pictures of the training set that are looked at afterwards
OWN_PICTURES = 20
#: a network that finds so much of its own pictures, and so much less of as many others, knows its own by heart
WELL, LESS, LEAST = 0.7, 0.25, 5
#: above this AP50 on held-out pictures nobody is told to train for longer
ENOUGH = 0.95


#: the published networks that are named where pictures are few
BACKBONE, NETWORK = "resnet18", "maskrcnn_resnet50_fpn"
#: class names that a message has
_NAMED = 5


class Outlook(NamedTuple):
    """What a look at the pictures says of a run before it begins.

    Attributes
    ----------
    few : Few or None
        Its pictures are too few for what it begins with.
    untaught : tuple of str
        Classes that none of its pictures teaches.
    skipped : mapping of str to str
        Pictures that cannot be read, and why.
    """

    few: Few | None = None
    untaught: tuple[str, ...] = ()
    skipped: Mapping[str, str] = MappingProxyType({})


def look(
    dataset: Dataset,
    options: Options,
    folder: Path,
    held_out: Mapping[str, Dataset],
    *,
    config: Config,
    start: str | None,
    begins: bool,
) -> Outlook:
    """Look at some pictures before hours are spent on them, and print what speaks against it.

    Parameters
    ----------
    dataset : Dataset
        To train on.
    options : Options
    folder : Path
        Of the run.
    held_out : mapping of str to Dataset
        What is measured, by split.
    config : Config
    start : str or None
        From ``beginnings.start_of``.
    begins : bool
        The run does not go on with a checkpoint; what it begins with can be changed yet.

    Raises
    ------
    DataError
        Nothing can be learned, or only the wrong thing; or a picture cannot be read and --skip-bad is not given.
    """
    skipped, untaught = dict[str, str](), list[str]()
    warnings = require_teachable(
        dataset,
        boxes_from_masks=config.gt_boxes_from_masks,
        skipped=skipped if options.skip_bad else None,
        untaught=untaught,
    )
    warnings += _only_held_out(untaught, dataset.class_names, held_out)
    few = None if start == "" else too_few(dataset)
    if few is not None and begins:
        warnings.append(in_words(few._replace(start=start or ""), dataset.class_names, folder, options.weights))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return Outlook(few._replace(start=start) if few and start else None, tuple(untaught), skipped)


def _only_held_out(untaught: list[str], class_names: tuple[str, ...], held_out: Mapping[str, Dataset]) -> list[str]:
    """Say which of the classes that nothing teaches are seen in held-out pictures."""
    seen: set[int] = set()
    for name, split in held_out.items():
        for index in range(len(split) if untaught and name != "train" and len(split) <= LOOKED_AT else 0):
            with suppress(DataError):
                seen.update(classes_in(split, index))
    names = [name for name in untaught if class_names.index(name) in seen]
    if not names:
        return []
    return [
        f"all pictures of {some_of(names, _NAMED)} are held out: they are measured, and never taught. Choose what is "
        "held out yourself (docs/your-own-pictures.md, What is held out)"
    ]


def in_words(few: Few, class_names: tuple[str, ...], folder: Path, weights: str | None = None) -> str:
    """Say that there are too few pictures for what a run begins with, and what to type instead.

    Parameters
    ----------
    few : Few
        Without ``start`` if nobody knows what its weights know.
    class_names : tuple of str
        The background first.
    folder : Path
        Of the run.
    weights : str, optional
        The file that it begins with.
    """
    file = f"weights/{PUBLISHED[BACKBONE].filename}"
    verdict = f"too few to begin with {few.start}, however long it trains"
    if not few.start:
        verdict = f"enough only if {weights} knows such pictures, and nobody recorded what it learned from"
    return (
        f"{few}: {verdict}. More pictures or fewer classes help, and trained weights may:\n"
        f"  mrcnn-np weights download {BACKBONE}\n"
        f"  and the same command with --preset small --weights {file} --freeze stem,c2,norm --out "
        f"{shlex.quote(f'{folder}-{BACKBONE}')}\n{_known_already(class_names)}"
        "  (docs/training.md, Fine-tune; `mrcnn-np weights download` lists the other files)"
    )


def _known_already(class_names: tuple[str, ...]) -> str:
    """Say which classes a published network knows without any training, as lines; empty if it knows none."""
    rows = class_rows(coco_names(81), class_names)
    known = [name for name, row in zip(class_names[1:], rows[1:]) if row > 0]
    if not known:
        return ""
    return (
        f"  {some_of(known, _NAMED)} {'is' if len(known) == 1 else 'are'} among COCO's classes, which {NETWORK} finds "
        "without any training:\n"
        f"  mrcnn-np weights download {NETWORK}\n"
        f"  mrcnn-np detect --weights weights/{PUBLISHED[NETWORK].filename} PICTURES --out found\n"
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
    folder: Path,
    reports: Mapping[str, SplitReport],
    own: tuple[float, int] | None,
    *,
    steps: int,
    few: Few | None,
) -> tuple[list[str], list[str]]:
    """Return what the numbers of a run are worth, and the commands that come next, as lines each.

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
    few : Few or None
        It had too few pictures for what it began with.
    """
    said, next_ones, by_heart, result = [], [], False, read_result(folder)
    for split, kinds in result.evaluation.items():
        if kinds:
            said.append(f"{split}: AP was measured on {worth(next(iter(kinds.values())), result.untaught)}")
    others = [report for split, report in reports.items() if split != "train"]
    elsewhere = _ap50(others[-1]) if others else None
    if own is not None and elsewhere is not None:
        by_heart = min(own[1], _images(others[-1])) >= LEAST and own[0] >= WELL and own[0] - elsewhere >= LESS
        said.append(
            f"on {own[1]} of the pictures it was trained on AP50 is {own[0]:.3f}, on the held-out ones {elsewhere:.3f}"
            + (": it seems to know its own by heart. Then more steps do not help, but more pictures, or such as are "
               "turned, scaled and coloured anew in each step (docs/training.md, Augmentation)" if by_heart else "")
        )  # fmt: skip
    in_vain = few is not None and (elsewhere is None or elsewhere < LOW_AP)
    if few is not None and in_vain:
        said.append(_in_vain(few, None if own is None else own[0]))
    run = shlex.quote(str(folder))
    for split in list(reports)[-1:]:
        next_ones.append(f"what it misses and why:  mrcnn-np explain --run {run} --split {split}")
    counts = others[-1].counts if others else None
    score = chosen = ""
    if counts is not None and counts.best is not None and counts.best.score != DEFAULT_SCORE:
        score = f" --score {counts.best.score:g}"
        chosen = f"  # chosen on these {counts.images} held-out pictures; the default is {DEFAULT_SCORE:g}"
    next_ones.append(f"find objects elsewhere:  mrcnn-np detect --run {run} PICTURES{score} --out found{chosen}")
    enough = elsewhere is not None and elsewhere > ENOUGH
    if not (in_vain or by_heart or enough):
        next_ones.append(f"train it for longer:     mrcnn-np train --out {run} --resume --steps {2 * steps}")
    return said, next_ones


def _in_vain(few: Few, own: float | None) -> str:
    """Say what would help a run of too few pictures, which has this AP50 on its own."""
    said = f"too few pictures for {few.start}: more of them help, or trained weights; more steps "
    if own is None or own >= WELL:
        return f"{said}hardly do"
    return f"{said}teach it its own pictures, which it has not learned yet, but hardly what it has to find in new ones"
