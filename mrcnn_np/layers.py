"""The unit that most of the network is made of: convolution, norm, ReLU; and what all parts have in common.

That is how gradients are collected, and how a tensor on the way is shown to whoever watches a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernels import on_device, to_device, to_host
from kernels.contract import GroupNormCache

from .config import Config
from .ops.activation import relu, relu_backward
from .ops.conv import conv2d, conv2d_backward
from .ops.fused import conv2d_fused, conv2d_fused_backward
from .ops.group_norm import group_norm, group_norm_backward
from .parallel.norm import batch_statistics_norm, batch_statistics_norm_backward
from .params import Params, matches

#: Called with a tensor's name and the tensor; returns the one to go on with, or nothing to go on with this one. It is
#: what a forward hook is to a framework. A part of the network shows what it makes, and what it reads if nobody before
#: it has shown that.
Observe = Callable[[str, np.ndarray], "np.ndarray | None"]

#: what an operation hands to its backward pass: a class of `kernels.contract`
OpCache = Any


class FusedLayerCache(NamedTuple):
    """What ``conv_bn_backward`` needs of a layer without norm, or whose norm has constant statistics.

    Attributes
    ----------
    conv, bn : str
        The two names; None for ``bn`` if no norm follows.
    fused : tuple
        Of ``conv2d_fused``.
    """

    conv: str
    bn: str | None
    fused: OpCache


class NormLayerCache(NamedTuple):
    """What ``conv_bn_backward`` needs of a layer whose norm uses the statistics of the batch, or of each map.

    Attributes
    ----------
    conv, bn : str
        The two names.
    convolution, norm : tuple
        Of ``conv2d`` and ``batch_statistics_norm`` or ``group_norm``.
    has_residual : bool
    relu : tuple or None
        Of ``relu``; None without one.
    """

    conv: str
    bn: str
    convolution: OpCache
    norm: OpCache
    has_residual: bool
    relu: OpCache | None


LayerCache = FusedLayerCache | NormLayerCache


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
) -> tuple[np.ndarray, LayerCache | None]:
    """Convolve, normalise, add and rectify: ``relu(bn(conv(x)) + residual)``, without what is not asked for.

    Parameters
    ----------
    x : ndarray of shape (N, H, W, C_in)
    params : dict
        Holds ``{conv}.w`` (and ``.b``) and ``{bn}.gamma``, ``.beta``; of batch norm also ``.mean``, ``.var``.
    conv, bn : str
        The two names; None for ``bn`` if no norm follows.
    config : Config
        Supplies ``norm``, ``norm_groups``, ``bn_mode``, ``bn_eps`` and ``bn_momentum``; ``frozen`` may keep single
        batch norms out of ``"train"``.
    stride, padding, groups : int
        As in ``conv2d``.
    activate : bool
        Apply ReLU; a projection shortcut does not.
    residual : ndarray, optional
        Added before the ReLU: the shortcut of a residual block.
    training : bool
        Keep what ``conv_bn_backward`` needs and, with ``bn_mode="train"``, use batch statistics and update the running
        ones (``bn_mode="frozen"`` uses the running ones as they are). In inference they are constants, and nothing is
        kept. Group norm and instance norm compute the same in both.

    Returns
    -------
    y : ndarray of shape (N, H', W', C_out)
    cache : FusedLayerCache or NormLayerCache, or None in inference
    """
    weight, bias = params[f"{conv}.w"], params.get(f"{conv}.b")
    how: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups}
    of_batch = config.norm == "batch"
    if bn is None or (
        of_batch and (not training or config.bn_mode == "frozen" or matches(f"{bn}.mean", config.frozen))
    ):
        norm = bn and (*(params[f"{bn}.{s}"] for s in ("gamma", "beta", "mean", "var")), config.bn_eps)
        y, fused = conv2d_fused(x, weight, bias, norm=norm, residual=residual, activate=activate, **how)
        return y, FusedLayerCache(conv, bn, fused) if training else None
    y, conv_cache = conv2d(x, weight, bias, **how)
    gamma, beta = params[f"{bn}.gamma"], params[f"{bn}.beta"]
    norm_cache: OpCache
    if of_batch:
        running = params[f"{bn}.mean"], params[f"{bn}.var"]
        y, norm_cache = batch_statistics_norm(y, gamma, beta, *running, eps=config.bn_eps, momentum=config.bn_momentum)
    else:
        parts = config.norm_groups if config.norm == "group" else y.shape[-1]
        y, norm_cache = group_norm(y, gamma, beta, groups=parts, eps=config.bn_eps)
    if residual is not None:
        y += residual
    relu_cache = None
    if activate:
        y, relu_cache = relu(y)
    if not training:
        return y, None
    return y, NormLayerCache(conv, bn, conv_cache, norm_cache, residual is not None, relu_cache)


def conv_bn_backward(
    dy: np.ndarray, cache: LayerCache | None, grads: Params, *, need_dx: bool = True, plus: np.ndarray | None = None
) -> tuple[Any, Any]:
    """Walk back through ``conv_bn``.

    Parameters
    ----------
    dy : ndarray of shape (N, H', W', C_out)
    cache : FusedLayerCache or NormLayerCache
    grads : dict
        Receives the parameter gradients.
    need_dx : bool
        The gradient of an image is not needed.
    plus : ndarray of shape (N, H, W, C_in), optional
        What ``x`` receives on other ways: it is added to ``dx``.

    Returns
    -------
    dx : ndarray of shape (N, H, W, C_in), or None
        None if it is not needed.
    dresidual : ndarray of shape (N, H', W', C_out), or None
        None if there was no residual.
    """
    assert cache is not None, "no backward pass after inference"
    if isinstance(cache, FusedLayerCache):
        g = conv2d_fused_backward(dy, cache.fused, need_dx=need_dx, plus=plus)
        if cache.bn is not None:
            accumulate(grads, cache.bn, gamma=g.dgamma, beta=g.dbeta)
        accumulate(grads, cache.conv, w=g.dw, b=g.db)
        return g.dx, g.dresidual
    if cache.relu is not None:
        dy = relu_backward(dy, cache.relu)
    dresidual = dy if cache.has_residual else None
    of_each = isinstance(cache.norm, GroupNormCache)
    dy, dgamma, dbeta = (group_norm_backward if of_each else batch_statistics_norm_backward)(dy, cache.norm)
    dx, dw, db = conv2d_backward(dy, cache.convolution, need_dx=need_dx)
    if plus is not None:
        dx = dx + plus
    accumulate(grads, cache.bn, gamma=dgamma, beta=dbeta)
    accumulate(grads, cache.conv, w=dw, b=db)
    return dx, dresidual


def shown(observe: Observe | None, name: str, x: np.ndarray) -> np.ndarray:
    """Show a tensor to whoever is watching, and return the one to go on with.

    Parameters
    ----------
    observe : callable, optional
    name : str
    x : ndarray
        The watcher sees a copy on the host if it lies on a device.

    Returns
    -------
    ndarray
        What ``observe`` returned; ``x`` if that is nothing.

    Raises
    ------
    TypeError
        It returned something else.
    """
    changed = None if observe is None else observe(name, to_host(x))
    if changed is None:
        return x
    if not isinstance(changed, np.ndarray):
        kind = type(changed).__name__
        raise TypeError(
            f"observe returned {kind} for {name!r}; expected an array to go on with, or None to change nothing"
        )
    return to_device(changed) if on_device(x) else changed


def accumulate(grads: Params, layer: str, **gradients: np.ndarray | None) -> None:
    """Add a layer's gradients to what is there: a layer that is used twice receives the sum of both uses.

    Parameters
    ----------
    grads : dict
        Changed in place.
    layer : str
        Name of the layer: ``"rpn.conv"``.
    **gradients : ndarray or None
        By the last part of the name, ``w=dw, b=db``; None where the layer has no such tensor.
    """
    for suffix, gradient in gradients.items():
        name = f"{layer}.{suffix}"
        if gradient is not None:
            grads[name] = grads[name] + gradient if name in grads else gradient
