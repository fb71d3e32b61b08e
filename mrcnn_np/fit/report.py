"""All that can be said before training of how a configuration fits a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ..config import Config
from ..data.sample import Dataset
from ..errors import DataError
from ..tables import text_table
from .anchors import best_overlaps, found_by, network_anchors, perfect_proposals, positives_per_level
from .masks import mask_losses
from .suggest import as_options, suggest
from .truth import Truth, truth_of

COUNTS = (100, 300, 1000)
MASK_SIZES = (14, 28, 56)
#: images of which positives, proposals and masks are measured, evenly chosen; the best anchor is found for all objects
MOST_IMAGES = 100


def level_names(config: Config) -> tuple[str, ...]:
    """Return the levels as tables name them: P2 .. P6, or the one map of a network without pyramid, C4 or conv5_3."""
    return tuple(name.capitalize() if len(name) == 2 else name for name in config.levels)


@dataclass(frozen=True, repr=False)
class AnchorFit:
    """How the anchors of one configuration fit.

    Attributes
    ----------
    config : Config
    best : ndarray of shape (O,)
        IoU of each object with its best anchor.
    level : ndarray of shape (O,), int64
        The level of that anchor, 0 for P2.
    positives : ndarray of shape (L,)
        Positive anchors on each level, mean over the images.
    recall : dict of str to ndarray of shape (3,)
        Share of the objects that the first 100, 300 and 1000 perfect proposals cover, "as they stand" and "decoded"
        (``anchors.perfect_proposals``), at the IoU from which a region is positive.
    """

    config: Config
    best: np.ndarray
    level: np.ndarray
    positives: np.ndarray
    recall: dict[str, np.ndarray]

    @property
    def saved(self) -> float:
        """Share of the objects with an anchor that only the best-anchor rule makes positive: all are below the IoU."""
        return _mean((self.best > 0) & (self.best < self.config.rpn_positive_iou))

    @property
    def background(self) -> float:
        """Share of the objects whose best anchor would count as background without that rule."""
        return _mean(self.best < self.config.rpn_negative_iou)

    def cells(self) -> list[str]:
        """Return a column of the table, its heading left out."""
        share = [_percent(_mean(self.level == k)) for k in range(len(self.positives))]
        return [
            f"{_mean(self.best):.3f}",
            f"{np.quantile(self.best, 0.05) if len(self.best) else 0:.3f}",
            _percent(_mean(self.best >= self.config.rpn_positive_iou)),
            _percent(self.saved),
            _percent(self.background),
            " ".join(share),
            " ".join(f"{n:.1f}" for n in self.positives),
            *(" ".join(_percent(v) for v in self.recall[kind]) for kind in ("as they stand", "decoded")),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON."""
        return {
            "anchor_sizes": list(self.config.anchor_sizes),
            "anchor_ratios": list(self.config.anchor_ratios),
            "mean_best_iou": _mean(self.best),
            "only_by_best_anchor_rule": self.saved,
            "best_below_negative_iou": self.background,
            "objects_on_level": {name: _mean(self.level == k) for k, name in enumerate(level_names(self.config))},
            "positives_per_image": dict(zip(level_names(self.config), self.positives.tolist())),
            "recall_of_perfect_proposals": {
                kind: dict(zip(map(str, COUNTS), values.tolist())) for kind, values in self.recall.items()
            },
        }


