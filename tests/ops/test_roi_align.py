import tracemalloc

import naive_roi
import numpy as np
import pytest
from gradcheck import adjoint_error, check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from mrcnn_np.ops import roi_align as roi_align_module
from mrcnn_np.ops.roi_align import bilinear_interpolate, roi_align, roi_align_backward


def random_rois(rng, n, extent, dtype=np.float64):
    """Boxes that reach over every side of an image of this extent."""
    corner = rng.uniform(-0.3 * extent, extent, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(0.01, 0.8 * extent, (n, 2))], axis=1).astype(dtype)


# --- by hand ---


def test_bilinear_by_hand():
    feature = np.array([[0.0, 1, 2], [10, 11, 12]])
    y, x = np.array([0.0, 0.5, 1.0, 0.25]), np.array([0.0, 0.5, 2.0, 1.5])
    np.testing.assert_array_equal(bilinear_interpolate(feature, y, x), [0, 5.5, 12, 4])
    np.testing.assert_array_equal(bilinear_interpolate(np.dstack([feature, -feature]), 0.5, 0.5), [5.5, -5.5])


def test_bilinear_border_rules():
    feature = np.array([[1.0, 2], [3, 4]])
    y = np.array([-1.01, -1, -0.5, 0, 1, 1.7, 2, 2.01])
    np.testing.assert_array_equal(bilinear_interpolate(feature, y, 0.0), [0, 1, 1, 1, 3, 3, 3, 0])
    np.testing.assert_array_equal(bilinear_interpolate(feature, 0.0, y), [0, 1, 1, 1, 2, 2, 2, 0])
    np.testing.assert_array_equal(bilinear_interpolate(feature, np.nan, 0.0), 0)


def test_ramp_by_hand():
    """Feature x = column + 0.5 is the pixel's centre: only the aligned operation reads the position of its bins."""
    ramp = np.broadcast_to(np.arange(16.0) + 0.5, (1, 16, 16))[..., None]
    roi = np.array([[2.0, 2, 10, 10]])
    for aligned, expected in ((True, [3, 5, 7, 9]), (False, [3.5, 5.5, 7.5, 9.5])):
        y, _ = roi_align(ramp, roi, np.zeros(1, int), output_size=4, spatial_scale=1.0, aligned=aligned)
        np.testing.assert_allclose(y[0, :, :, 0], np.tile(expected, (4, 1)))


def test_max_takes_interpolated_samples():
    """Samples at offsets .25 and .75 from the only pixel that is not 0: the maximum is interpolated, not the pixel."""
    features = np.zeros((1, 3, 3, 1))
    features[0, 1, 1, 0] = 16
    roi = np.array([[1.0, 1, 2, 2]])
    options = {"output_size": 1, "spatial_scale": 1.0, "aligned": False}
    top, _ = roi_align(features, roi, np.zeros(1, int), reduce="max", **options)
    mean, _ = roi_align(features, roi, np.zeros(1, int), reduce="mean", **options)
    assert top.item() == 16 * 0.75**2
    assert mean.item() == 16 * (0.75**2 + 2 * 0.75 * 0.25 + 0.25**2) / 4


def test_max_routes_the_gradient_to_the_first_of_equal_samples():
    y, cache = roi_align(
        np.ones((1, 4, 4, 1)), np.array([[0.5, 0.5, 2.5, 2.5]]), np.zeros(1, int), output_size=1, spatial_scale=1.0,
        aligned=False, reduce="max",
    )  # fmt: skip
    assert cache.winner.item() == 0
    # Its first sample lies at (1, 1).
    expected = np.zeros((4, 4))
    expected[1, 1] = 3
    np.testing.assert_array_equal(roi_align_backward(np.full(y.shape, 3.0), cache)[0, :, :, 0], expected)


def test_unaligned_rois_are_at_least_one_feature_pixel():
    ramp = np.arange(8.0)[None, None, :, None] * np.ones((1, 8, 1, 1))
    point = np.array([[16.0, 16, 16, 16]])
    options = {"output_size": 1, "spatial_scale": 1 / 8}
    assert roi_align(ramp, point, np.zeros(1, int), aligned=False, **options)[0].item() == 2.5
    assert roi_align(ramp, point, np.zeros(1, int), aligned=True, **options)[0].item() == 1.5
    # Adaptive and empty: no samples at all.
    assert roi_align(ramp, point, np.zeros(1, int), aligned=True, sampling_ratio=0, **options)[0].item() == 0


