"""What a JSON text is expected to hold, said once and checked before anybody uses it.

A schema is an example of what is expected, with types in place of values:

======================= ==================================================================
schema                  what fits
======================= ==================================================================
``int``, ``str``, ...   a value of that type; ``float`` takes whole numbers, too, and neither of them true or false
``None``                null
``Number(int, 1)``      a number within bounds
``OneOf("a", "b")``     one of these values
``[schema]``            a list of such
``{"key": schema}``     an object with this key. ``"key?"`` may be missing; ``...: schema`` is what all other keys
                        hold, which without it may be there and hold anything
``(schema, schema)``    one of these
``Any``                 anything
======================= ==================================================================
"""

from __future__ import annotations

import json
import math
import reprlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from .errors import UserError

Schema = Any
#: brackets within brackets
_DEEPEST = 64


@dataclass(frozen=True)
class Number:
    """A number of a kind, ``int`` or ``float``, within bounds."""

    kind: type
    least: float = -math.inf
    most: float = math.inf


class OneOf:
    """One of some values."""

    def __init__(self, *values: Any) -> None:
        self.values = values


def parse_json(text: str, where: object, *, error: type[UserError] = UserError) -> Any:
    """Read a JSON text, of which every number is finite and nothing is nested endlessly.

    Parameters
    ----------
    text : str
    where : object
        The file, for the message.
    error : type
        The kind of ``UserError`` to raise.

    Raises
    ------
    UserError
        Or ``error``.
    """
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_refuse_constant)
    except RecursionError as cause:
        raise error(f"{where} is nested too deeply") from cause
    except ValueError as cause:
        raise error(f"{where} is not JSON: {cause}") from cause
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        level = [v for outer in level for v in _inner(outer)]
        if not level:
            return value
    raise error(f"{where} is nested too deeply; expected at most {_DEEPEST} levels")


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def check_value(value: Any, schema: Schema, where: object, *, error: type[UserError] = UserError) -> None:
    """Check that a value read from JSON is what is expected.

    Parameters
    ----------
    value : Any
    schema : Schema
        See the head of this file.
    where : object
        The file, for the message.
    error : type
        The kind of ``UserError`` to raise.

    Raises
    ------
    UserError
        Or ``error``: names the file, the place in it, what is there, and what was expected.
    """

    def wrong(place: str, found: Any, expected: Schema) -> NoReturn:
        shown = _shorten(found)
        if not place:
            what = type(found).__name__ if isinstance(expected, dict) else shown
            raise error(f"{where} holds {what}; expected {words(expected)}")
        raise error(f"{where} has {place} {shown}; expected {words(expected)}")

    def lacks(place: str, key: str, expected: Schema) -> NoReturn:
        raise error(f"{where} lacks {f'{place}.' if place else ''}{key}; expected {words(expected)}")

    _check(value, schema, "", wrong, lacks)


def _check(
    value: Any,
    schema: Schema,
    place: str,
    wrong: Callable[[str, Any, Schema], NoReturn],
    lacks: Callable[[str, str, Schema], NoReturn],
) -> None:
    if isinstance(schema, dict) and isinstance(value, dict):
        fixed = {str(key).removesuffix("?"): (key, inner) for key, inner in schema.items() if key is not ...}
        for name, (key, inner) in fixed.items():
            if name in value:
                _check(value[name], inner, f"{place}.{name}" if place else name, wrong, lacks)
            elif not str(key).endswith("?"):
                lacks(place, name, inner)
        for name in value if ... in schema else ():
            if name not in fixed:
                shown = _shorten(name)
                _check(value[name], schema[...], f"{place}[{shown}]" if place else shown, wrong, lacks)
    elif isinstance(schema, list) and isinstance(value, list):
        for i, inner in enumerate(value):
            _check(inner, schema[0], f"{place}[{i}]", wrong, lacks)
    elif not _fits(value, schema):
        wrong(place, value, schema)


def _fits(value: Any, schema: Schema) -> bool:
    """Say whether a value that is no list or object of the schema's shape fits."""
    if schema is Any:
        return True
    if schema is None:
        return value is None
    if isinstance(schema, OneOf):
        return any(value == v and type(value) is type(v) for v in schema.values)
    if isinstance(schema, Number):
        return _fits(value, schema.kind) and schema.least <= value <= schema.most
    if isinstance(schema, tuple):
        return any(_matches(value, inner) for inner in schema)
    if schema is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if schema is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(schema, type) and isinstance(value, schema)


class _Mismatch(Exception):
    pass


def _matches(value: Any, schema: Schema) -> bool:
    def stop(*_: Any) -> NoReturn:
        raise _Mismatch

    try:
        _check(value, schema, "", stop, stop)
    except _Mismatch:
        return False
    return True


def words(schema: Schema) -> str:
    """Say what a schema expects."""
    if isinstance(schema, tuple):
        return " | ".join(words(inner) for inner in schema)
    if isinstance(schema, Number):
        bounds = [f"at least {schema.least:g}"] if schema.least > -math.inf else []
        bounds += [f"at most {schema.most:g}"] if schema.most < math.inf else []
        return schema.kind.__name__ + (f" of {' and '.join(bounds)}" if bounds else "")
    if isinstance(schema, OneOf):
        return " or ".join(map(repr, schema.values))
    if isinstance(schema, list):
        return f"list of {words(schema[0])}"
    if isinstance(schema, dict):
        return "a JSON object"
    return str(getattr(schema, "__name__", schema))


def _shorten(value: Any) -> str:
    """Show a value of any size on one line."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = shown.maxlong = 60
    shown.maxlevel, shown.maxdict, shown.maxlist = 2, 3, 4
    return shown.repr(value)
