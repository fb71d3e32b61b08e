"""COCO's numbers from files: an instances JSON and a results JSON, without a model and without images.

The evaluation of ``coco.py``, on run lengths instead of dense masks and on boxes as the files have them:
``x, y, width, height`` in double precision, with the operations of pycocotools in their order, so that no overlap
differs from its by a single bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..data.coco_json import CocoObject, Instances, to_bbox
from ..data.coco_results import Result
from ..data.rle import mask_overlaps
from .coco import DETECTION_LIMITS, CocoEvaluation, CocoEvaluator
from .matching import ClassOverlaps
from .oks import OksEvaluator, extents, oks

#: what decides whether a detection is small, medium or large when masks are compared
AREAS = ("mask", "box")


def evaluate_results(
    instances: Instances, results: Iterable[Result], *, iou_type: str = "mask", area: str = "mask"
) -> CocoEvaluation:
    """Return COCO's twelve numbers of a results file, or its ten for keypoints.

    Parameters
    ----------
    instances : Instances
        Ground truth. All its images count, also those without a detection.
    results : iterable of Result
    iou_type : {"mask", "box", "keypoints"}
    area : {"mask", "box"}
        What decides about the size of a detection when masks are compared: the pixels of its mask, or its box, if the
        file has one. pycocotools takes the box of a file that has both; detectron2 removes the boxes first. It makes
        a difference to the numbers of small, medium and large objects only. With keypoints "mask" is the box around
        them, and "box" the detection's box, which pycocotools takes of a file that has both.

    Raises
    ------
    ValueError
        An option is unknown, or a result has no mask where masks are compared, no keypoints where keypoints are.
    DataError
        An annotation is broken.
    """
    if area not in AREAS:
        raise ValueError(f"area is {area!r}; expected one of {', '.join(AREAS)}")
    if iou_type == "keypoints":
        return _evaluate_keypoints(instances, results, area)
    evaluator = CocoEvaluator(instances.class_names, iou_type=iou_type)
    by_image: dict[int, list[Result]] = defaultdict(list)
    for result in results:
        by_image[result.image_id].append(result)
    for image_id in instances.images:  # in rising order: COCO breaks ties of scores by it
        objects = instances.objects(image_id, masks=iou_type == "mask")
        evaluator.add_overlaps(_image_overlaps(by_image[image_id], objects, iou_type, area))
    return evaluator.result()


def _evaluate_keypoints(instances: Instances, results: Iterable[Result], area: str) -> CocoEvaluation:
    if instances.pose is None:
        raise ValueError("no category has keypoints; expected some to compare keypoints")
    evaluator = OksEvaluator(instances.class_names, instances.pose)
    by_image: dict[int, list[Result]] = defaultdict(list)
    for result in results:
        by_image[result.image_id].append(result)
    for image_id in instances.images:
        objects = instances.objects(image_id, masks=False)
        evaluator.add_overlaps(_keypoint_overlaps(by_image[image_id], objects, area, evaluator))
    return evaluator.result()


def _keypoint_overlaps(
    results: Sequence[Result], objects: Sequence[CocoObject], area: str, evaluator: OksEvaluator
) -> Iterator[ClassOverlaps]:
    """Yield the similarities of every class in one image.

    Parameters
    ----------
    results : sequence of Result
    objects : sequence of CocoObject
    area : {"mask", "box"}
    evaluator : OksEvaluator
    """
    kinds = len(evaluator.pose)
    for class_id in sorted({r.class_id for r in results} | {o.class_id for o in objects}):
        found = sorted((r for r in results if r.class_id == class_id), key=lambda r: -r.score)[: evaluator.limits[-1]]
        gt = [o for o in objects if o.class_id == class_id]
        if any(r.keypoints is None for r in found):
            raise ValueError("a result has no keypoints; expected them in every result to compare keypoints")
        points = np.array([r.keypoints for r in found], np.float64).reshape(-1, kinds, 3)[..., :2]
        truth = np.array([o.keypoints for o in gt], np.float64).reshape(-1, kinds, 3)
        areas = np.array([o.area for o in gt], np.float64)
        sizes = extents(points)
        if area == "box":
            sizes = np.array([s if r.box is None else r.box[2] * r.box[3] for s, r in zip(sizes, found)], np.float64)
        yield ClassOverlaps(
            class_id=class_id,
            scores=np.array([r.score for r in found], np.float64),
            ious=oks(points, truth, _boxes(gt), areas, evaluator.pose.sigmas),
            areas=sizes,
            gt_areas=areas,
            difficult=np.array([o.num_keypoints == 0 for o in gt], bool),
            crowd=np.array([o.crowd for o in gt], bool),
        )


def _image_overlaps(
    results: Sequence[Result], objects: Sequence[CocoObject], iou_type: str, area: str
) -> Iterator[ClassOverlaps]:
    """Yield the overlaps of every class in one image; the counterpart of ``matching.class_overlaps``."""
    for class_id in sorted({r.class_id for r in results} | {o.class_id for o in objects}):
        found = [r for r in results if r.class_id == class_id]
        found = sorted(found, key=lambda r: -r.score)[: DETECTION_LIMITS[-1]]  # equal scores keep the file's order
        gt = [o for o in objects if o.class_id == class_id]
        crowd = np.array([o.crowd for o in gt], bool)
        if iou_type == "mask":
            ious = mask_overlaps(_masks(found), _masks(gt), crowd=crowd)
        else:
            ious = bbox_overlaps(_boxes(found), _boxes(gt), crowd=crowd)
        yield ClassOverlaps(
            class_id=class_id,
            scores=np.array([r.score for r in found], np.float64),
            ious=ious,
            areas=np.array([_area(r, iou_type, area) for r in found], np.float64),
            gt_areas=np.array([o.area for o in gt], np.float64),
            difficult=np.zeros(len(gt), bool),
            crowd=crowd,
        )


def bbox_overlaps(a: np.ndarray, b: np.ndarray, *, crowd: np.ndarray) -> np.ndarray:
    """Return the overlap of boxes ``(x, y, width, height)``: ``matching.box_iou`` in COCO's terms.

    Parameters
    ----------
    a : ndarray of shape (D, 4), float64
        Detections.
    b : ndarray of shape (G, 4), float64
    crowd : ndarray of shape (G,), bool
        Overlap with these is the share of the detection.

    Returns
    -------
    ndarray of shape (D, G)

    Notes
    -----
    Turning the boxes into corners first would round ``x + width`` and then ``(x + width) - x``, and an overlap of just
    1/2 could fall below it.
    """
    a, b = a[:, None], b[None]
    side = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.where((side > 0).all(axis=2), side[..., 0] * side[..., 1], 0.0)
    area_a, area_b = a[..., 2] * a[..., 3], b[..., 2] * b[..., 3]
    whole = np.where(crowd[None, :], area_a, area_a + area_b - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)


def _boxes(items: Sequence[Result] | Sequence[CocoObject]) -> np.ndarray:
    """Return the boxes (N, 4); a result that has only a mask gets the tight box of that."""
    rows: list[Sequence[float]] = []
    for item in items:
        if item.box is not None:
            rows.append(item.box)
        elif item.mask is not None:
            rows.append(to_bbox(item.mask.box()))
    return np.array(rows, np.float64).reshape(-1, 4)


def _masks(items: Sequence[Result] | Sequence[CocoObject]) -> list:
    masks = [item.mask for item in items]
    if any(mask is None for mask in masks):
        raise ValueError("a result has no segmentation; expected one in every result to compare masks")
    return masks


def _area(result: Result, iou_type: str, area: str) -> float:
    """Return the area that decides whether a detection is small, medium or large."""
    use_mask = result.box is None or (iou_type == "mask" and area == "mask")
    if use_mask and result.mask is not None:
        return float(result.mask.area)
    return result.box[2] * result.box[3] if result.box is not None else 0.0
