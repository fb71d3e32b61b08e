"""Losses per element or per row; the caller decides what to average over, because the frameworks disagree on that.

All take logits, not probabilities: ``log(softmax(x))`` and ``log(sigmoid(x))`` are exact where the probability itself
has already been rounded to 0 or 1. The result has the dtype of the logits or predictions; targets are converted to it.
Whole numbers are taken as floating point.
"""

from __future__ import annotations

import numpy as np

from kernels import accelerated, as_array
from kernels.contract import SigmoidCrossEntropyCache, SmoothL1Cache, SoftmaxCrossEntropyCache, as_floating

from .activation import sigmoid, softmax


@accelerated
def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, SoftmaxCrossEntropyCache]:
    r"""Return minus the logarithm of the probability that the softmax gives to the right class, per row.

    .. math:: L_r = -\log \frac{e^{x[r, t_r]}}{\sum_k e^{x[r, k]}} = \log \sum_k e^{x[r, k]} - x[r, t_r]

    Parameters
    ----------
    logits : ndarray of shape (R, K)
    labels : ndarray of shape (R,), integer
        0 .. K - 1.

    Returns
    -------
    loss : ndarray of shape (R,)
    cache : SoftmaxCrossEntropyCache

    Raises
    ------
    ValueError
        Shapes that do not fit, labels that are no integers or not in 0 .. K - 1.
    """
    labels = np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"softmax_cross_entropy: logits {logits.shape} and labels {labels.shape}, expected (R, K), (R,)"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"softmax_cross_entropy: labels are {labels.dtype}, expected integers")
    outside = np.flatnonzero((labels < 0) | (labels >= logits.shape[1]))
    if len(outside):
        row = outside[0]
        raise ValueError(f"softmax_cross_entropy: label {labels[row]} of row {row} is not in 0..{logits.shape[1] - 1}")
    logits = as_floating(logits)
    probabilities, _ = softmax(logits)
    # Subtracting the largest logit changes nothing in the difference below and keeps exp from overflowing.
    shifted = logits - logits.max(axis=1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return loss, SoftmaxCrossEntropyCache(probabilities, labels)


@accelerated
def softmax_cross_entropy_backward(dloss: np.ndarray, cache: SoftmaxCrossEntropyCache) -> np.ndarray:
    """Return the gradient of the logits: ``dlogits[r, k] = dloss[r] (p[r, k] - [k = t_r])``.

    Notes
    -----
    The derivative of ``log sum exp`` is the softmax; that of ``-x[t]`` is -1 at the label. A row's gradient sums to 0.
    """
    probabilities, labels = cache
    difference = probabilities.copy()
    difference[np.arange(len(labels), like=labels), labels] -= 1
    return difference * dloss[:, None]


@accelerated
def sigmoid_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, SigmoidCrossEntropyCache]:
    r"""Return the binary cross-entropy of every element.

    .. math:: L = -t \log \sigma(x) - (1 - t) \log (1 - \sigma(x)) = \max(x, 0) - x t + \log(1 + e^{-|x|})

    Parameters
    ----------
    logits : ndarray
    targets : ndarray of the same shape
        0 or 1, or a probability between them (soft mask targets).

    Returns
    -------
    loss : ndarray of the same shape
    cache : SigmoidCrossEntropyCache

    Raises
    ------
    ValueError
        Different shapes, or a target outside [0, 1].

    Notes
    -----
    The last form follows from ``-log sigma(x) = log(1 + exp(-x)) = max(-x, 0) + log(1 + exp(-|x|))``. Nothing in it
    overflows, and for ``|x|`` large it is ``|x|`` or 0 as it should be.
    """
    logits = as_floating(logits)
    targets = _like("sigmoid_cross_entropy: targets", targets, logits)
    if np.any((targets < 0) | (targets > 1)):
        raise ValueError(f"sigmoid_cross_entropy: targets from {targets.min()} to {targets.max()}, expected 0 to 1")
    loss = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    return loss, SigmoidCrossEntropyCache(logits, targets)


@accelerated
def sigmoid_cross_entropy_backward(dloss: np.ndarray, cache: SigmoidCrossEntropyCache) -> np.ndarray:
    """Return the gradient of the logits: ``dloss (sigmoid(x) - t)``.

    Notes
    -----
    ``d(-log sigma(x)) = -(1 - sigma)`` and ``d(-log(1 - sigma(x))) = sigma``; weighted with ``t`` and ``1 - t`` they
    add up to ``sigma - t``.
    """
    logits, targets = cache
    return dloss * (sigmoid(logits)[0] - targets)


@accelerated
def smooth_l1(pred: np.ndarray, target: np.ndarray, *, beta: float = 1.0) -> tuple[np.ndarray, SmoothL1Cache]:
    r"""Return a parabola near zero and the absolute value away from it, for every element.

    .. math:: L = \begin{cases} d^2 / (2 \beta) & |d| < \beta \\ |d| - \beta / 2 & \text{else} \end{cases}
        \qquad d = pred - target

    Parameters
    ----------
    pred, target : ndarray of the same shape
    beta : float
        Where the parabola ends. 1 in Fast R-CNN, 1/9 in torchvision, 0 (plain L1) in detectron2.

    Returns
    -------
    loss : ndarray of the same shape
    cache : SmoothL1Cache

    Raises
    ------
    ValueError
        Different shapes, or a negative beta.

    References
    ----------
    Girshick, "Fast R-CNN", equation 3.
    """
    if not beta >= 0:
        raise ValueError(f"smooth_l1: beta is {beta}, expected 0 or more")
    beta = float(beta)  # a NumPy float64 would turn float32 losses into float64
    pred = as_floating(pred)
    difference = pred - _like("smooth_l1: target", target, pred)
    size = np.abs(difference)
    if beta == 0:
        return size, SmoothL1Cache(difference, beta)
    parabola = np.minimum(size, beta) ** 2 / (2 * beta)  # the minimum keeps the branch not taken from overflowing
    return np.where(size < beta, parabola, size - beta / 2), SmoothL1Cache(difference, beta)


@accelerated
def smooth_l1_backward(dloss: np.ndarray, cache: SmoothL1Cache) -> np.ndarray:
    """Return the gradient of ``pred``: ``dloss clip(d / beta, -1, 1)``, or ``dloss sign(d)`` (0 at 0) if beta is 0."""
    difference, beta = cache
    slope = np.sign(difference) if beta == 0 else np.clip(difference / beta, -1, 1)
    return dloss * slope


def _like(name: str, targets: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the targets in the dtype of the predictions; shapes must be equal (broadcasting hides mistakes here)."""
    targets = as_array(targets).astype(reference.dtype, copy=False)
    if targets.shape != reference.shape:
        raise ValueError(f"{name} of shape {targets.shape}, expected {reference.shape}")
    return targets
