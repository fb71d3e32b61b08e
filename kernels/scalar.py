"""The mathematics of one number, one box, one sample: written once, compiled for the CPU and for the GPU.

These are plain functions of Python; compiled code of either kind may call them. Constants are float32 and integers are
converted before they meet a float, so that no float64 comes in by the back door; only the pasting of masks computes
in float64, like its reference.

A compiler for the GPU may make one operation of ``a * b + c``, which rounds once and not twice. That is welcome in a
long sum. Where a result is compared (an overlap with a threshold, a coordinate with the edge of a map), the GPU has to
find what the CPU finds: there ``product`` rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import register_jitable

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
MOST = np.float32(1 << 30)  # samples of a bin, and cells of a box: what lies beyond has no meaning
TINY = np.float32(1e-20)  # a side that can still be divided by
FEW = 8  # samples that are looked through rather than searched
PASTE_METHODS = ("grid_sample", "resize", "plus_one", "resize_zero")  # their numbers


def scalar(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let compiled code call a function; division by zero gives infinity or NaN, as NumPy's does."""
    return register_jitable(error_model="numpy")(function)


@scalar
def product(a, b):
    """Return ``a * b``, rounded before anything is added to it; the CPU's compiler does so by itself."""
    return a * b


# --- boxes ----------------------------------------------------------------------------------------------------------


@scalar
def box_side(length):
    """Return max(length, 0) that keeps NaN."""
    return ZERO if length < ZERO else length


@scalar
def box_area(y1, x1, y2, x2):
    """Return the area of a box."""
    return product(box_side(y2 - y1), box_side(x2 - x1))


@scalar
def shared_area(y1, x1, y2, x2, top, left, bottom, right):
    """Return the area that two boxes share."""
    return product(box_side(min(y2, bottom) - max(y1, top)), box_side(min(x2, right) - max(x1, left)))


@scalar
def box_overlap(y1, x1, y2, x2, area, top, left, bottom, right, other):
    """Return the IoU of two boxes and their areas. NaN shows in a box's own area: no overlap, 0."""
    shared = shared_area(y1, x1, y2, x2, top, left, bottom, right)
    whole = area + other - shared
    return shared / whole if whole > ZERO else ZERO


@scalar
def decode_axis(low, high, shift, log_scale, limit):
    """Return where a box lies on one axis, given its anchor there and the deltas; at most ``limit`` of scale."""
    side = high - low
    new_side = side * np.float32(math.exp(limit if log_scale > limit else log_scale))
    centre = low + HALF * side + shift * side
    return centre - HALF * new_side, centre + HALF * new_side


# --- samples of RoIAlign --------------------------------------------------------------------------------------------


@scalar
def region_axis(low, high, scale, offset, bins, aligned):
    """Return start and bin side of a RoI on one axis of the map, as the reference rounds them."""
    start = product(low, scale) - offset
    side = product(high, scale) - offset - start
    if not aligned and side < ONE:
        side = ONE
    return start, side / np.float32(bins)


@scalar
def samples_per_bin(bin_side, sampling_ratio):
    """Return the samples of a bin on one axis; ratio 0: as many as it has pixels, rounded up."""
    if sampling_ratio > 0:
        return np.int32(sampling_ratio)
    if not bin_side > ZERO:
        return np.int32(0)
    return np.int32(math.ceil(min(bin_side, MOST)))


@scalar
def sample_place(base, bin_side, count, i):
    """Return the coordinate of sample i of a bin that begins at ``base``."""
    return base + (np.float32(i) + HALF) * bin_side / np.float32(count)


@scalar
def bilinear_taps(u, size):
    """Return the two pixels a sample reads on an axis, the weight of the second, and whether the sample counts.

    Up to one pixel outside it reads the border; further out (and for NaN) it is 0.
    """
    inside = u >= -ONE and u <= np.float32(size)
    u = min(max(u, ZERO), np.float32(size - 1)) if inside else ZERO
    low = np.int32(u)
    return low, min(low + 1, size - 1), u - np.float32(low), inside


