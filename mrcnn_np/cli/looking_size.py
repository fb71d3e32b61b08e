"""What ``detect`` says of pictures at another scale than those of the training, which ``--size`` is for.

A network knows objects of the size in pixels that they had in training, after pictures were resized to the
configuration's size. A slide of 4000 pixels that is shrunk like a training picture of 500 has objects an eighth as
large, and none of them is found.
"""

from __future__ import annotations

from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..config import Config
from ..data.sample import Dataset
from ..errors import DataError, UserError, some_of
from ..files import read_json
from ..molding import plan
from ..training.run_folder import SUMMARY
from .network import config_of_run
from .options import Options, open_dataset, recorded_options

#: in the summary of a run
SCALE = "scale"
#: training pictures that are looked at, evenly chosen
LOOKED_AT = 20
#: objects so many times smaller or larger than in training are worth a word
FAR = 1.75
#: pictures that are named
_NAMED = 3


def scale_of(shape: tuple[int, int], config: Config) -> float:
    """Return how many pixels of the network's input one of an image of ``shape`` (H, W) becomes, along a side."""
    return float(np.sqrt(np.prod(plan(shape, config).scale)))


def typical_scale(dataset: Dataset, config: Config) -> float | None:
    """Return the median of ``scale_of`` over some images of a data set; None if none can be read."""
    scales = []
    for index in np.unique(np.linspace(0, len(dataset) - 1, min(LOOKED_AT, len(dataset))).astype(int)).tolist():
        with suppress(DataError):
            height, width = dataset.load(index).image.shape[:2]
            scales.append(scale_of((height, width), config))
    return float(np.median(scales)) if scales else None


def scale_in_training(run: Path) -> float | None:
    """Return what the summary of a run says, else what its images do; None where neither is there.

    A training that is not finished has no summary.
    """
    with suppress(UserError, OSError, TypeError, ValueError, KeyError):
        scale = float(read_json(run / SUMMARY)[SCALE])
        if np.isfinite(scale) and scale > 0:
            return scale
    with suppress(UserError, DataError, OSError):
        recorded = recorded_options(run)
        if recorded.get("root") and Path(recorded["root"]).exists():
            options = Options.merge(recorded, Namespace())
            dataset = open_dataset(options, options.split, subset=options.subset, ids=options.ids)
            return typical_scale(dataset, config_of_run(run))
    return None


class Scales:
    """Gathers the pictures whose objects are much smaller or larger than in training, as the network sees them.

    Parameters
    ----------
    config : Config
    training : float, optional
        The scale in training; None if nobody knows, and then there is nothing to gather.
    """

    def __init__(self, config: Config, training: float | None) -> None:
        self.config, self.training = config, training
        self._found: dict[str, list[tuple[str, tuple[int, int]]]] = {"smaller": [], "larger": []}

    def add(self, name: str, shape: tuple[int, int]) -> None:
        """Look at a picture of ``shape`` (H, W)."""
        if self.training is None:
            return
        ratio = scale_of(shape, self.config) / self.training
        if ratio * FAR <= 1:
            self._found["smaller"].append((name, shape))
        elif ratio >= FAR:
            self._found["larger"].append((name, shape))

    def describe(self) -> list[str]:
        """Return a line for each kind that there is, with the ``--size`` that suits its first picture."""
        lines = []
        for kind, pictures in self._found.items():
            if not pictures:
                continue
            name, shape = pictures[0]
            ratio = scale_of(shape, self.config) / (self.training or 1)
            times = ratio if ratio > 1 else 1 / ratio
            lines.append(
                f"{len(pictures)} picture{'s are' if len(pictures) > 1 else ' is'} looked at with objects {kind} than "
                f"those of the training pictures: {some_of([name for name, _ in pictures], _NAMED)}. Of {name}, "
                f"{shape[1]} x {shape[0]} pixels, all is {times:.1f} times {kind}; if its objects have as many pixels "
                f"as they had there, --size {self._size(shape)} looks at them as in training"
            )
        return lines

    def _size(self, shape: tuple[int, int]) -> int:
        """Return the size at which a picture has the scale of training."""
        square = self.config.resize_mode == "square"
        side = (max(shape) if square else min(shape)) * (self.training or 1)
        return max(32, round(side / 32) * 32) if square else max(1, round(side))
