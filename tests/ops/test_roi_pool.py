import tracemalloc

import naive_roi
import numpy as np
import pytest
from gradcheck import check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_np.ops.roi_pool import roi_pool, roi_pool_backward

ZERO = np.zeros(1, int)


def random_rois(rng, n, extent):
    """Boxes that reach over every side of an image of this extent."""
    corner = rng.uniform(-0.3 * extent, extent, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(0, 0.9 * extent, (n, 2))], axis=1)


def pool(features, rois, **options):
    """Pool a (H, W) map, without the axes of one."""
    return roi_pool(np.asarray(features)[None, :, :, None], np.array(rois, float), np.zeros(len(rois), int), **options)


# --- by hand ---


def test_the_two_splits_of_five_rows():
    column = np.arange(5.0)[:, None]
    # Inclusive corners 0 and 4: five rows, in halves of 2.5: rows 0..2 and 2..4 share row 2.
    y, cache = pool(-column, [[0, 0, 4, 0]], output_size=(2, 1), spatial_scale=1.0, split="caffe")
    assert y.ravel().tolist() == [0, -2] and cache.winner.ravel().tolist() == [0, 2]
    y, _ = pool(column, [[0, 0, 4, 0]], output_size=(2, 1), spatial_scale=1.0, split="caffe")
    assert y.ravel().tolist() == [2, 4]
    # Half-open 0..5: rows 0, 1 and rows 2, 3, 4.
    y, _ = pool(column, [[0, 0, 5, 1]], output_size=(2, 1), spatial_scale=1.0, split="disjoint")
    assert y.ravel().tolist() == [1, 4]
    y, _ = pool(-column, [[0, 0, 5, 1]], output_size=(2, 1), spatial_scale=1.0, split="disjoint")
    assert y.ravel().tolist() == [0, -2]


def test_corners_are_rounded_or_floored():
    row = np.arange(8.0)[None]
    boxes = [[0, 1.5, 0, 3.4], [0, 2.5, 0, 3.5]]  # halves away from zero: 2..3 and 3..4
    y, _ = pool(-row, boxes, output_size=1, spatial_scale=1.0)
    assert y.ravel().tolist() == [-2, -3]
    y, _ = pool(row, boxes, output_size=1, spatial_scale=1.0)
    assert y.ravel().tolist() == [3, 4]
    y, _ = pool(row, [[0, 1.9, 1, 3.9]], output_size=1, spatial_scale=1.0, split="disjoint")
    assert y.item() == 2  # cells 1 and 2


def test_bins_without_cells_are_zero_and_get_no_gradient():
    features = np.full((3, 3), -5.0)
    y, cache = pool(features, [[0, 0, 1, 1], [10, 10, 20, 20]], output_size=2, spatial_scale=1.0, split="disjoint")
    # One cell for four bins: floor gives it to the last.
    assert y[0, :, :, 0].tolist() == [[0, 0], [0, -5]] and not y[1].any()
    gradient = roi_pool_backward(np.ones_like(y), cache)[0, :, :, 0]
    assert gradient.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    y, _ = pool(features, [[10, 10, 20, 20]], output_size=2, spatial_scale=1.0, split="caffe")
    assert not y.any()


def test_the_first_of_equal_cells_gets_the_gradient():
    y, cache = pool(np.ones((4, 4)), [[1, 1, 2, 2]], output_size=1, spatial_scale=1.0)
    expected = np.zeros((4, 4))
    expected[1, 1] = 7
    np.testing.assert_array_equal(roi_pool_backward(np.full_like(y, 7), cache)[0, :, :, 0], expected)


def test_a_shared_row_collects_both_gradients():
    y, cache = pool(np.array([[0.0], [0], [9], [0], [0]]), [[0, 0, 4, 0]], output_size=(2, 1), spatial_scale=1.0)
    gradient = roi_pool_backward(np.array([2.0, 3]).reshape(y.shape), cache)
    assert gradient.ravel().tolist() == [0, 0, 5, 0, 0]


# --- loop oracle, gradients ---


@pytest.mark.parametrize("split", ["caffe", "disjoint"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7)])
def test_matches_the_loop(split, size):
    rng = np.random.default_rng(0)
    features = rng.integers(-4, 4, (2, 11, 9, 2)).astype(float)  # with ties
    rois, index = random_rois(rng, 25, 44), rng.integers(0, 2, 25)
    rois[:5] = np.round(rois[:5] / 2) * 2  # halves to be rounded
    y, cache = roi_pool(features, rois, index, output_size=size, spatial_scale=0.25, split=split)
    expected, winner = naive_roi.roi_pool(features, rois, index, size, 0.25, split)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(cache.winner, winner)


