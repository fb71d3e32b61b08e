"""Names of classes: COCO's, which weights of 81 or 91 classes are presumed to know; those of two lists that are one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..data.coco import COCO_CATEGORIES
from ..errors import UserError, some_of


def coco_names(num_classes: int | None) -> tuple[str, ...]:
    """Return names for 81 classes (numbered without gaps) or 91 (COCO's own ids, as in torchvision), else nothing."""
    if num_classes == 81:
        return ("background", *COCO_CATEGORIES.values())
    if num_classes == 91:
        return ("background", *(COCO_CATEGORIES.get(i, "unused") for i in range(1, 91)))
    return ()


#: VOC's word for a thing that COCO calls otherwise
SYNONYMS = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv"}


def class_rows(theirs: Sequence[str], ours: Sequence[str]) -> tuple[int, ...]:
    """Find our classes among theirs by name.

    Parameters
    ----------
    theirs, ours : sequence of str
        Class names, the background first. ``theirs`` may be empty, if they are not known.

    Returns
    -------
    tuple of int
        For each class of ours the first of theirs that has its name, -1 if there is none; 0 for the background. Case,
        spaces, hyphens and underscores do not matter, and VOC's words are COCO's: ``tvmonitor`` is ``tv``.
    """
    places: dict[str, int] = {}
    for place, name in list(enumerate(theirs))[1:]:
        places.setdefault(_key(name), place)
    return (0, *(places.get(_key(name), -1) for name in ours[1:]))


def _key(name: str) -> str:
    key = re.sub(r"[\s_-]+", "", name.casefold())
    return SYNONYMS.get(key, key)


def read_class_names(text: str, num_classes: int) -> tuple[str, ...]:
    """Read the names of a network's classes as given on the command line.

    Parameters
    ----------
    text : str
        Names with commas between them, or a file with one name on each line. The background may be left out.
    num_classes : int
        With the background.

    Returns
    -------
    tuple of str
        The background first.

    Raises
    ------
    UserError
        There are more or fewer names than classes; the file cannot be read.
    """
    path = Path(text)
    try:
        parts = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else text.split(",")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the class names in {path}: {error}") from error
    names = [part.strip() for part in parts if part.strip()]
    if names and names[0].casefold() == "background":
        names = names[1:]
    if len(names) != num_classes - 1:
        raise UserError(
            f"--class-names has {len(names)} names ({some_of(names, 4)}); the network has {num_classes - 1} classes "
            "besides the background"
        )
    return ("background", *names)
