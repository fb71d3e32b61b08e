"""Coordinates in percent of the image, as Label Studio exports them, where pixels are expected."""

from __future__ import annotations

import numpy as np

from .findings import Finding
from .photographs import name_of
from .sample import Sample

#: objects without which nothing is said; images of which a side is no longer are left out
LEAST_OBJECTS, LEAST_SIDE = 20, 200
#: how far beyond 0 .. 100 a percentage may lie: tools round, and draw a little across the edge
_TOLERANCE = 0.5


class Percent:
    """Looks at one sample after the other for coordinates in percent.

    They are if no box of a data set leaves 0 .. 100, though the images are larger, and some are no whole numbers:
    all objects would lie in the corner at the top left.
    """

    def __init__(self) -> None:
        self._beyond, self._whole = False, True
        self._places: list[str] = []  # of all objects, as long as none is further out

    def add(self, sample: Sample) -> None:
        """Look at a sample."""
        boxes = np.asarray(sample.gt_boxes, np.float64)
        if self._beyond or not len(boxes) or min(sample.image.shape[:2]) <= LEAST_SIDE:
            return
        self._beyond = bool((boxes < -_TOLERANCE).any() or (boxes > 100 + _TOLERANCE).any())
        self._whole = self._whole and bool((boxes == np.round(boxes)).all())
        if self._beyond:
            self._places.clear()
            return
        name, (height, width) = name_of(sample), sample.image.shape[:2]
        for number, box in enumerate(boxes, start=1):
            y1, x1, y2, x2 = (f"{v:.4g}" for v in box)
            where = f"x {x1} .. {x2}, y {y1} .. {y2} of {width} x {height}"
            self._places.append(f"object {number} of image {name}, {where}")

    def findings(self) -> list[Finding]:
        """Return what is to be said: one finding, or none."""
        count = len(self._places)
        if self._beyond or self._whole or count < LEAST_OBJECTS:
            return []
        text = (
            "lie within 0 .. 100 pixels, at the top left of images that are larger: the coordinates look like percent "
            "of the image, as Label Studio writes them; expected pixels: multiply x by the image's width / 100 and y "
            "by its height / 100, or export as COCO"
        )
        return [Finding(text, count, count, self._places[0], concerns=tuple(self._places))]
