"""Group norm: a pass over memory for the sums of each map, and one that uses them, whatever is trained.

Maps are (N, M, C), and ``blockIdx.z`` is the map: two large ones or five hundred of RoIs take the same three launches,
backward four. Otherwise as in ``norm``, also that the second pass goes from the last row to the first. The sums are
those of ``group_norm_sums``.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..contract import GroupNormCache, as_groups
from .group_norm_sums import (
    block_of_maps,
    finish_group_statistics,
    group_slopes,
    map_statistics,
    map_sums_backward,
    of_groups,
    parameter_gradients,
    parts_of_maps,
    rows_of_maps,
)
from .machine.arguments import is_float32
from .machine.device import LARGEST_GRID, Kernel, aligned, cuda, empty, float32, kernel, launch
from .machine.groups import group_width, loader, row_loader, storer
from .norm_sums import ROWS, narrow


@functools.cache
def normalise_maps(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, load_row, store = loader(width), row_loader(width), storer(width)

    @kernel(
        "f4[:,:,::1]", "f4[:,::1]", "f4[:,::1]", "f4[::1]", "f4[::1]", "f4[:,:,::1]", name=f"normalise_maps_{width}"
    )  # fmt: skip
    def body(x, mu, inverse_std, gamma, beta, y):
        """Write y = (x - mu) gamma inverse_std + beta.

        **Owns:** a thread, ``width`` channels of ROWS rows of a map of ``y``, a block's height apart, so that
        neighbours read neighbours. **Shared:** nothing. **No race:** each writes its own. **Floor:** x read and y
        written once, 8 bytes an element.
        """
        n, rows, channels = x.shape
        channel = (cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x) * width
        if channel >= channels:
            return
        m = cuda.local.array(width, float32)
        d = cuda.local.array(width, float32)
        s = cuda.local.array(width, float32)
        b = cuda.local.array(width, float32)
        v = cuda.local.array((ROWS, width), float32)
        out = cuda.local.array(width, float32)
        image = n - 1 - cuda.blockIdx.z
        begin = image * rows * channels + channel
        first = (cuda.gridDim.x - 1 - cuda.blockIdx.x) * cuda.blockDim.y * ROWS + cuda.threadIdx.y
        for i in range(ROWS):
            load_row(x, begin + min(first + i * cuda.blockDim.y, rows - 1) * channels, v, i)
        load(mu, image * channels + channel, m)
        load(inverse_std, image * channels + channel, d)
        load(gamma, channel, s)
        load(beta, channel, b)
        for k in range(width):
            s[k] *= d[k]
        for i in range(ROWS):
            row = first + i * cuda.blockDim.y
            if row < rows:
                for k in range(width):
                    out[k] = (v[i, k] - m[k]) * s[k] + b[k]
                store(y, begin + row * channels, out)

    return body


@functools.cache
def map_gradient(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, load_row, store = loader(width), row_loader(width), storer(width)

    @kernel(
        "f4[:,:,::1]", "f4[:,:,::1]", *("f4[:,::1]",) * 2, "f4[::1]", *("f4[:,::1]",) * 2, "f4[:,:,::1]",
        name=f"map_gradient_{width}",
    )  # fmt: skip
    def body(dy, x, mu, inverse_std, gamma, slope, shift, dx):
        """Write dx = dy gamma inverse_std - (x - mu) slope - shift.

        **Owns:** a thread, ``width`` channels of ROWS rows of a map of ``dx``. **Shared:** nothing. **No race:** each
        writes its own. **Floor:** dy and x read, dx written once, 12 bytes an element.
        """
        n, rows, channels = x.shape
        channel = (cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x) * width
        if channel >= channels:
            return
        m = cuda.local.array(width, float32)
        c = cuda.local.array(width, float32)
        a = cuda.local.array(width, float32)
        b = cuda.local.array(width, float32)
        out = cuda.local.array(width, float32)
        g = cuda.local.array((ROWS, width), float32)
        v = cuda.local.array((ROWS, width), float32)
        image = n - 1 - cuda.blockIdx.z
        begin, own = image * rows * channels + channel, image * channels + channel
        first = (cuda.gridDim.x - 1 - cuda.blockIdx.x) * cuda.blockDim.y * ROWS + cuda.threadIdx.y
        for i in range(ROWS):
            place = begin + min(first + i * cuda.blockDim.y, rows - 1) * channels
            load_row(dy, place, g, i)
            load_row(x, place, v, i)
        load(mu, own, m)
        load(gamma, channel, c)
        load(inverse_std, own, out)
        load(slope, own, a)
        load(shift, own, b)
        for k in range(width):
            c[k] *= out[k]
        for i in range(ROWS):
            row = first + i * cuda.blockDim.y
            if row < rows:
                for k in range(width):
                    out[k] = g[i, k] * c[k] - (v[i, k] - m[k]) * a[k] - b[k]
                store(dx, begin + row * channels, out)

    return body


for _width in (1, 4):  # so that all kernels are known
    normalise_maps(_width), map_gradient(_width)


# --- host -----------------------------------------------------------------------------------------------------------


def can_compute(x: Any) -> bool:
    """Tell whether there is something to do, and a block along the grid's third axis for each map."""
    return x.ndim >= 2 and x.size > 0 and len(x) <= LARGEST_GRID[2]


