"""What a training measures on images that it does not learn from, every so many steps: losses and average precision."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..config import Config
from ..data.sample import Dataset, Sample, for_training
from ..errors import DataError
from ..evaluate.split import SplitReport, ap50_of, evaluate_split
from ..model import MaskRCNN
from ..molding import make_batch
from ..parallel.ranks import ALONE, Ranks

#: a stream of random numbers, beside those of ``loop.py``
HELD_OUT = 4
#: images by which ``seconds_a_time`` judges
TIMED = 4


class HeldOut:
    """Measure a model on held-out images every so many steps.

    Parameters
    ----------
    dataset : Dataset
    every : int
        Steps between two measurements; there is one after the last step, too.
    seed : int
        Of the run. Each image has its own draws, the same at every measurement, so that the curve shows the network and
        not the sampling.
    skip_bad : bool
        Leave out images that cannot be read, instead of stopping.
    ranks : Ranks
        If there are several, they share the images.

    Attributes
    ----------
    report : SplitReport or None
        The last evaluation; on all ranks but the first an empty one.
    """

    def __init__(
        self, dataset: Dataset, every: int, *, seed: int = 0, skip_bad: bool = False, ranks: Ranks = ALONE
    ) -> None:
        self.dataset, self.every, self.seed, self.skip_bad = dataset, every, seed, skip_bad
        self.ranks = ranks
        self.report: SplitReport | None = None

    def measure(self, model: MaskRCNN) -> dict[str, float]:
        """Return ``val_loss``, the losses as ``val_rpn_class`` ..., ``val_box_ap50`` and ``val_mask_ap50``.

        A network with keypoints adds ``val_keypoints_ap50``, COCO's AP at an OKS of 0.5.

        The losses are means over images, in the training's size, not augmented, with batch norm's running statistics,
        which stay as they are. AP is by VOC 2010 rules at IoU 0.5; it is left out where there are no objects.
        """
        self.report = evaluate_split(model, self.dataset, skip_bad=self.skip_bad, progress=False, ranks=self.ranks)
        losses = self._losses(model)
        found = {
            f"val_{kind}_ap50": ap
            for kind, evaluation in self.report.evaluations.items()
            if (ap := ap50_of(evaluation)) is not None
        }
        own = {"val_loss": sum(losses.values()), **{f"val_{k}": v for k, v in losses.items()}, **found}
        return self.ranks.of_first(lambda: own)

    def _losses(self, model: MaskRCNN) -> dict[str, float]:
        frozen = MaskRCNN(model.config.replace(bn_mode="frozen"), model.params)

        def of_image(index: int) -> dict[str, float] | None:
            try:
                sample = for_training(self.dataset.load(index))
            except DataError:
                if self.skip_bad:
                    return None
                raise
            rng = np.random.default_rng([self.seed, index, HELD_OUT])
            losses, _ = frozen.losses(make_batch([sample], model.config), rng)
            return losses

        rows = [row for row in self.ranks.spread(of_image, range(len(self.dataset))) if row is not None]
        names = rows[0] if rows or self.ranks.first else {}
        return {name: float(np.mean([row[name] for row in rows])) for name in names}

    def seconds_a_time(self, model: MaskRCNN) -> float:
        """Return how long one measurement of a model may take, judged by a few images."""
        some = _First(self.dataset, min(TIMED, len(self.dataset)))
        probe = HeldOut(some, self.every, seed=self.seed, skip_bad=self.skip_bad, ranks=self.ranks)
        probe.measure(model)  # compiles
        before = time.perf_counter()
        probe.measure(model)
        seconds = time.perf_counter() - before
        return self.ranks.of_first(lambda: seconds) / len(some) * len(self.dataset)


class _First:
    """The first images of a data set."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        self.class_names, self.ids, self._whole = dataset.class_names, dataset.ids[:count], dataset

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, index: int) -> Sample:
        return self._whole.load(index)


def best_by(config: Config) -> str:
    """Name the number by which a checkpoint is the best: the AP of what the network is for.

    That is keypoints, else masks, else boxes.
    """
    what = "keypoints" if config.keypoints else "mask" if config.mask_branch else "box"
    return f"val_{what}_ap50"


def standing(row: Mapping[str, Any], name: str = "val_mask_ap50") -> tuple[float, float]:
    """Return what is higher for the better of two measurements: the AP, and among equal ones the lower held-out loss.

    On easy pictures the AP is 1 long before the masks are good. A row without the number stands below all others.
    """
    return (row[name], -row.get("val_loss", np.inf)) if name in row else (-np.inf, -np.inf)


def best_of(rows: Iterable[Mapping[str, Any]], name: str = "val_mask_ap50") -> tuple[float, float]:
    """Return the highest ``standing`` among lines of ``metrics.jsonl``, the earlier of two that are equal."""
    return max((standing(row, name) for row in rows), default=standing({}, name))
