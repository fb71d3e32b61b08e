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
from .direct import correlate_panels


def all_phases(
    x: np.ndarray, w: np.ndarray, shape: tuple[int, ...], step: int, shift: np.ndarray | None, floor: np.float32
) -> np.ndarray:
    """Compute an output of ``shape`` (N, H, W, C_out) as one product; stride and taps as the module says."""
    kh, kw, c_in, c_out = w.shape
    down, across = kh // step, kw // step  # taps of a phase
    y = memory.empty(shape)
    columns = w.reshape(down, step, across, step, c_in, c_out)[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    packed = direct_loops.pack(np.ascontiguousarray(columns).reshape(down, across * c_in, step * step * c_out))
    channels = np.arange(0, c_out, NR)
    phases = np.add.outer(np.arange(step) * shape[2], np.arange(step)).reshape(-1, 1) * c_out
    return correlate_panels(
        x, packed, across, (phases + channels).reshape(-1), np.tile(channels, step * step),
        (shape[1] // step, shape[2] // step), 1, down - 1, across - 1, y,
        (0, math.prod(shape[1:]), step * shape[2] * c_out, step * c_out), None, shift, None, floor,
    )  # fmt: skip
