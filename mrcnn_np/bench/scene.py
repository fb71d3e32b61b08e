"""A picture and objects in it: work for every part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..compare.lively import picture
from ..config import Config
from ..data.sample import Sample
from ..molding import Batch, make_batch


def sample(size: tuple[int, int], image_id: str = "0", *, classes: int = 4) -> Sample:
    """Return a picture with three ellipses marked in it, of a twentieth to a quarter of its area."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    masks, boxes = [], []
    for cy, cx, ry, rx in ((0.3, 0.25, 0.2, 0.2), (0.6, 0.65, 0.3, 0.25), (0.75, 0.3, 0.12, 0.2)):
        mask = ((y / height - cy) / ry) ** 2 + ((x / width - cx) / rx) ** 2 <= 1
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        masks.append(mask)
        boxes.append([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
    flags = np.zeros(3, bool)
    class_ids = np.arange(3) % (classes - 1) + 1
    return Sample(
        image_id, picture(size), np.array(boxes, np.float32), class_ids, np.array(masks), flags, flags,
        np.zeros(size, bool),
    )  # fmt: skip


def batch(size: tuple[int, int], config: Config) -> Batch:
    """Return ``config.batch_size`` times the same image, ready for training."""
    one = sample(size, classes=config.num_classes)
    return make_batch([replace(one, image_id=str(i)) for i in range(config.batch_size)], config)
