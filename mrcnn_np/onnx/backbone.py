"""ResNet and ResNeXt: molded image -> C2, C3, C4, C5, as ``mrcnn_np/backbone.py``."""

from __future__ import annotations

from ..backbone import Architecture, architecture
from ..config import Config
from .graph import Graph, Tensor
from .layers import conv_bn


def backbone(g: Graph, images: Tensor, config: Config) -> list[Tensor]:
    """Add the stem and the four stages.

    Parameters
    ----------
    g : Graph
    images : str
        (N, H, W, 3), molded.
    config : Config

    Returns
    -------
    list of str
        ``[c2, c3, c4, c5]``, (N, C_l, H_l, W_l).
    """
    arch = architecture(config)
    x = g.Transpose(images, perm=[0, 3, 1, 2])
    stem = ("backbone.stem.conv", "backbone.stem.bn")
    x = g.named(conv_bn(g, x, *stem, config, stride=2, padding=arch.stem_kernel // 2), "c1")
    if config.stem_pool_padding == "one":
        x = g.MaxPool(x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    else:  # what is odd goes to the bottom and right
        x = g.MaxPool(x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    features = []
    for stage, blocks in zip((2, 3, 4, 5), arch.blocks):
        for i in range(blocks):
            stride = 2 if i == 0 and stage > 2 else 1
            x = residual_block(g, x, f"backbone.c{stage}.{i}", arch, config, stride=stride)
            x = g.named(x, f"c{stage}" if i == blocks - 1 else f"c{stage}.{i}")
        features.append(x)
    return features


def residual_block(g: Graph, x: Tensor, name: str, arch: Architecture, config: Config, *, stride: int) -> Tensor:
    """Add ``relu(F(x) + shortcut(x))``.

    Parameters
    ----------
    g : Graph
    x : str
        (N, C_in, H, W).
    name : str
        Of the block: ``"backbone.c3.0"``.
    arch : Architecture
    config : Config
        ``stride_in_1x1`` says which convolution of a bottleneck strides.
    stride : int
    """
    if arch.kind == "basic":
        plan = [(stride, 1, 1), (1, 1, 1)]  # (stride, padding, groups)
    elif config.stride_in_1x1:
        plan = [(stride, 0, 1), (1, 1, arch.groups), (1, 0, 1)]
    else:
        plan = [(1, 0, 1), (stride, 1, arch.groups), (1, 0, 1)]

    shortcut = x
    if f"{name}.shortcut.conv.w" in g.params:
        projection = (f"{name}.shortcut.conv", f"{name}.shortcut.bn")
        shortcut = conv_bn(g, x, *projection, config, stride=stride, activate=False)
    y = x
    for i, (s, p, groups) in enumerate(plan, start=1):
        residual = shortcut if i == len(plan) else None
        y = conv_bn(
            g, y, f"{name}.conv{i}", f"{name}.bn{i}", config, stride=s, padding=p, groups=groups, residual=residual
        )
    return y
