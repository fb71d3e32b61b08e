"""COCO's instances JSON: images, categories, and annotations with boxes and segmentations."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, some_of
from ..keypoints.pose import Pose
from .coco_keypoints import box_outline, read_keypoints, read_pose
from .coco_writing import dump_json as dump_json
from .coco_writing import image_numbers as image_numbers
from .coco_writing import instances_of as instances_of
from .coco_writing import to_bbox as to_bbox
from .findings import Finding
from .fractions import are_fractions
from .images import MAX_PIXELS, MAX_SIDE
from .json_values import check_bbox as check_bbox
from .json_values import is_empty, is_text, kind_of, number_of
from .json_values import is_number as is_number
from .json_values import read_json_file as read_json_file
from .notes import Notes
from .rle import RLE
from .segmentation import from_coco
from .voc_layout import BACKGROUND


@dataclass(frozen=True)
class ImageEntry:
    """One image as the file lists it; a height and width of 0 are not known."""

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
    fractions : tuple of 2 bools
        Whether the coordinates of its polygons, and those of its bbox, look like fractions of the image.
    keypoints : ndarray of shape (K, 3), float64, or None
        ``(y, x, visibility)`` as annotated; None where no category has keypoints.
    num_keypoints : int
        As the file says; without that, how many are annotated.
    """

    id: int
    class_id: int
    box: tuple[float, float, float, float]
    area: float
    crowd: bool
    mask: RLE | None
    fractions: tuple[bool, bool] = (False, False)
    keypoints: np.ndarray | None = None
    num_keypoints: int = 0


