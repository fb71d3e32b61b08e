"""From head outputs to final detections: best class, its deltas, clip, threshold, per-class NMS, masks pasted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best score first.

    Attributes
    ----------
    boxes : ndarray of shape (D, 4)
        ``(y1, x1, y2, x2)`` in pixels of the original image, half-open.
    class_ids : ndarray of shape (D,), int64
        1 .. num_classes - 1.
    scores : ndarray of shape (D,)
    masks : ndarray of shape (D, H, W), bool
        At the size of the original image.
    """

    boxes: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray
    masks: np.ndarray
