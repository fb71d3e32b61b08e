"""The options of ``mrcnn-np compare``."""

from __future__ import annotations

import argparse

from ..config.presets import PRESETS


def add_options(command: argparse.ArgumentParser) -> None:
    """Add them; nothing heavy is imported, so that --help answers at once."""
    command.add_argument(
        "--with", dest="framework", choices=("torchvision", "keras"), default="torchvision", help="default: torchvision"
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("image", nargs="?", metavar="IMAGE", help="JPEG, PNG, ... (default: made-up noise)")
    which.add_argument("--random", type=size, metavar="HxW", help="noise of this size (default: 240x320)")
    command.add_argument("--weights", metavar="FILE", help="any file that `mrcnn-np weights` reads (default: random)")
    command.add_argument("--seed", type=_whole, default=0, help="of random weights, noise and draws (default: 0)")
    command.add_argument("--preset", choices=tuple(PRESETS), help="default: that of the framework, or of the weights")
    command.add_argument("--config", action="append", metavar="FIELD=VALUE", help="change a field, on both sides")
    command.add_argument(
        "--only-ours", action="append", metavar="FIELD=VALUE", help="change a field on our side only: what shows it?"
    )
    command.add_argument("--size", type=_at_least_one, metavar="PIXELS", help="image size (default: the preset's)")
    command.add_argument("--dtype", choices=("float32", "float64"), help="default: float32")
    command.add_argument(
        "--tolerance",
        type=positive,
        metavar="T",
        help="relative error (default: 1e-4, in float64 1e-11)",
    )
    command.add_argument(
        "--teacher-forced",
        action="store_true",
        help="give our backbone the framework's molded image, our second stage its proposals and detections, so that "
        "tensors can be compared row by row whatever happens before",
    )
    command.add_argument(
        "--train-steps", type=_at_least_one, metavar="N", help="compare N steps of training: losses and gradients"
    )
    command.add_argument(
        "--ops", action="store_true", help="compare every operation with PyTorch's, in both precisions"
    )
    command.add_argument("--out", default="runs/compare", metavar="DIR", help="default: %(default)s")


def size(text: str) -> tuple[int, int]:
    """Read ``HxW``."""
    height, _, width = text.lower().partition("x")
    try:
        sides = int(height), int(width)
    except ValueError:
        sides = 0, 0
    if not all(1 <= side <= 10000 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected HEIGHTxWIDTH in pixels, for example 240x320")
    return sides


def positive(text: str) -> float:
    """Read a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e300:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _whole(text: str) -> int:
    if not (text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _at_least_one(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number
