"""One tensor of both sides: how far they are apart, and how a table says so."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: headings of what ``cells`` returns
HEAD = ("tensor", "shape", "max abs", "relative", "", "")


@dataclass(frozen=True)
class Row:
    """One tensor of both sides.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Ours.
    max_abs : float
        Largest difference; of classes how many differ; of masks 1 - IoU of the worst pair.
    relative : float
        That over the largest magnitude of theirs; of classes the share that differs.
    within : bool or None
        Within the tolerance? None if there is nothing to compare.
    note : str
    """

    name: str
    shape: tuple[int, ...]
    max_abs: float
    relative: float
    within: bool | None
    note: str = ""


def errors(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return the largest difference, and that over the largest magnitude of ``b``; NaN counts as infinitely far."""
    if a.size == 0:
        return 0.0, 0.0
    b = b.astype(np.float64)
    max_abs = float(np.abs(a - b).max())
    if np.isnan(max_abs):
        return np.inf, np.inf
    if max_abs == 0:
        return 0.0, 0.0
    magnitude = float(np.abs(b).max())
    return max_abs, max_abs / magnitude if magnitude else np.inf


def number(value: float) -> str:
    """Return a figure of the table."""
    if math.isnan(value):
        return "–"
    return (
        f"{value:g}" if value == int(value) and abs(value) < 1000 else f"{value:.1e}" if math.isfinite(value) else "∞"
    )


def verdict(row: Row) -> str:
    """Return one word for a row."""
    return {True: "ok", False: "DIFFERS", None: "not compared"}[row.within]


def cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table."""
    shape = " × ".join(str(side) for side in row.shape)
    return row.name, shape, number(row.max_abs), number(row.relative), verdict(row), row.note
