"""Convolution and what follows it in one step, for inference, where nothing has to be kept for a backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import accelerated

from .activation import relu
from .conv import conv2d
from .norm import batch_norm

#: gamma, beta, mean, var of a frozen batch norm, and its eps
Norm = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]


@accelerated
def conv2d_fused(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    norm: Norm | None = None,
    residual: np.ndarray | None = None,
    activate: bool = False,
    stride: Any = 1,
    padding: Any = 0,
    groups: int = 1,
) -> np.ndarray:
    """Compute ``relu(batch_norm(conv2d(x, w, b)) + residual)``, leaving out what is not asked for.

    The body below is the definition. A kernel does the same while the result of the convolution is still in registers:
    with frozen statistics, batch norm is one multiplication and one addition per channel,
    ``scale = gamma / sqrt(var + eps)`` and ``shift = beta + (b - mean) scale``.

    Parameters
    ----------
    x, w, b, stride, padding, groups
        As in ``conv2d``.
    norm : tuple, optional
        ``(gamma, beta, mean, var, eps)``, statistics frozen.
    residual : ndarray, optional
        Of the result's shape; added before the ReLU.
    activate : bool
        Apply ReLU.

    Returns
    -------
    ndarray of shape (N, H', W', C_out)
        There is no cache, and so no backward pass: training uses the three operations one by one.
    """
    y, _ = conv2d(x, w, b, stride=stride, padding=padding, groups=groups)
    if norm is not None:
        *parameters, eps = norm
        y, _ = batch_norm(y, *parameters, eps=eps)
    if residual is not None:
        y = y + residual
    return relu(y)[0] if activate else y
