"""Weights under which every ReLU has made up its mind: each channel is always on or always off.

At random weights, some of the millions of pre-activations lie so close to 0 that round-off decides whether their
gradient passes, and two correct float32 programs disagree by 1e-3 in a tensor or two. Here every batch norm shifts its
channels by many deviations, half of them up, half down (and every layer with a bias of its own does the same), so that
gradients are a smooth function and can be compared to the last digits.
"""

from __future__ import annotations

import numpy as np

from mrcnn_np import MaskRCNN
from mrcnn_np.backbone import backbone
from mrcnn_np.compare.lively import _spread, lively_params, picture
from mrcnn_np.conv_bn import conv_bn
from mrcnn_np.fpn import fpn
from mrcnn_np.heads import box_head, mask_head
from mrcnn_np.molding import mold_image
from mrcnn_np.ops.conv import conv2d, conv2d_transpose
from mrcnn_np.rpn import rpn_head

FAR = 12.0  # deviations; a normalised channel of a small image strays by 6


def decided_params(config, seed=0):
    """Random float32 parameters of the matterport preset, each ReLU decided on a picture much like those of a test."""
    rng = np.random.default_rng(seed)
    params = lively_params(config, seed)
    measuring = config.replace(bn_mode="train", bn_momentum=1.0)
    for name, p in params.items():
        if name.endswith(".gamma"):
            p[...] = rng.uniform(0.5, 1.0, p.shape)
        elif name.endswith(".beta"):
            p[...] = FAR * rng.choice([-1, 1], p.shape)
    # The sum at the end of a block is decided by what its channel is in the whole stage
    for stage in (2, 3, 4, 5):
        sign = np.sign(params[f"backbone.c{stage}.0.bn3.beta"])
        for name in [n for n in params if n.startswith(f"backbone.c{stage}.") and n.endswith("bn3.beta")]:
            params[name][...] = FAR * sign
        params[f"backbone.c{stage}.0.shortcut.bn.beta"][...] = FAR * sign
    size = config.image_max_size
    images = mold_image(picture((size, size)), config)[0][None]
    backbone(images, params, measuring, training=True)
    pyramid = fpn(backbone(images, params, config)[0], params)[0]
    hidden = np.concatenate(
        [conv2d(p, params["rpn.conv.w"], padding=1)[0].reshape(-1, config.rpn_channels) for p in pyramid]
    )
    decide(params["rpn.conv.b"], hidden, rng)

    outputs = rpn_head(pyramid, params, config)
    _spread(params, "rpn.objectness", outputs[0], 2.0)
    _spread(params, "rpn.deltas", outputs[1], 0.3)

    model = MaskRCNN(config, params)
    corners = rng.uniform(0, 0.6 * size, (40, 2))
    rois = np.concatenate([corners, corners + rng.uniform(5, 0.4 * size, (40, 2))], axis=1).astype(np.float32)
    index = np.zeros(len(rois), int)
    features, _ = model.roi_features(pyramid, rois, index, config.box_pool_size, images.shape)
    box_head(features, params, measuring, training=True)
    outputs = box_head(features, params, config)
    _spread(params, "box_head.class", outputs[0], 2.0)
    _spread(params, "box_head.deltas", outputs[1], 0.7)
    features, _ = model.roi_features(pyramid, rois, index, config.mask_pool_size, images.shape)
    mask_head(features, params, measuring, training=True)
    x = features
    for i in range(1, config.mask_head_convs + 1):
        x, _ = conv_bn(x, params, f"mask_head.conv{i}", f"mask_head.bn{i}", config, padding=1)
    hidden, _ = conv2d_transpose(x, params["mask_head.deconv.w"])
    decide(params["mask_head.deconv.b"], hidden.reshape(-1, hidden.shape[-1]), rng)
    _spread(params, "mask_head.logits", mask_head(features, params, config)[0], 2.0)
    return params


def decide(bias, outputs, rng):
    """Set a bias so that each channel of ``outputs`` (rows, C), computed without it, is far above or below 0."""
    signs = rng.choice([-1, 1], bias.shape)
    bias[...] = signs * FAR * outputs.std(axis=0) - outputs.mean(axis=0)
