"""The conventions as data: what each field of the configuration means, and what each framework has there.

Nothing is listed twice: meanings come from the docstrings of the field groups, values from the presets.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from .config import Config
from .errors import ConfigError
from .presets import by_name

FRAMEWORKS = ("matterport", "torchvision", "detectron2")
#: values that no framework has, but that documents, papers or learners propose
OTHER_VALUES: dict[str, tuple[tuple[Any, str], ...]] = {
    "anchor_offset": ((0.5, "centres of cells"), (0.0, "all three")),
    "roi_reduce": (("max", "the documents"), ("mean", "all three")),
    "rpn_match_best": ((False, "thresholds only"), (True, "all three")),
}
#: numbers that mean something only together
TOGETHER = {"pixel_mean": ("pixel_scale", "pixel_mean", "pixel_std")}
#: what a network was built and trained for, and by how much it is worked: no convention unless it is a framework's
SIZES = (
    "image_min_size", "image_max_size", "pad_multiple", "backbone", "fpn_channels", "anchor_sizes", "anchor_strides",
    "anchor_ratios", "rpn_channels", "roi_canonical_size", "roi_canonical_level", "box_pool_size", "mask_pool_size",
    "box_head_channels", "mask_head_convs", "mask_head_channels",
)  # fmt: skip
#: names and schedules: they change no tensor of a given step, or only how far it moves the weights
NO_CONVENTION = (
    "name", "num_classes", "loss_weights", "learning_rate", "momentum", "weight_decay", "weight_decay_on", "no_decay",
    "frozen", "clip_norm", "batch_size", "steps", "warmup_steps", "warmup_factor", "decay_at", "decay_factor", "flip",
    "scale_jitter", "bn_momentum",
)  # fmt: skip


@dataclass(frozen=True)
class Meaning:
    """What the documentation says of one field.

    Attributes
    ----------
    field : str
    part : str
        What it belongs to: "Image to molded input", "Anchors" ...
    allowed : str
        Unit or choices.
    text : str
    """

    field: str
    part: str
    allowed: str
    text: str


@dataclass(frozen=True)
class Flip:
    """One convention set to another value.

    Attributes
    ----------
    field : str
    changes : dict
        What to change: the field, and what means nothing without it.
    old, new : str
        The values, in words.
    whose : str
        Who has the new value.
    """

    field: str
    changes: dict[str, Any]
    old: str
    new: str
    whose: str

    @property
    def label(self) -> str:
        """The change in a few words: long values are left to the table."""
        if len(self.old) + len(self.new) > 36:
            return f"{self.field}: as {self.whose.partition(',')[0]}"
        return f"{self.field}: {self.old} → {self.new}"


@cache
def meanings() -> dict[str, Meaning]:
    """Read the documentation of every field off the docstrings, in the order of the data flow."""
    found: dict[str, Meaning] = {}
    for group in reversed(Config.__mro__[1:-1]):
        doc = inspect.getdoc(group) or ""
        part = doc.partition("\n")[0].partition(" (``")[0].partition(":")[0].rstrip(".")
        entries = doc.partition("Attributes\n----------\n")[2]
        for names, allowed, text in re.findall(r"^(\w[\w, ]*) : (.*)\n((?:    .*\n?)+)", entries, re.MULTILINE):
            for name in names.split(", "):
                found[name] = Meaning(name, part, allowed, " ".join(text.split()))
    return found


def flips(config: Config, only: Sequence[str] | None = None) -> list[Flip]:
    """List every convention of a configuration with each value that another framework has for it.

    Parameters
    ----------
    config : Config
    only : sequence of str, optional
        Fields; others are left out.

    Returns
    -------
    list of Flip
        In the order of the data flow.

    Raises
    ------
    ConfigError
        A name in ``only`` is no field.
    """
    names = [f.name for f in fields(Config)]
    for name in only or ():
        if name not in names:
            raise ConfigError(f"unknown config field {name!r}; `mrcnn-np conventions --list` shows all")
    partners = {name for group in TOGETHER.values() for name in group} - set(TOGETHER)
    found: list[Flip] = []
    for name in names:
        if name in NO_CONVENTION or name in partners or (only is not None and name not in only):
            continue
        found += _flips_of(name, config)
    return found


def _flips_of(name: str, config: Config) -> list[Flip]:
    group = TOGETHER.get(name, (name,))
    current = tuple(getattr(config, n) for n in group)
    owners: dict[tuple[Any, ...], list[str]] = {}
    for framework in FRAMEWORKS:
        preset = by_name(framework)
        owners.setdefault(tuple(getattr(preset, n) for n in group), []).append(framework)
    if name in SIZES and current not in owners:
        return []
    for value, whose in OTHER_VALUES.get(name, ()):
        owners.setdefault((value,), [whose])
    found = []
    for values, who in owners.items():
        if values == current:
            continue
        changes = dict(zip(group, values))
        if name == "resize_mode" and config.image_max_size in {by_name(f).image_max_size for f in FRAMEWORKS}:
            changes["image_max_size"] = by_name(who[0]).image_max_size  # a square has a multiple of 32
        old, new = (", ".join(in_words(v) for v in pair) for pair in (current, values))
        found.append(Flip(name, changes, old, new, ", ".join(who)))
    return found


def in_words(value: Any) -> str:
    """Write a value of a field: short numbers, no quotes, "none" for None."""
    if isinstance(value, tuple):
        return "(" + ", ".join(in_words(v) for v in value) + ")"
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def markdown_table() -> str:
    """Write what all fields mean and what the frameworks have there, as Markdown, one table for each part."""
    presets = [by_name(name) for name in FRAMEWORKS]
    lines: list[str] = []
    part = ""
    for meaning in meanings().values():
        if meaning.part != part:
            part = meaning.part
            lines += ["", f"### {part}", "", f"| field | {' | '.join(FRAMEWORKS)} | meaning |", "|---" * 5 + "|"]
        values = " | ".join(in_words(getattr(preset, meaning.field)) for preset in presets)
        text = f"*{meaning.allowed}*. {meaning.text}".replace("|", "\\|").replace("``", "`")
        lines.append(f"| `{meaning.field}` | {values} | {text} |")
    return "\n".join(lines[1:]) + "\n"
