"""``mrcnn-np train --weights``: the start of a run from weights, what is said about it, and what the run keeps of it.

``weights.json`` in the run folder holds where every tensor came from, and the configuration that the weights imply
before any option changes it. A resumed run reads it there: it needs the file of weights no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..errors import UserError, WeightFileError
from ..files import read_json
from ..params import first_non_finite, trainable
from ..weights.download import sha256
from ..weights.load import Weights
from ..weights.network import name_classes
from ..weights.transfer import Start, by_part, read_start, start_config, transfer
from .optim import trained_names
from .run_folder import START


@dataclass(frozen=True)
class Origin:
    """Weights from which a run starts.

    Attributes
    ----------
    base : Config
        What the weights imply; options change it.
    path : Path
    weights : Weights or None
        None where a checkpoint has the parameters already.
    """

    base: Config
    path: Path
    weights: Weights | None


def open_origin(path: Path, preset: str | None, class_names: str | None, num_classes: int) -> Origin:
    """Read weights to start from.

    Parameters
    ----------
    path : Path
    preset : str, optional
        See ``weights.transfer.start_config``.
    class_names : str, optional
        Names of the file's classes, if the file does not have them.
    num_classes : int
        Of the data set.
    """
    weights = read_start(path, preset)
    weights = weights._replace(manifest=name_classes(weights.manifest, class_names, path))
    return Origin(start_config(weights, preset, num_classes), path, weights)


def recorded_origin(folder: Path, path: Path, num_classes: int) -> Origin:
    """Return what a run kept of the weights that it started from.

    Parameters
    ----------
    folder : Path
        Of the run.
    path : Path
        Of the weights.
    num_classes : int
        Of the run's network.
    """
    try:
        kept = read_json(folder / START, {"config": {str: object}, ...: object})
    except UserError as error:
        raise UserError(f"{error}; restore the file, or start anew with --overwrite") from error
    return Origin(Config.from_dict(kept["config"] | {"num_classes": num_classes}), path, None)


def check_same_start(recorded: Mapping[str, Any], given: Mapping[str, Any], folder: Path) -> None:
    """Raise ``UserError`` if a run that is to be resumed began otherwise than the options say.

    Parameters
    ----------
    recorded, given : mapping
        Options as the run keeps them and as they are now.
    folder : Path
        Of the run, for the message.
    """
    for name in ("weights", "preset", "class_names"):
        there, here = recorded.get(name), given.get(name)
        if recorded and here is not None and here != there and (recorded.get("weights") or name == "weights"):
            option = f"--{name.replace('_', '-')}"
            began = "without it" if there is None else f"with {there}"
            raise UserError(
                f"{option} is {here}, but the run in {folder} was started {began}; leave the option out, or start anew "
                "with --overwrite"
            )


def begin(origin: Origin, config: Config, class_names: tuple[str, ...], rng: np.random.Generator) -> Start:
    """Make the parameters of a new run.

    Parameters
    ----------
    origin : Origin
        The weights to start from.
    config : Config
    class_names : tuple of str
        Of the data set.
    rng : numpy.random.Generator
        Draws what the weights do not have.

    Raises
    ------
    WeightFileError, WeightMismatchError
        As ``transfer``; a tensor of the file holds NaN or infinity.
    """
    assert origin.weights is not None
    start = transfer(origin.weights, config, class_names, rng, origin.path)
    bad = first_non_finite(start.params.items())
    if bad is not None:
        raise WeightFileError(f"{origin.path}: tensor {bad} holds NaN or infinity")
    return start


def describe(origin: Origin, start: Start, config: Config, class_names: tuple[str, ...]) -> str:
    """Say which tensors were taken, drawn and left aside; how training goes on from there says ``schedule``.

    Parameters
    ----------
    origin : Origin
    start : Start
        What ``begin`` made of it.
    config : Config
    class_names : tuple of str
    """
    assert origin.weights is not None
    manifest, aside = origin.weights.manifest, origin.weights.aside
    lines = [f"start: {origin.path} ({manifest.source}: {manifest.architecture})"]
    lines.append(f"  taken       {len(start.taken)} tensors: {by_part(start.taken)}")
    if start.drawn:
        lines.append(f"  drawn       {len(start.drawn)} tensors: {by_part(start.drawn)}")
    if start.kept:
        lines.append(f"              but the rows of these classes, which the file has: {', '.join(start.kept)}")
        new = [name for name in class_names if name not in start.kept]
        if new and not manifest.class_names:
            lines.append("              the file does not name its classes; --class-names says what they are")
        elif new:
            lines.append(f"              new classes: {', '.join(new)}")
    if aside:
        lines.append(f"  left aside  {len(aside)} tensors: {by_part(aside)}")
    trained = set(trained_names(start.params, config))
    frozen = [name for name in start.params if trainable(name) and name not in trained]
    if frozen:
        lines.append(f"  frozen      {len(frozen)} tensors: {', '.join(config.frozen)}")
    presumed = [name for name in manifest.presumed if name != "class_names" or manifest.class_names]
    if presumed:
        lines.append(f"  presumed    {', '.join(presumed)}: see `mrcnn-np weights info`")
    return "\n".join(lines)


def schedule(config: Config) -> str:
    """Say how many steps a training has, of how many images, and at which learning rate."""
    lines = [
        f"training: {config.steps} steps of {config.batch_size * config.accumulate} images, "
        f"learning rate {config.learning_rate:g}"
        + (f" after {config.warmup_steps} steps of warm-up" if config.warmup_steps else "")
    ]
    if config.warmup_steps >= config.steps > 0:
        lines.append("  the warm-up is longer than the training; shorten it with --config warmup_steps=N")
    return "\n".join(lines)


def record(origin: Origin, start: Start) -> dict[str, Any]:
    """Return what ``weights.json`` keeps."""
    assert origin.weights is not None
    return {
        "file": str(origin.path),
        "sha256": sha256(origin.path),
        "source": origin.weights.manifest.source,
        "taken": start.taken,
        "drawn": start.drawn,
        "kept_classes": start.kept,
        "left_aside": origin.weights.aside,
        "config": origin.base.to_dict(),
    }
