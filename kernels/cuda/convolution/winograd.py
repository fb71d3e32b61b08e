"""3x3 convolution with stride 1 by Winograd's F(4x4, 3x3): 36 multiplications where the definition needs 144.

The algebra is told in ``kernels.cpu.convolution.winograd``, and the points are the same: 0, 1, -1, 1/2, -2, infinity.
In two dimensions a tile's 6x6 patch of the map and the 3x3 kernel are transformed to 36 values each, multiplied value
by value, and transformed back to 4x4 results. With many channels each of the 36 values is a matrix product over the
channels: 36 products that ``machine.product`` does in one launch.

Here the four steps are kernels of their own, and what lies between them goes through memory: 2.25 numbers for each
number of the map, and as many for the result. That is worth it where the product is long: at 256 channels the direct
convolution of a 200 x 272 map takes 64 GFLOP, this one 16 GFLOP and 0.6 GB.

Gradients: of the input, the same with the kernel *turned* by 180 degrees and its two axes of channels swapped, so that
the products read the weights transposed. Of the weights, the transpose:
``dw = G^T [sum over tiles (B^T d B) (A dy A^T)] G``. Sums over tiles are products, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..linear import matrix_of, rows_of, weights_of
from ..machine.device import SIMULATED, blocks_for, cuda, device_function, empty, float32, kernel, launch
from ..machine.lines import fill_up
from ..machine.product import RELU, RESIDUAL, SCALE, SHIFT, Reading, correlate, finish
from ..machine.turned_product import gather_sums
from .direct import extras
from .geometry import Geometry

N = 4  # outputs along one side of a tile
P = 6  # inputs
POINTS = P * P
THREADS = 16 if SIMULATED else 128
WORKSPACE = 1 << 26  # numbers that lie between the steps, at most: 256 MB; longer lists of tiles go in pieces
LEAST_CHANNELS = 8 if SIMULATED else 32
LEAST_TILES = 1 if SIMULATED else 32

HALF, QUARTER, EIGHTH = float32(0.5), float32(0.25), float32(0.125)
TWO, FOUR, EIGHT, ONE_AND_HALF, TWO_AND_HALF = float32(2), float32(4), float32(8), float32(1.5), float32(2.5)
THIRD, FIFTEENTH = float32(1 / 3), float32(1 / 15)


# --- one line of a transform ----------------------------------------------------------------------------------------


@device_function
def map_line(a, b, c, d, e, f):
    """Return ``B^T`` times six numbers of a map."""
    return (
        a + e + ONE_AND_HALF * (d - b) - TWO * c,
        e - b + HALF * c + TWO_AND_HALF * d,
        e + b - TWO_AND_HALF * c + HALF * d,
        e - c + TWO * (d - b),
        e - c + HALF * (b - d),
        f + b + ONE_AND_HALF * (e - c) - TWO * d,
    )


@device_function
def result_line(a, b, c, d, e, f):
    """Return ``A^T`` times six products."""
    plus, minus = b + c, b - c
    return (
        a + plus + d + e,
        minus + HALF * d - TWO * e,
        plus + QUARTER * d + FOUR * e,
        minus + EIGHTH * d - EIGHT * e + f,
    )


@device_function
def gradient_line(a, b, c, d):
    """Return ``A`` times four gradients of results."""
    even, odd = a + c, b + d
    return a, even + odd, even - odd, a + HALF * b + QUARTER * c + EIGHTH * d, a - TWO * b + FOUR * c - EIGHT * d, d


@device_function
def kernel_line(a, b, c):
    """Return ``G`` times three taps."""
    even, odd = (a + c) * THIRD, b * THIRD
    far, near = (a + FOUR * c) * FIFTEENTH, TWO * b * FIFTEENTH
    half = (FOUR * a + c) * (FOUR * FIFTEENTH)
    return a, even + odd, odd - even, -half - FOUR * near, far - near, c


@device_function
def taps_line(a, b, c, d, e, f):
    """Return ``G^T`` times six sums."""
    plus, minus = (b - c) * THIRD, (b + c) * THIRD
    d, e = d * FIFTEENTH, e * FIFTEENTH
    return (
        a + plus - FOUR * FOUR * d + e,
        minus - EIGHT * d - TWO * e,
        plus - FOUR * d + FOUR * e + f,
    )


# --- kernels --------------------------------------------------------------------------------------------------------


@kernel("f4[::1]", "f4[::1]", *["i4"] * 7)
def transform_maps(x, v, first, tiles, height, width, channels, down, across):
    """Write ``B^T d B`` of ``tiles`` tiles from ``first`` on: 36 planes (tiles, channels).

    **Owns:** a thread, one channel of a tile: 36 numbers; neighbours have neighbouring channels, so loads and stores of
    a warp are lines of memory. **Shared:** nothing. **No race:** each writes its own. **Floor:** the map is read
    (pixels that tiles have in common come from the cache), 2.25 times as much is written.
    """
    n = cuda.grid(1)
    if n >= tiles * channels:
        return
    tile, channel = n // channels + first, n % channels
    image, rest = tile // (down * across), tile % (down * across)
    top, left = rest // across * N - 1, rest % across * N - 1
    t = cuda.local.array(36, float32)
    for i in range(P):
        y = top + i
        line = (image * height + y) * width
        inside = y >= 0 and y < height
        for j in range(P):
            xx = left + j
            t[i * P + j] = float32(0)
            if inside and xx >= 0 and xx < width:
                t[i * P + j] = x[(line + xx) * channels + channel]
    for j in range(P):
        p = map_line(t[j], t[6 + j], t[12 + j], t[18 + j], t[24 + j], t[30 + j])
        t[j], t[6 + j], t[12 + j], t[18 + j], t[24 + j], t[30 + j] = p
    plane = tiles * channels
    for i in range(P):
        k = i * P
        p = map_line(t[k], t[k + 1], t[k + 2], t[k + 3], t[k + 4], t[k + 5])
        for j in range(P):
            v[(k + j) * plane + n] = p[j]


@kernel("f4[::1]", "f4[::1]", *["i4"] * 7)
def transform_gradients(dy, v, first, tiles, height, width, channels, down, across):
    """Write ``A dy A^T`` of ``tiles`` tiles from ``first`` on: 36 planes (tiles, channels).

    **Owns:** a thread, one channel of a tile: 36 numbers. **Shared:** nothing. **No race:** each writes its own.
    **Floor:** the map is read, 2.25 times as much is written.
    """
    n = cuda.grid(1)
    if n >= tiles * channels:
        return
    tile, channel = n // channels + first, n % channels
    image, rest = tile // (down * across), tile % (down * across)
    top, left = rest // across * N, rest % across * N
    t = cuda.local.array(24, float32)
    d = cuda.local.array(4, float32)
    for j in range(N):
        xx = left + j
        for i in range(N):
            y = top + i
            d[i] = float32(0)
            if y < height and xx < width:
                d[i] = dy[((image * height + y) * width + xx) * channels + channel]
        p = gradient_line(d[0], d[1], d[2], d[3])
        for i in range(P):
            t[i * N + j] = p[i]
    plane = tiles * channels
    for i in range(P):
        p = gradient_line(t[i * N], t[i * N + 1], t[i * N + 2], t[i * N + 3])
        for j in range(P):
            v[(i * P + j) * plane + n] = p[j]


@kernel("f4[::1]", "f4[::1]", "i4", "i4")
def transform_weights(w, u, plane, turned):
    """Write ``G w G^T``: 36 planes (C_in, C_out); ``turned``: of the kernel turned by 180 degrees.

    **Owns:** a thread, one pair of channels: 36 numbers. **Shared:** nothing. **No race:** each writes its own.
    **Floor:** 9 numbers are read, 36 written for each pair.
    """
    n = cuda.grid(1)
    if n >= plane:
        return
    t = cuda.local.array(18, float32)
    for j in range(3):
        if turned:
            p = kernel_line(w[(8 - j) * plane + n], w[(5 - j) * plane + n], w[(2 - j) * plane + n])
        else:
            p = kernel_line(w[j * plane + n], w[(3 + j) * plane + n], w[(6 + j) * plane + n])
        for i in range(P):
            t[i * 3 + j] = p[i]
    for i in range(P):
        p = kernel_line(t[i * 3], t[i * 3 + 1], t[i * 3 + 2])
        for j in range(P):
            u[(i * P + j) * plane + n] = p[j]


@kernel(*["f4[::1]"] * 5, *["i4"] * 8)
def transform_results(m, y, scale, shift, residual, what, first, tiles, height, width, channels, down, across):
    """Write ``A^T m A`` of ``tiles`` tiles from ``first`` on to their 4x4 pixels, scaled, shifted and so on.

    **Owns:** a thread, one channel of the 16 pixels of a tile. **Shared:** nothing. **No race:** each writes its own.
    **Floor:** 2.25 numbers are read for each that is written, and the residual.
    """
    n = cuda.grid(1)
    if n >= tiles * channels:
        return
    tile, channel = n // channels + first, n % channels
    image, rest = tile // (down * across), tile % (down * across)
    top, left = rest // across * N, rest % across * N
    plane = tiles * channels
    t = cuda.local.array(24, float32)
    for j in range(P):
        p = result_line(
            m[j * plane + n], m[(6 + j) * plane + n], m[(12 + j) * plane + n], m[(18 + j) * plane + n],
            m[(24 + j) * plane + n], m[(30 + j) * plane + n],
        )  # fmt: skip
        for i in range(N):
            t[i * P + j] = p[i]
    for i in range(N):
        k = i * P
        p = result_line(t[k], t[k + 1], t[k + 2], t[k + 3], t[k + 4], t[k + 5])
        for j in range(N):
            if top + i < height and left + j < width:
                at = ((image * height + top + i) * width + left + j) * channels + channel
                y[at] = finish(p[j], what, scale, shift, residual, channel, at)


@kernel("f4[::1]", "f4[::1]", "i4")
def transform_sums(du, dw, plane):
    """Write ``G^T du G``: the gradients of 3x3 taps from those of 36 points.

    **Owns:** a thread, the nine taps of a pair of channels. **Shared:** nothing. **No race:** each writes its own.
    **Floor:** 36 numbers are read, 9 written for each pair.
    """
    n = cuda.grid(1)
    if n >= plane:
        return
    t = cuda.local.array(18, float32)
    for j in range(P):
        p = taps_line(
            du[j * plane + n], du[(6 + j) * plane + n], du[(12 + j) * plane + n], du[(18 + j) * plane + n],
            du[(24 + j) * plane + n], du[(30 + j) * plane + n],
        )  # fmt: skip
        for i in range(3):
            t[i * P + j] = p[i]
    for i in range(3):
        k = i * P
        p = taps_line(t[k], t[k + 1], t[k + 2], t[k + 3], t[k + 4], t[k + 5])
        for j in range(3):
            dw[(i * 3 + j) * plane + n] = p[j]


# --- the four steps -------------------------------------------------------------------------------------------------


class Sheet(NamedTuple):
    """A piece of the list of tiles: from ``first`` on, ``tiles`` of them, of maps cut into ``down`` x ``across``."""

    first: int
    tiles: int
    height: int
    width: int
    channels: int
    down: int
    across: int


def suits(sizes: Geometry) -> bool:
    """Tell whether it is such a convolution, and one that is long enough, on tiles that its maps fill."""
    c_in, c_out = sizes.weights[2:]
    same = sizes.weights[:2] == (3, 3) and sizes.stride == (1, 1) and sizes.padding == ((1, 1), (1, 1))
    whole = sizes.groups == 1 and c_in % 8 == 0 and c_out % 8 == 0 and min(c_in, c_out) >= LEAST_CHANNELS
    if not (same and whole):
        return False
    tiles = _tiles(sizes.maps)
    return tiles >= LEAST_TILES and 8 * tiles <= sizes.pixels


def _tiles(maps: tuple[int, ...]) -> int:
    """Return how many tiles cover the maps."""
    return maps[0] * blocks_for(maps[1], N) * blocks_for(maps[2], N)


def _pieces(maps: tuple[int, ...], both: int) -> Iterator[Sheet]:
    """Cut the list of tiles so that ``both``, the channels of maps and results, stay within the workspace."""
    tiles, most = _tiles(maps), max(1, WORKSPACE // (POINTS * both))
    for first in range(0, tiles, most):
        yield Sheet(
            first, min(most, tiles - first), maps[1], maps[2], both, blocks_for(maps[1], N), blocks_for(maps[2], N)
        )  # fmt: skip


def _transform(body: Any, x: Any, sheet: Sheet) -> Any:
    """Return 36 planes of a piece of a map."""
    v = empty((POINTS, sheet.tiles, sheet.channels))
    launch(body, blocks_for(sheet.tiles * sheet.channels, THREADS), THREADS, x, v, *sheet)
    return v


def _rows(sheet: Sheet) -> Reading:
    """Return 36 planes as the matrices of 36 products."""
    n, c = sheet.tiles, sheet.channels
    return rows_of(n, c, n * c)


def convolve(x: Any, w: Any, sizes: Geometry, *, turned: bool = False, **after: Any) -> Any:
    """Return the convolution; ``turned``: with the kernel turned and its channels swapped, as for the gradient."""
    x, w = fill_up(x, 8), fill_up(w, 4)
    c_in, c_out = (w.shape[3], w.shape[2]) if turned else w.shape[2:]
    plane = c_in * c_out
    u = empty((POINTS, plane))
    launch(transform_weights, blocks_for(plane, THREADS), THREADS, w, u, plane, int(turned))
    y = empty((*sizes.maps[:3], c_out))
    after = extras(c_out, **after)
    given = [after[name] for name in ("scale", "shift", "residual")]
    what = sum(flag for flag, array in zip((SCALE, SHIFT, RESIDUAL), given, strict=True) if array is not None)
    what += RELU * after["activate"]
    weights = weights_of(c_out, c_in if turned else c_out, plane)
    for piece in _pieces(sizes.maps, c_in + c_out):
        sheet = piece._replace(channels=c_in)
        m = empty((POINTS, sheet.tiles, c_out))
        writing = matrix_of(c_out, sheet.tiles * c_out)
        v = _transform(transform_maps, x, sheet)
        correlate(v, u, m, _rows(sheet), weights, writing, transposed=turned, products=POINTS)
        # In the place of what is not there stands ``y``, which is never looked at with this ``what``
        launch(
            transform_results, blocks_for(sheet.tiles * c_out, THREADS), THREADS, m, y,
            *(y if array is None else array for array in given), what, *piece._replace(channels=c_out),
        )  # fmt: skip
    return y


def weight_gradient(x: Any, dy: Any, sizes: Geometry) -> Any:
    """Return the gradient of the weights."""
    x, dy = fill_up(x, 8), fill_up(dy, 8)
    c_in, c_out = sizes.weights[2:]
    total = None
    for piece in _pieces(sizes.maps, c_in + c_out):
        sheet = piece._replace(channels=c_in)
        v = _transform(transform_maps, x, sheet)
        m = _transform(transform_gradients, dy, piece._replace(channels=c_out))
        du = empty((POINTS, c_in, c_out))
        gather_sums(v, m, du, _rows(sheet), c_out, c_out, sheet.tiles * c_out, products=POINTS)
        total = du if total is None else total + du
    dw = empty(sizes.weights)
    launch(transform_sums, blocks_for(c_in * c_out, THREADS), THREADS, total, dw, c_in * c_out)
    return dw
