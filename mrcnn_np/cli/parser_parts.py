"""What the options of several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ..config.presets import PRESETS


def add_command(commands: argparse._SubParsersAction, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    """Add one command with what all commands share."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    if name in ("train", "detect", "eval", "compare", "conventions"):
        command.add_argument(
            "--backend",
            choices=("numpy", "cpu"),
            help="the readable NumPy code, or its compiled twin (default: cpu, or what MRCNN_NP_BACKEND says)",
        )
        command.add_argument(
            "--threads", type=at_least(1), metavar="N", help="threads of the compiled kernels (default: all cores)"
        )
    return command


def add_group(commands: argparse._SubParsersAction, name: str, summary: str, kinds: str) -> argparse._SubParsersAction:
    """Add a command that has commands of its own, whose names ``kinds`` lists for the help."""
    parser = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    return parser.add_subparsers(dest=f"{name}_command", required=True, metavar=kinds)


def at_least(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that are not below ``least``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return number

    return parse


def probability(text: str) -> float:
    """Read a number between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return number


def add_source(command: argparse.ArgumentParser, *, split: str, default: str) -> None:
    """Add the options that choose images."""
    command.add_argument("--data", choices=("shapes", "voc", "coco"), help=f"data set (default: {default})")
    command.add_argument(
        "--root",
        metavar="DIR",
        help="its folder, for coco also the JSON itself (default: datasets/shapes, generated if missing; for voc and "
        "coco the environment variable VOC_ROOT or COCO_ROOT)",
    )
    command.add_argument("--split", help=f"train, val or trainval (default: {split})")
    command.add_argument("--subset", type=at_least(1), metavar="N", help="the first N images only (default: all)")
    command.add_argument("--ids", metavar="FILE", help="only the images whose ids stand in this file, one on a line")


def add_network(command: argparse.ArgumentParser, *, required: bool) -> argparse._MutuallyExclusiveGroup:
    """Add the options that choose a network, of which one may be given; return their group."""
    which = command.add_mutually_exclusive_group(required=required)
    which.add_argument("--run", metavar="DIR", help="folder of a training run")
    which.add_argument("--checkpoint", metavar="FILE", help="a checkpoint file itself")
    which.add_argument(
        "--weights", metavar="FILE", help="weights of torchvision, detectron2, matterport or this package"
    )
    return which


def add_class_names(command: argparse.ArgumentParser) -> None:
    """Add the option that names the classes of a file of weights; most files do not name them."""
    command.add_argument(
        "--class-names",
        metavar="NAMES",
        help="what the classes of --weights are, where the file does not say: names with commas between them, or a "
        "file with one on each line",
    )


def add_conventions_of_weights(command: argparse.ArgumentParser) -> None:
    """Add the options that contradict a file of weights, or insist on what it has to be."""
    command.add_argument("--preset", choices=tuple(PRESETS), help="refuse weights of other conventions than these")
    command.add_argument(
        "--config",
        action="append",
        metavar="FIELD=VALUE",
        help="change a field of the configuration that the weights imply; may be given several times",
    )
