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
        Take these images, in this order.

    Raises
    ------
    DataError
        Nothing is left, an id is not in the split or listed twice, or ``subset`` is below 1.
    """
    chosen, known, seen = list(available if ids is None else ids), set(available), set()
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
