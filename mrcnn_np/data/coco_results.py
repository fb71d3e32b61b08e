"""COCO's results JSON: one list of detections, each with its image, category, score, box and mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..detections import Detections
from ..errors import DataError
from .coco_json import Instances, check_bbox, is_number, read_json_file
from .coco_keypoints import read_triples
from .rle import RLE
from .segmentation import from_coco


@dataclass(frozen=True, eq=False)
class Result:
    """One detection of a results file.

    Attributes
    ----------
    image_id : int
    class_id : int
        1 .. num_classes - 1, in the order of category ids.
    score : float
    box : tuple of 4 floats, or None
        COCO's ``(x, y, width, height)``; None if the file has none.
    mask : RLE or None
    keypoints : ndarray of shape (K, 3), or None
        ``(y, x, ...)``; what the third number says is left to whoever wrote it.
    """

    image_id: int
    class_id: int
    score: float
    box: tuple[float, float, float, float] | None
    mask: RLE | None
    keypoints: np.ndarray | None = None


def result_records(detections: Detections, image_id: int, category_ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return the detections of one image as records of a results JSON.

    Parameters
    ----------
    detections : Detections
    image_id : int
    category_ids : tuple of int
        The category id of each class id; entry 0 is not used.

    Returns
    -------
    list of dict
        Numbers are not rounded: an evaluation of the file decides as one of the arrays does.
    """
    return detections.to_coco(image_id, category_ids)


def read_results(path: str | Path, instances: Instances) -> list[Result]:
    """Read a results JSON that belongs to a ground truth.

    Parameters
    ----------
    path : path
    instances : Instances
        Its images and categories are those that may occur.

    Returns
    -------
    list of Result
        In the file's order.

    Raises
    ------
    DataError
        The file is missing or no list of detections, or one names an unknown image or category, has neither box nor
        mask, or one that is broken.
    """
    path = Path(path)
    content = read_json_file(path, "a list of detections, COCO's results JSON")
    if not isinstance(content, list):
        raise DataError("is no list; expected a list of detections, COCO's results JSON", path=path)
    found = []
    for place, record in enumerate(content):
        try:
            found.append(_result(record, instances))
        except ValueError as error:
            raise DataError(f"detection {place}: {error}", path=path) from error
    return found


def _result(record: object, instances: Instances) -> Result:
    if not isinstance(record, dict):
        raise ValueError(f"is {record!r:.60}; expected an object with image_id, category_id, score, bbox, segmentation")
    image_id, category_id, score = (record.get(key) for key in ("image_id", "category_id", "score"))
    if type(image_id) is not int or image_id not in instances.images:
        raise ValueError(f"image_id is {image_id!r}; expected an image of {instances.path.name}")
    if type(category_id) is not int or category_id not in instances.class_of:
        raise ValueError(f"category_id is {category_id!r}; expected a category of {instances.path.name}")
    if not is_number(score):
        raise ValueError(f"score is {score!r}; expected a number")
    box, segmentation, keypoints = record.get("bbox"), record.get("segmentation"), record.get("keypoints")
    if instances.pose is None:
        keypoints = None
    if box is None and segmentation is None and keypoints is None:
        raise ValueError("has neither bbox nor segmentation; expected at least one of them")
    entry = instances.images[image_id]
    return Result(
        image_id,
        instances.class_of[category_id],
        float(score),
        None if box is None else check_bbox(box),
        None if segmentation is None else from_coco(segmentation, (entry.height, entry.width)),
        None if keypoints is None or instances.pose is None else read_triples(keypoints, len(instances.pose)),
    )
