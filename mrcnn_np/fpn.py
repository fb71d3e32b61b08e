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
from .ops.conv import conv2d, conv2d_backward
from .ops.fused import conv2d_fused
from .ops.resize import upsample_nearest, upsample_nearest_backward
from .params import Params, Spec, conv_spec

LEVELS = (2, 3, 4, 5)


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
        (lateral caches, upsampling caches, output caches, shape of p5)
    """
    if not training:
        return _fpn_inference(features, params), None
    laterals, lateral_caches = [], []
    for level, c in zip(LEVELS, features):
        m, cache = conv2d(c, params[f"fpn.lateral{level}.w"], params[f"fpn.lateral{level}.b"])
        laterals.append(m)
        lateral_caches.append(cache)

    upsample_caches = []
    for i in (2, 1, 0):  # m4, m3, m2: from coarse to fine
        up, cache = upsample_nearest(laterals[i + 1], scale=2)
        laterals[i] = laterals[i] + up
        upsample_caches.append(cache)

    pyramid, output_caches = [], []
    for level, m in zip(LEVELS, laterals):
        p, cache = conv2d(m, params[f"fpn.output{level}.w"], params[f"fpn.output{level}.b"], padding=1)
        pyramid.append(p)
        output_caches.append(cache)
    p5 = pyramid[-1]
    pyramid.append(p5[:, ::2, ::2])
    return pyramid, (lateral_caches, upsample_caches, output_caches, p5.shape)


def _fpn_inference(features: list[np.ndarray], params: Params) -> list[np.ndarray]:
    """Do the same from coarse to fine, the merge being part of the lateral convolution."""
    pyramid: list[np.ndarray] = []
    merged: np.ndarray | None = None
    for level, c in zip(reversed(LEVELS), reversed(features)):
        above = None if merged is None else upsample_nearest(merged, scale=2)[0]
        merged = conv2d_fused(c, params[f"fpn.lateral{level}.w"], params[f"fpn.lateral{level}.b"], residual=above)
        p = conv2d_fused(merged, params[f"fpn.output{level}.w"], params[f"fpn.output{level}.b"], padding=1)
        pyramid.insert(0, p)
    return [*pyramid, pyramid[-1][:, ::2, ::2]]


def fpn_backward(dpyramid: list[np.ndarray], cache: Cache, grads: Params) -> list[np.ndarray]:
    """Return the gradients of ``[c2, c3, c4, c5]``; a merge hands its gradient to the lateral and to the level above.

    Parameters
    ----------
    dpyramid : list of ndarray
        Gradients of ``[p2, p3, p4, p5, p6]``.
    cache : tuple
    grads : dict
        Receives the parameter gradients.
    """
    assert cache is not None, "no backward pass after inference"
    lateral_caches, upsample_caches, output_caches, p5_shape = cache
    *dp, dp6 = dpyramid
    dp5 = np.zeros(p5_shape, dp6.dtype)
    dp5[:, ::2, ::2] = dp6
    dp[-1] = dp[-1] + dp5

    dlaterals = []
    for level, d, output_cache in zip(LEVELS, dp, output_caches):
        dm, dw, db = conv2d_backward(d, output_cache)
        accumulate(grads, f"fpn.output{level}", w=dw, b=db)
        dlaterals.append(dm)

    for i, upsample_cache in zip((0, 1, 2), reversed(upsample_caches)):  # m2, m3, m4: the way down, walked back up
        dlaterals[i + 1] = dlaterals[i + 1] + upsample_nearest_backward(dlaterals[i], upsample_cache)

    dfeatures = []
    for level, dm, lateral_cache in zip(LEVELS, dlaterals, lateral_caches):
        dc, dw, db = conv2d_backward(dm, lateral_cache)
        accumulate(grads, f"fpn.lateral{level}", w=dw, b=db)
        dfeatures.append(dc)
    return dfeatures
