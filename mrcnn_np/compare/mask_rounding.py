"""Which pixels of pasted masks rounding decides.

A pixel is painted if the probability there reaches the threshold, and most ways of pasting bring the box to whole
pixels first. Where a probability lies within rounding of the threshold, or a corner within rounding of a whole pixel,
two correct programs paint differently: one pixel, or a row of them. So does torchvision beside itself, with its
weights in another memory layout or its sums over two threads.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from ..config import Config
from ..detections import paste_masks

#: what float32 may change. Measured on 2,500 masks in photographs at full size: probabilities by 6e-5 between
#: torchvision and us and by 5e-5 between torchvision and itself, corners of boxes by 5e-4 and 4e-4 pixels
PROBABILITY = 1e-4
PIXELS = 1e-3


def pixels_left_to_rounding(
    probabilities: np.ndarray, boxes: np.ndarray, image_shape: tuple[int, int], config: Config
) -> np.ndarray:
    """Return the pixels that are painted or not, depending on shifts of ``PROBABILITY`` and ``PIXELS``.

    Parameters
    ----------
    probabilities : ndarray of shape (D, m, m)
    boxes : ndarray of shape (D, 4)
        ``(y1, x1, y2, x2)`` in pixels of the image.
    image_shape : tuple of int
        (H, W).
    config : Config
        ``mask_paste`` and ``mask_threshold``.

    Returns
    -------
    ndarray of shape (D, H, W), bool
    """
    pixels = np.empty((len(boxes), *image_shape), bool)
    stricter, laxer = (config.replace(mask_threshold=config.mask_threshold + s * PROBABILITY) for s in (1, -1))
    shifts = PIXELS * np.array(list(product((-1, 1), repeat=4)), boxes.dtype)  # every side moves either way
    for d, box in enumerate(boxes):  # one by one: sixteen shifted copies of all masks would not fit
        same = np.repeat(probabilities[d : d + 1], len(shifts), axis=0)
        always, ever = (paste_masks(same, box + shifts, image_shape, c) for c in (stricter, laxer))
        pixels[d] = ever.any(axis=0) & ~always.all(axis=0)
    return pixels
