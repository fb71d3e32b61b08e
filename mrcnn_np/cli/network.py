"""The network that ``--run``, ``--checkpoint`` or ``--weights`` names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import Config
from ..errors import CheckpointError, ConfigError, NonFiniteError, UserError
from ..files import did_you_mean_path
from ..model import MaskRCNN
from ..network import spec
from ..params import shapes
from ..training.checkpoint import Checkpoint, load_checkpoint
from ..training.finished import read_config
from ..training.run_folder import CHECKPOINT, CONFIG
from ..weights.place import file_of, runs_in


def checkpoint_path(args: argparse.Namespace) -> Path:
    """Return the checkpoint that --run or --checkpoint names.

    Raises
    ------
    UserError
        --run names no run; the message says which there are.
    """
    return Path(args.checkpoint) if args.checkpoint else file_of(folder_of_run(args.run))


def config_of_run(folder: Path) -> Config:
    """Return the configuration of a run, also of one that was stopped before its first checkpoint.

    Parameters
    ----------
    folder : Path
        As ``folder_of_run`` returns it.

    Raises
    ------
    UserError
        It is not the folder of a run, or a file in it is damaged.
    """
    if os.path.lexists(folder / CONFIG):
        return read_config(folder / CONFIG)
    return load_checkpoint(file_of(folder)).config


def folder_of_run(text: str) -> Path:
    """Return the folder that --run names.

    Raises
    ------
    UserError
        There is none; the message says which runs there are.
    """
    folder = Path(text)
    if folder.is_file():
        run = f", such as {folder.parent}" if folder.name == CHECKPOINT else ""
        raise UserError(f"--run {folder} is a file; expected the folder of a run{run}. --weights FILE takes a file")
    if not folder.exists():
        near = did_you_mean_path(folder) or runs_in(folder.parent) or "; expected the folder of a training run"
        raise UserError(f"there is no run {folder}{near}")
    return folder


def load_model(path: Path, overrides: Sequence[str] = (), **changes: Any) -> tuple[MaskRCNN, Checkpoint]:
    """Load a trained model, with some fields of its configuration changed; say so if its training is not finished.

    Parameters
    ----------
    path : Path
        Of a checkpoint.
    overrides : sequence of str
        ``field=value``.
    **changes
        Further fields.

    Raises
    ------
    CheckpointError
        It cannot be read.
    ConfigError
        A field is unknown, its value is out of range, or it would change the parameters, which are there already.
    """
    checkpoint = load_checkpoint(path)
    if len(checkpoint.class_names) != checkpoint.config.num_classes:
        names, classes = len(checkpoint.class_names), checkpoint.config.num_classes
        raise CheckpointError(f"{path}: it names {names} classes, but its network has {classes}")
    config = _changed(checkpoint.config, overrides, path) if overrides else checkpoint.config
    try:
        model = MaskRCNN(config.replace(**changes), checkpoint.params)
    except (CheckpointError, NonFiniteError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if checkpoint.step < checkpoint.config.steps:
        print(f"{path} is of step {checkpoint.step} of {checkpoint.config.steps}: its training is not finished")
    return model, checkpoint


def of_weights(args: argparse.Namespace, **changes: Any) -> MaskRCNN:
    """Load the network that --weights names, with what else the user says of it."""
    return MaskRCNN.load(
        args.weights, preset=args.preset, overrides=args.config, class_names=args.class_names, **changes
    )


def _changed(config: Config, overrides: Sequence[str], path: Path) -> Config:
    """Change fields for inference, all at once; ``ConfigError`` names the first parameter that would be another."""
    changed = config.with_overrides(list(overrides))
    there, here = shapes(spec(config)), shapes(spec(changed))
    for name in dict.fromkeys((*there, *here)):
        if there.get(name) != here.get(name):
            now, then = (str(s[name]) if name in s else "not there" for s in (there, here))
            raise ConfigError(
                f"{' '.join(f'--config {text}' for text in overrides)} changes the parameters: {name} is {now} in "
                f"{path} and would be {then}; expected fields that change none, such as detections_per_image, "
                "detection_nms_iou or image_max_size"
            )
    return changed


def refuse_options_of_weights(args: argparse.Namespace) -> None:
    """Raise ``UserError`` where options of --weights are given without it."""
    if args.preset is not None or args.class_names is not None:
        raise UserError(
            "--preset, --config and --class-names go with --weights; with a training run, which has a preset and names "
            "of its own, only --config does"
        )