@scalar
def samples_between(base, bin_side, count, low, high):
    """Return first and end of a range that holds all samples whose place is in [low, high]; of few samples, all."""
    if count <= FEW or not bin_side > TINY:
        return 0, count
    per_pixel, most, margin = np.float32(count) / bin_side, np.float32(count), 4 + (count >> 20)
    first = np.int32(min(max((np.float32(low) - base) * per_pixel, ZERO), most))
    last = np.int32(min(max((np.float32(high) - base) * per_pixel, ZERO), most))
    return max(0, first - margin), min(count, last + margin + 1)


@scalar
def pixel_weight(base, bin_side, count, size, pixel):
    """Return the weight of one pixel of an axis in the mean over the samples of a bin."""
    total = ZERO
    first, end = samples_between(base, bin_side, count, pixel - 1, pixel + 1)
    for i in range(first, end):
        low, high, fraction, inside = bilinear_taps(sample_place(base, bin_side, count, i), size)
        if inside and low == pixel:
            total += ONE - fraction
        if inside and high == pixel:
            total += fraction
    return total / np.float32(count)


# --- points of crop_and_resize --------------------------------------------------------------------------------------


@scalar
def crop_axis(low, high, points, size):
    """Return the first point of a box on one axis of the image, and the step to the next."""
    last = np.float32(size - 1)
    if points > 1:
        return product(low, last), (high - low) * last / np.float32(points - 1)
    return HALF * (low + high) * last, ZERO


@scalar
def crop_taps(origin, step, i, size):
    """Return the two pixels that point i reads on an axis, the weight of the second, and whether it is inside."""
    u = origin + product(np.float32(i), step)
    inside = u >= ZERO and u <= np.float32(size - 1)
    u = u if inside else ZERO
    low = np.int32(u)
    fraction = u - np.float32(low)
    return low, (low + 1 if fraction > ZERO else low), fraction, inside


# --- bins of RoIPool ------------------------------------------------------------------------------------------------


@scalar
def round_half_away(value):
    """Round as C does, halves away from zero; far beyond any map all is alike."""
    value = min(max(value, -MOST), MOST)
    whole = np.int64(value)
    rest = value - np.float32(whole)
    return whole + (1 if rest >= HALF else 0) - (1 if rest <= -HALF else 0)


@scalar
def floor_of(value):
    """Return the whole number below; far beyond any map all is alike."""
    value = min(max(value, -MOST), MOST)
    whole = np.int64(value)
    return whole - (1 if np.float32(whole) > value else 0)


@scalar
def pool_bin(low, high, number, bins, size, caffe):
    """Return the first cell of a bin on one axis and the one after its last, within the map."""
    if caffe:
        first, last = round_half_away(low), round_half_away(high)
        bin_side = np.float32(max(last - first + 1, 1)) / np.float32(bins)
        start = first + floor_of(product(np.float32(number), bin_side))
        end = first - floor_of(-product(np.float32(number + 1), bin_side))
    else:
        first, cells = floor_of(low), max(floor_of(high) - floor_of(low), 0)
        start, end = first + number * cells // bins, first + (number + 1) * cells // bins
    return min(max(start, 0), size), min(max(end, 0), size)


# --- pasting of masks, in float64 -----------------------------------------------------------------------------------


@scalar
def round_half_even(value):
    """Round a float64 as NumPy does."""
    below = math.floor(value)
    rest = value - below
    return below + (1 if rest > 0.5 or (rest == 0.5 and below % 2 == 1) else 0)


