"""The conventions as data: what each field of the configuration means, and what each framework has there.

Nothing is listed twice: meanings come from the docstrings of the field groups, ranges and kinds from the declarations
(``config/declare.py``), values from the presets.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from .. import tables
from ..config import DECLARATIONS, FRAMEWORKS, Config, check_names, fields_where
from ..config.presets import by_name
from ..errors import ConfigError


@dataclass(frozen=True)
class Meaning:
    """What the documentation says of one field.

    Attributes
    ----------
    field : str
    part : str
        What it belongs to: "Image to molded input", "Anchors" ...
    allowed : str
        Unit and range, or choices.
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
                interval = f", in {DECLARATIONS[name].range}" if DECLARATIONS[name].range else ""
                found[name] = Meaning(name, part, allowed + interval, " ".join(text.split()))
    return found


def flips(config: Config, only: Sequence[str] | None = None) -> list[Flip]:
    """List every convention of a configuration with each value that another framework has for it.

    Parameters
    ----------
    config : Config
    only : sequence of str, optional
        Fields; others are left out. By default all but ``own_sizes`` and those of branches that are not there.

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
        if not _may_differ(name):
            raise ConfigError(f"{name} is no convention on which the frameworks differ in what they compute")
    found: list[Flip] = []
    for name in DECLARATIONS:
        if not _may_differ(name) or name in partners or (wanted is not None and name not in wanted):
            continue
        if wanted is None and (name in own_sizes(config) or _idle(name, config)):
            continue
        found += _flips_of(name, config)
    return found


def _may_differ(name: str) -> bool:
    """Tell whether a field is a convention, or a size that is one between two frameworks."""
    return DECLARATIONS[name].kind in ("convention", "size")


def own_sizes(config: Config) -> list[str]:
    """List the sizes that this network has to itself: a framework's value would say nothing about a convention."""
    presets = [by_name(name) for name in FRAMEWORKS]
    sizes = [name for name in fields_where(lambda d: d.kind == "size") if not _idle(name, config)]
    return [name for name in sizes if getattr(config, name) not in [getattr(preset, name) for preset in presets]]


def _idle(name: str, config: Config) -> bool:
    """Tell whether a field belongs to a branch that the network does not have."""
    needs = DECLARATIONS[name].needs
    return bool(needs) and not getattr(config, needs)


def _together(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the fields that mean something only together, under the name of one of them.

    A size that is this network's own stays what it is: the side of a square has to be a multiple of 32.
    """
    groups: dict[str, set[str]] = {}
    for name, declaration in DECLARATIONS.items():
        if declaration.together and name not in own_sizes(config):
            groups.setdefault(declaration.together, {declaration.together}).add(name)
    return {key: tuple(name for name in DECLARATIONS if name in group) for key, group in groups.items()}


def _flips_of(name: str, config: Config) -> list[Flip]:
    group = _together(config).get(name, (name,))
    current = tuple(getattr(config, n) for n in group)
    owners: dict[tuple[Any, ...], list[str]] = {}
    for framework in FRAMEWORKS:
        preset = by_name(framework)
        owners.setdefault(tuple(getattr(preset, n) for n in group), []).append(framework)
    for value, whose in DECLARATIONS[name].others.items():
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
    rows: dict[str, list[tuple[str, ...]]] = {}
    for meaning in meanings().values():
        values = (in_words(getattr(preset, meaning.field)) for preset in presets)
        text = f"*{meaning.allowed}*. {meaning.text}".replace("``", "`")
        rows.setdefault(meaning.part, []).append((f"`{meaning.field}`", *values, text))
    head = ("field", *FRAMEWORKS, "meaning")
    return "\n".join(f"### {part}\n\n{tables.markdown_table(head, lines)}\n" for part, lines in rows.items())
