"""Region proposal network: one small head slides over P2..P6 and judges every anchor.

For each anchor it says how likely it holds an object (*objectness*) and how to move and stretch it (*deltas*). The
same weights serve all five levels, so their gradients are the sum over levels: ``rpn_head`` keeps one cache per level.

References
----------
Ren et al., "Faster R-CNN" (2015), section 3.1; Lin et al., "Feature pyramid networks" (2017), section 4.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .backbone import map_channels
from .config import Config
from .layers import LayerCache, Observe, OpCache, accumulate, conv_bn, conv_bn_backward, shown
from .ops.fused import conv2d_fused, conv2d_fused_backward
from .params import Params, Spec, conv_spec

PREDICTORS = ("rpn.objectness", "rpn.deltas")


def conv_names(config: Config) -> list[str]:
    """Name the 3x3 convolutions: the first has no number, because in most networks it is the only one."""
    return [f"rpn.conv{'' if i == 1 else i}" for i in range(1, config.rpn_convs + 1)]


def logits_per_anchor(config: Config) -> int:
    """Return 2 for softmax (background, object), 1 for sigmoid."""
    return 2 if config.rpn_objectness == "softmax" else 1


def rpn_spec(config: Config) -> dict[str, Spec]:
    """List the head's tensors."""
    anchors, channels = config.anchors_per_cell, config.rpn_channels
    spec: dict[str, Spec] = {}
    for i, name in enumerate(conv_names(config)):
        spec |= conv_spec(name, 3, channels if i else map_channels(config), channels, bias=True, std=0.01)
    spec |= conv_spec("rpn.objectness", 1, channels, anchors * logits_per_anchor(config), bias=True, std=0.01)
    spec |= conv_spec("rpn.deltas", 1, channels, anchors * 4, bias=True, std=0.01)
    return spec


class RpnLevelCache(NamedTuple):
    """What the head leaves on one level for the way back.

    Attributes
    ----------
    convs : list of layer caches
        Of the 3x3 convolutions.
    objectness, deltas : tuple
        Of ``conv2d_fused``, the two predictors.
    logits_shape, deltas_shape : tuple of int
        Of their maps.
    """

    convs: list[LayerCache | None]
    objectness: OpCache
    deltas: OpCache
    logits_shape: tuple[int, ...]
    deltas_shape: tuple[int, ...]


class RpnCache(NamedTuple):
    """What ``rpn_head_backward`` needs: ``levels``, a ``RpnLevelCache`` for each of P2 .. P6."""

    levels: list[RpnLevelCache]


def rpn_head(
    pyramid: list[np.ndarray],
    params: Params,
    config: Config,
    *,
    training: bool = False,
    observe: Observe | None = None,
) -> tuple[np.ndarray, np.ndarray, RpnCache | None]:
    """Apply the head to every level and lay the results end to end, in the order of ``pyramid_anchors``.

    Parameters
    ----------
    pyramid : list of ndarray
        ``[p2, ..., p6]``, each (N, H_l, W_l, C); one map where ``neck`` is "none".
    params : dict
    config : Config
    training : bool
        Keep what ``rpn_head_backward`` needs.
    observe : callable, optional
        Sees ``rpn_logits`` and ``rpn_deltas``.

    Returns
    -------
    logits : ndarray of shape (N, A) for sigmoid or (N, A, 2) for softmax
        A counts the anchors of all levels.
    deltas : ndarray of shape (N, A, 4)
        (dy, dx, log dh, log dw), still divided by ``config.rpn_box_std``.
    cache : RpnCache, or None in inference
    """
    logits, deltas, levels = [], [], []
    n, k = pyramid[0].shape[0], logits_per_anchor(config)
    objectness, box = ((params[f"{name}.w"], params[f"{name}.b"]) for name in PREDICTORS)
    for p in pyramid:
        hidden, conv_caches = p, []
        for name in conv_names(config):
            hidden, conv_cache = conv_bn(hidden, params, name, None, config, padding=1, training=training)
            conv_caches.append(conv_cache)
        level_logits, objectness_cache = conv2d_fused(hidden, *objectness)
        level_deltas, deltas_cache = conv2d_fused(hidden, *box)
        if training:
            shapes = (level_logits.shape, level_deltas.shape)
            levels.append(RpnLevelCache(conv_caches, objectness_cache, deltas_cache, *shapes))
        # The last axis holds one anchor after the other, so a reshape turns cells into anchors.
        logits.append(level_logits.reshape(n, -1, k))
        deltas.append(level_deltas.reshape(n, -1, 4))
    all_logits, all_deltas = np.concatenate(logits, axis=1), np.concatenate(deltas, axis=1)
    if k == 1:
        all_logits = all_logits[..., 0]
    cache = RpnCache(levels) if training else None
    return shown(observe, "rpn_logits", all_logits), shown(observe, "rpn_deltas", all_deltas), cache


def rpn_head_backward(
    dlogits: np.ndarray, ddeltas: np.ndarray, cache: RpnCache | None, grads: Params
) -> list[np.ndarray]:
    """Cut the gradients into levels again and walk back through the head on each.

    Parameters
    ----------
    dlogits : ndarray of shape (N, A) or (N, A, 2)
    ddeltas : ndarray of shape (N, A, 4)
    cache : RpnCache
    grads : dict
        Receives the parameter gradients. The weights are shared: every level adds its share to the same entries.

    Returns
    -------
    list of ndarray
        The gradients of ``[p2, ..., p6]``.
    """
    assert cache is not None, "no backward pass after inference"
    n = ddeltas.shape[0]
    dlogits = dlogits.reshape(n, ddeltas.shape[1], -1)
    dpyramid, start = [], 0
    for level in cache.levels:
        anchors = int(np.prod(level.deltas_shape[1:])) // 4
        stop = start + anchors
        box = conv2d_fused_backward(ddeltas[:, start:stop].reshape(level.deltas_shape), level.deltas)
        accumulate(grads, "rpn.deltas", w=box.dw, b=box.db)
        dmap = dlogits[:, start:stop].reshape(level.logits_shape)
        objectness = conv2d_fused_backward(dmap, level.objectness, plus=box.dx)
        accumulate(grads, "rpn.objectness", w=objectness.dw, b=objectness.db)
        dhidden = objectness.dx
        del box, objectness  # else box.dx, as large as the map, lives on where memory is at its peak: on P2
        for conv_cache in reversed(level.convs):
            dhidden, _ = conv_bn_backward(dhidden, conv_cache, grads)
        dpyramid.append(dhidden)
        start = stop
    return dpyramid
