"""Feature pyramid: C2..C5 -> P2..P6, as ``mrcnn_np/fpn.py``."""

from __future__ import annotations

import numpy as np

from ..config import Config
from ..fpn import LEVELS
from .graph import Graph, Tensor
from .layers import conv_bn


def fpn(g: Graph, features: list[Tensor], config: Config) -> list[Tensor]:
    """Build the pyramid.

    Parameters
    ----------
    g : Graph
    features : list of str
        ``[c2, c3, c4, c5]``, (N, C_l, H_l, W_l).
    config : Config

    Returns
    -------
    list of str
        ``[p2, ..., p6]``, (N, fpn_channels, H_l, W_l).
    """
    pyramid: list[Tensor] = []
    merged: Tensor | None = None
    for level, c in zip(reversed(LEVELS), reversed(features)):  # from coarse to fine
        above = None if merged is None else _twice_as_large(g, merged)
        merged = conv_bn(g, c, *_names("lateral", level, config), config, activate=False, residual=above)
        p = conv_bn(g, merged, *_names("output", level, config), config, padding=1, activate=False)
        pyramid.insert(0, g.named(p, f"p{level}"))
    pyramid.append(g.Slice(pyramid[-1], [0, 0], [2**31 - 1] * 2, [2, 3], [2, 2], name="p6"))
    return pyramid


def _names(layer: str, level: int, config: Config) -> tuple[str, str | None]:
    """Return the names of a convolution and of the norm behind it, if there is one."""
    conv = f"fpn.{layer}{level}"
    return conv, f"{conv}.bn" if config.fpn_norm else None


def _twice_as_large(g: Graph, x: Tensor) -> Tensor:
    """Repeat every cell twice, down and across."""
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    scales = np.array([1, 1, 2, 2], np.float32)
    large: Tensor = g.Resize(x, "", scales, **how)
    return large
