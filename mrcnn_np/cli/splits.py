"""What a training is evaluated on, and what is to be said about it: where it comes from, and whether it is held out."""

from __future__ import annotations

from ..data.held_out import fraction_for
from ..data.opening import draws, image_names
from ..data.sample import Dataset
from ..errors import DataError, UserError
from ..evaluate.classes import in_classes_of
from ..evaluate.split import shared_images
from .options import Options, open_dataset

#: on fewer held-out images AP says little; for so many at most one in MOST is held out
LEAST, MOST = 5, 3


def open_splits(names: str, options: Options, dataset: Dataset, *, begins: bool = True) -> dict[str, Dataset]:
    """Open what is evaluated: "train" is what is trained on, "val" is the split of --val-split.

    Parameters
    ----------
    names : str
        With commas.
    options : Options
    dataset : Dataset
        What is trained on.
    begins : bool
        The run has not begun, so that another share can be held out.

    Raises
    ------
    UserError
        There is no such split, or it cannot be read.
    """
    splits: dict[str, Dataset] = {}
    for name in names.split(","):
        if name == "train":
            splits[name] = dataset
        elif name == "val":
            held_out = _open_held_out(options)
            _say_what_is_held_out(options, dataset, held_out, begins)
            _say_what_is_shared(options, dataset, held_out)
            what = f"the held-out split {options.val_split!r}"
            splits[name] = in_classes_of(held_out, tuple(dataset.class_names), what, print)
        else:
            raise UserError(f"--eval-splits names {name!r}; expected train, val, or train,val")
    return splits


def _say_what_is_held_out(options: Options, dataset: Dataset, held_out: Dataset, begins: bool) -> None:
    if options.val_split == "val" and draws(options.data, options.root, options.val_fraction):
        images = len(held_out) + len(dataset)
        said = (
            f"held out: {len(held_out)} of {images} images, drawn by a hash of their names "
            f"(--val-fraction {options.val_fraction:g}), as there is no split {options.val_split!r}"
        )
        whole = options.subset is None and options.val_subset is None and options.ids is None
        uneven = whole and abs(len(held_out) / images - options.val_fraction) > options.val_fraction / 3
        if uneven:
            said += f"; that is {len(held_out) / images:.0%}: hashes of few names fall unevenly"
        print(said + (_better_share(options, dataset, held_out, uneven) if begins and whole else ""))
    else:
        print(f"held out: the split {options.val_split!r}, {len(held_out)} images")


def _better_share(options: Options, dataset: Dataset, held_out: Dataset, uneven: bool) -> str:
    """Return which share holds out as many as were asked for, and enough to measure on; empty if this one does."""
    names = [*image_names(dataset), *image_names(held_out)]
    asked = round(options.val_fraction * len(names))
    wanted = max(1, min(max(asked, LEAST), len(names) // MOST))
    few = len(held_out) < min(LEAST, wanted)
    if not (few or uneven):
        return ""
    fraction, held = fraction_for(names, wanted)
    if held == len(held_out):
        return ""
    why = "; on so few AP says little" if few else ""
    return f"{why}; the same command with --val-fraction {fraction:g} holds out {held}"


def _say_what_is_shared(options: Options, dataset: Dataset, held_out: Dataset) -> None:
    """Say if images that are evaluated as held out are trained on."""
    shared = shared_images(dataset, held_out)
    if not shared:
        return
    which = "all" if shared == len(held_out) else f"{shared} of the"
    same = f", the split that is trained on (--split {options.split})" if options.split == options.val_split else ""
    print(
        f"warning: --val-split is {options.val_split}{same}: {which} {len(held_out)} images that are evaluated are "
        "trained on, too, so the numbers say nothing about new images; name another split by --val-split"
    )


def _open_held_out(options: Options) -> Dataset:
    try:
        return open_dataset(options, options.val_split, subset=options.val_subset, ids=None)
    except DataError as error:
        raise DataError(
            f"there are no held-out images: {error}. Name another split by --val-split, draw one by "
            "--val-fraction, or train without by --eval-splits train or --no-eval"
        ) from error
