"""The rows of the table of docs/gpu.md: operations at the sizes of the network, and what they are to reach."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import kernels

from ...ops.linear import linear, linear_backward
from ...ops.resize import upsample_nearest, upsample_nearest_backward
from ..operations.op import Op, Runs, gbytes, in_dtype, in_torch, maps, normal
from ..operations.rows import rows

#: what the ratio of torch's time to ours is to reach, by the group of a row; forward and the rest
TARGETS: dict[str, tuple[float, float]] = {
    "GEMM": (0.75, 0.75),
    "conv 3x3 stride 1": (0.9, 0.9),
    "conv 1x1": (0.7, 0.7),
    "RoIAlign": (1.0, 1.0),
    "NMS": (1.0, 1.0),
    "mask paste": (1.0, 1.0),
    "match anchors": (1.0, 1.0),
}
#: of these rows the share of the measured copy bandwidth counts instead
BANDWIDTH = ("batch norm", "group norm", "max pool", "upsample 2x", "SGD")
SHARE = 0.8


class Gemm(Op):
    """A product of two square matrices; backward are the two products of its gradients."""

    group = "GEMM"

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side, self.case = side, f"{side} x {side} x {side}"
        self.gflop = {"forward": 2e-9 * side**3, "backward": 4e-9 * side**3}

    def prepare(self, rng: np.random.Generator) -> None:
        """Draw the matrices."""
        self.x, self.w, self.dy = (normal(rng, (self.side, self.side)) for _ in range(3))

    def ours(self, dtype: type) -> Runs:
        """Return our functions."""
        x, w, dy = in_dtype(dtype, self.x, self.w, self.dy)
        _, cache = linear(x, w)
        return {"forward": lambda: linear(x, w)[:1], "backward": lambda: linear_backward(dy, cache)[:2]}

    def theirs(self, variant: str) -> Runs:
        """Return the framework's functions."""
        import torch

        x, w, dy = (torch.from_numpy(a) for a in (self.x, self.w, self.dy))
        return in_torch(torch.mm, [x, w], dy)


class Upsample(Op):
    """Each cell repeated to 2 x 2: the top-down path of the pyramid."""

    group = "upsample 2x"

    def __init__(self, size: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.shape, self.case = (1, *size, channels), f"{channels}@{size[0]}x{size[1]}"

    def prepare(self, rng: np.random.Generator) -> None:
        """Draw the maps."""
        _, height, width, channels = self.shape
        self.x, self.dy = normal(rng, self.shape), normal(rng, (1, 2 * height, 2 * width, channels))
        self.gbytes = dict.fromkeys(self.directions, gbytes(self.x, self.dy))

    def ours(self, dtype: type) -> Runs:
        """Return our functions."""
        x, dy = in_dtype(dtype, self.x, self.dy)
        _, cache = upsample_nearest(x, scale=2)
        return {
            "forward": lambda: upsample_nearest(x, scale=2)[:1],
            "backward": lambda: [upsample_nearest_backward(dy, cache)],
        }

    def theirs(self, variant: str) -> Runs:
        """Return the framework's functions."""
        import torch.nn.functional as F

        return in_torch(lambda x: F.interpolate(x, scale_factor=2), [maps(self.x)], maps(self.dy))


def works(*, quick: bool = False) -> Iterator[Op]:
    """Yield the rows, one at a time; ``quick`` makes them small, for tests."""
    yield Gemm(64 if quick else 4096)
    yield Upsample((4, 6) if quick else (100, 136), 8 if quick else 256)
    for op in rows(quick=quick):
        if op.group != "mask paste" or not quick:
            yield op


def on_device(op: Op) -> Op:
    """Move the inputs of a prepared row to the device."""
    for name, value in vars(op).items():
        if isinstance(value, (np.ndarray, dict, list, tuple)) and name not in ("gflop", "gbytes", "targets", "shapes"):
            setattr(op, name, kernels.to_device(value))
    return op


def target(op: Op, direction: str) -> float | None:
    """Return what the ratio is to reach; None where there is no demand, or the bandwidth counts."""
    found = TARGETS.get(op.group)
    return None if found is None else found[direction != "forward"]


def counts_bandwidth(op: Op) -> bool:
    """Tell whether the share of the copy bandwidth is what counts."""
    return op.group.lower().startswith(tuple(name.lower() for name in BANDWIDTH))
