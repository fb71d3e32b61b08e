"""How the anchors of one configuration fit a data set: the numbers, and what of them others raise or lower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ..anchors import network_anchors
from ..config import Config
from .anchors import best_overlaps, found_by, perfect_proposals, positives_per_level
from .suggest import MARGIN
from .truth import Truth

COUNTS = (100, 300, 1000)


def level_names(config: Config) -> tuple[str, ...]:
    """Return the levels as tables name them: P2 .. P6, or the one map of a network without pyramid, C4 or conv5_3."""
    return tuple(name.capitalize() if len(name) == 2 else name for name in config.levels)


class Moved(NamedTuple):
    """A number that is another than before; ``rise`` is how much more it is, and more is better."""

    name: str
    now: str
    then: str
    rise: float


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
        return mean((self.best > 0) & (self.best < self.config.rpn_positive_iou))

    @property
    def background(self) -> float:
        """Share of the objects whose best anchor would count as background without that rule."""
        return mean(self.best < self.config.rpn_negative_iou)

    def cells(self) -> list[str]:
        """Return a column of the table, its heading left out."""
        share = [percent(mean(self.level == k)) for k in range(len(self.positives))]
        return [
            f"{mean(self.best):.3f}",
            f"{np.quantile(self.best, 0.05) if len(self.best) else 0:.3f}",
            percent(mean(self.best >= self.config.rpn_positive_iou)),
            percent(self.saved),
            percent(self.background),
            " ".join(share),
            " ".join(f"{n:.1f}" for n in self.positives),
            *(" ".join(percent(v) for v in self.recall[kind]) for kind in ("as they stand", "decoded")),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON."""
        return {
            "anchor_sizes": list(self.config.anchor_sizes),
            "anchor_ratios": list(self.config.anchor_ratios),
            "mean_best_iou": mean(self.best),
            "only_by_best_anchor_rule": self.saved,
            "best_below_negative_iou": self.background,
            "objects_on_level": {name: mean(self.level == k) for k, name in enumerate(level_names(self.config))},
            "positives_per_image": dict(zip(level_names(self.config), self.positives.tolist())),
            "recall_of_perfect_proposals": {
                kind: dict(zip(map(str, COUNTS), values.tolist())) for kind, values in self.recall.items()
            },
        }

    def compared(self, now: AnchorFit) -> list[Moved]:
        """Return the numbers of the table that differ by more than ``MARGIN`` from another fit of the same objects."""
        moved = []
        for name, mine, other in zip(self._names(), self._numbers(), now._numbers()):
            if abs(mine - other) > MARGIN:
                shown = [f"{v:.3f}" if "IoU," in name else percent(v) for v in (other, mine)]
                moved.append(Moved(name, shown[0], shown[1], float(mine - other)))
        return moved

    def falls(self, now: AnchorFit) -> list[Moved]:
        """Return what is worse than in another fit and matters: all numbers but the recall of the first 100."""
        return [m for m in self.compared(now) if m.rise < 0 and not m.name.endswith(f"at {COUNTS[0]}")]

    def _names(self) -> list[str]:
        kinds = {"as they stand": "recall at {}", "decoded": "decoded recall at {}"}
        return [
            "best IoU, mean",
            "best IoU, worst twentieth",
            f"objects with an anchor of IoU >= {self.config.rpn_positive_iou:g}",
            f"with one of IoU >= {self.config.rpn_negative_iou:g}",
            *(text.format(count) for kind, text in kinds.items() for count in COUNTS),
        ]

    def _numbers(self) -> np.ndarray:
        worst = np.quantile(self.best, 0.05) if len(self.best) else 0.0
        positive = mean(self.best >= self.config.rpn_positive_iou)
        recall = [self.recall[kind] for kind in ("as they stand", "decoded")]
        return np.array([mean(self.best), worst, positive, 1 - self.background, *np.concatenate(recall)])


def fit_anchors(
    truths: Sequence[Truth],
    boxes: np.ndarray,
    canvases: np.ndarray,
    config: Config,
    *,
    label: str = "anchors",
    progress: bool = False,
) -> AnchorFit:
    """Measure the anchors of a configuration.

    Parameters
    ----------
    truths : sequence of Truth
        Images in which positives and proposals are counted.
    boxes, canvases : ndarray of shape (O, 4) and (O, 2)
        All objects in molded pixels, and (H, W) of the canvas of each.
    config : Config
    label : str
        Beside the bar.
    progress : bool
        Show a bar on stderr.
    """
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


def mean(values: np.ndarray) -> float:
    """Return the mean, 0 of nothing."""
    return float(values.mean()) if len(values) else 0.0


def percent(share: float) -> str:
    """Return a share in whole percent; what is no number is a dash."""
    return f"{100 * share:.0f} %" if share == share else "-"
