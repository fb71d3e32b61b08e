"""``mrcnn-np explain``: why each object was missed, what each false detection is, and what it costs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..data.photographs import with_file
from ..data.sample import Dataset, Sample
from ..errors import UserError, did_you_mean, some_of
from ..evaluate.classes import in_classes_of
from ..evaluate.split import image_place
from ..explain.advice import LOW_AP, in_full
from ..explain.deaths import Miss
from ..explain.judge import BACKGROUND_IOU, Rules
from ..explain.mistakes import Mistake
from ..explain.page import draw_mistakes, in_words, left_out, mistakes_in, save_picture, worth_telling, write_page
from ..explain.report import Explanation, explain_split
from ..files import prepare, write_json
from ..model import MaskRCNN
from .beginnings import too_few_to_begin, untaught_by
from .network import checkpoint_path, load_model, of_weights, refuse_options_of_weights
from .options import Options, images_named, images_of_run, open_dataset

#: so many letters of a long name are enough, if no other begins so
_BEGINNING = 4
#: where an image is looked for that the split lacks
_SPLITS = ("train", "val", "trainval", "test")
#: sentences on the terminal; the files have all
SHOWN = 10


class OneImage:
    """A data set of one image of another data set.

    Parameters
    ----------
    dataset : Dataset
    index : int
    """

    def __init__(self, dataset: Dataset, index: int) -> None:
        self.dataset, self.index = dataset, index
        self.class_names = dataset.class_names
        self.ids: tuple[str, ...] = (dataset.ids[index],)

    def __len__(self) -> int:
        """Return 1."""
        return 1

    def load(self, index: int) -> Sample:
        """Read the image; see ``Dataset.load``."""
        return self.dataset.load(range(self.index, self.index + 1)[index])


def run_explain(args: argparse.Namespace) -> int:
    """Explain the mistakes of a network on a split, or in one image."""
    if args.iou is not None and not BACKGROUND_IOU < args.iou <= 1:
        raise UserError(f"--iou is {args.iou:g}; expected a number above {BACKGROUND_IOU:g} and up to 1")
    rules = Rules(args.method or "voc10", args.iou_type, 0.5 if args.iou is None else args.iou)
    model, dataset, out, title, (steps, run) = _subject(args)
    if model.config.keypoints and not model.config.mask_branch:
        raise UserError(
            "explain follows boxes and masks, not keypoints, and this network has no mask branch; `mrcnn-np eval` "
            "measures boxes and keypoints"
        )
    prepare(out)
    report = explain_split(
        model, dataset, rules=rules, oracles=not args.no_oracles, skip_bad=args.skip_bad, progress=not args.quiet
    )
    report.untaught = untaught_by(run)
    few = too_few_to_begin(run) if run is not None and report.mean_ap < LOW_AP else None
    print(in_full(report, steps=steps, few=few))
    if args.image is None:
        _print_dearest(report)
    else:
        _print_image(report, dataset.ids[0])
    for image_id, reason in report.skipped.items():
        print(f"skipped image {image_id}: {reason}", file=sys.stderr)
    write_json(out / "explain.json", {"title": title, **report.as_dict()})
    written = [str(out / "explain.json")]
    if args.image is not None:
        sample = dataset.load(0)
        (found,) = model.detect([sample.image])
        picture = draw_mistakes(sample, found, *mistakes_in(report, dataset.ids[0]), report.class_names)
        save_picture(out / "explain.png", picture)
        written.append(str(out / "explain.png"))
    else:
        count = write_page(
            out / "explain.html", report, model, dataset, most=args.pictures, title=title, steps=steps, few=few
        )
        written.append(f"{out / 'explain.html'} ({count} pictures)")
    print("\nwritten to " + ", ".join(written))
    return 0


def _print_dearest(report: Explanation) -> None:
    """Print the mistakes that cost most, misses and false detections together."""
    mistakes: list[Miss | Mistake] = sorted([*report.misses, *report.mistakes], key=_cost)
    if mistakes:
        print("\nthe dearest" if len(mistakes) > SHOWN else "")
    _print_mistakes(report, mistakes[:SHOWN])


def _print_image(report: Explanation, image_id: str) -> None:
    """Print what was missed in one image, and the false detections that are worth a line; count the others."""
    misses, mistakes = mistakes_in(report, image_id)
    told = worth_telling(mistakes)
    if misses or mistakes:
        print()
    _print_mistakes(report, sorted([*misses, *told], key=_cost))
    if len(told) < len(mistakes):
        print(f"{left_out(mistakes, told)}; explain.json has all")


def _print_mistakes(report: Explanation, mistakes: Sequence[Miss | Mistake]) -> None:
    for one in mistakes:
        print(f"{one.cost:+.4f}  {report.named(one.image_id)}  {in_words(one, report.class_names)}")


def _cost(one: Miss | Mistake) -> float:
    return -one.cost


def _subject(args: argparse.Namespace) -> tuple[MaskRCNN, Dataset, Path, str, tuple[int | None, Path | None]]:
    """Open the network and the images.

    Return with them where to write, a title, and of a run the steps that it was trained for and its folder.
    """
    changes = {} if args.score is None else {"detection_score_threshold": args.score}
    trained: tuple[int | None, Path | None] = (None, None)
    if args.weights is None:
        refuse_options_of_weights(args)
        path = checkpoint_path(args)
        chosen, split = images_of_run(args, path.parent)
        folder = path.parent
        model, checkpoint = load_model(path, args.config or (), **changes)
        class_names, trained = checkpoint.class_names, (checkpoint.step, folder)
    else:
        chosen, split = images_named(args)
        path, folder = Path(args.weights), Path("runs")
        model = of_weights(args, **changes)
        class_names = model.class_names
        if not class_names:
            raise UserError(f"{path} does not say what its classes are; expected their names by --class-names NAMES")
    dataset = open_dataset(chosen, split, subset=args.subset, ids=args.ids)
    dataset = in_classes_of(dataset, class_names, f"split {split!r}", print)
    name, title = f"explain-{split}", f"{path}: split {split}"
    if args.image is not None:
        index = _find(dataset, args.image, split)
        if index is None:
            raise _not_there(chosen, dataset, args.image, split)
        title += f", image {_named(dataset, dataset.ids[index])}"
        dataset = OneImage(dataset, index)
        name += "-" + re.sub(r"[^\w.-]+", "_", dataset.ids[0])
    return model, dataset, Path(args.out) if args.out else folder / name, title, trained


def _find(dataset: Dataset, text: str, split: str) -> int | None:
    """Return which image of a data set is meant: by its id, its file's name with or without ending, or its beginning.

    Also by both, as it is printed. None if it has none of that name.
    """
    for named in (dataset.ids, [_named(dataset, image_id) for image_id in dataset.ids]):
        if text in named:
            return named.index(text)
    inner = getattr(dataset, "dataset", dataset)
    names = [Path(str(image_place(inner, image_id))).name for image_id in dataset.ids]
    wanted = Path(text).name
    same: tuple[Callable[[str], bool], ...] = (
        lambda name: name in (wanted, Path(wanted).stem),
        lambda name: Path(name).stem in (wanted, Path(wanted).stem),
        lambda name: len(wanted) >= _BEGINNING and name.startswith(wanted),
    )
    for is_meant in same:
        found = [i for i, name in enumerate(names) if is_meant(name)]
        if len(found) == 1:
            return found[0]
        if found:
            ids = some_of([_named(dataset, dataset.ids[i]) for i in found], 5)
            raise UserError(f"--image {text} may be one of several images of split {split!r}: {ids}; expected an id")
    return None


def _named(dataset: Dataset, image_id: str) -> str:
    """Return the id of an image, and its file's name where the id does not tell it."""
    return with_file(image_id, str(image_place(getattr(dataset, "dataset", dataset), image_id)))


def _not_there(chosen: Options, dataset: Dataset, text: str, split: str) -> UserError:
    """Return the error for an image that a split lacks: the split that has it, else what is called similarly."""
    for other in _SPLITS:
        if other == split:
            continue
        try:
            there = _find(open_dataset(chosen, other, subset=None, ids=None), text, other) is not None
        except UserError:  # there is no such split, or its files are not on this disk, or the name is that of several
            continue
        if there:
            return UserError(f"split {split!r} has no image {text}, split {other!r} has it; add --split {other}")
    meant = did_you_mean(Path(text).stem, dataset.ids)
    return UserError(f"split {split!r} has no image {text}; expected the id or the file name of one{meant}")
