"""Convolutions and what stands between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.activation import relu, relu_backward
from ...ops.conv import conv2d, conv2d_backward, conv2d_transpose, conv2d_transpose_backward
from ...ops.fused import conv2d_fused, conv2d_fused_backward
from ...ops.group_norm import group_norm, group_norm_backward
from ...ops.linear import linear, linear_backward
from ...ops.norm import batch_norm, batch_norm_backward
from ...ops.pool import max_pool2d, max_pool2d_backward
from ...ops.resize import upsample_nearest, upsample_nearest_backward
from .op import Op, Runs, as_array, gbytes, in_dtype, in_torch, kernel, maps, normal

FORMATS = ("NCHW", "channels_last")


class Conv(Op):
    """Convolution without bias; its backward pass returns the gradients of input and weights."""

    variants = FORMATS

    def __init__(
        self, group: str, n: int, size: tuple[int, int], c_in: int, c_out: int, side: int,
        *, stride: int = 1, groups: int = 1, forward: float = 1.0, backward: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.group, self.stride, self.groups, self.padding = group, stride, groups, side // 2
        channels = f"{c_in}" if c_in == c_out else f"{c_in}->{c_out}"
        self.case = f"{channels}@{size[0]}x{size[1]}" + (f"x{n}" if n > 1 else "")
        self.x_shape, self.w_shape = (n, *size, c_in), (side, side, c_in // groups, c_out)
        out = [(length + 2 * self.padding - side) // stride + 1 for length in size]
        self.y_shape = (n, *out, c_out)
        work = 2e-9 * float(np.prod(self.y_shape)) * side * side * c_in / groups
        self.gflop = {"forward": work, "backward": 2 * work}
        self.targets = {"forward": forward, "backward": backward}

    def prepare(self, rng: np.random.Generator) -> None:
        self.x, self.dy = normal(rng, self.x_shape), normal(rng, self.y_shape)
        self.w = normal(rng, self.w_shape, float(np.prod(self.w_shape[:3])) ** -0.5)

    def ours(self, dtype: type) -> Runs:
        x, w, dy = in_dtype(dtype, self.x, self.w, self.dy)
        settings: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "groups": self.groups}
        _, cache = conv2d(x, w, **settings)
        return {
            "forward": lambda: conv2d(x, w, **settings)[:1],
            "backward": lambda: conv2d_backward(dy, cache)[:2],
        }

    def theirs(self, variant: str) -> Runs:
        import torch.nn.functional as F

        def convolve(x: Any, w: Any) -> Any:
            return F.conv2d(x, w, stride=self.stride, padding=self.padding, groups=self.groups)

        return in_torch(convolve, [maps(self.x, variant), kernel(self.w, variant)], maps(self.dy, variant))

    def translate(self, direction: str, result: Any) -> list[np.ndarray]:
        return [as_array(result[0])] + [t.detach().permute(2, 3, 1, 0).numpy() for t in result[1:]]


class ConvTranspose(Op):
    """The 2x2 transposed convolution with stride 2 of the mask head."""

    group, variants = "transposed 2x2 stride 2", FORMATS

    def __init__(self, n: int, side: int, channels: int) -> None:
        super().__init__()
        self.case = f"{channels}@{side}x{side}x{n}"
        self.n, self.side, self.channels = n, side, channels
        work = 2e-9 * n * side * side * 4 * channels * channels
        self.gflop, self.targets = {"forward": work, "backward": 2 * work}, {"forward": 1.0, "backward": 1.0}

    def prepare(self, rng: np.random.Generator) -> None:
        n, s, c = self.n, self.side, self.channels
        self.x, self.dy = normal(rng, (n, s, s, c)), normal(rng, (n, 2 * s, 2 * s, c))
        self.w = normal(rng, (2, 2, c, c), c**-0.5)

    def ours(self, dtype: type) -> Runs:
        x, w, dy = in_dtype(dtype, self.x, self.w, self.dy)
        _, cache = conv2d_transpose(x, w, stride=2)
        return {
            "forward": lambda: conv2d_transpose(x, w, stride=2)[:1],
            "backward": lambda: conv2d_transpose_backward(dy, cache)[:2],
        }

    def theirs(self, variant: str) -> Runs:
        import torch.nn.functional as F

        w = kernel(self.w, variant, (2, 3, 0, 1))
        return in_torch(
            lambda x, w: F.conv_transpose2d(x, w, stride=2), [maps(self.x, variant), w], maps(self.dy, variant)
        )

    def translate(self, direction: str, result: Any) -> list[np.ndarray]:
        return [as_array(result[0])] + [t.detach().permute(2, 3, 0, 1).numpy() for t in result[1:]]


class Linear(Op):
    """Fully connected layer, as large as the first of the box head."""

    group = "linear"

    def __init__(self, rows: int, c_in: int, c_out: int) -> None:
        super().__init__()
        self.case, self.shape = f"{rows}x{c_in}->{c_out}", (rows, c_in, c_out)
        work = 2e-9 * rows * c_in * c_out
        self.gflop = {"forward": work, "backward": 2 * work}

    def prepare(self, rng: np.random.Generator) -> None:
        rows, c_in, c_out = self.shape
        self.x, self.dy = normal(rng, (rows, c_in)), normal(rng, (rows, c_out))
        self.w, self.b = normal(rng, (c_in, c_out), c_in**-0.5), normal(rng, (c_out,))

    def ours(self, dtype: type) -> Runs:
        x, w, b, dy = in_dtype(dtype, self.x, self.w, self.b, self.dy)
        _, cache = linear(x, w, b)
        return {"forward": lambda: linear(x, w, b)[:1], "backward": lambda: linear_backward(dy, cache)}

    def theirs(self, variant: str) -> Runs:
        import torch
        import torch.nn.functional as F

        w = torch.from_numpy(np.ascontiguousarray(self.w.T))
        return in_torch(F.linear, [torch.from_numpy(self.x), w, torch.from_numpy(self.b)], torch.from_numpy(self.dy))

    def translate(self, direction: str, result: Any) -> list[np.ndarray]:
        arrays = super().translate(direction, result)
        return arrays if direction == "forward" else [arrays[0], arrays[1].T, arrays[2]]


class _Elementwise(Op):
    """What one map goes in and one comes out of."""

    variants = FORMATS

    def __init__(self, size: tuple[int, int], channels: int, shrink: int = 1) -> None:
        super().__init__()
        self.case, self.shape = f"{channels}@{size[0]}x{size[1]}", (1, *size, channels)
        self.y_shape = (1, *(-(-length // shrink) for length in size), channels)

    def prepare(self, rng: np.random.Generator) -> None:
        self.x, self.dy = normal(rng, self.shape), normal(rng, self.y_shape)
        self.gbytes = {d: gbytes(self.x, self.dy) for d in self.directions}


class BatchNorm(_Elementwise):
    """Batch normalisation, frozen or with the statistics of the batch."""

    def __init__(self, size: tuple[int, int], channels: int, *, training: bool) -> None:
        super().__init__(size, channels)
        self.training = training
        self.group = f"batch norm, {'batch statistics' if training else 'frozen'}"

    def prepare(self, rng: np.random.Generator) -> None:
        super().prepare(rng)
        channels = self.shape[-1:]
        self.vectors = [normal(rng, channels), normal(rng, channels), normal(rng, channels)]
        self.vectors.append(rng.uniform(0.5, 2, channels).astype(np.float32))
        # with batch statistics the maps are read twice forward; x and dy twice backward, frozen once each
        one = self.x.nbytes / 1e9
        self.gbytes = {"forward": one * (3 if self.training else 2), "backward": one * (5 if self.training else 3)}

    def ours(self, dtype: type) -> Runs:
        x, dy = in_dtype(dtype, self.x, self.dy)
        gamma, beta, mean, var = [v.copy() for v in in_dtype(dtype, *self.vectors)]  # the statistics move
        _, cache = batch_norm(x, gamma, beta, mean, var, training=self.training)
        return {
            "forward": lambda: batch_norm(x, gamma, beta, mean, var, training=self.training)[:1],
            "backward": lambda: batch_norm_backward(dy, cache),
        }

    def theirs(self, variant: str) -> Runs:
        import torch
        import torch.nn.functional as F

        gamma, beta, mean, var = (torch.from_numpy(v.copy()) for v in self.vectors)

        def normalise(x: Any, gamma: Any, beta: Any) -> Any:
            return F.batch_norm(x, mean, var, gamma, beta, training=self.training)

        return in_torch(normalise, [maps(self.x, variant), gamma, beta], maps(self.dy, variant))


class GroupNorm(_Elementwise):
    """Group normalisation, 32 groups."""

    group = "group norm"

    def prepare(self, rng: np.random.Generator) -> None:
        super().prepare(rng)
        self.vectors = [normal(rng, self.shape[-1:]), normal(rng, self.shape[-1:])]
        one = self.x.nbytes / 1e9  # as for batch norm with the statistics of the batch
        self.gbytes = {"forward": 3 * one, "backward": 5 * one}

    def ours(self, dtype: type) -> Runs:
        x, dy, gamma, beta = in_dtype(dtype, self.x, self.dy, *self.vectors)
        _, cache = group_norm(x, gamma, beta)
        return {
            "forward": lambda: group_norm(x, gamma, beta)[:1],
            "backward": lambda: group_norm_backward(dy, cache),
        }

    def theirs(self, variant: str) -> Runs:
        import torch
        import torch.nn.functional as F

        def normalise(x: Any, gamma: Any, beta: Any) -> Any:
            return F.group_norm(x, 32, gamma, beta)

        vectors = (torch.from_numpy(v) for v in self.vectors)
        return in_torch(normalise, [maps(self.x, variant), *vectors], maps(self.dy, variant))


class MaxPool(_Elementwise):
    """The pool behind the stem: 3x3, stride 2."""

    group = "max pool 3x3 stride 2"

    def __init__(self, size: tuple[int, int], channels: int) -> None:
        super().__init__(size, channels, shrink=2)

    def prepare(self, rng: np.random.Generator) -> None:
        super().prepare(rng)
        self.gbytes = {d: count + 1e-9 * self.dy.size for d, count in self.gbytes.items()}  # which cell won: a byte

    def ours(self, dtype: type) -> Runs:
        x, dy = in_dtype(dtype, self.x, self.dy)
        _, cache = max_pool2d(x, kernel_size=3, stride=2, padding=1)
        return {
            "forward": lambda: max_pool2d(x, kernel_size=3, stride=2, padding=1)[:1],
            "backward": lambda: [max_pool2d_backward(dy, cache)],
        }

    def theirs(self, variant: str) -> Runs:
        import torch.nn.functional as F

        return in_torch(
            lambda x: F.max_pool2d(x, 3, stride=2, padding=1), [maps(self.x, variant)], maps(self.dy, variant)
        )


class UpsampleAdd(Op):
    """The top-down step of the pyramid: the lateral 1x1 convolution plus the coarser map, twice as large."""

    group, variants = "upsample-add", FORMATS

    def __init__(self, size: tuple[int, int], c_in: int, c_out: int) -> None:
        super().__init__()
        self.case = f"1x1 {c_in}->{c_out}@{size[0]}x{size[1]}"
        self.size, self.c_in, self.c_out = size, c_in, c_out
        work = 2e-9 * size[0] * size[1] * c_in * c_out
        self.gflop, self.targets = {"forward": work, "backward": 2 * work}, {"forward": 1.0, "backward": 1.0}

    def prepare(self, rng: np.random.Generator) -> None:
        height, width = self.size
        self.x, self.dy = normal(rng, (1, height, width, self.c_in)), normal(rng, (1, height, width, self.c_out))
        self.coarse = normal(rng, (1, height // 2, width // 2, self.c_out))
        self.w, self.b = normal(rng, (1, 1, self.c_in, self.c_out), self.c_in**-0.5), normal(rng, (self.c_out,))

    def ours(self, dtype: type) -> Runs:
        x, coarse, w, b, dy = in_dtype(dtype, self.x, self.coarse, self.w, self.b, self.dy)

        def merge() -> tuple[np.ndarray, Any, Any]:
            above, up_cache = upsample_nearest(coarse, scale=2)
            return (*conv2d_fused(x, w, b, residual=above), up_cache)

        _, lateral_cache, up_cache = merge()

        def backward() -> list[np.ndarray]:
            g = conv2d_fused_backward(dy, lateral_cache)
            assert g.dx is not None and g.db is not None and g.dresidual is not None
            return [g.dx, upsample_nearest_backward(g.dresidual, up_cache), g.dw, g.db]

        return {"forward": lambda: merge()[:1], "backward": backward}

    def theirs(self, variant: str) -> Runs:
        import torch
        import torch.nn.functional as F

        def merge(x: Any, coarse: Any, w: Any, b: Any) -> Any:
            return F.conv2d(x, w, b) + F.interpolate(coarse, scale_factor=2, mode="nearest")

        inputs = [maps(self.x, variant), maps(self.coarse, variant), kernel(self.w, variant), torch.from_numpy(self.b)]
        return in_torch(merge, inputs, maps(self.dy, variant))

    def translate(self, direction: str, result: Any) -> list[np.ndarray]:
        arrays = super().translate(direction, result)
        if direction == "backward":
            arrays[2] = result[2].detach().permute(2, 3, 1, 0).numpy()
        return arrays


class Relu(_Elementwise):
    """ReLU."""

    group = "relu"

    def ours(self, dtype: type) -> Runs:
        x, dy = in_dtype(dtype, self.x, self.dy)
        _, cache = relu(x)
        return {"forward": lambda: relu(x)[:1], "backward": lambda: [relu_backward(dy, cache)]}

    def theirs(self, variant: str) -> Runs:
        import torch.nn.functional as F

        return in_torch(F.relu, [maps(self.x, variant)], maps(self.dy, variant))
