"""Drawing one scene of the shapes data set: shaded, textured circles, squares and triangles on a busy background."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .voc import VOID

SHAPES_CLASSES = ("background", "circle", "square", "triangle")
"""Class names by class id."""

_MAX_INSTANCES = 5
_MIN_VISIBLE = 0.3  # of an instance's area
_MIN_PIXELS = 60  # at size 128
_TRIES = 20


@dataclass(frozen=True)
class Scene:
    """One generated image.

    Attributes
    ----------
    image : ndarray of shape (H, W, 3), uint8
        RGB.
    indices : ndarray of shape (H, W), uint8
        0 background, k instance k, 255 void: the line along which an instance disappears behind another.
    class_ids : list of int
        Of instance 1, 2, ...
    truncated : list of bool
        Part of the instance is hidden or outside the image.
    """

    image: np.ndarray
    indices: np.ndarray
    class_ids: list[int]
    truncated: list[bool]


def draw_scene(size: int, rng: np.random.Generator) -> Scene:
    """Draw one image: a textured background and 1 to 5 shapes, later ones over earlier ones.

    Parameters
    ----------
    size : int
        Side in pixels; everything scales with ``size / 128``.
    rng : Generator

    Returns
    -------
    scene : Scene
    """
    image = _background(size, rng)
    indices = np.zeros((size, size), dtype=np.uint8)
    void = np.zeros((size, size), dtype=bool)
    class_ids: list[int] = []
    areas: list[float] = []  # of the whole shapes, also of what lies outside the image
    wanted = int(rng.integers(1, _MAX_INSTANCES + 1))
    for _ in range(_TRIES):
        if len(class_ids) == wanted:
            break
        class_id = int(rng.integers(1, len(SHAPES_CLASSES)))
        distance, area = _place(class_id, size, rng)
        inside = distance > 0
        # Void is the rim of what lies below, where a shape on top touches it.
        rim = _grown(inside) & ~inside & (indices > 0)
        after = np.where(inside, len(class_ids) + 1, indices).astype(np.uint8)
        after_void = (void & ~inside) | rim
        visible = [np.count_nonzero((after == k + 1) & ~after_void) for k in range(len(class_ids) + 1)]
        least = [max(_MIN_VISIBLE * a, _MIN_PIXELS * (size / 128) ** 2) for a in [*areas, area]]
        if any(v < a for v, a in zip(visible, least)):
            continue
        image = _paint(image, distance, rng)
        indices, void = after, after_void
        class_ids.append(class_id)
        areas.append(area)
    noise = rng.normal(0, rng.uniform(2, 7), image.shape)
    image = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    # A rim of half a pixel is lost to rounding at any slope: 3 % tolerates that.
    hidden = [bool(np.count_nonzero(indices == k + 1) < 0.97 * a) for k, a in enumerate(areas)]
    indices[void] = VOID
    return Scene(image, indices, class_ids, hidden)


def _place(class_id: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Choose place, extent and rotation of a shape.

    Returns
    -------
    distance : ndarray of shape (size, size)
        Distance of each pixel's centre (i + 0.5) to the shape's edge, positive inside.
    area : float
        In pixels.
    """
    # Uniform in the logarithm: as many shapes between 16 and 32 pixels as between 32 and 64.
    extent = math.exp(rng.uniform(math.log(14), math.log(64))) * size / 128  # about the side of the shape's box
    centre = rng.uniform(0.3 * extent, size - 0.3 * extent, size=2)
    angle = rng.uniform(0, 2 * math.pi)
    position = np.arange(size) + 0.5
    v, u = np.meshgrid(position - centre[0], position - centre[1], indexing="ij")
    u, v = math.cos(angle) * u + math.sin(angle) * v, math.cos(angle) * v - math.sin(angle) * u
    name = SHAPES_CLASSES[class_id]
    if name == "circle":
        radius = extent / 2
        return radius - np.hypot(u, v), math.pi * radius**2
    if name == "square":
        half = extent / 2 / 1.2  # a turned square's box is up to 1.41 times its side
        return half - np.maximum(np.abs(u), np.abs(v)), 4 * half**2
    # Equilateral triangle of inner radius r: the part common to three half-planes; its side is 2 sqrt(3) r.
    inner = extent / 3.2
    directions = [2 * math.pi * k / 3 for k in range(3)]
    planes = [inner - (math.cos(d) * u + math.sin(d) * v) for d in directions]
    return np.minimum.reduce(planes), 3 * math.sqrt(3) * inner**2


