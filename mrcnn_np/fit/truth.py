"""The objects of one image as training sees them: on the canvas, at the size to which the image is resized."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..config import Config
from ..data.masks import Masks, in_runs
from ..data.sample import Sample, for_training
from ..molding import Molding, plan


class Truth(NamedTuple):
    """What ``molding.make_batch`` says of one image, without its pixels, which nothing here needs.

    Attributes
    ----------
    molding : Molding
    boxes : ndarray of shape (G, 4), float32
        ``(y1, x1, y2, x2)`` in molded pixels.
    crowd : ndarray of shape (G,), bool
    masks : Masks
        On the canvas.
    original : Masks
        Of the same objects in the image as it was read.
    """

    molding: Molding
    boxes: np.ndarray
    crowd: np.ndarray
    masks: Masks
    original: Masks

    @property
    def objects(self) -> np.ndarray:
        """The boxes of what is no crowd, (O, 4): crowds are no targets."""
        return self.boxes[~self.crowd]


def truth_of(sample: Sample, config: Config) -> Truth:
    """Bring an image's objects onto the canvas, like ``make_batch``; augmentation is left out.

    Parameters
    ----------
    sample : Sample
    config : Config
        Its fields under "image", and ``gt_boxes_from_masks``.
    """
    sample = for_training(sample)
    molding = plan((sample.image.shape[0], sample.image.shape[1]), config)
    boxes = molding.mold_boxes(sample.gt_boxes.astype(np.float32))
    original = in_runs(sample.gt_masks)
    masks = in_runs(molding.mold_masks(original, config.mask_resize))
    crowd = np.asarray(sample.gt_crowd, bool)
    if config.gt_boxes_from_masks:
        seen = np.flatnonzero(masks.areas > 0)
        masks, original, crowd = masks[seen], original[seen], crowd[seen]
        boxes = masks.boxes.astype(np.float32)
    return Truth(molding, boxes, crowd, masks, original)
