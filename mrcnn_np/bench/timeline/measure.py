"""Run ``detect`` and a training step several times, cut into slices; in a process of its own, as ``worker.py``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from kernels import use

from ...config import Config, presets
from ...model import MaskRCNN
from ...molding import make_batch
from ...synthetic import picture, sample, with_keypoints
from ...training.loop import train_step
from ...training.optim import zero_velocity
from .. import roofline
from ..network import FULL, make_weights
from ..quiet import Watch, mark
from ..timing import REST
from ..worker import configuration
from .record import Recorder, Slice, medians

Task = dict[str, Any]
Say = Callable[[str], None]


def run(
    folder: Path, *, preset: str, repeat: int, threads: int, quick: bool, watch: Watch, say: Say = print
) -> dict[str, Any]:
    """Measure ``detect`` and a training step of a preset on one image, and the step of the preset tiny beside it.

    Parameters
    ----------
    folder : Path
        For the weights.
    preset : str
    repeat : int
        Runs of each, after one that is not counted.
    threads : int
        The environment must have told OpenBLAS already.
    quick : bool
        A small image, where the preset lets it be small.
    watch : Watch
        Says whether the machine was quiet.
    say : callable
        Gets a line for each finished timeline.

    Returns
    -------
    dict
        ``peak``, in 10^9 operations and 10^9 bytes a second, and whether the machine was ``quiet`` for it; ``runs``:
        the task, ``seconds`` of each whole run, and ``slices``, each a ``record.Slice`` with the median of its times.
    """
    (peaks,) = watch.around("the peaks", lambda: [{"peak": roofline.measure(threads, quick=quick)[str(threads)]}])
    tasks = [(preset, what) for what in ("detect", "train")] + [("tiny", "train")] * (preset != "tiny")
    runs = []
    for name, what in tasks:
        size = image_size(name, quick=quick)
        task = {"preset": name, "what": what, "size": size, "batch": 1, "threads": threads}
        weights = make_weights(name, folder)
        title = f"timeline of {name} {what}, {size[0]}x{size[1]}"
        (record,) = watch.around(title, partial(_measure, task, weights, repeat, 0.0 if quick else REST))
        say(f"{title}: {sum(one['seconds'] for one in record['slices']):.3f} s{mark(record)}")
        runs.append(record)
    return {**peaks, "runs": runs}


def image_size(preset: str, *, quick: bool) -> tuple[int, int]:
    """Return (H, W) of the image: that of the other sections for torchvision, else the largest the preset takes."""
    if preset == "torchvision":
        return (96, 128) if quick else FULL
    return (presets.by_name(preset).image_max_size,) * 2


def _measure(task: Task, weights: str, repeat: int, rest: float) -> list[dict[str, Any]]:
    """Load a network, run it, and return the one record of it."""
    config = configuration(task)
    params = load_file(weights)
    cut, seconds = record(task["what"], config, MaskRCNN(config, params), tuple(task["size"]), repeat, rest=rest)
    return [{**task, "seconds": seconds, "slices": [asdict(one) for one in cut]}]


def record(
    what: str, config: Config, network: MaskRCNN, size: tuple[int, int], repeat: int, *, rest: float = 0.0
) -> tuple[list[Slice], list[float]]:
    """Run a network several times on the cpu backend, cut into slices.

    Parameters
    ----------
    what : str
        ``detect``, or ``train``: one training step, with the molding of its images.
    config : Config
    network : MaskRCNN
        Trained a little by a step.
    size : (int, int)
        Of the image.
    repeat : int
        Runs, after one that is not counted.
    rest : float
        Seconds before each.

    Returns
    -------
    slices : list of Slice
        With medians of their times.
    seconds : list of float
        Of each whole run, without those that recording took.
    """
    image = picture(size)
    samples = [with_keypoints(sample(size, classes=config.num_classes), config)] * config.batch_size
    velocity = zero_velocity(network.params, config) if what == "train" else {}
    runs = []
    for _ in range(repeat + 1):
        time.sleep(rest)
        recorder = Recorder(network.params)
        with use("cpu"), recorder.recording():
            if what == "detect":
                network.detect([image] * config.batch_size)
            else:
                with recorder.part("mold_image"):
                    batch = make_batch(samples, config)
                train_step(network, batch, velocity, step=0, rng=np.random.default_rng(0))
        runs.append(recorder.slices)
    return medians(runs[1:]), [sum(one.seconds for one in cut) for cut in runs[1:]]
