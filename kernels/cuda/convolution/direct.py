"""Convolutions of any size, by ``machine.product``: what stands here is where the kernels find windows and weights.

Weights come as *products*, (products, kh, kw, channels, outputs): one for a convolution without groups, and else as
``grouped`` makes them. The scatter (the gradient of the input, and the transposed convolution) is cut into phases:
outputs that lie a stride apart are reached by the same taps, so each of the down x across phases is a convolution with
its share of the taps, turned round.
"""

from __future__ import annotations

from typing import Any

from ..machine.device import aligned, empty
from ..machine.lines import cut_off, fill_up
from ..machine.product import Reading, Weights, Writing, correlate
from ..machine.turned_product import gather_sums
from .geometry import Geometry


def windows(sizes: Geometry, channels: int, line: int) -> Reading:
    """Return how the windows of a map are read: ``channels`` of a product, ``line`` of a pixel in memory."""
    (_, height, width, _), (_, rows, columns, _) = sizes.maps, sizes.out
    kh, kw = sizes.weights[:2]
    return Reading(
        sizes.pixels, max(1, rows * columns), max(1, columns), channels, kh * kw, kw, height, width, *sizes.stride,
        sizes.top, sizes.left, height * width * line, width * line, line, channels,
    )  # fmt: skip


def dense(shape: tuple[int, ...], columns: int) -> Writing:
    """Return how maps (N, H, W, C) are written, ``columns`` of a product."""
    _, height, width, line = shape
    return Writing(0, height * width * line, width * line, line, columns, columns, 0)


def extras(channels: int, scale: Any, shift: Any, residual: Any, *, activate: bool = False) -> dict[str, Any]:
    """Return what is done with results, filled up to so many channels."""
    given = {"scale": scale, "shift": shift, "residual": residual}
    filled = {name: None if array is None else fill_up(array, 4) for name, array in given.items()}
    assert all(array is None or array.shape[-1] == channels for array in filled.values())
    return {**filled, "activate": activate}


def _filled(x: Any, w: Any, turned: bool) -> tuple[Any, Any]:
    """Return maps and weights with channels in eights and outputs in fours; several products have them already."""
    if len(w) > 1:
        return aligned(x), aligned(w)
    return fill_up(x, 8), fill_up(w, 4, 8) if turned else fill_up(w, 8, 4)


def convolve(x: Any, w: Any, sizes: Geometry, *, turned: bool = False, **after: Any) -> Any:
    """Return the convolution; ``turned`` if the last two axes of the weights are (outputs, channels)."""
    x, w = _filled(x, w, turned)
    products, kh, kw, channels, columns = w.shape
    line, tap = columns, channels * columns
    if turned:
        channels, columns = columns, channels
    out = empty((*sizes.out[:3], columns * products))
    correlate(
        x, w, out, windows(sizes, channels, x.shape[3]), Weights(columns, 0, kw * tap, tap, line, kh * kw * tap),
        dense(out.shape, columns), turned=turned, products=products, **extras(out.shape[3], **after),
    )  # fmt: skip
    return cut_off(out, sizes.out[3])


def scatter(y: Any, w: Any, sizes: Geometry, *, turned: bool = True, **after: Any) -> Any:
    """Return the maps that a convolution's results ``y`` are spread to; ``turned`` as for ``convolve``.

    ``sizes`` are those of the convolution whose transpose this is.
    """
    y, w = _filled(y, w, turned)
    products, kh, kw, channels, columns = w.shape
    line, tap = columns, channels * columns
    if turned:
        channels, columns = columns, channels
    n, height, width, outputs = sizes.maps
    _, rows, across, pixel = y.shape
    out = empty((n, height, width, columns * products))
    wide = out.shape[3]
    after = extras(wide, **after)
    for a, top, first_i, taps_down in _phases(height, kh, sizes.stride[0], sizes.top):
        for b, left, first_j, taps_across in _phases(width, kw, sizes.stride[1], sizes.left):
            (sy, sx) = sizes.stride
            down, right = (height - a + sy - 1) // sy, (width - b + sx - 1) // sx
            reading = Reading(
                n * down * right, max(1, down * right), max(1, right), channels, taps_down * taps_across,
                max(1, taps_across), rows, across, 1, 1, top, left, rows * across * pixel, across * pixel, pixel,
                channels,
            )  # fmt: skip
            weights = Weights(columns, (first_i * kw + first_j) * tap, -sy * kw * tap, -sx * tap, line, kh * kw * tap)
            writing = Writing(
                (a * width + b) * wide, height * width * wide, sy * width * wide, sx * wide, columns, columns, 0
            )  # fmt: skip
            correlate(y, w, out, reading, weights, writing, turned=turned, products=products, **after)
    return cut_off(out, outputs)


def _phases(size: int, taps: int, step: int, before: int) -> list[tuple[int, int, int, int]]:
    """Return of each phase along one side: its first output, padding of y, the last of its taps, how many they are.

    Output ``h = a + step p`` is reached by taps ``i = i0 + step k`` from ``y[p + (a + before - i0) / step - k]``. The
    taps are taken from the last to the first, so that y is read forwards.
    """
    found = []
    for a in range(min(step, size)):
        i0 = (a + before) % step
        count = len(range(i0, taps, step))
        found.append((a, max(0, count) - 1 - (a + before - i0) // step, i0 + step * (count - 1), count))
    return found


def weight_gradient(x: Any, dy: Any, sizes: Geometry, products: int = 1) -> Any:
    """Return the gradients of weights, (products, kh, kw, channels, outputs)."""
    kh, kw = sizes.weights[:2]
    channels, columns = sizes.maps[3] // products, sizes.out[3] // products
    x, dy = (fill_up(x, 4), fill_up(dy, 4)) if products == 1 else (aligned(x), aligned(dy))
    wide, line = x.shape[3] // products, dy.shape[3] // products
    out = empty((products, kh, kw, wide, line))
    gather_sums(
        x, dy, out, windows(sizes, wide, x.shape[3]), line, dy.shape[3], line, products=products
    )  # fmt: skip
    return cut_off(out, columns)[:, :, :, :channels]