@dataclass(frozen=True, repr=False)
class FitReport:
    """What ``measure`` found.

    Attributes
    ----------
    images, looked_at, crowds : int
        Images, those of which positives, proposals and masks were measured, and crowds, which are left out.
    boxes : ndarray of shape (O, 4)
        All objects in molded pixels.
    now : AnchorFit
    better : AnchorFit or None
        Under the sizes and ratios that are suggested; None if none fit clearly better.
    changes : dict
        Those sizes and ratios.
    masks : ndarray of shape (4, 2)
        For the training size alone and m = 14, 28, 56: mean IoU and mean share of the outline that is lost.
    """

    images: int
    looked_at: int
    crowds: int
    boxes: np.ndarray
    now: AnchorFit
    better: AnchorFit | None
    changes: dict[str, tuple[float, ...]]
    masks: np.ndarray

    @property
    def options(self) -> str:
        """What is suggested, as options to paste behind ``mrcnn-np train``; empty if nothing is."""
        return as_options(self.changes)

    def __repr__(self) -> str:
        """Return the table."""
        return self.table()

    def table(self) -> str:
        """Return all as text for a terminal."""
        return "\n\n".join([self._objects(), self._anchors(), self._masks(), self._advice()])

    def _objects(self) -> str:
        config = self.now.config
        crowds = f", and {self.crowds} crowds, which are no targets" if self.crowds else ""
        lines = [f"{len(self.boxes)} objects in {self.images} images{crowds}; preset {config.name}"]
        if len(self.boxes):
            small, middle, large = np.quantile(sizes_of(self.boxes), (0.05, 0.5, 0.95))
            lines.append(
                f"root of the area at the training size: {middle:.0f} pixels, 90 % of them {small:.0f} .. {large:.0f}"
            )
        if self.looked_at < self.images:
            lines.append(f"positives, proposals and masks are those of {self.looked_at} images, evenly chosen")
        return "\n".join(lines)

    def _anchors(self) -> str:
        config = self.now.config
        positive, region = config.rpn_positive_iou, config.roi_positive_iou
        saved = "only the best-anchor rule saves" if config.rpn_match_best else "no positive anchor at all"
        levels = " .. ".join(dict.fromkeys((level_names(config)[0], level_names(config)[-1])))
        names = [
            "best IoU, mean",
            "best IoU, worst twentieth",
            f"objects with an anchor of IoU >= {positive:g}",
            f"  the others: {saved}",
            f"  best anchor below {config.rpn_negative_iou:g}: like background",
            f"objects by level of the best anchor, {levels}",
            f"positive anchors in an image, {levels}",
            f"recall at {' / '.join(map(str, COUNTS))}, anchors as they stand (IoU {region:g})",
            "  the same, decoded exactly",
        ]
        fits = [self.now] + ([self.better] if self.better else [])
        head = ["anchors", "now", "suggested"][: 1 + len(fits)]
        return text_table(head, zip(names, *(fit.cells() for fit in fits)), align="<>", rule=True)

    def _masks(self) -> str:
        own = 2 * self.now.config.mask_pool_size
        names = ["training size alone", *(f"m = {m}{' (this configuration)' if m == own else ''}" for m in MASK_SIZES)]
        rows = [(name, f"{iou:.3f}", _percent(lost)) for name, (iou, lost) in zip(names, self.masks)]
        return text_table(("perfect masks", "mean IoU", "outline lost"), rows, align="<>", rule=True)

    def _advice(self) -> str:
        if not len(self.boxes):
            return "there is no object to fit anchors to"
        if not self.changes:
            return "no sizes and ratios were found that fit clearly better"
        few = f" (from {len(self.boxes)} objects only)" if len(self.boxes) < 200 else ""
        return f"these fit better{few}:\n  {self.options}"

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers for JSON."""
        names = ["training size", *map(str, MASK_SIZES)]
        return {
            "preset": self.now.config.name,
            "images": self.images,
            "objects": len(self.boxes),
            "crowds": self.crowds,
            "now": self.now.as_dict(),
            "suggested": self.better.as_dict() if self.better else None,
            "options": self.options,
            "masks": {n: {"iou": float(i), "outline_lost": float(lost)} for n, (i, lost) in zip(names, self.masks)},
        }


def measure(dataset: Dataset, config: Config, *, progress: bool = False) -> FitReport:
    """Measure how a configuration fits the objects of a data set, and look for anchors that fit better.

    Parameters
    ----------
    dataset : Dataset
    config : Config
        Augmentation is left out: objects have the size to which images are resized.
    progress : bool
        Show a bar on stderr.

    Raises
    ------
    DataError
        The data set has no image, or one cannot be read.
    """
    if not len(dataset):
        raise DataError("the data set has no image; expected at least one")
    chosen = set(np.linspace(0, len(dataset) - 1, min(len(dataset), MOST_IMAGES)).astype(int).tolist())
    boxes, canvases, kept, crowds = [np.zeros((0, 4), np.float32)], [np.zeros((0, 2), np.int64)], [], 0
    losses = [np.zeros((0, 1 + len(MASK_SIZES), 2))]
    for n in tqdm(range(len(dataset)), desc="look at objects", unit="image", disable=not progress):
        truth = truth_of(dataset.load(n), config)
        boxes.append(truth.objects)
        canvases.append(np.tile(np.array(truth.molding.molded_shape), (len(truth.objects), 1)))
        crowds += int(truth.crowd.sum())
        if n in chosen:
            kept.append(truth)
            losses.append(mask_losses(truth, config, MASK_SIZES))
    all_boxes, all_canvases = np.concatenate(boxes), np.concatenate(canvases)
    changes = suggest(all_boxes, all_canvases, config)
    return FitReport(
        images=len(dataset),
        looked_at=len(kept),
        crowds=crowds,
        boxes=all_boxes,
        now=_fit(kept, all_boxes, all_canvases, config, "anchors now", progress),
        better=_fit(kept, all_boxes, all_canvases, config.replace(**changes), "suggested", progress)
        if changes
        else None,
        changes=changes,
        masks=np.concatenate(losses).mean(axis=0)
        if sum(map(len, losses))
        else np.full((1 + len(MASK_SIZES), 2), np.nan),
    )


def _fit(
    truths: Sequence[Truth], boxes: np.ndarray, canvases: np.ndarray, config: Config, label: str, progress: bool
) -> AnchorFit:
    overlaps = best_overlaps(boxes, canvases, config).max(axis=2)  # (O, L)
    positives = np.zeros(len(config.levels))
    found = {"as they stand": np.zeros(len(COUNTS)), "decoded": np.zeros(len(COUNTS))}
    for truth in tqdm(truths, desc=label, unit="image", disable=not progress):
        anchors = network_anchors(truth.molding.molded_shape, config)
        positives += positives_per_level(truth, anchors, config)
        perfect = perfect_proposals(truth, anchors, config, count=max(COUNTS))
        for counted, proposals in zip(found.values(), perfect):
            counted += found_by(truth.objects, proposals, COUNTS, config.roi_positive_iou)
    objects = max(sum(len(truth.objects) for truth in truths), 1)
    recall = {kind: counted / objects for kind, counted in found.items()}
    return AnchorFit(config, overlaps.max(axis=1), overlaps.argmax(axis=1), positives / max(len(truths), 1), recall)


def sizes_of(boxes: np.ndarray) -> np.ndarray:
    """Return the square root of the area of each of (O, 4) boxes."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.sqrt(sides.prod(axis=1))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share == share else "-"
