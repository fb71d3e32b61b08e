"""Convolutions of any size, by ``machine.product``: what stands here is where the kernels find windows and weights.

Weights come as *products*, (products, kh, kw, channels, outputs): one for a convolution without groups, and else as
``grouped`` makes them. The scatter (the gradient of the input, and the transposed convolution) is cut into phases:
outputs that lie a stride apart are reached by the same taps, so each of the down x across phases is a convolution with
its share of the taps, the last of them first.
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
        pixels=sizes.pixels, area=max(1, rows * columns), across=max(1, columns), channels=channels,
        taps=kh * kw, taps_across=kw, height=height, width=width,
        stride_y=sizes.stride[0], stride_x=sizes.stride[1], pad_top=sizes.top, pad_left=sizes.left,
        image_step=height * width * line, row_step=width * line, pixel_step=line, group_step=channels,
    )  # fmt: skip


def dense(shape: tuple[int, ...], columns: int) -> Writing:
    """Return how maps (N, H, W, C) are written, ``columns`` of a product."""
    _, height, width, line = shape
    return Writing(
        first=0, image_step=height * width * line, row_step=width * line, pixel_step=line, group_step=columns,
        scale_step=columns, part_step=0,
    )  # fmt: skip


def extras(channels: int, scale: Any, shift: Any, residual: Any, *, activate: bool = False) -> dict[str, Any]:
    """Return what is done with results, filled up to so many channels."""
    given = {"scale": scale, "shift": shift, "residual": residual}
    filled = {name: None if array is None else fill_up(array, 4) for name, array in given.items()}
    assert all(array is None or array.shape[-1] == channels for array in filled.values())
    return {**filled, "activate": activate}


def _filled(x: Any, w: Any, transposed: bool) -> tuple[Any, Any]:
    """Return maps and weights with channels in eights and outputs in fours; several products have them already."""
    if len(w) > 1:
        return aligned(x), aligned(w)
    return fill_up(x, 8), fill_up(w, 4, 8) if transposed else fill_up(w, 8, 4)


def convolve(x: Any, w: Any, sizes: Geometry, *, transposed: bool = False, **after: Any) -> Any:
    """Return the convolution; ``transposed`` if the last two axes of the weights are (outputs, channels)."""
    x, w = _filled(x, w, transposed)
    products, kh, kw, channels, columns = w.shape
    line, tap = columns, channels * columns
    if transposed:
        channels, columns = columns, channels
    out = empty((*sizes.out[:3], columns * products))
    weights = Weights(
        columns=columns, first=0, tap_row_step=kw * tap, tap_step=tap, line_step=line, group_step=kh * kw * tap
    )  # fmt: skip
    correlate(
        x, w, out, windows(sizes, channels, x.shape[3]), weights, dense(out.shape, columns),
        transposed=transposed, products=products, **extras(out.shape[3], **after),
    )  # fmt: skip
    return cut_off(out, sizes.out[3])


def scatter(y: Any, w: Any, sizes: Geometry, *, transposed: bool = True, **after: Any) -> Any:
    """Return the maps that a convolution's results ``y`` are spread to; ``transposed`` as for ``convolve``.

    ``sizes`` are those of the convolution whose transpose this is.
    """
    y, w = _filled(y, w, transposed)
    products, kh, kw, channels, columns = w.shape
    line, tap = columns, channels * columns
    if transposed:
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
                pixels=n * down * right, area=max(1, down * right), across=max(1, right), channels=channels,
                taps=taps_down * taps_across, taps_across=max(1, taps_across), height=rows, width=across,
                stride_y=1, stride_x=1, pad_top=top, pad_left=left,
                image_step=rows * across * pixel, row_step=across * pixel, pixel_step=pixel, group_step=channels,
            )  # fmt: skip
            weights = Weights(
                columns=columns, first=(first_i * kw + first_j) * tap, tap_row_step=-sy * kw * tap, tap_step=-sx * tap,
                line_step=line, group_step=kh * kw * tap,
            )  # fmt: skip
            writing = Writing(
                first=(a * width + b) * wide, image_step=height * width * wide, row_step=sy * width * wide,
                pixel_step=sx * wide, group_step=columns, scale_step=columns, part_step=0,
            )  # fmt: skip
            correlate(y, w, out, reading, weights, writing, transposed=transposed, products=products, **after)
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
