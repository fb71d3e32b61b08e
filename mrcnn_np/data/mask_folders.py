"""Mask folders: for each photograph a folder with ``images/`` and, one file for each object, ``masks/``.

The Data Science Bowl 2018 has this form ::

    stage1_train/ID/images/ID.png
    stage1_train/ID/masks/0a1b....png      black but for the pixels of one object
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ..tables import counted
from .images import SUFFIXES, read_silhouette
from .listed import Instance, ListedDataset, Picture, without_common_folder
from .masks import Masks
from .rle import RLE
from .sample import Sample
from .tree import Tree

_IMAGES, _MASKS = ("images", "image"), ("masks", "mask")
_WITHOUT_PICTURE = "a folder of masks without a picture beside it is left out"
_WITHOUT_MASKS = "a picture without a folder of masks beside it is left out"


class Folder(NamedTuple):
    """What lies in the folder of one photograph: names in the tree."""

    images: list[str]
    masks: list[str]


class MaskFolders(ListedDataset[Folder]):
    """The images of one split of mask folders, in a folder or in a zip, which is not unpacked; see `ListedDataset`.

    All objects are of one class: that of ``classes.txt``, or "object". A folder ``masks/`` that is empty says that
    there is no object; a picture without one is not annotated, and left out.
    """

    @classmethod
    def recognise(cls, root: Path) -> str | None:
        """Say on what ground a folder or zip is taken for mask folders; None if it is not."""
        tree = cls._tree(root)
        folders = [f for f in _folders(tree).values() if f.images and f.masks]
        if not folders or any(len(f.images) > 1 for f in folders):
            return None
        # one picture and one mask of its name are label images
        if all(Path(f.images[0]).stem in Path(f.masks[0]).stem and len(f.masks) == 1 for f in folders):
            return None
        count, masks = len(folders), sum(len(f.masks) for f in folders)
        hold = "folder holds" if count == 1 else "folders hold"
        return f"{count} {hold} images/ with one picture and masks/, {counted(masks, 'mask')} in all"

    def _list(self) -> dict[str, Folder]:
        found = _folders(self.tree)
        whole = {name: f for name, f in found.items() if f.images and (f.masks or _has_masks(self.tree, name))}
        if not whole:
            raise DataError(
                "holds no folder with images/ and masks/; expected ID/images/ID.png and ID/masks/*.png for each image",
                path=self.root,
            )
        for name, f in found.items():
            if name not in whole:
                self.notes.add(_WITHOUT_MASKS if f.images else _WITHOUT_PICTURE, self.tree.path(name))
        for name, f in whole.items():
            if len(f.images) > 1:
                raise DataError(
                    f"holds {len(f.images)} images ({Path(f.images[0]).name}, {Path(f.images[1]).name}, ...); "
                    "expected one beside its folder masks/",
                    path=self.tree.path(name) / "images",
                )
        return {short: whole[name] for short, name in without_common_folder(whole).items()}

    def picture(self, index: int) -> Picture:
        """Return the photograph of an image as it lies on disk."""
        name = self._entry(index).images[0]
        return Picture(self.tree.path(name), self.tree.content(name))

    def load(self, index: int) -> Sample:
        """Read one image with its instances; anything wrong with its files is a ``DataError`` that names them."""
        image = self._image(index)
        masks = self._masks(index, (image.shape[0], image.shape[1]))
        size = masks[0][1].size if masks else image.shape[:2]
        objects = (Instance(f"{path}: the mask", 1, rle) for path, rle in masks)
        return self._sample(index, objects, size=size, image=image)

    def _masks(self, index: int, shape: tuple[int, int]) -> list[tuple[Path, RLE]]:
        """Return the mask of each object, all of one size: the picture's (H, W), or that on its side, if any has it."""
        image_id, found = self.ids[index], []
        for name in self._entry(index).masks:
            path = self.tree.path(name)
            try:
                pixels = read_silhouette(path, image_id=image_id, content=self.tree.content(name))
            except DataError as error:
                self._bad(error)
                continue
            found.append((path, Masks.of_array(pixels[None]).rles[0]))
        sizes = [rle.size for _, rle in found]
        size = next((s for s in (shape, shape[::-1], *sizes) if s in sizes), shape)
        for path, rle in found:
            if rle.size != size:
                whose = "picture" if size == shape else "other masks"
                wrong = (
                    f"is {rle.size[1]} x {rle.size[0]} pixels; expected {size[1]} x {size[0]}, the size of the {whose}"
                )
                self._bad(DataError(wrong, path=path, image_id=image_id))
        return [(path, rle) for path, rle in found if rle.size == size]


def _folders(tree: Tree) -> dict[str, Folder]:
    """Return what lies in each folder that has ``images/`` or ``masks/``, by its name."""
    found: dict[str, Folder] = {}
    for name in tree.names:
        folder, _, file = name.rpartition("/")
        parent, _, kind = folder.rpartition("/")
        if not parent or not file.lower().endswith(SUFFIXES):
            continue
        if kind.lower() in _IMAGES:
            found.setdefault(parent, Folder([], [])).images.append(name)
        elif kind.lower() in _MASKS:
            found.setdefault(parent, Folder([], [])).masks.append(name)
    return found


def _has_masks(tree: Tree, folder: str) -> bool:
    """Say whether a folder has one of masks that is empty."""
    return any(f"{folder}/{kind}/" in tree.empty for kind in _MASKS)
