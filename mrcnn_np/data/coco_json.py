"""COCO's instances JSON: images, categories, and annotations with boxes and segmentations."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from ..errors import DataError
from .images import MAX_PIXELS
from .masks import Masks
from .rle import RLE, encode
from .sample import Sample
from .segmentation import from_coco, to_coco


@dataclass(frozen=True)
class ImageEntry:
    """One image as the file lists it."""

    id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class CocoObject:
    """One annotation.

    Attributes
    ----------
    id : int
    class_id : int
        1 .. num_classes - 1: the place of its category in the order of category ids.
    box : tuple of 4 floats
        COCO's ``(x, y, width, height)`` in pixels.
    area : float
        As annotated: the area of the polygon, not the number of pixels.
    crowd : bool
    mask : RLE or None
        None where no mask was asked for.
    """

    id: int
    class_id: int
    box: tuple[float, float, float, float]
    area: float
    crowd: bool
    mask: RLE | None


class Instances:
    """The content of an instances JSON.

    Parameters
    ----------
    path : path
    annotated : bool
        Whether there must be annotations; the lists of COCO's test images have none.

    Attributes
    ----------
    images : dict of int to ImageEntry
        By image id, in rising order.
    class_names : tuple of str
        Background, then the categories in the order of their ids: class id 1 is the category with the lowest id.
    category_ids : tuple of int
        The category id of each class id. Entry 0, background, is -1, which no file uses.

    Raises
    ------
    DataError
        The file is missing or no such JSON, an id occurs twice, or an annotation names an unknown image or category.
        What is wrong *within* an annotation shows when its image is read.
    """

    def __init__(self, path: str | Path, *, annotated: bool = True) -> None:
        self.path = Path(path)
        content = read_json_file(self.path, "COCO's instances JSON")
        if not isinstance(content, dict):
            raise self._error(f"holds {_kind(content)}; expected an object with images, annotations and categories")
        categories = self._entries(content, "categories", "category")
        names: dict[int, str] = {}
        for number, category in categories.items():
            if number < 0:
                raise self._error(f"category id is {number}; expected 0 or more")
            name = category.get("name")
            if not isinstance(name, str) or not name or name == "background" or name in names.values():
                raise self._error(
                    f"category {number} has the name {name!r}; expected a name of its own (background is class 0)"
                )
            names[number] = name
        ordered = sorted(names)
        self.class_names = ("background", *(names[number] for number in ordered))
        self.category_ids = (-1, *ordered)
        self.class_of = {number: k for k, number in enumerate(self.category_ids) if k}
        images = self._entries(content, "images", "image")
        self.images = {number: self._image(number, images[number]) for number in sorted(images)}
        self._annotations: dict[int, list[dict[str, Any]]] = {number: [] for number in self.images}
        annotations = self._entries(content, "annotations", "annotation") if annotated else {}
        for number, annotation in annotations.items():
            image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
            if type(image_id) is not int or image_id not in self.images:
                raise self._error(
                    f"annotation {number} belongs to image {image_id!r}; expected one of the {len(self.images)} images"
                )
            if type(category_id) is not int or category_id not in names:
                known = ", ".join(map(str, ordered[:20])) + (" ..." if len(ordered) > 20 else "")
                raise self._error(
                    f"annotation {number} of image {image_id} has category {category_id!r}; "
                    f"expected one of {known or 'none'}"
                )
            self._annotations[image_id].append(annotation)

    def objects(self, image_id: int, *, masks: bool = True) -> list[CocoObject]:
        """Return the annotations of one image in the file's order; a broken one is a ``DataError`` that names it."""
        entry, found = self.images[image_id], []
        for annotation in self._annotations[image_id]:
            try:
                found.append(self._object(annotation, entry, masks))
            except ValueError as error:
                raise self._error(
                    f"annotation {annotation['id']} of image {image_id}: {error}", image_id=str(image_id)
                ) from error
        return found

    def _object(self, annotation: dict[str, Any], entry: ImageEntry, masks: bool) -> CocoObject:
        crowd = annotation.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise ValueError(f"iscrowd is {crowd!r}; expected 0 or 1")
        box, area = annotation.get("bbox"), annotation.get("area")
        needed = masks or box is None or area is None
        mask = from_coco(annotation.get("segmentation"), (entry.height, entry.width)) if needed else None
        if mask is not None and box is None:
            box = to_bbox(mask.box())
        if mask is not None and area is None:
            area = mask.area
        if not is_number(area) or area < 0:
            raise ValueError(f"area is {area!r}; expected a number of pixels")
        return CocoObject(
            annotation["id"],
            self.class_of[annotation["category_id"]],
            check_bbox(box),
            float(area),
            bool(crowd),
            mask if masks else None,
        )

    def _image(self, number: int, image: dict[str, Any]) -> ImageEntry:
        name: Any = image.get("file_name")
        height: Any = image.get("height")
        width: Any = image.get("width")
        if not isinstance(name, str) or not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise self._error(f"image {number} has file_name {name!r}; expected a name inside the image folder")
        if not all(type(side) is int and side > 0 for side in (height, width)) or height * width > MAX_PIXELS:
            raise self._error(f"image {number} has height {height!r} and width {width!r}; expected pixels")
        return ImageEntry(number, name, height, width)

    def _entries(self, content: dict[str, Any], key: str, what: str) -> dict[int, dict[str, Any]]:
        """Return the entries of a list by their ids."""
        entries = content.get(key)
        if not isinstance(entries, list):
            raise self._error(f"has {key} of type {_kind(entries)}; expected a list")
        found: dict[int, dict[str, Any]] = {}
        for place, entry in enumerate(entries):
            number = entry.get("id") if isinstance(entry, dict) else None
            if type(number) is not int:
                raise self._error(
                    f"entry {place} of {key} has the id {number!r}; expected an object with a whole number"
                )
            if number in found:
                raise self._error(f"{what} id {number} occurs twice; expected every id once")
            found[number] = entry
        return found

    def _error(self, message: str, *, image_id: str | None = None) -> DataError:
        return DataError(message, path=self.path, image_id=image_id)


