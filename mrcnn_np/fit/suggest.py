"""Anchor sizes and ratios that fit given objects better, found by clustering."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..config import Config
from .anchors import best_overlaps, grid_distances, overlaps_at

_MOST = 1000  # objects that the search looks at, evenly chosen
_FACTORS = (1.3, 0.77, 1.1, 0.91, 1.03, 0.97)
_ROUNDS = 12
#: rise of the score below which nothing is suggested
LEAST_GAIN = 0.01


def suggest(boxes: np.ndarray, canvases: np.ndarray, config: Config) -> dict[str, tuple[float, ...]]:
    """Return ``anchor_sizes`` and ``anchor_ratios`` that fit the objects better.

    Logarithms of sizes (square root of the area) are clustered into as many as the configuration has, which for a
    pyramid is one for each level, and logarithms of ratios into as many as it has of these, so that the number of
    parameters stays. From there, and from the configuration's own and from evenly spread sizes, each number is moved in
    turn while that raises the ``score`` of the objects' best anchors: this knows of strides, so that small objects do
    not end on a level whose grid is too coarse for them. The best of the three is rounded. Nothing is drawn at random.

    Parameters
    ----------
    boxes : ndarray of shape (O, 4)
        ``(y1, x1, y2, x2)`` in molded pixels.
    canvases : ndarray of shape (O, 2)
        (H, W) of the canvas of each.
    config : Config

    Returns
    -------
    dict
        The fields that change, as ``Config.replace`` takes them; empty if there are no objects, if the score
        would rise by less than ``LEAST_GAIN``, or if the mean best IoU or the share of objects with a positive anchor
        would fall.
    """
    if not len(boxes):
        return {}
    every = np.linspace(0, len(boxes) - 1, min(len(boxes), _MOST)).astype(int)
    some, there = np.asarray(boxes, np.float64)[every], np.asarray(canvases)[every]
    climber = _Climber(some, there, config)
    found = [climber.climb(*start) for start in _starts(some, config)]
    _, sizes, ratios = max(found, key=lambda f: f[0])
    changes = {"anchor_sizes": tuple(map(_rounded, sizes)), "anchor_ratios": tuple(sorted(round(r, 2) for r in ratios))}
    now, then = (best_overlaps(boxes, canvases, c).max(axis=(1, 2)) for c in (config, config.replace(**changes)))
    clearly = score(then, config) - score(now, config) >= LEAST_GAIN and then.mean() >= now.mean()
    least = config.rpn_positive_iou
    return changes if clearly and (then >= least).mean() >= (now >= least).mean() else {}


def as_options(changes: dict[str, tuple[float, ...]]) -> str:
    """Return changes as options of ``mrcnn-np train``, to paste into a shell."""
    return " ".join(f"--config '{name}=[{', '.join(f'{v:g}' for v in values)}]'" for name, values in changes.items())


def clusters(values: np.ndarray, count: int) -> np.ndarray:
    """Return the centres of ``count`` clusters of numbers in rising order: Lloyd's algorithm, from quantiles."""
    centres = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(100):
        nearest = np.abs(values[:, None] - centres).argmin(axis=1)
        members = np.bincount(nearest, minlength=count)
        sums = np.bincount(nearest, weights=values, minlength=count)
        moved = np.where(members > 0, sums / np.maximum(members, 1), centres)
        if np.allclose(moved, centres):
            break
        centres = moved
    return np.sort(centres)


def _starts(boxes: np.ndarray, config: Config) -> Iterator[tuple[list[float], list[float]]]:
    """Yield sizes and ratios from which to climb."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    log_size = np.log(sides.prod(axis=1)) / 2
    log_ratio = np.log(sides[:, 0] / sides[:, 1])
    if config.anchor_ratio_meaning == "width_over_height":
        log_ratio = -log_ratio
    count = len(config.anchor_ratios)
    ratios = np.exp(clusters(log_ratio, count)).tolist()
    yield list(map(float, config.anchor_sizes)), list(map(float, config.anchor_ratios))
    sizes = len(config.anchor_sizes)
    yield np.exp(clusters(log_size, sizes)).tolist(), ratios
    low, high = np.quantile(log_size, (0.1, 0.9))
    yield np.exp(np.linspace(low, high, sizes)).tolist(), ratios


class _Climber:
    """Moves one number after the other while that raises the score."""

    def __init__(self, boxes: np.ndarray, canvases: np.ndarray, config: Config) -> None:
        self.config, self.distances = config, grid_distances(boxes, canvases, config)
        self.sides = np.asarray(boxes[:, 2:] - boxes[:, :2], np.float64)

    def climb(self, sizes: list[float], ratios: list[float]) -> tuple[float, list[float], list[float]]:
        """Return the score that is reached, with sizes and ratios."""
        best = self._score(sizes, ratios)
        for _ in range(_ROUNDS):
            before = best
            for numbers in (sizes, ratios):
                for place in range(len(numbers)):
                    for factor in _FACTORS:
                        old = numbers[place]
                        numbers[place] = min(max(old * factor, 0.05), 5e4)
                        new = self._score(sizes, ratios)
                        if new > best + 1e-6:
                            best = new
                        else:
                            numbers[place] = old
            if best - before < 1e-4:
                break
        return best, sizes, ratios

    def _score(self, sizes: list[float], ratios: list[float]) -> float:
        if sizes != sorted(sizes):
            return -1.0
        root = np.sqrt(ratios)
        if self.config.anchor_ratio_meaning == "width_over_height":
            root = 1 / root
        halves = np.multiply.outer(np.array(sizes) / 2, np.stack([root, 1 / root], axis=1))  # (sizes, ratios, 2)
        if self.config.neck == "none":  # all of them on the one map
            halves = halves.reshape(1, -1, 2)
        if self.config.anchor_rounding:
            halves = np.maximum(np.round(halves), 0.5)
        best = overlaps_at(self.distances, self.sides, halves).max(axis=(1, 2))
        return score(best, self.config)


def score(best: np.ndarray, config: Config) -> float:
    """Return what is made large: mean best IoU, twice up to ``rpn_positive_iou``, and the share that reaches it.

    Lifting an object to where an anchor is positive is worth more than making a good anchor better.

    Parameters
    ----------
    best : ndarray of shape (O,)
        IoU of each object with its best anchor.
    config : Config
    """
    least = config.rpn_positive_iou
    return float((best + np.minimum(best, least)).mean() / 2 + (best >= least).mean() / 4)


def _rounded(size: float) -> float:
    return max(round(size, 1), 0.1) if size < 10 else float(round(size))
