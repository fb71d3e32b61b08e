"""A contender in a process of its own: ``python -m mrcnn_np.bench.worker``.

It reads one line of JSON, what to run, prepares it, and answers ``{}``. Then for every empty line it runs once and
answers with one line of JSON: the seconds, its peak memory so far, and what shows that it did the work.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from ..config import Config, presets
from ..synthetic import batch, picture, sample
from .timing import peak_mib, reset_peak

Task = dict[str, Any]
Run = Callable[[], dict[str, Any]]


def main() -> None:
    """Serve until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # a stray print must not end up among the answers
    task = json.loads(sys.stdin.readline())
    run = theirs(task) if task["contender"].startswith("torch") else ours(task)
    gc.collect()
    reset_peak()
    print("{}", file=answers, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        result = run()
        result["seconds"] = time.perf_counter() - began
        result["peak_mib"] = peak_mib()
        result["layer"] = threading_layer()
        print(json.dumps(result), file=answers, flush=True)


def threading_layer() -> str | None:
    """Return how Numba shares out its work; None if nothing has run on several threads yet."""
    if "numba" not in sys.modules:
        return None
    try:
        layer: str = sys.modules["numba"].threading_layer()
    except ValueError:
        return None
    return layer


def configuration(task: Task) -> Config:
    """Return the preset, with the image as large as it is, and a rate that moves nothing far in a few steps."""
    height, width = task["size"]
    changes: dict[str, Any] = {"learning_rate": 1e-6, "batch_size": task["batch"], "no_decay": ()}
    if task["preset"] == "torchvision":
        changes |= {"image_min_size": min(height, width), "image_max_size": max(height, width)}
    return presets.by_name(task["preset"], **changes)


def ours(task: Task) -> Run:
    """Prepare our model on a backend."""
    from kernels import use

    from ..model import MaskRCNN
    from ..training.loop import train_step
    from ..training.optim import zero_velocity

    config, size = configuration(task), tuple(task["size"])
    model = MaskRCNN(config, load_file(task["weights"]))
    image, backend = picture(size), task["contender"]

    def detect() -> dict[str, Any]:
        with use(backend):
            found = model.detect([image] * config.batch_size)[0]
        return {"scores": found.scores.tolist()}

    velocity = zero_velocity(model.params, config) if task["what"] == "train" else {}
    ready = batch(size, config) if task["preset"] != "torchvision" else None

    def train() -> dict[str, Any]:
        with use(backend):
            # As torchvision does it, the image is brought into shape within the step
            step = ready or batch(size, config)
            record = train_step(model, step, velocity, step=0, rng=np.random.default_rng(0))
        return {"loss": record["loss"]}

    return train if task["what"] == "train" else detect


def theirs(task: Task) -> Run:
    """Prepare torchvision's model with the same weights."""
    import torch
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    from ..weights.torchvision import ORDER, to_torchvision

    torch.set_num_threads(task["threads"])
    config, size = configuration(task), tuple(task["size"])
    with torch.device("meta"):  # without numbers, which would only be replaced
        model = maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=config.num_classes,
            min_size=config.image_min_size, max_size=config.image_max_size,
        )  # fmt: skip
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    state = to_torchvision(load_file(task["weights"]), shapes)
    model.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()}, assign=True)
    del state
    if "channels_last" in task["contender"]:
        model = model.to(memory_format=torch.channels_last)
    one = sample(size, classes=config.num_classes)
    image = torch.from_numpy(one.image).permute(2, 0, 1).float() / 255

    def detect() -> dict[str, Any]:
        with torch.inference_mode():
            found = model([image] * config.batch_size)[0]
        return {"scores": found["scores"].tolist()}

    if task["what"] == "detect":
        model.eval()
        return detect

    model.train()
    model.backbone.eval()  # its batch norm uses the running statistics; all else is trained, as here
    optimiser = torch.optim.SGD(
        model.parameters(), lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    boxes = torch.from_numpy(one.gt_boxes[:, ORDER].copy())
    target = {"boxes": boxes, "labels": torch.from_numpy(one.gt_class_ids)}
    target["masks"] = torch.from_numpy(one.gt_masks.astype(np.uint8))

    def train() -> dict[str, Any]:
        loss = sum(model([image] * config.batch_size, [target] * config.batch_size).values())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return {"loss": float(loss.detach())}

    return train


if __name__ == "__main__":
    main()
