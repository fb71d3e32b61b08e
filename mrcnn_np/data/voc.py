"""Pascal VOC: images, XML annotations and per-instance masks, read from the layout of the VOC development kit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import DataError
from .annotation import VOCObject, read_annotation, read_objects
from .choice import choose_ids
from .images import exif_orientation, image_size, read_image
from .masks import Masks
from .notes import Notes
from .orientation import TURNED, TURNED_WITH, upright, upright_boxes, upright_masks
from .sample import Sample
from .voc_checks import check_numbers, check_object
from .voc_labels import VOID as VOID
from .voc_labels import colour_map as colour_map
from .voc_labels import read_labels
from .voc_layout import VOC_CLASSES as VOC_CLASSES
from .voc_layout import Layout, has_split, recognise

COUNTED_FROM_ZERO = "the boxes fit their masks only if they are counted from 0, so they are read so (VOC counts from 1)"
LEFT_OUT = "an object is left out"
#: images of a split that are looked at to find out from where boxes are counted
_LOOKED_AT = 32


class VOCDataset:
    """The images of one split of a VOC data set, with instance masks.

    Parameters
    ----------
    root : path
        The ``VOCdevkit`` folder (it contains ``VOC2012``), or a folder that itself contains ``JPEGImages``.
    split : str
        ``"train"``, ``"val"`` or ``"trainval"``: a file of ``ImageSets/Segmentation``. Without ``ImageSets`` all images
        are in ``"train"``.
    class_names : tuple of str, optional
        ``class_names[0]`` is ``"background"``. By default those that ``classes.txt`` (``class_names.txt``,
        ``labelmap.txt``) beside ``JPEGImages`` lists, one on each line, or VOC's own if there is no such file.
    year : str
        Which ``VOC<year>`` below ``root``.
    subset : int, optional
        Take the first ``subset`` images only.
    ids : sequence of str, optional
        Take these images of the split, in this order.
    skip_bad : bool
        Leave out objects that are broken, with a remark, instead of raising.

    Attributes
    ----------
    notes : Notes
        What was read otherwise than it stands in the files, so far.

    Raises
    ------
    DataError
        The folders or the split's file are missing, the split is empty or names an image twice, or ``ids`` names an
        image that is not in the split.

    Notes
    -----
    Object k of the XML file (counted from 1) is index k of the mask in ``SegmentationObject``. ``gt_boxes`` are the
    XML's boxes. They are a little larger than the tight boxes of the masks, because the outermost pixels of an object
    are void in the mask. Without an XML file each number in ``SegmentationObject`` is an object, its class is that of
    most of its pixels in ``SegmentationClass``, and its box the tight one.

    VOC counts pixels from 1. Some tools count from 0; where the masks say so, their boxes are read so.

    Masks that have the size of the stored image, before its EXIF orientation is applied, are turned with it.
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
        skip_bad: bool = False,
    ) -> None:
        self.layout = Layout.find(Path(root), year, class_names)
        self.folder, self.split, self.class_names = self.layout.folder, split, self.layout.class_names
        self.skip_bad, self.notes = skip_bad, Notes()
        self._every_id = self.layout.ids(split, self.notes)
        self.ids = choose_ids(self._every_id, self.folder, split, subset, ids)

    @staticmethod
    def recognise(root: Path) -> str | None:
        """Say on what ground a folder is taken for VOC's; None if it is not."""
        return recognise(root)

    @staticmethod
    def has_split(root: Path, split: str) -> bool:
        """Say whether a split has a list."""
        return has_split(root, split)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def info(self, index: int) -> list[VOCObject]:
        """Return the objects of one image's XML file as they stand there, with the truncated flags."""
        return read_annotation(self.layout.annotation(self.ids[index]), image_id=self.ids[index])

    def classes_in(self, index: int) -> set[int] | None:
        """Return the classes that one image's XML file names, without reading pixels; None if there is no such file."""
        if not self.layout.annotation(self.ids[index]).exists():
            return None
        return {self.class_names.index(obj.name) for obj in self.info(index) if obj.name in self.class_names}

    def load(self, index: int) -> Sample:
        """Read one image with its instances; anything wrong with its files is a ``DataError`` that names them."""
        image_id = self.ids[index]
        image_path = self.layout.image(image_id)
        image = read_image(image_path, image_id=image_id, notes=self.notes)
        mask_path = self.layout.labels(image_id, "Object")
        labels, void = read_labels(mask_path, image_id=image_id)
        orientation = self._orientation(labels, mask_path, image, image_path, image_id)
        if self.layout.annotation(image_id).exists() or not self.layout.labels(image_id, "Class").exists():
            objects, masks = self._from_xml(image_id, labels, mask_path)
        else:
            objects, masks = self._from_classes(image_id, labels, mask_path)
        boxes = np.array([obj.box for obj in objects], dtype=np.float32).reshape(-1, 4)
        if orientation != 1:
            boxes = upright_boxes(boxes, orientation, labels.shape)
            masks = upright_masks(masks, orientation)
            void = upright(void, orientation)
        return Sample(
            image_id=image_id,
            image=image,
            gt_boxes=boxes,
            gt_class_ids=np.array([self.class_names.index(obj.name) for obj in objects], dtype=np.int64),
            gt_masks=masks,
            gt_crowd=np.zeros(len(objects), dtype=bool),
            gt_difficult=np.array([obj.difficult for obj in objects], dtype=bool),
            void=void,
            path=str(image_path),
        )

    def check_classes(self, index: int) -> None:
        """Compare the XML's classes with ``SegmentationClass``, which training does not read; raise a ``DataError``.

        Nothing is done where one of these files does not exist. The class numbers are those of ``class_names``.
        """
        image_id = self.ids[index]
        path = self.layout.labels(image_id, "Class")
        if not path.exists() or not self.layout.annotation(image_id).exists():
            return
        labels, _ = read_labels(self.layout.labels(image_id, "Object"), image_id=image_id)
        classes, _ = read_labels(path, image_id=image_id, colours=self.layout.colours)
        if classes.shape != labels.shape:
            raise DataError(
                f"is {_size(classes)} pixels; expected {_size(labels)}, the size of the image of objects",
                path=path,
                image_id=image_id,
            )
        objects, masks = self._from_xml(image_id, labels, path)
        for number, (obj, found) in enumerate(zip(objects, _classes_of(masks, classes)), start=1):
            if self.class_names[found : found + 1] != (obj.name,):
                raise DataError(
                    f"object {number} of image {image_id} is class {found} here; expected "
                    f"{self.class_names.index(obj.name)} ({obj.name}), its class in the XML file",
                    path=path,
                    image_id=image_id,
                )

    def _orientation(self, labels: np.ndarray, path: Path, image: np.ndarray, image_path: Path, image_id: str) -> int:
        """Demand that a mask has the image's size; return the EXIF orientation if it has that of the stored image."""
        orientation = exif_orientation(image_path)
        if labels.shape == image.shape[:2]:
            if orientation != 1:
                self.notes.add(TURNED, image_path)
            return 1
        if orientation != 1 and labels.shape == image_size(image_path):
            self.notes.add(TURNED_WITH, image_path)
            return orientation
        message = f"is {_size(labels)} pixels; expected {_size(image)}, the size of {image_path.name}"
        raise DataError(message, path=path, image_id=image_id)

    # --- objects ---

    def _bad(self, error: DataError) -> None:
        """Note that an object is left out, or raise."""
        if not self.skip_bad:
            raise error
        self.notes.add(LEFT_OUT, error)

    def _from_xml(self, image_id: str, labels: np.ndarray, mask_path: Path) -> tuple[list[VOCObject], Masks]:
        """Return the objects of the XML file and their masks."""
        path = self.layout.annotation(image_id)
        found = read_objects(path, image_id=image_id, on_error=self._bad)
        masks = Masks.of_labels(labels, np.arange(1, len(found) + 1))
        check_numbers(labels, masks, mask_path, path, image_id, self._bad)
        keep, objects = [], []
        for k, obj in enumerate(found):
            if obj is None or not masks.areas[k]:
                continue
            obj = obj.moved(self._counting)
            try:
                check_object(k + 1, obj, masks.boxes[k], masks.size, self.class_names, path, image_id)
            except DataError as error:
                self._bad(error)
                continue
            keep.append(k)
            objects.append(obj)
        return objects, masks[keep]

    def _from_classes(self, image_id: str, labels: np.ndarray, mask_path: Path) -> tuple[list[VOCObject], Masks]:
        """Return an object for each number in ``labels``, with its class in ``SegmentationClass`` and its tight box."""
        path = self.layout.labels(image_id, "Class")
        classes, _ = read_labels(path, image_id=image_id, colours=self.layout.colours)
        if classes.shape != labels.shape:
            raise DataError(
                f"is {_size(classes)} pixels; expected {_size(labels)}, the size of {mask_path.parent.name}",
                path=path,
                image_id=image_id,
            )
        numbers = np.unique(labels)
        numbers = numbers[numbers > 0]
        masks = Masks.of_labels(labels, numbers)
        keep, objects = [], []
        for k, (number, class_id) in enumerate(zip(numbers.tolist(), _classes_of(masks, classes))):
            if not 0 < class_id < len(self.class_names):
                self._bad(
                    DataError(
                        f"object {number} of image {image_id} is class {class_id} here; expected 1 .. "
                        f"{len(self.class_names) - 1}, the number of a class",
                        path=path,
                        image_id=image_id,
                    )
                )
                continue
            y1, x1, y2, x2 = masks.boxes[k].tolist()
            keep.append(k)
            objects.append(VOCObject(self.class_names[class_id], (y1, x1, y2, x2)))
        return objects, masks[keep]

    @cached_property
    def _counting(self) -> tuple[int, int]:
        """What is added to the first and to the last coordinates of boxes that do not count from 1.

        A box that is equally far from its mask on both sides has the mask's middle. That of a box whose first and last
        pixel are counted from 0 lies 1 before it, twice the middle 2; one that ends before its last number, 1.
        """
        step = max(1, len(self._every_id) // _LOOKED_AT)
        apart: list[int] = []
        for image_id in self._every_id[::step][:_LOOKED_AT]:
            try:
                objects = read_annotation(self.layout.annotation(image_id), image_id=image_id)
                labels, _ = read_labels(self.layout.labels(image_id, "Object"), image_id=image_id)
            except DataError:
                continue
            masks = Masks.of_labels(labels, np.arange(1, len(objects) + 1))
            for obj, box, area in zip(objects, masks.boxes.tolist(), masks.areas):
                if area:
                    apart += [obj.box[0] + obj.box[2] - box[0] - box[2], obj.box[1] + obj.box[3] - box[1] - box[3]]
        for twice, moved in ((-2, (1, 1)), (-1, (1, 0))):
            count, fitting = apart.count(twice), apart.count(0)
            if 2 * count > len(apart) and count > 3 * fitting:
                self.notes.add(COUNTED_FROM_ZERO, self.folder / "Annotations")
                return moved
        return 0, 0


def _classes_of(masks: Masks, classes: np.ndarray) -> list[int]:
    """Return the class that most pixels of each mask have, background and void not counted if there are others."""
    found = []
    for k, (y1, x1, y2, x2) in enumerate(masks.boxes.tolist()):
        values, counts = np.unique(classes[y1:y2, x1:x2][masks.crop(k, (y1, x1, y2, x2))], return_counts=True)
        counts = np.where(values == 0, 0, counts)
        found.append(int(values[counts.argmax()]) if len(values) else 0)
    return found


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
