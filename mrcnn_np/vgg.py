"""VGG: image -> conv5_3, features at 1/16 of its size; the backbone of Faster R-CNN before there were ResNets.

::

    conv1_1, conv1_2 -pool-> conv2_1, conv2_2 -pool-> conv3_1 .. 3_3 -pool-> conv4_1 .. 4_3 -pool-> conv5_1 .. 5_3
    1/1                      1/2                      1/4                    1/8                    1/16

Every layer is a 3x3 convolution with a bias and a ReLU: no norm, no shortcut. The 2x2 pools between the stages halve
the map. The classification network has a fifth pool and three fully connected layers behind; of these fc6 and fc7 are
the box head of Faster R-CNN (``box_head="fc"``), which reads 7 x 7 bins of each RoI in the place of that pool.

References
----------
Simonyan and Zisserman, "Very deep convolutional networks" (2015), table 1, column D; Ren et al., "Faster R-CNN" (2015),
section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .config import Config
from .layers import LayerCache, Observe, OpCache, conv_bn, conv_bn_backward, shown
from .ops.pool import max_pool2d, max_pool2d_backward
from .params import Params, Spec, conv_spec
from .training.freezing import frozen_stages


@dataclass(frozen=True)
class VggArchitecture:
    """The column of the VGG paper's table 1 that a name stands for: convolutions and channels of the five stages."""

    convs: tuple[int, int, int, int, int]
    width: tuple[int, int, int, int, int]


VGGS = {
    "tiny_vgg": VggArchitecture((1, 1, 2, 2, 3), (16, 24, 48, 64, 64)),
    "vgg16": VggArchitecture((2, 2, 3, 3, 3), (64, 128, 256, 512, 512)),
}


def vgg_layers(config: Config) -> list[list[tuple[str, int, int]]]:
    """List the layers stage by stage: name, channels in, channels out."""
    arch = VGGS[config.backbone]
    stages, c_in = [], 3
    for stage, (convs, c_out) in enumerate(zip(arch.convs, arch.width), start=1):
        inputs = [c_in] + [c_out] * (convs - 1)
        stages.append([(f"conv{stage}_{i}", c, c_out) for i, c in enumerate(inputs, start=1)])
        c_in = c_out
    return stages


def vgg_spec(config: Config) -> dict[str, Spec]:
    """List the backbone's tensors."""
    spec: dict[str, Spec] = {}
    for layers in vgg_layers(config):
        for name, c_in, c_out in layers:
            spec |= conv_spec(f"backbone.{name}", 3, c_in, c_out, bias=True)
    return spec


class VggCache(NamedTuple):
    """What ``vgg_backward`` needs; None in place of what belongs to a frozen stage.

    Attributes
    ----------
    stages : list of (list of layer caches, or None)
        Of the convolutions of each stage.
    pools : list of tuple
        Of the four pools between the stages.
    """

    stages: list[list[LayerCache | None] | None]
    pools: list[OpCache]


def vgg(
    images: np.ndarray, params: Params, config: Config, *, training: bool = False, observe: Observe | None = None
) -> tuple[np.ndarray, VggCache | None]:
    """Run the five stages.

    Parameters
    ----------
    images : ndarray of shape (N, H, W, 3)
        Molded; H and W multiples of 16.
    params : dict
    config : Config
    training : bool
        Keep what ``vgg_backward`` needs. Stages that are frozen from the first on (``training.freezing``) leave nothing
        for it: those of conv1 and conv2 in Faster R-CNN.
    observe : callable, optional
        Sees ``conv1_1`` .. ``conv5_3``, each after its ReLU.

    Returns
    -------
    conv5_3 : ndarray of shape (N, H/16, W/16, C)
    cache : VggCache, or None in inference
    """
    frozen = frozen_stages(params, config) if training else 0
    x, stages, pools = images, [], []
    for stage, layers in enumerate(vgg_layers(config), start=1):
        if stage > 1:
            x, pool_cache = max_pool2d(x, kernel_size=2, stride=2)
            pools.append(pool_cache)
        trained, caches = training and frozen < stage, []
        for name, _, _ in layers:
            x, conv_cache = conv_bn(x, params, f"backbone.{name}", None, config, padding=1, training=trained)
            x = shown(observe, name, x)
            caches.append(conv_cache)
        stages.append(caches if trained else None)
    return x, VggCache(stages, pools) if training else None


def vgg_backward(
    dx: np.ndarray,
    cache: VggCache | None,
    grads: Params,
    *,
    need_dx: bool = True,
    consume: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> np.ndarray | None:
    """Walk the stages backwards.

    Parameters
    ----------
    dx : ndarray of shape (N, H/16, W/16, C)
        Gradient of conv5_3.
    cache : VggCache
    grads : dict
        Receives the parameter gradients.
    need_dx : bool
        Training does not need the gradient of the images.
    consume : bool
        Take the caches of the layers out of ``cache`` one by one, so that their activations do not stay to the end.
    ready : callable
        Called after every convolution, when its gradients are in ``grads``.

    Returns
    -------
    ndarray of shape (N, H, W, 3), or None
        Gradient of the molded images; None if it is not needed, or if the first stages are frozen, where the way back
        ends.
    """
    assert cache is not None, "no backward pass after inference"
    for stage in reversed(range(len(cache.stages))):
        convs = cache.stages[stage]
        if convs is None:
            return None
        for i in reversed(range(len(convs))):
            conv_cache = convs.pop() if consume else convs[i]
            dx, _ = conv_bn_backward(dx, conv_cache, grads, need_dx=need_dx or stage > 0 or i > 0)
            ready()
        if stage > 0:
            dx = max_pool2d_backward(dx, cache.pools[stage - 1])
    return dx
