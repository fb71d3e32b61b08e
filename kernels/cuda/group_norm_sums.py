"""The sums that group norm needs: mean and squares of each group of each map, and what its gradients add up.

As in ``norm_sums``: a thread's rows, the threads of a block (a tree in shared memory), the blocks (a second kernel),
always in the same order. Maps are (N, M, C) here and ``blockIdx.z`` is the map, so one launch does all; what joins the
blocks joins the channels of a group, too. How maps are cut depends on their shape only.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..scalar import join_count, join_means, join_squares
from .machine.device import Kernel, blocks_for, cuda, device_function, float32, int32, kernel
from .machine.groups import loader, row_loader, storer
from .norm_sums import BLOCKS, ROWS, THREADS, block_of, rows_of

ZERO, ONE = np.float32(0), np.float32(1)


# --- how maps are cut -----------------------------------------------------------------------------------------------


def power_of_two(n: int) -> int:
    """Return the least power of two that is not less than ``n``."""
    return 1 << (n - 1).bit_length()


def block_of_maps(rows: int, channels: int, width: int) -> tuple[int, int]:
    """Return a block's threads: groups of ``width`` channels across, and rows down, not many more than there are."""
    across, lines = block_of(channels, width)
    return across, min(lines, power_of_two(rows))


def rows_of_maps(shape: tuple[int, int, int], width: int) -> tuple[int, int, int]:
    """Return the blocks of a kernel whose threads take ROWS rows of a map each."""
    n, rows, channels = shape
    across, lines = block_of_maps(rows, channels, width)
    return blocks_for(rows, lines * ROWS), blocks_for(channels, width * across), n


def parts_of_maps(shape: tuple[int, int, int], width: int) -> tuple[int, int, int]:
    """Return the blocks of a kernel for sums: BLOCKS in all, or fewer, but one at least for each map."""
    down, across, n = rows_of_maps(shape, width)
    return min(down, blocks_for(BLOCKS, across * n)), across, n


def of_groups(n: int, values: int, groups: int) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Return blocks and threads of the kernels that join so many values to one of each group.

    As many threads to a group as it has values; where these are few, a block takes several groups.
    """
    lines = min(THREADS, power_of_two(values))
    across = min(THREADS // lines, power_of_two(groups))
    return (blocks_for(groups, across), 1, n), (across, lines)


@device_function
def part_and_channel(value, of_group):
    """Return the part and the channel of its group where a value of a group's parts lies: division in 32 bits."""
    part = np.uint32(value) // np.uint32(of_group)
    return int32(part), int32(value - part * of_group)


# --- trees ----------------------------------------------------------------------------------------------------------


@device_function
def join_lines(counts, mean, square):
    """Join count, mean and squares (Chan et al. 1983) of a block's lines of threads into those of the first."""
    across, line = cuda.blockDim.x, cuda.threadIdx.y
    slot = line * across + cuda.threadIdx.x
    cuda.syncthreads()
    half = cuda.blockDim.y // 2
    while half > 0:
        if line < half:
            other = slot + half * across
            share = join_count(counts[slot], counts[other])
            for k in range(mean.shape[0]):
                d = mean[k, other] - mean[k, slot]
                square[k, slot] = join_squares(square[k, slot], square[k, other], d, counts[slot], share)
                mean[k, slot] = join_means(mean[k, slot], d, share)
            counts[slot] += counts[other]
        cuda.syncthreads()
        half //= 2


@device_function
def add_lines(product, total):
    """Add two sums of a block's lines of threads into those of the first."""
    across, line = cuda.blockDim.x, cuda.threadIdx.y
    slot = line * across + cuda.threadIdx.x
    cuda.syncthreads()
    half = cuda.blockDim.y // 2
    while half > 0:
        if line < half:
            other = slot + half * across
            for k in range(product.shape[0]):
                product[k, slot] += product[k, other]
                total[k, slot] += total[k, other]
        cuda.syncthreads()
        half //= 2


# --- statistics -----------------------------------------------------------------------------------------------------


