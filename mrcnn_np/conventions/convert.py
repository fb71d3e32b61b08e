"""The same function under another convention: parameters rewritten where nothing is lost.

Some conventions change the shapes of the parameters. Where one form can hold what the other computes, the numbers go
over exactly, up to rounding:

================================ ====================================================================================
field                            how
================================ ====================================================================================
``rpn_objectness``               softmax(a, b) says what sigmoid(b - a) says: (0, w) one way, b - a the other
``conv_bias``                    zeros are added; a bias before a norm moves into its mean: (x + b) - m = x - (m - b);
                                 instance norm takes it away by itself, before group norm only zeros can go
``box_head``, ``mask_head_norm`` a norm that changes nothing but, without ``conv_bias``, adds the bias is put in; a norm
and ``fpn_norm``                 with constant statistics is a scale and a shift, which go into the weights and the bias
                                 of the layer before it; group and instance norm depend on the map: no conversion
================================ ====================================================================================

A 7x7 convolution of a 7x7 map without padding is a fully connected layer: its weights only change their shape. The
3x3 convolutions of ``box_head="conv_fc"`` and a second one in the proposal network are layers that others lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..config import Config
from ..errors import CheckpointError
from ..network import check, spec
from ..params import Params


def changed(config: Config, params: Params, changes: Mapping[str, Any]) -> tuple[Config, Params]:
    """Return the configuration and the parameters of the same network under other conventions.

    Parameters
    ----------
    config : Config
    params : dict of str to ndarray
        Not changed.
    changes : mapping of str to value
        Fields of the configuration.

    Returns
    -------
    config : Config
    params : dict of str to ndarray
        The same arrays, but for those that ``convert`` has to rewrite: what moves one network in training moves the
        other.

    Raises
    ------
    ConfigError
        A name that is no field, or a value that the field cannot have.
    CheckpointError
        The change needs other weights: the message is a table of names and shapes.
    """
    new = config.replace(**changes)
    return new, convert(params, config, new)


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
        ``detect``, and in ``losses`` with ``bn_mode="frozen"``; other norms compute the same in both.

    Raises
    ------
    CheckpointError
        ``new`` needs other weights: the message is a table of names and shapes, or says which norm stands in the way.
    """
    params = dict(params)
    if old.rpn_objectness != new.rpn_objectness:
        _convert_objectness(params, new)
    if old.conv_bias and not new.conv_bias:
        _drop_biases(params, old)
    elif new.conv_bias and not old.conv_bias:
        _add_biases(params)
    if (old.box_head, new.box_head) == ("fc", "conv"):
        _box_head_to_conv(params, old.box_pool_size, new)
    elif (old.box_head, new.box_head) == ("conv", "fc"):
        _box_head_to_fc(params, old)
    changed: list[str] = []
    if old.mask_head_norm != new.mask_head_norm:
        changed += [f"mask_head.conv{i}" for i in range(1, old.mask_head_convs + 1)]
    if old.fpn_norm != new.fpn_norm:
        changed += [n.removesuffix(".w") for n in params if n.startswith("fpn.") and n.endswith(".w")]
    for conv in changed:
        if f"{_norm_of(conv)}.gamma" in params:
            _fold_norm(params, conv, old)
        else:
            _add_norm(params, conv, new)
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


def _drop_biases(params: Params, old: Config) -> None:
    for name in [n for n in params if n.endswith(".b")]:
        norm = _norm_of(name.removesuffix(".b"))
        if f"{norm}.gamma" not in params:
            continue
        bias = params.pop(name)
        if old.norm == "batch":
            params[f"{norm}.mean"] = params[f"{norm}.mean"] - bias
        elif old.norm == "group" and bias.any():  # the mean of a group takes away one number of all its channels
            raise CheckpointError(
                f"{name} cannot be left out:\n  {name} is not zero, and norm = 'group' keeps a bias; "
                "expected conv_bias = yes"
            )


