"""The two heads that read RoI features: class and box from 7x7, mask from 14x14.

In a network without pyramid the last stage of the ResNet may come first, run on each RoI's 14x14 features of C4; then
both heads read the 7x7 that it leaves (He et al., figure 4, left).

References
----------
He et al., "Mask R-CNN" (2017), section 3 and figure 4 (right); Lin et al. (2017), section 4.2 for the fully connected
class and box head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .backbone import BlockCache, architecture, map_channels, stage, stage_backward
from .config import Config
from .layers import LayerCache, Observe, OpCache, accumulate, conv_bn, conv_bn_backward, shown
from .ops.activation import relu, relu_backward
from .ops.conv import conv2d, conv2d_backward, conv2d_transpose, conv2d_transpose_backward
from .ops.linear import linear, linear_backward
from .params import Params, Spec, conv_spec, linear_spec, norm_spec


def _roi_channels(config: Config) -> int:
    """Return the channels of what both heads read: the maps', or C5's where that comes first."""
    return architecture(config).out_channels[3] if config.box_head == "c5" else map_channels(config)


def box_head_spec(config: Config) -> dict[str, Spec]:
    """List the class and box head's tensors."""
    c, hidden, k, pool = _roi_channels(config), config.box_head_channels, config.num_classes, config.box_pool_size
    spec: dict[str, Spec] = {}
    if config.box_head == "conv":
        convs = [(pool, c, hidden), (1, hidden, hidden)]
    else:
        convs = [(3, c, c)] * (config.box_head_convs if config.box_head == "conv_fc" else 0)
    for i, (kernel, c_in, c_out) in enumerate(convs, start=1):
        spec |= conv_spec(f"box_head.conv{i}", kernel, c_in, c_out, bias=config.conv_bias)
        spec |= norm_spec(f"box_head.bn{i}", c_out, config.norm)
    if config.box_head == "c5":
        hidden = c
    elif config.box_head != "conv":
        spec |= linear_spec("box_head.fc1", pool * pool * c, hidden)
    if config.box_head == "fc":
        spec |= linear_spec("box_head.fc2", hidden, hidden)
    spec |= linear_spec("box_head.class", hidden, k, std=0.01)
    spec |= linear_spec("box_head.deltas", hidden, 4 * k, std=0.001)
    return spec


def mask_head_spec(config: Config) -> dict[str, Spec]:
    """List the mask head's tensors."""
    spec: dict[str, Spec] = {}
    c_in, c = _roi_channels(config), config.mask_head_channels
    bias = config.conv_bias or not config.mask_head_norm
    for i in range(1, config.mask_head_convs + 1):
        spec |= conv_spec(f"mask_head.conv{i}", 3, c_in, c, bias=bias)
        if config.mask_head_norm:
            spec |= norm_spec(f"mask_head.bn{i}", c, config.norm)
        c_in = c
    spec |= conv_spec("mask_head.deconv", 2, c_in, c, bias=True, std=(2.0 / c_in) ** 0.5)
    spec |= conv_spec("mask_head.logits", 1, c, config.num_classes, bias=True, std=0.01)
    return spec


# --- C5 as the first part of both heads -----------------------------------------------------------------------------


def c5_head(
    features: np.ndarray, params: Params, config: Config, *, training: bool = False
) -> tuple[np.ndarray, list[BlockCache | None]]:
    """Run the ResNet's stage C5 on each RoI (``box_head="c5"``); for every other box head nothing happens.

    Parameters
    ----------
    features : ndarray of shape (R, 14, 14, C)
        Of C4.
    params : dict
        ``backbone.c5.*`` are used.
    config : Config
    training : bool
        As in ``layers.conv_bn``; False also where C5 and all before it is frozen.

    Returns
    -------
    maps : ndarray of shape (R, 7, 7, C_out)
    caches : list of BlockCache
        Empty if nothing happened; entries None without ``training``.
    """
    if config.box_head != "c5":
        return features, []
    return stage(features, 5, params, config, training=training)


