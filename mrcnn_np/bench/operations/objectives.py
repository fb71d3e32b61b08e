"""What training compares with and how far off it is: targets, losses and their activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.activation import sigmoid, softmax
from ...ops.losses import (
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)
from ...targets import crop_masks, label_anchors
from .op import Op, Runs, gbytes, in_dtype, in_torch, normal
from .regions import Iou, draw_boxes, xyxy


class LabelAnchors(Iou):
    """Which anchors of an 800x1088 image are positive, negative, neutral; theirs from ready overlaps of all pairs."""

    group = "match anchors"

    def prepare(self, rng: np.random.Generator) -> None:
        super().prepare(rng)
        self.gbytes = {"forward": gbytes(self.a) + 9e-9 * len(self.a)}

    def ours(self, dtype: type) -> Runs:
        a, b = in_dtype(dtype, self.a, self.b)
        return {"forward": lambda: [label_anchors(a, b, negative_iou=0.3, positive_iou=0.7, match_best=True)[0] == 1]}

    def theirs(self, variant: str) -> Runs:
        from torchvision import ops
        from torchvision.models.detection._utils import Matcher

        a, b, matcher = xyxy(self.a), xyxy(self.b), Matcher(0.7, 0.3, allow_low_quality_matches=True)
        return {"forward": lambda: [matcher(ops.box_iou(b, a)) >= 0]}


class CropMasks(Op):
    """Mask targets: RoIs read from whole masks by RoIAlign."""

    group, directions = "mask targets", ("forward",)

    def __init__(self, rois: int, objects: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.case = f"{rois} RoIs of {objects} masks {size[0]}x{size[1]}"
        self.rois, self.objects, self.size = rois, objects, size

    def prepare(self, rng: np.random.Generator) -> None:
        self.boxes = draw_boxes(rng, self.rois, self.size, (self.size[0] / 20, self.size[0] / 2))
        self.boxes[:, 2:] = np.maximum(self.boxes[:, 2:], self.boxes[:, :2] + 1)
        self.masks = rng.random((self.objects, *self.size)) < 0.5
        self.owner = rng.integers(0, self.objects, self.rois)

    def ours(self, dtype: type) -> Runs:
        (boxes,) = in_dtype(dtype, self.boxes)
        how: dict[str, Any] = {"output_size": 28, "method": "roi_align", "aligned": False}
        return {"forward": lambda: [crop_masks(self.masks, self.owner, boxes, **how)]}

    def theirs(self, variant: str) -> Runs:
        import torch
        from torchvision.models.detection.roi_heads import project_masks_on_boxes

        masks, boxes, owner = torch.from_numpy(self.masks), xyxy(self.boxes), torch.from_numpy(self.owner)
        return {"forward": lambda: [project_masks_on_boxes(masks, boxes, owner, 28)]}


class Activation(Op):
    """Sigmoid of mask logits or softmax of class logits, in inference."""

    directions = ("forward",)

    def __init__(self, name: str, *shape: int) -> None:
        super().__init__()
        self.group, self.case, self.shape = name, "x".join(map(str, shape)), shape

    def prepare(self, rng: np.random.Generator) -> None:
        self.x = normal(rng, self.shape, 4.0)
        self.gbytes = {"forward": 2 * gbytes(self.x)}

    def ours(self, dtype: type) -> Runs:
        (x,) = in_dtype(dtype, self.x)
        function = sigmoid if self.group == "sigmoid" else softmax
        return {"forward": lambda: function(x)[:1]}

    def theirs(self, variant: str) -> Runs:
        import torch

        function = torch.sigmoid if self.group == "sigmoid" else (lambda x: torch.softmax(x, dim=-1))
        return {"forward": in_torch(function, [torch.from_numpy(self.x)], torch.from_numpy(self.x))["forward"]}


class ClassLoss(Op):
    """Cross entropy of the sampled RoIs' classes."""

    group = "softmax cross entropy"

    def __init__(self, rows: int, classes: int) -> None:
        super().__init__()
        self.case, self.shape = f"{rows}x{classes}", (rows, classes)

    def prepare(self, rng: np.random.Generator) -> None:
        self.x, self.dy = normal(rng, self.shape, 4.0), normal(rng, self.shape[:1])
        self.labels = rng.integers(0, self.shape[1], self.shape[0])
        self.gbytes = {d: 2 * gbytes(self.x) for d in self.directions}

    def ours(self, dtype: type) -> Runs:
        x, dy = in_dtype(dtype, self.x, self.dy)
        _, cache = softmax_cross_entropy(x, self.labels)
        return {
            "forward": lambda: softmax_cross_entropy(x, self.labels)[:1],
            "backward": lambda: [softmax_cross_entropy_backward(dy, cache)],
        }

    def theirs(self, variant: str) -> Runs:
        import torch
        import torch.nn.functional as F

        labels = torch.from_numpy(self.labels)
        return in_torch(
            lambda x: F.cross_entropy(x, labels, reduction="none"),
            [torch.from_numpy(self.x)],
            torch.from_numpy(self.dy),
        )


class MaskLoss(Op):
    """Binary cross entropy of the positive RoIs' masks."""

    group = "sigmoid cross entropy"

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.case, self.shape = "x".join(map(str, shape)), shape

    def prepare(self, rng: np.random.Generator) -> None:
        self.x, self.dy = normal(rng, self.shape, 4.0), normal(rng, self.shape)
        self.t = np.round(rng.random(self.shape, np.float32))
        self.gbytes = {"forward": 3 * gbytes(self.x), "backward": 4 * gbytes(self.x)}

    def ours(self, dtype: type) -> Runs:
        x, t, dy = in_dtype(dtype, self.x, self.t, self.dy)
        _, cache = sigmoid_cross_entropy(x, t)
        return {
            "forward": lambda: sigmoid_cross_entropy(x, t)[:1],
            "backward": lambda: [sigmoid_cross_entropy_backward(dy, cache)],
        }

    def theirs(self, variant: str) -> Runs:
        import torch
        import torch.nn.functional as F

        t = torch.from_numpy(self.t)
        return in_torch(
            lambda x: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
            [torch.from_numpy(self.x)], torch.from_numpy(self.dy),
        )  # fmt: skip
