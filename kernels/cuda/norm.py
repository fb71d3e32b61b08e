"""Batch norm: one pass over memory if the statistics are frozen, else one for the sums and one that uses them.

Maps are rows of channels, (M, C). A thread keeps to one group of channels, whose four numbers it reads once, and walks
down rows. Sums go in three steps, always in the same order: a thread's rows, the threads of a block (a tree in shared
memory), the blocks (a second kernel). How rows are cut depends on the shape only.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..contract import BatchNormCache
from ..scalar import join_count, join_means, join_squares
from .machine.arguments import is_float32
from .machine.device import SIMULATED, Kernel, aligned, blocks_for, cuda, empty, float32, kernel, launch
from .machine.groups import group_width, loader, storer

THREADS = 16 if SIMULATED else 256  # of a block; a power of two
ACROSS = 4 if SIMULATED else 32  # groups of channels of a block, at most; a power of two
ROWS = 2 if SIMULATED else 16  # rows of a thread
PARTS = 7 if SIMULATED else 1024  # blocks that share a column, at most: beyond, a thread takes more rows
ZERO, ONE = np.float32(0), np.float32(1)


# --- normalise ------------------------------------------------------------------------------------------------------


@functools.cache
def normalise(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, store = loader(width), storer(width)

    @kernel("f4[:,::1]", "f4[::1]", "f4[::1]", "f4[::1]", "f4[:,::1]", name=f"normalise_{width}")
    def body(x, mu, scale, beta, y):
        """Write y = (x - mu) scale + beta.

        **Owns:** a thread, one group of channels in ROWS rows of ``y``, a block's height apart, so that neighbours read
        neighbours. **Shared:** nothing. **No race:** each writes its own. **Floor:** x read and y written once, 8 bytes
        an element.
        """
        rows, channels = x.shape
        channel = (cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x) * width
        if channel >= channels:
            return
        m = cuda.local.array(width, float32)
        s = cuda.local.array(width, float32)
        b = cuda.local.array(width, float32)
        v = cuda.local.array(width, float32)
        load(mu, channel, m)
        load(scale, channel, s)
        load(beta, channel, b)
        first = cuda.blockIdx.x * cuda.blockDim.y * ROWS + cuda.threadIdx.y
        for i in range(ROWS):
            row = first + i * cuda.blockDim.y
            if row < rows:
                load(x, row * channels + channel, v)
                for k in range(width):
                    v[k] = (v[k] - m[k]) * s[k] + b[k]
                store(y, row * channels + channel, v)

    return body


@kernel("f4[::1]", "f4[::1]", "f4[::1]", "f4", "f4[::1]", "f4[::1]", "f4[::1]")
def frozen_statistics(gamma, mean, var, eps, mu, inverse_std, scale):
    """Write mu = mean, inverse_std = 1 / sqrt(var + eps), scale = gamma inverse_std.

    **Owns:** a thread, one channel. **Shared:** nothing. **No race:** each writes its own. **Floor:** a launch.
    """
    c = cuda.grid(1)
    if c < mu.size:
        mu[c] = mean[c]
        inverse_std[c] = ONE / math.sqrt(var[c] + eps)
        scale[c] = gamma[c] * inverse_std[c]


# --- statistics of the batch ----------------------------------------------------------------------------------------


@functools.cache
def statistics(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, store = loader(width), storer(width)

    @kernel("f4[:,::1]", "i4", "f4[:,::1]", "f4[:,::1]", name=f"statistics_{width}")
    def body(x, height, means, squares):
        """Write the mean of each ``height`` rows (a part), and the sum of the squared distances to it.

        Sums of squares lose the digits that a mean far from zero takes, so a thread counts from its first row's
        number, and means are written as distances to the first row of all.

        **Owns:** a block, a part of some channels; a thread, one group of channels of every ``blockDim.y``-th of its
        rows. **Shared:** count, mean and squares of each thread; they are joined as a tree (Chan et al. 1983).
        **No race:** in each round the lower half writes its own places and reads those of the upper half, which nobody
        writes; then all wait. **Floor:** x read once, 4 bytes an element.
        """
        counts = cuda.shared.array(THREADS, float32)
        mean = cuda.shared.array((width, THREADS), float32)
        square = cuda.shared.array((width, THREADS), float32)
        rows, channels = x.shape
        across, line = cuda.blockDim.x, cuda.threadIdx.y
        slot = line * across + cuda.threadIdx.x
        channel = (cuda.blockIdx.y * across + cuda.threadIdx.x) * width
        v = cuda.local.array(width, float32)
        m = cuda.local.array(width, float32)
        s = cuda.local.array(width, float32)
        origin = cuda.local.array(width, float32)
        for k in range(width):
            m[k] = ZERO
            s[k] = ZERO
        count = ZERO
        first = cuda.blockIdx.x * height + line
        last = min((cuda.blockIdx.x + 1) * height, rows)
        if channel < channels and first < last:
            load(x, first * channels + channel, origin)
            for row in range(first, last, cuda.blockDim.y):
                load(x, row * channels + channel, v)
                count += ONE
                for k in range(width):
                    d = v[k] - origin[k]
                    m[k] += d
                    s[k] += d * d
            load(x, channel, v)
            for k in range(width):
                square_sum = s[k] - m[k] * m[k] / count
                s[k] = ZERO if square_sum < ZERO else square_sum  # NaN stays
                m[k] = (origin[k] - v[k]) + m[k] / count
        counts[slot] = count
        for k in range(width):
            mean[k, slot] = m[k]
            square[k, slot] = s[k]
        cuda.syncthreads()
        half = cuda.blockDim.y // 2
        while half > 0:
            if line < half:
                other = slot + half * across
                share = join_count(counts[slot], counts[other])
                for k in range(width):
                    d = mean[k, other] - mean[k, slot]
                    square[k, slot] = join_squares(square[k, slot], square[k, other], d, counts[slot], share)
                    mean[k, slot] = join_means(mean[k, slot], d, share)
                counts[slot] += counts[other]
            cuda.syncthreads()
            half //= 2
        if line == 0 and channel < channels:
            for k in range(width):
                m[k] = mean[k, slot]
                s[k] = square[k, slot]
            store(means, cuda.blockIdx.x * channels + channel, m)
            store(squares, cuda.blockIdx.x * channels + channel, s)

    return body


@kernel("f4[:,::1]", "f4[:,::1]", "f4[:,::1]", "i4", "f4", "f4", *("f4[::1]",) * 6)
def finish_statistics(x, means, squares, height, eps, momentum, gamma, running_mean, running_var, mu, inverse, scale):
    """Join the parts; write mean, inverse deviation and scale of each channel, and move the running statistics.

    **Owns:** a block, ``blockDim.x`` channels; a thread, one channel of every ``blockDim.y``-th part; the first line's
    threads write the results, each of its channel. **Shared:** count, mean and squares of each thread, joined as a
    tree. **No race:** as in ``statistics``. **Floor:** the parts read once, 8 bytes a part and channel.
    """
    counts = cuda.shared.array(THREADS, float32)
    mean = cuda.shared.array(THREADS, float32)
    square = cuda.shared.array(THREADS, float32)
    rows = x.shape[0]
    parts, channels = means.shape
    across, line = cuda.blockDim.x, cuda.threadIdx.y
    slot = line * across + cuda.threadIdx.x
    channel = cuda.blockIdx.x * across + cuda.threadIdx.x
    count, m, s = ZERO, ZERO, ZERO
    if channel < channels:
        for part in range(line, parts, cuda.blockDim.y):
            more = float32(min(height, rows - part * height))
            d = means[part, channel] - m
            share = join_count(count, more)
            s = join_squares(s, squares[part, channel], d, count, share)
            m = join_means(m, d, share)
            count += more
    counts[slot] = count
    mean[slot] = m
    square[slot] = s
    cuda.syncthreads()
    half = cuda.blockDim.y // 2
    while half > 0:
        if line < half:
            other = slot + half * across
            d = mean[other] - mean[slot]
            share = join_count(counts[slot], counts[other])
            square[slot] = join_squares(square[slot], square[other], d, counts[slot], share)
            mean[slot] = join_means(mean[slot], d, share)
            counts[slot] += counts[other]
        cuda.syncthreads()
        half //= 2
    if line == 0 and channel < channels:
        variance = square[slot] / float32(rows)
        unbiased = square[slot] / float32(max(1, rows - 1))
        centre = x[0, channel] + mean[slot]
        mu[channel] = centre
        inverse[channel] = ONE / math.sqrt(variance + eps)
        scale[channel] = gamma[channel] * inverse[channel]
        running_mean[channel] = (ONE - momentum) * running_mean[channel] + momentum * centre
        running_var[channel] = (ONE - momentum) * running_var[channel] + momentum * unbiased


# --- backward -------------------------------------------------------------------------------------------------------


@functools.cache
def sums_backward(width: int, frozen: bool) -> Kernel:
    """Return the kernel for groups of ``width`` channels; with frozen statistics it writes the gradient, too."""
    load, store = loader(width), storer(width)

    @kernel(
        "f4[:,::1]", "f4[:,::1]", "f4[::1]", "f4[::1]", "i4", "f4[:,::1]", "f4[:,::1]", "f4[:,::1]",
        name=f"sums_backward_{'frozen_' if frozen else ''}{width}",
    )  # fmt: skip
    def body(dy, x, mu, scale, height, dx, products, sums):
        """Write sum dy (x - mu) and sum dy of each ``height`` rows (a part); frozen, also dx = dy scale.

        **Owns:** a block, a part of some channels; a thread, one group of channels of every ``blockDim.y``-th of its
        rows (of ``dx`` as of the sums). **Shared:** the two sums of each thread; they are added as a tree. **No race:**
        in each round the lower half writes its own places and reads those of the upper half, which nobody writes; then
        all wait. **Floor:** dy and x read (frozen: and dx written) once, 8 (12) bytes an element.
        """
        product = cuda.shared.array((width, THREADS), float32)
        total = cuda.shared.array((width, THREADS), float32)
        rows, channels = x.shape
        across, line = cuda.blockDim.x, cuda.threadIdx.y
        slot = line * across + cuda.threadIdx.x
        channel = (cuda.blockIdx.y * across + cuda.threadIdx.x) * width
        v = cuda.local.array(width, float32)
        g = cuda.local.array(width, float32)
        m = cuda.local.array(width, float32)
        c = cuda.local.array(width, float32)
        p = cuda.local.array(width, float32)
        s = cuda.local.array(width, float32)
        for k in range(width):
            p[k] = ZERO
            s[k] = ZERO
        if channel < channels:
            load(mu, channel, m)
            load(scale, channel, c)
            last = min((cuda.blockIdx.x + 1) * height, rows)
            for row in range(cuda.blockIdx.x * height + line, last, cuda.blockDim.y):
                load(dy, row * channels + channel, g)
                load(x, row * channels + channel, v)
                for k in range(width):
                    p[k] += g[k] * (v[k] - m[k])
                    s[k] += g[k]
                if frozen:
                    for k in range(width):
                        g[k] *= c[k]
                    store(dx, row * channels + channel, g)
        for k in range(width):
            product[k, slot] = p[k]
            total[k, slot] = s[k]
        cuda.syncthreads()
        half = cuda.blockDim.y // 2
        while half > 0:
            if line < half:
                other = slot + half * across
                for k in range(width):
                    product[k, slot] += product[k, other]
                    total[k, slot] += total[k, other]
            cuda.syncthreads()
            half //= 2
        if line == 0 and channel < channels:
            for k in range(width):
                p[k] = product[k, slot]
                s[k] = total[k, slot]
            store(products, cuda.blockIdx.x * channels + channel, p)
            store(sums, cuda.blockIdx.x * channels + channel, s)

    return body


@kernel("f4[:,::1]", "f4[:,::1]", "f4[::1]", "f4[::1]", "i4", "f4[::1]", "f4[::1]", "f4[::1]", "f4[::1]")
def finish_backward(products, sums, inverse_std, scale, rows, dgamma, dbeta, slope, shift):
    """Add up the parts; write dgamma, dbeta, and what ``gradient`` takes away: slope per x - mu, and shift.

    **Owns:** a block, ``blockDim.x`` channels; a thread, one channel of every ``blockDim.y``-th part; the first line's
    threads write the results, each of its channel. **Shared:** the two sums of each thread, added as a tree.
    **No race:** as in ``sums_backward``. **Floor:** the parts read once, 8 bytes a part and channel.
    """
    product = cuda.shared.array(THREADS, float32)
    total = cuda.shared.array(THREADS, float32)
    parts, channels = products.shape
    across, line = cuda.blockDim.x, cuda.threadIdx.y
    slot = line * across + cuda.threadIdx.x
    channel = cuda.blockIdx.x * across + cuda.threadIdx.x
    p, s = ZERO, ZERO
    if channel < channels:
        for part in range(line, parts, cuda.blockDim.y):
            p += products[part, channel]
            s += sums[part, channel]
    product[slot] = p
    total[slot] = s
    cuda.syncthreads()
    half = cuda.blockDim.y // 2
    while half > 0:
        if line < half:
            product[slot] += product[slot + half * across]
            total[slot] += total[slot + half * across]
        cuda.syncthreads()
        half //= 2
    if line == 0 and channel < channels:
        dgamma[channel] = product[slot] * inverse_std[channel]
        dbeta[channel] = total[slot]
        slope[channel] = scale[channel] * inverse_std[channel] * dgamma[channel] / float32(rows)
        shift[channel] = scale[channel] * total[slot] / float32(rows)


@functools.cache
def gradient(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, store = loader(width), storer(width)

    @kernel(
        "f4[:,::1]", "f4[:,::1]", "f4[::1]", "f4[::1]", "f4[::1]", "f4[::1]", "f4[:,::1]", name=f"norm_gradient_{width}"
    )
    def body(dy, x, mu, scale, slope, shift, dx):
        """Write dx = dy scale - (x - mu) slope - shift: the gradient through the statistics of the batch.

        **Owns:** a thread, one group of channels in ROWS rows of ``dx``. **Shared:** nothing. **No race:** each writes
        its own. **Floor:** dy and x read, dx written once, 12 bytes an element.
        """
        rows, channels = x.shape
        channel = (cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x) * width
        if channel >= channels:
            return
        m = cuda.local.array(width, float32)
        c = cuda.local.array(width, float32)
        a = cuda.local.array(width, float32)
        b = cuda.local.array(width, float32)
        g = cuda.local.array(width, float32)
        v = cuda.local.array(width, float32)
        load(mu, channel, m)
        load(scale, channel, c)
        load(slope, channel, a)
        load(shift, channel, b)
        first = cuda.blockIdx.x * cuda.blockDim.y * ROWS + cuda.threadIdx.y
        for i in range(ROWS):
            row = first + i * cuda.blockDim.y
            if row < rows:
                load(dy, row * channels + channel, g)
                load(x, row * channels + channel, v)
                for k in range(width):
                    g[k] = g[k] * c[k] - (v[k] - m[k]) * a[k] - b[k]
                store(dx, row * channels + channel, g)

    return body


WIDTHS = (1, 4)
for _width in WIDTHS:  # so that all kernels are known
    normalise(_width), statistics(_width), gradient(_width)
    sums_backward(_width, False), sums_backward(_width, True)


# --- host -----------------------------------------------------------------------------------------------------------


def _block(channels: int, width: int) -> tuple[int, int]:
    """Return a block's threads: groups of channels across, as many as there are (at most ACROSS), and rows down."""
    groups = blocks_for(channels, width)
    across = min(ACROSS, 1 << (groups - 1).bit_length())
    return across, THREADS // across


