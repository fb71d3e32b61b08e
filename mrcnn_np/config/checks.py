"""Whether one value is what its field asks for: its type, its length, its range."""

from __future__ import annotations

import json
import re
import sys
import types
import typing
from typing import Any, Literal

from ..errors import ConfigError, did_you_mean
from .declare import Declaration

LONGEST_TEXT = 200  # characters
SHOWN = 500  # characters of a value that a message repeats


def check_type(name: str, value: Any, hint: Any, declaration: Declaration) -> None:
    """Refuse a value of another type, a tuple of too many entries, or too long a text.

    Parameters
    ----------
    name : str
        Of the field.
    value : object
    hint : type
        What the field is declared as, resolved.
    declaration : Declaration

    Raises
    ------
    ConfigError
        The message names field, value and what was expected.
    """
    if isinstance(value, tuple) and len(value) > declaration.entries:
        raise ConfigError(f"{name} has {len(value)} entries; expected at most {declaration.entries}")
    if not _fits(value, hint):
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        expected = " or ".join(repr(c) for c in choices) or _in_words(hint)
        raise ConfigError(f"{name} is {shown(value)}; expected {expected}{did_you_mean(value, choices)}")
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and len(text) > LONGEST_TEXT:
            raise ConfigError(f"{name} has {len(text)} characters; expected at most {LONGEST_TEXT}")


def check_range(name: str, value: Any, hint: Any, declaration: Declaration) -> None:
    """Refuse numbers out of the field's range.

    Parameters
    ----------
    name : str
        Of the field.
    value : object
        ``check_type`` has let it through.
    hint : type
        What the field is declared as, resolved; the message says whether None is an option.
    declaration : Declaration

    Raises
    ------
    ConfigError
        The message names field, value and what was expected.
    """
    if declaration.range is None:
        return
    numbers = value if isinstance(value, tuple) else (value,)
    if any(number is not None and number not in declaration.range for number in numbers):
        or_none = type(None) in typing.get_args(hint)
        raise ConfigError(f"{name} is {shown(value)}; expected {declaration.range.expected(or_none=or_none)}")


def shown(value: Any) -> str:
    """Return what a message shows of a value."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python prints no number of more than 4300 digits
        return f"{type(value).__name__} that is too large to print"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def require_list(name: str, value: Any, hint: Any, usual: Any) -> None:
    """Refuse what an assignment ``name=value`` has for a field that holds a list, and say how the list is written.

    Parameters
    ----------
    name : str
        Of the field.
    value : object
        What was read: JSON's value, lists as tuples, or the text that is none.
    hint : type
        What the field is declared as, resolved; of one that holds no list nothing is asked.
    usual : object
        What it holds now, an example.

    Raises
    ------
    ConfigError
        The message has the list that was meant, or else an example.
    """
    entries = _entries(hint)
    if not entries or _fits(value, hint):
        return
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    words = [word.strip("[](){}\"' ") for word in re.split(r"[,;\s]+", text[:SHOWN])]
    listed: list[Any] = [word for word in words if word]
    if entries[0] is not str:
        listed = [int(word) if re.fullmatch(r"[+-]?\d{1,9}", word) else _number(word) for word in listed]
    how = ": write"
    if not listed or not _fits(tuple(listed), hint):
        how = ", such as"
        listed = list(usual or ([1, 2, 3, 4, 5][: len(entries)] if entries[0] is not str else ["one", "another"]))
        listed = [int(v) if isinstance(v, float) and v == int(v) else v for v in listed]
    expected, _, or_none = _in_words(hint).removeprefix("a tuple of ").partition(",")
    expected = f"{expected} in brackets{or_none and f',{or_none}'}{how} '{name}={json.dumps(listed)}'"
    raise ConfigError(f"{name} is {shown(value)}; expected {expected}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _entries(hint: Any) -> tuple[Any, ...]:
    """Return the types of a tuple's entries, two for one of any length; none for another type."""
    for one in (hint, *typing.get_args(hint)):
        if typing.get_origin(one) is tuple:
            args = typing.get_args(one)
            return (args[0], args[0]) if args[-1] is Ellipsis else args
    return ()


def _in_words(hint: Any) -> str:
    """Say what a field holds; of anything but tuples, what Python calls it."""
    entries = _entries(hint)
    if not entries:
        return hint.__name__ if isinstance(hint, type) else str(hint)
    kind = {int: "whole numbers", float: "numbers", str: "texts"}[entries[0]]
    count = "" if "..." in str(hint) else f"{len(entries)} "
    return f"a tuple of {count}{kind}{', or None' if type(None) in typing.get_args(hint) else ''}"


def _fits(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in args
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, a) for a in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        return len(inner) == len(value) and all(_fits(v, a) for v, a in zip(value, inner))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
