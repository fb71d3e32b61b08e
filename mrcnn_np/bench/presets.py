"""Peak memory and time of every preset: one training step and one ``detect``, each in a process of its own.

Run ``python -m mrcnn_np.bench.presets`` (all presets, a Markdown table) or name some: ``... tiny torchvision``. The
image is made-up noise with three ellipses marked in it, at the preset's full size: 800 x 1088 for torchvision and
detectron2, which matterport molds to 1024 x 1024.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.params import count
from mrcnn_np.synthetic import batch, picture
from mrcnn_np.tables import markdown_row, markdown_table
from mrcnn_np.training.optim import sgd_step, zero_velocity

HEAD = ("preset", "backbone", "parameters", "training step: images, seconds, peak MiB", "detect: seconds, peak MiB")
SIZES = {"tiny": (128, 128), "small": (256, 256)}


def measure(preset: str, what: str) -> None:
    """Print seconds and peak memory of one preset (the row's numbers), in this process."""
    config = presets.by_name(preset)
    if preset not in SIZES:
        config = config.replace(batch_size=1)
    size = SIZES.get(preset, (800, 1088))
    model = MaskRCNN(config, rng=np.random.default_rng(0))
    ready, image = batch(size, config), picture(size)
    began = time.perf_counter()
    if what == "train":
        velocity = zero_velocity(model.params, config)
        losses, cache = model.losses(ready, np.random.default_rng(0))
        assert all(np.isfinite(v) for v in losses.values()), losses
        grads = model.backward(cache)
        sgd_step(model.params, grads, velocity, learning_rate=1e-4, config=config)
    else:
        # The masks of 100 detections are part of the cost, so let the untrained network find something everywhere
        config = config.replace(detection_score_threshold=0.0, detection_classes="all")
        model = MaskRCNN(config, model.params)
        for name in ("rpn.deltas.w", "box_head.class.w", "box_head.deltas.w"):
            model.params[name][:] = 0
        (found,) = model.detect([image])
        assert len(found.boxes) > 0
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:.2f} {peak:.0f} {count(model.params)} {config.batch_size}")


def main() -> None:
    """Run every preset in fresh processes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=list(presets.PRESETS), metavar="PRESET")
    parser.add_argument("--only", choices=("train", "detect"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        measure(args.presets[0], args.only)
        return
    print(markdown_table(HEAD, ()))
    for preset in args.presets:
        rows = []
        for what in ("train", "detect"):
            command = [sys.executable, "-m", "mrcnn_np.bench.presets", preset, "--only", what]
            rows.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        (train_s, train_mb, parameters, images), (detect_s, detect_mb, _, _) = rows
        cells = (preset, presets.by_name(preset).backbone, f"{int(parameters):,}")
        cells += (f"{images}, {train_s}, {train_mb}", f"{detect_s}, {detect_mb}")
        print(markdown_row(cells), flush=True)


if __name__ == "__main__":
    main()
