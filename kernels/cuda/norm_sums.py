"""The sums that batch norm needs: mean and squares of each channel, and what its gradients add up.

Sums go in three steps, always in the same order: a thread's rows, the threads of a block (a tree in shared memory),
the blocks (a second kernel). How rows are cut into parts, one for a block, depends on the shape only.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..scalar import join_count, join_means, join_squares
from .machine.device import SIMULATED, Kernel, blocks_for, cuda, device_function, float32, int32, kernel
from .machine.groups import loader, row_loader, storer

THREADS = 16 if SIMULATED else 256  # of a block; a power of two
ACROSS = 4 if SIMULATED else 32  # groups of channels of a block, at most; a power of two
ROWS = 2 if SIMULATED else 4  # rows that a thread asks for at once
BLOCKS = 7 if SIMULATED else 528  # that go over a map for its sums, at most: four for each processor of an H100
ZERO, ONE = np.float32(0), np.float32(1)


# --- how a map is cut -----------------------------------------------------------------------------------------------


def block_of(channels: int, width: int) -> tuple[int, int]:
    """Return a block's threads: groups of channels across, as many as there are (at most ACROSS), and rows down."""
    groups = blocks_for(channels, width)
    across = min(ACROSS, 1 << (groups - 1).bit_length())
    return across, THREADS // across


def all_rows(rows: int, channels: int, width: int) -> tuple[int, int]:
    """Return the blocks of a kernel whose threads take ROWS rows each."""
    across, lines = block_of(channels, width)
    return blocks_for(rows, lines * ROWS), blocks_for(channels, width * across)


def parts_of(rows: int, channels: int, width: int) -> tuple[int, int]:
    """Return the blocks of a kernel for sums: BLOCKS in all, or fewer, so that a thread has ROWS rows or more."""
    down, across = all_rows(rows, channels, width)
    return min(down, blocks_for(BLOCKS, across)), across


def narrow(channels: int) -> tuple[int, tuple[int, int]]:
    """Return blocks and threads of the kernels that join parts: few channels and many threads to a block."""
    across = max(1, ACROSS // 16)
    return blocks_for(channels, across), (across, THREADS // across)


# --- statistics of the batch ----------------------------------------------------------------------------------------


@device_function
def rows_of(part, parts, lines, rows):
    """Return how many rows a part has: those whose number, divided by ``lines``, leaves ``part`` modulo ``parts``."""
    turns = (rows + lines - 1) // lines  # the last one may have fewer rows
    count = (turns - part + parts - 1) // parts * lines
    if (turns - 1) % parts == part:
        count -= turns * lines - rows
    return count


@functools.cache
def statistics(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, load_row, store = loader(width), row_loader(width), storer(width)

    @kernel("f4[:,::1]", "f4[:,::1]", "f4[:,::1]", name=f"statistics_{width}")
    def body(x, means, squares):
        """Write the mean of the rows of each part, and the sum of the squared distances to it.

        All blocks together go down the map, a block's height each, and again from where they end.
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
        v = cuda.local.array((ROWS, width), float32)
        m = cuda.local.array(width, float32)
        s = cuda.local.array(width, float32)
        origin = cuda.local.array(width, float32)
        for k in range(width):
            m[k] = ZERO
            s[k] = ZERO
        count = ZERO
        first, step = cuda.blockIdx.x * cuda.blockDim.y + line, cuda.gridDim.x * cuda.blockDim.y
        if channel < channels and first < rows:
            load(x, first * channels + channel, origin)
            for start in range(first, rows, step * ROWS):
                for i in range(ROWS):
                    load_row(x, min(start + i * step, rows - 1) * channels + channel, v, i)
                for i in range(ROWS):
                    if start + i * step < rows:
                        count += ONE
                        for k in range(width):
                            d = v[i, k] - origin[k]
                            m[k] += d
                            s[k] += d * d
            load_row(x, channel, v, 0)
            for k in range(width):
                square_sum = s[k] - m[k] * m[k] / count
                s[k] = ZERO if square_sum < ZERO else square_sum  # NaN stays
                m[k] = (origin[k] - v[0, k]) + m[k] / count
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


@kernel("f4[:,::1]", "f4[:,::1]", "f4[:,::1]", "i4", "f4", "f4", *("f4[::1]",) * 4)
def finish_statistics(x, means, squares, lines, eps, momentum, running_mean, running_var, mu, inverse_std):
    """Join the parts; write mean and inverse deviation of each channel, and move the running statistics.

    ``lines`` is the height of the blocks that made the parts.

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
            more = float32(rows_of(int32(part), int32(parts), lines, int32(rows)))
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
        inverse_std[channel] = ONE / math.sqrt(variance + eps)
        running_mean[channel] = (ONE - momentum) * running_mean[channel] + momentum * centre
        running_var[channel] = (ONE - momentum) * running_var[channel] + momentum * unbiased


# --- backward -------------------------------------------------------------------------------------------------------


@functools.cache
def sums_backward(width: int, frozen: bool) -> Kernel:
    """Return the kernel for groups of ``width`` channels; with frozen statistics it writes the gradient, too."""
    load, load_row, store = loader(width), row_loader(width), storer(width)

    @kernel(
        "f4[:,::1]", "f4[:,::1]", "f4[::1]", "f4[::1]", "f4[::1]", "f4[:,::1]", "f4[:,::1]", "f4[:,::1]",
        name=f"sums_backward_{'frozen_' if frozen else ''}{width}",
    )  # fmt: skip
    def body(dy, x, mu, inverse_std, gamma, dx, products, sums):
        """Write sum dy (x - mu) and sum dy of the rows of each part; frozen, also dx = dy gamma inverse_std.

        The parts are those of ``statistics``.

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
        v = cuda.local.array((ROWS, width), float32)
        g = cuda.local.array((ROWS, width), float32)
        m = cuda.local.array(width, float32)
        c = cuda.local.array(width, float32)
        d = cuda.local.array(width, float32)
        p = cuda.local.array(width, float32)
        s = cuda.local.array(width, float32)
        for k in range(width):
            p[k] = ZERO
            s[k] = ZERO
        if channel < channels:
            load(mu, channel, m)
            if frozen:
                load(gamma, channel, c)
                load(inverse_std, channel, d)
                for k in range(width):
                    c[k] *= d[k]
            step = cuda.gridDim.x * cuda.blockDim.y
            for start in range(cuda.blockIdx.x * cuda.blockDim.y + line, rows, step * ROWS):
                for i in range(ROWS):
                    place = min(start + i * step, rows - 1) * channels + channel
                    load_row(dy, place, g, i)
                    load_row(x, place, v, i)
                for i in range(ROWS):
                    row = start + i * step
                    if row < rows:
                        for k in range(width):
                            p[k] += g[i, k] * (v[i, k] - m[k])
                            s[k] += g[i, k]
                        if frozen:
                            for k in range(width):
                                d[k] = g[i, k] * c[k]
                            store(dx, row * channels + channel, d)
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
def finish_backward(products, sums, inverse_std, gamma, rows, dgamma, dbeta, slope, shift):
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
        scale = gamma[channel] * inverse_std[channel]
        dgamma[channel] = product[slot] * inverse_std[channel]
        dbeta[channel] = total[slot]
        slope[channel] = scale * inverse_std[channel] * dgamma[channel] / float32(rows)
        shift[channel] = scale * total[slot] / float32(rows)


for _width in (1, 4):  # so that all kernels are known
    statistics(_width), sums_backward(_width, False), sums_backward(_width, True)
