"""The scalar functions that CPU and GPU share, as plain Python against NumPy, and compiled against plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from kernels import scalar
from mrcnn_np.ops import losses, resize
from mrcnn_np.ops.crop_and_resize import _axis_points
from mrcnn_np.ops.roi_align import _axis_taps
from mrcnn_np.ops.roi_pool import _caffe_edges, _disjoint_edges

numbers = st.floats(-50, 50, width=32).map(np.float32)
sides = st.sampled_from([0, 0.25, 1 / 3, 1, 1.5, 7, 40]).map(np.float32)


@settings(deadline=None)
@given(numbers, st.integers(1, 40))
def test_taps_are_those_of_the_reference(u, size):
    low, high, fraction, inside = scalar.bilinear_taps(u, size)
    index, weight = _axis_taps(np.array([u]), size)
    assert weight[0].tolist() == ([1 - fraction, fraction] if inside else [0, 0])
    assert not inside or index[0].tolist() == [low, high]


def test_a_place_that_is_no_number_is_outside():
    for u in (np.float32(np.nan), np.float32(np.inf), np.float32(-np.inf)):
        assert not scalar.bilinear_taps(u, 5)[3]


@settings(max_examples=50, deadline=None)
@given(numbers, sides, st.sampled_from([1, 2, 9, 40, 400]), st.integers(1, 20))
def test_weights_of_all_pixels_are_the_mean_of_the_samples(base, side, count, size):
    """Also where most samples are skipped because they lie elsewhere."""
    places = np.array([scalar.sample_place(base, side, count, i) for i in range(count)], np.float32)
    index, weight = _axis_taps(places, size)
    wanted = np.zeros(size)
    np.add.at(wanted, index, weight / count)
    found = [scalar.pixel_weight(base, side, count, size, pixel) for pixel in range(size)]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    first, end = scalar.samples_between(base, side, count, -1, size)
    touching = np.flatnonzero((places >= -1) & (places <= size))
    assert not touching.size or (first <= touching[0] and touching[-1] < end)
    assert min(first, count - end) >= 0


@settings(deadline=None)
@given(numbers, numbers, st.integers(1, 5), st.integers(1, 30))
def test_points_are_those_of_the_reference(low, high, points, size):
    low, high = low / np.float32(20), high / np.float32(20)
    index, weight, inside = _axis_points(np.array([low]), np.array([high]), points, size)
    origin, step = scalar.crop_axis(low, high, points, size)
    for i in range(points):
        *taps, fraction, counts = scalar.crop_taps(origin, step, i, size)
        assert counts == inside[0, i]
        assert not counts or (taps == index[0, i].tolist() and weight[0, i].tolist() == [1 - fraction, fraction])


@settings(deadline=None)
@given(numbers, numbers, st.integers(1, 7), st.booleans())
def test_bins_are_those_of_the_reference(low, high, bins, caffe):
    edges = _caffe_edges if caffe else _disjoint_edges
    first, end = edges(np.array([low]), np.array([high]), bins)
    for number in range(bins):
        found = scalar.pool_bin(low, high, number, bins, 30, caffe)
        assert found == (np.clip(first[0, number], 0, 30), np.clip(end[0, number], 0, 30))


@settings(deadline=None)
@given(st.floats(-1e6, 1e6).map(lambda x: round(x * 2) / 2) | st.floats(-1e6, 1e6))
def test_rounding(value):
    assert scalar.round_half_even(value) == np.round(value)
    single = np.float32(value)
    assert scalar.floor_of(single) == math.floor(single)
    assert scalar.round_half_away(single) == math.copysign(math.floor(abs(float(single)) + 0.5), single)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (scalar.box_overlap, [0.1, 0.2, 3.3, 4.7, 14.4, 1.3, 0.9, 5.1, 3.3, 9.12]),
        (scalar.decode_axis, [1.3, 4.7, 0.3, 0.7, 4.1]),
        (scalar.region_axis, [1.3, 40.7, 0.0625, 0.5, 7, True]),
        (scalar.crop_axis, [0.3, 0.7, 14, 100]),
        (scalar.crop_taps, [3.3, 1.7, 3, 100]),
        (scalar.pool_bin, [1.3, 40.7, 2, 7, 30, True]),
        (scalar.pixel_weight, [1.3, 4.7, 9, 30, 3]),
    ],
)
def test_compiled_code_computes_the_same(function, arguments):
    arguments = [np.float32(a) if isinstance(a, float) else a for a in arguments]
    found, wanted = njit(lambda *args: function(*args))(*arguments), function(*arguments)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("beta", [0, 1 / 9, 1])
def test_smooth_l1_is_that_of_the_reference(beta):
    d, beta = np.array([-3, -0.5, -0.05, 0, 0.05, 0.5, 3], np.float32), np.float32(beta)
    loss, cache = losses.smooth_l1.reference(d, np.zeros_like(d), beta=float(beta))
    slope = losses.smooth_l1_backward.reference(np.ones_like(d), cache)
    np.testing.assert_allclose([scalar.smooth_l1(x, beta) for x in d], loss, rtol=1e-6)
    np.testing.assert_allclose([scalar.smooth_l1_slope(x, beta) for x in d], slope, rtol=1e-6)
    assert math.isnan(scalar.smooth_l1_slope(np.float32(np.nan), beta))


def test_statistics_of_two_parts_are_those_of_the_whole():
    values = np.array([1, 5, 2, 8, 3, 3, 7], np.float32)
    count, mean, square = scalar.ZERO, scalar.ZERO, scalar.ZERO
    for part in (values[:4], values[:0], values[4:]):
        more = np.float32(len(part))
        share, d = scalar.join_count(count, more), (part.mean() if len(part) else scalar.ZERO) - mean
        other = np.float32(((part - part.mean()) ** 2).sum()) if len(part) else scalar.ZERO
        square = scalar.join_squares(square, other, d, count, share)
        mean, count = scalar.join_means(mean, d, share), count + more
    assert count == len(values)
    np.testing.assert_allclose([mean, square / count], [values.mean(), values.var()], rtol=1e-6)


@pytest.mark.parametrize("before, after", [(5, 12), (12, 5), (1, 4), (7, 7)])
def test_resized_cells_are_those_of_the_reference(before, after):
    """On a ramp, whose value is the place."""
    ramp = np.arange(before, dtype=np.float32)[None, :, None]
    expected = resize.resize_bilinear.reference(ramp, (1, after))[0][0, :, 0]
    taps = [scalar.resize_taps(i, np.float32(before / after), before) for i in range(after)]
    assert all(0 <= low <= high < before for low, high, _ in taps)
    np.testing.assert_allclose([low + (high - low) * share for low, high, share in taps], expected, atol=1e-5)


def test_a_region_on_one_axis():
    low, high, scale = np.float32(8), np.float32(10), np.float32(1 / 16)
    assert scalar.region_axis(low, high, scale, scalar.HALF, 2, True) == (0, 1 / 16)
    assert scalar.region_axis(low, high, scale, scalar.ZERO, 2, False) == (0.5, 0.5)  # a side of at least one cell
    found = [scalar.samples_per_bin(np.float32(side), 0) for side in (-1, 0, np.nan, 0.1, 1, 1.5, 7)]
    assert found == [0, 0, 0, 1, 1, 2, 7] and scalar.samples_per_bin(np.float32(9), 2) == 2
