"""A model with the interface of MaskRCNN that is one line of least squares, and a data set to go with it.

What the training loop promises (resume, order, finite checks) can be tested with it thousands of steps a second.
Run as a program, it trains: ``python linear_model.py FOLDER STEPS [resume]``; tests kill that process.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scenes import sample_of

from mrcnn_np import presets
from mrcnn_np.errors import DataError
from mrcnn_np.objective import LOSSES
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.loop import train
from mrcnn_np.training.run_folder import CHECKPOINT

CONFIG = presets.tiny(
    num_classes=2, image_min_size=32, image_max_size=32, batch_size=3, warmup_steps=2, learning_rate=0.05, steps=12
)


class LinearCache(NamedTuple):
    """What the backward pass needs, and what a step reports besides the losses."""

    x: np.ndarray
    error: np.ndarray
    positives: dict[str, int]


class LinearModel:
    """Five times the same regression: predict an image's object count from its mean colour."""

    def __init__(self, config=CONFIG):
        self.config = config
        rng = np.random.default_rng(0)
        self.params = {
            "backbone.w": rng.normal(size=(3,)).astype(np.float32),
            "backbone.mean": np.zeros(3, np.float32),
            "head.b": np.zeros((), np.float32),
        }

    def settle(self):
        return False  # everything is on the host

    def losses(self, batch, rng):
        x = batch.images.mean(axis=(1, 2)) + 0.01 * rng.standard_normal((len(batch.images), 3)).astype(np.float32)
        self.params["backbone.mean"] += np.float32(0.1) * (x.mean(axis=0) - self.params["backbone.mean"])
        y = np.array([len(b) for b in batch.gt_boxes], np.float32)
        positives = {"rpn_positives": int(y.sum()), "roi_positives": int((y > 1).sum())}
        error = x @ self.params["backbone.w"] + self.params["head.b"] - y
        return {name: float(np.mean(error**2)) for name in LOSSES}, LinearCache(x, error, positives)

    def backward(self, cache, *, consume=False):
        x, error = cache.x, cache.error
        d = 2 * len(LOSSES) * error / np.float32(len(error))
        return {"head.b": np.asarray(d.sum()), "backbone.w": d @ x}


class Images:
    """Images of noise with 0, 1 or 2 objects; those in ``bad`` cannot be read."""

    class_names = ("background", "thing")

    def __init__(self, count=7, bad=()):
        self.ids, self.bad, self.loaded = tuple(f"image{i}" for i in range(count)), set(bad), []

    def __len__(self):
        return len(self.ids)

    def load(self, index):
        self.loaded.append(index)
        if index in self.bad:
            raise DataError("is cut short", path=f"{self.ids[index]}.jpg", image_id=self.ids[index])
        rng, count = np.random.default_rng(index), index % 3
        image = rng.integers(0, 256, (32, 32, 3), np.uint8)
        return sample_of([(8, 8, 16, 16)] * count, shape=(32, 32), name=self.ids[index], image=image)


if __name__ == "__main__":
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    checkpoint = load_checkpoint(folder / CHECKPOINT) if (folder / CHECKPOINT).exists() else None
    print("ready", flush=True)
    model = LinearModel(CONFIG.replace(steps=steps))
    train(model, Images(), out_dir=folder, resume=checkpoint, checkpoint_every=2, progress=False)
