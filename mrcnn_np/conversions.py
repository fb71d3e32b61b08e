"""The same function under another convention: parameters rewritten where nothing is lost.

Some conventions change the shapes of the parameters. Where one form can hold what the other computes, the numbers go
over exactly, up to rounding:

================================ ====================================================================================
field                            how
================================ ====================================================================================
``rpn_objectness``               softmax(a, b) says what sigmoid(b - a) says: (0, w) one way, b - a the other
``conv_bias``                    zeros are added; a bias before a norm moves into its mean: (x + b) - m = x - (m - b)
``box_head``, ``mask_head_norm`` a norm that changes nothing is added; a norm with constant statistics is a scale and
                                 a shift, which go into the weights and the bias of the layer before it
================================ ====================================================================================

A 7x7 convolution of a 7x7 map without padding is a fully connected layer: its weights only change their shape.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .config import Config
from .params import Params, check, spec


def convert(params: Params, old: Config, new: Config) -> Params:
    """Rewrite parameters of ``old`` so that the network of ``new`` finds what that of ``old`` did.

    Parameters
    ----------
    params : dict of str to ndarray
        Not changed; tensors that stay as they are are shared with the result.
    old, new : Config

    Returns
    -------
    dict of str to ndarray
        The names and shapes of ``spec(new)``. Equal in effect as long as batch norm uses its running statistics: in
        ``detect``, and in ``losses`` with ``bn_mode="frozen"``.

    Raises
    ------
    CheckpointError
        ``new`` needs other weights: the message is a table of names and shapes.
    """
    params = dict(params)
    if old.rpn_objectness != new.rpn_objectness:
        _convert_objectness(params, new)
    if old.conv_bias and not new.conv_bias:
        _drop_biases(params)
    elif new.conv_bias and not old.conv_bias:
        _add_biases(params, spec(new))
    if old.box_head != new.box_head:
        if new.box_head == "conv":
            _box_head_to_conv(params, old.box_pool_size, new.bn_eps)
        else:
            _box_head_to_fc(params, old.bn_eps)
    if old.mask_head_norm != new.mask_head_norm:
        for i in range(1, old.mask_head_convs + 1):
            if new.mask_head_norm:
                _add_norm(params, f"mask_head.conv{i}", f"mask_head.bn{i}", new.bn_eps)
            else:
                _fold_norm(params, f"mask_head.conv{i}", f"mask_head.bn{i}", old.bn_eps)
    check(params, new)
    return {name: params[name] for name in spec(new)}


def _convert_objectness(params: Params, new: Config) -> None:
    """Turn one logit per anchor into (background, object) or back; the last axis holds one anchor after the other."""
    for suffix in ("w", "b"):
        old = params[f"rpn.objectness.{suffix}"]
        if new.rpn_objectness == "softmax":
            pairs = np.stack([np.zeros_like(old), old], axis=-1)
            params[f"rpn.objectness.{suffix}"] = pairs.reshape(*old.shape[:-1], -1)
        else:
            pairs = old.reshape(*old.shape[:-1], -1, 2)
            params[f"rpn.objectness.{suffix}"] = pairs[..., 1] - pairs[..., 0]


def _drop_biases(params: Params) -> None:
    for name in [n for n in params if n.startswith("backbone.") and n.endswith(".b")]:
        norm = _norm_of(name.removesuffix(".b"))
        params[f"{norm}.mean"] = params[f"{norm}.mean"] - params.pop(name)


def _add_biases(params: Params, wanted: Iterable[str]) -> None:
    for name in wanted:
        if name.startswith("backbone.") and name.endswith(".b") and name not in params:
            params[name] = np.zeros_like(params[f"{_norm_of(name.removesuffix('.b'))}.mean"])


def _norm_of(conv: str) -> str:
    """``backbone.c3.0.conv2`` is followed by ``backbone.c3.0.bn2``."""
    head, _, last = conv.rpartition(".")
    return f"{head}.{last.replace('conv', 'bn')}"


def _box_head_to_conv(params: Params, pool: int, eps: float) -> None:
    for i, side in ((1, pool), (2, 1)):
        weight = params.pop(f"box_head.fc{i}.w")
        params[f"box_head.conv{i}.w"] = weight.reshape(side, side, -1, weight.shape[1])
        params[f"box_head.conv{i}.b"] = params.pop(f"box_head.fc{i}.b")
        _add_norm(params, f"box_head.conv{i}", f"box_head.bn{i}", eps)


def _box_head_to_fc(params: Params, eps: float) -> None:
    for i in (1, 2):
        _fold_norm(params, f"box_head.conv{i}", f"box_head.bn{i}", eps)
        weight = params.pop(f"box_head.conv{i}.w")
        params[f"box_head.fc{i}.w"] = weight.reshape(-1, weight.shape[3])
        params[f"box_head.fc{i}.b"] = params.pop(f"box_head.conv{i}.b")


def _add_norm(params: Params, conv: str, bn: str, eps: float) -> None:
    """Add a batch norm that returns what it is given: (x - 0) / sqrt(1 + eps) * sqrt(1 + eps) + 0."""
    bias = params[f"{conv}.b"]
    params[f"{bn}.gamma"] = np.full_like(bias, np.sqrt(1.0 + eps))
    params[f"{bn}.var"] = np.ones_like(bias)
    params[f"{bn}.beta"], params[f"{bn}.mean"] = np.zeros_like(bias), np.zeros_like(bias)


def _fold_norm(params: Params, conv: str, bn: str, eps: float) -> None:
    """Move a batch norm into the convolution before it: s (w x + b - m) + beta with s = gamma / sqrt(var + eps)."""
    gamma, beta, mean, var = (params.pop(f"{bn}.{part}") for part in ("gamma", "beta", "mean", "var"))
    scale = gamma / np.sqrt(var + var.dtype.type(eps))
    params[f"{conv}.w"] = params[f"{conv}.w"] * scale
    params[f"{conv}.b"] = scale * (params[f"{conv}.b"] - mean) + beta