@functools.cache
def map_statistics(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, load_row, store = loader(width), row_loader(width), storer(width)

    @kernel("f4[:,:,::1]", "f4[:,:,::1]", "f4[:,:,::1]", name=f"map_statistics_{width}")
    def body(x, means, squares):
        """Write the mean of the rows of each part of each map, and the sum of the squared distances to it.

        As ``norm_sums.statistics``: a thread counts from its first row's number, and means are written as distances to
        the first row of the map, so that a mean far from zero costs no digits.

        **Owns:** a block, a part of some channels of a map; a thread, ``width`` channels of every ``blockDim.y``-th of
        its rows. **Shared:** count, mean and squares of each thread; they are joined as a tree. **No race:** in each
        round the lower half writes its own places and reads those of the upper half, which nobody writes; then all
        wait. **Floor:** x read once, 4 bytes an element.
        """
        counts = cuda.shared.array(THREADS, float32)
        mean = cuda.shared.array((width, THREADS), float32)
        square = cuda.shared.array((width, THREADS), float32)
        rows, channels = x.shape[1:]
        across, line, image = cuda.blockDim.x, cuda.threadIdx.y, cuda.blockIdx.z
        slot = line * across + cuda.threadIdx.x
        channel = (cuda.blockIdx.y * across + cuda.threadIdx.x) * width
        begin = image * rows * channels + channel
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
            load(x, begin + first * channels, origin)
            for start in range(first, rows, step * ROWS):
                for i in range(ROWS):
                    load_row(x, begin + min(start + i * step, rows - 1) * channels, v, i)
                for i in range(ROWS):
                    if start + i * step < rows:
                        count += ONE
                        for k in range(width):
                            d = v[i, k] - origin[k]
                            m[k] += d
                            s[k] += d * d
            load_row(x, begin, v, 0)
            for k in range(width):
                square_sum = s[k] - m[k] * m[k] / count
                s[k] = ZERO if square_sum < ZERO else square_sum  # NaN stays
                m[k] = (origin[k] - v[0, k]) + m[k] / count
        counts[slot] = count
        for k in range(width):
            mean[k, slot] = m[k]
            square[k, slot] = s[k]
        join_lines(counts, mean, square)
        if line == 0 and channel < channels:
            for k in range(width):
                m[k] = mean[k, slot]
                s[k] = square[k, slot]
            place = (image * means.shape[1] + cuda.blockIdx.x) * channels + channel
            store(means, place, m)
            store(squares, place, s)

    return body


@kernel("f4[:,:,::1]", "f4[:,:,::1]", "f4[:,:,::1]", "i4", "i4", "f4", "f4[:,::1]", "f4[:,::1]")
def finish_group_statistics(x, means, squares, lines, of_group, eps, mu, inverse_std):
    """Join parts and channels of each group; write mean and inverse deviation beside each of its channels.

    ``lines`` is the height of the blocks that made the parts. Channels have first rows of their own, so a mean is taken
    as the distance to the first row of the group's first channel.

    **Owns:** a block, ``blockDim.x`` groups of a map; a thread, every ``blockDim.y``-th of a group's values, then every
    ``blockDim.y``-th of its channels in the results. **Shared:** count, mean and squares of each thread, joined as a
    tree. **No race:** as in ``map_statistics``; what all read in the end was written before the last wait.
    **Floor:** the parts read once, 8 bytes a part and channel, and 8 bytes a channel written.
    """
    counts = cuda.shared.array(THREADS, float32)
    mean = cuda.shared.array((1, THREADS), float32)
    square = cuda.shared.array((1, THREADS), float32)
    rows, channels = x.shape[1:]
    parts = means.shape[1]
    across, line, image = cuda.blockDim.x, cuda.threadIdx.y, cuda.blockIdx.z
    slot = line * across + cuda.threadIdx.x
    first = (cuda.blockIdx.x * across + cuda.threadIdx.x) * of_group
    count, m, s = ZERO, ZERO, ZERO
    if first < channels:
        for value in range(line, parts * of_group, cuda.blockDim.y):
            part, channel = part_and_channel(int32(value), of_group)
            more = float32(rows_of(part, int32(parts), lines, int32(rows)))
            d = (x[image, 0, first + channel] - x[image, 0, first]) + means[image, part, first + channel] - m
            share = join_count(count, more)
            s = join_squares(s, squares[image, part, first + channel], d, count, share)
            m = join_means(m, d, share)
            count += more
    counts[slot] = count
    mean[0, slot] = m
    square[0, slot] = s
    join_lines(counts, mean, square)
    if first < channels:
        of_all = cuda.threadIdx.x  # the first line's place
        centre = x[image, 0, first] + mean[0, of_all]
        inverse = ONE / math.sqrt(square[0, of_all] / (float32(rows) * float32(of_group)) + eps)
        for channel in range(line, of_group, cuda.blockDim.y):
            mu[image, first + channel] = centre
            inverse_std[image, first + channel] = inverse


# --- backward -------------------------------------------------------------------------------------------------------


@functools.cache
def map_sums_backward(width: int) -> Kernel:
    """Return the kernel for groups of ``width`` channels."""
    load, load_row, store = loader(width), row_loader(width), storer(width)

    @kernel("f4[:,:,::1]", "f4[:,:,::1]", *("f4[:,::1]",) * 2, *("f4[:,:,::1]",) * 2, name=f"map_sums_backward_{width}")
    def body(dy, x, mu, inverse_std, products, sums):
        """Write sum dy x_hat and sum dy of the rows of each part of each map, where x_hat = (x - mu) inverse_std.

        The parts are those of ``map_statistics``.

        **Owns:** a block, a part of some channels of a map; a thread, ``width`` channels of every ``blockDim.y``-th of
        its rows. **Shared:** the two sums of each thread; they are added as a tree. **No race:** in each round the
        lower half writes its own places and reads those of the upper half, which nobody writes; then all wait.
        **Floor:** dy and x read once, 8 bytes an element.
        """
        product = cuda.shared.array((width, THREADS), float32)
        total = cuda.shared.array((width, THREADS), float32)
        rows, channels = x.shape[1:]
        across, line, image = cuda.blockDim.x, cuda.threadIdx.y, cuda.blockIdx.z
        slot = line * across + cuda.threadIdx.x
        channel = (cuda.blockIdx.y * across + cuda.threadIdx.x) * width
        begin = image * rows * channels + channel
        v = cuda.local.array((ROWS, width), float32)
        g = cuda.local.array((ROWS, width), float32)
        m = cuda.local.array(width, float32)
        p = cuda.local.array(width, float32)
        s = cuda.local.array(width, float32)
        for k in range(width):
            p[k] = ZERO
            s[k] = ZERO
        if channel < channels:
            load(mu, image * channels + channel, m)
            step = cuda.gridDim.x * cuda.blockDim.y
            for start in range(cuda.blockIdx.x * cuda.blockDim.y + line, rows, step * ROWS):
                for i in range(ROWS):
                    place = begin + min(start + i * step, rows - 1) * channels
                    load_row(dy, place, g, i)
                    load_row(x, place, v, i)
                for i in range(ROWS):
                    if start + i * step < rows:
                        for k in range(width):
                            p[k] += g[i, k] * (v[i, k] - m[k])
                            s[k] += g[i, k]
        for k in range(width):
            product[k, slot] = p[k]
            total[k, slot] = s[k]
        add_lines(product, total)
        if line == 0 and channel < channels:
            load(inverse_std, image * channels + channel, m)
            for k in range(width):
                p[k] = product[k, slot] * m[k]
                s[k] = total[k, slot]
            place = (image * products.shape[1] + cuda.blockIdx.x) * channels + channel
            store(products, place, p)
            store(sums, place, s)

    return body


@kernel("f4[:,:,::1]", "f4[:,:,::1]", "f4[:,::1]", "f4[::1]", "i4", "i4", "f4[:,::1]", "f4[:,::1]")
def group_slopes(products, sums, inverse_std, gamma, rows, of_group, slope, shift):
    """Add up parts and channels of each group, times gamma; write what ``map_gradient`` takes away.

    That is slope per x - mu, and shift.

    **Owns:** a block, ``blockDim.x`` groups of a map; a thread, every ``blockDim.y``-th of a group's values, then every
    ``blockDim.y``-th of its channels in the results. **Shared:** the two sums of each thread, added as a tree.
    **No race:** as in ``map_sums_backward``; what all read in the end was written before the last wait.
    **Floor:** the parts read once, 8 bytes a part and channel, and 8 bytes a channel written.
    """
    product = cuda.shared.array((1, THREADS), float32)
    total = cuda.shared.array((1, THREADS), float32)
    parts, channels = products.shape[1:]
    across, line, image = cuda.blockDim.x, cuda.threadIdx.y, cuda.blockIdx.z
    slot = line * across + cuda.threadIdx.x
    first = (cuda.blockIdx.x * across + cuda.threadIdx.x) * of_group
    p, s = ZERO, ZERO
    if first < channels:
        for value in range(line, parts * of_group, cuda.blockDim.y):
            part, channel = part_and_channel(int32(value), of_group)
            p += products[image, part, first + channel] * gamma[first + channel]
            s += sums[image, part, first + channel] * gamma[first + channel]
    product[0, slot] = p
    total[0, slot] = s
    add_lines(product, total)
    if first < channels:
        inverse = inverse_std[image, first]
        share = inverse / (float32(rows) * float32(of_group))
        for channel in range(line, of_group, cuda.blockDim.y):
            slope[image, first + channel] = product[0, cuda.threadIdx.x] * share * inverse
            shift[image, first + channel] = total[0, cuda.threadIdx.x] * share


@kernel("f4[:,::1]", "f4[:,::1]", "f4[::1]", "f4[::1]")
def parameter_gradients(products, sums, dgamma, dbeta):
    """Add up the parts of all maps, rows of (N parts, C), to dgamma and dbeta.

    **Owns:** a block, ``blockDim.x`` channels; a thread, one channel of every ``blockDim.y``-th row; the first line's
    threads write the results, each of its channel. **Shared:** the two sums of each thread, added as a tree.
    **No race:** as in ``map_sums_backward``. **Floor:** the parts read once, 8 bytes a part and channel.
    """
    product = cuda.shared.array((1, THREADS), float32)
    total = cuda.shared.array((1, THREADS), float32)
    rows, channels = products.shape
    across, line = cuda.blockDim.x, cuda.threadIdx.y
    slot = line * across + cuda.threadIdx.x
    channel = cuda.blockIdx.x * across + cuda.threadIdx.x
    p, s = ZERO, ZERO
    if channel < channels:
        for row in range(line, rows, cuda.blockDim.y):
            p += products[row, channel]
            s += sums[row, channel]
    product[0, slot] = p
    total[0, slot] = s
    add_lines(product, total)
    if line == 0 and channel < channels:
        dgamma[channel] = product[0, slot]
        dbeta[channel] = total[0, slot]


for _width in (1, 4):  # so that all kernels are known
    map_statistics(_width), map_sums_backward(_width)
