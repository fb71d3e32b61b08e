"""The tensors of matterport's Keras Mask R-CNN under our names and in our layout, and back.

Keras keeps what we keep: convolutions (kh, kw, C_in, C_out), fully connected layers (C_in, C_out), deltas (dy, dx, log
dh, log dw), the background as class 0, and for the proposal network (background, object) of one anchor after the other.
Only the transposed convolution's kernel differs, (kh, kw, C_out, C_in).

The backbones that Keras publishes for ImageNet come with two sets of names: ``res2a_branch2a`` (2015 .. 2018, which
matterport took over) and ``conv2_block1_1_conv`` (keras-applications 1.0.8 and later). Both are read.

The files are in ``formats/keras_h5.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backbone import ARCHITECTURES
from ..config import presets
from ..params import Params
from .architecture import lengths
from .manifest import PRESUMED, Manifest

SUFFIXES = {
    "w": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
}
#: Keras 1 called them so; its "running_std" holds the variance
KERAS1_SUFFIXES = {
    "W": "kernel", "b": "bias", "gamma": "gamma", "beta": "beta", "running_mean": "moving_mean",
    "running_std": "moving_variance",
}  # fmt: skip
#: layers outside the backbone
LAYERS = {
    **{f"fpn.lateral{level}": f"fpn_c{level}p{level}" for level in (5, 4, 3, 2)},
    **{f"fpn.output{level}": f"fpn_p{level}" for level in (5, 4, 3, 2)},
    "rpn.conv": "rpn_conv_shared",
    "rpn.objectness": "rpn_class_raw",
    "rpn.deltas": "rpn_bbox_pred",
    **{f"box_head.{kind}{i}": f"mrcnn_class_{kind}{i}" for i in (1, 2) for kind in ("conv", "bn")},
    "box_head.class": "mrcnn_class_logits",
    "box_head.deltas": "mrcnn_bbox_fc",
    **{f"mask_head.{kind}{i}": f"mrcnn_mask_{kind}{i}" for i in range(1, 10) for kind in ("conv", "bn")},
    "mask_head.deconv": "mrcnn_mask_deconv",
    "mask_head.logits": "mrcnn_mask",
}
OURS = {theirs: ours for ours, theirs in LAYERS.items()} | {
    "conv1": "backbone.stem.conv",
    "bn_conv1": "backbone.stem.bn",
    "conv1_conv": "backbone.stem.conv",
    "conv1_bn": "backbone.stem.bn",
}


def layer_name(ours: str) -> str:
    """Return matterport's name of one of our layers: ``backbone.c4.22.conv3`` is ``res4w_branch2c``."""
    if ours in LAYERS:
        return LAYERS[ours]
    if ours.startswith("backbone.stem."):
        return "conv1" if ours.endswith("conv") else "bn_conv1"
    match = re.fullmatch(r"backbone\.c(\d)\.(\d+)\.(shortcut\.)?(conv|bn)(\d?)", ours)
    if match is None:
        raise ValueError(f"matterport's Mask R-CNN has no layer {ours!r}")
    stage, block, shortcut, kind, index = match.groups()
    branch = "branch1" if shortcut else f"branch2{'abc'[int(index) - 1]}"
    return f"{'res' if kind == 'conv' else 'bn'}{stage}{chr(ord('a') + int(block))}_{branch}"


def our_layer(theirs: str) -> str | None:
    """Return our name of one of Keras's layers, None if we have no such layer."""
    if theirs in OURS:
        return OURS[theirs]
    match = re.fullmatch(r"(res|bn)(\d)([a-z])_branch(1|2[abc])", theirs)
    if match is not None:
        kind, stage, letter, branch = match.groups()
        kind = "conv" if kind == "res" else "bn"
        block = f"backbone.c{stage}.{ord(letter) - ord('a')}"
        return f"{block}.shortcut.{kind}" if branch == "1" else f"{block}.{kind}{'abc'.index(branch[1]) + 1}"
    match = re.fullmatch(r"conv(\d)_block(\d+)_([0-3])_(conv|bn)", theirs)
    if match is not None:
        stage, number, index, kind = match.groups()
        block = f"backbone.c{stage}.{int(number) - 1}"
        return f"{block}.shortcut.{kind}" if index == "0" else f"{block}.{kind}{index}"
    return None