def _background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a background: a gradient, smooth noise of several scales, and lines and arcs that are no shapes."""
    position = np.linspace(-1, 1, size)
    slope = rng.normal(0, 25, size=(2, 3))
    image = rng.uniform(40, 215, size=3) + slope[0] * position[:, None, None] + slope[1] * position[None, :, None]
    for cells, strength in ((3, 28), (8, 16), (24, 9)):
        image = image + _smooth_noise(size, cells, 3, rng) * rng.uniform(0.3, 1) * strength
    canvas = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    unit = size / 128
    for _ in range(rng.integers(0, 7)):
        ends = rng.uniform(0, size, size=4)
        colour = tuple(int(c) for c in rng.integers(0, 256, size=3))
        width = max(1, round(rng.integers(1, 4) * unit))
        if rng.random() < 0.6:
            pen.line(tuple(ends), fill=colour, width=width)
        else:
            radius = rng.uniform(6, 40) * unit
            x, y, start = ends[0], ends[1], rng.uniform(0, 360)
            pen.arc(
                (x - radius, y - radius, x + radius, y + radius), start, start + rng.uniform(40, 200), colour, width
            )
    return np.asarray(canvas, dtype=np.float64)


def _paint(image: np.ndarray, distance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lay a shaded, textured shape over an image; its edge is smooth over one pixel."""
    size = len(image)
    cover = np.clip(distance + 0.5, 0, 1)[:, :, None]
    around = image[_grown(distance > -1) | (distance > 0)]
    # Of a few random colours the one that differs most from what it will lie on and beside.
    colours = rng.uniform(20, 235, size=(4, 3))
    colour = colours[np.argmax([np.abs(around - c).mean() for c in colours])]
    position = np.linspace(-1, 1, size)
    light = rng.uniform(0, 2 * math.pi)
    shade = 1 + rng.uniform(0, 0.35) * (math.cos(light) * position[:, None] + math.sin(light) * position[None, :])
    fill = colour * shade[:, :, None] + _texture(size, rng)[:, :, None]
    return image * (1 - cover) + np.clip(fill, 0, 255) * cover


def _texture(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a grey pattern around zero: plain, blotches, stripes or checks."""
    kind, strength = rng.integers(4), rng.uniform(8, 28)
    if kind == 0:
        return np.zeros((size, size))
    if kind == 1:
        return _smooth_noise(size, int(rng.integers(10, 30)), 1, rng)[:, :, 0] * strength
    angle, frequency = rng.uniform(0, 2 * math.pi), 2 * math.pi / (rng.uniform(5, 14) * size / 128)
    v, u = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    first = np.sin(frequency * (math.cos(angle) * u + math.sin(angle) * v))
    if kind == 2:
        return strength * first
    return strength * np.sign(first * np.sin(frequency * (math.cos(angle) * v - math.sin(angle) * u)))


def _smooth_noise(size: int, cells: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``(size, size, channels)`` of about unit strength: a coarse grid of random values, enlarged smoothly."""
    grid = rng.normal(size=(channels, cells, cells)).astype(np.float32)
    planes = [np.asarray(Image.fromarray(g).resize((size, size), Image.Resampling.BICUBIC)) for g in grid]
    return np.stack(planes, axis=-1).astype(np.float64)


def _grown(mask: np.ndarray) -> np.ndarray:
    """Return a mask with its four-neighbours added."""
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    out[:, 1:] |= mask[:, :-1]
    out[:, :-1] |= mask[:, 1:]
    return out
