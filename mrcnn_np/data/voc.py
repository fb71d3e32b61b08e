"""Pascal VOC: images, XML annotations and per-instance masks, read from the layout of the VOC development kit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from .annotation import VOCObject, empty_box_message, read_annotation
from .choice import choose_ids
from .images import exif_orientation, read_image, read_index_mask
from .sample import Sample

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Class names by class id: background, then VOC's 20 classes in alphabetical order."""

CLASSES = "classes.txt"
"""A file beside ``JPEGImages`` with the class names of a data set that is not VOC itself."""

VOID = 255
"""The index of pixels nobody labelled: VOC draws a line of them around every object."""


def colour_map(n: int = 256) -> np.ndarray:
    """Return VOC's palette.

    The lowest three bits of an index are the highest bits of red, green and blue, the next three bits the second
    highest, and so on: neighbouring indices get colours far apart.

    Parameters
    ----------
    n : int
        Number of entries.

    Returns
    -------
    palette : ndarray of shape (n, 3), uint8
        RGB; entry 0 is black, entry 255 (void) is ``(224, 224, 192)``.
    """
    index = np.arange(n)
    palette = np.zeros((n, 3), dtype=np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (index >> (3 * place + channel)) & 1
            palette[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return palette


class VOCDataset:
    """The images of one split of a VOC data set, with instance masks.

    Parameters
    ----------
    root : path
        The ``VOCdevkit`` folder (it contains ``VOC2012``), or a folder that itself contains ``JPEGImages``.
    split : str
        ``"train"``, ``"val"`` or ``"trainval"``: a file of ``ImageSets/Segmentation``.
    class_names : tuple of str, optional
        ``class_names[0]`` is ``"background"``. By default those that ``classes.txt`` beside ``JPEGImages`` lists, one
        on each line, or VOC's own if there is no such file.
    year : str
        Which ``VOC<year>`` below ``root``.
    subset : int, optional
        Take the first ``subset`` images only.
    ids : sequence of str, optional
        Take these images of the split, in this order.

    Raises
    ------
    DataError
        The folders or the split's file are missing, the split is empty or names an image twice, or ``ids`` names an
        image that is not in the split.

    Notes
    -----
    Object k of the XML file (counted from 1) is index k of the mask in ``SegmentationObject``. ``gt_boxes`` are the
    XML's boxes. They are a little larger than the tight boxes of the masks, because the outermost pixels of an object
    are void in the mask.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        class_names: tuple[str, ...] | None = None,
        year: str = "2012",
        subset: int | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        self.folder = _voc_folder(Path(root), year)
        self.split = split
        self.class_names = tuple(class_names or _read_classes(self.folder))
        self.ids = choose_ids(_read_split(self.folder, split), self.folder, split, subset, ids)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def info(self, index: int) -> list[VOCObject]:
        """Return the objects of one image's XML file as they stand there, with the truncated flags."""
        return read_annotation(self.folder / "Annotations" / f"{self.ids[index]}.xml", image_id=self.ids[index])

    def load(self, index: int) -> Sample:
        """Read one image with its instances; anything wrong with its files is a ``DataError`` that names them."""
        image_id = self.ids[index]
        image_path = self.folder / "JPEGImages" / f"{image_id}.jpg"
        xml_path = self.folder / "Annotations" / f"{image_id}.xml"
        mask_path = self.folder / "SegmentationObject" / f"{image_id}.png"
        image = read_image(image_path, image_id=image_id)
        indices = read_index_mask(mask_path, image_id=image_id)
        _check_size(indices, mask_path, image, image_path, image_id)
        objects = self.info(index)
        masks = _split_masks(indices, len(objects), mask_path, xml_path, image_id)
        for number, (obj, mask) in enumerate(zip(objects, masks), start=1):
            _check_object(number, obj, mask, self.class_names, xml_path, image_id)
        return Sample(
            image_id=image_id,
            image=image,
            gt_boxes=np.array([obj.box for obj in objects], dtype=np.float32).reshape(-1, 4),
            gt_class_ids=np.array([self.class_names.index(obj.name) for obj in objects], dtype=np.int64),
            gt_masks=masks,
            gt_crowd=np.zeros(len(objects), dtype=bool),
            gt_difficult=np.array([obj.difficult for obj in objects], dtype=bool),
            void=indices == VOID,
            path=str(image_path),
        )

    def check_classes(self, index: int) -> None:
        """Compare the XML's classes with ``SegmentationClass``, which training does not read; raise a ``DataError``.

        Nothing is done where that file does not exist. The class numbers in it are those of ``class_names``.
        """
        image_id = self.ids[index]
        path = self.folder / "SegmentationClass" / f"{image_id}.png"
        if not path.exists():
            return
        sample = self.load(index)
        classes = read_index_mask(path, image_id=image_id)
        _check_size(classes, path, sample.image, Path(sample.path), image_id)
        for number, (mask, class_id) in enumerate(zip(sample.gt_masks, sample.gt_class_ids), start=1):
            found = np.bincount(classes[mask], minlength=256).argmax()
            if found != class_id:
                raise DataError(
                    f"object {number} of image {image_id} is class {found} here; expected {class_id} "
                    f"({self.class_names[class_id]}), its class in the XML file",
                    path=path,
                    image_id=image_id,
                )


def _check_size(mask: np.ndarray, path: Path, image: np.ndarray, image_path: Path, image_id: str) -> None:
    """Demand that a mask has the image's size."""
    if mask.shape == image.shape[:2]:
        return
    message = f"is {_size(mask)} pixels; expected {_size(image)}, the size of {image_path.name}"
    orientation = exif_orientation(image_path)
    if orientation != 1:
        message += f" after its EXIF orientation ({orientation}) is applied; remove that entry or rotate the mask"
    raise DataError(message, path=path, image_id=image_id)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"


def _split_masks(indices: np.ndarray, count: int, path: Path, xml_path: Path, image_id: str) -> np.ndarray:
    """Turn a map of instance numbers into ``count`` masks; the numbers present must be exactly 1 .. count."""
    present = {int(k) for k in np.unique(indices)} - {0, VOID}
    surplus = sorted(present - set(range(1, count + 1)))
    if surplus:
        raise DataError(
            f"mask id {surplus[0]} of image {image_id} has no object: {xml_path.name} holds {count} object(s); "
            f"expected {f'ids 1 .. {count}, ' if count else ''}0 for background and {VOID} for void",
            path=path,
            image_id=image_id,
        )
    missing = sorted(set(range(1, count + 1)) - present)
    if missing:
        raise DataError(
            f"object {missing[0]} of image {image_id} has no pixel; {xml_path.name} holds {count} object(s), "
            f"expected the mask ids 1 .. {count}",
            path=path,
            image_id=image_id,
        )
    return indices == np.arange(1, count + 1, dtype=np.uint8)[:, None, None]  # (G, H, W)


def _check_object(
    number: int, obj: VOCObject, mask: np.ndarray, class_names: tuple[str, ...], path: Path, image_id: str
) -> None:
    """Check one object against the class list, the image and its own mask."""

    def error(message: str) -> DataError:
        return DataError(message, path=path, image_id=image_id)

    if obj.name not in class_names[1:]:
        known = ", ".join(class_names[1:])
        raise error(
            f"object {number} of image {image_id} has the unknown class {obj.name!r}; expected one of {known} (a "
            f"data set of your own lists its classes in {path.parents[1] / CLASSES}, one on each line)"
        )
    y1, x1, y2, x2 = obj.box
    height, width = mask.shape
    if y1 < 0 or x1 < 0 or y2 > height or x2 > width:
        raise error(
            f"box {number} of image {image_id} is outside the image (x {x1 + 1:g} .. {x2:g}, y {y1 + 1:g} .. {y2:g}); "
            f"expected x within 1 .. {width} and y within 1 .. {height}"
        )
    for axis, first, last, where in (("y", y1, y2, mask.any(axis=1)), ("x", x1, x2, mask.any(axis=0))):
        pixels = np.flatnonzero(where)
        # xmin == xmax is one pixel; that is a slip of the pen unless the mask, too, is one pixel wide.
        if last - first <= 1 and len(pixels) > 1:
            raise error(empty_box_message(number, image_id, axis, first + 1, last))
        if pixels[-1] + 1 <= first or pixels[0] >= last:
            raise error(
                f"box {number} of image {image_id} ({axis} {first + 1:g} .. {last:g}) does not meet its mask "
                f"({axis} {pixels[0] + 1} .. {pixels[-1] + 1}); expected object k of the XML to be mask id k"
            )


def _voc_folder(root: Path, year: str) -> Path:
    """Find the folder that contains ``JPEGImages``."""
    for folder in (root / f"VOC{year}", root):
        if (folder / "JPEGImages").is_dir():
            return folder
    if not root.is_dir():
        raise DataError("does not exist; expected the VOCdevkit folder", path=root)
    found = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
    raise DataError(f"contains {found}; expected VOC{year}/JPEGImages (the VOCdevkit folder)", path=root)


def _read_classes(folder: Path) -> tuple[str, ...]:
    """Read the class names of a data set that is not VOC itself."""
    path = folder / CLASSES
    if not path.exists():
        return VOC_CLASSES
    names = _read_lines(path, "one class name on each line")
    if names[:1] == ["background"]:
        names = names[1:]
    twice = [name for i, name in enumerate(names) if name in (*names[:i], "background")]
    if not names or twice:
        what = f"names {twice[0]} twice" if twice else "is empty"
        raise DataError(f"{what}; expected every class once, the background at most as the first", path=path)
    return ("background", *names)


def _read_lines(path: Path, expected: str) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # -sig: some editors begin a file with a mark
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read; expected {expected}", path=path) from error
    return [line.strip() for line in lines if line.strip()]


def _read_split(folder: Path, split: str) -> list[str]:
    """Read the image ids of a split."""
    path = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    known = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
    ids = _read_lines(path, f"the list of split {split!r} (found: {known})")
    if not ids:
        raise DataError(f"split {split!r} is empty; expected one image id per line", path=path)
    seen: set[str] = set()
    for image_id in ids:
        if image_id in seen:
            raise DataError(f"names image {image_id} twice; expected every id once", path=path, image_id=image_id)
        seen.add(image_id)
    return ids
