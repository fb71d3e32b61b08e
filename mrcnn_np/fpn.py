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

import numpy as np

from .backbone import architecture
from .config import Config
from .conv_bn import Cache, accumulate
from .ops.fused import conv2d_fused, conv2d_fused_backward
from .ops.resize import upsample_nearest, upsample_nearest_backward
from .params import Params, Spec, conv_spec

LEVELS = (2, 3, 4, 5)
LAYERS = ("lateral", "output")


def fpn_spec(config: Config) -> dict[str, Spec]:
    """List the pyramid's tensors."""
    spec: dict[str, Spec] = {}
    for level, c_in in zip(LEVELS, architecture(config).out_channels):
        # Without a ReLU behind it a layer keeps its variance with 1 / fan_in
        spec |= conv_spec(f"fpn.lateral{level}", 1, c_in, config.fpn_channels, bias=True, std=c_in**-0.5)
    for level in LEVELS:
        std = (9 * config.fpn_channels) ** -0.5
        spec |= conv_spec(f"fpn.output{level}", 3, config.fpn_channels, config.fpn_channels, bias=True, std=std)
    return spec


def fpn(features: list[np.ndarray], params: Params, *, training: bool = False) -> tuple[list[np.ndarray], Cache]:
    """Build the pyramid.

    Parameters
    ----------
    features : list of ndarray
        ``[c2, c3, c4, c5]``, each (N, H_l, W_l, C_l), every map half the size of the one before.
    params : dict
    training : bool
        Keep what ``fpn_backward`` needs.

    Returns
    -------
    pyramid : list of ndarray
        ``[p2, p3, p4, p5, p6]``, each (N, H_l, W_l, fpn_channels).
    cache : tuple, or None in inference
        (for each level: upsampling, lateral and output cache), shape of p5
    """
    pyramid: list[np.ndarray] = []
    caches: list[Cache] = []
    merged: np.ndarray | None = None
    for level, c in zip(reversed(LEVELS), reversed(features)):  # from coarse to fine
        above, up_cache = (None, None) if merged is None else upsample_nearest(merged, scale=2)
        lateral, output = ((params[f"fpn.{name}{level}.w"], params[f"fpn.{name}{level}.b"]) for name in LAYERS)
        merged, lateral_cache = conv2d_fused(c, *lateral, residual=above)
        p, output_cache = conv2d_fused(merged, *output, padding=1)
        pyramid.insert(0, p)
        caches.insert(0, (up_cache, lateral_cache, output_cache) if training else None)
    p5 = pyramid[-1]
    return [*pyramid, p5[:, ::2, ::2]], (caches, p5.shape) if training else None


def fpn_backward(
    dpyramid: list[np.ndarray], cache: Cache, grads: Params, *, frozen: int = 0
) -> list[np.ndarray | None]:
    """Return the gradients of ``[c2, c3, c4, c5]``; a merge hands its gradient to the lateral and to the level above.

    Parameters
    ----------
    dpyramid : list of ndarray
        Gradients of ``[p2, p3, p4, p5, p6]``.
    cache : tuple
    grads : dict
        Receives the parameter gradients.
    frozen : int
        Stages of the backbone up to this one need no gradient: theirs is None.
    """
    assert cache is not None, "no backward pass after inference"
    caches, p5_shape = cache
    *dp, dp6 = dpyramid
    dp5 = np.zeros(p5_shape, dp6.dtype)
    dp5[:, ::2, ::2] = dp6
    dp[-1] = dp[-1] + dp5

    dfeatures: list[np.ndarray | None] = []
    from_finer: np.ndarray | None = None  # what a merged map receives from the one below, which it was copied to
    for level, d, (up_cache, lateral_cache, output_cache) in zip(LEVELS, dp, caches):
        output = conv2d_fused_backward(d, output_cache, plus=from_finer)
        accumulate(grads, f"fpn.output{level}", w=output.dw, b=output.db)
        lateral = conv2d_fused_backward(output.dx, lateral_cache, need_dx=level > frozen)
        accumulate(grads, f"fpn.lateral{level}", w=lateral.dw, b=lateral.db)
        dfeatures.append(lateral.dx)
        if up_cache is not None:
            from_finer = upsample_nearest_backward(lateral.dresidual, up_cache)
    return dfeatures
