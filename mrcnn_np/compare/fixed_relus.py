"""Random weights under which rounding flips no ReLU: each channel is always on or always off.

With ordinary weights, a few of the millions of pre-activations lie so close to 0 that rounding decides whether their
gradient passes. Two correct programs then differ in float32 by 1e-3 and more in some gradient tensors (each differs
from float64 by as much), and after some steps of training in everything. Here every channel is shifted by many of its
deviations, half of the channels up and half down. The losses are then a smooth function of the weights, and float32
gradients can be compared to their last digits. In float64 there is no need for it.
"""

from __future__ import annotations

import numpy as np

from ..backbone import backbone
from ..config import Config
from ..errors import ConfigError
from ..fpn import fpn
from ..heads import box_head, mask_head
from ..keypoints.head import keypoint_head
from ..layers import conv_bn
from ..model import MaskRCNN
from ..network import initialise
from ..ops.conv import conv2d, conv2d_transpose
from ..ops.linear import linear
from ..params import Params
from ..rpn import conv_names, rpn_head
from ..synthetic import spread_outputs

#: deviations; a channel of a small map strays by 6
FAR = 12.0


def params_with_fixed_relus(config: Config, images: np.ndarray, seed: int = 0) -> Params:
    """Return random float32 weights whose ReLUs are all far from their kinks on these images; outputs of heads vary.

    Parameters
    ----------
    config : Config
    images : ndarray of shape (N, H, W, 3)
        Molded.
    seed : int

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ConfigError
        The network has no pyramid.
    """
    if config.neck != "fpn":
        raise ConfigError(
            "neck is 'none'; weights whose ReLUs keep their side are made for a pyramid only, use float64"
        )
    rng = np.random.default_rng(seed)
    images = images.astype(np.float32)
    params = initialise(config, rng)
    for name, p in params.items():
        if name.endswith(".gamma"):
            p[...] = rng.uniform(0.5, 1.0, p.shape) / FAR
        elif name.endswith(".beta"):
            p[...] = rng.choice([-1, 1], p.shape)
    _fix_sums(params)
    measuring = config.replace(bn_mode="train", bn_momentum=1.0)
    backbone(images, params, measuring, training=True)
    stages, _ = backbone(images, params, config)
    if config.fpn_norm:
        fpn(stages, params, measuring, training=True)
    pyramid, _ = fpn(stages, params, config)
    hidden = pyramid
    for name in conv_names(config):
        outputs = [conv2d(x, params[f"{name}.w"], padding=1)[0].reshape(-1, config.rpn_channels) for x in hidden]
        _fix_relus(params, name, np.concatenate(outputs), rng)
        hidden = [conv_bn(x, params, name, None, config, padding=1)[0] for x in hidden]
    logits, deltas, *_ = rpn_head(pyramid, params, config)
    spread_outputs(params, "rpn.objectness", logits, 2.0)
    spread_outputs(params, "rpn.deltas", deltas, 0.3)

    model = MaskRCNN(config, params)
    corners = rng.uniform(0, 0.8, (64, 2))
    sides = np.array([*images.shape[1:3]] * 2)
    rois = np.concatenate([corners, corners + rng.uniform(0.05, 1, (64, 2)) * (1 - corners)], axis=1) * sides
    rois, index = rois.astype(np.float32), rng.integers(0, len(images), len(rois))
    features, _ = model.roi_features(pyramid, rois, index, config.box_pool_size, images.shape)
    _fix_box_head(params, features, config, measuring, rng)
    logits, deltas, *_ = box_head(features, params, config)
    spread_outputs(params, "box_head.class", logits, 2.0)
    spread_outputs(params, "box_head.deltas", deltas, 0.7)
    if config.mask_branch:
        features, _ = model.roi_features(pyramid, rois, index, config.mask_pool_size, images.shape)
        _fix_mask_head(params, features, config, measuring, rng)
        spread_outputs(params, "mask_head.logits", mask_head(features, params, config)[0], 2.0)
    if config.keypoints:
        features, _ = model.roi_features(pyramid, rois, index, config.keypoint_pool_size, images.shape)
        _fix_keypoint_head(params, features, config, rng)
        spread_outputs(params, "keypoint_head.deconv", keypoint_head(features, params, config)[0], 2.0)
    return params


