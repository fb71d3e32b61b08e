"""What every data set yields: one image with its instances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..boxes import clip_boxes
from ..keypoints.pose import Pose
from .masks import Masks


@dataclass(frozen=True)
class Sample:
    """One image and its ground truth.

    Attributes
    ----------
    image_id : str
        Name of the image within its data set.
    image : ndarray of shape (H, W, 3), uint8
        RGB.
    gt_boxes : ndarray of shape (G, 4), float32 or float64
        ``(y1, x1, y2, x2)`` in pixels, half-open: the box of pixels 3 and 4 is ``[3, 5)``.
    gt_class_ids : ndarray of shape (G,), int64
        1 .. num_classes - 1; 0 is background and never annotated.
    gt_masks : Masks, or ndarray of shape (G, H, W), bool
        Data sets give `Masks`: run lengths that can be used like the array and become it by ``numpy.asarray``.
    gt_crowd : ndarray of shape (G,), bool
        The instance is a group: it is no training target and matches any number of detections.
    gt_difficult : ndarray of shape (G,), bool
        VOC's flag: evaluation neither demands nor punishes the object.
    void : ndarray of shape (H, W), bool
        Pixels nobody labelled (VOC's 255).
    path : str
        Where the image came from, for messages.
    gt_areas : ndarray of shape (G,), optional
        Areas in pixels as annotated, by which COCO calls an object small, medium or large; None: count the mask.
    gt_fractions : ndarray of shape (G, 2), bool, optional
        Whether the file's coordinates of the outline, and those of the box, look like fractions of the image; see
        `fractions.are_fractions`. None: the file has no coordinates, or nobody looked.
    gt_keypoints : ndarray of shape (G, K, 3), float64, optional
        ``(y, x, visibility)`` as annotated: COCO's whole numbers name pixels, see ``config.keypoint_offset``.
        Visibility 0: not annotated, and the place means nothing; 1: hidden; 2: visible. None: the data set has none.
    pose : Pose, optional
        What the keypoints are called; goes with ``gt_keypoints``.
    """

    image_id: str
    image: np.ndarray
    gt_boxes: np.ndarray
    gt_class_ids: np.ndarray
    gt_masks: np.ndarray | Masks
    gt_crowd: np.ndarray
    gt_difficult: np.ndarray
    void: np.ndarray
    path: str = ""
    gt_areas: np.ndarray | None = None
    gt_fractions: np.ndarray | None = None
    gt_keypoints: np.ndarray | None = None
    pose: Pose | None = None

    def __repr__(self) -> str:
        """Return the image's name and size and the classes of its objects: the arrays are too many numbers."""
        height, width = self.image.shape[:2]
        classes = " ".join(str(int(k)) for k in self.gt_class_ids[:12]) + (
            " ..." if len(self.gt_class_ids) > 12 else ""
        )
        objects = f"{len(self.gt_boxes)} objects" + (f" of classes {classes}" if classes else "")
        return f"Sample({self.image_id!r}, image {height} x {width}, {objects})"

    def replace(self, **changes: Any) -> Sample:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def of_objects(self, keep: np.ndarray | list[int]) -> Sample:
        """Return a copy with some of its objects: flags of shape (G,), or their indices."""
        return self.replace(
            gt_boxes=self.gt_boxes[keep],
            gt_class_ids=self.gt_class_ids[keep],
            gt_masks=self.gt_masks[keep],
            gt_crowd=self.gt_crowd[keep],
            gt_difficult=self.gt_difficult[keep],
            gt_areas=None if self.gt_areas is None else self.gt_areas[keep],
            gt_fractions=None if self.gt_fractions is None else self.gt_fractions[keep],
            gt_keypoints=None if self.gt_keypoints is None else self.gt_keypoints[keep],
        )


def without_objects(image: np.ndarray, image_id: str = "image", path: str = "") -> Sample:
    """Return an image without ground truth as a sample.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
        RGB.
    image_id : str
    path : str
        Where the image came from, for messages.
    """
    none, shape = np.zeros(0, bool), image.shape[:2]
    return Sample(
        image_id, image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros((0, *shape), bool), none, none,
        np.zeros(shape, bool), path,
    )  # fmt: skip


def for_training(sample: Sample) -> Sample:
    """Clip the boxes to the image and leave out objects whose box is empty then: COCO has a few that are a line.

    Evaluation keeps such an object; as nothing overlaps it, it is always missed.
    """
    boxes = clip_boxes(sample.gt_boxes, (0.0, 0.0, *sample.image.shape[:2]))
    keep = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    clipped = sample.replace(gt_boxes=boxes)
    return clipped if keep.all() else clipped.of_objects(keep)


def check_sample(sample: Sample, num_classes: int) -> None:
    """Raise ``ValueError`` if boxes, classes, masks and image of a sample do not belong together."""
    g, where = len(sample.gt_boxes), f"image {sample.image_id}"
    shapes = {
        "gt_boxes": (sample.gt_boxes, (g, 4)),
        "gt_class_ids": (sample.gt_class_ids, (g,)),
        "gt_masks": (sample.gt_masks, (g, *sample.image.shape[:2])),
        "gt_crowd": (sample.gt_crowd, (g,)),
    }
    for name, (array, expected) in shapes.items():
        if array.shape != expected:
            raise ValueError(f"{where}: {name} has shape {array.shape}, expected {expected}")
    sides = sample.gt_boxes[:, 2:] - sample.gt_boxes[:, :2]
    bad = np.flatnonzero(~((sides > 0) & np.isfinite(sides)).all(axis=1))
    if len(bad):
        box = sample.gt_boxes[bad[0]].tolist()
        raise ValueError(f"{where}: box {bad[0]} is (y1, x1, y2, x2) = {box}, expected y1 < y2 and x1 < x2")
    if g and (sample.gt_class_ids.min() < 1 or sample.gt_class_ids.max() >= num_classes):
        raise ValueError(f"{where}: class ids {sample.gt_class_ids.tolist()}, expected 1 .. {num_classes - 1}")


def not_read(image_id: str, why: object) -> str:
    """Say that an image to train on cannot be read, and what to do."""
    return f"image {image_id}: {why} (mend it, or leave such images out with --skip-bad)"


class Dataset(Protocol):
    """A sequence of samples with class names; ``class_names[0]`` is ``"background"``."""

    class_names: tuple[str, ...]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def load(self, index: int) -> Sample:
        """Read one sample; anything wrong with its files is a ``DataError`` that names them."""
        ...