@pytest.mark.parametrize("split", ["caffe", "disjoint"])
def test_gradients(split):
    rng = np.random.default_rng(1)
    rois, index = random_rois(rng, 12, 40), rng.integers(0, 2, 12)

    def f(features):
        y, cache = roi_pool(features, rois, index, output_size=3, spatial_scale=0.25, split=split)
        return y, lambda dy: roi_pool_backward(dy, cache)

    # Distinct values 1e-3 apart: no step changes a winner.
    features = rng.permutation(2 * 10 * 10 * 3).reshape(2, 10, 10, 3) * 1e-3
    check_gradients(f, features, rng=rng)


@pytest.mark.parametrize("split", ["caffe", "disjoint"])
def test_blocks_do_not_change_the_result(split, monkeypatch):
    rng = np.random.default_rng(2)
    features, rois, index = rng.normal(size=(2, 12, 12, 3)), random_rois(rng, 30, 48), rng.integers(0, 2, 30)
    y, cache = roi_pool(features, rois, index, output_size=3, spatial_scale=0.25, split=split)
    dy = rng.normal(size=y.shape)
    dx = roi_pool_backward(dy, cache)
    monkeypatch.setattr("mrcnn_np.ops.roi_pool.BLOCK_BYTES", 1)
    y_blocks, cache = roi_pool(features, rois, index, output_size=3, spatial_scale=0.25, split=split)
    np.testing.assert_array_equal(y_blocks, y)
    np.testing.assert_array_equal(roi_pool_backward(dy, cache), dx)


# --- properties ---


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from(["caffe", "disjoint"]))
def test_the_largest_bin_is_the_largest_cell_of_the_box(seed, bins, split):
    """Nothing in the box is lost, whatever the split: disjoint bins part it, the real kernel's cover it."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(12, 12))
    y1, x1 = rng.integers(0, 5, 2)
    height, width = rng.integers(bins, 8, 2)
    last = 1 if split == "caffe" else 0
    y, _ = pool(
        features, [[y1, x1, y1 + height - last, x1 + width - last]], output_size=bins, spatial_scale=1.0, split=split
    )
    assert y.max() == features[y1 : y1 + height, x1 : x1 + width].max()


# --- dtype, empty, layout, errors, cost ---


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype(dtype):
    rng = np.random.default_rng(3)
    features, rois = rng.normal(size=(1, 8, 8, 2)).astype(dtype), random_rois(rng, 5, 32)
    y, cache = roi_pool(features, rois, np.zeros(5, int), output_size=2, spatial_scale=0.25)
    assert y.dtype == roi_pool_backward(y, cache).dtype == dtype


@pytest.mark.parametrize("split", ["caffe", "disjoint"])
def test_empty_and_one_pixel(split):
    features = np.full((2, 1, 1, 3), 4.0)
    y, cache = roi_pool(features, np.zeros((0, 4)), np.zeros(0, int), output_size=7, spatial_scale=1.0, split=split)
    assert y.shape == (0, 7, 7, 3)
    np.testing.assert_array_equal(roi_pool_backward(y, cache), np.zeros_like(features))
    y, cache = roi_pool(features, np.array([[0.0, 0, 1, 1]]), ZERO, output_size=1, spatial_scale=1.0, split=split)
    assert (y == 4).all()
    assert roi_pool_backward(y, cache)[:, 0, 0].tolist() == [[4, 4, 4], [0, 0, 0]]


def test_strided_input():
    rng = np.random.default_rng(4)
    features, rois = rng.normal(size=(2, 3, 8, 8)).transpose(0, 2, 3, 1), random_rois(rng, 8, 32)
    index = rng.integers(0, 2, 8)
    y, cache = roi_pool(features, np.asfortranarray(rois), index, output_size=3, spatial_scale=0.25)
    expected, _ = roi_pool(np.ascontiguousarray(features), rois, index, output_size=3, spatial_scale=0.25)
    np.testing.assert_array_equal(y, expected)
    dy = rng.normal(size=y.shape)
    np.testing.assert_array_equal(roi_pool_backward(np.asfortranarray(dy), cache), roi_pool_backward(dy, cache))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((4, 4, 1))}, "features has shape"),
        ({"rois": np.array([[0, 0, np.nan, 1]])}, "roi 0 is"),
        ({"batch_index": np.array([-1])}, "batch_index of roi 0 is -1"),
        ({"split": "even"}, "split is 'even'"),
    ],
)
def test_errors(change, message):
    arguments = {
        "features": np.zeros((1, 4, 4, 1)), "rois": np.zeros((1, 4)), "batch_index": ZERO, "output_size": 2,
        "spatial_scale": 1.0, **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        roi_pool(**arguments)


def test_temporaries_stay_small():
    rng = np.random.default_rng(5)
    features, rois = rng.normal(size=(1, 32, 32, 128)).astype(np.float32), random_rois(rng, 100, 100)
    tracemalloc.start()
    y, cache = roi_pool(features, rois, np.zeros(100, int), output_size=7, spatial_scale=0.25)
    forward = tracemalloc.get_traced_memory()[1] - 2 * y.nbytes  # pooled and winner
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    roi_pool_backward(y, cache)
    backward = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    # Measured 26 and 16 MB.
    assert max(forward, backward) < 48 * 2**20
