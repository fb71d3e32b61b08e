"""What the weights know that a run begins with, as far as the runs before it have recorded that."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

from ..data.few import LOOKED_AT, Few, too_few
from ..data.sample import Dataset
from ..data.shapes import is_generated
from ..errors import DataWarning, UserError
from ..files import read_json
from ..schema import Optional
from ..training.run_folder import OPTIONS, START, SUMMARY
from .options import Options, open_dataset, recorded_options

#: ``Manifest.source`` of a checkpoint of this package
OWN = "training of mrcnn-np"
RANDOM = "random weights"
#: so many runs that began with each other's weights are followed
_CHAIN = 9


def start_of(options: Options, source: str | None, *, chain: int = _CHAIN) -> str | None:
    """Say what a run begins with, if that knows no pictures such as it trains on.

    Parameters
    ----------
    options : Options
        Of the run.
    source : str or None
        ``Manifest.source`` of its weights; None without weights.
    chain : int
        So many earlier runs are asked.

    Returns
    -------
    str or None
        ``RANDOM``, or which weights know too little; empty if they know pictures: those of other programs count as
        such, and what a run of this package learned from, if that was not too little itself, or shapes like these.
        None if nobody can say.
    """
    if options.weights is None:
        return RANDOM
    folder = Path(options.weights).parent
    if source != OWN:
        return ""
    if chain == 0 or not (folder / OPTIONS).exists():
        return None
    try:
        earlier = Options.merge(recorded_options(folder), argparse.Namespace())
        before = start_of(earlier, recorded_source(folder), chain=chain - 1)
        if not before:
            return before
        if _generated(earlier):
            return "" if _generated(options) else f"weights that know generated shapes only ({folder})"
        few = too_few(_pictures(earlier))
    except (UserError, OSError):
        return None
    return f"weights that know {few.pictures} pictures only ({folder})" if few else ""


def recorded_source(folder: Path) -> str | None:
    """Return ``Manifest.source`` of the weights that a run began with, as it recorded it; None without weights.

    Raises
    ------
    UserError
        The record is damaged.
    """
    path = folder / START
    kept: dict[str, Any] = read_json(path, {"source": str, ...: object}) if path.exists() else {}
    return kept.get("source")


def too_few_to_begin(run: Path) -> Few | None:
    """Return how few pictures a run had for what it began with; None if it had enough, or nobody can say.

    Its pictures are looked at again, if they are still there.

    Parameters
    ----------
    run : Path
        Its folder.
    """
    try:
        facts = read_json(run / SUMMARY)
        options = Options.merge(recorded_options(run), argparse.Namespace())
        if facts["images"] > LOOKED_AT or not Path(options.place or ".").exists():
            return None
        start = start_of(options, recorded_source(run))
        few = too_few(_pictures(options)) if start else None
        return few._replace(start=start) if few and start else None
    except (UserError, OSError, KeyError, TypeError, ValueError):
        return None


def untaught_by(run: Path | None) -> tuple[str, ...]:
    """Return the classes that no picture of a run's training taught, as it recorded them.

    Parameters
    ----------
    run : Path or None
        Its folder; of None nothing is known.
    """
    try:
        facts = read_json(run / SUMMARY, {"untaught": Optional([str]), ...: object}) if run is not None else {}
    except UserError:  # it is not finished, or is none
        return ()
    return tuple(facts.get("untaught", ()))


def _pictures(options: Options) -> Dataset:
    """Open what a run was trained on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the training said so
        return open_dataset(options, options.split, subset=options.subset, ids=options.ids)


def _generated(options: Options) -> bool:
    return options.data == "shapes" or (options.root is not None and is_generated(Path(options.root)))
