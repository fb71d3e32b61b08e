"""Which images of a split: all, the first few, or those on a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..tables import counted


def choose_ids(
    available: Sequence[str],
    folder: Path,
    split: str,
    subset: int | None,
    ids: Sequence[str] | None,
    *,
    name_of: Callable[[str], str] | None = None,
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
    name_of : callable, optional
        Returns the file of an id, where these are numbers: then a file's name will do in the place of an id, with or
        without its folder and its suffix, if no other image has it.

    Raises
    ------
    DataError
        Nothing is left, an id is not in the split or listed twice, or ``subset`` is below 1.
    """
    known, seen = set(available), set()
    by_file = {} if name_of is None or ids is None else _by_file(available, name_of)
    chosen = list(available) if ids is None else [_as_listed(text, known, by_file) for text in ids]
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


def _as_listed(text: str, known: set[str], by_file: Mapping[str, str]) -> str:
    """Return the id of an image that is named by its file or as messages name it, else the text."""
    if text in known:
        return text
    if text.endswith(")"):  # of ``photographs.with_file``
        parts = text.split(" (")
        for k in range(len(parts) - 1, 0, -1):
            if (start := " (".join(parts[:k])) in known:
                return start
    return by_file.get(text, text)


def _by_file(ids: Sequence[str], name_of: Callable[[str], str]) -> dict[str, str]:
    """Return the id of each file's name, whole, without its folder and without its suffix, if one image has it."""
    found: dict[str, set[str]] = {}
    for image_id in ids:
        name = name_of(image_id)
        path = PurePosixPath(name.replace("\\", "/"))
        for words in (name, path.name, path.stem):
            found.setdefault(words, set()).add(image_id)
    return {words: next(iter(owners)) for words, owners in found.items() if len(owners) == 1}