# --- loop oracle ---


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_matches_the_loop(aligned, sampling_ratio, reduce):
    rng = np.random.default_rng(sampling_ratio)
    features = rng.normal(size=(2, 7, 5, 2))
    rois, batch_index = random_rois(rng, 9, 28), rng.integers(0, 2, 9)
    rois[0] = [-4, -4, 0, 0]  # every sample outside or on the border
    rois[1] = [24, 16, 32, 24]
    rois[2] = [10, 10, 10, 10]
    y, _ = roi_align(
        features, rois, batch_index, output_size=(3, 2), spatial_scale=0.25, sampling_ratio=sampling_ratio,
        aligned=aligned, reduce=reduce,
    )  # fmt: skip
    expected = naive_roi.roi_align(features, rois, batch_index, (3, 2), 0.25, sampling_ratio, aligned, reduce)
    np.testing.assert_allclose(y, expected, atol=1e-14)


def test_bilinear_matches_the_loop():
    rng = np.random.default_rng(5)
    feature, y, x = rng.normal(size=(6, 4)), rng.uniform(-2, 7, 200), rng.uniform(-2, 5, 200)
    expected = [naive_roi.bilinear(feature.tolist(), p, q) for p, q in zip(y, x)]
    np.testing.assert_allclose(bilinear_interpolate(feature, y, x), expected, atol=1e-14)


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_blocks_do_not_change_the_result(reduce, monkeypatch):
    rng = np.random.default_rng(6)
    features, rois, batch_index = rng.normal(size=(2, 9, 9, 3)), random_rois(rng, 20, 36), rng.integers(0, 2, 20)
    options = {"output_size": 3, "spatial_scale": 0.25, "sampling_ratio": 0, "reduce": reduce}
    y, cache = roi_align(features, rois, batch_index, **options)
    dy = rng.normal(size=y.shape)
    dx = roi_align_backward(dy, cache)
    monkeypatch.setattr("mrcnn_np.ops.roi_align.BLOCK_BYTES", 1)  # one RoI per block
    y_blocks, cache = roi_align(features, rois, batch_index, **options)
    np.testing.assert_array_equal(y_blocks, y)
    np.testing.assert_allclose(roi_align_backward(dy, cache), dx, atol=1e-13)


# --- gradients ---


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_gradients(aligned, sampling_ratio, reduce):
    rng = np.random.default_rng(7)
    rois, batch_index = random_rois(rng, 6, 32), rng.integers(0, 2, 6)

    def f(features):
        y, cache = roi_align(
            features, rois, batch_index, output_size=(2, 3), spatial_scale=0.25, sampling_ratio=sampling_ratio,
            aligned=aligned, reduce=reduce,
        )  # fmt: skip
        return y, lambda dy: roi_align_backward(dy, cache)

    check_gradients(f, rng.normal(size=(2, 8, 8, 3)), rng=rng)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_the_mean_and_its_backward_are_adjoint(sampling_ratio):
    rng = np.random.default_rng(8)
    rois, batch_index = random_rois(rng, 15, 40), rng.integers(0, 2, 15)
    options = {"output_size": 7, "spatial_scale": 0.25, "sampling_ratio": sampling_ratio}
    _, cache = roi_align(np.zeros((2, 10, 9, 4)), rois, batch_index, **options)
    error = adjoint_error(
        lambda x: roi_align(x, rois, batch_index, **options)[0],
        lambda dy: roi_align_backward(dy, cache),
        (2, 10, 9, 4), (15, 7, 7, 4), rng,
    )  # fmt: skip
    assert error < 1e-15


# --- properties ---


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2]), st.booleans())
def test_a_constant_map_pools_to_the_constant(seed, sampling_ratio, aligned):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (4, 2))
    rois = np.concatenate([corner, corner + rng.uniform(0.5, 12, (4, 2))], axis=1)  # inside 32 x 32
    options = {"output_size": 3, "spatial_scale": 0.25, "sampling_ratio": sampling_ratio, "aligned": aligned}
    for reduce in ("mean", "max"):
        y, _ = roi_align(np.full((1, 8, 8, 1), 7.0), rois, np.zeros(4, int), reduce=reduce, **options)
        np.testing.assert_allclose(y, 7, rtol=1e-14)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-2, 2), st.integers(-2, 2))
