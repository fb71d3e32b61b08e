"""Peak memory and time of every preset: one training step and one ``detect``, each in a process of its own.

Run ``mrcnn-np bench --only presets``; or ``python -m mrcnn_np.bench.presets`` for the Markdown table alone, on the
backend that ``MRCNN_NP_BACKEND`` names, of all presets or of some: ``... tiny torchvision``. The image is made-up noise
with three ellipses marked in it, at the preset's full size: 800 x 1088 for torchvision and detectron2, which matterport
molds to 1024 x 1024. Weights are random: time and memory do not depend on them, and 100 masks are pasted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

import kernels

from ..config import presets
from ..model import MaskRCNN
from ..params import count
from ..synthetic import batch, picture
from ..tables import markdown_row, markdown_table
from ..training.optim import sgd_step, zero_velocity
from .quiet import Watch, mark
from .team import environment
from .timing import clock, in_mib, peak_mib

HEAD = ("preset", "backbone", "parameters", "training step: images, seconds, peak MiB", "detect: seconds, peak MiB")
SIZES = {"tiny": (128, 128), "small": (256, 256)}
FULL = (800, 1088)


def run_presets(
    names: Iterable[str], *, backends: Iterable[str], threads: int, watch: Watch, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measure presets on backends.

    Parameters
    ----------
    names : iterable of str
        Presets.
    backends : iterable of str
    threads : int
        Of the kernels and of BLAS.
    watch : Watch
        Says whether the machine was quiet.
    say : callable
        Gets a line for each finished row.

    Returns
    -------
    dict
        ``rows``: preset, backbone, parameters, images of the training step, backend; ``train`` and ``detect``, each
        with seconds and ``peak_mib``.
    """
    rows = []
    for backend in backends:
        variables = {**environment(threads), "MRCNN_NP_BACKEND": backend}
        for name in names:
            rows += watch.around(f"{name} on the {backend} backend", partial(_rows, name, variables))
            say(f"{backend}: " + ", ".join(cells(rows[-1])))
    return {"rows": rows}


def _rows(preset: str, variables: Mapping[str, str]) -> list[dict[str, Any]]:
    return [measure(preset, variables)]


def measure(preset: str, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Measure one preset in two fresh processes with these environment variables."""
    row: dict[str, Any] = {"preset": preset, "backbone": presets.by_name(preset).backbone}
    for what in ("train", "detect"):
        command = [sys.executable, "-m", "mrcnn_np.bench.presets", preset, "--only", what]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables)
        answer = json.loads(done.stdout)
        row[what] = {name: answer.pop(name) for name in ("seconds", "peak_mib")}
        row |= answer
    return row


def measure_here(preset: str, what: str) -> dict[str, Any]:
    """Measure a training step or a detection of one preset, once, in this process."""
    config = presets.by_name(preset)
    if preset not in SIZES:
        config = config.replace(batch_size=1)
    size = SIZES.get(preset, FULL)
    model = MaskRCNN(config, rng=np.random.default_rng(0))
    if what == "train":
        ready, velocity = batch(size, config), zero_velocity(model.params, config)

        def run() -> None:
            losses, cache = model.losses(ready, np.random.default_rng(0))
            assert all(np.isfinite(v) for v in losses.values()), losses
            grads = model.backward(cache)
            sgd_step(model.params, grads, velocity, learning_rate=1e-4, config=config)

    else:
        image = picture(size)
        # The masks of 100 detections are part of the cost, so let the untrained network find something everywhere
        for name in ("rpn.deltas.w", "box_head.class.w", "box_head.deltas.w"):
            model.params[name][:] = 0
        finds = MaskRCNN(config.replace(detection_score_threshold=0.0, detection_classes="all"), model.params)

        def run() -> None:
            (found,) = finds.detect([image])
            assert len(found.boxes) > 0

    if kernels.backend() != "numpy":
        run()  # which loads the compiled kernels
    seconds = clock(run)
    record = {"seconds": seconds, "peak_mib": peak_mib(), "backend": kernels.backend()}
    return record | {"parameters": count(model.params), "images": config.batch_size}


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a row of the table."""
    train, detect = row["train"], row["detect"]
    return (
        row["preset"],
        row["backbone"],
        f"{row['parameters']:,}",
        f"{row['images']}, {train['seconds']:.2f}{mark(row)}, {in_mib(train['peak_mib'])}",
        f"{detect['seconds']:.2f}{mark(row)}, {in_mib(detect['peak_mib'])}",
    )


def main() -> None:
    """Print the table, row by row; or, in one of the processes, what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=list(presets.PRESETS), metavar="PRESET")
    parser.add_argument("--only", choices=("train", "detect"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = [name for name in args.presets if name not in presets.PRESETS]
    if unknown:
        parser.error(f"no preset {unknown[0]!r}; expected some of {', '.join(presets.PRESETS)}")
    if args.only:
        print(json.dumps(measure_here(args.presets[0], args.only)))
        return
    print(markdown_table(HEAD, ()))
    for name in args.presets:
        print(markdown_row(cells(measure(name))), flush=True)


if __name__ == "__main__":
    main()
