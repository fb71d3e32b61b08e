"""Operations on boxes and regions, and the optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...boxes import iou
from ...config import presets
from ...detections import paste_masks
from ...network import spec
from ...nms import nms
from ...ops.roi_align import roi_align, roi_align_backward
from ...ops.roi_pool import roi_pool, roi_pool_backward
from ...params import Params, trainable
from ...training.optim import sgd_step
from .op import Op, Runs, as_array, gbytes, in_dtype, in_torch, maps, normal

ORDER = [1, 0, 3, 2]
SCALE = 0.25  # of the finest level of the pyramid


def draw_boxes(rng: np.random.Generator, count: int, size: tuple[int, int], sides: tuple[float, float]) -> np.ndarray:
    """Return boxes all over an image, (count, 4), with log-uniform sides.

    Parameters
    ----------
    rng : numpy.random.Generator
    count : int
    size : tuple of int
        (H, W) of the image.
    sides : tuple of float
        The shortest and the longest, in pixels.
    """
    half = np.exp(rng.uniform(np.log(sides[0]), np.log(sides[1]), (count, 2))) / 2
    centre = rng.uniform(0, size, (count, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return np.clip(boxes, 0, [*size, *size]).astype(np.float32)


def xyxy(boxes: np.ndarray) -> Any:
    """Return (y1, x1, y2, x2) as a tensor (x1, y1, x2, y2)."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(boxes[:, ORDER]))


class RoiAlign(Op):
    """RoIs of all sizes read from one map, by RoIAlign with 2x2 samples a bin or by RoIPool."""

    def __init__(self, count: int, bins: int, channels: int, size: tuple[int, int], *, pool: bool = False) -> None:
        super().__init__()
        self.group, self.pool = "RoIPool" if pool else "RoIAlign", pool
        self.case = f"{count} RoIs {bins}x{bins}x{channels} on {size[0]}x{size[1]}"
        self.count, self.bins, self.shape = count, bins, (1, *size, channels)
        self.targets = {} if pool else {"forward": 2.0, "backward": 2.0}

    def prepare(self, rng: np.random.Generator) -> None:
        height, width = (round(length / SCALE) for length in self.shape[1:3])
        self.x = normal(rng, self.shape)
        self.dy = normal(rng, (self.count, self.bins, self.bins, self.shape[3]))
        self.rois = draw_boxes(rng, self.count, (height, width), (min(16, height / 4), height / 2))
        self.index = np.zeros(self.count, np.int64)
        self.gbytes = {d: gbytes(self.x, self.dy) for d in self.directions}

    def ours(self, dtype: type) -> Runs:
        x, dy, rois = in_dtype(dtype, self.x, self.dy, self.rois)
        settings: dict[str, Any] = {"output_size": self.bins, "spatial_scale": SCALE}
        if self.pool:
            _, cache = roi_pool(x, rois, self.index, **settings)
            return {
                "forward": lambda: roi_pool(x, rois, self.index, **settings)[:1],
                "backward": lambda: [roi_pool_backward(dy, cache)],
            }
        _, cache = roi_align(x, rois, self.index, sampling_ratio=2, aligned=False, **settings)
        return {
            "forward": lambda: roi_align(x, rois, self.index, sampling_ratio=2, aligned=False, **settings)[:1],
            "backward": lambda: [roi_align_backward(dy, cache)],
        }

    def theirs(self, variant: str) -> Runs:
        import torch
        from torchvision import ops

        rois = torch.cat([torch.zeros(self.count, 1), xyxy(self.rois)], dim=1)

        def read(x: Any) -> Any:
            if self.pool:
                return ops.roi_pool(x, rois, self.bins, SCALE)
            return ops.roi_align(x, rois, self.bins, SCALE, 2, False)

        return in_torch(read, [maps(self.x)], maps(self.dy))


