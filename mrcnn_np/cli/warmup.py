"""``mrcnn-np warmup``: compile ahead what training and detection need, so that they need not stop for it."""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import Config, presets

if TYPE_CHECKING:
    from ..detections import Detections
    from ..model import MaskRCNN

Say = Callable[[str], None]


def run_warmup(args: argparse.Namespace) -> int:
    """Compile for one preset and print how long it took."""
    say: Say = (lambda line: None) if args.quiet else (lambda line: print(line, flush=True))
    began = time.perf_counter()
    with compiling(say) as seconds:
        warm_up(presets.by_name(args.preset), say=say)
    total = time.perf_counter() - began
    compiled = f"{len(seconds)} kernels compiled in {sum(seconds):.1f} s" if seconds else "all was compiled already"
    print(f"preset {args.preset} is warm after {total:.1f} s: {compiled}")
    return 0


@contextmanager
def compiling(say: Say, begins: Callable[[], None] = lambda: None) -> Iterator[list[float]]:
    """Report every kernel that Numba compiles within the block; the list gathers the seconds.

    A kernel that is found compiled on disk is not reported, and one that another compiles on the way counts as part of
    that one. ``begins`` is called before each.
    """
    from numba.core import event

    seconds: list[float] = []

    class Reporter(event.Listener):
        def __init__(self) -> None:
            self.open: list[float] = []

        def on_start(self, event: Any) -> None:
            if not self.open:
                begins()
            self.open.append(time.perf_counter())

        def on_end(self, event: Any) -> None:
            took = time.perf_counter() - self.open.pop()
            if not self.open:
                function = event.data["dispatcher"].py_func
                group = Path(function.__code__.co_filename).stem
                seconds.append(took)
                say(f"  {group:<12} {function.__name__.strip('_'):<24} {took:6.1f} s")

    with event.install_listener("numba:compile", Reporter()):
        yield seconds


@contextmanager
def announced() -> Iterator[None]:
    """Say that kernels are being compiled, when they are, and every few seconds how many are done.

    How many there will be depends on the network, the images and what was found in them, so no total is said. The
    seconds are those of compiling, whatever was done before and between.
    """
    from tqdm import tqdm

    progress = Progress(lambda line: tqdm.write(line, file=sys.stderr))
    with compiling(lambda line: progress.ended(), progress.begins) as progress.seconds:
        yield


class Progress:
    """What is said of kernels that are compiled while something else is wanted.

    Parameters
    ----------
    say : callable
        Takes a line.
    every : float
        Seconds between two lines.

    Attributes
    ----------
    seconds : list of float
        Of every kernel so far.
    """

    def __init__(self, say: Say, every: float = 5.0) -> None:
        self.say, self.every, self.seconds = say, every, list[float]()
        self._said = -1.0

    def begins(self) -> None:
        """Say before the first kernel what is going on."""
        if self._said < 0:
            self.say(
                "compiling the kernels that no command has needed before; they are kept for the next one "
                "(mrcnn-np warmup does it ahead)"
            )
            self._said = time.perf_counter()

    def ended(self) -> None:
        """Say from time to time how many there are."""
        now = time.perf_counter()
        if now - self._said > self.every:
            count = len(self.seconds)
            which = "1 kernel" if count == 1 else f"{count} kernels"
            self.say(f"  {which} done, more may follow; compiling took {sum(self.seconds):.0f} s so far")
            self._said = now


def warm_up(config: Config, *, say: Say = lambda line: None) -> None:
    """Run one training step and one detection of a preset on a small image.

    Sizes do not matter to compiled code, but small maps take other kernels than large ones; at 256 pixels the levels of
    the pyramid are of both kinds.
    """
    from ..model import MaskRCNN
    from ..synthetic import batch, picture
    from ..training.loop import train_step
    from ..training.optim import zero_velocity

    side = min(256, config.image_min_size)
    if config.name not in ("tiny", "small"):
        config = config.replace(image_min_size=side, image_max_size=side, batch_size=1)
    model = MaskRCNN(config)
    say("training step")
    batches = batch((side, side), config)
    velocity = zero_velocity(model.params, config)
    train_step(model, batches, velocity, step=0, rng=np.random.default_rng(0))

    say("detection")
    warm_detection(model, picture((side, side)))


def warm_detection(model: MaskRCNN, image: np.ndarray) -> list[Detections]:
    """Detect once in an image with a copy of a model that finds something everywhere, and draw its masks.

    An untrained network finds nothing, and its masks would be compiled when it has learnt something; with equal scores
    it finds something everywhere.
    """
    from ..model import MaskRCNN

    config = model.config.replace(detection_score_threshold=0.0, detection_classes="all", detections_per_image=10)
    probe = MaskRCNN(config, copy.deepcopy(model.params))
    for name, p in probe.params.items():
        if name.startswith(("rpn.deltas.", "box_head.class.", "box_head.deltas.")):
            p[...] = 0
    return probe.detect([image])
