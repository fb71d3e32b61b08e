"""The unit that most of the network is made of: convolution, batch norm, ReLU; and how gradients are collected."""

from __future__ import annotations

from typing import Any

import numpy as np

from .config import Config
from .ops.activation import relu, relu_backward
from .ops.conv import conv2d, conv2d_backward
from .ops.fused import conv2d_fused, conv2d_fused_backward
from .ops.norm import batch_norm, batch_norm_backward
from .params import Params, matches

#: what a backward pass needs; None after inference
Cache = tuple[Any, ...] | None


def conv_bn(
    x: np.ndarray,
    params: Params,
    conv: str,
    bn: str | None,
    config: Config,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    activate: bool = True,
    residual: np.ndarray | None = None,
    training: bool = False,
) -> tuple[np.ndarray, Cache]:
    """Convolve, normalise, add and rectify: ``relu(bn(conv(x)) + residual)``, without what is not asked for.

    Parameters
    ----------
    x : ndarray of shape (N, H, W, C_in)
    params : dict
        Holds ``{conv}.w`` (and ``.b``) and ``{bn}.gamma``, ``.beta``, ``.mean``, ``.var``.
    conv, bn : str
        The two names; None for ``bn`` if no norm follows.
    config : Config
        Supplies ``bn_mode``, ``bn_eps`` and ``bn_momentum``; ``frozen`` may keep single norms out of ``"train"``.
    stride, padding, groups : int
        As in ``conv2d``.
    activate : bool
        Apply ReLU; a projection shortcut does not.
    residual : ndarray, optional
        Added before the ReLU: the shortcut of a residual block.
    training : bool
        Keep what ``conv_bn_backward`` needs and, with ``bn_mode="train"``, use batch statistics and update the running
        ones (``bn_mode="frozen"`` uses the running ones as they are). In inference they are constants, and nothing is
        kept.

    Returns
    -------
    y : ndarray of shape (N, H', W', C_out)
    cache : tuple, or None in inference
        (names, cache of ``conv2d_fused``), or with batch statistics (names, conv cache, norm cache, residual or not,
        relu cache or None)
    """
    weight, bias = params[f"{conv}.w"], params.get(f"{conv}.b")
    how: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups}
    if bn is None:
        y, cache = conv2d_fused(x, weight, bias, residual=residual, activate=activate, **how)
        return y, (conv, bn, cache) if training else None
    gamma, beta, mean, var = (params[f"{bn}.{s}"] for s in ("gamma", "beta", "mean", "var"))
    if not training or config.bn_mode == "frozen" or matches(f"{bn}.mean", config.frozen):
        norm = (gamma, beta, mean, var, config.bn_eps)
        y, cache = conv2d_fused(x, weight, bias, norm=norm, residual=residual, activate=activate, **how)
        return y, (conv, bn, cache) if training else None
    y, conv_cache = conv2d(x, weight, bias, **how)
    y, bn_cache = batch_norm(y, gamma, beta, mean, var, training=True, eps=config.bn_eps, momentum=config.bn_momentum)
    if residual is not None:
        y = y + residual
    relu_cache = None
    if activate:
        y, relu_cache = relu(y)
    return y, (conv, bn, conv_cache, bn_cache, residual is not None, relu_cache)


def conv_bn_backward(
    dy: np.ndarray, cache: Cache, grads: Params, *, need_dx: bool = True, plus: np.ndarray | None = None
) -> tuple[Any, Any]:
    """Return ``dx`` (None if it is not needed) and ``dresidual``, and add the parameter gradients to ``grads``.

    ``plus`` is what ``x`` receives on other ways: it is added to ``dx``.
    """
    assert cache is not None, "no backward pass after inference"
    if len(cache) == 3:
        conv, bn, fused_cache = cache
        g = conv2d_fused_backward(dy, fused_cache, need_dx=need_dx, plus=plus)
        if bn is not None:
            accumulate(grads, bn, gamma=g.dgamma, beta=g.dbeta)
        accumulate(grads, conv, w=g.dw, b=g.db)
        return g.dx, g.dresidual
    conv, bn, conv_cache, bn_cache, has_residual, relu_cache = cache
    if relu_cache is not None:
        dy = relu_backward(dy, relu_cache)
    dresidual = dy if has_residual else None
    dy, dgamma, dbeta = batch_norm_backward(dy, bn_cache)
    dx, dw, db = conv2d_backward(dy, conv_cache, need_dx=need_dx)
    if plus is not None:
        dx = dx + plus
    accumulate(grads, bn, gamma=dgamma, beta=dbeta)
    accumulate(grads, conv, w=dw, b=db)
    return dx, dresidual


def accumulate(grads: Params, layer: str, **gradients: np.ndarray | None) -> None:
    """Add a layer's gradients, ``w=dw, b=db``, to what is there: a layer used twice receives the sum of both uses."""
    for suffix, gradient in gradients.items():
        name = f"{layer}.{suffix}"
        if gradient is not None:
            grads[name] = grads[name] + gradient if name in grads else gradient