def test_moves_with_the_map(seed, rows, columns):
    """Shift features and RoIs by whole cells: nothing changes, as long as nothing touches the border."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(1, 16, 16, 2))
    corner = rng.uniform(20, 30, (3, 2))
    rois = np.concatenate([corner, corner + rng.uniform(1, 12, (3, 2))], axis=1)
    y, _ = roi_align(features, rois, np.zeros(3, int), output_size=2, spatial_scale=0.25)
    shifted = np.roll(features, (rows, columns), axis=(1, 2))
    moved = rois + 4.0 * np.array([rows, columns, rows, columns])
    np.testing.assert_allclose(
        roi_align(shifted, moved, np.zeros(3, int), output_size=2, spatial_scale=0.25)[0], y, atol=1e-12
    )


# --- dtype, empty, layout, errors, cost ---


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("roi_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_dtype_is_that_of_the_features(dtype, roi_dtype, reduce):
    rng = np.random.default_rng(9)
    features, rois = rng.normal(size=(1, 8, 8, 2)).astype(dtype), random_rois(rng, 5, 32, roi_dtype)
    y, cache = roi_align(features, rois, np.zeros(5, int), output_size=2, spatial_scale=0.25, reduce=reduce)
    assert y.dtype == roi_align_backward(y, cache).dtype == dtype
    assert bilinear_interpolate(features[0], rois[:, 0], 1.5).dtype == dtype


@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_no_rois(reduce, sampling_ratio):
    features = np.ones((2, 4, 4, 3), np.float32)
    y, cache = roi_align(
        features, np.zeros((0, 4), np.float32), np.zeros(0, int), output_size=7, spatial_scale=0.25,
        sampling_ratio=sampling_ratio, reduce=reduce,
    )  # fmt: skip
    assert y.shape == (0, 7, 7, 3)
    np.testing.assert_array_equal(roi_align_backward(y, cache), np.zeros_like(features))


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_one_pixel_map(reduce):
    features = np.full((1, 1, 1, 2), 5.0)
    y, cache = roi_align(
        features, np.array([[0.0, 0, 64, 64]]), np.zeros(1, int), output_size=7, spatial_scale=1 / 64, reduce=reduce
    )
    np.testing.assert_array_equal(y, np.full((1, 7, 7, 2), 5.0))
    np.testing.assert_allclose(roi_align_backward(np.ones_like(y), cache), 49)


def test_strided_input():
    rng = np.random.default_rng(10)
    features, rois = rng.normal(size=(2, 3, 8, 8)), random_rois(rng, 8, 32)
    batch_index = rng.integers(0, 2, 8)
    nhwc = features.transpose(0, 2, 3, 1)
    wide = np.repeat(rois, 2, axis=1)[:, ::2]
    options = {"output_size": 3, "spatial_scale": 0.25}
    y, cache = roi_align(nhwc, wide, np.repeat(batch_index, 2)[::2], **options)
    y2, cache2 = roi_align(np.ascontiguousarray(nhwc), rois, batch_index, **options)
    np.testing.assert_array_equal(y, y2)
    dy = rng.normal(size=y.shape)
    strided = np.asfortranarray(dy)
    np.testing.assert_array_equal(roi_align_backward(strided, cache), roi_align_backward(dy, cache2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((4, 4, 1))}, "features has shape"),
        ({"features": np.zeros((1, 0, 4, 1))}, "at least one pixel"),
        ({"rois": np.zeros((2, 5))}, r"rois has shape \(2, 5\)"),
        ({"rois": np.array([[0, 0, 1, 1], [0, np.nan, 1, 1]])}, "roi 1 is .*nan.*; expected finite"),
        ({"batch_index": np.zeros(3, int)}, "batch_index has shape"),
        ({"batch_index": np.array([0, 1])}, "batch_index of roi 1 is 1; expected 0 to 0"),
        ({"output_size": 0}, "output_size is 0"),
        ({"output_size": (2, 2, 2)}, "output_size is"),
        ({"sampling_ratio": -1}, "sampling_ratio is -1"),
        ({"reduce": "median"}, "reduce is 'median'"),
    ],
)
def test_errors(change, message):
    arguments = {
        "features": np.zeros((1, 4, 4, 1)), "rois": np.zeros((2, 4)), "batch_index": np.zeros(2, int),
        "output_size": 2, "spatial_scale": 1.0, **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        roi_align(**arguments)


def test_bilinear_refuses_other_shapes():
    with pytest.raises(ValueError, match="feature has shape"):
        bilinear_interpolate(np.zeros((1, 2, 3, 4)), 0.0, 0.0)


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_temporaries_stay_small(reduce):
    """300 RoIs of 7 x 7 x 256: all samples at once would be 300 * 49 * 4 * 256 * 4 bytes = 57 MB, and twice that."""
    rng = np.random.default_rng(11)
    features, rois = np.zeros((1, 32, 32, 256), np.float32), random_rois(rng, 300, 100, np.float32)
    tracemalloc.start()
    y, cache = roi_align(features, rois, np.zeros(300, int), output_size=7, spatial_scale=0.25, reduce=reduce)
    forward = tracemalloc.get_traced_memory()[1] - y.nbytes
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    roi_align_backward(y, cache)
    backward = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    # Measured 3 and 7 MB (mean), 27 and 16 MB (max); the backward's include its result.
    assert max(forward, backward) < 48 * 2**20


# --- RoIs far larger than their bins --------------------------------------------------------------------------------

LARGE = np.array([[-60.0, -40, 120, 140], [2, -400, 9, 600], [-7.5, -2.25, 21, 40], [1, 1, 90, 4], [300, 0, 400, 9]])


@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("aligned", [True, False])
def test_many_samples_per_bin_equal_the_loop(reduce, aligned):
    rng = np.random.default_rng(8)
    features = rng.normal(size=(2, 6, 5, 2))
    features[0] -= 3  # nothing above 0: outside wins the maximum
    index = np.array([0, 1, 0, 1, 0])
    options = {"spatial_scale": 0.5, "sampling_ratio": 0, "aligned": aligned, "reduce": reduce}
    for backend in ("numpy", "cpu"):
        with kernels.use(backend):
            pooled, _ = roi_align(features, LARGE, index, output_size=(3, 2), **options)
        expected = naive_roi.roi_align(features, LARGE, index, (3, 2), 0.5, 0, aligned, reduce)
        np.testing.assert_allclose(pooled, expected, rtol=1e-12, atol=1e-12)
        with kernels.use(backend):
            pooled, _ = roi_align(features.astype(np.float32), LARGE, index, output_size=(3, 2), **options)
        np.testing.assert_allclose(pooled, expected, rtol=3e-5, atol=3e-5)  # measured 6e-6


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_many_samples_per_bin_gradients(reduce):
    rng = np.random.default_rng(9)
    features = rng.normal(size=(2, 6, 5, 2))
    index = np.array([0, 1, 0, 1, 0])

    def f(x):
        y, cache = roi_align(
            x, LARGE, index, output_size=(3, 2), spatial_scale=0.5, sampling_ratio=0, reduce=reduce
        )  # fmt: skip
        return y, lambda dy: roi_align_backward(dy, cache)

    check_gradients(f, features, rng=rng)


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_a_huge_roi_lists_only_samples_on_the_map(reduce, monkeypatch):
    """A RoI of a million pixels on a map of 8 x 8: no array grows with the RoI."""
    taps, largest = roi_align_module._axis_taps, 0

    def counted(coordinate, size):
        nonlocal largest
        largest = max(largest, coordinate.size)
        return taps(coordinate, size)

    monkeypatch.setattr(roi_align_module, "_axis_taps", counted)
    features = np.random.default_rng(0).normal(size=(1, 8, 8, 1))
    roi, one = np.array([[-4e5, -5e5, 6e5, 5e5]]), np.zeros(1, int)
    options = {"output_size": 7, "spatial_scale": 1.0, "sampling_ratio": 0, "reduce": reduce}
    with kernels.use("numpy"):
        pooled, cache = roi_align(features, roi, one, **options)
        roi_align_backward(np.ones_like(pooled), cache)
    assert 0 < largest < 40
    features = features.astype(np.float32)
    with kernels.use("cpu"):
        compiled, _ = roi_align(features, roi, one, **options)
    np.testing.assert_allclose(compiled, roi_align.reference(features, roi, one, **options)[0], atol=1e-6)