def _grid(rows: int, channels: int, width: int, height: int) -> tuple[int, int]:
    """Return the blocks: for every ``height`` rows, and for all groups of channels."""
    across, _ = _block(channels, width)
    return blocks_for(rows, height), blocks_for(channels, width * across)


def _part_height(rows: int, channels: int, width: int) -> int:
    """Return the rows of a part: ROWS for each thread, or more, so that there are at most PARTS parts."""
    lines = _block(channels, width)[1]
    return lines * max(ROWS, blocks_for(rows, PARTS * lines))


def _narrow(channels: int) -> tuple[int, tuple[int, int]]:
    """Return blocks and threads of the kernels that join parts: few channels and many threads to a block."""
    across = max(1, ACROSS // 4)
    return blocks_for(channels, across), (across, THREADS // across)


def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    training: bool = False,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> Any:
    """See ``mrcnn_np.ops.norm.batch_norm``."""
    parameters = (gamma, beta, mean, var)
    if not is_float32(x, *parameters) or x.size == 0 or any(p.shape != x.shape[-1:] for p in parameters):
        return NotImplemented
    channels = x.shape[-1]
    x = aligned(x)
    rows, width = x.size // channels, group_width(channels)
    flat = x.reshape(rows, channels)
    scale, shift = aligned(gamma), aligned(beta)
    running = [aligned(mean), aligned(var)]
    mu, inverse_std, factor = (empty(channels) for _ in range(3))
    if training:
        height = _part_height(rows, channels, width)
        means, squares = (empty((blocks_for(rows, height), channels)) for _ in range(2))
        grid = _grid(rows, channels, width, height)
        launch(statistics(width), grid, _block(channels, width), flat, height, means, squares)
        launch(
            finish_statistics, *_narrow(channels),
            flat, means, squares, height, eps, momentum, scale, *running, mu, inverse_std, factor,
        )  # fmt: skip
        for original, moved in zip((mean, var), running):
            if moved is not original:
                original[...] = moved
    else:
        launch(frozen_statistics, blocks_for(channels, THREADS), THREADS, scale, *running, eps, mu, inverse_std, factor)
    y = empty(x.shape)
    block = _block(channels, width)
    grid = _grid(rows, channels, width, ROWS * block[1])
    launch(normalise(width), grid, block, flat, mu, factor, shift, y.reshape(rows, channels))
    return y, BatchNormCache(x, gamma, mu, inverse_std, training)


def batch_norm_backward(dy: np.ndarray, cache: BatchNormCache) -> Any:
    """See ``mrcnn_np.ops.norm.batch_norm_backward``."""
    x, gamma, mu, inverse_std, training = cache
    if not is_float32(dy, x, gamma, mu, inverse_std) or dy.shape != x.shape or x.size == 0:
        return NotImplemented
    channels = x.shape[-1]
    rows, width = x.size // channels, group_width(channels)
    flat, dflat = (aligned(a).reshape(rows, channels) for a in (x, dy))
    mu, inverse_std, scale = aligned(mu), aligned(inverse_std), aligned(gamma * inverse_std)
    dx = empty(dy.shape)
    written, block = dx.reshape(rows, channels), _block(channels, width)
    height = _part_height(rows, channels, width)
    products, sums = (empty((blocks_for(rows, height), channels)) for _ in range(2))
    grid = _grid(rows, channels, width, height)
    launch(sums_backward(width, not training), grid, block, dflat, flat, mu, scale, height, written, products, sums)
    dgamma, dbeta, slope, shift = (empty(channels) for _ in range(4))
    launch(finish_backward, *_narrow(channels), products, sums, inverse_std, scale, rows, dgamma, dbeta, slope, shift)
    if training:
        grid = _grid(rows, channels, width, ROWS * block[1])
        launch(gradient(width), grid, block, dflat, flat, mu, scale, slope, shift, written)
    return dx, dgamma, dbeta
