"""VGG: molded image -> conv5_3, as ``mrcnn_np/vgg.py``."""

from __future__ import annotations

from ..config import Config
from ..vgg import vgg_layers
from .graph import Graph, Tensor
from .layers import conv_bn


def vgg(g: Graph, x: Tensor, config: Config) -> Tensor:
    """Add the five stages, with a pool between each two.

    Parameters
    ----------
    g : Graph
    x : str
        (N, 3, H, W), molded.
    config : Config

    Returns
    -------
    str
        ``conv5_3``, (N, C, H/16, W/16).
    """
    for stage, layers in enumerate(vgg_layers(config), start=1):
        if stage > 1:
            x = g.MaxPool(x, kernel_shape=[2, 2], strides=[2, 2])
        for name, _, _ in layers:
            x = g.named(conv_bn(g, x, f"backbone.{name}", None, config, padding=1), name)
    return x
