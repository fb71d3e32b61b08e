"""Convolutions on the CPU: the tables of ``convolution`` say which kernel takes which case.

Float32 only, and nothing that is empty; anything else is left to NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import contract
from ..contract import ConvCache, TransposedConvCache
from . import convolution
from .activation import masked_sum
from .convolution import Geometry, choose, direct, direct_loops, measure
from .linear import sum_rows
from .machine.arguments import can_compute


def conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *, stride: Any = 1, padding: Any = 0, groups: int = 1
) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d``."""
    sizes = measure(x.shape, w.shape, stride, padding, groups)
    if sizes is None or not can_compute(x, w, b) or (b is not None and b.shape != w.shape[3:]):
        return NotImplemented
    compute = choose(convolution.FORWARD, sizes)
    if compute is None:
        return NotImplemented
    y = compute(np.ascontiguousarray(x), w, sizes, shift=b)
    return y, ConvCache(x, w, b is not None, (sizes.stride,) * 2, sizes.padding, groups)


def conv2d_backward(dy: np.ndarray, cache: ConvCache, *, need_dx: bool = True) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_backward``."""
    x, w, has_bias, stride, padding, groups = cache
    sizes = measure(x.shape, w.shape, stride, padding, groups)
    if sizes is None or not can_compute(dy, x, w) or dy.shape != sizes.out:
        return NotImplemented
    dy = np.ascontiguousarray(dy)
    both = gradients(dy, x, w, sizes, need_dx=need_dx)
    if both is None:
        return NotImplemented
    return *both, sum_rows(dy.reshape(-1, dy.shape[3])) if has_bias else None


def gradients(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, sizes: Geometry, *, need_dx: bool, plus: np.ndarray | None = None
) -> tuple[np.ndarray | None, np.ndarray] | None:
    """Return dx (+ ``plus``; None if it is not needed) and dw, or None if there is no kernel."""
    for_x, for_w = choose(convolution.INPUT_GRADIENT, sizes), choose(convolution.WEIGHT_GRADIENT, sizes)
    if for_x is None or for_w is None:
        return None
    residual = None if plus is None else np.ascontiguousarray(plus)
    dx = for_x(dy, w, sizes, residual=residual) if need_dx else None
    return dx, for_w(np.ascontiguousarray(x), dy, sizes)


def conv2d_transpose(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *, stride: Any = 2, activate: bool = False
) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_transpose``."""
    sizes = _transposed_sizes(x, w, stride)
    if sizes is None or not can_compute(x, w, b) or (b is not None and b.shape != w.shape[3:]):
        return NotImplemented
    compute = choose(convolution.TRANSPOSED, sizes)
    if compute is None:
        return NotImplemented
    floor = np.float32(0) if activate else direct.NO_FLOOR
    y = compute(np.ascontiguousarray(x), w.swapaxes(2, 3), sizes, shift=b, floor=floor)
    return y, TransposedConvCache(x, w, b is not None, y if activate else None, (sizes.stride,) * 2)


def _transposed_sizes(x: np.ndarray, w: np.ndarray, stride: Any) -> Geometry | None:
    """Return the sizes of the convolution whose output is ``x`` and whose input is the result."""
    steps = contract.as_pair(stride)
    if steps is None or x.ndim != 4 or w.ndim != 4:
        return None
    (n, rows, columns, c_in), (kh, kw, _, c_out) = x.shape, w.shape
    larger = (n, (rows - 1) * steps[0] + kh, (columns - 1) * steps[1] + kw, c_out)
    sizes = measure(larger, (kh, kw, c_out, w.shape[2]), stride)
    return sizes if w.shape[2] == c_in else None


def conv2d_transpose_backward(dy: np.ndarray, cache: TransposedConvCache) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_transpose_backward``."""
    x, w, has_bias, y, stride = cache
    sizes = _transposed_sizes(x, w, stride)
    if sizes is None or not can_compute(dy, x, w, y) or dy.shape != sizes.maps:
        return NotImplemented
    dy, db = np.ascontiguousarray(dy), None
    if y is not None:
        if y.shape != dy.shape:
            return NotImplemented
        dy, db = masked_sum(dy, y)
    elif has_bias:
        db = sum_rows(dy.reshape(-1, dy.shape[3]))
    # the kernel as it stands, but its channels swapped
    packed = direct_loops.pack_swapped(np.ascontiguousarray(w), np.arange(w.shape[0]), np.arange(w.shape[1]))
    dx = direct.slide(dy, packed, w.shape[1], w.shape[2], sizes.size, sizes.stride, 0, 0)
    dw = direct.weight_gradient(dy, np.ascontiguousarray(x), sizes)
    return dx, np.ascontiguousarray(dw.swapaxes(2, 3)), db if has_bias else None
