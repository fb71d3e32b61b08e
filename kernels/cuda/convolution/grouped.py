"""Grouped convolution: a few groups at a time as one product, whose weights are zero between different groups.

A group of 4 or 8 channels is too little for a tile of a product. So groups are joined until they have 32 channels:
their weights become blocks on the diagonal of one matrix. Of a ResNeXt's 32 groups of 4 channels that makes 4 products
of 32 channels, which multiply 7 zeros for each weight, and still do a quarter of what one without groups does.
"""

from __future__ import annotations

from typing import Any

from ..machine.device import SIMULATED, blocks_for, contiguous, cuda, empty, float32, kernel, launch
from .geometry import Geometry

CHANNELS = 8 if SIMULATED else 32  # of joined groups, at least


@kernel("f4[:,:,::1]", "f4[:,:,:,::1]", "i4", "i4", "i4")
def spread(w, joined, per_in, per_out, groups):
    """Put the weights (taps, per_in, C_out) of ``groups`` groups on the diagonal of (products, taps, in, out).

    **Owns:** a thread, one number of ``joined``. **Shared:** nothing. **No race:** each writes its own. **Floor:**
    ``joined`` is written once.
    """
    n = cuda.grid(1)
    products, taps, wide, line = joined.shape
    if n < products * taps * wide * line:
        column, rest = n % line, n // line
        channel, rest = rest % wide, rest // wide
        tap, product = rest % taps, rest // taps
        same = channel // per_in == column // per_out
        joined[product, tap, channel, column] = (
            w[tap, channel % per_in, product * line + column] if same else float32(0)
        )


@kernel("f4[:,:,:,::1]", "f4[:,:,::1]", "i4", "i4")
def collect(joined, w, per_in, per_out):
    """Take what ``spread`` puts on the diagonal.

    **Owns:** a thread, one number of ``w``. **Shared:** nothing. **No race:** each writes its own. **Floor:** ``w`` is
    written once.
    """
    n = cuda.grid(1)
    taps, _, columns = w.shape
    if n < taps * per_in * columns:
        column, rest = n % columns, n // columns
        channel, tap = rest % per_in, rest // per_in
        line = joined.shape[3]
        at = column % line // per_out * per_in + channel
        w[tap, channel, column] = joined[column // line, tap, at, column % line]


def joined_groups(sizes: Geometry) -> int:
    """Return how many groups are joined: a divisor of all that gives at least 32 channels, and multiples of 8."""
    per_in, per_out = sizes.weights[2], sizes.weights[3] // sizes.groups
    for m in range(1, sizes.groups):
        enough = min(m * per_in, m * per_out) >= CHANNELS
        if sizes.groups % m == 0 and enough and m * per_in % 8 == 0 and m * per_out % 8 == 0:
            return m
    return sizes.groups


def join(w: Any, sizes: Geometry) -> Any:
    """Return the weights as products, (products, kh, kw, channels, outputs)."""
    kh, kw, per_in, c_out = sizes.weights
    if sizes.groups == 1:
        return w.reshape(1, kh, kw, per_in, c_out)
    m = joined_groups(sizes)
    products, per_out = sizes.groups // m, c_out // sizes.groups
    joined = empty((products, kh * kw, m * per_in, m * per_out))
    flat = contiguous(w).reshape(kh * kw, per_in, c_out)
    launch(spread, blocks_for(joined.size, 256), 256, flat, joined, per_in, per_out, m)
    return joined.reshape(products, kh, kw, m * per_in, m * per_out)


def separate(joined: Any, sizes: Geometry) -> Any:
    """Return gradients of products as gradients of weights."""
    kh, kw, per_in, c_out = sizes.weights
    if sizes.groups == 1:
        return contiguous(joined.reshape(sizes.weights))
    w = empty((kh * kw, per_in, c_out))
    flat = contiguous(joined).reshape(len(joined), kh * kw, *joined.shape[3:])
    launch(collect, blocks_for(w.size, 256), 256, flat, w, per_in, c_out // sizes.groups)
    return w.reshape(sizes.weights)
