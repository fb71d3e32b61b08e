"""Small configurations and made-up samples that several tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
from scenes import sample_of

from mrcnn_np import presets
from mrcnn_np.config import Config
from mrcnn_np.data.sample import Sample


def small_config(**changes: Any) -> Config:
    """The tiny preset cut down to 64 pixels and a few RoIs: one step takes a fraction of a second."""
    settings: dict[str, Any] = {
        "image_min_size": 64,
        "image_max_size": 64,
        "fpn_channels": 8,
        "rpn_channels": 8,
        "rpn_anchors_per_image": 32,
        "rois_per_image": 16,
        "proposals_pre_nms_train": 60,
        "proposals_post_nms_train": 30,
        "proposals_pre_nms_test": 60,
        "proposals_post_nms_test": 20,
        "box_head_channels": 16,
        "mask_head_convs": 1,
        "mask_head_channels": 8,
    }
    return presets.tiny(**(settings | changes))


def make_sample(
    rng: np.random.Generator, *, size: tuple[int, int] = (64, 64), objects: int = 2, name: str = "a"
) -> Sample:
    """Noise with ``objects`` brighter rectangles in it."""
    h, w = size
    image = rng.integers(0, 100, (h, w, 3), dtype=np.uint8)
    boxes = np.zeros((objects, 4), np.float32)
    for g in range(objects):
        bh, bw = int(rng.integers(h // 4, h // 2)), int(rng.integers(w // 4, w // 2))
        y, x = int(rng.integers(0, h - bh)), int(rng.integers(0, w - bw))
        boxes[g] = y, x, y + bh, x + bw
        image[y : y + bh, x : x + bw] += np.uint8(100 + 20 * g)
    return sample_of(boxes, 1 + np.arange(objects) % 3, shape=size, name=name, image=image)


def as_float64(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: p.astype(np.float64) for name, p in params.items()}
