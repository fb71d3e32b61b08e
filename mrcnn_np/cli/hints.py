"""What was probably meant by an option or a field of the configuration that does not exist."""

from __future__ import annotations

import os
import shlex
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from itertools import takewhile

from ..config.config import DECLARATIONS
from ..errors import did_you_mean

#: what other programs call an option or a field, whose name here is too unlike to be found by its letters
ELSEWHERE = {
    "lr": "learning_rate", "base_lr": "learning_rate", "wd": "weight_decay", "warmup": "warmup_steps",
    "epochs": "steps", "epoch": "steps", "iterations": "steps", "iters": "steps", "max_iter": "steps",
    "bs": "batch_size", "img_size": "size", "image_size": "size", "imgsz": "size", "device": "backend",
    "output": "out", "save_dir": "out", "dataset": "data",
}  # fmt: skip
#: how alike an option and a field of the configuration are at least; `--class` is not num_classes
_ALIKE = 0.75


def options_meant(wrong: Sequence[str], options: Sequence[str]) -> str:
    """Say of every option that a command has not which one is the nearest, as `option_meant` does of one.

    Parameters
    ----------
    wrong : sequence of str
        As they were typed, with their dashes.
    options : sequence of str
        The long options that the command has.
    """
    said = {name: option_meant(name, options).removeprefix("; ") for name in wrong}
    if len(said) > 1:
        said = {name: text and f"{name}: {text}" for name, text in said.items()}
    return "".join(f"{' ' if k else '; '}{text}" for k, text in enumerate(filter(None, said.values())))


def option_meant(wrong: str, options: Sequence[str]) -> str:
    """Say which option of a command, or which field of its --config, is the nearest; an empty text if none is near.

    Parameters
    ----------
    wrong : str
        As it was typed, with its dashes.
    options : sequence of str
        The long options that the command has.
    """
    typed = wrong.lstrip("-").lower().replace("-", "_")
    field = ELSEWHERE.get(typed, typed)
    known = [name[2:] for name in options]
    if (option := field.replace("_", "-")) in known:
        counted = " (training is counted in steps)" if typed.startswith("epoch") else ""
        return f"; did you mean '--{option}'?{counted}"
    if "config" in known and field in DECLARATIONS:
        return f"; did you mean '--config {field}=VALUE'?"
    if near := did_you_mean(typed.replace("_", "-"), known):
        return near.replace("'", "'--", 1)
    near = did_you_mean(field, _alike(field, DECLARATIONS)) if "config" in known else ""
    return near.replace("'", "'--config ", 1).replace("'?", "=VALUE'?")


def _alike(typed: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if SequenceMatcher(None, name, typed).ratio() >= _ALIKE]


def path_meant(left: Sequence[str], options: Sequence[str]) -> str:
    """Say by which option a path is named that was typed alone; an empty text if what is left over is none.

    Parameters
    ----------
    left : sequence of str
        What the parser could not place.
    options : sequence of str
        The long options that the command has.
    """
    is_path = len(left) == 1 and not left[0].startswith("-") and os.path.exists(left[0])
    return f"; did you mean --data {shlex.quote(left[0])}?" if is_path and "--data" in options else ""


def quotes_meant(typed: Sequence[str], left: Sequence[str], options: Sequence[str]) -> str:
    """Say to put a value into quotes where what is left over follows it; an empty text if it follows none.

    Parameters
    ----------
    typed : sequence of str
        The command line.
    left : sequence of str
        What of it nothing reads.
    options : sequence of str
        Those that take a text.
    """
    for place, word in enumerate(typed):
        option, joined, first = word.partition("=")
        rest = [first] * bool(joined) + list(takewhile(lambda one: not one.startswith("--"), typed[place + 1 :]))
        if option in options and len(rest) > 1 and list(left[: len(rest) - 1]) == rest[1:]:
            return f"; a value with spaces needs quotes: {option} {shlex.quote(' '.join(rest))}"
    return ""


def point_meant(text: str, read: Callable[[str], float]) -> str:
    """Say to write a point where ``read`` would read a number if its decimal comma were one; else an empty text."""
    pointed = text.strip().replace(",", ".")
    if text.count(",") != 1 or "." in text:
        return ""
    try:
        read(pointed)
    except ArgumentTypeError:
        return ""
    return f"; write a point, not a comma: {pointed}"


def assignment(text: str) -> str:
    """Read FIELD=VALUE or the name of a file, and refuse what other programs call a field."""
    field, is_field, _ = text.partition("=")
    name = field.strip().lower().replace("-", "_")
    meant = ELSEWHERE.get(name)
    if is_field and name not in DECLARATIONS and meant in DECLARATIONS:
        raise ArgumentTypeError(f"unknown config field {field.strip()!r}; did you mean {meant!r}?")
    return text
