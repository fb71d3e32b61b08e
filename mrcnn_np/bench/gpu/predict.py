"""Predict every row from counted bytes, operations and launches: ``python -m mrcnn_np.bench.gpu.predict``.

A row has two floors: its bytes at the bandwidth of the card's memory, its operations at the card's rate. The predicted
time is what its launches take: a matrix product what the model says that chooses its tile (rounds of blocks, the share
of instructions that multiply; ``kernels.cuda.machine.tiles``), any other kernel the bytes it is given at the bandwidth
that a copy reaches; and each launch its start. Nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...files import write_text
from .dry_run import recording

OUT = Path("docs/gpu-predicted.json")


class Card(NamedTuple):
    """What the data sheet says of a card, and what is assumed of it.

    Attributes
    ----------
    name : str
    tflops : float
        10^12 float32 operations a second, without tensor cores.
    tbytes : float
        10^12 bytes a second.
    copy : float
        Share of that a copy reaches.
    launch : float
        Microseconds from one kernel's end to the next one's work.
    library : float
        Share of the rate that cuBLAS and cuDNN reach in float32.
    """

    name: str
    tflops: float
    tbytes: float
    copy: float
    launch: float
    library: float


H100 = Card("H100 SXM, data sheet", 66.9, 3.35, 0.9, 2.0, 0.78)


def work(op: Any, direction: str) -> tuple[float | None, float | None]:
    """Return 10^9 operations and 10^9 bytes of a row; None where nothing is counted.

    A convolution moves its maps and weights once, forward; backward the map, two gradients of maps, and weights twice.
    """
    flop, nbytes = op.gflop.get(direction), op.gbytes.get(direction)
    if op.group == "NMS":
        flop = 7e-9 * op.count**2  # 14 for each pair of boxes
    if hasattr(op, "x_shape"):
        x, w, y = (4e-9 * math.prod(shape) for shape in (op.x_shape, op.w_shape, op.y_shape))
        nbytes = x + w + y if direction == "forward" else 2 * (x + w) + y
    return flop, nbytes


def floors(op: Any, direction: str, card: Card = H100) -> dict[str, float | None]:
    """Return the two floors of a row in milliseconds; None where nothing is counted.

    Parameters
    ----------
    op : Op
    direction : str
    card : Card
    """
    flop, nbytes = work(op, direction)
    return {
        "operations": None if flop is None else flop / card.tflops,
        "bytes": None if nbytes is None else nbytes / card.tbytes,
    }


def seconds(launches: list[Any], nbytes: float, card: Card = H100) -> float:
    """Return the predicted time of launches in milliseconds.

    Parameters
    ----------
    launches : list of Launch
    nbytes : float
        What the row has to move at least, in 10^9: a kernel may reach its arrays by a table of addresses.
    card : Card
    """
    total = 0.0
    for launch in launches:
        moved = launch.nbytes / (card.tbytes * card.copy) / 1e6  # microseconds
        total += card.launch + (moved if launch.microseconds is None else max(moved, launch.microseconds))
    least = nbytes / (card.tbytes * card.copy) + len(launches) * card.launch / 1e3
    return max(total / 1e3, least)


def library(op: Any, direction: str, card: Card = H100) -> float | None:
    """Return what PyTorch is assumed to take for what its libraries compute, in milliseconds; None for the rest.

    Products and convolutions at the share that cuBLAS reaches (no Winograd) or a copy's bandwidth, whichever takes
    longer; elementwise work at a copy's bandwidth.

    Parameters
    ----------
    op : Op
    direction : str
    card : Card
    """
    flop, nbytes = work(op, direction)
    if flop is not None and op.group != "NMS":
        most = max(flop / card.tflops / card.library, (nbytes or 0.0) / card.tbytes / card.copy)
        return float(most) + card.launch / 1e3
    if nbytes is not None and op.group.lower().startswith(("batch", "group norm", "relu", "max", "sgd")):
        return float(nbytes / card.tbytes / card.copy) + card.launch / 1e3
    return None


def predict(card: Card = H100, *, quick: bool = False) -> dict[str, Any]:
    """Return all rows with floors, launches and predicted times."""
    found: list[dict[str, Any]] = []
    with recording() as launches:
        import kernels

        from .works import counts_bandwidth, on_device, target, works

        for op in works(quick=quick):
            op.prepare(np.random.default_rng(0))
            with kernels.use("cuda"), np.errstate(all="ignore"):
                runs = on_device(op).ours(np.float32)
                for direction in op.directions:
                    launches.clear()
                    try:
                        runs[direction]()
                    except (ValueError, IndexError):  # results that were not computed decide sizes: no prediction
                        continue
                    row: dict[str, Any] = {"group": op.group, "case": op.case, "direction": direction}
                    row |= {"target": target(op, direction), "bandwidth": counts_bandwidth(op)}
                    row |= {"floors": floors(op, direction, card), "launches": len(launches)}
                    row |= {
                        "ours": seconds(launches, op.gbytes.get(direction, 0.0), card),
                        "library": library(op, direction, card),
                    }
                    found.append(row)
        network = {} if quick else _network(launches, card)
    return {"card": card._asdict(), "rows": found, "network": network}


def _network(launches: list[Any], card: Card) -> dict[str, Any]:
    """Predict `maskrcnn_resnet50_fpn` on one image of 800 x 1088: inference without its choices, and a training step.

    Choices depend on values, which are not computed here: the heads are given 1000 regions and 100 detections.
    """
    import kernels

    from ...config import presets
    from ...heads import box_head, mask_head
    from ...model import MaskRCNN
    from ...sizes import layers, memory
    from ...synthetic import batch
    from ...targets import Targets
    from ...training.optim import clip_gradients, update, zero_velocity

    size, config = (800, 1088), presets.by_name("torchvision", batch_size=1)
    model, rng = MaskRCNN(config), np.random.default_rng(0)
    found: dict[str, Any] = {}

    def regions(count: int) -> tuple[Any, Any]:
        low = rng.uniform(0, 600, (count, 2))
        boxes = np.concatenate([low, low + rng.uniform(16, 200, (count, 2))], axis=1).astype(np.float32)
        return kernels.to_device(boxes), kernels.to_device(np.zeros(count, np.int64))

    def note(what: str, training: bool, rois: int, masks: int) -> None:
        flop = 1e-9 * sum(layer.operations for layer in layers(config, size, rois=rois, masks=masks))
        flop *= 3 if training else 1
        theirs = flop / card.tflops / card.library
        found[what] = {
            "gflop": flop, "launches": len(launches), "ours": seconds(launches, 0.0, card), "library": theirs,
            "memory": memory(config, size, training=training),
        }  # fmt: skip

    with kernels.use("cuda"), np.errstate(all="ignore"):
        model.settle()
        images = kernels.to_device(np.zeros((1, *size, 3), np.float32))
        launches.clear()
        pyramid, *_ = model.first_stage(images)
        for count, bins, head in ((1000, config.box_pool_size, box_head), (100, config.mask_pool_size, mask_head)):
            pooled, _ = model.roi_features(pyramid, *regions(count), bins, images.shape)
            head(pooled, model.params, config)
        note("inference", False, 1000, 100)

        rois, index = regions(config.rois_per_image)
        anchors = sum(len(a) for a in model.anchors(size, pyramid))
        labels = np.zeros((1, anchors), np.int8)
        labels[0, :256] = np.where(np.arange(256) < 128, 1, -1)
        class_ids = (np.arange(config.rois_per_image) < 128).astype(np.int64)
        sampled = Targets(
            labels, np.zeros((1, anchors, 4), np.float32), kernels.to_host(rois), kernels.to_host(index), class_ids,
            np.zeros((len(class_ids), 4), np.float32), np.zeros((128, 28, 28), np.float32),
        )  # fmt: skip
        velocity = kernels.to_device(zero_velocity(kernels.to_host(model.params), config))
        ready = batch(size, config.replace(image_min_size=size[0], image_max_size=size[1]))
        launches.clear()
        _, cache = model.losses(ready, 0, targets=sampled)
        grads = {name: g for name, g in model.backward(cache, consume=True).items() if name in velocity}
        clip_gradients(grads, config.clip_norm)
        update(model.params, grads, velocity, learning_rate=0.1, config=config)
        note("training step", True, config.rois_per_image, 128)
    return found


def main() -> None:
    """Write what is predicted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    result = predict(quick=args.quick)
    write_text(args.out, json.dumps(result, indent=1) + "\n")
    for row in result["rows"]:
        theirs = row["library"]
        ratio = "" if theirs is None else f"{theirs / row['ours']:.2f}"
        print(f"{row['group']:24} {row['case']:30} {row['direction']:9} {row['launches']:3} {row['ours']:8.3f} {ratio}")
    for what, row in result["network"].items():
        print(f"{what}: {row}")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
