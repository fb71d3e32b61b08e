"""A run of a few steps from the command line, and what two runs with one seed have in common."""

import shutil

from mrcnn_np.cli.main import main

SMALL = [
    "--size", "64", "--batch-size", "2", "--steps", "4", "--checkpoint-every", "2", "--quiet", "--config",
    "warmup_steps=2", "--config", "detection_score_threshold=0.0", "--config", "detections_per_image=5",
]  # fmt: skip


def train(shapes, out, *more):
    return main(["train", "--root", str(shapes), "--out", str(out), "--no-eval", "--no-pictures", *SMALL, *more])


def bits(folder):
    return {name: (folder / name).read_bytes() for name in ("checkpoint.safetensors", "metrics.jsonl", "config.json")}


def copy_shapes(shapes, to):
    shutil.copytree(shapes, to)
    return to
