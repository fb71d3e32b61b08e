"""The two heads that read RoI features: class and box from 7x7, mask from 14x14.

References
----------
He et al., "Mask R-CNN" (2017), section 3 and figure 4 (right); Lin et al. (2017), section 4.2 for the fully connected
class and box head.
"""

from __future__ import annotations

import numpy as np

from .config import Config
from .conv_bn import Cache, accumulate, conv_bn, conv_bn_backward
from .ops.activation import relu, relu_backward
from .ops.conv import conv2d, conv2d_backward, conv2d_transpose, conv2d_transpose_backward
from .ops.fused import conv2d_fused, conv2d_fused_backward
from .ops.linear import linear, linear_backward
from .params import Params, Spec, conv_spec, linear_spec, norm_spec


def box_head_spec(config: Config) -> dict[str, Spec]:
    """List the class and box head's tensors."""
    c, hidden, k, pool = config.fpn_channels, config.box_head_channels, config.num_classes, config.box_pool_size
    if config.box_head == "fc":
        spec = linear_spec("box_head.fc1", pool * pool * c, hidden)
        spec |= linear_spec("box_head.fc2", hidden, hidden)
    else:
        spec = conv_spec("box_head.conv1", pool, c, hidden, bias=True)
        spec |= norm_spec("box_head.bn1", hidden)
        spec |= conv_spec("box_head.conv2", 1, hidden, hidden, bias=True)
        spec |= norm_spec("box_head.bn2", hidden)
    spec |= linear_spec("box_head.class", hidden, k, std=0.01)
    spec |= linear_spec("box_head.deltas", hidden, 4 * k, std=0.001)
    return spec


def mask_head_spec(config: Config) -> dict[str, Spec]:
    """List the mask head's tensors."""
    spec: dict[str, Spec] = {}
    c_in, c = config.fpn_channels, config.mask_head_channels
    for i in range(1, config.mask_head_convs + 1):
        spec |= conv_spec(f"mask_head.conv{i}", 3, c_in, c, bias=True)
        if config.mask_head_norm:
            spec |= norm_spec(f"mask_head.bn{i}", c)
        c_in = c
    spec |= conv_spec("mask_head.deconv", 2, c_in, c, bias=True, std=(2.0 / c_in) ** 0.5)
    spec |= conv_spec("mask_head.logits", 1, c, config.num_classes, bias=True, std=0.01)
    return spec


# --- class and box --------------------------------------------------------------------------------------------------


def box_head(
    features: np.ndarray, params: Params, config: Config, *, training: bool = False
) -> tuple[np.ndarray, np.ndarray, Cache]:
    """Classify each RoI and refine its box, once per class.

    A 7x7 convolution without padding on a 7x7 map *is* a fully connected layer, so both variants compute the same
    thing; the Keras one normalises in between.

    Parameters
    ----------
    features : ndarray of shape (R, 7, 7, C)
    params : dict
    config : Config
        ``box_head`` chooses ``"fc"`` or ``"conv"``.
    training : bool
        As in ``conv_bn``.

    Returns
    -------
    class_logits : ndarray of shape (R, K)
    deltas : ndarray of shape (R, K, 4)
        (dy, dx, log dh, log dw) for each class, still divided by ``config.head_box_std``.
    cache : tuple, or None in inference
        (shape of the features, caches of the two hidden layers, cache of the class layer, cache of the delta layer)
    """
    r = features.shape[0]
    if config.box_head == "fc":
        hidden, fc1_cache = linear(
            features.reshape(r, int(np.prod(features.shape[1:]))), params["box_head.fc1.w"], params["box_head.fc1.b"]
        )
        hidden, relu1_cache = relu(hidden)
        hidden, fc2_cache = linear(hidden, params["box_head.fc2.w"], params["box_head.fc2.b"])
        hidden, relu2_cache = relu(hidden)
        trunk_cache: tuple[Cache, ...] = (fc1_cache, relu1_cache, fc2_cache, relu2_cache)
    else:
        hidden, conv1_cache = conv_bn(features, params, "box_head.conv1", "box_head.bn1", config, training=training)
        hidden, conv2_cache = conv_bn(hidden, params, "box_head.conv2", "box_head.bn2", config, training=training)
        hidden = hidden.reshape(r, config.box_head_channels)
        trunk_cache = (conv1_cache, conv2_cache)
    class_logits, class_cache = linear(hidden, params["box_head.class.w"], params["box_head.class.b"])
    deltas, deltas_cache = linear(hidden, params["box_head.deltas.w"], params["box_head.deltas.b"])
    cache = (features.shape, trunk_cache, class_cache, deltas_cache) if training else None
    return class_logits, deltas.reshape(r, config.num_classes, 4), cache


