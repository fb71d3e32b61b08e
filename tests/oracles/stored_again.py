"""Made photographs, and the ways in which one comes to be stored a second time."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from mrcnn_np.data import open_dataset


def real_pictures(kind):
    """The train split of a real data set; the test is skipped where there is none."""
    variable = f"{kind.upper()}_ROOT"
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set")
    return open_dataset(kind, None, "train")


def photograph(seed, shape=(90, 120)):
    """A made picture: soft blobs of light and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / shape[0]
    light = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / c) for a, b, c in rng.uniform(0.02, 1, (6, 3)) * [1, 1.3, 0.1])
    colour = 20 + 160 * light[..., None] / light.max() * rng.uniform(0.6, 1, 3) + rng.normal(0, 4, (*shape, 3))
    return colour.clip(0, 255).astype(np.uint8)


def as_jpeg(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def resized(image, factor):
    height, width = image.shape[:2]
    size = max(round(width * factor), 24), max(round(height * factor), 24)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


SECOND = {
    "JPEG of quality 20": lambda image: as_jpeg(image, 20),
    "half the size": lambda image: resized(image, 0.5),
    "twice the size": lambda image: resized(image, 2),
    "a third, as JPEG": lambda image: as_jpeg(resized(image, 1 / 3), 60),
    "brighter": lambda image: (image * 1.3).clip(0, 255).astype(np.uint8),
    "darker": lambda image: (image * 0.7).astype(np.uint8),
}
