"""Batch norm folded into the weights of a convolution, and its gradient unfolded again."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..norm import block_rows, sums_backward


@njit(cache=True, parallel=True, error_model="numpy")
def scaled(w, scale):
    """Return the columns of (K, C) times ``scale`` (C,)."""
    k, c = w.shape
    v = np.empty((k, c), np.float32)
    for row in prange(k):
        for j in range(c):
            v[row, j] = w[row, j] * scale[j]
    return v


def unfold(w: np.ndarray, dv: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``dw = dv scale`` and ``dscale = sum over rows of w dv``, both from one pass over (K, C) arrays."""
    dw, nothing = np.empty_like(w), np.zeros_like(scale)
    products, _ = sums_backward(np.ascontiguousarray(dv), w, nothing, scale, dw, block_rows(w.shape[1]))
    return dw, products.sum(axis=0).astype(np.float32)
