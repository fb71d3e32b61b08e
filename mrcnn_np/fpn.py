"""Feature pyramid: C2..C5 -> P2..P6, all of one width, so that one head can read every level.

::

    c5 --1x1--> m5 ------------> 3x3 --> p5 --every 2nd--> p6
                 | x2
    c4 --1x1--> (+) m4 --------> 3x3 --> p4
                 | x2
    c3 --1x1--> (+) m3 --------> 3x3 --> p3
                 | x2
    c2 --1x1--> (+) m2 --------> 3x3 --> p2

The 1x1 *lateral* convolutions bring each level to the same width; nearest-neighbour upsampling carries meaning from
coarse to fine; the 3x3 *output* convolutions smooth what upsampling aliased. P6 only serves the proposal network, for
its largest anchors, and has no parameters.

References
----------
Lin et al., "Feature pyramid networks for object detection" (2017), section 3 and figure 3; P6: footnote of section 4.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .backbone import architecture
from .config import Config
from .layers import LayerCache, Observe, OpCache, conv_bn, conv_bn_backward, shown
from .ops.resize import upsample_nearest, upsample_nearest_backward
from .params import Params, Spec, conv_spec, norm_spec

LEVELS = (2, 3, 4, 5)


def fpn_spec(config: Config) -> dict[str, Spec]:
    """List the pyramid's tensors."""
    spec: dict[str, Spec] = {}
    channels, bias = config.fpn_channels, config.conv_bias or not config.fpn_norm
    layers = [(f"fpn.lateral{level}", 1, c_in) for level, c_in in zip(LEVELS, architecture(config).out_channels)]
    layers += [(f"fpn.output{level}", 3, channels) for level in LEVELS]
    for name, kernel, c_in in layers:
        # Without a ReLU behind it a layer keeps its variance with 1 / fan_in
        spec |= conv_spec(name, kernel, c_in, channels, bias=bias, std=(kernel * kernel * c_in) ** -0.5)
        if config.fpn_norm:
            spec |= norm_spec(f"{name}.bn", channels, config.norm)
    return spec


def _names(layer: str, level: int, config: Config) -> tuple[str, str | None]:
    """Return the names of a convolution and of the norm behind it, if there is one."""
    conv = f"fpn.{layer}{level}"
    return conv, f"{conv}.bn" if config.fpn_norm else None


class LevelCache(NamedTuple):
    """What one level of the pyramid leaves for the way back.

    Attributes
    ----------
    upsampling : tuple or None
        Of ``upsample_nearest``, of the level above; None for the coarsest.
    lateral, output : layer cache
        Of the two convolutions.
    """

    upsampling: OpCache | None
    lateral: LayerCache | None
    output: LayerCache | None


class FpnCache(NamedTuple):
    """What ``fpn_backward`` needs.

    Attributes
    ----------
    levels : list of LevelCache
        Of P2 .. P5.
    p5_shape : tuple of int
    """

    levels: list[LevelCache]
    p5_shape: tuple[int, ...]


def fpn(
    features: list[np.ndarray],
    params: Params,
    config: Config,
    *,
    training: bool = False,
    observe: Observe | None = None,
) -> tuple[list[np.ndarray], FpnCache | None]:
    """Build the pyramid.

    Parameters
    ----------
    features : list of ndarray
        ``[c2, c3, c4, c5]``, each (N, H_l, W_l, C_l), every map half the size of the one before.
    params : dict
    config : Config
        ``fpn_norm`` puts a norm behind every convolution, without ReLU.
    training : bool
        As in ``layers.conv_bn``.
    observe : callable, optional
        Sees ``p2`` .. ``p6``.

    Returns
    -------
    pyramid : list of ndarray
        ``[p2, p3, p4, p5, p6]``, each (N, H_l, W_l, fpn_channels).
    cache : FpnCache, or None in inference
    """
    pyramid: list[np.ndarray] = []
    levels: list[LevelCache] = []
    merged: np.ndarray | None = None
    for level, c in zip(reversed(LEVELS), reversed(features)):  # from coarse to fine
        above, up_cache = (None, None) if merged is None else upsample_nearest(merged, scale=2)
        conv, bn = _names("lateral", level, config)
        merged, lateral_cache = conv_bn(c, params, conv, bn, config, activate=False, residual=above, training=training)
        conv, bn = _names("output", level, config)
        p, output_cache = conv_bn(merged, params, conv, bn, config, padding=1, activate=False, training=training)
        pyramid.insert(0, p)
        if training:
            levels.insert(0, LevelCache(up_cache, lateral_cache, output_cache))
    p5 = pyramid[-1]
    pyramid.append(p5[:, ::2, ::2])
    pyramid = [shown(observe, f"p{level}", p) for level, p in enumerate(pyramid, start=2)]
    cache = FpnCache(levels, p5.shape) if training else None
    return pyramid, cache


def fpn_backward(
    dpyramid: list[np.ndarray], cache: FpnCache | None, grads: Params, *, frozen: int = 0
) -> list[np.ndarray | None]:
    """Return the gradients of ``[c2, c3, c4, c5]``; a merge hands its gradient to the lateral and to the level above.

    Parameters
    ----------
    dpyramid : list of ndarray
        Gradients of ``[p2, p3, p4, p5, p6]``.
    cache : FpnCache
    grads : dict
        Receives the parameter gradients.
    frozen : int
        Stages of the backbone up to this one need no gradient: theirs is None.
    """
    assert cache is not None, "no backward pass after inference"
    *dp, dp6 = dpyramid
    dp5 = np.zeros(cache.p5_shape, dp6.dtype, like=dp6)
    dp5[:, ::2, ::2] = dp6
    dp[-1] = dp[-1] + dp5

    dfeatures: list[np.ndarray | None] = []
    from_finer: np.ndarray | None = None  # what a merged map receives from the one below, which it was copied to
    for level, d, level_cache in zip(LEVELS, dp, cache.levels):
        dmerged, _ = conv_bn_backward(d, level_cache.output, grads, plus=from_finer)
        dc, dabove = conv_bn_backward(dmerged, level_cache.lateral, grads, need_dx=level > frozen)
        dfeatures.append(dc)
        if level_cache.upsampling is not None:
            from_finer = upsample_nearest_backward(dabove, level_cache.upsampling)
    return dfeatures