class Nms(Op):
    """Suppression among boxes that crowd about some places, as proposals do."""

    group, directions = "NMS", ("forward",)

    def __init__(self, count: int) -> None:
        super().__init__()
        self.case, self.count, self.targets = f"{count:,} boxes", count, {"forward": 1.0}

    def prepare(self, rng: np.random.Generator) -> None:
        places = draw_boxes(rng, self.count // 20, (800, 1088), (16, 400))
        jitter = rng.normal(0, 6, (self.count, 4)).astype(np.float32)
        boxes = places[rng.integers(0, len(places), self.count)] + jitter
        self.boxes = np.concatenate([boxes[:, :2], np.maximum(boxes[:, 2:], boxes[:, :2] + 1)], axis=1)
        self.scores = rng.permutation(self.count).astype(np.float32) / self.count  # no ties

    def ours(self, dtype: type) -> Runs:
        boxes, scores = in_dtype(dtype, self.boxes, self.scores)
        return {"forward": lambda: [nms(boxes, scores, 0.7)]}

    def theirs(self, variant: str) -> Runs:
        import torch
        from torchvision import ops

        boxes, scores = xyxy(self.boxes), torch.from_numpy(self.scores)
        return {"forward": lambda: [ops.nms(boxes, scores, 0.7)]}


class Iou(Op):
    """Overlap of every anchor of an 800x1088 image with every object."""

    group, directions = "IoU", ("forward",)

    def __init__(self, anchors: int, objects: int) -> None:
        super().__init__()
        self.case, self.counts = f"{anchors:,} x {objects} boxes", (anchors, objects)

    def prepare(self, rng: np.random.Generator) -> None:
        self.a, self.b = (draw_boxes(rng, count, (800, 1088), (16, 400)) for count in self.counts)
        self.gbytes = {"forward": 4e-9 * self.counts[0] * self.counts[1]}

    def ours(self, dtype: type) -> Runs:
        a, b = in_dtype(dtype, self.a, self.b)
        return {"forward": lambda: [iou(a, b)]}

    def theirs(self, variant: str) -> Runs:
        from torchvision import ops

        a, b = xyxy(self.a), xyxy(self.b)
        return {"forward": lambda: [ops.box_iou(a, b)]}


class Paste(Op):
    """Masks of 28x28 resized to their boxes; ours are thresholded, torchvision's not yet."""

    group, directions = "mask paste", ("forward",)

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.case, self.count, self.size = f"{count} masks to {size[0]}x{size[1]}", count, size
        self.targets = {"forward": 3.0}
        self.config = presets.torchvision()

    def prepare(self, rng: np.random.Generator) -> None:
        self.boxes = draw_boxes(rng, self.count, self.size, (16, self.size[0] / 2))
        self.boxes[:, 2:] = np.maximum(self.boxes[:, 2:], self.boxes[:, :2] + 4)
        self.masks = rng.uniform(0, 1, (self.count, 28, 28)).astype(np.float32)
        self.gbytes = {"forward": 1e-9 * self.count * self.size[0] * self.size[1]}

    def ours(self, dtype: type) -> Runs:
        masks, boxes = in_dtype(dtype, self.masks, self.boxes)
        return {"forward": lambda: [paste_masks(masks, boxes, self.size, self.config)]}

    def theirs(self, variant: str) -> Runs:
        import torch
        from torchvision.models.detection.roi_heads import paste_masks_in_image

        masks, boxes = torch.from_numpy(self.masks)[:, None], xyxy(self.boxes)
        return {"forward": lambda: [paste_masks_in_image(masks, boxes, self.size)]}

    def translate(self, direction: str, result: Any) -> list[np.ndarray]:
        return [as_array(result[0])[..., 0] >= 0.5]


class Sgd(Op):
    """One update with momentum and weight decay of all parameters of a ResNet-50 Mask R-CNN."""

    group, directions, variants = "SGD", ("update",), ("default", "fused")

    def __init__(self, *, quick: bool) -> None:
        super().__init__()
        self.config = (presets.tiny() if quick else presets.torchvision()).replace(no_decay=())  # as PyTorch decays
        self.shapes = {name: t.shape for name, t in spec(self.config).items() if trainable(name)}
        self.case = f"{sum(int(np.prod(s)) for s in self.shapes.values()) / 1e6:.1f} M parameters"

    def prepare(self, rng: np.random.Generator) -> None:
        self.start, self.grads, self.velocity = (
            {name: normal(rng, shape, scale) for name, shape in self.shapes.items()} for scale in (1, 1, 0.1)
        )
        self.gbytes = {"update": 5 * gbytes(*self.start.values())}  # read p, v, g; write p, v

    def ours(self, dtype: type) -> Runs:
        params: Params = {name: a.astype(dtype) for name, a in self.start.items()}
        grads: Params = {name: a.astype(dtype) for name, a in self.grads.items()}
        velocity: Params = {name: a.astype(dtype) for name, a in self.velocity.items()}

        def update() -> list[np.ndarray]:
            sgd_step(params, grads, velocity, learning_rate=1e-3, config=self.config)
            return list(params.values())

        return {"update": update}

    def theirs(self, variant: str) -> Runs:
        import torch

        params = {name: torch.from_numpy(a.copy()).requires_grad_() for name, a in self.start.items()}
        settings: dict[str, Any] = {"lr": 1e-3, "momentum": self.config.momentum}
        settings["weight_decay"] = self.config.weight_decay
        optimiser = torch.optim.SGD(params.values(), fused=variant == "fused" or None, **settings)
        for name, p in params.items():
            p.grad = torch.from_numpy(self.grads[name].copy())
            optimiser.state[p]["momentum_buffer"] = torch.from_numpy(self.velocity[name].copy())

        def update() -> list[Any]:
            optimiser.step()
            return list(params.values())

        return {"update": update}

    def translate(self, direction: str, result: Any) -> list[np.ndarray]:
        return [t.detach().numpy() for t in result]
