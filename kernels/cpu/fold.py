"""Batch norm folded into the weights of a convolution, and its gradient unfolded again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange


class FusedGradients(NamedTuple):
    """The fields of ``mrcnn_np.ops.fused.FusedGradients``; kernels do not import the package that imports them."""

    dx: np.ndarray | None
    dw: np.ndarray
    db: np.ndarray | None
    dgamma: np.ndarray | None
    dbeta: np.ndarray | None
    dresidual: np.ndarray | None


@njit(cache=True, parallel=True, error_model="numpy")
def scaled(w, scale):
    """Return the columns of (K, C) times ``scale`` (C,)."""
    k, c = w.shape
    v = np.empty((k, c), np.float32)
    for row in prange(k):
        for j in range(c):
            v[row, j] = w[row, j] * scale[j]
    return v


@njit(cache=True, parallel=True, error_model="numpy")
def _unfold(w, dv, scale, dw, partial):
    k, c = w.shape
    parts = partial.shape[0]
    for part in prange(parts):
        total = partial[part]
        total[:] = 0
        for row in range(k * part // parts, k * (part + 1) // parts):
            weight, gradient, target = w[row], dv[row], dw[row]
            for j in range(c):
                total[j] += weight[j] * gradient[j]
                target[j] = gradient[j] * scale[j]


def unfold(w: np.ndarray, dv: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``dw = dv scale`` and ``dscale = sum over rows of w dv``, both from one pass over (K, C) arrays."""
    dw = np.empty_like(w)
    partial = np.empty((max(1, min(64, len(w) // 8)), w.shape[1]), np.float32)
    _unfold(w, np.ascontiguousarray(dv), scale, dw, partial)
    return dw, partial.sum(axis=0)
