"""ResNet and ResNeXt: molded image -> C2, C3, C4, C5, as ``mrcnn_np/backbone.py``; a VGG is in ``vgg``."""

from __future__ import annotations

from ..backbone import Architecture, architecture, stages_on_the_image
from ..config import Config
from ..vgg import VGGS
from .graph import Graph, Tensor
from .layers import conv_bn
from .vgg import vgg


def backbone(g: Graph, images: Tensor, config: Config) -> list[Tensor]:
    """Add the stem and the stages: four for a pyramid, else three, or those of a VGG.

    Parameters
    ----------
    g : Graph
    images : str
        (N, H, W, 3), molded.
    config : Config

    Returns
    -------
    list of str
        ``[c2, c3, c4, c5]``, (N, C_l, H_l, W_l); without a pyramid as far as C4, of a VGG ``[conv5_3]``.
    """
    x = g.Transpose(images, perm=[0, 3, 1, 2])
    if config.backbone in VGGS:
        return [vgg(g, x, config)]
    arch = architecture(config)
    stem = ("backbone.stem.conv", "backbone.stem.bn")
    x = g.named(conv_bn(g, x, *stem, config, stride=2, padding=arch.stem_kernel // 2), "c1")
    if config.stem_pool_padding == "one":
        x = g.MaxPool(x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    else:  # what is odd goes to the bottom and right
        x = g.MaxPool(x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    features = []
    for number in stages_on_the_image(config):
        x = stage(g, x, number, config)
        features.append(x)
    return features


def stage(g: Graph, x: Tensor, number: int, config: Config, *, level: str = "") -> Tensor:
    """Add the blocks of one stage.

    Parameters
    ----------
    g : Graph
    x : str
        (N, C_in, H, W).
    number : int
        2 .. 5.
    config : Config
    level : str
        As in ``conv_bn``; on the image, where it is empty, blocks get the names of ``MaskRCNN.trace``.
    """
    arch = architecture(config)
    blocks = arch.blocks[number - 2]
    for i in range(blocks):
        name, stride = f"c{number}.{i}", 2 if i == 0 and number > 2 else 1
        x = residual_block(g, x, f"backbone.{name}", arch, config, stride=stride, level=level)
        if not level:
            x = g.named(x, f"c{number}" if i == blocks - 1 else name)
    return x


def residual_block(
    g: Graph, x: Tensor, name: str, arch: Architecture, config: Config, *, stride: int, level: str = ""
) -> Tensor:
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
    level : str
        As in ``conv_bn``.
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
        shortcut = conv_bn(g, x, *projection, config, stride=stride, activate=False, level=level)
    y = x
    for i, (s, p, groups) in enumerate(plan, start=1):
        residual = shortcut if i == len(plan) else None
        names = f"{name}.conv{i}", f"{name}.bn{i}"
        y = conv_bn(g, y, *names, config, stride=s, padding=p, groups=groups, residual=residual, level=level)
    return y
