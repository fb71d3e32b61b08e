"""Group normalisation: the statistics of each map by itself, over groups of its channels."""

from __future__ import annotations

from operator import index

import numpy as np

from kernels import accelerated
from kernels.contract import GroupNormCache

from .linear import channel_sum


def _sum_of_each(x: np.ndarray) -> np.ndarray:
    """Sum over all axes but the first and the last: ``(N, ..., C)`` to ``(N, C)``, one axis after the other."""
    while x.ndim > 2:
        x = np.ones_like(x, shape=x.shape[-2]) @ x
    return x


def _mean_of_groups(sums: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    """Return the mean over each group of each map, given the sums of its channels; (N, C) both: a copy a channel."""
    n, channels = sums.shape
    count = max(1, x[:1].size // groups)  # numbers in a group
    means = sums.reshape(n, groups, channels // groups).sum(axis=2) / count
    return np.repeat(means, channels // groups, axis=1)


def _beside(x: np.ndarray, per_channel: np.ndarray) -> np.ndarray:
    """Give numbers of each map's channels (N, C) as many axes as the maps have."""
    return per_channel.reshape(len(x), *(1,) * (x.ndim - 2), x.shape[-1])


@accelerated
def group_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, *, groups: int = 32, eps: float = 1e-5
) -> tuple[np.ndarray, GroupNormCache]:
    r"""Normalise groups of channels of each map by its own mean and variance, then scale and shift every channel.

    .. math:: \hat x = \frac{x - \mu_{n,g}}{\sqrt{\sigma^2_{n,g} + \epsilon}}, \qquad y = \gamma \hat x + \beta

    Nothing depends on what else is in the batch (but padding does count, if maps were padded to one size), and training
    and inference compute the same: there are no running statistics. With one channel to a group it is *instance
    normalisation*, with one group *layer normalisation*.

    Parameters
    ----------
    x : ndarray of shape (N, ..., C)
        Maps ``(N, H, W, C)`` or rows ``(N, C)``.
    gamma, beta : ndarray of shape (C,)
        Scale and shift, learned.
    groups : int
        Divides C; a group is ``C / groups`` neighbouring channels.
    eps : float

    Returns
    -------
    y : ndarray of shape (N, ..., C)
    cache : GroupNormCache

    Raises
    ------
    ValueError
        If x has one axis only, a parameter does not have one number per channel, or ``groups`` does not divide the
        channels.
    TypeError
        If ``groups`` is no whole number.

    References
    ----------
    Wu and He, "Group Normalization", section 3.
    """
    if x.ndim < 2:
        raise ValueError(f"group_norm: x has shape {x.shape}, expected (N, ..., C)")
    groups, channels = index(groups), x.shape[-1]  # a NumPy integer would turn float32 into float64
    for name, parameter in (("gamma", gamma), ("beta", beta)):
        if parameter.shape != (channels,):
            raise ValueError(f"group_norm: {name} has shape {parameter.shape}, expected {(channels,)} (channels of x)")
    if groups < 1 or channels % groups:
        raise ValueError(f"group_norm: {channels} channels cannot be cut into {groups} groups of one size")
    mu = _mean_of_groups(_sum_of_each(x), x, groups)
    apart = x - _beside(x, mu)
    inverse_std = 1 / np.sqrt(_mean_of_groups(_sum_of_each(apart**2), x, groups) + float(eps))
    y = apart  # reuse its memory
    y *= _beside(x, inverse_std * gamma)
    y += beta
    return y, GroupNormCache(x, gamma, mu, inverse_std, groups)


@accelerated
def group_norm_backward(dy: np.ndarray, cache: GroupNormCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Return ``(dx, dgamma, dbeta)``.

    Notes
    -----
    As for batch norm with the statistics of the batch, a gradient loses its mean and its part along ``x_hat``, here in
    each group of each map. The scale differs between the channels of a group, so it belongs to the gradient that
    arrives, :math:`g = \gamma\, dy`:

    .. math:: dx_m = \frac{1}{\sigma} \left(g_m - \frac{1}{M} \sum_l g_l
        - \frac{\hat x_m}{M} \sum_l g_l \hat x_l\right)

    with sums over the M numbers of the group. ``dgamma = sum dy x_hat`` and ``dbeta = sum dy`` run over all maps.
    """
    x, gamma, mu, inverse_std, groups = cache
    x_hat = (x - _beside(x, mu)) * _beside(x, inverse_std)
    products, sums = _sum_of_each(dy * x_hat), _sum_of_each(dy)
    dx = x_hat  # reuse its memory: dx = (g - mean of g - x_hat mean of g x_hat) * inverse_std
    dx *= _beside(x, -_mean_of_groups(products * gamma, x, groups))
    dx += dy * gamma
    dx -= _beside(x, _mean_of_groups(sums * gamma, x, groups))
    dx *= _beside(x, inverse_std)
    return dx, channel_sum(products), channel_sum(sums)
