"""Convolutions, layers, activations and losses beside PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ...ops import activation, conv, fused, group_norm, linear, losses, norm, pool, resize
from .case import Case, nchw, nhwc, normal, oihw, only_forward, with_gradients


def convolutions() -> Iterator[Case]:
    """Convolutions of every kind that the networks have, and one for each special way of computing them."""
    for name, shape, kernel, stride, padding, groups in (
        ("1x1", (2, 13, 17, 64), (1, 1, 64, 48), 1, 0, 1),
        ("1x1 stride 2", (2, 14, 18, 64), (1, 1, 64, 32), 2, 0, 1),
        ("3x3", (1, 16, 20, 64), (3, 3, 64, 64), 1, 1, 1),
        ("3x3, a long sum", (1, 17, 19, 256), (3, 3, 256, 32), 1, 1, 1),
        ("3x3, few channels", (2, 9, 7, 6), (3, 3, 6, 5), 1, 1, 1),
        ("3x3 stride 2", (2, 14, 18, 32), (3, 3, 32, 32), 2, 1, 1),
        ("7x7 stride 2, the stem", (1, 33, 40, 3), (7, 7, 3, 16), 2, 3, 1),
        ("7x7 of a RoI", (8, 7, 7, 32), (7, 7, 32, 64), 1, 0, 1),
        ("32 groups", (1, 12, 14, 128), (3, 3, 4, 128), 1, 1, 32),
        ("32 groups stride 2", (1, 12, 14, 128), (3, 3, 4, 128), 2, 1, 32),
        ("asymmetric padding", (2, 8, 10, 3), (3, 3, 3, 4), 2, ((0, 1), (2, 0)), 1),
    ):
        (top, bottom), (left, right) = ((padding,) * 2,) * 2 if isinstance(padding, int) else padding
        edges = (left, right, top, bottom)

        def theirs(x: Any, w: Any, b: Any, *, edges: Any = edges, stride: int = stride, groups: int = groups) -> Any:
            return nhwc(F.conv2d(F.pad(nchw(x), edges), oihw(w), b, stride=stride, groups=groups))

        inputs = (normal(0, *shape), normal(1, *kernel), normal(2, kernel[3]))
        ours = with_gradients(conv.conv2d, conv.conv2d_backward, 3, stride=stride, padding=padding, groups=groups)
        large = shape[0] * shape[1] * shape[2] >= 256 and kernel[2] >= 32
        yield Case("conv2d", name, inputs, ours, theirs, winograd=kernel[:2] == (3, 3) and large and stride == 1)

    inputs = (normal(0, 3, 7, 6, 32), normal(1, 2, 2, 32, 16), normal(2, 16))
    ours = with_gradients(conv.conv2d_transpose, conv.conv2d_transpose_backward, 3, stride=2)
    yield Case(
        "conv2d_transpose", "2x2 stride 2", inputs, ours,
        lambda x, w, b: nhwc(F.conv_transpose2d(nchw(x), w.permute(2, 3, 0, 1).contiguous(), b, stride=2)),
    )  # fmt: skip
    yield from _fused()


def _fused() -> Iterator[Case]:
    for name, shape, kernel, padding in (
        ("1x1, batch norm, sum, ReLU", (1, 16, 20, 64), (1, 1, 64, 64), 0),
        ("3x3, batch norm, sum, ReLU", (1, 16, 20, 64), (3, 3, 64, 64), 1),
    ):
        c = kernel[3]
        mean, var = normal(6, c), np.random.default_rng(3).uniform(0.5, 2, c).astype(np.float32)

        def ours(
            x: Any,
            w: Any,
            b: Any,
            gamma: Any,
            beta: Any,
            z: Any,
            *,
            padding: int = padding,
            mean: Any = mean,
            var: Any = var,
        ) -> Any:
            norm = (gamma, beta, mean.astype(x.dtype), var.astype(x.dtype), 1e-5)
            y, cache = fused.conv2d_fused(x, w, b, padding=padding, norm=norm, residual=z, activate=True)
            return y, lambda dy: tuple(fused.conv2d_fused_backward(dy, cache))

        def theirs(
            x: Any, w: Any, b: Any, gamma: Any, beta: Any, z: Any, *, p: int = padding, mean: Any = mean, var: Any = var
        ) -> Any:
            mu, sigma2 = torch.from_numpy(mean).to(x.dtype), torch.from_numpy(var).to(x.dtype)
            y = F.batch_norm(F.conv2d(nchw(x), oihw(w), b, padding=p), mu, sigma2, gamma, beta, eps=1e-5)
            return F.relu(nhwc(y) + z)

        vectors = (normal(2, c), normal(4, c), normal(5, c))
        inputs = (normal(0, *shape), normal(1, *kernel), *vectors, normal(7, *shape[:3], c))
        yield Case("conv2d_fused", name, inputs, ours, theirs, winograd=kernel[0] == 3)


def layers() -> Iterator[Case]:
    """Normalisation, pooling, resizing, fully connected layers."""
    mean, var = normal(3, 6), np.random.default_rng(4).uniform(0.5, 2, 6).astype(np.float32)
    inputs = (normal(0, 2, 16, 12, 6) * 3 + 1, normal(1, 6), normal(2, 6))
    for training in (True, False):

        def ours(x: Any, gamma: Any, beta: Any, *, training: bool = training) -> Any:
            running = mean.astype(x.dtype), var.astype(x.dtype)
            y, cache = norm.batch_norm(x, gamma, beta, *running, training=training)
            return y, lambda dy: norm.batch_norm_backward(dy, cache)

        def theirs(x: Any, gamma: Any, beta: Any, *, training: bool = training) -> Any:
            running = [torch.from_numpy(a).to(x.dtype, copy=True) for a in (mean, var)]
            return nhwc(F.batch_norm(nchw(x), running[0], running[1], gamma, beta, training=training, eps=1e-5))

        yield Case("batch_norm", "of the batch" if training else "frozen", inputs, ours, theirs)

    for groups in (2, 6):
        ours = with_gradients(group_norm.group_norm, group_norm.group_norm_backward, 3, groups=groups)
        yield Case(
            "group_norm", f"{groups} groups", inputs, ours,
            lambda x, gamma, beta, groups=groups: nhwc(F.group_norm(nchw(x), groups, gamma, beta)),
        )  # fmt: skip

    x = normal(0, 2, 17, 24, 16)
    ours = with_gradients(pool.max_pool2d, pool.max_pool2d_backward, kernel_size=3, stride=2, padding=1)
    yield Case("max_pool2d", "3x3 stride 2", (x,), ours, lambda x: nhwc(F.max_pool2d(nchw(x), 3, 2, 1)))
    ours = with_gradients(resize.upsample_nearest, resize.upsample_nearest_backward, scale=2)
    yield Case(
        "upsample_nearest", "x 2", (x,), ours, lambda x: nhwc(F.interpolate(nchw(x), scale_factor=2, mode="nearest"))
    )
    for name, size in (("smaller", (9, 11)), ("larger", (40, 53))):
        ours = with_gradients(resize.resize_bilinear, resize.resize_bilinear_backward, size=size)
        yield Case(
            "resize_bilinear", name, (x,), ours,
            lambda x, size=size: nhwc(F.interpolate(nchw(x), size=size, mode="bilinear", align_corners=False)),
        )  # fmt: skip
    masks = normal(0, 5, 60, 80) > 0
    yield Case(
        "resize_nearest", "60x80 to 96x128", (masks,), only_forward(resize.resize_nearest, size=(96, 128)),
        lambda m: F.interpolate(m[:, None].float(), size=(96, 128), mode="nearest")[:, 0].bool(), decision=True,
    )  # fmt: skip
    inputs = (normal(0, 40, 500), normal(1, 500, 30), normal(2, 30))
    yield Case(
        "linear",
        "500 to 30",
        inputs,
        with_gradients(linear.linear, linear.linear_backward, 3),
        lambda x, w, b: F.linear(x, w.T, b),
    )
    yield Case(
        "channel_sum", "2x40x30x16", (normal(0, 2, 40, 30, 16),), only_forward(linear.channel_sum),
        lambda x: x.sum(dim=(0, 1, 2)),
    )  # fmt: skip


def elementwise() -> Iterator[Case]:
    """Activations and losses."""
    x = 5 * normal(0, 60, 21)
    x[0], x[1] = 0, np.linspace(-90, 90, 21)  # the kink, and where exp would overflow in float32
    yield Case("relu", "60x21", (x,), with_gradients(activation.relu, activation.relu_backward), F.relu)
    yield Case("sigmoid", "60x21", (x,), with_gradients(activation.sigmoid, activation.sigmoid_backward), torch.sigmoid)
    ours = with_gradients(activation.softmax, activation.softmax_backward)
    yield Case("softmax", "60x21", (x,), ours, lambda x: F.softmax(x, dim=-1))
    labels = np.random.default_rng(1).integers(0, 21, 60)
    ours = with_gradients(losses.softmax_cross_entropy, losses.softmax_cross_entropy_backward, labels=labels)
    yield Case(
        "softmax_cross_entropy", "21 classes", (x,), ours,
        lambda x: F.cross_entropy(x, torch.from_numpy(labels), reduction="none"),
    )  # fmt: skip
    targets = np.random.default_rng(2).uniform(size=x.shape).astype(np.float32)
    ours = with_gradients(losses.sigmoid_cross_entropy, losses.sigmoid_cross_entropy_backward, targets=targets)
    yield Case(
        "sigmoid_cross_entropy", "soft targets", (x,), ours,
        lambda x: F.binary_cross_entropy_with_logits(x, torch.from_numpy(targets).to(x.dtype), reduction="none"),
    )  # fmt: skip
    target = normal(3, 60, 4)
    pred = target + 0.3 * normal(4, 60, 4)
    for beta in (0.0, 1 / 9, 1.0):
        ours = with_gradients(losses.smooth_l1, losses.smooth_l1_backward, target=target, beta=beta)

        def theirs(pred: Any, beta: float = beta) -> Any:
            return F.smooth_l1_loss(pred, torch.from_numpy(target).to(pred.dtype), beta=beta, reduction="none")

        yield Case("smooth_l1", f"beta {beta:.2g}", (pred,), ours, theirs)
