"""The network that ``--run``, ``--checkpoint`` or ``--weights`` names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, NonFiniteError, UserError
from ..model import MaskRCNN
from ..training.checkpoint import Checkpoint, load_checkpoint
from ..training.run_folder import CHECKPOINT


def checkpoint_path(args: argparse.Namespace) -> Path:
    """Return the checkpoint that --run or --checkpoint names."""
    return Path(args.checkpoint) if args.checkpoint else Path(args.run) / CHECKPOINT


def load_model(path: Path, **changes: Any) -> tuple[MaskRCNN, Checkpoint]:
    """Load a trained model, with some fields of its configuration changed."""
    checkpoint = load_checkpoint(path)
    if len(checkpoint.class_names) != checkpoint.config.num_classes:
        names, classes = len(checkpoint.class_names), checkpoint.config.num_classes
        raise CheckpointError(f"{path}: it names {names} classes, but its network has {classes}")
    try:
        return MaskRCNN(checkpoint.config.replace(**changes), checkpoint.params), checkpoint
    except (CheckpointError, NonFiniteError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def of_weights(args: argparse.Namespace, **changes: Any) -> MaskRCNN:
    """Load the network that --weights names, with what else the user says of it."""
    return MaskRCNN.load(
        args.weights, preset=args.preset, overrides=args.config, class_names=args.class_names, **changes
    )


def refuse_options_of_weights(args: argparse.Namespace) -> None:
    """Raise ``UserError`` where options of --weights are given without it."""
    if args.preset is not None or args.config or args.class_names is not None:
        raise UserError(
            "--preset, --config and --class-names go with --weights; a training run has its own configuration"
        )
