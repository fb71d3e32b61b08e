r"""Convolution and what follows it in one step: frozen batch norm, the sum of a residual block, ReLU.

With frozen statistics batch norm is an affine map per channel, ``scale = gamma / sqrt(var + eps)`` and ``shift = beta +
(b - mean) scale``. So it can be *folded* into the convolution, forward and backward:

.. math:: y = \mathrm{relu}(x * (w \, scale) + shift + residual)

and neither the convolution's result nor the normalised one has to be kept for the backward pass: ``x`` and ``y`` are
enough, and they are the neighbours' ``y`` and ``x``. That halves the memory of the activations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import accelerated
from kernels.contract import ConvCache, FrozenNorm, FusedConvCache, FusedGradients, Padding, Pair, ReluCache

from .activation import relu, relu_backward
from .conv import as_padding, as_pair, conv2d, conv2d_backward
from .linear import channel_sum
from .norm import batch_norm


@accelerated
def conv2d_fused(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    norm: FrozenNorm | tuple[Any, ...] | None = None,
    residual: np.ndarray | None = None,
    activate: bool = False,
    stride: Pair = 1,
    padding: Padding = 0,
    groups: int = 1,
) -> tuple[np.ndarray, FusedConvCache]:
    """Compute ``relu(batch_norm(conv2d(x, w, b)) + residual)``, leaving out what is not asked for.

    The body below is the definition. A kernel does the same while the result of the convolution is still in registers.

    Parameters
    ----------
    x, w, b, stride, padding, groups
        As in ``conv2d``.
    norm : FrozenNorm, or a tuple of the same, optional
        ``(gamma, beta, mean, var, eps)``, statistics frozen.
    residual : ndarray, optional
        Of the result's shape; added before the ReLU.
    activate : bool
        Apply ReLU.

    Returns
    -------
    y : ndarray of shape (N, H', W', C_out)
    cache : FusedConvCache

    Raises
    ------
    ValueError
        What ``conv2d`` and ``batch_norm`` refuse; a residual of another shape than the result.
    """
    y, _ = conv2d(x, w, b, stride=stride, padding=padding, groups=groups)
    if norm is not None:
        norm = FrozenNorm(*norm)
        y, _ = batch_norm(y, norm.gamma, norm.beta, norm.mean, norm.var, eps=norm.eps)
    if residual is not None:
        if residual.shape != y.shape:
            raise ValueError(f"conv2d_fused: residual has shape {residual.shape}, expected {y.shape}")
        y = y + residual
    if activate:
        y, _ = relu(y)
    how = (as_pair(stride, "stride"), as_padding(padding), groups)
    return y, FusedConvCache(x, w, b, norm, residual is not None, y if activate else None, *how)


@accelerated
def conv2d_fused_backward(
    dy: np.ndarray, cache: FusedConvCache, *, need_dx: bool = True, plus: np.ndarray | None = None
) -> FusedGradients:
    r"""Return the gradients of everything that ``conv2d_fused`` was given.

    Parameters
    ----------
    dy : ndarray of shape (N, H', W', C_out)
    cache : FusedConvCache
    need_dx : bool
        The gradient of an image is not needed.
    plus : ndarray of shape (N, H, W, C_in), optional
        What ``x`` receives on other ways; ``dx`` is the sum. (A kernel adds it before it writes ``dx``.)

    Notes
    -----
    ReLU passes the gradient where ``y > 0``; what it passes is the residual's gradient as it is. Behind it stands an
    affine convolution with weights ``v = w scale`` and bias ``shift``, whose gradients are those of ``conv2d``:
    ``dx``, ``dv`` and ``dshift = sum dy``. Unfold them:

    .. math:: dw = dv \, scale, \qquad dscale = \sum_{ijc} w \, dv, \qquad dbeta = dshift

    and ``scale = gamma / sigma``, ``shift = beta + (b - mean) scale`` give ``db = dshift scale`` and
    ``dgamma = (dscale + (b - mean) dshift) / sigma``. The usual formula sums ``dy`` times the normalised result over
    all pixels; here ``dv`` has summed over the pixels already, and the result need not be remembered.

    The two terms of ``dgamma`` cancel if a channel's mean is many of its deviations, and float32 loses digits: with
    means of a hundred deviations ``dgamma`` was off by 6e-4 of its largest number (PyTorch: 5e-5), with means of one to
    three, as under ordinary weights, by 2e-6.
    """
    x, w, b, norm, has_residual, y, stride, padding, groups = cache
    if y is not None:
        dy = relu_backward(dy, ReluCache(y))
    v, scale = w, None
    if norm is not None:
        gamma, _, mean, var, eps = norm
        inverse_std = 1 / np.sqrt(var + float(eps))
        scale = gamma * inverse_std
        v = w * scale
    dx, dv, _ = conv2d_backward(dy, ConvCache(x, v, False, stride, padding, groups), need_dx=need_dx)
    if plus is not None and dx is not None:
        dx = dx + plus
    dshift = channel_sum(dy)
    dresidual = dy if has_residual else None
    if scale is None:
        return FusedGradients(dx, dv, None if b is None else dshift, None, None, dresidual)
    dscale = channel_sum(w * dv)
    offset = -mean if b is None else b - mean
    dgamma = (dscale + offset * dshift) * inverse_std
    return FusedGradients(dx, dv * scale, None if b is None else dshift * scale, dgamma, dshift, dresidual)
