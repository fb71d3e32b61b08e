"""Random images of overlapping objects and of detections near them, with mistakes of every kind."""

import numpy as np
from scenes import detections_of, sample_of

NAMES = ("background", "a", "b", "c")


def random_image(rng, number):
    def boxes(count):
        corners = rng.integers(0, 14, (count, 2))
        return np.concatenate([corners, corners + rng.integers(1, 8, (count, 2))], axis=1)

    objects, found = int(rng.integers(0, 6)), int(rng.integers(0, 12))
    sample = sample_of(
        boxes(objects), rng.integers(1, 4, objects), name=str(number),
        crowd=rng.random(objects) < 0.2, difficult=rng.random(objects) < 0.2, void=rng.random((20, 20)) < 0.05,
    )  # fmt: skip
    near = boxes(found)
    if objects:
        owner = rng.integers(0, objects, found)
        moved = np.clip(sample.gt_boxes[owner] + rng.integers(-1, 2, (found, 4)), 0, 20)
        near = np.where(rng.random((found, 1)) < 0.7, moved, near)
    return sample, detections_of(near, np.round(rng.random(found), 1), rng.integers(1, 4, found))