def to_matterport(params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert our parameters, or gradients with their names.

    Parameters
    ----------
    params : mapping of str to ndarray
        Ours, of ``presets.matterport()``; any subset will do.

    Returns
    -------
    dict of str to ndarray
        Copies, by ``layer/weight``: ``"res2a_branch2a/kernel"``.

    Raises
    ------
    ValueError
        The network has a layer that matterport's has not.
    """
    weights = {}
    for name, p in params.items():
        layer, _, suffix = name.rpartition(".")
        theirs = f"{layer_name(layer)}/{SUFFIXES[suffix]}"
        weights[theirs] = np.ascontiguousarray(_swapped(name, p)).copy()
    return weights


def from_matterport(weights: Mapping[str, np.ndarray]) -> Params:
    """Convert back what ``to_matterport`` returns; a layer that we do not have keeps its name."""
    params: Params = {}
    for theirs, w in weights.items():
        name = our_name(theirs)
        params[name] = np.ascontiguousarray(_swapped(name, w)).copy()
    return params


def our_name(theirs: str) -> str:
    """Return our name of ``layer/weight``, or that name itself if we have no such tensor."""
    layer, _, weight = theirs.rpartition("/")
    ours = our_layer(layer)
    suffix = next((s for s, w in SUFFIXES.items() if w == weight), None)
    return theirs if ours is None or suffix is None else f"{ours}.{suffix}"


def our_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one of Keras's tensors after conversion."""
    return (*shape[:2], shape[3], shape[2]) if name == "mask_head.deconv.w" and len(shape) == 4 else shape


def _swapped(name: str, a: np.ndarray) -> np.ndarray:
    """Exchange the channels of the transposed convolution, in either direction."""
    return a.transpose(0, 1, 3, 2) if name == "mask_head.deconv.w" and a.ndim == 4 else a


def infer(shapes: Mapping[str, tuple[int, ...]], *, named: str) -> Manifest | None:
    """Tell from the tensors what network they belong to.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        By our names.
    named : str
        The file's name of the first convolution: it tells the two publications of the ImageNet backbone apart.

    Returns
    -------
    Manifest or None
        None if there is not even a backbone.
    """
    blocks = len({name.split(".")[2] for name in shapes if name.startswith("backbone.c4.")})
    names = [n for n, a in ARCHITECTURES.items() if a.kind == "bottleneck" and a.groups == 1 and a.blocks[2] == blocks]
    if not names:
        return None
    if not any(name.startswith(("rpn.", "box_head.", "mask_head.")) for name in shapes):
        return _imagenet(names[0], eps=1e-3 if named == "conv1" else 1.001e-5)
    config = presets.matterport(backbone=names[0]).replace(**lengths(shapes))
    return Manifest.from_config(config, source="matterport", presumed=PRESUMED)


def _imagenet(backbone: str, *, eps: float) -> Manifest:
    """Return the conventions of Keras's ImageNet backbones, which were converted from Caffe: BGR minus the mean."""
    config = presets.matterport(
        backbone=backbone, channel_order="bgr", pixel_mean=(103.939, 116.779, 123.68), bn_eps=eps
    )
    return Manifest.from_config(config, source="keras-applications", backbone_only=True, presumed=PRESUMED)


def by_layer(weights: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Group ``layer/weight`` by layer, in order."""
    layers: dict[str, dict[str, Any]] = {}
    for name, w in weights.items():
        layer, _, weight = name.rpartition("/")
        layers.setdefault(layer, {})[weight] = w
    return layers
