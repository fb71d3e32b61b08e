"""Anchor sizes and ratios that fit given objects better, found by clustering and climbing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..config import Config
from .anchors import best_overlaps, grid_distances, overlaps_at

_MOST = 2000  # objects that the search looks at, evenly chosen
_FACTORS = (1.3, 0.77, 1.1, 0.91, 1.03, 0.97)
_ROUNDS = 12
_APART = 1.2  # sizes of neighbouring levels: nearer ones are the same anchor twice, on a coarser grid
_COST = 10.0  # what a fall of a limit costs, beside what the score can win
#: rise of the score below which nothing is suggested
LEAST_GAIN = 0.01
#: what a mean IoU or a share may fall without being called worse: it rounds to the same percent
MARGIN = 0.005


def suggest(boxes: np.ndarray, canvases: np.ndarray, config: Config) -> dict[str, tuple[float, ...]]:
    """Return ``anchor_sizes`` and ``anchor_ratios`` that fit the objects better: the first of ``candidates``.

    Parameters
    ----------
    boxes, canvases, config
        As in ``candidates``.

    Returns
    -------
    dict
        The fields that change, as ``Config.replace`` takes them; empty if there is no candidate.
    """
    return next(candidates(boxes, canvases, config), {})


class Tried(NamedTuple):
    """Sizes and ratios that fit the objects better by the score.

    Attributes
    ----------
    changes : dict
        The fields that change, as ``Config.replace`` takes them.
    fall : float
        By how much the one of the ``limits`` falls that falls most; negative if all rise.
    """

    changes: dict[str, tuple[float, ...]]
    fall: float


def candidates(boxes: np.ndarray, canvases: np.ndarray, config: Config) -> Iterator[dict[str, tuple[float, ...]]]:
    """Yield sizes and ratios that fit the objects better and nothing worse, those with the best score first.

    Parameters
    ----------
    boxes, canvases, config
        As in ``tried``.

    Yields
    ------
    dict
        The fields that change, of all that were tried and lower none of the ``limits`` by more than ``MARGIN``.
    """
    return (one.changes for one in tried(boxes, canvases, config) if one.fall <= MARGIN)


def tried(boxes: np.ndarray, canvases: np.ndarray, config: Config) -> Iterator[Tried]:
    """Yield sizes and ratios that raise the score, those with the best score first.

    Logarithms of sizes (square root of the area) are clustered into as many as the configuration has, which for a
    pyramid is one for each level, and logarithms of ratios into as many as it has of these, so that the number of
    parameters stays. From there, and from the
    configuration's own and from evenly spread sizes, each number is moved in turn while that raises the ``score`` of
    the objects' best anchors: this knows of strides, so that small objects do not end on a level whose grid is too
    coarse for them. A fall of one of the ``limits`` costs more than the score can win: what is gained in the mean is
    not paid for by the objects that fit worst. Halfway from the configuration's own numbers to each that was found,
    there is a more careful candidate. Nothing is drawn at random.

    Parameters
    ----------
    boxes : ndarray of shape (O, 4)
        ``(y1, x1, y2, x2)`` in molded pixels.
    canvases : ndarray of shape (O, 2)
        (H, W) of the canvas of each.
    config : Config

    Yields
    ------
    Tried
        None are yielded if there are no objects, or where the score would rise by less than ``LEAST_GAIN``.
    """
    if not len(boxes):
        return
    every = np.linspace(0, len(boxes) - 1, min(len(boxes), _MOST)).astype(int)
    some, there = np.asarray(boxes, np.float64)[every], np.asarray(canvases)[every]
    climber = _Climber(some, there, config)
    found = sorted((climber.climb(*start) for start in _starts(some, config)), key=lambda f: -f[0])
    full = [(sizes, ratios) for _, sizes, ratios in found]
    now = best_overlaps(boxes, canvases, config).max(axis=(1, 2))
    seen: list[dict[str, tuple[float, ...]]] = []
    for sizes, ratios in full + [_halfway(sizes, ratios, config) for sizes, ratios in full]:
        changes = {"anchor_sizes": _rounded(sizes), "anchor_ratios": tuple(sorted(round(r, 2) for r in ratios))}
        if changes in seen:
            continue
        seen.append(changes)
        then = best_overlaps(boxes, canvases, config.replace(**changes)).max(axis=(1, 2))
        if score(then, config) - score(now, config) >= LEAST_GAIN:
            yield Tried(changes, float((limits(now, config) - limits(then, config)).max()))


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
    count = len(config.anchor_sizes)
    yield _spaced(np.exp(clusters(log_size, count)).tolist()), ratios
    low, high = np.quantile(log_size, (0.1, 0.9))
    yield _spaced(np.exp(np.linspace(low, high, count)).tolist()), list(ratios)


def _spaced(sizes: list[float]) -> list[float]:
    """Return sizes of which each is well above the one before, pushed up where they were not."""
    spaced = sizes[:1]
    for size in sizes[1:]:
        spaced.append(max(size, 1.001 * _APART * spaced[-1]))
    return spaced


def _halfway(sizes: list[float], ratios: list[float], config: Config) -> tuple[list[float], list[float]]:
    """Return the geometric means of the configuration's numbers and of those that were found."""
    pairs = ((config.anchor_sizes, sizes), (sorted(config.anchor_ratios), sorted(ratios)))
    middle_sizes, middle_ratios = (np.sqrt(np.multiply(own, new)).tolist() for own, new in pairs)
    return middle_sizes, middle_ratios


