"""A picture and objects in it: work for every part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..config import Config
from ..data.sample import Sample
from ..molding import Batch, make_batch
from ..resizing import enclosing_boxes
from ..synthetic import picture


def sample(size: tuple[int, int], image_id: str = "0", *, classes: int = 4) -> Sample:
    """Return a picture with three ellipses marked in it, of a twentieth to a quarter of its area."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    ellipses = ((0.3, 0.25, 0.2, 0.2), (0.6, 0.65, 0.3, 0.25), (0.75, 0.3, 0.12, 0.2))
    masks = np.array([((y / height - cy) / ry) ** 2 + ((x / width - cx) / rx) ** 2 <= 1 for cy, cx, ry, rx in ellipses])
    flags = np.zeros(3, bool)
    class_ids = np.arange(3) % (classes - 1) + 1
    return Sample(
        image_id, picture(size), enclosing_boxes(masks, np.float32), class_ids, masks, flags, flags,
        np.zeros(size, bool),
    )  # fmt: skip


def batch(size: tuple[int, int], config: Config) -> Batch:
    """Return ``config.batch_size`` times the same image, ready for training."""
    one = sample(size, classes=config.num_classes)
    return make_batch([replace(one, image_id=str(i)) for i in range(config.batch_size)], config)