def _fix_sums(params: Params) -> None:
    """Give all blocks of a stage the same channels on: then the sum at the end of each block is far from 0, too."""
    for stage in (2, 3, 4, 5):
        blocks = [name for name in params if name.startswith(f"backbone.c{stage}.") and name.endswith(".beta")]
        last = max(name.rpartition(".bn")[2] for name in blocks if ".bn" in name and ".shortcut." not in name)
        ends = [name for name in blocks if name.endswith(f".bn{last}") or ".shortcut." in name]
        projected = f"backbone.c{stage}.0.shortcut.bn.beta" in params  # else the stage adds to what the stem puts out
        signs = params[ends[0]] if projected else params["backbone.stem.bn.beta"]
        for name in ends:
            params[name][...] = signs


def _fix_relus(params: Params, layer: str, outputs: np.ndarray, rng: np.random.Generator) -> None:
    """Change a layer so that each channel of ``outputs`` (..., C), computed without bias, stays near 1 or near -1.

    Parameters
    ----------
    params : dict of str to ndarray
        Changed in place.
    layer : str
    outputs : ndarray
        Of the layer without its bias, the channels last.
    rng : numpy.random.Generator
        Draws which channels are on.
    """
    outputs = outputs.reshape(-1, outputs.shape[-1])
    weight, bias = params[f"{layer}.w"], params[f"{layer}.b"]
    scale = 1 / (FAR * outputs.std())
    weight *= scale
    bias[...] = rng.choice([-1, 1], bias.shape) - scale * outputs.mean(axis=0)


def _fix_box_head(
    params: Params, features: np.ndarray, config: Config, measuring: Config, rng: np.random.Generator
) -> None:
    """Fix every ReLU of the box head, layer by layer.

    Parameters
    ----------
    params : dict of str to ndarray
        Changed in place.
    features : ndarray
        What the head reads.
    config : Config
    measuring : Config
        The same, with batch norm moving its running statistics to those of one batch.
    rng : numpy.random.Generator
    """
    x = features
    if config.box_head != "fc":
        box_head(features, params, measuring, training=True)
    if config.box_head == "conv":
        return
    if config.box_head == "conv_fc":
        for i in range(1, config.box_head_convs + 1):
            x = conv_bn(x, params, f"box_head.conv{i}", f"box_head.bn{i}", config, padding=1)[0]
    x = x.reshape(len(x), -1)
    for layer in ("box_head.fc1", "box_head.fc2") if config.box_head == "fc" else ("box_head.fc1",):
        _fix_relus(params, layer, linear(x, params[f"{layer}.w"])[0], rng)
        x = np.maximum(linear(x, params[f"{layer}.w"], params[f"{layer}.b"])[0], 0)


def _fix_mask_head(
    params: Params, features: np.ndarray, config: Config, measuring: Config, rng: np.random.Generator
) -> None:
    """Fix every ReLU of the mask head, layer by layer.

    Parameters
    ----------
    params : dict of str to ndarray
        Changed in place.
    features : ndarray
        What the head reads.
    config : Config
    measuring : Config
        The same, with batch norm moving its running statistics to those of one batch.
    rng : numpy.random.Generator
    """
    x = features
    if config.mask_head_norm:
        mask_head(features, params, measuring, training=True)
    for i in range(1, config.mask_head_convs + 1):
        if config.mask_head_norm:
            x = conv_bn(x, params, f"mask_head.conv{i}", f"mask_head.bn{i}", config, padding=1)[0]
            continue
        weight, bias = params[f"mask_head.conv{i}.w"], params[f"mask_head.conv{i}.b"]
        _fix_relus(params, f"mask_head.conv{i}", conv2d(x, weight, padding=1)[0], rng)
        x = np.maximum(conv2d(x, weight, bias, padding=1)[0], 0)
    _fix_relus(params, "mask_head.deconv", conv2d_transpose(x, params["mask_head.deconv.w"])[0], rng)


def _fix_keypoint_head(params: Params, x: np.ndarray, config: Config, rng: np.random.Generator) -> None:
    """Fix every ReLU of the keypoint head, layer by layer; its transposed convolution has none.

    Parameters
    ----------
    params : dict of str to ndarray
        Changed in place.
    x : ndarray
        What the head reads.
    config : Config
    rng : numpy.random.Generator
    """
    for i in range(1, config.keypoint_head_convs + 1):
        layer = f"keypoint_head.conv{i}"
        _fix_relus(params, layer, conv2d(x, params[f"{layer}.w"], padding=1)[0], rng)
        x = np.maximum(conv2d(x, params[f"{layer}.w"], params[f"{layer}.b"], padding=1)[0], 0)
