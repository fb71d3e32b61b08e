"""Operations on regions in the simulator against their NumPy bodies: odd sizes, no region, one pixel, ties."""

import numpy as np
import pytest
from cuda_cases import boxes_of, check, device_tree, same_in_any_order

from kernels.cuda import crop_and_resize as cuda_crop
from kernels.cuda import roi_align as cuda_align
from kernels.cuda import roi_pool as cuda_pool
from kernels.cuda.machine.device import to_device
from mrcnn_np.ops.crop_and_resize import crop_and_resize, crop_and_resize_backward
from mrcnn_np.ops.roi_align import roi_align, roi_align_backward
from mrcnn_np.ops.roi_pool import roi_pool, roi_pool_backward

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered")  # NaN and infinity are among the cases
MAPS = [(2, 5, 7, 5), (1, 1, 1, 1), (3, 4, 3, 3)]


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_roi_align(shape, sampling_ratio, reduce):
    rng = np.random.default_rng(sampling_ratio)
    for count, size, aligned in ((5, (3, 2), True), (2, (1, 3), False), (0, 2, True)):
        args = draw(rng, *shape), boxes_of(rng, count, 2.0 * max(shape[1:3])), rng.integers(0, shape[0], count)
        options = {
            "output_size": size, "spatial_scale": 0.5, "sampling_ratio": sampling_ratio, "aligned": aligned,
            "reduce": reduce,
        }  # fmt: skip
        wanted, its = roi_align.reference(*args, **options)
        found, cache = cuda_align.roi_align(*device_tree(args), **options)
        check(found, wanted)
        dy, there = draw(rng, *wanted.shape), draw(rng, *shape)
        # Two samples may tie but for rounding: hold the gradients to one and the same winner
        wanted = roi_align_backward.reference(dy, its)
        its = device_tree(its)
        assert type(cache) is type(its) and (cache.winner is None) == (its.winner is None)
        if reduce == "max":
            assert cache.winner.dtype.kind == "u" and cache.winner.shape == its.winner.shape
            if sampling_ratio:
                assert cache.winner.dtype == its.winner.dtype
            assert (cache.winner.get() != its.winner.get()).sum() <= 1
        check(cuda_align.roi_align_backward(to_device(dy), its), wanted)
        into = to_device(there)
        assert cuda_align.roi_align_backward(to_device(dy), its, into=into) is into
        check(into, wanted + there)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["roi_align", "crop_and_resize"])
def test_what_is_not_finite_reaches_only_pixels_that_its_bin_touches(name, value):
    """Columns of a tile that lie beside the bin have a weight of 0, and 0 times NaN would be NaN."""
    shape, rois = (1, 5, 6, 3), np.array([[0, 0, 2, 5], [1, 1, 4, 4]], np.float32)
    args = np.zeros(shape, np.float32), rois, np.zeros(2, np.int64)
    if name == "roi_align":
        how = {"output_size": (2, 3), "spatial_scale": 1.0}
        (_, cache), backward = cuda_align.roi_align(*device_tree(args), **how), cuda_align.roi_align_backward
    else:
        args = args[0], rois / np.float32(8), args[2]
        crops = cuda_crop.crop_and_resize(*device_tree(args), output_size=(2, 3))
        (_, cache), backward = crops, cuda_crop.crop_and_resize_backward
    for r, p, q, c in np.ndindex(2, 2, 3, 3):
        one = np.zeros((2, 2, 3, 3), np.float32)
        one[r, p, q, c] = 1
        touched = backward(to_device(one), cache).get() != 0
        assert not touched.all()
        dy = draw(np.random.default_rng(0), 2, 2, 3, 3)
        dy[r, p, q, c] = value
        np.testing.assert_array_equal(~np.isfinite(backward(to_device(dy), cache).get()), touched)


def test_roi_align_reads_only_samples_on_the_map():
    """A RoI far larger than the map: most of its samples lie outside, and both sides skip them."""
    rng = np.random.default_rng(3)
    rois = np.array([[-400, -300, 500, 400], [2, -90, 3, 200], [1, 1, 1, 4], [3, 3, 2, 1]], np.float32)
    args = draw(rng, 1, 4, 5, 3), rois, np.zeros(4, np.int64)
    for reduce in ("mean", "max"):
        options = {"output_size": (3, 2), "spatial_scale": 1.0, "sampling_ratio": 0, "reduce": reduce}
        wanted, its = roi_align.reference(*args, **options)
        check(cuda_align.roi_align(*device_tree(args), **options)[0], wanted)
        dy = draw(rng, *wanted.shape)
        found = cuda_align.roi_align_backward(to_device(dy), device_tree(its))
        check(found, roi_align_backward.reference(dy, its))


