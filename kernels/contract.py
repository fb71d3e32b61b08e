"""What the NumPy operations and their kernels have to agree on, written once.

A backend replaces single functions: a forward pass may run here and its backward pass there. So both sides use the same
caches, read options in the same way and call the same things equal. The reference in ``mrcnn_np`` imports this module,
and so does every backend; kernels never import ``mrcnn_np``, which imports them. All classes stand here, and not one
beside each operation, because this is what somebody reads who writes another backend; and a cache is a page's
worth of fields, so one list is easier to survey than fourteen files.

Caches are tuples with names. Each says below what its fields hold; who writes a backward pass may rely on that and on
nothing else. Arrays in a cache are the arguments themselves, or results, not copies, unless it says otherwise.
"""

from __future__ import annotations

from operator import index
from typing import Any, NamedTuple

import numpy as np

# IoUs whose ratio is closer to 1 than this are the same: several anchors that contain a small object have equal IoU,
# up to rounding. A ratio, because the best IoU of a tiny object is itself tiny.
TIE = 1e-6

Pair = int | tuple[int, int]
Sides = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
Padding = int | Sides


# --- options --------------------------------------------------------------------------------------------------------


def as_pair(value: Any) -> tuple[int, int] | None:
    """Return ``(down, across)``, or None if the value is neither a positive integer nor two of them."""
    try:
        down, across = (value, value) if isinstance(value, (int, np.integer)) else value
        pair = index(down), index(across)
    except (TypeError, ValueError):
        return None
    return pair if min(pair) >= 1 else None


def as_padding(value: Any) -> Sides | None:
    """Return ``((top, bottom), (left, right))``, or None if the value is neither that nor an integer, or negative."""
    try:
        (top, bottom), (left, right) = ((value, value),) * 2 if isinstance(value, (int, np.integer)) else value
        sides = (index(top), index(bottom)), (index(left), index(right))
    except (TypeError, ValueError):
        return None
    return sides if min(*sides[0], *sides[1]) >= 0 else None


def as_groups(value: Any, channels: int) -> int | None:
    """Return the number of groups, or None if it is no positive whole number, or does not divide the channels."""
    try:
        groups = index(value)
    except TypeError:
        return None
    return groups if groups >= 1 and channels % groups == 0 else None


class PoolSizes(NamedTuple):
    """Of a pooling: windows, steps and padding in full, and the shape of the result."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Sides
    out: tuple[int, int, int, int]


def pool_sizes(shape: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any) -> PoolSizes | None:
    """Return the sizes, or None for what the kernels leave to NumPy.

    That is: options that are none, empty maps, no window that fits, windows whose cells one byte cannot number, and
    windows that may lie in the padding alone.

    Parameters
    ----------
    shape : tuple of int
        (N, H, W, C).
    kernel_size, stride, padding
        As in ``mrcnn_np.ops.pool.max_pool2d``.
    """
    kernel, sides = as_pair(kernel_size), as_padding(padding)
    steps = kernel if stride is None else as_pair(stride)
    if kernel is None or steps is None or sides is None or len(shape) != 4 or 0 in shape:
        return None
    (kh, kw), ((top, bottom), (left, right)) = kernel, sides
    rows, columns = (shape[1] + top + bottom - kh) // steps[0] + 1, (shape[2] + left + right - kw) // steps[1] + 1
    if kh * kw > 256 or max(top, bottom) >= kh or max(left, right) >= kw or min(rows, columns) < 1:
        return None
    return PoolSizes(kernel, steps, sides, (shape[0], rows, columns, shape[3]))


def as_floating(x: np.ndarray) -> np.ndarray:
    """Return ``x``, or whole numbers in the smallest of float32 and float64 that holds them all.

    What interpolates, divides or takes an exponential has no result among whole numbers, and an array of its input's
    dtype would cut the result off in silence.
    """
    return x if x.dtype.kind not in "biu" else x.astype(np.result_type(x, np.float32))


# --- layers ---------------------------------------------------------------------------------------------------------


class ConvCache(NamedTuple):
    """Of ``conv2d``: ``x`` without its padding; ``w``; was there a bias; (down, across); the sides; the groups."""

    x: np.ndarray
    w: np.ndarray
    has_bias: bool
    stride: tuple[int, int]
    padding: Sides
    groups: int


class TransposedConvCache(NamedTuple):
    """Of ``conv2d_transpose``: ``x``, ``w``; was there a bias; ``y`` with ReLU, else None; (down, across)."""

    x: np.ndarray
    w: np.ndarray
    has_bias: bool
    y: np.ndarray | None
    stride: tuple[int, int]


class FrozenNorm(NamedTuple):
    """A batch norm whose statistics are constants: four numbers per channel, and what is added to the variance."""

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    eps: float


class FusedConvCache(NamedTuple):
    """Of ``conv2d_fused``: its arguments, but of the residual only if there was one; ``y`` with ReLU, else None."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray | None
    norm: FrozenNorm | None
    has_residual: bool
    y: np.ndarray | None
    stride: tuple[int, int]
    padding: Sides
    groups: int


