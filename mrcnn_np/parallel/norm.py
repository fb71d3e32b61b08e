"""Batch norm whose statistics are those of the whole batch, of which every rank has a share.

With ``bn_mode="train"`` an image's maps depend on the images beside it. If every rank took the mean and variance of its
own images, a step on several ranks would be another function than the step of one process, not only another order of
sums. Inside ``with of_all(ranks):`` the ranks add up count, sum and sum of squares of every layer, forward, and the
two sums of its gradient, backward: twice one small message for each layer, which every rank has to wait for. Networks
with frozen statistics (published weights, as a rule) need none of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from ..ops.norm import batch_norm, batch_norm_backward
from .ranks import Ranks

_RANKS: ContextVar[Ranks | None] = ContextVar("ranks that share a batch", default=None)


@contextmanager
def of_all(ranks: Ranks) -> Iterator[None]:
    """Let batch statistics in a block be those of all ranks' maps together."""
    token = _RANKS.set(ranks if ranks.several else None)
    try:
        yield
    finally:
        _RANKS.reset(token)


class SharedNormCache(NamedTuple):
    """What ``batch_statistics_norm_backward`` needs of a batch that ranks share.

    Attributes
    ----------
    own : tuple
        Of ``batch_norm``, of this rank's maps with the statistics of all.
    var : ndarray of shape (C,)
    eps : float
    elements : float
        Of a channel on all ranks.
    ranks : Ranks
    """

    own: Any
    var: np.ndarray
    eps: float
    elements: float
    ranks: Ranks


def batch_statistics_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    eps: float,
    momentum: float,
) -> tuple[np.ndarray, Any]:
    r"""Do ``batch_norm`` with ``training=True``, with the statistics of the whole batch.

    Parameters
    ----------
    x, gamma, beta, mean, var, eps, momentum
        As in ``batch_norm``; ``mean`` and ``var`` are moved in place, on every rank alike.

    Returns
    -------
    y : ndarray of shape (..., C)
    cache : BatchNormCache, or SharedNormCache inside ``of_all``

    Notes
    -----
    With :math:`M_r, \mu_r, \sigma_r^2` of rank r, and M the sum of all :math:`M_r`,

    .. math:: \mu = \frac1M \sum_r M_r \mu_r, \qquad
        \sigma^2 = \frac1M \sum_r M_r (\sigma_r^2 + \mu_r^2) - \mu^2

    in float64, where the difference keeps enough digits. A rank may have nothing (:math:`M_r = 0`).
    """
    ranks = _RANKS.get()
    if ranks is None:
        return batch_norm(x, gamma, beta, mean, var, training=True, eps=eps, momentum=momentum)
    own_count = x.size // max(1, x.shape[-1])
    own_mean, own_var = np.zeros_like(mean), np.zeros_like(var)
    if own_count:  # with momentum 1 the running statistics become those of the batch, the variance the unbiased one
        batch_norm(x, gamma, beta, own_mean, own_var, training=True, eps=eps, momentum=1.0)
    count_r = np.array([own_count], np.float64, like=mean)
    mu_r = own_mean.astype(np.float64)
    sigma2_r = own_var.astype(np.float64) * (max(1, own_count - 1) / max(1, own_count))
    sums = ranks.total(np.concatenate([count_r, own_count * mu_r, own_count * (sigma2_r + mu_r**2)]))
    count = float(sums[0])
    if count == 0:
        y, own = batch_norm(x, gamma, beta, mean, var, eps=eps)
        return y, SharedNormCache(own, var.copy(), eps, count, ranks)
    mu, squares = sums[1:].reshape(2, -1) / count
    sigma2 = np.maximum(squares - mu**2, 0)
    mean[...] = (1 - momentum) * mean + momentum * mu
    var[...] = (1 - momentum) * var + momentum * sigma2 * (count / max(1, count - 1))
    mu, sigma2 = mu.astype(mean.dtype), sigma2.astype(var.dtype)
    y, own = batch_norm(x, gamma, beta, mu, sigma2, eps=eps)
    return y, SharedNormCache(own, sigma2, eps, count, ranks)


def batch_statistics_norm_backward(dy: np.ndarray, cache: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Return ``(dx, dgamma, dbeta)``; the last two of this rank's maps only, to be added up like all gradients.

    Notes
    -----
    The formula is that of ``batch_norm_backward``, whose two sums run over all ranks here:

    .. math:: dx = \frac{\gamma}{\sigma} dy - \hat x \, \frac{\gamma\, dgamma}{\sigma M}
        - \frac{\gamma\, dbeta}{\sigma M}

    The first term is the gradient with constant statistics; the rest is a norm of ``x`` with another scale and shift.
    """
    if not isinstance(cache, SharedNormCache):
        return batch_norm_backward(dy, cache)
    own = cache.own
    dx, dgamma, dbeta = batch_norm_backward(dy, own)
    sums = cache.ranks.total(np.concatenate([dgamma, dbeta]).astype(np.float64)).reshape(2, -1)
    scale = own.gamma * own.inverse_std / max(1.0, cache.elements)
    slope, shift = (-(scale * total).astype(dx.dtype) for total in sums)
    through_statistics, _ = batch_norm(own.x, slope, shift, own.mu, cache.var, eps=cache.eps)
    return dx + through_statistics, dgamma, dbeta
