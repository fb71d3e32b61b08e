"""Element-wise non-linearities, and softmax. NaN is never hidden: it comes out where it went in."""

from __future__ import annotations

import numpy as np

from kernels import accelerated
from kernels.contract import ReluCache, SigmoidCache, SoftmaxCache, as_floating


@accelerated
def relu(x: np.ndarray) -> tuple[np.ndarray, ReluCache]:
    r"""Set what is negative to zero.

    .. math:: y = \max(x, 0)

    Parameters
    ----------
    x : ndarray

    Returns
    -------
    y : ndarray
    cache : ReluCache
        It holds ``y``, which the next layer keeps anyway: do not modify ``y`` in place.
    """
    y = np.maximum(x, 0)
    return y, ReluCache(y)


@accelerated
def relu_backward(dy: np.ndarray, cache: ReluCache) -> np.ndarray:
    """Return ``dx``: ``dy`` where ``x > 0``, zero elsewhere; at the kink ``x = 0`` the derivative is taken as 0."""
    (y,) = cache
    return dy * ~(y <= 0)  # not "y > 0", which would be False for NaN and hide it


@accelerated
def sigmoid(x: np.ndarray) -> tuple[np.ndarray, SigmoidCache]:
    r"""Squash to ``(0, 1)`` without overflow.

    .. math:: y = \frac{1}{1 + e^{-x}} = \frac{e^x}{1 + e^x}

    Parameters
    ----------
    x : ndarray

    Returns
    -------
    y : ndarray
    cache : SigmoidCache

    Notes
    -----
    The first form overflows for large negative ``x``, the second for large positive ``x``; each is used on its side.
    """
    x = as_floating(x)
    e = np.exp(-np.abs(x))  # at most 1
    y = np.where(x >= 0, 1 / (1 + e), e / (1 + e))
    return y, SigmoidCache(y)


def sigmoid_backward(dy: np.ndarray, cache: SigmoidCache) -> np.ndarray:
    """Return ``dx = dy y (1 - y)``."""
    (y,) = cache
    return dy * y * (1 - y)


@accelerated
def softmax(x: np.ndarray) -> tuple[np.ndarray, SoftmaxCache]:
    r"""Turn the last axis into probabilities.

    .. math:: y_k = \frac{e^{x_k}}{\sum_l e^{x_l}}

    Parameters
    ----------
    x : ndarray of shape (..., K)
        Logits, K at least 1.

    Returns
    -------
    y : ndarray of shape (..., K)
    cache : SoftmaxCache

    Raises
    ------
    ValueError
        If there is no class (K = 0).

    Notes
    -----
    The largest logit is subtracted first, which changes nothing in the quotient and keeps ``exp`` at or below 1.
    """
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"softmax: x has shape {x.shape}, expected at least one class on the last axis")
    x = as_floating(x)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, SoftmaxCache(y)


def softmax_backward(dy: np.ndarray, cache: SoftmaxCache) -> np.ndarray:
    """Return ``dx_k = y_k (dy_k - sum_l y_l dy_l)``.

    Notes
    -----
    ``dy_l / dx_k = y_l ([l = k] - y_k)``; summing ``dy_l`` times this over ``l`` gives the formula.
    """
    (y,) = cache
    return y * (dy - (y * dy).sum(axis=-1, keepdims=True))
