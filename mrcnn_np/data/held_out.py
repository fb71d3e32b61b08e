"""Which images of a data set without a held-out split are held out: drawn by a hash of their names.

An image stays where it is when others are added, on every machine and in every format: only its name is looked at.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

from ..errors import DataError

_WHOLE = float(1 << 64)


def drawn(names: Sequence[str], fraction: float) -> list[bool]:
    """Say of each image whether it is held out.

    Parameters
    ----------
    names : sequence of str
        With folders and suffix or without.
    fraction : float
        The share that is held out, in 0 .. 1, in the mean.

    Returns
    -------
    held : list of bool
        An image is held out if the hash of its name, taken as a number in 0 .. 1, is below ``fraction``. At least one
        is and at least one is not: where there are too few images, that with the lowest (highest) hash.

    Raises
    ------
    DataError
        There is only one image.
    """
    if len(names) < 2:
        raise DataError(
            f"there is no image that could be held out of {len(names)}; expected two or more, or --val-fraction 0"
        )
    places = [_place(name) for name in names]
    held = [place < fraction for place in places]
    if not any(held):
        held[places.index(min(places))] = True
    elif all(held):
        held[places.index(max(places))] = False
    return held


def fraction_for(names: Sequence[str], count: int) -> tuple[float, int]:
    """Return a share that holds out at least so many images, of few digits, and how many it does.

    Parameters
    ----------
    names : sequence of str
        As for ``drawn``.
    count : int
        From 1 to one less than there are names. Images of one name are on one side, so that it may be more.

    Returns
    -------
    fraction : float
        The smallest of two digits, where one of two does not hold out all, else of more.
    held : int
    """
    places = sorted(map(_place, names))
    least = places[count - 1]
    for digits in (2, 3, 4, 6, 9):
        fraction = (math.floor(least * 10**digits) + 1) / 10**digits
        if fraction < 1:
            break
    return fraction, sum(drawn(names, fraction))


def _place(name: str) -> float:
    """Return the hash of a name as a number in 0 .. 1."""
    name = name.replace("\\", "/").lower()
    # Roboflow writes several versions of one photograph, NAME.rf.HASH: they must not be on both sides
    name = re.sub(r"\.rf\.\w+", "", name)
    stem = re.sub(r"\.[a-z]{1,4}$", "", name.rpartition("/")[2])
    digest = hashlib.sha256(stem.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / _WHOLE