class FusedGradients(NamedTuple):
    """What ``conv2d_fused_backward`` returns: None for what was not there or not asked for."""

    dx: np.ndarray | None
    dw: np.ndarray
    db: np.ndarray | None
    dgamma: np.ndarray | None
    dbeta: np.ndarray | None
    dresidual: np.ndarray | None


class LinearCache(NamedTuple):
    """Of ``linear``: ``x``, ``w``, and was there a bias."""

    x: np.ndarray
    w: np.ndarray
    has_bias: bool


class BatchNormCache(NamedTuple):
    """Of ``batch_norm``.

    ``x``; ``gamma``; the mean ``mu`` that was subtracted (a copy: later steps change the running one) and the inverse
    deviation that was multiplied with, ``1 / sqrt(sigma^2 + eps)``, each (C,); are they statistics of this batch.
    """

    x: np.ndarray
    gamma: np.ndarray
    mu: np.ndarray
    inverse_std: np.ndarray
    training: bool


class GroupNormCache(NamedTuple):
    """Of ``group_norm``.

    ``x``; ``gamma``; the mean ``mu`` that was subtracted from each channel of each map and the inverse deviation that
    was multiplied with, each (N, C), the same for all channels of a group; how many groups.
    """

    x: np.ndarray
    gamma: np.ndarray
    mu: np.ndarray
    inverse_std: np.ndarray
    groups: int


class MaxPoolCache(NamedTuple):
    """Of ``max_pool2d``: of the shape of ``y``, the cell ``i kw + j`` of the window that won; ``x.shape``; options."""

    winner: np.ndarray
    shape: tuple[int, ...]
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: Sides


class UpsampleCache(NamedTuple):
    """Of ``upsample_nearest``: how many times each cell is repeated, down and across."""

    scale: int


class ResizeCache(NamedTuple):
    """Of ``resize_bilinear``: (H, W) before and after."""

    before: tuple[int, int]
    after: tuple[int, int]


class ReluCache(NamedTuple):
    """Of ``relu``: the result, which the next layer keeps anyway."""

    y: np.ndarray


class SigmoidCache(NamedTuple):
    """Of ``sigmoid``: the result."""

    y: np.ndarray


class SoftmaxCache(NamedTuple):
    """Of ``softmax``: the probabilities."""

    y: np.ndarray


# --- losses ---------------------------------------------------------------------------------------------------------


class SoftmaxCrossEntropyCache(NamedTuple):
    """Of ``softmax_cross_entropy``: the softmax of the logits (R, K), and the labels (R,)."""

    probabilities: np.ndarray
    labels: np.ndarray


class SigmoidCrossEntropyCache(NamedTuple):
    """Of ``sigmoid_cross_entropy``: the logits, and the targets in their dtype."""

    logits: np.ndarray
    targets: np.ndarray


class SmoothL1Cache(NamedTuple):
    """Of ``smooth_l1``: ``pred - target``, and ``beta``."""

    difference: np.ndarray
    beta: float


# --- regions --------------------------------------------------------------------------------------------------------


class RoIAlignCache(NamedTuple):
    """Of ``roi_align``: shape and dtype of the maps (not the maps), the RoIs and their maps, the options as given.

    ``winner`` is None for the mean. For the maximum it is the winning sample of each output value, numbered row by row
    in its bin, an unsigned integer array of shape (R, ph, pw, C).
    """

    shape: tuple[int, ...]
    dtype: Any
    rois: np.ndarray
    batch_index: np.ndarray
    bins: tuple[int, int]
    spatial_scale: float
    sampling_ratio: int
    aligned: bool
    winner: np.ndarray | None


class RoIPoolCache(NamedTuple):
    """Of ``roi_pool``: shape and dtype of the maps, the map of each RoI, and who won.

    ``winner`` of shape (R, ph, pw, C), int32, is the cell ``row * W + column`` whose value won, the first in that order
    on ties, and -1 for a bin without cells.
    """

    shape: tuple[int, ...]
    dtype: Any
    batch_index: np.ndarray
    winner: np.ndarray


class CropAndResizeCache(NamedTuple):
    """Of ``crop_and_resize``: shape of the images and dtype of the crops, the boxes and their images, (ph, pw)."""

    shape: tuple[int, ...]
    dtype: Any
    boxes: np.ndarray
    box_index: np.ndarray
    size: tuple[int, int]
