"""The keypoint head: eight convolutions, a transposed one, bilinear enlargement; 14x14 features to 56x56 logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..backbone import map_channels
from ..config import Config
from ..layers import LayerCache, Observe, OpCache, accumulate, conv_bn, conv_bn_backward, shown
from ..ops.conv import conv2d_transpose, conv2d_transpose_backward, crop_maps, pad_maps
from ..ops.resize import resize_bilinear, resize_bilinear_backward
from ..params import Params, Spec, conv_spec

#: of the transposed convolution: with stride 2 and one cell cut off on every side it just doubles the map
KERNEL, CUT = 4, ((1, 1), (1, 1))
#: sides of the logits' map, in sides of the features' map: twice by the transposed convolution, twice by interpolation
ENLARGED = 4


def keypoint_head_spec(config: Config) -> dict[str, Spec]:
    """List the keypoint head's tensors; none without a keypoint branch."""
    spec: dict[str, Spec] = {}
    if not config.keypoints:
        return spec
    c_in = map_channels(config)
    for i in range(1, config.keypoint_head_convs + 1):
        spec |= conv_spec(f"keypoint_head.conv{i}", 3, c_in, config.keypoint_head_channels, bias=True)
        c_in = config.keypoint_head_channels
    std = (2.0 / (KERNEL**2 * c_in)) ** 0.5  # torchvision's
    return spec | conv_spec("keypoint_head.deconv", KERNEL, c_in, config.keypoints, bias=True, std=std)


class KeypointHeadCache(NamedTuple):
    """What ``keypoint_head_backward`` needs.

    Attributes
    ----------
    convs : list of layer caches
    deconv : tuple
        Of ``conv2d_transpose``, the predictor.
    resize : tuple
        Of ``resize_bilinear``.
    """

    convs: list[LayerCache | None]
    deconv: OpCache
    resize: OpCache


def keypoint_head(
    features: np.ndarray, params: Params, config: Config, *, training: bool = False, observe: Observe | None = None
) -> tuple[np.ndarray, KeypointHeadCache | None]:
    """Predict one map per kind of keypoint for each RoI; the classes share them.

    Parameters
    ----------
    features : ndarray of shape (R, 14, 14, C)
    params : dict
    config : Config
    training : bool
        As in ``layers.conv_bn``.
    observe : callable, optional
        Sees ``keypoint_features`` and ``keypoint_logits``.

    Returns
    -------
    logits : ndarray of shape (R, 56, 56, K)
        Of a softmax over the 56 x 56 cells: the cells compete, the keypoints do not.
    cache : KeypointHeadCache, or None in inference

    References
    ----------
    He et al. (2017), section 5: a deconv layer and 2x bilinear upscaling, because a keypoint asks for a higher
    resolution than a mask.
    """
    x, conv_caches = shown(observe, "keypoint_features", features), []
    for i in range(1, config.keypoint_head_convs + 1):
        x, conv_cache = conv_bn(x, params, f"keypoint_head.conv{i}", None, config, padding=1, training=training)
        conv_caches.append(conv_cache)
    x, deconv_cache = conv2d_transpose(x, params["keypoint_head.deconv.w"], params["keypoint_head.deconv.b"], stride=2)
    x = crop_maps(x, CUT).copy()  # (R, 28, 28, K)
    logits, resize_cache = resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]))
    cache = KeypointHeadCache(conv_caches, deconv_cache, resize_cache) if training else None
    return shown(observe, "keypoint_logits", logits), cache


def keypoint_head_backward(dlogits: np.ndarray, cache: KeypointHeadCache | None, grads: Params) -> np.ndarray:
    """Walk back through the head.

    Parameters
    ----------
    dlogits : ndarray of shape (R, 56, 56, K)
    cache : KeypointHeadCache
    grads : dict
        Receives the parameter gradients.

    Returns
    -------
    ndarray of shape (R, 14, 14, C)
        Gradient of the RoI features.

    Notes
    -----
    What was cut off the transposed convolution had no influence: its gradient is 0.
    """
    assert cache is not None, "no backward pass after inference"
    dx = pad_maps(resize_bilinear_backward(dlogits, cache.resize), CUT)
    dx, dw, db = conv2d_transpose_backward(dx, cache.deconv)
    accumulate(grads, "keypoint_head.deconv", w=dw, b=db)
    for conv_cache in reversed(cache.convs):
        dx, _ = conv_bn_backward(dx, conv_cache, grads)
    return dx
