"""Keypoints in COCO's format: what categories say of them, and the numbers of one annotation or detection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..keypoints.pose import Pose
from .json_values import is_empty, is_number, is_text, number_of

#: more than that is no object's, but a file's that would fill the memory
MOST = 1000


def read_pose(category: dict[str, Any]) -> Pose | None:
    """Return the keypoints of a category; None if it has none.

    Parameters
    ----------
    category : dict
        With ``keypoints``, a list of names, and perhaps ``skeleton``, pairs of their numbers from 1.

    Raises
    ------
    ValueError
        Something else stands there.
    """
    names, skeleton = category.get("keypoints"), category.get("skeleton")
    where = f"category {category.get('id')!r:.40}"
    if is_empty(names):
        return None
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() and is_text(n) for n in names):
        raise ValueError(f"{where} has keypoints {names!r:.80}; expected a list of names")
    if len(names) > MOST or len(set(names)) < len(names):
        raise ValueError(f"{where} has {len(names)} keypoints; expected at most {MOST}, every name once")
    lines = []
    if not is_empty(skeleton) and not isinstance(skeleton, list):
        raise ValueError(f"{where} has the skeleton {skeleton!r:.80}; expected a list of pairs of numbers")
    for line in skeleton or []:
        ends = [number_of(end) for end in line] if isinstance(line, list) else []
        if len(ends) != 2 or any(end is None or not 1 <= end <= len(names) for end in ends):
            raise ValueError(f"{where} has {line!r:.80} in its skeleton; expected two numbers from 1 to {len(names)}")
        lines.append((int(ends[0] or 0) - 1, int(ends[1] or 0) - 1))
    return Pose(tuple(names), tuple(lines))


def read_keypoints(values: Any, kinds: int) -> np.ndarray:
    """Return the keypoints of an annotation, (K, 3), ``(y, x, visibility)``; zeros if there are none.

    Parameters
    ----------
    values : object
        COCO's ``[x, y, v, x, y, v, ...]``.
    kinds : int
        K.

    Raises
    ------
    ValueError
        It is something else.
    """
    if is_empty(values):
        return np.zeros((kinds, 3))
    points = read_triples(values, kinds)
    odd = points[~np.isin(points[:, 2], (0, 1, 2)), 2]
    if len(odd):
        raise ValueError(f"keypoints has the visibility {odd[0]:g}; expected 0, 1 or 2")
    return points


def read_triples(values: Any, kinds: int) -> np.ndarray:
    """Do what ``read_keypoints`` does, for a detection: the third number of each may be anything.

    Parameters
    ----------
    values : object
    kinds : int
    """
    if not isinstance(values, list) or not all(is_number(v) for v in values):
        raise ValueError(f"keypoints is {values!r:.80}; expected a list of numbers")
    if len(values) != 3 * kinds:
        raise ValueError(
            f"keypoints has {len(values)} numbers; expected {3 * kinds}: x, y and visibility of {kinds} keypoints"
        )
    return np.array(values, np.float64).reshape(-1, 3)[:, [1, 0, 2]]


def box_outline(box: Sequence[float]) -> list[list[float]]:
    """Return a box ``(x, y, width, height)`` as a polygon."""
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
