"""Convolutions on a graphics card; ``convolution`` has the ways to do them."""

from __future__ import annotations

from typing import Any

from .. import contract
from ..contract import ConvCache, TransposedConvCache
from . import convolution
from .convolution import Geometry, direct, measure
from .linear import masked_sum, sum_rows
from .machine.device import contiguous
from .machine.lines import can_compute


def conv2d(x: Any, w: Any, b: Any = None, *, stride: Any = 1, padding: Any = 0, groups: int = 1) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d``."""
    sizes = measure(x.shape, w.shape, stride, padding, groups)
    if sizes is None or not can_compute(x, w, b) or (b is not None and b.shape != w.shape[3:]):
        return NotImplemented
    y = convolution.convolve(x, w, sizes, shift=b)
    return y, ConvCache(x, w, b is not None, sizes.stride, sizes.padding, groups)


def conv2d_backward(dy: Any, cache: ConvCache, *, need_dx: bool = True) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_backward``."""
    x, w, has_bias, stride, padding, groups = cache
    sizes = measure(x.shape, w.shape, stride, padding, groups)
    if sizes is None or not can_compute(dy, x, w) or dy.shape != sizes.out:
        return NotImplemented
    dx = convolution.input_gradient(dy, w, sizes) if need_dx else None
    return dx, convolution.weight_gradient(x, dy, sizes), sum_rows(dy) if has_bias else None


def conv2d_transpose(x: Any, w: Any, b: Any = None, *, stride: Any = 2, activate: bool = False) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_transpose``."""
    sizes = _transposed_sizes(x, w, stride)
    if sizes is None or not can_compute(x, w, b) or (b is not None and b.shape != w.shape[3:]):
        return NotImplemented
    y = direct.scatter(
        contiguous(x), contiguous(w)[None], sizes, transposed=False, scale=None, shift=b, residual=None,
        activate=activate,
    )  # fmt: skip
    return y, TransposedConvCache(x, w, b is not None, y if activate else None, sizes.stride)


def _transposed_sizes(x: Any, w: Any, stride: Any) -> Geometry | None:
    """Return the sizes of the convolution whose output is ``x`` and whose input is the result."""
    steps = contract.as_pair(stride)
    if steps is None or x.ndim != 4 or w.ndim != 4 or w.shape[2] != x.shape[3]:
        return None
    (n, rows, columns, c_in), (kh, kw, _, c_out) = x.shape, w.shape
    if rows == 0 or columns == 0:
        return None
    larger = (n, (rows - 1) * steps[0] + kh, (columns - 1) * steps[1] + kw, c_out)
    return measure(larger, (kh, kw, c_out, c_in), steps)


def conv2d_transpose_backward(dy: Any, cache: TransposedConvCache) -> Any:
    """See ``mrcnn_np.ops.conv.conv2d_transpose_backward``."""
    x, w, has_bias, y, stride = cache
    sizes = _transposed_sizes(x, w, stride)
    if sizes is None or not can_compute(dy, x, w, y) or dy.shape != sizes.maps:
        return NotImplemented
    if y is not None and y.shape != dy.shape:
        return NotImplemented
    dy, db = contiguous(dy), None
    if y is not None:
        dy, db = masked_sum(dy, y)
    elif has_bias:
        db = sum_rows(dy)
    dx = direct.convolve(dy, contiguous(w)[None], sizes, transposed=True, scale=None, shift=None, residual=None)
    dw = direct.weight_gradient(dy, contiguous(x), sizes)[0]
    return dx, contiguous(dw.swapaxes(2, 3)), db if has_bias else None
