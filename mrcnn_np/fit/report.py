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
from ..molding import at_size
from ..tables import counted, text_table
from .anchor_fit import COUNTS, AnchorFit, fit_anchors, level_names, mean, percent
from .masks import mask_losses
from .suggest import MARGIN, as_options, tried
from .truth import Truth, truth_of

MASK_SIZES = (14, 28, 56)
#: suggestions that are measured in full before the present anchors stay
MOST_CANDIDATES = 4
#: images of which positives, proposals and masks are measured, evenly chosen; the best anchor is found for all objects
MOST_IMAGES = 100
#: twice the training size is worth a word if that much more of a mask is left by it, in mean IoU
WORTH_A_SIZE = 0.03
#: ... and not where so much is left at the training size already
GOOD_ENOUGH = 0.95
#: what the table of masks needs said
OUTLINE_LOST = (
    "outline lost: edge pixels of the annotated mask that are more than a pixel from the edge of what is left of it;\n"
    "the first row comes back by the nearest pixel, m x m cells are smoothed: so they may come out a little above it"
)


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
        Under the sizes and ratios that are suggested; None if none fit clearly better and nothing worse.
    refused : AnchorFit or None
        Where nothing is suggested, the best of the others that were found and are worse in something.
    masks : ndarray of shape (4, 2)
        For the training size alone and m = 14, 28, 56: mean IoU and mean share of the outline that is lost.
    larger : ndarray of shape (2,)
        The first row of ``masks`` at twice the training size.
    """

    images: int
    looked_at: int
    crowds: int
    boxes: np.ndarray
    now: AnchorFit
    better: AnchorFit | None
    refused: AnchorFit | None
    masks: np.ndarray
    larger: np.ndarray

    @property
    def changes(self) -> dict[str, tuple[float, ...]]:
        """The sizes and ratios that are suggested, as ``Config.replace`` takes them; empty if none are."""
        if self.better is None:
            return {}
        return _anchors_of(self.better)

    @property
    def options(self) -> str:
        """What is suggested, as options to paste behind ``mrcnn-np train``; empty if nothing is."""
        return as_options(self.changes)

    def __repr__(self) -> str:
        """Return the table."""
        return self.table()

    def table(self) -> str:
        """Return all as text for a terminal."""
        parts = [self._objects(), self._anchors(), self._masks(), self._advice(), self._size()]
        return "\n\n".join(part for part in parts if part)

    def _objects(self) -> str:
        config = self.now.config
        many = "1 crowd, which is no target" if self.crowds == 1 else f"{self.crowds} crowds, which are no targets"
        crowds = f", and {many}" if self.crowds else ""
        lines = [
            f"{counted(len(self.boxes), 'object')} in {counted(self.images, 'image')}{crowds}; preset {config.name}"
        ]
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
        rows = [(name, f"{iou:.3f}", percent(lost)) for name, (iou, lost) in zip(names, self.masks)]
        table = text_table(("perfect masks", "mean IoU", "outline lost"), rows, align="<>", rule=True)
        return f"{table}\n{OUTLINE_LOST}"

    def _size(self) -> str:
        """Say what masks would gain at twice the training size; empty where that is little."""
        little = self.masks[0, 0] > GOOD_ENOUGH or self.larger[0] - self.masks[0, 0] < WORTH_A_SIZE
        if little or np.isnan(self.masks[0, 0]):  # NaN: there is no mask
            return ""
        size = 2 * self.now.config.image_min_size
        return (
            f"pictures are shrunk so far that masks lose much before any is predicted: --size {size} would leave a "
            f"mean IoU of {self.larger[0]:.3f} ({self.masks[0, 0]:.3f} now), at four times the cost of a step; anchors "
            f"then by `data anchors --size {size}`. A network that there is goes on: `train --weights "
            f"RUN/checkpoint.safetensors --size {size}`"
        )

    def _advice(self) -> str:
        if not len(self.boxes):
            return "there is no object to fit anchors to"
        few = f" (from {counted(len(self.boxes), 'object')} only)" if len(self.boxes) < 200 else ""
        if self.better is not None:
            return "\n".join([f"these fit better{few}:", f"  {self.options}", *self._moved(self.better)])
        if self.refused is None:
            return "the present anchors stay: none of those that were tried fit clearly better"
        options = as_options(_anchors_of(self.refused))
        lines = [
            f"the present anchors stay: the best of those that were tried{few} are worse in something, and such are "
            "not suggested; if you can spare that:",
            f"  {options}",
        ]
        return "\n".join(lines + self._moved(self.refused))

    def _moved(self, then: AnchorFit) -> list[str]:
        """Say what is better and what is worse under other anchors."""
        moved, lines = then.compared(self.now), []
        for word, chosen in (("better", [m for m in moved if m.rise > 0]), ("worse", [m for m in moved if m.rise < 0])):
            if chosen:
                lines.append(f"{word}: " + ", ".join(f"{m.name} {m.now} -> {m.then}" for m in chosen))
        if any(m.rise < 0 for m in moved):
            return lines
        least = self.now.config.roi_positive_iou  # the one limit that is no number of the table
        shares = [mean(fit.best >= least) for fit in (self.now, then)]
        if shares[0] - shares[1] > MARGIN:
            return [*lines, f"worse: with one of IoU >= {least:g} {' -> '.join(percent(s) for s in shares)}"]
        return [*lines, f"worse: no IoU, share or recall by more than {MARGIN}"]

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
            "refused": self.refused.as_dict() if self.refused else None,
            "options": self.options,
            "masks": {n: {"iou": float(i), "outline_lost": float(lost)} for n, (i, lost) in zip(names, self.masks)},
            "twice_the_size": {"iou": float(self.larger[0]), "outline_lost": float(self.larger[1])},
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
    losses, larger = [np.zeros((0, 1 + len(MASK_SIZES), 2))], [np.zeros((0, 2))]
    twice = at_size(config, 2 * config.image_min_size)
    for n in tqdm(range(len(dataset)), desc="look at objects", unit="image", disable=not progress):
        sample = dataset.load(n)
        truth = truth_of(sample, config)
        boxes.append(truth.objects)
        canvases.append(np.tile(np.array(truth.molding.molded_shape), (len(truth.objects), 1)))
        crowds += int(truth.crowd.sum())
        if n in chosen:
            kept.append(truth)
            losses.append(mask_losses(truth, config, MASK_SIZES))
            shrunk = min(truth.molding.scale) < 1
            larger.append(mask_losses(truth_of(sample, twice), twice, ())[:, 0] if shrunk else losses[-1][:, 0])
    all_boxes, all_canvases = np.concatenate(boxes), np.concatenate(canvases)
    now, better, refused = _search(kept, all_boxes, all_canvases, config, progress)
    return FitReport(
        images=len(dataset),
        looked_at=len(kept),
        crowds=crowds,
        boxes=all_boxes,
        now=now,
        better=better,
        refused=refused,
        masks=_mean(losses),
        larger=_mean(larger),
    )


def _mean(of_images: list[np.ndarray]) -> np.ndarray:
    """Return the mean over the objects of all images, NaN if there is none."""
    values = np.concatenate(of_images)
    return values.mean(axis=0) if len(values) else np.full(values.shape[1:], np.nan)


def _search(
    truths: Sequence[Truth], boxes: np.ndarray, canvases: np.ndarray, config: Config, progress: bool
) -> tuple[AnchorFit, AnchorFit | None, AnchorFit | None]:
    """Return how the anchors fit now, how the best candidate does that lowers nothing, and else the best that does."""
    now = fit_anchors(truths, boxes, canvases, config, label="anchors now", progress=progress)

    def fit(changes: dict[str, tuple[float, ...]]) -> AnchorFit:
        return fit_anchors(truths, boxes, canvases, config.replace(**changes), label="others", progress=progress)

    first, measured = None, 0
    for one in tried(boxes, canvases, config):
        first = first or one.changes
        if one.fall > MARGIN:
            continue
        if measured == MOST_CANDIDATES:
            break
        then, measured = fit(one.changes), measured + 1
        if not then.falls(now):
            return now, then, None
    return now, None, fit(first) if first else None


def _anchors_of(fit: AnchorFit) -> dict[str, tuple[float, ...]]:
    """Return the sizes and ratios of a fit, as ``Config.replace`` takes them."""
    return {"anchor_sizes": fit.config.anchor_sizes, "anchor_ratios": fit.config.anchor_ratios}


def sizes_of(boxes: np.ndarray) -> np.ndarray:
    """Return the square root of the area of each of (O, 4) boxes."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.sqrt(sides.prod(axis=1))
