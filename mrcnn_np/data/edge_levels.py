"""Are outlines drawn alike? How bright pictures are along them, between the object and what is around it.

Annotators differ: one draws along the edge, another around the halo. Each picture looks right by itself, and a network
that is shown both ways learns something between them. Where objects are brighter or darker than a plain background, as
under the microscope, it can be seen before anything is trained: an outline that goes around all that is brighter than
half of the way from the background to the object has the level 0.5, one around a halo 0.1. Blur makes no difference,
because it leaves the area above half of the way as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..errors import some_of
from .findings import Finding
from .masks import Masks, in_runs
from .photographs import name_of
from .sample import Sample

#: pixels from which on an object has an inside; objects of a picture that are looked at
SMALLEST, MOST = 20, 25
#: grey levels, of 255, by which an object must differ from what is around it
LEAST_CONTRAST = 6.0
#: a picture says something if so many of its objects do, and half of them agree within so much
LEAST_OBJECTS, AGREE = 5, 0.2
#: ... and a data set if so many of its pictures do, and they are half of those with so many objects
LEAST_PICTURES = 10
#: pictures after which no more are looked at, if fewer than a quarter of them say something: photographs take long
PATIENCE = 40
#: a picture is drawn otherwise if its level is so far from that of most; pictures that are named
APART, NAMED = 0.15, 3


class EdgeLevels:
    """Looks at one sample after the other."""

    def __init__(self) -> None:
        self._tried = 0  # pictures of so many objects that they could say something
        self._levels: list[float] = []
        self._names: list[str] = []

    def add(self, sample: Sample) -> None:
        """Look at a sample, unless it has few objects, or those of many pictures before have said nothing."""
        if (in_runs(sample.gt_masks).areas >= SMALLEST).sum() < LEAST_OBJECTS:
            return
        if self._tried >= PATIENCE and len(self._levels) < self._tried / 4:
            return
        self._tried += 1
        levels = edge_levels(sample)
        if len(levels) >= LEAST_OBJECTS and np.subtract(*np.percentile(levels, [75, 25])) <= AGREE:
            self._levels.append(float(np.median(levels)))
            self._names.append(name_of(sample))

    def findings(self) -> list[Finding]:
        """Return what is to be said: nothing, or of pictures that are drawn further out or in than most."""
        if len(self._levels) < max(LEAST_PICTURES, self._tried / 2):
            return []
        levels, found = np.array(self._levels), []
        usual = float(np.median(levels))
        for far, where in ((levels < usual - APART, "out"), (levels > usual + APART, "in")):
            which = np.flatnonzero(far)
            if len(which):
                extreme = which[np.argsort(-np.abs(levels[which] - usual), kind="stable")]
                text = (
                    f"outlines run further {where} than in most: at {np.median(levels[far]):.0%} of the way from the "
                    f"brightness around an object to that within, {usual:.0%} on the whole (medians). A network that "
                    "is shown two ways of drawing draws between them; look at both with `mrcnn-np data show "
                    "--outlines`, and draw alike what can be"
                )
                names, unit = tuple(self._names[place] for place in extreme), "images where it can be told"
                example = some_of(names, NAMED)
                found.append(Finding(text, len(names), len(levels), example, unit=unit, concerns=names))
        return found


def edge_levels(sample: Sample) -> np.ndarray:
    """Return for each object how bright the picture is along its outline, from 0, as around it, to 1, as within.

    Parameters
    ----------
    sample : Sample
        At most 25 of its objects are looked at, evenly over their order.

    Returns
    -------
    ndarray of shape (objects,)
        Without those that are small, crowds, surrounded by others, or as bright as what is around them.

    Notes
    -----
    Let a be the area of the mask, and r a third of its square root, at least 3. Of the pixels within r of the mask and
    not of a neighbour, the a brightest (darkest, where the object is dark) would be the mask, were it drawn by
    brightness: the last of them is the brightness along the outline. That within is the median over the core, that
    around the median at the distance r.
    """
    masks, grey = in_runs(sample.gt_masks), sample.image.mean(axis=2, dtype=np.float32)
    large = np.flatnonzero((masks.areas >= SMALLEST) & ~sample.gt_crowd)
    chosen = large[np.linspace(0, len(large) - 1, min(len(large), MOST)).astype(int)]
    levels = (_level(k, masks, grey) for k in chosen)
    return np.array([level for level in levels if level is not None])


def _level(k: int, masks: Masks, grey: np.ndarray) -> float | None:
    """Return the level of one object, or None if nothing can be said of it."""
    area, box = int(masks.areas[k]), masks.boxes[k]
    r = max(3, int(np.sqrt(area) / 3))
    (y1, x1), (y2, x2) = np.maximum(box[:2] - r, 0).astype(int), np.minimum(box[2:] + r, masks.size).astype(int)
    window = (int(y1), int(x1), int(y2), int(x2))
    mask, values = masks.crop(k, window), grey[y1:y2, x1:x2]
    within = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    beyond = ndimage.distance_transform_edt(~mask)
    from_others = _distance_to_others(k, masks, window)
    around = (beyond > r - 1.5) & (beyond <= r) & (from_others > r)
    if around.sum() < 8:
        return None
    inner, outer = float(np.median(values[within >= 0.6 * within.max()])), float(np.median(values[around]))
    if abs(inner - outer) < LEAST_CONTRAST:
        return None
    near = np.sort(values[(beyond <= r) & (from_others > 2)])
    ranked = near[::-1] if inner > outer else near
    return (float(ranked[min(area, len(ranked) - 1)]) - outer) / (inner - outer)


def _distance_to_others(k: int, masks: Masks, window: Sequence[int]) -> np.ndarray:
    """Return how far each pixel of a window is from the objects other than ``k``."""
    y1, x1, y2, x2 = window
    low, high = masks.boxes[:, :2], masks.boxes[:, 2:]
    meets = ((low < [y2, x2]) & (high > [y1, x1])).all(axis=1) & (masks.areas > 0)
    others = np.zeros((y2 - y1, x2 - x1), bool)
    for other in np.flatnonzero(meets):
        if other != k:
            others |= masks.crop(int(other), window)
    return ndimage.distance_transform_edt(~others) if others.any() else np.full(others.shape, np.inf)
