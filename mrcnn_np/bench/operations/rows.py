"""The rows of the table of operations: sizes that occur in a ResNet-50 Mask R-CNN on one image of 800x1088."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .layers import BatchNorm, Conv, ConvTranspose, GroupNorm, Linear, MaxPool, Relu, UpsampleAdd
from .objectives import Activation, ClassLoss, CropMasks, LabelAnchors, MaskLoss
from .op import Op
from .regions import Iou, Nms, Paste, RoiAlign, Sgd

WINOGRAD = "conv 3x3 stride 1"
#: What the geometric mean over the rows of a group is to reach
MEANS = {(WINOGRAD, "forward"): 2.0, (WINOGRAD, "backward"): 1.5}


def rows(*, quick: bool = False) -> Iterator[Op]:
    """Yield the operations, one at a time for their inputs are large; ``quick`` makes them small, for tests."""
    yield from _convolutions(8 if quick else 1)
    yield from _others(8 if quick else 1, quick)


def _convolutions(s: int) -> Iterator[Op]:
    """Yield the convolutions, with maps smaller by ``s``."""

    def size(height: int, width: int) -> tuple[int, int]:
        return max(4, height // s), max(4, width // s)

    # A single row of the first group may fall below the mean that counts, but not below 1.3 forward
    w: dict[str, Any] = {"forward": 1.3, "backward": 1.5}
    yield Conv(WINOGRAD, 1, size(200, 272), 64, 64, 3, **w)
    yield Conv(WINOGRAD, 1, size(100, 136), 128, 128, 3, **w)
    yield Conv(WINOGRAD, 1, size(50, 68), 256, 256, 3, **w)
    yield Conv(WINOGRAD, 1, size(25, 34), 512, 512, 3, **w)
    yield Conv(WINOGRAD, 1, size(200, 272), 256, 256, 3, **w)
    yield Conv(WINOGRAD, 100 // s, (14, 14), 256, 256, 3, **w)
    yield Conv("conv 1x1", 1, size(200, 272), 64, 256, 1)
    yield Conv("conv 1x1", 1, size(200, 272), 256, 64, 1)
    yield Conv("conv 1x1", 1, size(50, 68), 1024, 256, 1)
    yield Conv("conv 3x3 stride 2", 1, size(200, 272), 128, 128, 3, stride=2)
    yield Conv("conv 3x3 stride 2", 1, size(100, 136), 256, 256, 3, stride=2)
    yield Conv("conv 7x7 stride 2", 1, size(800, 1088), 3, 64, 7, stride=2)
    yield ConvTranspose(100 // s, 14, 256)
    for height, width, channels in ((200, 272, 128), (100, 136, 256), (50, 68, 512), (25, 34, 1024)):
        yield Conv("grouped 32x4d", 1, size(height, width), channels, channels, 3, groups=32)


def _others(s: int, quick: bool) -> Iterator[Op]:
    def size(height: int, width: int) -> tuple[int, int]:
        return max(4, height // s // 2 * 2), max(4, width // s // 2 * 2)

    yield Linear(1000 // s, 12544 // s, 1024 // s)
    yield BatchNorm(size(200, 272), 256, training=False)
    yield BatchNorm(size(200, 272), 256, training=True)
    yield GroupNorm(size(200, 272), 256)
    yield MaxPool(size(400, 544), 64)
    yield UpsampleAdd(size(200, 272), 256 // s, 256)
    yield Relu(size(200, 272), 256)
    yield RoiAlign(1000 // s, 7, 256, size(200, 272))
    yield RoiAlign(1000 // s, 7, 256, size(200, 272), pool=True)
    yield Nms(12_000 // s // s)
    yield Iou(217_413 // s, 20)
    yield LabelAnchors(217_413 // s, 20)
    yield CropMasks(128 // s, 5, size(800, 1088))
    yield Activation("sigmoid", 100 // s, 28, 28)
    yield Activation("softmax", 1000 // s, 91)
    yield ClassLoss(512 // s, 91)
    yield MaskLoss(128 // s, 28, 28)
    yield Paste(100 // s, size(800, 1088))
    yield Sgd(quick=quick)
