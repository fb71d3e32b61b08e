"""Convolution, frozen batch norm, sum and ReLU in one store; batch norm folded into the weights and unfolded again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..contract import FrozenNorm, FusedConvCache, FusedGradients
from . import convolution
from .activation import masked_sum
from .conv import gradients
from .convolution import choose, direct, measure
from .linear import sum_rows
from .machine.arguments import can_compute
from .norm import block_rows, sums_backward


@njit(cache=True, parallel=True, error_model="numpy")
def scale_columns(w, scale):
    """Return the columns of (K, C) times ``scale`` (C,)."""
    k, c = w.shape
    v = np.empty((k, c), np.float32)
    for row in prange(k):
        for j in range(c):
            v[row, j] = w[row, j] * scale[j]
    return v


def unfold_norm(w: np.ndarray, dv: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``dw = dv scale`` and ``dscale = sum over rows of w dv``, both from one pass over (K, C) arrays."""
    dw, nothing = np.empty_like(w), np.zeros_like(scale)
    products, _ = sums_backward(np.ascontiguousarray(dv), w, nothing, scale, dw, block_rows(w.shape[1]), False)
    return dw, products.sum(axis=0).astype(np.float32)


def conv2d_fused(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    norm: FrozenNorm | tuple[Any, ...] | None = None,
    residual: np.ndarray | None = None,
    activate: bool = False,
    stride: Any = 1,
    padding: Any = 0,
    groups: int = 1,
) -> Any:
    """See ``mrcnn_np.ops.fused.conv2d_fused``."""
    sizes = measure(x.shape, w.shape, stride, padding, groups)
    if sizes is None or not can_compute(x, w, b, residual) or (b is not None and b.shape != w.shape[3:]):
        return NotImplemented
    scale, shift = None, b
    if norm is not None:
        norm = FrozenNorm(*norm)
        gamma, beta, mean, var, eps = norm
        if not can_compute(gamma, beta, mean, var) or any(p.shape != w.shape[3:] for p in (gamma, beta, mean, var)):
            return NotImplemented
        scale = gamma / np.sqrt(var + np.float32(eps))
        shift = beta + ((0 if b is None else b) - mean) * scale
    if residual is not None:
        if residual.shape != sizes.out:
            return NotImplemented
        residual = np.ascontiguousarray(residual)
    compute = choose(convolution.FORWARD, sizes)
    if compute is None:
        return NotImplemented
    floor = np.float32(0) if activate else direct.NO_FLOOR
    y = compute(np.ascontiguousarray(x), w, sizes, scale=scale, shift=shift, residual=residual, floor=floor)
    how = ((sizes.stride,) * 2, sizes.padding, groups)
    return y, FusedConvCache(x, w, b, norm, residual is not None, y if activate else None, *how)


def conv2d_fused_backward(
    dy: np.ndarray, cache: FusedConvCache, *, need_dx: bool = True, plus: np.ndarray | None = None
) -> Any:
    """See ``mrcnn_np.ops.fused.conv2d_fused_backward``."""
    x, w, b, norm, has_residual, y, stride, padding, groups = cache
    sizes = measure(x.shape, w.shape, stride, padding, groups)
    if sizes is None or not can_compute(dy, x, w, b, y, plus) or dy.shape != sizes.out:
        return NotImplemented
    if (plus is not None and plus.shape != x.shape) or (norm is not None and not can_compute(*norm[:4])):
        return NotImplemented
    dy = np.ascontiguousarray(dy)
    if y is None:
        dshift = sum_rows(dy.reshape(-1, dy.shape[3]))
    else:
        dy, dshift = masked_sum(dy, y)
    rows = np.ascontiguousarray(w).reshape(-1, w.shape[3])
    if norm is None:
        v = w
    else:
        gamma, _, mean, var, eps = norm
        inverse_std = 1 / np.sqrt(var + np.float32(eps))
        scale = gamma * inverse_std
        v = scale_columns(rows, scale).reshape(w.shape)
    both = gradients(dy, x, v, sizes, need_dx=need_dx, plus=plus)
    if both is None:
        return NotImplemented
    dx, dv = both
    dresidual = dy if has_residual else None
    if norm is None:
        return FusedGradients(dx, dv, None if b is None else dshift, None, None, dresidual)
    dw, dscale = unfold_norm(rows, dv.reshape(rows.shape), scale)
    offset = -mean if b is None else b - mean
    dgamma = (dscale + offset * dshift) * inverse_std
    db = None if b is None else dshift * scale
    return FusedGradients(dx, dw.reshape(w.shape), db, dgamma, dshift, dresidual)
