"""``mrcnn-np warmup``: compile ahead what training and detection need, so that they need not stop for it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config, presets

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
def compiling(say: Say) -> Iterator[list[float]]:
    """Report every kernel that Numba compiles within the block; the list gathers the seconds.

    A kernel that is found compiled on disk is not reported, and one that another compiles on the way counts as part of
    that one.
    """
    from numba.core import event

    seconds: list[float] = []

    class Reporter(event.Listener):
        def __init__(self) -> None:
            self.open: list[float] = []

        def on_start(self, event: Any) -> None:
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
    """Say that kernels are being compiled, when they are, and every few seconds how many are done."""
    from tqdm import tqdm

    began = last = time.perf_counter()
    done = 0

    def count(line: str) -> None:
        nonlocal done, last
        done += 1
        now = time.perf_counter()
        if done == 1:
            tqdm.write("compiling kernels, once: they are kept (mrcnn-np warmup does it ahead)", file=sys.stderr)
        elif now - last > 5:
            tqdm.write(f"  {done} kernels compiled after {now - began:.0f} s", file=sys.stderr)
            last = now

    with compiling(count):
        yield


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
    # An untrained network finds nothing; with equal scores it finds something everywhere, and masks are drawn as well
    model = MaskRCNN(
        config.replace(detection_score_threshold=0.0, detection_classes="all", detections_per_image=10), model.params
    )
    for name, p in model.params.items():
        if name.startswith(("rpn.deltas.", "box_head.class.", "box_head.deltas.")):
            p[...] = 0
    model.detect([picture((side, side))])