def test_a_region_that_cannot_be_read_is_nan_and_has_no_gradient():
    rng = np.random.default_rng(4)
    rois = np.array([[0, 0, 2, 2], [0, np.nan, 2, 2], [0, 0, np.inf, 2], [1, 1, 3, 3], [0, 0, 2, 2]], np.float32)
    maps, good = np.array([0, 0, 0, 2, -1]), np.array([True, False, False, False, False])
    features, dy = draw(rng, 2, 4, 5, 3), draw(rng, 5, 2, 2, 3)
    align = cuda_align.roi_align, cuda_align.roi_align_backward, roi_align, roi_align_backward
    for forward, backward, wanted, gradient, how in (
        (*align, {"spatial_scale": 0.5}),
        (*align, {"spatial_scale": 0.5, "reduce": "max"}),
        (cuda_pool.roi_pool, cuda_pool.roi_pool_backward, roi_pool, roi_pool_backward, {"spatial_scale": 0.5}),
        (cuda_crop.crop_and_resize, cuda_crop.crop_and_resize_backward, crop_and_resize, crop_and_resize_backward, {}),
    ):
        how = {"output_size": 2, **how}
        found, cache = forward(*device_tree((features, rois, maps)), **how)
        want, its = wanted.reference(features, rois[good], maps[good], **how)
        check(found[:1], want)
        assert np.isnan(found.get()[1:]).all()
        check(backward(to_device(dy), cache), gradient.reference(dy[good], its))


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("split", ["caffe", "disjoint"])
def test_roi_pool(shape, split):
    rng = np.random.default_rng(1)
    for count, size in ((5, (3, 2)), (2, (1, 3)), (0, 2)):
        rois, index = boxes_of(rng, count, 2.0 * max(shape[1:3])), rng.integers(0, shape[0], count)
        args = np.round(draw(rng, *shape)), rois, index  # with ties
        options = {"output_size": size, "spatial_scale": 0.5, "split": split}
        wanted, its = roi_pool.reference(*args, **options)
        found, cache = cuda_pool.roi_pool(*device_tree(args), **options)
        check(found, wanted, 0)
        check(cache.winner, its.winner, 0)
        dy = draw(rng, *wanted.shape)
        check(cuda_pool.roi_pool_backward(to_device(dy), device_tree(its)), roi_pool_backward.reference(dy, its))


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("size", [(3, 2), 1, (1, 5)])
def test_crop_and_resize(shape, size):
    rng = np.random.default_rng(2)
    for count in (4, 0):
        boxes, index = boxes_of(rng, count, 1.0), rng.integers(0, shape[0], count)
        boxes = boxes[:, [2, 1, 0, 3]]  # upside down
        args, options = (draw(rng, *shape), boxes, index), {"output_size": size, "extrapolation_value": -3.0}
        wanted, its = crop_and_resize.reference(*args, **options)
        check(cuda_crop.crop_and_resize(*device_tree(args), **options)[0], wanted)
        dy, into = draw(rng, *wanted.shape), to_device(np.ones(shape, np.float32))
        exact = crop_and_resize_backward.reference(dy, its)
        check(cuda_crop.crop_and_resize_backward(to_device(dy), device_tree(its)), exact)
        assert cuda_crop.crop_and_resize_backward(to_device(dy), device_tree(its), into=into) is into
        check(into, exact + 1)


def test_gradients_do_not_depend_on_the_order_of_threads():
    """More regions than a block looks at together, all on the same pixels, and more bins than one table holds."""
    rng = np.random.default_rng(5)
    shape, count = (1, 3, 3, 3), 9
    args = draw(rng, *shape), boxes_of(rng, count, 6), np.zeros(count, np.int64)
    options = {"output_size": 3, "spatial_scale": 0.5}
    dy = draw(rng, count, 3, 3, 3)
    for forward, backward, reference, gradient, how in (
        (cuda_align.roi_align, cuda_align.roi_align_backward, roi_align, roi_align_backward, {"reduce": "mean"}),
        (cuda_align.roi_align, cuda_align.roi_align_backward, roi_align, roi_align_backward, {"reduce": "max"}),
        (cuda_pool.roi_pool, cuda_pool.roi_pool_backward, roi_pool, roi_pool_backward, {}),
    ):

        def both(forward=forward, backward=backward, how=how):
            pooled, cache = forward(*device_tree(args), **options, **how)
            return pooled, backward(to_device(dy), cache)

        _, its = reference.reference(*args, **options, **how)
        check(both()[1], gradient.reference(dy, its))
        same_in_any_order(both)


def test_what_the_kernels_leave_to_the_reference():
    features, rois, index = np.zeros((2, 4, 4, 3), np.float32), np.zeros((2, 4), np.float32), np.array([0, 1])
    for change in (
        {"features": features.astype(np.float64)},
        {"rois": rois[:, :3]},
        {"batch_index": index[:1]},
        {"output_size": 0},
        {"sampling_ratio": -1},
        {"reduce": "median"},
    ):
        arguments = {
            "features": features, "rois": rois, "batch_index": index, "output_size": 2, "spatial_scale": 1.0
        } | change  # fmt: skip
        moved = {k: to_device(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
        assert cuda_align.roi_align(**moved) is NotImplemented
    assert (
        cuda_align.roi_align(features, rois, index, output_size=2, spatial_scale=1.0) is NotImplemented
    )  # on the host
