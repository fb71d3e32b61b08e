"""Label images: beside each photograph an image whose pixels are the numbers of objects.

PennFudan, Cityscapes and what Cellpose writes have this form ::

    PNGImages/FudanPed00001.png                            PedMasks/FudanPed00001_mask.png
    leftImg8bit/train/CITY/NAME_leftImg8bit.png            gtFine/train/CITY/NAME_gtFine_instanceIds.png
    NAME.png                                               NAME_masks.png

A pair is what has the same name and the same folders, but for suffixes and folders as these.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .images import SUFFIXES, read_index_mask
from .listed import Instance, ListedDataset, Picture, by_split, without_common_folder, without_suffix
from .masks import Masks
from .sample import Sample
from .tree import Tree
from .voc_labels import VOID, read_labels

#: what labels are called behind the name of their photograph, the longest first
_LABEL_ENDINGS = (
    "_gtfine_instanceids",
    "_instanceids",
    "_instances",
    "_cp_masks",
    "_masks",
    "_mask",
    "_labels",
    "_label",
)
_LABEL_FOLDERS = (
    "pedmasks",
    "gtfine",
    "gtcoarse",
    "masks",
    "mask",
    "labels",
    "label",
    "instances",
    "groundtruth",
    "gt",
)
_PICTURE_ENDINGS = ("_leftimg8bit", "_img", "_image")
_PICTURE_FOLDERS = ("pngimages", "leftimg8bit", "images", "image", "imgs", "img", "jpegimages", "photos")
#: Cityscapes' numbers of the classes that have objects; 29 and 30, caravan and trailer, are not evaluated there
CITYSCAPES = {
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
_CITYSCAPES_VOID = (0, 1, 2, 3, 29, 30)
_WITHOUT_LABELS = "a picture without a label image is left out"
_WITHOUT_PICTURE = "a label image without its picture is left out"


class Pair(NamedTuple):
    """Names in the tree."""

    picture: str
    labels: str


class LabelImages(ListedDataset[Pair]):
    """The images of one split of label images, in a folder or in a zip; see `ListedDataset`.

    0 is background, and 255 void (65535 in 16 bits, see `read_labels`). All objects are of one class, that of
    ``classes.txt``, or "object". Files that end in ``_instanceIds`` follow Cityscapes: 1000 times the class and
    the number of the object, or a class alone for a group of objects, a crowd.
    """

    @classmethod
    def recognise(cls, root: Path) -> str | None:
        """Say on what ground a folder or zip is taken for label images; None if it is not."""
        pairs, _, _ = _pairs(cls._tree(root))
        if not pairs:
            return None
        one = next(iter(pairs.values()))
        have = "picture has" if len(pairs) == 1 else "pictures have"
        return f"{len(pairs)} {have} an image of numbers, such as {one.picture} and {one.labels}"

    def _list(self) -> dict[str, Pair]:
        pairs, pictures, labels = _pairs(self.tree)
        if not pairs:
            raise DataError(
                "holds no picture with a label image; expected, for example, images/NAME.png and masks/NAME.png",
                path=self.root,
            )
        for kind, names in ((_WITHOUT_LABELS, pictures), (_WITHOUT_PICTURE, labels)):
            for name in names:
                self.notes.add(kind, self.tree.path(name))
        self._cityscapes = all(_ending(pair.labels) in _LABEL_ENDINGS[:2] for pair in pairs.values())
        short = {key: key for key in pairs} if "" not in by_split(pairs) else without_common_folder(pairs)
        return {name: pairs[key] for name, key in short.items()}

    def _classes(self) -> tuple[str, ...]:
        return ("background", *CITYSCAPES.values()) if self._cityscapes else super()._classes()

    def picture(self, index: int) -> Picture:
        """Return the photograph of an image as it lies on disk."""
        name = self._entry(index).picture
        return Picture(self.tree.path(name), self.tree.content(name))

    def load(self, index: int) -> Sample:
        """Read one image with its instances; anything wrong with its files is a ``DataError`` that names them."""
        image, name, image_id = self._image(index), self._entry(index).labels, self.ids[index]
        path, content = self.tree.path(name), self.tree.content(name)
        if self._cityscapes:
            labels = read_index_mask(path, image_id=image_id, content=content).astype(np.int32)
            void = np.isin(labels, _CITYSCAPES_VOID) | np.isin(labels // 1000, _CITYSCAPES_VOID[-2:])
        else:
            labels, void = read_labels(path, image_id=image_id, content=content)
            if void.any() and not labels.any() and void.mean() < 1:
                raise DataError(
                    f"has no number but {VOID}, which stands for pixels that nobody labelled; expected a number for "
                    "each object (a mask of all objects together does not tell them apart)",
                    path=path,
                    image_id=image_id,
                )
        return self._sample(index, self._objects(labels, path), size=labels.shape, image=image, void=void)

    def _objects(self, labels: np.ndarray, path: Path) -> Iterator[Instance]:
        numbers = np.unique(labels)
        numbers = numbers[numbers > 0]
        if self._cityscapes:
            thing = np.isin(np.where(numbers < 1000, numbers, numbers // 1000), list(CITYSCAPES))
            numbers = numbers[thing]
        class_of = {number: k for k, number in enumerate(CITYSCAPES, start=1)}
        for number, rle in zip(numbers.tolist(), Masks.of_labels(labels, numbers).rles):
            crowd = self._cityscapes and number < 1000
            class_id = class_of[number if crowd else number // 1000] if self._cityscapes else 1
            yield Instance(f"{path}: number {number}", class_id, rle, crowd)


def _pairs(tree: Tree) -> tuple[dict[str, Pair], list[str], list[str]]:
    """Return the pairs by their name with folders, and the pictures and labels that have no counterpart."""
    images = [name for name in tree.names if name.lower().endswith(SUFFIXES)]
    instance_ids = any(_ending(name) in _LABEL_ENDINGS[:2] for name in images)
    pictures: dict[str, str] = {}
    labels: dict[str, str] = {}
    for name in images:
        if _is_label(name):
            if instance_ids and _ending(name) not in _LABEL_ENDINGS[:2]:
                continue  # Cityscapes has colours and classes beside
            _put(labels, _key(name, _LABEL_FOLDERS, _LABEL_ENDINGS), name, tree)
        else:
            pictures.setdefault(_key(name, _PICTURE_FOLDERS, _PICTURE_ENDINGS), name)
    paired = {key: Pair(pictures[key], labels[key]) for key in pictures if key in labels}
    return (
        paired,
        [name for key, name in pictures.items() if key not in labels],
        [name for key, name in labels.items() if key not in pictures],
    )


def _put(labels: dict[str, str], key: str, name: str, tree: Tree) -> None:
    if key in labels:
        raise DataError(
            f"and {tree.path(labels[key])} are label images of one picture; expected one", path=tree.path(name)
        )
    labels[key] = name


def _is_label(name: str) -> bool:
    return bool(_ending(name)) or any(part.lower() in _LABEL_FOLDERS for part in name.split("/")[:-1])


def _ending(name: str) -> str:
    stem = without_suffix(name).lower()
    return next((ending for ending in _LABEL_ENDINGS if stem.endswith(ending)), "")


def _key(name: str, folders: tuple[str, ...], endings: tuple[str, ...]) -> str:
    """Return what a picture and its labels have in common: name and folders without what tells them apart."""
    stem = without_suffix(name)
    cut = next((len(ending) for ending in endings if stem.lower().endswith(ending)), 0)
    *path, last = stem[: len(stem) - cut].split("/")
    return "/".join([*(part for part in path if part.lower() not in folders), last])
