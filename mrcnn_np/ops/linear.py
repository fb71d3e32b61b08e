"""Fully connected layer."""

from __future__ import annotations

import numpy as np

from kernels import accelerated
from kernels.contract import LinearCache


@accelerated
def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> tuple[np.ndarray, LinearCache]:
    r"""Multiply every row by a matrix.

    .. math:: y = x w + b

    Parameters
    ----------
    x : ndarray of shape (R, C_in)
    w : ndarray of shape (C_in, C_out)
    b : ndarray of shape (C_out,), optional

    Returns
    -------
    y : ndarray of shape (R, C_out)
    cache : LinearCache

    Raises
    ------
    ValueError
        Shapes that do not fit.
    """
    if x.ndim != 2 or w.ndim != 2:
        raise ValueError(f"linear: x has shape {x.shape} and w {w.shape}, expected (R, C_in) and (C_in, C_out)")
    if x.shape[1] != w.shape[0]:
        raise ValueError(f"linear: x has {x.shape[1]} columns, w expects {w.shape[0]}")
    if b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"linear: b has shape {b.shape}, expected {w.shape[1:]}")
    y = x @ w
    if b is not None:
        y += b
    return y, LinearCache(x, w, b is not None)


@accelerated
def linear_backward(dy: np.ndarray, cache: LinearCache) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return ``(dx, dw, db)``; ``db`` is None if there was no bias.

    Notes
    -----
    ``y[r, o] = sum_c x[r, c] w[c, o] + b[o]``. Hence ``dx[r, c] = sum_o dy[r, o] w[c, o]``, that is ``dy w^T``;
    ``dw[c, o] = sum_r x[r, c] dy[r, o]``, that is ``x^T dy``; and ``db[o] = sum_r dy[r, o]``.
    """
    x, w, has_bias = cache
    return dy @ w.T, x.T @ dy, channel_sum(dy) if has_bias else None


@accelerated
def channel_sum(x: np.ndarray) -> np.ndarray:
    """Sum over all axes but the last: ``(..., C)`` to ``(C,)``.

    Notes
    -----
    One axis after the other, so that a float32 sum never runs over more than one axis' length: its error is about 1e-7
    where ``x.sum(axis=(0, 1, 2))``, which adds all ``N * H * W`` numbers in a row, has 1e-5 on a map of 128x128.
    As products with a row of ones these sums also are several times faster if there are few channels.
    """
    while x.ndim > 1:
        x = np.ones_like(x, shape=x.shape[-2]) @ x
    return x
