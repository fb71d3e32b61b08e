"""Convolution, batch norm, ReLU, as ``mrcnn_np/layers.py``; maps are (N, C, H, W) here, as ONNX has them."""

from __future__ import annotations

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
        Supplies ``bn_eps``.
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
    if bn is not None:
        statistics = [g.parameter(f"{bn}.{s}") for s in ("gamma", "beta", "mean", "var")]
        y = g.BatchNormalization(y, *statistics, name=bn + level, epsilon=config.bn_eps)
    if residual is not None:
        y = g.Add(y, residual)
    if activate:
        y = g.Relu(y)
    return str(y)


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
