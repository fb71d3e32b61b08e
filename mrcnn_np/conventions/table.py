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

from ..config import Config, check_names
from ..config.presets import by_name
from ..errors import ConfigError

FRAMEWORKS = ("matterport", "torchvision", "detectron2")
#: values that no framework has, but that documents, papers or learners propose
OTHER_VALUES: dict[str, tuple[tuple[Any, str], ...]] = {
    "anchor_offset": ((0.5, "centres of cells"), (0.0, "all three")),
    "roi_reduce": (("max", "the documents"), ("mean", "all three")),
    "rpn_match_best": ((False, "thresholds only"), (True, "all three")),
    "rpn_best_ties": (("tolerance", "tiny, small"), ("bit_equal", "all three")),
}
#: what a network was built and trained for, and by how much it is worked: no convention unless it is a framework's
SIZES = (
    "image_min_size", "image_max_size", "pad_multiple", "backbone", "fpn_channels", "anchor_sizes", "anchor_strides",
    "anchor_ratios", "rpn_channels", "rpn_convs", "roi_canonical_size", "roi_canonical_level", "box_pool_size",
    "mask_pool_size", "box_head_convs", "box_head_channels", "mask_head_convs", "mask_head_channels",
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
        Fields; others are left out. By default all but ``own_sizes``.

    Returns
    -------
    list of Flip
        In the order of the data flow.

    Raises
    ------
    ConfigError
        A name in ``only`` is no field, or no convention.
    """
    check_names(only or ())
    partners = {name: key for key, group in _together(config).items() for name in group if name != key}
    wanted = None if only is None else {partners.get(name, name) for name in only}
    for name in wanted or ():
        if name in NO_CONVENTION:
            raise ConfigError(f"{name} is no convention on which the frameworks differ in what they compute")
    found: list[Flip] = []
    for name in (f.name for f in fields(Config)):
        if name in NO_CONVENTION or name in partners or (wanted is not None and name not in wanted):
            continue
        if wanted is None and name in own_sizes(config):
            continue
        found += _flips_of(name, config)
    return found


def own_sizes(config: Config) -> list[str]:
    """List the sizes that this network has to itself: a framework's value would say nothing about a convention."""
    presets = [by_name(name) for name in FRAMEWORKS]
    return [name for name in SIZES if getattr(config, name) not in [getattr(preset, name) for preset in presets]]


def _together(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the fields that mean something only together, under the name of one of them."""
    groups: dict[str, tuple[str, ...]] = {"pixel_mean": ("pixel_scale", "pixel_mean", "pixel_std")}
    if "image_max_size" not in own_sizes(config):  # the side of a square has to be a multiple of 32
        groups["resize_mode"] = ("resize_mode", "image_max_size")
    return groups


def _flips_of(name: str, config: Config) -> list[Flip]:
    group = _together(config).get(name, (name,))
    current = tuple(getattr(config, n) for n in group)
    owners: dict[tuple[Any, ...], list[str]] = {}
    for framework in FRAMEWORKS:
        preset = by_name(framework)
        owners.setdefault(tuple(getattr(preset, n) for n in group), []).append(framework)
    for value, whose in OTHER_VALUES.get(name, ()):
        owners.setdefault((value,), [whose])
    found = []
    for values, who in owners.items():
        if values == current:
            continue
        old, new = (", ".join(in_words(v) for v in pair) for pair in (current, values))
        found.append(Flip(name, dict(zip(group, values)), old, new, ", ".join(who)))
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
