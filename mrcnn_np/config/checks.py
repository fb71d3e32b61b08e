"""Whether one value is what its field asks for: its type, its length, its range."""

from __future__ import annotations

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
        expected = " or ".join(repr(c) for c in choices) or (hint.__name__ if isinstance(hint, type) else str(hint))
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
