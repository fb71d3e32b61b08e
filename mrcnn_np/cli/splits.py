"""What a training is evaluated on, and what is to be said about it: where it comes from, and whether it is held out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..data.few import LOOKED_AT, classes_in
from ..data.held_out import drawn, fraction_for
from ..data.opening import draws, image_names
from ..data.sample import Dataset
from ..errors import DataError, UserError, some_of
from ..evaluate.classes import in_classes_of
from ..evaluate.split import shared_images
from ..tables import counted
from .options import Options, open_dataset

#: on fewer held-out images AP says little; for so many at most one in MOST is held out
LEAST, MOST = 5, 3
#: as many times the images asked for as are many
MUCH = 2
#: share of the images that is held out, if no split is
VAL_FRACTION = 0.1
#: class names that a message has
_NAMED = 5


def choose_val_fraction(args: argparse.Namespace, recorded: Mapping[str, Any]) -> None:
    """Decide how much is held out where there is no split for it; runs that do not remember it held out nothing.

    Parameters
    ----------
    args : Namespace
        The command line of ``train``; ``val_fraction`` changes in place.
    recorded : mapping
        Options of the run that goes on; empty if none does.
    """
    splits = args.eval_splits or Options.eval_splits
    held_out = args.eval_every is not None or (not args.no_eval and "val" in splits.split(","))
    if args.val_split not in (None, "val") or args.val_split == (args.split or Options.split):
        if args.val_fraction:
            raise UserError(f"--val-split {args.val_split} names what is held out; it does not go with --val-fraction")
        args.val_fraction = None if recorded else 0.0  # what a run is trained on stays as it was
    elif args.val_fraction is None and not recorded:
        args.val_fraction = VAL_FRACTION if held_out else 0.0


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
        many = uneven and len(held_out) > MUCH * options.val_fraction * images
        if many:
            said += ", and training lacks them"
        print(said + (_better_share(options, dataset, held_out, many) if begins and whole else ""))
    else:
        print(f"held out: the split {options.val_split!r}, {counted(len(held_out), 'image')}")


def _better_share(options: Options, dataset: Dataset, held_out: Dataset, many: bool) -> str:
    """Return which share holds out as many as were asked for, and enough to measure on; empty if this one will do."""
    names = [*image_names(dataset), *image_names(held_out)]
    asked = round(options.val_fraction * len(names))
    wanted = max(1, min(max(asked, LEAST), len(names) // MOST))
    few = len(held_out) < min(LEAST, wanted)
    if not (few or many):
        return ""
    fraction, held = fraction_for(names, wanted)
    if held == len(held_out):
        return ""
    why = "; on so few AP says little" if few else ""
    said = f"{why}; the same command with --val-fraction {fraction:g} --overwrite holds out {held}"
    lost = _all_held_out((dataset, held_out), drawn(names, fraction))
    if lost:
        said += (
            f", and every picture of {some_of(lost, _NAMED)} is among them, so that nothing would teach this: choose "
            "what is held out yourself (docs/your-own-pictures.md, What is held out)"
        )
    return said


def _all_held_out(parts: tuple[Dataset, Dataset], held: list[bool]) -> list[str]:
    """Return the classes that are seen in images that would be held out, and in no other.

    Parameters
    ----------
    parts : pair of Dataset
        With the same classes.
    held : list of bool
        For each image of the one and then of the other; of more than ``LOOKED_AT`` nothing is said.
    """
    if len(held) > LOOKED_AT:
        return []
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    places = [(part, index) for part in parts for index in range(len(part))]
    for out, (whose, index) in zip(held, places):
        with suppress(DataError):  # that it cannot be read is said elsewhere
            seen[out].update(classes_in(whose, index))
    return [parts[0].class_names[k] for k in sorted(seen[True] - seen[False])]


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
