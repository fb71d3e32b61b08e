"""Convolution, frozen batch norm, sum and ReLU in one store; batch norm folded into the weights and unfolded again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..contract import FrozenNorm, FusedConvCache, FusedGradients
from . import convolution
from .convolution import measure
from .linear import masked_sum, scaled_and_product, sum_rows
from .machine.device import blocks_for, contiguous, cuda, empty, float32, kernel, launch
from .machine.lines import can_compute


@kernel(*["f4[::1]"] * 5, "f4", "i4", "f4[::1]", "f4[::1]")
def fold_norm(gamma, beta, mean, var, b, eps, has_bias, scale, shift):
    """Write ``scale = gamma / sqrt(var + eps)`` and ``shift = beta + (b - mean) scale``.

    **Owns:** a thread, one channel. **Shared:** nothing. **No race:** each writes its own. **Floor:** a launch.
    """
    c = cuda.grid(1)
    if c < scale.size:
        scale[c] = gamma[c] / float32(math.sqrt(var[c] + eps))
        offset = b[c] - mean[c] if has_bias else -mean[c]
        shift[c] = beta[c] + offset * scale[c]


@kernel(*["f4[::1]"] * 6, "f4", "i4", "f4[::1]", "f4[::1]")
def unfold_norm(dscale, dshift, mean, var, b, scale, eps, has_bias, dgamma, db):
    """Write the gradients of ``gamma`` and ``b`` from those of scale and shift.

    **Owns:** a thread, one channel. **Shared:** nothing. **No race:** each writes its own. **Floor:** a launch.
    """
    c = cuda.grid(1)
    if c < dgamma.size:
        offset = b[c] - mean[c] if has_bias else -mean[c]
        dgamma[c] = (dscale[c] + offset * dshift[c]) / float32(math.sqrt(var[c] + eps))
        if has_bias:
            db[c] = dshift[c] * scale[c]


def _folded(norm: FrozenNorm, b: Any) -> tuple[Any, Any]:
    """Return scale and shift of a batch norm."""
    gamma, beta, mean, var = map(contiguous, norm[:4])
    scale, shift = empty(gamma.shape), empty(gamma.shape)
    bias = mean if b is None else contiguous(b)
    has_bias = int(b is not None)
    launch(fold_norm, blocks_for(gamma.size, 128), 128, gamma, beta, mean, var, bias, norm.eps, has_bias, scale, shift)
    return scale, shift


def _fits(norm: FrozenNorm, w: Any) -> bool:
    """Tell whether there is one number per channel."""
    return can_compute(*norm[:4]) and all(p.shape == w.shape[3:] for p in norm[:4])


def conv2d_fused(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    norm: FrozenNorm | tuple[Any, ...] | None = None,
    residual: Any = None,
    activate: bool = False,
    stride: Any = 1,
    padding: Any = 0,
    groups: int = 1,
) -> Any:
    """See ``mrcnn_np.ops.fused.conv2d_fused``."""
    sizes = measure(x.shape, w.shape, stride, padding, groups)
    if sizes is None or not can_compute(x, w, b, residual) or (b is not None and b.shape != w.shape[3:]):
        return NotImplemented
    if residual is not None and residual.shape != sizes.out:
        return NotImplemented
    scale, shift = None, b
    if norm is not None:
        norm = FrozenNorm(*norm)
        if not _fits(norm, w):
            return NotImplemented
        scale, shift = _folded(norm, b)
    y = convolution.convolve(x, w, sizes, scale=scale, shift=shift, residual=residual, activate=activate)
    how = (sizes.stride, sizes.padding, groups)
    return y, FusedConvCache(x, w, b, norm, residual is not None, y if activate else None, *how)


def conv2d_fused_backward(dy: Any, cache: FusedConvCache, *, need_dx: bool = True, plus: Any = None) -> Any:
    """See ``mrcnn_np.ops.fused.conv2d_fused_backward``."""
    x, w, b, norm, has_residual, y, stride, padding, groups = cache
    sizes = measure(x.shape, w.shape, stride, padding, groups)
    if sizes is None or not can_compute(dy, x, w, b, y, plus) or dy.shape != sizes.out:
        return NotImplemented
    if (plus is not None and plus.shape != x.shape) or (norm is not None and not _fits(norm, w)):
        return NotImplemented
    dy = contiguous(dy)
    if y is None:
        dshift = sum_rows(dy)
    else:
        dy, dshift = masked_sum(dy, y)
    scale = None if norm is None else _folded(norm, b)[0]
    v = w if scale is None else w * scale
    dx = convolution.input_gradient(dy, v, sizes, plus=plus) if need_dx else None
    dv = convolution.weight_gradient(x, dy, sizes)
    dresidual = dy if has_residual else None
    if norm is None:
        return FusedGradients(dx, dv, None if b is None else dshift, None, None, dresidual)
    dw, dscale = scaled_and_product(dv, contiguous(w), scale)
    mean, var = contiguous(norm.mean), contiguous(norm.var)
    dgamma, db = empty(dshift.shape), empty(dshift.shape)
    launch(
        unfold_norm, blocks_for(dgamma.size, 128), 128, dscale, dshift, mean, var, mean if b is None else contiguous(b),
        scale, np.float32(norm.eps), int(b is not None), dgamma, db,
    )  # fmt: skip
    return FusedGradients(dx, dw, None if b is None else db, dgamma, dshift, dresidual)