class Instances:
    """The content of an instances JSON.

    What is good is read; what has no meaning (a category "background", annotations of images that are not listed, ...)
    is left out and noted; what cannot be understood is refused.

    Parameters
    ----------
    path : path
    annotated : bool
        Whether annotations are read; the lists of COCO's test images have none.
    skip_bad : bool
        Leave out annotations that are broken, with a remark, instead of raising.
    notes : Notes, optional
        Where remarks are collected.

    Attributes
    ----------
    images : dict of int to ImageEntry
        By image id, in rising order.
    class_names : tuple of str
        Background, then the categories in the order of their ids: class id 1 is the category with the lowest id.
        Categories of one name are one class.
    category_ids : tuple of int
        The category id of each class id. Entry 0, background, is -1, which no file uses.
    class_of : dict of int to int
        The class id of each category id.
    pose : Pose or None
        The keypoints that the categories have, if some have any.
    notes : Notes
    unlisted : list of Finding
        That annotations are of categories which are not listed, if some are: a class that is missing.

    Raises
    ------
    DataError
        The file is missing or no such JSON, its categories cannot be told apart, or no image of it can be read.
        What is wrong *within* an annotation shows when its image is read.
    """

    def __init__(
        self, path: str | Path, *, annotated: bool = True, skip_bad: bool = False, notes: Notes | None = None
    ) -> None:
        self.path, self.skip_bad = Path(path), skip_bad
        self.notes = Notes() if notes is None else notes
        content = read_json_file(self.path, "COCO's instances JSON")
        if not isinstance(content, dict):
            raise self._error(f"holds {kind_of(content)}; expected an object with images, annotations and categories")
        try:
            self._read(content, annotated)
        except RecursionError as error:
            raise self._error("is nested too deep; expected COCO's instances JSON") from error

    def _read(self, content: dict[str, Any], annotated: bool) -> None:
        annotations = self._list(content, "annotations") if annotated and content.get("annotations") is not None else []
        self._read_categories(self._list(content, "categories"), annotations)
        self.pose = self._read_pose(content["categories"])
        self._read_images(self._list(content, "images"))
        self._annotations: dict[int, list[dict[str, Any]]] = {number: [] for number in self.images}
        self._assign(annotations)

    def _read_categories(self, categories: list[Any], annotations: list[Any]) -> None:
        names: dict[int, str] = {}
        for place, category in enumerate(categories):
            number, name = self._id(category, place, "categories"), category.get("name")
            if number < 0:
                raise self._error(f"category id is {number}; expected 0 or more")
            if not isinstance(name, str) or not name.strip() or not is_text(name):
                raise self._error(f"category {number} has the name {name!r:.80}; expected a text")
            if names.get(number, name) != name:
                raise self._error(
                    f"category id {number} is {names[number]!r:.80} and {name!r:.80}; expected one of them"
                )
            names[number] = name
        self._background = {number for number, name in names.items() if name.lower() in BACKGROUND}
        for number in sorted(self._background):
            self._note("a category that is called background is none, and left out", f"category {number}")
            del names[number]
        found = (number_of(a.get("category_id")) for a in annotations if isinstance(a, dict))
        used = {number for number in found if number is not None}
        of_name: dict[str, list[int]] = {}
        for number in sorted(names):
            of_name.setdefault(names[number], []).append(number)
        for name, numbers in of_name.items():
            if len(numbers) > 1:
                together = " and ".join(map(str, numbers[:5]))
                self._note("categories of one name are read as one class", f"categories {together}, {name}")
        # which of several of one name stands for the class: the lowest that occurs
        chosen = {name: min(used.intersection(numbers) or numbers) for name, numbers in of_name.items()}
        self.class_names = ("background", *of_name)
        self.category_ids = (-1, *chosen.values())
        self.class_of = {n: k for k, numbers in enumerate(of_name.values(), start=1) for n in numbers}

    def _read_pose(self, categories: list[Any]) -> Pose | None:
        try:
            poses = {pose for category in categories if (pose := read_pose(category)) is not None}
        except ValueError as error:
            raise self._error(str(error)) from error
        if len(poses) > 1:
            self._note("categories have different keypoints, which cannot be learnt together: they are left out", "it")
        return poses.pop() if len(poses) == 1 else None

    def _read_images(self, images: list[Any]) -> None:
        found: dict[int, ImageEntry] = {}
        twice: set[int] = set()
        bad: list[DataError] = []
        for place, image in enumerate(images):
            try:
                entry = self._image(self._id(image, place, "images"), image)
            except DataError as error:
                bad.append(error)
                self._note("an image that is not described is left out", f"entry {place} of images")
                continue
            if found.get(entry.id, entry) != entry:
                twice.add(entry.id)
            found[entry.id] = entry
        for number in twice:
            bad.append(self._error(f"image id {number} occurs twice; expected every id once"))
            self._note("different images of one id cannot be told apart, and are left out", f"image {number}")
            del found[number]
        if bad and not found:
            raise bad[0]
        self.images = {number: found[number] for number in sorted(found)}

    def _assign(self, annotations: list[Any]) -> None:
        """Give every annotation to its image."""
        seen: dict[int, dict[str, Any]] = {}
        left: dict[str, list[str]] = defaultdict(list)
        unlisted: list[tuple[str, str]] = []
        for place, annotation in enumerate(annotations):
            where = f"entry {place} of annotations"
            if not isinstance(annotation, dict):
                left["an annotation that is no object is left out"].append(where)
                continue
            number = number_of(annotation.get("id"))
            image_id, category_id = number_of(annotation.get("image_id")), number_of(annotation.get("category_id"))
            where = where if number is None else f"annotation {number} of image {image_id}"
            if number is not None and seen.setdefault(number, annotation) != annotation:
                left["different annotations of one id are all read"].append(where)
            elif number is not None and seen[number] is not annotation:
                left["the copy of an annotation is left out"].append(where)
                continue
            if image_id is None or image_id not in self._annotations:
                left["an annotation of an image that is not listed is left out"].append(where)
            elif category_id in self._background:
                left["an annotation of the background is left out"].append(where)
            elif category_id is None or category_id not in self.class_of:
                category = f"{annotation.get('category_id')!r:.40}"
                unlisted.append((category, where))
                where += f" (category {category})"
                left["an annotation of a category that is not listed is left out"].append(where)
            else:
                named = {"id": place if number is None else number, "category_id": category_id}
                self._annotations[image_id].append(annotation | named)
        for kind, places in left.items():
            self.notes.add_all(kind, [f"{self.path}: {where}" for where in places])
        self.unlisted = _unlisted(unlisted, len(annotations))

    def classes_in(self, image_id: int) -> set[int]:
        """Return the classes of an image's annotations, broken ones included."""
        return {
            self.class_of[annotation["category_id"]]
            for annotation in self._annotations[image_id]
            if self.pose is not None or not is_empty(annotation.get("segmentation"))
        }

    def objects(self, image_id: int, *, masks: bool = True, size: tuple[int, int] | None = None) -> list[CocoObject]:
        """Return the annotations of one image in the file's order; a broken one is a ``DataError`` that names it.

        Parameters
        ----------
        image_id : int
        masks : bool
            Whether masks are needed; annotations without segmentation are left out then.
        size : tuple of int, optional
            (H, W) of the image, where the file does not say.
        """
        entry, found = self.images[image_id], []
        size = size or (entry.height, entry.width)
        for annotation in self._annotations[image_id]:
            where = f"annotation {annotation['id']} of image {image_id}"
            try:
                one = self._object(annotation, size, masks)
            except (ValueError, RecursionError) as error:
                broken = self._error(f"{where}: {error}", image_id=str(image_id))
                if not self.skip_bad:
                    raise broken from error
                self._note(f"an annotation that is broken is left out: {_reason(error)}", where)
                continue
            if one is None:
                self._note("an annotation without segmentation is left out", where)
            else:
                found.append(one)
        return found

    def _object(self, annotation: dict[str, Any], size: tuple[int, int], masks: bool) -> CocoObject | None:
        crowd = annotation.get("iscrowd") or 0
        if type(crowd) not in (int, bool, float) or crowd not in (0, 1):
            raise ValueError(f"iscrowd is {crowd!r:.80}; expected 0 or 1")
        box, area, segmentation = (annotation.get(key) for key in ("bbox", "area", "segmentation"))
        if isinstance(box, list) and not box:
            box = None
        given, mask = box, None
        if masks or box is None or area is None:
            if is_empty(segmentation) and self.pose is not None and box is not None:
                segmentation = box_outline(check_bbox(box))
                self._note("an annotation without segmentation is taken for all of its box", f"{annotation['id']}")
            if is_empty(segmentation):
                return None
            mask = from_coco(segmentation, size)
        if mask is not None and box is None:
            box = to_bbox(mask.box())
        if mask is not None and area is None:
            area = mask.area
        if not is_number(area) or area < 0:
            raise ValueError(f"area is {area!r:.80}; expected a number of pixels")
        x, y, width, height = check_bbox(box)
        outline = (
            [v for points in segmentation for v in points]
            if mask is not None and isinstance(segmentation, list)
            else []
        )
        fractions = are_fractions(outline, size), given is not None and are_fractions((x, y, width, height), size)
        # a fraction of a pixel beyond the edge is usual
        if masks and (x > size[1] or y > size[0] or x + width < 0 or y + height < 0):
            raise ValueError(
                f"bbox {[x, y, width, height]} lies outside the image; expected x, y, width, "
                f"height within {size[1]} x {size[0]}"
            )
        class_id = self.class_of[annotation["category_id"]]
        keypoints = None if self.pose is None else read_keypoints(annotation.get("keypoints"), len(self.pose))
        given_count = number_of(annotation.get("num_keypoints"))
        counted = 0 if keypoints is None else int((keypoints[:, 2] > 0).sum())
        return CocoObject(
            annotation["id"],
            class_id,
            (x, y, width, height),
            float(area),
            bool(crowd),
            mask if masks else None,
            fractions,
            keypoints,
            counted if given_count is None else given_count,
        )

    def _image(self, number: int, image: dict[str, Any]) -> ImageEntry:
        name: Any = image.get("file_name")
        if not isinstance(name, str) or not name.strip("/\\. ") or "\0" in name or len(name) > 4096:
            raise self._error(f"image {number} has file_name {name!r:.80}; expected the name of a file")
        sides = image.get("height"), image.get("width")
        height, width = (1 if side is None else number_of(side) or 0 for side in sides)
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
            raise self._error(
                f"image {number} has height {sides[0]!r:.40} and width {sides[1]!r:.40}; expected pixels, at most "
                f"{MAX_PIXELS} and no side above {MAX_SIDE}"
            )
        return ImageEntry(number, name, *(0 if side is None else n for side, n in zip(sides, (height, width))))

    def _list(self, content: dict[str, Any], key: str) -> list[Any]:
        entries = content.get(key)
        if not isinstance(entries, list):
            raise self._error(f"has {key} of type {kind_of(entries)}; expected a list")
        return entries

    def _id(self, entry: Any, place: int, key: str) -> int:
        """Return the id of an entry of a list."""
        given = entry.get("id") if isinstance(entry, dict) else None
        number = number_of(given)
        if number is None:
            raise self._error(
                f"entry {place} of {key} has the id {given!r:.80}; expected an object with a whole number"
            )
        return number

    def _note(self, kind: str, where: str) -> None:
        self.notes.add(kind, f"{self.path}: {where}")

    def _error(self, message: str, *, image_id: str | None = None) -> DataError:
        return DataError(message, path=self.path, image_id=image_id)


def _unlisted(found: list[tuple[str, str]], of: int) -> list[Finding]:
    """Return what is wrong if annotations are of categories that are not listed.

    Parameters
    ----------
    found : list of (str, str)
        Of each such annotation its category, and where it is.
    of : int
        How many annotations there are.
    """
    if not found:
        return []
    counts = Counter(category for category, _ in found)
    which = some_of([f"{category} ({count})" for category, count in counts.items()])
    text = (
        f"their category is not in the file's list, so they are left out: category {which}; list it with its name, or "
        "remove them"
    )
    places = tuple(where for _, where in found)
    return [Finding(text, len(places), of, places[0], unit="annotations", concerns=places)]


def _reason(error: Exception) -> str:
    """Return the kind of an error: what was expected."""
    return str(error).rpartition("; ")[2]
