"""The ways to convolve on a graphics card, and which takes what.

``winograd`` takes 3x3 with stride 1, which is most of the network; ``few_channels`` the first layer; ``direct`` all the
rest, where groups are joined into products by ``grouped`` first.
"""

from __future__ import annotations

from typing import Any

from ..machine.device import contiguous
from . import direct, few_channels, grouped, winograd
from .geometry import Geometry, measure


def convolve(
    x: Any,
    w: Any,
    sizes: Geometry,
    *,
    scale: Any = None,
    shift: Any = None,
    residual: Any = None,
    activate: bool = False,
) -> Any:
    """Return ``relu(conv(x, w) scale + shift + residual)``, leaving out what is not there."""
    after = {"scale": scale, "shift": shift, "residual": residual, "activate": activate}
    x, w = contiguous(x), contiguous(w)
    if winograd.suits(sizes):
        return winograd.convolve(x, w, sizes, **after)
    if few_channels.suits(sizes):
        return few_channels.convolve(x, w, sizes, **after)
    return direct.convolve(x, grouped.join(w, sizes), sizes, **after)


def input_gradient(dy: Any, w: Any, sizes: Geometry, plus: Any = None) -> Any:
    """Return the gradient of the input, and add ``plus`` if it is there."""
    dy, w = contiguous(dy), contiguous(w)
    if winograd.suits(sizes):
        return winograd.convolve(dy, w, sizes, turned=True, scale=None, shift=None, residual=plus)
    return direct.scatter(dy, grouped.join(w, sizes), sizes, scale=None, shift=None, residual=plus)


def weight_gradient(x: Any, dy: Any, sizes: Geometry) -> Any:
    """Return the gradient of the weights."""
    x, dy = contiguous(x), contiguous(dy)
    if winograd.suits(sizes):
        return winograd.weight_gradient(x, dy, sizes)
    if few_channels.suits(sizes):
        return few_channels.weight_gradient(x, dy, sizes)
    products = sizes.groups // grouped.joined_groups(sizes) if sizes.groups > 1 else 1
    return grouped.separate(direct.weight_gradient(x, dy, sizes, products), sizes)


__all__ = ["Geometry", "convolve", "direct", "input_gradient", "measure", "weight_gradient"]
