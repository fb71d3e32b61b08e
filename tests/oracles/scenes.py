"""Boxes, samples and detections that a test lays out by hand. Nothing here is random."""

from __future__ import annotations

import numpy as np

from mrcnn_np.data.sample import Sample
from mrcnn_np.detections import Detections


def boxes_of(*rows, dtype=np.float64):
    """Boxes (y1, x1, y2, x2) as an array (N, 4), also for none."""
    return np.array(rows, dtype).reshape(-1, 4)


def strips(*widths):
    """Boxes inside [0, 0, 10, 10] whose IoU with it is width / 10."""
    return boxes_of(*([0, 0, 10, w] for w in widths))


def fill(boxes, shape):
    """One mask (H, W) for each box of whole pixels, filled; what lies outside is cut off."""
    masks = np.zeros((len(boxes), *shape), bool)
    for mask, box in zip(masks, boxes):
        y1, x1, y2, x2 = (max(int(v), 0) for v in box)
        mask[y1:y2, x1:x2] = True
    return masks


def sample_of(
    boxes, class_ids=None, *, shape=(20, 20), name="1", image=None, masks=None, crowd=None, difficult=None, void=None
):
    """A sample of these objects: by default of class 1, filling their boxes, on black."""
    boxes = boxes_of(*boxes, dtype=np.float32)
    count = len(boxes)
    return Sample(
        image_id=name,
        image=np.zeros((*shape, 3), np.uint8) if image is None else image,
        gt_boxes=boxes,
        gt_class_ids=np.ones(count, np.int64) if class_ids is None else np.asarray(class_ids, np.int64),
        gt_masks=fill(boxes, shape) if masks is None else masks,
        gt_crowd=np.zeros(count, bool) if crowd is None else np.asarray(crowd, bool),
        gt_difficult=np.zeros(count, bool) if difficult is None else np.asarray(difficult, bool),
        void=np.zeros(shape, bool) if void is None else void,
    )


def detections_of(boxes, scores, class_ids=None, *, shape=(20, 20)):
    """Detections, by default of class 1, whose masks fill their boxes."""
    boxes = boxes_of(*boxes, dtype=np.float32)
    class_ids = np.ones(len(boxes), np.int64) if class_ids is None else np.asarray(class_ids, np.int64)
    return Detections(boxes, class_ids, np.asarray(scores, np.float32), fill(boxes, shape))


class Samples:
    """Samples as a data set."""

    def __init__(self, samples):
        self.samples, self.class_names = samples, ("background", "thing")
        self.ids = tuple(map(str, range(len(samples))))

    def __len__(self):
        return len(self.samples)

    def load(self, index):
        return self.samples[index]
