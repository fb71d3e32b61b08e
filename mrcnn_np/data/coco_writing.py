"""Ground truth written as COCO's instances JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..keypoints.pose import Pose
from .masks import Masks, in_runs
from .rle import encode
from .sample import Sample
from .segmentation import to_coco


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
    samples: Iterable[Sample],
    *,
    ids: Iterable[str],
    class_names: tuple[str, ...],
    category_ids: tuple[int, ...],
    file_names: Mapping[str, str] | None = None,
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
    file_names : mapping of str to str, optional
        The name of each image's file by its id; it may be filled while the samples are taken. By default that of the
        file itself.

    Returns
    -------
    dict
        Segmentations are compressed run lengths. ``difficult``, VOC's flag, is added where it is set; COCO's rules do
        not know it, nor void pixels.
    """
    numbers, images = image_numbers(ids), []
    pose: Pose | None = None
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        number = numbers[sample.image_id]
        height, width = sample.image.shape[:2]
        pose = pose or sample.pose
        name = Path(sample.path).name or f"{sample.image_id}.jpg"
        name = (file_names or {}).get(sample.image_id, name)
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
            if sample.gt_keypoints is not None:
                annotation["keypoints"] = to_keypoints(sample.gt_keypoints[g])
                annotation["num_keypoints"] = int((sample.gt_keypoints[g, :, 2] > 0).sum())
            annotations.append(annotation | ({"difficult": 1} if sample.gt_difficult[g] else {}))
    categories: list[dict[str, Any]] = [{"id": c, "name": n} for c, n in list(zip(category_ids, class_names))[1:]]
    if pose is not None:
        named = {"keypoints": list(pose.names), "skeleton": [[a + 1, b + 1] for a, b in pose.skeleton]}
        categories = [category | named for category in categories]
    return {"images": images, "annotations": annotations, "categories": categories}


def detection_records(
    boxes: np.ndarray,
    class_ids: np.ndarray,
    scores: np.ndarray,
    masks: np.ndarray | Masks | None,
    *,
    image_id: int,
    category_ids: Sequence[int],
    keypoints: np.ndarray | None = None,
    keypoint_scores: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Return the detections of one image as records of a results JSON.

    Parameters
    ----------
    boxes, class_ids, scores, masks
        As in ``Detections``; None for masks of a network without.
    image_id : int
    category_ids : sequence of int
        The category id of each class id; entry 0 is not used.
    keypoints, keypoint_scores : ndarray, optional
        As in ``Detections``.

    Returns
    -------
    list of dict
        Numbers are not rounded: an evaluation of the file decides as one of the arrays does.
    """
    records: list[dict[str, Any]] = [
        {
            "image_id": int(image_id),
            "category_id": int(category_ids[int(class_id)]),
            "bbox": to_bbox(box.astype(np.float64)),
            "score": float(score),
        }
        for box, class_id, score in zip(boxes, class_ids, scores)
    ]
    if masks is not None:
        for record, rle in zip(records, in_runs(masks).rles):
            record["segmentation"] = to_coco(rle)
    if keypoints is not None and keypoint_scores is not None:
        for record, points, sure in zip(records, keypoints.astype(np.float64), keypoint_scores.astype(np.float64)):
            record["keypoints"] = to_keypoints(np.concatenate([points, sure[:, None]], axis=1))
    return records


def to_keypoints(keypoints: np.ndarray) -> list[float]:
    """Return COCO's ``[x, y, v, x, y, v, ...]`` of keypoints (K, 3), ``(y, x, v)``; whole numbers stay such."""
    return [int(v) if v.is_integer() else v for v in keypoints[:, [1, 0, 2]].reshape(-1).tolist()]


def to_bbox(box: np.ndarray) -> list[float]:
    """Return COCO's ``[x, y, width, height]`` of a box ``(y1, x1, y2, x2)``."""
    y1, x1, y2, x2 = (float(v) for v in box)
    return [x1, y1, x2 - x1, y2 - y1]


def dump_json(value: Any) -> bytes:
    """Return compact JSON; NaN and infinity, which JSON does not have, are a ``ValueError``."""
    return (json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n").encode()
