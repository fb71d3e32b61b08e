"""What readers share that list their images by looking at a folder: splits, classes, sizes, a `Sample` from parts.

A reader of a format is a class below `ListedDataset` that says which images there are (``_list``), which classes
(``_classes``), and what is on one of them (``load``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from ..errors import DataError, did_you_mean, some_of
from .choice import choose_ids
from .fractions import REMEDY
from .images import exif_orientation, image_size, read_image
from .masks import Masks
from .notes import Notes
from .orientation import TURNED, TURNED_WITH, upright, upright_masks
from .rle import RLE
from .sample import Sample
from .tree import Tree
from .voc_layout import listed_classes

Entry = TypeVar("Entry")

ONE_CLASS = "object"
"""What objects are called whose files do not say what they are, and no ``classes.txt`` does."""

LEFT_OUT = "an object is left out"

#: folders whose names are those of splits
_SPLITS = {
    "train": "train", "training": "train", "stage1_train": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test", "stage1_test": "test",
}  # fmt: skip
#: splits that data without splits stand for
_WHOLE = ("train", "trainval", "default", "all")


class Picture(NamedTuple):
    """A photograph: its path, and what it holds if it is no file of its own but lies in a zip or a JSON."""

    path: Path
    content: bytes | None = None


class Instance(NamedTuple):
    """One object of an image.

    Attributes
    ----------
    where : str
        Where it stands, for messages.
    class_id : int
    rle : RLE
        Its mask. One of no pixel is broken.
    crowd : bool
    fractions : bool
        The coordinates of its outline look like fractions of the image.
    """

    where: str
    class_id: int
    rle: RLE
    crowd: bool = False
    fractions: bool = False


class ListedDataset(ABC, Generic[Entry]):
    """The images of one split of a data set that has no list of them.

    Parameters
    ----------
    root : path
        A folder, or a zip file.
    split : str
        The name of a folder, as "train" or "val" (also as ``valid``, ``stage1_train``, ...). Where no folder is called
        so, all images are in "train".
    subset : int, optional
        Take the first ``subset`` images only.
    ids : sequence of str, optional
        Take these images of the split, in this order.
    skip_bad : bool
        Leave out objects that are broken, with a remark, instead of raising.

    Attributes
    ----------
    class_names : tuple of str
        Background first; the same for all splits.
    ids : tuple of str
        Names of the images with their folders, without the split's and without suffix.
    notes : Notes
        What was left out, or read otherwise than it stands in the files, so far.

    Raises
    ------
    DataError
        There is nothing of this format, or no such split.
    """

    #: the file that lists the classes, empty if none does
    _list_of_classes = ""

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        subset: int | None = None,
        ids: Sequence[str] | None = None,
        skip_bad: bool = False,
    ) -> None:
        self.root, self.split, self.skip_bad, self.notes = Path(root), split, skip_bad, Notes()
        self.tree = self._tree(self.root)
        every = self._list()
        groups = by_split(every)
        self._names = groups.get(_SPLITS.get(split, split)) or (groups.get("", {}) if split in _WHOLE else {})
        if not self._names:
            raise DataError(_no_split(split, groups), path=root)
        self._entries = every
        self.class_names = self._classes()
        self.ids = choose_ids(list(self._names), self.root, split, subset, ids)

    @classmethod
    def has_split(cls, root: Path, split: str) -> bool:
        """Say whether there is a folder of a split."""
        bare = cls.__new__(cls)
        bare.root, bare.notes, bare.tree = root, Notes(quiet=True), cls._tree(root)
        return split in by_split(bare._list())

    @classmethod
    @abstractmethod
    def recognise(cls, root: Path) -> str | None:
        """Say on what ground a folder or file is taken for one of this format; None if it is not."""

    @staticmethod
    def _tree(root: Path) -> Tree:
        return Tree(root)

    @abstractmethod
    def _list(self) -> dict[str, Entry]:
        """Return what belongs to each image of all splits, by the image's id with its folders."""

    def _classes(self) -> tuple[str, ...]:
        """Return the class names, background first: the one of ``classes.txt``, else ``ONE_CLASS``."""
        names = self._listed_classes()
        if names is not None and len(names) != 2:
            raise DataError(f"lists {len(names) - 1} classes; expected one, what every object is", path=self.root)
        return names or ("background", ONE_CLASS)

    def _listed_classes(self) -> tuple[str, ...] | None:
        for name in ("classes.txt", "class_names.txt", "labels.txt"):
            if name in self.tree.names:
                self._list_of_classes = name
                return listed_classes(self.tree.path(name), self.tree.read(name))
        return None

    def _not_listed(self, label: str) -> str:
        """Say that an object is of a class that there is not, and which are listed where."""
        names = self.class_names[1:]
        known = f"expected {some_of(names, 40)}{did_you_mean(label, names)}"
        return f"is of a class that is not listed in {self._list_of_classes or self.root.name}; {known}"

    @abstractmethod
    def load(self, index: int) -> Sample:
        """Read one image with its instances; anything wrong with its files is a ``DataError`` that names them."""

    @abstractmethod
    def picture(self, index: int) -> Picture:
        """Return the photograph of an image as it lies on disk."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def _entry(self, index: int) -> Entry:
        return self._entries[self._names[self.ids[index]]]

    def _bad(self, error: DataError) -> None:
        """Note that an object is left out, or raise."""
        if not self.skip_bad:
            raise error
        self.notes.add(LEFT_OUT, error)

    def _sample(
        self,
        index: int,
        objects: Iterable[Instance],
        *,
        size: tuple[int, int],
        image: np.ndarray,
        void: np.ndarray | None = None,
    ) -> Sample:
        """Put a sample together.

        Parameters
        ----------
        index : int
        objects : iterable of Instance
        size : tuple of int
            (H, W) of the picture that was annotated.
        image : ndarray of shape (H, W, 3), uint8
        void : ndarray of shape (H, W), bool, optional
        """
        picture, image_id = self.picture(index), self.ids[index]
        orientation = self._orientation(size, image, picture, image_id)
        kept = []
        for one in objects:
            if one.rle.area:
                kept.append(one)
                continue
            wrong = "has no pixel within the image; expected at least one"
            if one.fractions:
                wrong = f"has coordinates that are fractions of the image, and so no pixel; {REMEDY}"
            self._bad(DataError(f"{one.where} {wrong}", image_id=image_id))
        masks = Masks((one.rle for one in kept), size)
        void = np.zeros(size, bool) if void is None else void
        if orientation != 1:
            masks, void = upright_masks(masks, orientation), upright(void, orientation)
        none = np.zeros(len(kept), bool)
        return Sample(
            image_id, image, masks.boxes.astype(np.float32), np.array([one.class_id for one in kept], np.int64), masks,
            np.array([one.crowd for one in kept], bool), none, void, str(picture.path),
            gt_fractions=np.array([(one.fractions, False) for one in kept], bool).reshape(-1, 2),
        )  # fmt: skip

    def _image(self, index: int) -> np.ndarray:
        picture = self.picture(index)
        return read_image(picture.path, image_id=self.ids[index], notes=self.notes, content=picture.content)

    def _orientation(self, size: tuple[int, int], image: np.ndarray, picture: Picture, image_id: str) -> int:
        """Return the EXIF orientation if the picture was annotated before it was applied, else 1."""
        orientation = exif_orientation(picture.path, content=picture.content)
        if size == image.shape[:2]:
            if orientation != 1:
                self.notes.add(TURNED, picture.path)
            return 1
        if orientation != 1 and size == image_size(picture.path, content=picture.content):
            self.notes.add(TURNED_WITH, picture.path)
            return orientation
        raise DataError(
            f"is {image.shape[1]} x {image.shape[0]} pixels; expected {size[1]} x {size[0]}, the size of its "
            "annotation",
            path=picture.path,
            image_id=image_id,
        )


def by_split(every: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the images of each split, without the split's folder, as id -> id with it; "" if folders name no split.

    Parameters
    ----------
    every : iterable of str
        Ids with their folders. A folder names a split only if each image lies in one that does.
    """
    ids = list(every)
    first = {image_id: image_id.partition("/") for image_id in ids}
    if not all(rest and top.lower() in _SPLITS for top, _, rest in first.values()):
        return {"": {image_id: image_id for image_id in ids}}
    groups: dict[str, dict[str, str]] = {}
    for image_id, (top, _, rest) in first.items():
        groups.setdefault(_SPLITS[top.lower()], {})[rest] = image_id
    return groups


def _no_split(split: str, groups: dict[str, dict[str, str]]) -> str:
    if set(groups) <= {""}:
        return f"has no folder for the split {split!r}, so that all images are in 'train'; expected 'train'"
    return f"has no images of the split {split!r}; expected one of {', '.join(sorted(groups))}"


def without_suffix(name: str) -> str:
    """Return the name of a file with its folders, without its suffix."""
    return str(PurePosixPath(name).with_suffix(""))


def without_common_folder(names: Iterable[str]) -> dict[str, str]:
    """Return each name without the folders that all share, as short -> whole; a folder of a split is kept.

    Parameters
    ----------
    names : iterable of str
        Ids with their folders.
    """
    parts = {name: name.split("/") for name in names}
    shared = 0
    while len({tuple(p[: shared + 1]) for p in parts.values()}) == 1 and all(
        len(p) > shared + 1 for p in parts.values()
    ):
        if next(iter(parts.values()))[shared].lower() in _SPLITS:
            break
        shared += 1
    return {"/".join(p[shared:]): name for name, p in parts.items()}