def group_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, *, groups: int = 32, eps: float = 1e-5) -> Any:
    """See ``mrcnn_np.ops.group_norm.group_norm``."""
    if not is_float32(x, gamma, beta) or not can_compute(x) or any(p.shape != x.shape[-1:] for p in (gamma, beta)):
        return NotImplemented
    n, channels = len(x), x.shape[-1]
    cut = as_groups(groups, channels)
    if cut is None:
        return NotImplemented
    groups = cut
    x = aligned(x)
    flat, width = x.reshape(n, -1, channels), group_width(channels)
    y, mu, inverse_std = empty(x.shape), empty((n, channels)), empty((n, channels))
    parts, block, of_group = parts_of_maps(flat.shape, width), block_of_maps(*flat.shape[1:], width), channels // groups
    means, squares = empty((n, parts[0], channels)), empty((n, parts[0], channels))
    launch(map_statistics(width), parts, block, flat, means, squares)
    launch(
        finish_group_statistics, *of_groups(n, parts[0] * of_group, groups),
        flat, means, squares, block[1], of_group, eps, mu, inverse_std,
    )  # fmt: skip
    launch(
        normalise_maps(width), rows_of_maps(flat.shape, width), block,
        flat, mu, inverse_std, aligned(gamma), aligned(beta), y.reshape(flat.shape),
    )  # fmt: skip
    return y, GroupNormCache(x, gamma, mu, inverse_std, groups)


def group_norm_backward(dy: np.ndarray, cache: GroupNormCache) -> Any:
    """See ``mrcnn_np.ops.group_norm.group_norm_backward``."""
    x, gamma, mu, inverse_std, groups = cache
    if not is_float32(dy, x, gamma, mu, inverse_std) or dy.shape != x.shape or not can_compute(x):
        return NotImplemented
    n, channels = len(x), x.shape[-1]
    flat, dflat = (aligned(a).reshape(n, -1, channels) for a in (x, dy))
    mu, inverse_std, gamma = aligned(mu), aligned(inverse_std), aligned(gamma)
    rows, width, of_group = flat.shape[1], group_width(channels), channels // groups
    parts, block = parts_of_maps(flat.shape, width), block_of_maps(rows, channels, width)
    products, sums = empty((n, parts[0], channels)), empty((n, parts[0], channels))
    launch(map_sums_backward(width), parts, block, dflat, flat, mu, inverse_std, products, sums)
    slope, shift = empty((n, channels)), empty((n, channels))
    launch(
        group_slopes, *of_groups(n, parts[0] * of_group, groups),
        products, sums, inverse_std, gamma, rows, of_group, slope, shift,
    )  # fmt: skip
    dgamma, dbeta = empty(channels), empty(channels)
    lines = (n * parts[0], channels)
    launch(parameter_gradients, *narrow(channels), products.reshape(lines), sums.reshape(lines), dgamma, dbeta)
    dx = empty(dy.shape)
    launch(
        map_gradient(width), rows_of_maps(flat.shape, width), block,
        dflat, flat, mu, inverse_std, gamma, slope, shift, dx.reshape(flat.shape),
    )  # fmt: skip
    return dx, dgamma, dbeta