@scalar
def paste_span(a, b, cells, length, method):
    """Return what a mask side of so many cells over [a, b) paints of an axis of ``length`` pixels.

    That is the first pixel, how many, the side it is spread over, and the cells with their border.
    """
    if method == 0:
        start, stop = math.floor(a) - 1, math.ceil(b) + 1
    elif method != 2:
        start, stop = round_half_even(a), round_half_even(b)
        a, b = np.float64(start), np.float64(stop)
    else:
        centre, half = (a + b) / 2, (b - a) / 2 * (cells + 2) / cells
        a, b = np.float64(np.int64(centre - half)), np.float64(np.int64(centre + half))
        b = max(b + 1, a + 1)
        start, stop, cells = np.int64(a), np.int64(b), cells + 2
    start, stop = max(start, 0), min(stop, length)
    count = stop - start if stop > start and b > a else 0
    return start, count, a, b, cells


@scalar
def paste_tap(pixel, a, b, cells, method):
    """Return the first of the two mask cells that a pixel reads, and the weight of the second."""
    t = product((pixel + 0.5 - a) / (b - a), np.float64(cells)) - 0.5
    if method == 1 or method == 2:
        t = min(max(t, 0.0), cells - 1.0)
    cell = math.floor(t)
    return cell, t - cell


# --- activations and losses -----------------------------------------------------------------------------------------


@scalar
def relu(x):
    """Return max(x, 0); NaN compares false and stays."""
    return ZERO if x < ZERO else x


@scalar
def relu_backward(dy, y):
    """Return dy where y > 0 (or is NaN), else 0."""
    return dy * (ZERO if y <= ZERO else ONE)


@scalar
def logistic(x, e):
    """Return 1 / (1 + exp(-x)), given ``e`` = exp(-|x|), which cannot overflow."""
    near = ONE / (ONE + e)
    return near if x >= ZERO else e * near


@scalar
def cross_entropy(x, t, log_one_plus_e):
    """Return -t log sigma(x) - (1 - t) log(1 - sigma(x)), given log(1 + exp(-|x|))."""
    positive = ZERO if x < ZERO else x
    return positive - x * t + log_one_plus_e


@scalar
def smooth_l1(d, beta):
    """Return d^2 / (2 beta) where |d| < beta, else |d| - beta / 2."""
    size = abs(d)
    if size < beta:
        return size * size / (TWO * beta)
    return size - HALF * beta


@scalar
def smooth_l1_slope(d, beta):
    """Return the derivative of ``smooth_l1``: d / beta, at most 1 either way; with beta = 0 the sign, 0 at 0."""
    if abs(d) < beta:
        return d / beta
    if d > ZERO:
        return ONE
    if d < ZERO:
        return -ONE
    return d  # 0 or NaN


# --- statistics -----------------------------------------------------------------------------------------------------


@scalar
def join_count(count, more):
    """Return the share of ``more`` in the sum of both; 0 if there is nothing."""
    return more / (count + more) if more > ZERO else ZERO


@scalar
def join_means(mean, d, share):
    """Return the mean of two parts: of one, and of one that lies ``d`` away and has this share."""
    return mean + d * share


@scalar
def join_squares(square, other, d, count, share):
    """Return the sum of squared distances to the mean of two parts, given each one's to its own (Chan et al. 1983)."""
    return square + other + d * d * count * share


# --- descent --------------------------------------------------------------------------------------------------------


@scalar
def new_velocity(v, g, p, momentum, decay):
    """Return the new velocity: momentum v + g + decay p."""
    moved = v * momentum + g
    if decay != ZERO:
        moved += decay * p
    return moved


# --- resizing -------------------------------------------------------------------------------------------------------


@scalar
def multiply_add(a, b, c):
    """Return ``a * b + c``, rounded once."""
    return np.float32(np.float64(a) * np.float64(b) + np.float64(c))


@scalar
def resize_taps(i, scale, size):
    """Return the two cells that output ``i`` lies between, on an axis of ``size``, and the weight of the second."""
    u = multiply_add(np.float32(i) + HALF, scale, -HALF)
    u = min(max(u, ZERO), np.float32(size - 1))
    low = np.int32(u)
    return low, min(low + 1, size - 1), u - np.float32(low)
