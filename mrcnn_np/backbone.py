"""ResNet and ResNeXt: image -> C2, C3, C4, C5, features at 1/4, 1/8, 1/16 and 1/32 of its size.

Without a pyramid (``neck="none"``) the network reads C4 alone: C5 is left out, or runs on the RoIs as a part of the
heads (``box_head="c5"``, ``heads.c5_head``). A VGG, the backbone before, is in ``vgg.py``; ``backbone`` runs either.

A stage is a row of residual blocks, ``y = relu(F(x) + shortcut(x))``. The first block of a stage changes the number of
channels (and, from C3 on, halves the map), so its shortcut is a 1x1 convolution with a norm, a *projection*; the
others add ``x`` itself, an *identity*.

==========  ====================================================  =================
kind        F                                                     networks
==========  ====================================================  =================
basic       3x3, 3x3                                              ResNet-18, -34
bottleneck  1x1 down, 3x3 (grouped in ResNeXt), 1x1 up (x4)       ResNet-50 and up
==========  ====================================================  =================

References
----------
He et al., "Deep residual learning for image recognition" (2016), table 1 and figure 5; Xie et al., "Aggregated residual
transformations for deep neural networks" (2017), table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from .config import Config
from .errors import ConfigError, did_you_mean
from .layers import LayerCache, Observe, OpCache, conv_bn, conv_bn_backward, shown
from .ops.pool import max_pool2d, max_pool2d_backward
from .params import Params, Spec, conv_spec, norm_spec
from .training.freezing import frozen_stages
from .vgg import VGGS, VggCache, vgg, vgg_backward, vgg_spec


@dataclass(frozen=True)
class Architecture:
    """The row of the ResNet paper's table 1 that a name stands for."""

    kind: str  # "basic" or "bottleneck"
    blocks: tuple[int, int, int, int]  # blocks in C2, C3, C4, C5
    width: tuple[int, int, int, int] = (64, 128, 256, 512)  # channels of the inner 3x3
    stem: int = 64
    stem_kernel: int = 7
    groups: int = 1

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of C2 .. C5."""
        if self.kind == "basic":
            return self.width
        return (256, 512, 1024, 2048)


ARCHITECTURES = {
    "tiny": Architecture("basic", (2, 2, 2, 1), (24, 48, 64, 96), stem=16, stem_kernel=3),
    "small": Architecture("basic", (2, 2, 2, 2), (32, 64, 96, 128), stem=24, stem_kernel=3),
    "resnet18": Architecture("basic", (2, 2, 2, 2)),
    "resnet34": Architecture("basic", (3, 4, 6, 3)),
    "resnet50": Architecture("bottleneck", (3, 4, 6, 3)),
    "resnet101": Architecture("bottleneck", (3, 4, 23, 3)),
    "resnet152": Architecture("bottleneck", (3, 8, 36, 3)),
    # 32 groups of 4 (8) channels in C2: the inner width is 128 (256) and doubles from stage to stage
    "resnext50_32x4d": Architecture("bottleneck", (3, 4, 6, 3), (128, 256, 512, 1024), groups=32),
    "resnext101_32x8d": Architecture("bottleneck", (3, 4, 23, 3), (256, 512, 1024, 2048), groups=32),
}


def architecture(config: Config) -> Architecture:
    """Look up ``config.backbone``, a ResNet; another name is a ``ConfigError``."""
    if config.backbone not in ARCHITECTURES:
        meant = did_you_mean(config.backbone, ARCHITECTURES)
        raise ConfigError(f"backbone is {config.backbone!r}; expected one of {', '.join(ARCHITECTURES)}{meant}")
    return ARCHITECTURES[config.backbone]


def stages_on_the_image(config: Config) -> tuple[int, ...]:
    """Return which stages of a ResNet run on the image: all for a pyramid, else those up to C4."""
    return (2, 3, 4, 5) if config.neck == "fpn" else (2, 3, 4)


def map_channels(config: Config) -> int:
    """Return the channels of the maps that the proposal network and RoIAlign read."""
    if config.neck == "fpn":
        return config.fpn_channels
    return VGGS[config.backbone].width[-1] if config.backbone in VGGS else architecture(config).out_channels[2]


def backbone_spec(config: Config) -> dict[str, Spec]:
    """List the backbone's tensors, C5's among them also where it is the head."""
    if config.backbone in VGGS:
        return vgg_spec(config)
    arch, bias = architecture(config), config.conv_bias
    spec = conv_spec("backbone.stem.conv", arch.stem_kernel, 3, arch.stem, bias=bias)
    spec |= norm_spec("backbone.stem.bn", arch.stem, config.norm)
    c_in = arch.stem
    stages = (2, 3, 4, 5) if config.box_head == "c5" else stages_on_the_image(config)
    for stage, blocks, width, c_out in zip(stages, arch.blocks, arch.width, arch.out_channels):
        for i in range(blocks):
            name = f"backbone.c{stage}.{i}"
            for j, (kernel, a, b) in enumerate(_block_convs(arch, c_in, width, c_out), start=1):
                spec |= conv_spec(f"{name}.conv{j}", kernel, a, b, bias=bias)
                spec |= norm_spec(f"{name}.bn{j}", b, config.norm)
            # The first block projects, except where neither size nor channels change (C2 of ResNet-18 and -34)
            if i == 0 and (stage > 2 or c_in != c_out):
                spec |= conv_spec(f"{name}.shortcut.conv", 1, c_in, c_out, bias=bias)
                spec |= norm_spec(f"{name}.shortcut.bn", c_out, config.norm)
            c_in = c_out
    return spec


def _block_convs(arch: Architecture, c_in: int, width: int, c_out: int) -> list[tuple[int, int, int]]:
    """Return (kernel, weight's input channels, output channels) of each convolution of a block."""
    if arch.kind == "basic":
        return [(3, c_in, width), (3, width, c_out)]
    return [(1, c_in, width), (3, width // arch.groups, width), (1, width, c_out)]


# --- blocks ---------------------------------------------------------------------------------------------------------


class BlockCache(NamedTuple):
    """What ``residual_block_backward`` needs.

    Attributes
    ----------
    convs : list of layer caches
        Of the two or three convolutions.
    shortcut : layer cache, or None
        Of the projection; None for an identity.
    """

    convs: list[LayerCache | None]
    shortcut: LayerCache | None


def residual_block(
    x: np.ndarray,
    params: Params,
    name: str,
    arch: Architecture,
    config: Config,
    *,
    stride: int = 1,
    training: bool = False,
) -> tuple[np.ndarray, BlockCache | None]:
    """Compute ``relu(F(x) + shortcut(x))`` for a basic or a bottleneck block.

    Parameters
    ----------
    x : ndarray of shape (N, H, W, C_in)
    params : dict
        Those of ``name`` are used; a projection is made if ``{name}.shortcut.conv.w`` is among them.
    name : str
        For example ``"backbone.c3.0"``.
    arch : Architecture
        Gives the kind of block and the number of groups.
    config : Config
        ``stride_in_1x1`` says which convolution of a bottleneck strides.
    stride : int
        2 in the first block of C3, C4 and C5.
    training : bool
        As in ``layers.conv_bn``.

    Returns
    -------
    y : ndarray of shape (N, ceil(H / stride), ceil(W / stride), C_out)
    cache : BlockCache, or None in inference
    """
    if arch.kind == "basic":
        plan = [(stride, 1, 1), (1, 1, 1)]  # (stride, padding, groups)
    elif config.stride_in_1x1:
        plan = [(stride, 0, 1), (1, 1, arch.groups), (1, 0, 1)]
    else:
        plan = [(1, 0, 1), (stride, 1, arch.groups), (1, 0, 1)]

    shortcut = x
    shortcut_cache: LayerCache | None = None
    if f"{name}.shortcut.conv.w" in params:
        shortcut, shortcut_cache = conv_bn(
            x, params, f"{name}.shortcut.conv", f"{name}.shortcut.bn", config,
            stride=stride, activate=False, training=training,
        )  # fmt: skip

    y, conv_caches = x, []
    for i, (s, p, g) in enumerate(plan, start=1):
        y, conv_cache = conv_bn(
            y, params, f"{name}.conv{i}", f"{name}.bn{i}", config,
            stride=s, padding=p, groups=g, residual=shortcut if i == len(plan) else None, training=training,
        )  # fmt: skip
        conv_caches.append(conv_cache)
    cache = BlockCache(conv_caches, shortcut_cache) if training else None
    return y, cache


def residual_block_backward(dy: np.ndarray, cache: BlockCache | None, grads: Params) -> np.ndarray:
    """Walk back through a block: the sum's gradient goes down both branches, and the two results meet in ``plus``.

    Parameters
    ----------
    dy : ndarray of shape (N, H', W', C_out)
    cache : BlockCache
    grads : dict
        Receives the parameter gradients.

    Returns
    -------
    ndarray of shape (N, H, W, C_in)
        ``dx``.
    """
    assert cache is not None, "no backward pass after inference"
    first, *middle, last = cache.convs
    dbranch, dshortcut = conv_bn_backward(dy, last, grads)
    for conv_cache in reversed(middle):
        dbranch, _ = conv_bn_backward(dbranch, conv_cache, grads)
    if cache.shortcut is not None:
        dshortcut, _ = conv_bn_backward(dshortcut, cache.shortcut, grads)
    dx, _ = conv_bn_backward(dbranch, first, grads, plus=dshortcut)
    return dx


def stage(
    x: np.ndarray,
    number: int,
    params: Params,
    config: Config,
    *,
    training: bool = False,
    observe: Observe | None = None,
) -> tuple[np.ndarray, list[BlockCache | None]]:
    """Run the blocks of one stage, C2 .. C5, one after the other.

    Parameters
    ----------
    x : ndarray of shape (N, H, W, C_in)
        Images' maps, or for C5 as a head those of RoIs.
    number : int
        2 .. 5.
    params : dict
    config : Config
    training : bool
        As in ``layers.conv_bn``.
    observe : callable, optional
        Sees every block: ``c3.0``, ``c3.1`` ..., the last as ``c3``.

    Returns
    -------
    y : ndarray of shape (N, ceil(H / 2), ceil(W / 2), C_out)
        C2 keeps height and width.
    caches : list of BlockCache, or of None in inference
    """
    arch, caches = architecture(config), []
    blocks = arch.blocks[number - 2]
    for i in range(blocks):
        name = f"c{number}.{i}"
        stride = 2 if i == 0 and number > 2 else 1
        x, cache = residual_block(x, params, f"backbone.{name}", arch, config, stride=stride, training=training)
        x = shown(observe, f"c{number}" if i == blocks - 1 else name, x)
        caches.append(cache)
    return x, caches


def stage_backward(
    dx: np.ndarray,
    caches: list[BlockCache | None],
    grads: Params,
    *,
    consume: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Walk back through the blocks of a stage.

    Parameters
    ----------
    dx : ndarray of shape (N, H', W', C_out)
    caches : list of BlockCache
    grads : dict
        Receives the parameter gradients.
    consume : bool
        Take the caches out of the list one by one, so that their activations do not stay to the end.
    ready : callable
        Called after every block, when its gradients are in ``grads``.

    Returns
    -------
    ndarray of shape (N, H, W, C_in)
    """
    for i in reversed(range(len(caches))):
        dx = residual_block_backward(dx, caches.pop() if consume else caches[i], grads)
        ready()
    return dx


# --- the whole backbone ---------------------------------------------------------------------------------------------


class BackboneCache(NamedTuple):
    """What ``backbone_backward`` needs; None in place of what belongs to a frozen stage.

    Attributes
    ----------
    stem : layer cache, or None
    pool : tuple
        Of ``max_pool2d``.
    stages : list of (list of BlockCache, or None)
        Of C2 .. C5, or C2 .. C4 without a pyramid.
    """

    stem: LayerCache | None
    pool: OpCache
    stages: list[list[BlockCache | None] | None]


def backbone(
    images: np.ndarray, params: Params, config: Config, *, training: bool = False, observe: Observe | None = None
) -> tuple[list[np.ndarray], BackboneCache | VggCache | None]:
    """Run the stem and the stages: four for a pyramid, else three, or those of a VGG.

    Parameters
    ----------
    images : ndarray of shape (N, H, W, 3)
        Molded; H and W multiples of 32.
    params : dict
    config : Config
    training : bool
        As in ``layers.conv_bn``. Stages that are frozen from the stem on (``training.freezing.frozen_stages``) leave
        nothing for the backward pass.
    observe : callable, optional
        Sees ``molded`` (the images), ``c1`` and every block: ``c2.0``, ``c2.1`` ..., the last of a stage as ``c2``.
        Of a VGG every convolution.

    Returns
    -------
    features : list of ndarray
        ``[c2, c3, c4, c5]`` of shapes (N, H/4, W/4, .), (N, H/8, W/8, .), (N, H/16, W/16, .), (N, H/32, W/32, .).
        Without a pyramid as far as C4; of a VGG ``[conv5_3]``.
    cache : BackboneCache or VggCache, or None in inference

    Raises
    ------
    ValueError
        ``images`` has another shape, or holds whole numbers: pictures that were not molded.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype.kind != "f":
        raise ValueError(
            f"images have shape {images.shape} and type {images.dtype}; expected (N, H, W, 3) of floating point, as "
            "molding.mold_image makes them of pictures"
        )
    images = shown(observe, "molded", images)
    if config.backbone in VGGS:
        conv5_3, vgg_cache = vgg(images, params, config, training=training, observe=observe)
        return [conv5_3], vgg_cache
    arch = architecture(config)
    frozen = frozen_stages(params, config) if training else 0
    c1, stem_cache = conv_bn(
        images, params, "backbone.stem.conv", "backbone.stem.bn", config,
        stride=2, padding=arch.stem_kernel // 2, training=training and frozen < 1,
    )  # fmt: skip
    c1 = shown(observe, "c1", c1)
    padding = 1 if config.stem_pool_padding == "one" else _same_padding(c1.shape, kernel=3, stride=2)
    x, pool_cache = max_pool2d(c1, kernel_size=3, stride=2, padding=padding)

    features, stage_caches = [], []
    for number in stages_on_the_image(config):
        trained = training and frozen < number
        x, block_caches = stage(x, number, params, config, training=trained, observe=observe)
        features.append(x)
        stage_caches.append(block_caches if trained else None)
    cache = BackboneCache(stem_cache, pool_cache, stage_caches) if training else None
    return features, cache


def backbone_backward(
    dfeatures: Sequence[np.ndarray | None],
    cache: BackboneCache | VggCache | None,
    grads: Params,
    *,
    need_dx: bool = True,
    consume: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> np.ndarray | None:
    """Walk the stages backwards; each stage's output feeds both the pyramid and the next stage.

    Parameters
    ----------
    dfeatures : list of ndarray
        Gradients of ``[c2, c3, c4, c5]`` that come from the pyramid; those of frozen stages are not looked at. Without
        a pyramid there is one, of the last map.
    cache : BackboneCache or VggCache
    grads : dict
        Receives the parameter gradients.
    need_dx : bool
        Training does not need the gradient of the images, and most of the stem's backward pass is spent on it.
    consume : bool
        Take the caches of the blocks out of ``cache`` one by one, so that their activations do not stay to the end.
    ready : callable
        Called after every block, of a VGG after every convolution, when its gradients are in ``grads``.

    Returns
    -------
    ndarray of shape (N, H, W, 3), or None
        Gradient of the molded images; None if the first stages are frozen, where the way back ends.
    """
    assert cache is not None, "no backward pass after inference"
    dx: np.ndarray | None = None
    if isinstance(cache, VggCache):
        assert dfeatures[-1] is not None
        return vgg_backward(dfeatures[-1], cache, grads, need_dx=need_dx, consume=consume, ready=ready)
    for dfeature, blocks in zip_longest(reversed(dfeatures), reversed(cache.stages)):
        if blocks is None:
            return None
        if dx is None:
            dx = dfeature
        elif dfeature is not None:
            dx += dfeature
        assert dx is not None
        dx = stage_backward(dx, blocks, grads, consume=consume, ready=ready)
    if cache.stem is None:
        return None
    assert dx is not None
    dc1 = max_pool2d_backward(dx, cache.pool)
    return conv_bn_backward(dc1, cache.stem, grads, need_dx=need_dx)[0]


def _same_padding(shape: tuple[int, ...], *, kernel: int, stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return TensorFlow's SAME padding, ((top, bottom), (left, right)): what is odd goes to the bottom and right."""
    pads = []
    for side in shape[1:3]:
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads.append((total // 2, total - total // 2))
    return pads[0], pads[1]
