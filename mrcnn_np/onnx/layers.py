"""Convolution, norm, ReLU, as ``mrcnn_np/layers.py``; maps are (N, C, H, W) here, as ONNX has them."""

from __future__ import annotations

import numpy as np

from ..config import Config
from .graph import Graph, Tensor

#: the axes of a weight (kh, kw, C_in, C_out) in the order of Conv and of ConvTranspose
CONV, TRANSPOSED = (3, 2, 0, 1), (2, 3, 0, 1)


def conv_bn(
    g: Graph,
    x: Tensor,
    conv: str,
    bn: str | None,
    config: Config,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    activate: bool = True,
    residual: Tensor | None = None,
    level: str = "",
) -> Tensor:
    """Add ``relu(bn(conv(x)) + residual)``, without what is not asked for.

    Parameters
    ----------
    g : Graph
    x : str
        (N, C_in, H, W).
    conv, bn : str
        Names of the layers; None for ``bn`` if no norm follows.
    config : Config
        Supplies ``norm``, ``norm_groups`` and ``bn_eps``.
    stride, padding, groups : int
    activate : bool
    residual : str, optional
        Added before the ReLU.
    level : str
        Put behind the names of the nodes, where a layer is used several times: ``".p2"``.
    """
    bias = [g.parameter(f"{conv}.b")] if f"{conv}.b" in g.params else []
    weight = g.parameter(f"{conv}.w", CONV)
    how = {"strides": [stride] * 2, "pads": [padding] * 4, "group": groups}
    y = g.Conv(x, weight, *bias, name=conv + level, **how)
    if bn is not None and config.norm != "batch":
        y = _norm_of_each(g, y, bn, config, level)
    elif bn is not None:
        statistics = [g.parameter(f"{bn}.{s}") for s in ("gamma", "beta", "mean", "var")]
        y = g.BatchNormalization(y, *statistics, name=bn + level, epsilon=config.bn_eps)
    if residual is not None:
        y = g.Add(y, residual)
    if activate:
        y = g.Relu(y)
    return str(y)


def _norm_of_each(g: Graph, y: Tensor, bn: str, config: Config, level: str) -> Tensor:
    """Add the norm of each map by itself: ONNX has instance norm, of which group norm is one of taller maps."""
    scale, shift = (g.parameter(f"{bn}.{s}") for s in ("gamma", "beta"))
    if config.norm == "instance":
        return str(g.InstanceNormalization(y, scale, shift, name=bn + level, epsilon=config.bn_eps))
    groups, channels = config.norm_groups, len(g.params[f"{bn}.gamma"])
    shape = g.Shape(y)
    count, height, width = (g.Slice(shape, np.array([i]), np.array([i + 1])) for i in (0, 2, 3))
    height = g.Mul(height, np.array([channels // groups]))
    # The channels of a group one below the other: (N, groups, H C / groups, W)
    taller = g.Reshape(y, g.Concat(count, np.array([groups]), height, width, axis=0))
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    normal = g.InstanceNormalization(taller, ones, zeros, epsilon=config.bn_eps)
    scale, shift = (g.Unsqueeze(vector, np.array([1, 2])) for vector in (scale, shift))
    return str(g.Add(g.Mul(g.Reshape(normal, shape), scale), shift, name=bn + level))


def to_nhwc(g: Graph, x: Tensor, name: str = "") -> Tensor:
    """Return (N, H, W, C), in which order the first matrix and the last axis count.

    Parameters
    ----------
    g : Graph
    x : str
        (N, C, H, W).
    name : str
        Of the result.
    """
    y: Tensor = g.Transpose(x, perm=[0, 2, 3, 1], name=name)
    return y
