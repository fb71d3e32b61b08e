"""Convolution of maps of at most four channels, as the first layer of a ResNet: a row of taps is one run of memory.

With the map's channels filled up to four and the padding written out, the pixels under a row of taps lie side by side:
7 taps of an image are 28 numbers in a row. So a row of taps becomes one tap of 32 channels (the last four meet weights
of zero), and the kernels read without gaps: 224 multiplications for a window of 7 x 7 x 3 = 147, where filling up each
tap to 8 channels would take 392.
"""

from __future__ import annotations

from typing import Any

from ..machine.device import contiguous, empty, zeros
from ..machine.lines import cut_off, fill_up, round_up
from ..machine.product import Reading, Weights, correlate
from ..machine.turned_product import gather_sums
from .direct import dense, extras
from .geometry import Geometry

MOST = 4  # channels


def suits(sizes: Geometry) -> bool:
    """Tell whether the rows of taps are short runs."""
    return sizes.groups == 1 and 1 <= sizes.maps[3] <= MOST and sizes.weights[1] > 1


def _runs(x: Any, sizes: Geometry) -> tuple[Any, Reading]:
    """Return the map with its padding, and how its windows are read."""
    (n, height, width, channels), (kh, kw, *_) = sizes.maps, sizes.weights
    (sy, sx), (_, rows, columns, _) = sizes.stride, sizes.out
    run = round_up(kw * MOST, 8)
    tall, wide = (rows - 1) * sy + kh, (columns - 1) * sx + run // MOST
    padded = zeros((n, tall, wide, MOST))
    bottom, right = max(0, min(height, tall - sizes.top)), max(0, min(width, wide - sizes.left))
    padded[:, sizes.top : sizes.top + bottom, sizes.left : sizes.left + right, :channels] = x[:, :bottom, :right]
    reading = Reading(
        pixels=sizes.pixels, area=rows * columns, across=columns, channels=run, taps=kh, taps_across=1,
        height=tall, width=wide, stride_y=sy, stride_x=sx, pad_top=0, pad_left=0,
        image_step=tall * wide * MOST, row_step=wide * MOST, pixel_step=MOST, group_step=0,
    )  # fmt: skip
    return padded, reading


def convolve(x: Any, w: Any, sizes: Geometry, **after: Any) -> Any:
    """Return the convolution."""
    padded, reading = _runs(x, sizes)
    kh, kw = sizes.weights[:2]
    w = fill_up(w, MOST, 4)
    w = fill_up(w.reshape(kh, kw * MOST, w.shape[3]), 8, 4)
    columns = w.shape[2]
    out = empty((*sizes.out[:3], columns))
    weights = Weights(
        columns=columns, first=0, tap_row_step=w.shape[1] * columns, tap_step=0, line_step=columns, group_step=0
    )  # fmt: skip
    correlate(padded, w, out, reading, weights, dense(out.shape, columns), **extras(columns, **after))
    return cut_off(out, sizes.out[3])


def weight_gradient(x: Any, dy: Any, sizes: Geometry) -> Any:
    """Return the gradient of the weights."""
    padded, reading = _runs(x, sizes)
    kh, kw, channels, outputs = sizes.weights
    dy = fill_up(dy, 4)
    columns = dy.shape[3]
    out = empty((kh, reading.channels, columns))
    gather_sums(padded, dy, out, reading, columns, columns, 0)
    taps = out[:, : kw * MOST].reshape(kh, kw, MOST, columns)
    return contiguous(taps[:, :, :channels, :outputs])