class _Climber:
    """Moves one number after the other while that raises the score."""

    def __init__(self, boxes: np.ndarray, canvases: np.ndarray, config: Config) -> None:
        self.config, self.distances = config, grid_distances(boxes, canvases, config)
        self.sides = np.asarray(boxes[:, 2:] - boxes[:, :2], np.float64)
        self.limits = limits(best_overlaps(boxes, canvases, config).max(axis=(1, 2)), config)
        own = np.asarray(config.anchor_sizes, np.float64)
        self.apart = min(_APART, float((own[1:] / own[:-1]).min()))

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
        if any(b < self.apart * a for a, b in pairwise(sizes)):
            return -100.0
        root = np.sqrt(ratios)
        if self.config.anchor_ratio_meaning == "width_over_height":
            root = 1 / root
        halves = np.multiply.outer(np.array(sizes) / 2, np.stack([root, 1 / root], axis=1))  # (sizes, ratios, 2)
        if self.config.neck == "none":  # all of them on the one map
            halves = halves.reshape(1, -1, 2)
        if self.config.anchor_rounding:
            halves = np.maximum(np.round(halves), 0.5)
        best = overlaps_at(self.distances, self.sides, halves).max(axis=(1, 2))
        falls = np.maximum(self.limits - limits(best, self.config), 0).sum()
        return score(best, self.config) - _COST * float(falls)


def score(best: np.ndarray, config: Config) -> float:
    """Return what is made large, of the objects' best anchors.

    The mean best IoU, twice up to ``rpn_positive_iou``; the share that reaches it; and the mean of the twentieth that
    fits worst. Lifting an object to where an anchor is positive is worth more than making a good anchor better, and
    each object of the worst twentieth counts ten times as much as another.

    Parameters
    ----------
    best : ndarray of shape (O,)
        IoU of each object with its best anchor.
    config : Config
    """
    least = config.rpn_positive_iou
    worst = np.partition(best, len(best) // 20)[: len(best) // 20 + 1]
    return float((best + np.minimum(best, least)).mean() / 2 + (best >= least).mean() / 4 + worst.mean() / 2)


def limits(best: np.ndarray, config: Config) -> np.ndarray:
    """Return what a suggestion must not lower, (5,) of float64.

    The mean best IoU, that of the worst twentieth, and the shares of objects with an anchor that is positive, that is
    no background, and that is a region of the object as it stands: ``rpn_positive_iou``, ``rpn_negative_iou`` and
    ``roi_positive_iou``.
    """
    shares = [(best >= v).mean() for v in (config.rpn_positive_iou, config.rpn_negative_iou, config.roi_positive_iou)]
    return np.array([best.mean(), np.quantile(best, 0.05), *shares])


def _rounded(sizes: list[float]) -> tuple[float, ...]:
    return tuple(max(round(size, 1), 0.1) if size < 10 else float(round(size)) for size in sizes)
