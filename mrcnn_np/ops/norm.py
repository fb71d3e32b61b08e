"""Batch normalisation, with the statistics of the batch or with frozen ones."""

from __future__ import annotations

import numpy as np

from kernels import accelerated
from kernels.contract import BatchNormCache

from .linear import channel_sum


@accelerated
def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    training: bool = False,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> tuple[np.ndarray, BatchNormCache]:
    r"""Normalise every channel, then scale and shift it.

    .. math:: \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad y = \gamma \hat x + \beta

    Parameters
    ----------
    x : ndarray of shape (..., C)
        Maps ``(N, H, W, C)`` or rows ``(R, C)``.
    gamma, beta : ndarray of shape (C,)
        Scale and shift, learned.
    mean, var : ndarray of shape (C,)
        Running statistics. With ``training=True`` they are *modified in place* (the only arguments of any operation
        that are)::

            mean <- (1 - momentum) mean + momentum mu
            var  <- (1 - momentum) var  + momentum sigma^2 M / (M - 1)

        where M is the number of elements per channel. As in PyTorch, the running variance is the unbiased one and
        ``x`` is normalised with the biased one. With M = 1 the factor M / (M - 1) is left out; with M = 0 there
        is nothing to learn and they stay as they are.
    training : bool
        True: ``mu, sigma^2`` are mean and (biased) variance of this batch. False: they are ``mean, var``, constants.
    eps : float
    momentum : float

    Returns
    -------
    y : ndarray of shape (..., C)
    cache : BatchNormCache

    Raises
    ------
    ValueError
        If a parameter does not have one number per channel.

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization", algorithm 1.
    """
    for name, parameter in (("gamma", gamma), ("beta", beta), ("mean", mean), ("var", var)):
        if parameter.shape != x.shape[-1:]:
            raise ValueError(f"batch_norm: {name} has shape {parameter.shape}, expected {x.shape[-1:]} (channels of x)")
    count = x.size // max(1, x.shape[-1])  # M
    if training and count > 0:
        mu = channel_sum(x) / count
        sigma2 = channel_sum((x - mu) ** 2) / count
        mean[...] = (1 - momentum) * mean + momentum * mu
        var[...] = (1 - momentum) * var + momentum * sigma2 * (count / max(1, count - 1))
    else:
        mu, sigma2 = mean.copy(), var  # a copy: a later training step must not change this cache
    inverse_std = 1 / np.sqrt(sigma2 + float(eps))  # float: a NumPy float64 would turn float32 into float64
    scale = gamma * inverse_std
    y = (x - mu) * scale
    y += beta
    return y, BatchNormCache(x, gamma, mu, inverse_std, training)


@accelerated
def batch_norm_backward(dy: np.ndarray, cache: BatchNormCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Return ``(dx, dgamma, dbeta)``.

    Notes
    -----
    ``y = gamma x_hat + beta`` gives ``dbeta = sum dy`` and ``dgamma = sum dy x_hat`` (sums over one channel).

    Frozen statistics are constants, so ``dx = dy gamma / sigma`` and nothing more.

    Batch statistics depend on every element. Moving ``x_m`` shifts ``mu`` by ``1 / M`` and ``sigma`` by
    ``x_hat_m / M``, and with them all elements of the channel:

    .. math:: \frac{\partial \hat x_l}{\partial x_m} = \frac{1}{\sigma} \left([l = m] - \frac{1}{M}
        - \frac{\hat x_l \hat x_m}{M}\right)

    Summing ``gamma dy_l`` times this over ``l``:

    .. math:: dx_m = \frac{\gamma}{\sigma} \left(dy_m - \frac{1}{M} \sum_l dy_l
        - \frac{\hat x_m}{M} \sum_l dy_l \hat x_l\right)

    The parenthesis is ``dy`` without its mean and without its part along ``x_hat``: no gradient can change what
    normalisation undoes.
    """
    x, gamma, mu, inverse_std, training = cache
    x_hat = (x - mu) * inverse_std
    dgamma, dbeta = channel_sum(dy * x_hat), channel_sum(dy)
    scale = gamma * inverse_std
    if not training:
        return dy * scale, dgamma, dbeta
    count = max(1, x.size // max(1, x.shape[-1]))
    dx = x_hat  # reuse its memory: dx = (dy - dbeta / M - x_hat dgamma / M) * scale
    dx *= -dgamma / count
    dx += dy
    dx -= dbeta / count
    dx *= scale
    return dx, dgamma, dbeta
