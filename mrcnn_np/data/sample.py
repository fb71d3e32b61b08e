"""What every data set yields: one image with its instances."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One image and its ground truth.

    Attributes
    ----------
    image_id : str
        Name of the image within its data set.
    image : ndarray of shape (H, W, 3), uint8
        RGB.
    gt_boxes : ndarray of shape (G, 4), float32
        ``(y1, x1, y2, x2)`` in pixels, half-open: the box of pixels 3 and 4 is ``[3, 5)``.
    gt_class_ids : ndarray of shape (G,), int64
        1 .. num_classes - 1; 0 is background and never annotated.
    gt_masks : ndarray of shape (G, H, W), bool
    gt_crowd : ndarray of shape (G,), bool
        The instance is a group: it is no training target and matches any number of detections.
    gt_difficult : ndarray of shape (G,), bool
        VOC's flag: evaluation neither demands nor punishes the object.
    void : ndarray of shape (H, W), bool
        Pixels nobody labelled (VOC's 255).
    path : str
        Where the image came from, for messages.
    """

    image_id: str
    image: np.ndarray
    gt_boxes: np.ndarray
    gt_class_ids: np.ndarray
    gt_masks: np.ndarray
    gt_crowd: np.ndarray
    gt_difficult: np.ndarray
    void: np.ndarray
    path: str = field(default="")

    def replace(self, **changes: Any) -> Sample:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


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