def c5_head_backward(
    dmaps: np.ndarray,
    caches: list[BlockCache | None],
    grads: Params,
    *,
    consume: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Walk back through ``c5_head``.

    Parameters
    ----------
    dmaps : ndarray of shape (R, 7, 7, C_out)
        The sum of what the box head and the mask head hand back.
    caches : list of BlockCache
    grads : dict
        Receives the parameter gradients.
    consume, ready
        As in ``backbone.stage_backward``.

    Returns
    -------
    ndarray of shape (R, 14, 14, C)
        Gradient of the RoI features.
    """
    return stage_backward(dmaps, caches, grads, consume=consume, ready=ready)


# --- class and box --------------------------------------------------------------------------------------------------


class FullyConnectedCache(NamedTuple):
    """Of one fully connected layer: what ``linear`` and ``relu`` leave."""

    linear: OpCache
    relu: OpCache


class BoxHeadCache(NamedTuple):
    """What ``box_head_backward`` needs.

    Attributes
    ----------
    convs : list of layer caches
    map_shape : tuple of int
        Of the last map, which the fully connected layers read as one row, or whose mean is read.
    fully_connected : list of FullyConnectedCache
    class_layer, deltas_layer : tuple
        Of ``linear``, the two predictors.
    """

    convs: list[LayerCache | None]
    map_shape: tuple[int, ...]
    fully_connected: list[FullyConnectedCache]
    class_layer: OpCache
    deltas_layer: OpCache


def box_head(
    features: np.ndarray, params: Params, config: Config, *, training: bool = False, observe: Observe | None = None
) -> tuple[np.ndarray, np.ndarray, BoxHeadCache | None]:
    """Classify each RoI and refine its box, once per class.

    A 7x7 convolution without padding on a 7x7 map *is* a fully connected layer, so ``"fc"`` and ``"conv"`` compute the
    same thing; the Keras one normalises in between. ``"conv_fc"`` looks at the map with 3x3 convolutions first, and
    ``"c5"`` takes the mean over the map that ``c5_head`` made.

    Parameters
    ----------
    features : ndarray of shape (R, 7, 7, C)
    params : dict
    config : Config
        ``box_head`` chooses ``"fc"``, ``"conv"``, ``"conv_fc"`` or ``"c5"``.
    training : bool
        As in ``layers.conv_bn``.
    observe : callable, optional
        Sees ``box_features``, ``class_logits`` and ``box_deltas``.

    Returns
    -------
    class_logits : ndarray of shape (R, K)
    deltas : ndarray of shape (R, K, 4)
        (dy, dx, log dh, log dw) for each class, still divided by ``config.head_box_std``.
    cache : BoxHeadCache, or None in inference
    """
    x, conv_caches, fc_caches = shown(observe, "box_features", features), [], []
    convs, padding, fcs = {
        "fc": (0, 0, 2), "conv": (2, 0, 0), "conv_fc": (config.box_head_convs, 1, 1), "c5": (0, 0, 0),
    }[config.box_head]  # fmt: skip
    for i in range(1, convs + 1):
        name, bn = f"box_head.conv{i}", f"box_head.bn{i}"
        x, conv_cache = conv_bn(x, params, name, bn, config, padding=padding, training=training)
        conv_caches.append(conv_cache)
    hidden = x.mean(axis=(1, 2)) if config.box_head == "c5" else x.reshape(len(x), int(np.prod(x.shape[1:])))
    for i in range(1, fcs + 1):
        hidden, linear_cache = linear(hidden, params[f"box_head.fc{i}.w"], params[f"box_head.fc{i}.b"])
        hidden, relu_cache = relu(hidden)
        fc_caches.append(FullyConnectedCache(linear_cache, relu_cache))
    class_logits, class_cache = linear(hidden, params["box_head.class.w"], params["box_head.class.b"])
    deltas, deltas_cache = linear(hidden, params["box_head.deltas.w"], params["box_head.deltas.b"])
    cache = BoxHeadCache(conv_caches, x.shape, fc_caches, class_cache, deltas_cache) if training else None
    deltas = deltas.reshape(len(x), config.num_classes, 4)
    return shown(observe, "class_logits", class_logits), shown(observe, "box_deltas", deltas), cache


def box_head_backward(
    dclass_logits: np.ndarray, ddeltas: np.ndarray, cache: BoxHeadCache | None, grads: Params
) -> np.ndarray:
    """Walk back through the head.

    Parameters
    ----------
    dclass_logits : ndarray of shape (R, K)
    ddeltas : ndarray of shape (R, K, 4)
    cache : BoxHeadCache
    grads : dict
        Receives the parameter gradients.

    Returns
    -------
    ndarray of shape (R, 7, 7, C)
        Gradient of the RoI features.
    """
    assert cache is not None, "no backward pass after inference"
    dhidden, dw, db = linear_backward(dclass_logits, cache.class_layer)
    accumulate(grads, "box_head.class", w=dw, b=db)
    dh, dw, db = linear_backward(ddeltas.reshape(len(ddeltas), ddeltas.shape[1] * 4), cache.deltas_layer)
    accumulate(grads, "box_head.deltas", w=dw, b=db)
    dhidden = dhidden + dh
    for i, layer in reversed(list(enumerate(cache.fully_connected, start=1))):
        dhidden, dw, db = linear_backward(relu_backward(dhidden, layer.relu), layer.linear)
        accumulate(grads, f"box_head.fc{i}", w=dw, b=db)
    rows, columns, channels = cache.map_shape[1:]
    if cache.convs or cache.fully_connected:
        dx = dhidden.reshape(cache.map_shape)
    else:  # of a mean every cell has the same share
        share = dhidden / dhidden.dtype.type(rows * columns)
        dx = np.zeros(cache.map_shape, share.dtype, like=share) + share.reshape(-1, 1, 1, channels)
    for conv_cache in reversed(cache.convs):
        dx, _ = conv_bn_backward(dx, conv_cache, grads)
    return dx


# --- mask -----------------------------------------------------------------------------------------------------------


class MaskHeadCache(NamedTuple):
    """What ``mask_head_backward`` needs.

    Attributes
    ----------
    convs : list of layer caches
    deconv : tuple
        Of ``conv2d_transpose``.
    logits : tuple
        Of ``conv2d``, the predictor.
    """

    convs: list[LayerCache | None]
    deconv: OpCache
    logits: OpCache


def mask_head(
    features: np.ndarray, params: Params, config: Config, *, training: bool = False, observe: Observe | None = None
) -> tuple[np.ndarray, MaskHeadCache | None]:
    """Predict one mask per class for each RoI: convolutions, a transposed convolution that doubles the size, logits.

    Parameters
    ----------
    features : ndarray of shape (R, 14, 14, C)
    params : dict
    config : Config
    training : bool
        As in ``layers.conv_bn``.
    observe : callable, optional
        Sees ``mask_features`` and ``mask_logits``.

    Returns
    -------
    logits : ndarray of shape (R, 28, 28, K)
        One sigmoid logit per class: the classes do not compete, the class head has decided already.
    cache : MaskHeadCache, or None in inference
    """
    x, conv_caches = shown(observe, "mask_features", features), []
    for i in range(1, config.mask_head_convs + 1):
        name, bn = f"mask_head.conv{i}", f"mask_head.bn{i}" if config.mask_head_norm else None
        x, conv_cache = conv_bn(x, params, name, bn, config, padding=1, training=training)
        conv_caches.append(conv_cache)
    w, b = params["mask_head.deconv.w"], params["mask_head.deconv.b"]
    x, deconv_cache = conv2d_transpose(x, w, b, stride=2, activate=True)
    logits, logits_cache = conv2d(x, params["mask_head.logits.w"], params["mask_head.logits.b"])
    cache = MaskHeadCache(conv_caches, deconv_cache, logits_cache) if training else None
    return shown(observe, "mask_logits", logits), cache


def mask_head_backward(dlogits: np.ndarray, cache: MaskHeadCache | None, grads: Params) -> np.ndarray:
    """Walk back through the head.

    Parameters
    ----------
    dlogits : ndarray of shape (R, 28, 28, K)
    cache : MaskHeadCache
    grads : dict
        Receives the parameter gradients.

    Returns
    -------
    ndarray of shape (R, 14, 14, C)
        Gradient of the RoI features.
    """
    assert cache is not None, "no backward pass after inference"
    dx, dw, db = conv2d_backward(dlogits, cache.logits)
    accumulate(grads, "mask_head.logits", w=dw, b=db)
    dx, dw, db = conv2d_transpose_backward(dx, cache.deconv)
    accumulate(grads, "mask_head.deconv", w=dw, b=db)
    for conv_cache in reversed(cache.convs):
        dx, _ = conv_bn_backward(dx, conv_cache, grads)
    return dx
