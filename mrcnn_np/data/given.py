"""The pictures that a user names: files, folders, zips, patterns as ``photos/*.jpg``, animations and videos."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DataError
from .frames import VIDEO_SUFFIXES, count_frames, is_video, read_frames, read_video
from .images import SUFFIXES, read_image
from .notes import Notes
from .tree import Tree

#: folders of masks, and folders of photographs beside them
_MASKS = {"masks", "mask", "pedmasks", "labels", "gtfine", "gt", "segmentationobject", "segmentationclass"}
_PHOTOS = {"images", "image", "imgs", "img", "pngimages", "leftimg8bit", "jpegimages"}
#: what annotations end in, beside a picture of their name or for all of a folder
_ANNOTATIONS, _LISTS = (".json", ".xml", ".txt"), {"classes.txt", "labels.txt", "labelmap.txt"}
_EXPECTED = "expected pictures (.jpg, .png, .tif, ...) or videos in it"


@dataclass(frozen=True)
class GivenFile:
    """One file that should be a picture, an animation or a video.

    Attributes
    ----------
    path : Path
        Of one in a zip that of the zip with the file's name behind it.
    tree : Tree or None
        The zip in which it is.
    member : str
        Its name there.
    """

    path: Path
    tree: Tree | None = None
    member: str = ""

    def content(self) -> bytes | None:
        """Return what it holds if it is in a zip, else None."""
        return None if self.tree is None else self.tree.content(self.member)

    def pictures(
        self, *, frames: bool = True, step: int = 1, notes: Notes | None = None
    ) -> Iterator[tuple[int | None, np.ndarray]]:
        """Yield its frames, or the one picture that it is.

        Parameters
        ----------
        frames : bool
            Whether of animations and videos all frames are meant; else the first, as a picture.
        step : int
            Every so many frames.
        notes : Notes, optional

        Yields
        ------
        number : int or None
            Of the frame, from 0; None for a picture.
        image : ndarray of shape (H, W, 3), uint8

        Raises
        ------
        DataError
            It cannot be read; of a damaged frame, after those before it.
        """
        if is_video(self.path):
            if self.tree is not None:
                raise DataError("is a video in a zip; expected it unpacked", path=self.path)
            for number, image in read_video(self.path, step=step):
                yield (number if frames else None), image
                if not frames:
                    return
            return
        content = self.content()
        if frames and count_frames(self.path, content=content) > 1:
            yield from read_frames(self.path, step=step, notes=notes, content=content)
        else:
            yield None, read_image(self.path, notes=notes, content=content)


@dataclass
class Given:
    """What was found.

    Attributes
    ----------
    files : list of GivenFile
    bad : list of str
        Names under which there is nothing, each as a message.
    others : list of Path
        Files in folders and zips that are not called like a picture or a video, without the annotations of pictures.
    masks : list of Path
        Files in folders ``masks/`` and the like with a folder of photographs beside, as in data sets.
    """

    files: list[GivenFile] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)


def find_given(names: Iterable[str], *, without: Sequence[Path] = ()) -> Given:
    """Find the files that names stand for, each once, in the order of the names.

    Parameters
    ----------
    names : iterable of str
        A folder or a zip stands for all files in it, also in folders below, that are called like pictures or videos. A
        name with ``*``, ``?`` or ``[`` under which there is no file is a pattern, and ``**`` in it any folders. Any
        other is a file, whether it is there or not, and whatever it is called.
    without : sequence of Path
        Folders whose files are not taken from folders above them: those into which is written.
    """
    found = Given()
    for name in names:
        if glob.has_magic(name) and not os.path.lexists(name):
            matches = sorted(glob.glob(name, recursive=True))
            if not matches:
                found.bad.append(f"{name}: matches no file; expected a pattern such as photos/*.jpg")
            files = [match for match in matches if not os.path.isdir(match)]  # with ** each folder comes, too
            for match in files or matches:
                _add(match, found, without)
        else:
            _add(name, found, without)
    found.files = list({file.path: file for file in found.files}.values())
    return found


def _add(name: str, found: Given, without: Sequence[Path]) -> None:
    """Add a file, or what is in a folder or a zip."""
    path = Path(name)
    folder = os.path.isdir(path)
    if not folder and not (path.suffix.lower() == ".zip" and os.path.isfile(path)):
        found.files.append(GivenFile(path))
        return
    try:
        tree = Tree(path)
    except DataError as error:
        found.bad.append(str(error))
        return
    ours = [inside for inside in map(os.path.abspath, without) if folder and _is_below(inside, path)]
    count = len(found.files)
    pictures = {_stem(member) for member in tree.names if member.lower().endswith((*SUFFIXES, *VIDEO_SUFFIXES))}
    photos = {"/".join(parts[:k]) for parts in (name.lower().split("/") for name in tree.names)
              for k, part in enumerate(parts[:-1]) if part in _PHOTOS}  # fmt: skip
    for member in tree.names:
        where = tree.path(member)
        if any(_is_below(where, one) for one in ours):
            continue
        if _is_mask(member, photos):
            found.masks.append(where)
        elif member.lower().endswith((*SUFFIXES, *VIDEO_SUFFIXES)):
            found.files.append(GivenFile(where) if folder else GivenFile(where, tree, member))
        elif not _is_annotation(member, pictures):
            found.others.append(where)
    if len(found.files) == count:
        found.bad.append(f"{path}: holds no picture; {_EXPECTED}")


def _is_mask(member: str, photos: set[str]) -> bool:
    """Say whether a file is in a folder of masks; ``photos`` are the folders that hold one of photographs."""
    parts = member.lower().split("/")
    return any(part in _MASKS and "/".join(parts[:k]) in photos for k, part in enumerate(parts[:-1]))


def _is_annotation(member: str, pictures: set[str]) -> bool:
    """Say whether a file is what annotation tools write of a picture of its name, or the list of their classes."""
    name = member.lower()
    return name.endswith(_ANNOTATIONS) and (_stem(member) in pictures or name.rpartition("/")[2] in _LISTS)


def _stem(member: str) -> str:
    """Return the name of a file without folders and without what follows its last dot."""
    return member.rpartition("/")[2].rpartition(".")[0]


def _is_below(path: str | Path, folder: str | Path) -> bool:
    return Path(os.path.abspath(folder)) in Path(os.path.abspath(path)).parents
