"""Transposed convolution whose phases all have equally many taps: one product instead of one for each phase.

Outputs that lie ``stride`` apart are reached by the same taps, so each of the stride^2 *phases* of the output is a
convolution of x with its share of the taps (``direct.scatter``). Where all have equally many, as with 2x2 and stride 2,
they are one product, whose columns are phases and channels: x is read once, and the results are written where they
belong.
"""

from __future__ import annotations

import math

import numpy as np

from ..machine import memory
from ..machine.simd import NR
from . import direct_loops
from .direct import NO_FLOOR, correlate_panels
from .geometry import Geometry


def suits(sizes: Geometry) -> bool:
    """Tell whether all phases have equally many taps and fill whole panels; without padding."""
    kh, kw, channels, _ = sizes.weights
    return kh % sizes.stride == kw % sizes.stride == channels % NR == 0


def scatter(
    x: np.ndarray, w: np.ndarray, sizes: Geometry, *, shift: np.ndarray | None = None, floor: np.float32 = NO_FLOOR
) -> np.ndarray:
    """Return what ``direct.scatter`` does; ``sizes`` and ``w`` are those of the convolution that this transposes."""
    kh, kw, c_out, c_in = w.shape
    (_, rows, columns, _), step = sizes.maps, sizes.stride
    down, across = kh // step, kw // step  # taps of a phase
    y = memory.empty(sizes.maps)
    phases = w.swapaxes(2, 3).reshape(down, step, across, step, c_in, c_out)[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    packed = direct_loops.pack(np.ascontiguousarray(phases).reshape(down, across * c_in, step * step * c_out))
    channels = np.arange(0, c_out, NR)
    places = np.add.outer(np.arange(step) * columns, np.arange(step)).reshape(-1, 1) * c_out
    return correlate_panels(
        x, packed, across, (places + channels).reshape(-1), np.tile(channels, step * step),
        (rows // step, columns // step), 1, down - 1, across - 1, y,
        (0, math.prod(sizes.maps[1:]), step * columns * c_out, step * c_out), None, shift, None, floor,
    )  # fmt: skip
