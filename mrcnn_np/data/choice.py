"""Which images of a split: all, the first few, or those on a list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from ..tables import counted


def choose_ids(
    available: Sequence[str], folder: Path, split: str, subset: int | None, ids: Sequence[str] | None
) -> tuple[str, ...]:
    """Apply ``ids`` and ``subset`` to the ids of a split.

    Parameters
    ----------
    available : sequence of str
        The ids of the split, each once.
    folder : Path
        For messages.
    split : str
    subset : int, optional
        Take the first ``subset`` images only.
    ids : sequence of str, optional
        Take these images, in this order. An id may have its file's name behind it, as it is printed: ``139 (a.jpg)``.

    Raises
    ------
    DataError
        Nothing is left, an id is not in the split or listed twice, or ``subset`` is below 1.
    """
    known, seen = set(available), set()
    chosen = list(available) if ids is None else [_as_listed(image_id, known) for image_id in ids]
    if not chosen:
        raise DataError("the list of image ids is empty; expected at least one", path=folder)
    for image_id in chosen:
        if image_id not in known:
            raise DataError(
                f"image {image_id!r} is not in split {split!r} ({counted(len(available), 'image')}, "
                f"{available[0]} ...)",
                path=folder,
                image_id=image_id,
            )
        if image_id in seen:
            raise DataError(f"image {image_id} is listed twice; expected every id once", path=folder, image_id=image_id)
        seen.add(image_id)
    if subset is not None and subset < 1:
        raise DataError(f"subset is {subset}; expected at least 1 image", path=folder)
    return tuple(chosen[:subset])


def _as_listed(text: str, known: set[str]) -> str:
    """Return the id of an image that is named as messages name it (``photographs.with_file``), else the text."""
    if text in known or not text.endswith(")"):
        return text
    parts = text.split(" (")
    return next((start for k in range(len(parts) - 1, 0, -1) if (start := " (".join(parts[:k])) in known), text)
