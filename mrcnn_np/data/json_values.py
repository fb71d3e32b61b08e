"""Values as they come from JSON: what is a number, a box, a text; and JSON files themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import DataError
from ..files import did_you_mean_path


def number_of(value: Any) -> int | None:
    """Return a whole number from JSON, also one that is written as a text or with a point; None for anything else."""
    if type(value) is float and value.is_integer() and abs(value) < 1 << 53:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    return value if type(value) is int and abs(value) < 1 << 63 else None


def is_empty(segmentation: object) -> bool:
    """Say whether a ``segmentation`` is none at all: null, {}, "", no polygon, or only polygons without points."""
    if segmentation is None or segmentation in ({}, ""):
        return True
    return isinstance(segmentation, list) and all(p in ([], None) for p in segmentation)


def is_text(text: str) -> bool:
    """Say whether a text can be written; half of a pair of surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_number(value: Any) -> TypeGuard[float]:
    """Say whether a value from JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def check_bbox(box: object) -> tuple[float, float, float, float]:
    """Return a box from JSON as floats ``(x, y, width, height)``; anything else is a ``ValueError``."""
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(v) for v in box) or min(box[2:]) < 0:
        raise ValueError(f"bbox is {box!r:.80}; expected [x, y, width, height] in pixels")
    x, y, width, height = map(float, box)
    return x, y, width, height


def read_json_file(path: Path, expected: str) -> Any:
    """Read a JSON file; one that is missing or broken is a ``DataError``."""
    try:
        content = path.read_bytes()
    except OSError as error:
        meant = did_you_mean_path(path) if isinstance(error, FileNotFoundError) else ""
        raise DataError(f"cannot be read ({error.strerror}); expected {expected}{meant}", path=path) from error
    return parse_json(content, path, expected)


def parse_json(content: bytes, path: Path, expected: str) -> Any:
    """Return the value that a JSON file holds; what is none is a ``DataError``.

    Parameters
    ----------
    content : bytes
    path : Path
        Of the file, for messages.
    expected : str
        What it should be, for messages.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error}); expected {expected}", path=path) from error


def kind_of(value: object) -> str:
    """Say in words what a value is that should be another."""
    names = {dict: "an object", list: "a list", str: "a text", type(None): "nothing"}
    return names.get(type(value), f"{value!r:.40}")