def box_head_backward(dclass_logits: np.ndarray, ddeltas: np.ndarray, cache: Cache, grads: Params) -> np.ndarray:
    """Return the gradient of the RoI features, shape (R, 7, 7, C)."""
    assert cache is not None, "no backward pass after inference"
    shape, trunk_cache, class_cache, deltas_cache = cache
    dhidden, dw, db = linear_backward(dclass_logits, class_cache)
    accumulate(grads, "box_head.class", w=dw, b=db)
    dh, dw, db = linear_backward(ddeltas.reshape(len(ddeltas), ddeltas.shape[1] * 4), deltas_cache)
    accumulate(grads, "box_head.deltas", w=dw, b=db)
    dhidden = dhidden + dh
    if len(trunk_cache) == 2:
        conv1_cache, conv2_cache = trunk_cache
        dhidden, _ = conv_bn_backward(dhidden[:, None, None, :], conv2_cache, grads)
        return conv_bn_backward(dhidden, conv1_cache, grads)[0]
    fc1_cache, relu1_cache, fc2_cache, relu2_cache = trunk_cache
    dhidden, dw, db = linear_backward(relu_backward(dhidden, relu2_cache), fc2_cache)
    accumulate(grads, "box_head.fc2", w=dw, b=db)
    dfeatures, dw, db = linear_backward(relu_backward(dhidden, relu1_cache), fc1_cache)
    accumulate(grads, "box_head.fc1", w=dw, b=db)
    return dfeatures.reshape(shape)


# --- mask -----------------------------------------------------------------------------------------------------------


def mask_head(
    features: np.ndarray, params: Params, config: Config, *, training: bool = False
) -> tuple[np.ndarray, Cache]:
    """Predict one mask per class for each RoI: convolutions, a transposed convolution that doubles the size, logits.

    Parameters
    ----------
    features : ndarray of shape (R, 14, 14, C)
    params : dict
    config : Config
    training : bool
        As in ``conv_bn``.

    Returns
    -------
    logits : ndarray of shape (R, 28, 28, K)
        One sigmoid logit per class: the classes do not compete, the class head has decided already.
    cache : tuple, or None in inference
        (batch norm or not, caches of the convolutions, deconvolution cache, its relu cache, logits cache)
    """
    x, caches = features, []
    for i in range(1, config.mask_head_convs + 1):
        name, cache = f"mask_head.conv{i}", None
        if config.mask_head_norm:
            x, cache = conv_bn(x, params, name, f"mask_head.bn{i}", config, padding=1, training=training)
        else:
            x, fused_cache = conv2d_fused(x, params[f"{name}.w"], params[f"{name}.b"], padding=1, activate=True)
            cache = fused_cache if training else None
        caches.append(cache)
    x, deconv_cache = conv2d_transpose(x, params["mask_head.deconv.w"], params["mask_head.deconv.b"], stride=2)
    x, relu_cache = relu(x)
    logits, logits_cache = conv2d(x, params["mask_head.logits.w"], params["mask_head.logits.b"])
    return logits, (config.mask_head_norm, caches, deconv_cache, relu_cache, logits_cache) if training else None


def mask_head_backward(dlogits: np.ndarray, cache: Cache, grads: Params) -> np.ndarray:
    """Return the gradient of the RoI features, shape (R, 14, 14, C)."""
    assert cache is not None, "no backward pass after inference"
    normed, caches, deconv_cache, relu_cache, logits_cache = cache
    dx, dw, db = conv2d_backward(dlogits, logits_cache)
    accumulate(grads, "mask_head.logits", w=dw, b=db)
    dx, dw, db = conv2d_transpose_backward(relu_backward(dx, relu_cache), deconv_cache)
    accumulate(grads, "mask_head.deconv", w=dw, b=db)
    for i in range(len(caches), 0, -1):
        if normed:
            dx, _ = conv_bn_backward(dx, caches[i - 1], grads)
            continue
        gradients = conv2d_fused_backward(dx, caches[i - 1])
        accumulate(grads, f"mask_head.conv{i}", w=gradients.dw, b=gradients.db)
        dx = gradients.dx
    return dx
