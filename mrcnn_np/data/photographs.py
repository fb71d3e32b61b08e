"""What photographs are like: turned by a tag that annotation tools treat differently, or nearly black."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .findings import Finding
from .images import UPPER_BITS
from .notes import Notes
from .orientation import TURNED, TURNED_WITH
from .pixels import LOW_VALUES, SCALED
from .sample import Sample

#: a picture is nearly black if so many of its pixels are no brighter than this, of 255
_BLACK_SHARE, _BLACK = 0.99, 16

#: said of a picture
DARK = (
    "holds 16 bits and is nearly black as it is read, so that little is found; stretch such pictures to their full "
    "range, all by the rule by which those were that the network was trained on, and save them as 8-bit"
)
_TEXTS = {
    "black": "hold 16 bits and are nearly black as they are read; stretch them to their full range, all by one rule, "
    "and save them as 8-bit",
    "ignored": "have an EXIF orientation that the annotation ignored: boxes and masks lie on the picture as stored. "
    "They are turned with it here, but other programs may not do so; save the pictures without the tag, as they were "
    "annotated",
    "turned": "have an EXIF orientation, and their size does not tell whether the annotation ignored it; look at them "
    "with `mrcnn-np data show`, and if objects lie beside their outlines, remove the tag",
}


class Photographs:
    """Looks at one picture after the other."""

    def __init__(self) -> None:
        self.images = 0
        self._found: dict[str, list[str]] = {kind: [] for kind in _TEXTS}

    def add(self, sample: Sample, notes: Notes | None) -> None:
        """Look at a sample; ``notes`` are those of its reader."""
        self.images += 1
        if notes is None:
            return
        for kind, rule in (("ignored", TURNED_WITH), ("turned", TURNED)):
            if notes.concerns(rule, sample.path):
                self._found[kind].append(name_of(sample))
        if is_dark(sample.image, sample.path, notes):
            self._found["black"].append(name_of(sample))

    def findings(self) -> list[Finding]:
        """Return what was found; nothing of it keeps the network from learning."""
        return [
            Finding(_TEXTS[kind], len(names), self.images, names[0], unit="images", concerns=tuple(names))
            for kind, names in self._found.items()
            if names
        ]


def name_of(sample: Sample) -> str:
    """Return the id of an image, and its file's name if that is another."""
    return with_file(sample.image_id, sample.path)


def with_file(image_id: str, path: str) -> str:
    """Return the id of an image, and the name of the file at ``path`` if that is another: ``139 (000000000139.jpg)``.

    Parameters
    ----------
    image_id : str
        With folders or without.
    path : str
        With folders or without; empty if nobody knows.
    """
    file = file_name(path)
    return f"{image_id} ({file})" if file and Path(image_id).name not in (file, Path(file).stem) else image_id


def file_name(path: str | Path) -> str:
    """Return the name of a picture's file, of one that lies within a JSON that of the JSON; empty for no path."""
    path = Path(path)
    return path.parent.name if path.parent.suffix.lower() == ".json" and not path.suffix else path.name


def is_dark(image: np.ndarray, path: str | Path, notes: Notes) -> bool:
    """Say whether a picture of 16 bits is nearly black as it was read: one bright pixel may have decided the scale.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    path : path
        Where it came from, for ``notes``.
    notes : Notes
        Of its reader.
    """
    deep = any(notes.concerns(rule, path) for rule in (SCALED, UPPER_BITS, LOW_VALUES))
    return bool(deep and image.size and (image.max(axis=2) <= _BLACK).mean() >= _BLACK_SHARE)


def is_plain(image: np.ndarray) -> bool:
    """Say whether a picture has one colour only."""
    return bool((image == image[:1, :1]).all()) if image.size else True
