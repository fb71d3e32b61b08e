r"""COCO's ten numbers for keypoints: the evaluation of ``coco.py`` with OKS in the place of IoU.

The *object keypoint similarity* of a detection and an object is the mean over the object's annotated keypoints of

.. math:: \exp \left( -\frac{d_k^2}{2 \, s^2 (2 \sigma_k)^2} \right)

with the distance :math:`d_k` of the two points, the object's area :math:`s^2` as annotated, and how far annotators
differ in this kind of keypoint, :math:`\sigma_k` (``keypoints.pose``). 1 is perfect; at 0.5 a wrist of a person of
100 x 100 pixels is off by 15.

Small objects are not counted by themselves (there are none with keypoints in COCO), and 20 detections of an image are.

References
----------
The evaluation page of COCO's keypoint task; Ronchi and Perona, "Benchmarking and error diagnosis in multi-instance
pose estimation" (2017), section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from ..data.masks import in_runs
from ..data.sample import Sample
from ..detections import Detections
from ..keypoints.pose import Pose
from .coco import AREA_RANGES, CocoEvaluator, mean
from .matching import ClassOverlaps, check_detections


def oks(found: np.ndarray, truth: np.ndarray, boxes: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Return the object keypoint similarity of every detection with every object.

    Parameters
    ----------
    found : ndarray of shape (D, K, 2)
        ``(y, x)``.
    truth : ndarray of shape (G, K, 3)
        ``(y, x, visibility)``; keypoints of visibility 0 are left out.
    boxes : ndarray of shape (G, 4)
        COCO's ``(x, y, width, height)``. For an object without an annotated keypoint they stand in: a detection within
        twice the box is perfect there, so that it is matched, and the match ignored.
    areas : ndarray of shape (G,)
        In pixels.
    sigmas : ndarray of shape (K,)

    Returns
    -------
    ndarray of shape (D, G), float64

    Notes
    -----
    The operations of pycocotools in their order.
    """
    found, truth = found.astype(np.float64), truth.astype(np.float64)
    out = np.zeros((len(found), len(truth)))
    for g, (points, (x, y, width, height), area) in enumerate(zip(truth, boxes.tolist(), areas.tolist())):
        seen = points[:, 2] > 0
        if seen.any():
            dy, dx = np.moveaxis(found - points[:, :2], -1, 0)
        else:
            dy = _beyond(found[..., 0], y - height, y + height * 2)
            dx = _beyond(found[..., 1], x - width, x + width * 2)
            seen = np.ones(len(points), bool)
        e = (dx**2 + dy**2) / (sigmas * 2) ** 2 / (area + np.spacing(1)) / 2
        if seen.any():
            out[:, g] = np.exp(-e[:, seen]).sum(axis=1) / seen.sum()
    return out


def _beyond(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return how far numbers lie outside a range."""
    return np.maximum(0, low - values) + np.maximum(0, values - high)


def extents(points: np.ndarray) -> np.ndarray:
    """Return the area of the box around the keypoints (D, K, 2) of each detection: what decides about its size."""
    if not points.shape[1]:
        return np.zeros(len(points))
    sides = points.max(axis=1) - points.min(axis=1) if len(points) else np.zeros((0, 2))
    return sides[:, 0] * sides[:, 1]


class OksEvaluator(CocoEvaluator):
    """Collect images one at a time; ``result`` gives COCO's ten numbers for keypoints.

    Parameters
    ----------
    class_names : sequence of str
        Entry 0 is background.
    pose : Pose
        Supplies the sigmas.

    Notes
    -----
    Objects without an annotated keypoint are ignored, crowds too.
    """

    areas: ClassVar[Mapping[str, tuple[float, float]]] = {
        name: limits for name, limits in AREA_RANGES.items() if name != "small"
    }
    limits = (20,)

    def __init__(self, class_names: Sequence[str], pose: Pose) -> None:
        super().__init__(class_names, iou_type="keypoints")
        self.pose = pose

    def add(self, detections: Detections, sample: Sample, *, gt_areas: np.ndarray | None = None) -> None:
        """Match the detections of one image; ``gt_areas`` (G,) default to those of the sample, else to pixels.

        Parameters
        ----------
        detections : Detections
        sample : Sample
        gt_areas : ndarray of shape (G,), optional

        Raises
        ------
        ValueError
            One of both has no keypoints, or others than the pose has.
        """
        areas = sample.gt_areas if gt_areas is None else gt_areas
        areas = in_runs(sample.gt_masks).areas if areas is None else areas
        self.add_overlaps(self._overlaps(detections, sample, np.asarray(areas, np.float64)))

    def _overlaps(self, detections: Detections, sample: Sample, areas: np.ndarray) -> Iterator[ClassOverlaps]:
        check_detections(detections, sample, len(self.class_names), iou_type="keypoints")
        points, truth, kinds = detections.keypoints, sample.gt_keypoints, len(self.pose)
        shapes = ((points, (len(detections), kinds, 2), "keypoints"), (truth, (len(areas), kinds, 3), "gt_keypoints"))
        for array, expected, name in shapes:
            if array is None or array.shape != expected:
                came = None if array is None else array.shape
                raise ValueError(f"image {sample.image_id} has {name} of shape {came}, expected {expected}")
        assert points is not None and truth is not None
        y1, x1, y2, x2 = sample.gt_boxes.astype(np.float64).T
        boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
        for class_id in np.union1d(detections.class_ids, sample.gt_class_ids):
            of_class = np.flatnonzero(detections.class_ids == class_id)
            scores = detections.scores[of_class].astype(np.float64)
            order = of_class[np.argsort(-scores, kind="stable")][: self.limits[-1]]
            gt = np.flatnonzero(sample.gt_class_ids == class_id)
            yield ClassOverlaps(
                class_id=int(class_id),
                scores=detections.scores[order].astype(np.float64),
                ious=oks(points[order], truth[gt], boxes[gt], areas[gt], self.pose.sigmas),
                areas=extents(points[order].astype(np.float64)),
                gt_areas=areas[gt],
                difficult=sample.gt_difficult[gt] | ~(truth[gt, :, 2] > 0).any(axis=1),
                crowd=sample.gt_crowd[gt],
            )

    def named(self, ap: np.ndarray, recall: np.ndarray) -> dict[str, float]:
        """Return the ten numbers; see ``CocoEvaluator.named``."""
        numbers: dict[str, float] = {}
        for name, values in (("AP", ap), ("AR", recall[-1])):
            numbers |= {
                name: mean(values[:, 0]),
                f"{name}50": mean(values[:, 0, 0]),
                f"{name}75": mean(values[:, 0, 5]),
            }
            numbers |= {f"{name}m": mean(values[:, 1]), f"{name}l": mean(values[:, 2])}
        return numbers