def _add_biases(params: Params) -> None:
    for conv in [n.removesuffix(".w") for n in params if n.endswith(".w")]:
        gamma = params.get(f"{_norm_of(conv)}.gamma")
        if gamma is not None:
            params[f"{conv}.b"] = np.zeros_like(gamma)


def _require_batch(bn: str, config: Config) -> None:
    """Refuse to make a scale and a shift of another norm than a batch norm, or the other way round."""
    if config.norm != "batch":
        raise CheckpointError(
            f"{bn} cannot be put in or left out:\n  {bn} computes its statistics from each map (norm = "
            f"{config.norm!r}), so no weights take its place; expected norm = 'batch'"
        )


def _norm_of(conv: str) -> str:
    """Name the norm behind a layer: ``backbone.c3.0.bn2`` for ``.conv2``, but ``fpn.lateral2.bn`` in the pyramid."""
    head, _, last = conv.rpartition(".")
    return f"{conv}.bn" if head == "fpn" else f"{head}.{last.replace('conv', 'bn')}"


def _box_head_to_conv(params: Params, pool: int, new: Config) -> None:
    """Read two fully connected layers as convolutions, each with a norm behind it.

    Parameters
    ----------
    params : dict of str to ndarray
        Changed.
    pool : int
        Rows and columns that the first layer reads.
    new : Config
        Of the network to be.
    """
    for i, side in ((1, pool), (2, 1)):
        weight = params.pop(f"box_head.fc{i}.w")
        params[f"box_head.conv{i}.w"] = weight.reshape(side, side, -1, weight.shape[1])
        params[f"box_head.conv{i}.b"] = params.pop(f"box_head.fc{i}.b")
        _add_norm(params, f"box_head.conv{i}", new)


def _box_head_to_fc(params: Params, old: Config) -> None:
    for i in (1, 2):
        _fold_norm(params, f"box_head.conv{i}", old)
        weight = params.pop(f"box_head.conv{i}.w")
        params[f"box_head.fc{i}.w"] = weight.reshape(-1, weight.shape[3])
        params[f"box_head.fc{i}.b"] = params.pop(f"box_head.conv{i}.b")


def _add_norm(params: Params, conv: str, new: Config) -> None:
    """Add a batch norm that returns what it is given, x / sqrt(1 + eps) * sqrt(1 + eps), or adds the bias to it.

    Parameters
    ----------
    params : dict of str to ndarray
        Changed.
    conv : str
        Name of the layer before it.
    new : Config
        Of the network to be: its epsilon, and whether the layer keeps its bias.
    """
    bn, bias = _norm_of(conv), params[f"{conv}.b"]
    _require_batch(bn, new)
    params[f"{bn}.gamma"] = np.full_like(bias, np.sqrt(1.0 + new.bn_eps))
    params[f"{bn}.var"] = np.ones_like(bias)
    params[f"{bn}.beta"] = np.zeros_like(bias) if new.conv_bias else params.pop(f"{conv}.b")
    params[f"{bn}.mean"] = np.zeros_like(bias)


def _fold_norm(params: Params, conv: str, old: Config) -> None:
    """Move a batch norm into the convolution before it: s (w x + b - m) + beta with s = gamma / sqrt(var + eps).

    Parameters
    ----------
    params : dict of str to ndarray
        Changed.
    conv : str
        Name of the layer before it.
    old : Config
        Of the network as it was: its epsilon.
    """
    bn = _norm_of(conv)
    _require_batch(bn, old)
    gamma, beta, mean, var = (params.pop(f"{bn}.{part}") for part in ("gamma", "beta", "mean", "var"))
    scale = gamma / np.sqrt(var + var.dtype.type(old.bn_eps))
    params[f"{conv}.w"] = params[f"{conv}.w"] * scale
    params[f"{conv}.b"] = scale * (params.get(f"{conv}.b", 0) - mean) + beta