def is_number(value: Any) -> TypeGuard[float]:
    """Say whether a value from JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def check_bbox(box: object) -> tuple[float, float, float, float]:
    """Return a box from JSON as floats ``(x, y, width, height)``; anything else is a ``ValueError``."""
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(v) for v in box) or min(box[2:]) < 0:
        raise ValueError(f"bbox is {box!r}; expected [x, y, width, height] in pixels")
    x, y, width, height = map(float, box)
    return x, y, width, height


def read_json_file(path: Path, expected: str) -> Any:
    """Read a JSON file; one that is missing or broken is a ``DataError``."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}); expected {expected}", path=path) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error}); expected {expected}", path=path) from error


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "nothing"}
    return names.get(type(value), f"{value!r:.40}")


# --- writing --------------------------------------------------------------------------------------------------------


def image_numbers(ids: Iterable[str]) -> dict[str, int]:
    """Return COCO's image id of each image: the id itself if all are plain numbers, else 1, 2, 3, ... in order.

    ``"000000397133"``, the name of one of COCO's own files, is 397133.
    """
    names = list(ids)
    if all(name.isascii() and name.isdigit() and len(name) < 18 for name in names):
        numbers = [int(name) for name in names]
        if len(set(numbers)) == len(numbers):
            return dict(zip(names, numbers))
    return {name: number for number, name in enumerate(names, start=1)}


def instances_of(
    samples: Iterable[Sample], *, ids: Iterable[str], class_names: tuple[str, ...], category_ids: tuple[int, ...]
) -> dict[str, Any]:
    """Return the ground truth of a data set as the content of an instances JSON.

    Parameters
    ----------
    samples : iterable of Sample
        May be a generator: the masks of one image at a time are held.
    ids : iterable of str
        The ids of all images, which decide their numbers (``image_numbers``).
    class_names : tuple of str
    category_ids : tuple of int
        One for each class; entry 0 is not used.

    Returns
    -------
    dict
        Segmentations are compressed run lengths. ``difficult``, VOC's flag, is added where it is set; COCO's rules do
        not know it, nor void pixels.
    """
    numbers, images = image_numbers(ids), []
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        number = numbers[sample.image_id]
        height, width = sample.image.shape[:2]
        name = Path(sample.path).name or f"{sample.image_id}.jpg"
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        rles = sample.gt_masks.rles if isinstance(sample.gt_masks, Masks) else map(encode, sample.gt_masks)
        for g, (box, segmentation) in enumerate(zip(sample.gt_boxes.astype(np.float64), rles)):
            area = segmentation.area if sample.gt_areas is None else float(sample.gt_areas[g])
            annotation = {
                "id": len(annotations) + 1,  # not from 0: pycocotools takes a match with object 0 for none
                "image_id": number,
                "category_id": category_ids[int(sample.gt_class_ids[g])],
                "bbox": to_bbox(box),
                "area": area,
                "iscrowd": int(sample.gt_crowd[g]),
                "segmentation": to_coco(segmentation),
            }
            annotations.append(annotation | ({"difficult": 1} if sample.gt_difficult[g] else {}))
    categories = [{"id": c, "name": n} for c, n in list(zip(category_ids, class_names))[1:]]
    return {"images": images, "annotations": annotations, "categories": categories}


def to_bbox(box: np.ndarray) -> list[float]:
    """Return COCO's ``[x, y, width, height]`` of a box ``(y1, x1, y2, x2)``."""
    y1, x1, y2, x2 = (float(v) for v in box)
    return [x1, y1, x2 - x1, y2 - y1]


def dump_json(value: Any) -> bytes:
    """Return compact JSON; NaN and infinity, which JSON does not have, are a ``ValueError``."""
    return (json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n").encode()
