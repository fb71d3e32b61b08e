"""What a JSON text must look like before anyone uses it: one check for headers of checkpoints, manifests and options.

A schema is written in the things that it allows::

    {"step": range(0, 2**63), "names": [str], "sums": {str: int}, "box": (None, [float]), "note": Optional(str)}

============================== ==================================================================
schema                         value
============================== ==================================================================
``str``, ``bool``, ``int``     of this type; ``True`` is no number
``float``                      a finite number, with or without a fraction
``None``                       null
``object``                     anything
``range(a, b)``                a whole number from a to b - 1
``OneOf("a", "b")``            one of these values
``[s]``                        a list whose members all fit s
``{str: s}``                   an object whose values all fit s
``{"key": s, ..., ...: t}``    an object with these keys, and no others unless ``...`` says what they hold
``Optional(s)``                in an object: the key may be missing
``(s, t)``                     what fits s or t
============================== ==================================================================
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any, NamedTuple

#: characters of a foreign text that a message repeats
SHOWN = 80
WORDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a finite number", None: "null"}


class OneOf:
    """The schema of a choice."""

    def __init__(self, *values: Any) -> None:
        self.values = values


class Optional(NamedTuple):
    """The schema of a key that may be missing."""

    schema: Any


def loads(text: str | bytes, schema: Any, where: str) -> Any:
    """Read JSON and check it.

    Parameters
    ----------
    text : str or bytes
    schema : object
        See above.
    where : str
        What the text is, for messages.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        The text is no JSON, nests too deep, names a key twice, holds a number that is not finite or too long, or does
        not fit the schema; the message is one line.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"{where} nests too deep") from None
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {one_line(error)}") from error
    require(value, schema, where)
    return value


def require(value: Any, schema: Any, where: str) -> None:
    """Check that a value fits a schema.

    Parameters
    ----------
    value : object
    schema : object
        See the head of this file.
    where : str
        What the value is, for the message.

    Raises
    ------
    ValueError
        It does not; the message says at which key, what is there and what was expected.
    """
    if isinstance(schema, dict):
        _require_object(value, schema, where)
    elif isinstance(schema, list):
        if not isinstance(value, (list, tuple)):
            raise _misfit(value, schema, where)
        for i, member in enumerate(value):
            require(member, schema[0], f"{where}[{i}]")
    elif isinstance(schema, tuple):
        if not any(_fits(value, choice) for choice in schema):
            raise _misfit(value, schema, where)
    elif not _is(value, schema):
        raise _misfit(value, schema, where)


def _require_object(value: Any, schema: dict[Any, Any], where: str) -> None:
    if not isinstance(value, dict):
        raise _misfit(value, schema, where)
    if str in schema:
        for key, member in value.items():
            require(member, schema[str], f"{where}[{shown(key)}]")
        return
    for key, expected in schema.items():
        if key is not ... and key not in value and not isinstance(expected, Optional):
            raise ValueError(f"{where} lacks {key!r}")
    for key, member in value.items():
        if key in schema:
            expected = schema[key]
            require(member, expected.schema if isinstance(expected, Optional) else expected, f"{where}[{shown(key)}]")
        elif ... in schema:
            require(member, schema[...], f"{where}[{shown(key)}]")
        else:
            raise ValueError(f"{where} has {shown(key)}; expected {', '.join(map(repr, schema))}")


def _fits(value: Any, schema: Any) -> bool:
    try:
        require(value, schema, "")
    except ValueError:
        return False
    return True


def _is(value: Any, schema: Any) -> bool:
    """Tell whether a value is of a type, a number of a range, or nothing."""
    if schema is object:
        return True
    if schema is None:
        return value is None
    if isinstance(schema, OneOf):
        return any(value == v and type(value) is type(v) for v in schema.values)
    if isinstance(value, bool):
        return schema is bool
    if isinstance(schema, range):
        return isinstance(value, int) and value in schema
    if schema is float:
        return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    return isinstance(value, schema)


def _misfit(value: Any, schema: Any, where: str) -> ValueError:
    return ValueError(f"{where} is {shown(value)}; expected {_in_words(schema)}")


def _in_words(schema: Any) -> str:
    if isinstance(schema, range):
        return f"a whole number from {schema.start}" + (f" to {schema.stop - 1}" if schema.stop < 1 << 60 else " on")
    if isinstance(schema, OneOf):
        return " or ".join(map(repr, schema.values))
    if isinstance(schema, list):
        return "a list"
    if isinstance(schema, dict):
        return "an object"
    return " or ".join(map(_in_words, schema)) if isinstance(schema, tuple) else WORDS[schema]


def shown(value: Any) -> str:
    """Repeat a foreign value in a message: its beginning, without line ends and control characters."""
    if isinstance(value, str):
        return repr(value[:SHOWN]) + ("..." if len(value) > SHOWN else "")
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 1 << 64):
        return repr(value)
    return "a huge number" if isinstance(value, int) else f"a {type(value).__name__} of {len(value)}"


def one_line(error: object, limit: int = 300) -> str:
    """Return a message about a foreign text as one line of moderate length."""
    text = str(error)
    text = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return text if len(text) <= limit else text[:limit] + " ..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{shown(name)} is there twice")
        found[name] = value
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:SHOWN]} is too large for a number")
    return number
