"""The compiled region operations, boxes, suppression and pasting against their NumPy bodies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import INTERPRETED, check_pair, draw, error, scattered, threads, to_float64

from kernels.cpu import boxes as fast_boxes
from kernels.cpu import crop_and_resize as fast_crop
from kernels.cpu import detections as fast_detections
from kernels.cpu import nms as fast_nms
from kernels.cpu import roi_align as fast_align
from kernels.cpu import roi_pool as fast_pool
from kernels.cpu import targets as fast_targets
from mrcnn_np.boxes import decode_boxes, iou
from mrcnn_np.detections import paste_into_boxes
from mrcnn_np.nms import batched_nms, nms
from mrcnn_np.ops.crop_and_resize import crop_and_resize, crop_and_resize_backward
from mrcnn_np.ops.roi_align import roi_align, roi_align_backward
from mrcnn_np.ops.roi_pool import roi_pool, roi_pool_backward
from mrcnn_np.targets import crop_masks, label_anchors

PASTE = (fast_detections.paste_into_boxes, paste_into_boxes.reference)
ALIGN = (fast_align.roi_align, fast_align.roi_align_backward)
MAPS = [(2, 9, 13, 5), (1, 1, 1, 1), (3, 16, 8, 34), (1, 7, 20, 70)]


@pytest.fixture(autouse=True)
def no_size_is_too_small(monkeypatch):
    monkeypatch.setattr(fast_boxes, "SMALL", 0)
    monkeypatch.setattr(fast_targets, "SMALL", 0)


def draw_boxes(rng, count, span, largest=None):
    """Boxes on whole and half pixels: samples fall on edges and overlaps tie; some stick out, some are empty."""
    corner = rng.uniform(-0.2 * span, span, (count, 2))
    sides = rng.uniform(0, largest or span, (count, 2))
    return np.round(np.concatenate([corner, corner + sides], axis=1) * 2).astype(np.float32) / 2


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align(shape, sampling_ratio, aligned):
    rng = np.random.default_rng(sampling_ratio + 10 * aligned)
    for count, size in ((7, (3, 2)), (4, 7), (0, 7)):
        rois, index = draw_boxes(rng, count, 2.0 * max(shape[1:3])), rng.integers(0, shape[0], count)
        options = {"output_size": size, "spatial_scale": 0.5, "sampling_ratio": sampling_ratio, "aligned": aligned}
        check_pair(roi_align, roi_align_backward, ALIGN, (draw(rng, *shape), rois, index), options, rng)


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("sampling_ratio", [0, 2, 3])
@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align_of_the_largest_sample(shape, sampling_ratio, aligned):
    # Two samples may tie but for rounding, and then another one wins: hold the gradients to one and the same winner
    rng = np.random.default_rng(sampling_ratio + 10 * aligned)
    for count, size in ((7, (3, 2)), (0, 7)):
        args = draw(rng, *shape), draw_boxes(rng, count, 2.0 * max(shape[1:3])), rng.integers(0, shape[0], count)
        options = {
            "output_size": size, "spatial_scale": 0.5, "sampling_ratio": sampling_ratio, "aligned": aligned,
            "reduce": "max",
        }  # fmt: skip
        y, cache = fast_align.roi_align(*args, **options)
        want, its = roi_align.reference(*args, **options)
        assert error(y, want.astype(np.float64)) <= 1e-6  # measured: 2e-7
        assert (cache.winner != its.winner).mean() <= 0.01 if y.size else True
        dy = draw(rng, *y.shape)
        for c in (cache, its):
            exact = roi_align_backward.reference(dy, c).astype(np.float64)
            got = fast_align.roi_align_backward(dy, c)
            assert error(got, exact) <= 4e-6  # measured: 1e-6
            with threads(1):
                np.testing.assert_array_equal(got, fast_align.roi_align_backward(dy, c))


@pytest.mark.parametrize("reduce", ["mean", "max", "crop"])
def test_gradients_are_added_to_what_is_there(reduce):
    """With ``into`` both backends add in place; an array that a kernel cannot add to is left to the reference."""
    rng = np.random.default_rng(1)
    features, index = draw(rng, 2, 9, 13, 5), rng.integers(0, 2, 6)
    if reduce == "crop":
        boxes = (draw_boxes(rng, 6, 20) / 20).astype(np.float32)
        y, cache = crop_and_resize(features, boxes, index, output_size=3)
        backward, kernel = crop_and_resize_backward, fast_crop.crop_and_resize_backward
    else:
        options = {"output_size": 3, "spatial_scale": 0.5, "reduce": reduce, "sampling_ratio": 2}
        y, cache = roi_align(features, draw_boxes(rng, 6, 20), index, **options)
        backward, kernel = roi_align_backward, fast_align.roi_align_backward
    dy, there = draw(rng, *y.shape), draw(rng, *features.shape)
    wanted = there + backward.reference(dy, cache)
    for function in (backward.reference, kernel):
        into = there.copy()
        assert function(dy, cache, into=into) is into
        assert error(into, wanted.astype(np.float64)) <= 2e-6  # measured: 4e-7
    wide = np.zeros((2, 9, 13, 10), np.float32)
    assert kernel(dy, cache, into=wide[..., ::2]) is NotImplemented
    assert kernel(dy, cache, into=wide) is NotImplemented


@pytest.mark.parametrize("reduce", ["mean", "max", "crop"])
@pytest.mark.parametrize("aligned", [False, True])
def test_gradients_do_not_depend_on_how_maps_are_cut(reduce, aligned, monkeypatch):
    """A task owns a band of rows: of any height, each RoI gives all of its rows and none twice, in the same order."""
    rng = np.random.default_rng(3)
    features, index = draw(rng, 2, 43, 9, 5), rng.integers(0, 2, 30)
    rois = draw_boxes(rng, 30, 43.0) * [1, 9 / 43, 1, 9 / 43]
    rois[:3] = [[-90, 0, -60, 5], [-3, 0, 50, 9], [60, 0, 70, 9]]  # above the map, as high as it, below it
    if aligned:
        rois[3:8] = rois[3:8, [2, 1, 0, 3]]  # upside down, which only aligned ones may be: the others grow to a pixel
    rois = rois.astype(np.float32)
    if reduce == "crop":
        _, cache = fast_crop.crop_and_resize(features, (rois / 43).astype(np.float32), index, output_size=4)
        backward, reference = fast_crop.crop_and_resize_backward, crop_and_resize_backward.reference
    else:
        options = {"output_size": 4, "spatial_scale": 1.0, "sampling_ratio": 2, "aligned": aligned, "reduce": reduce}
        _, cache = fast_align.roi_align(features, rois, index, **options)
        backward, reference = fast_align.roi_align_backward, roi_align_backward.reference
    dy = draw(rng, 30, 4, 4, 5)
    found = []
    for least in (100, 8, 3, 1):  # one band for each map, some, and one for each row or nearly so
        monkeypatch.setattr(fast_align, "BAND", least)
        found.append(backward(dy, cache))
    assert error(found[0], reference(dy, cache).astype(np.float64)) <= 1e-6  # measured: 3e-7
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    with threads(1):
        np.testing.assert_array_equal(backward(dy, cache), found[0])


def test_roi_align_cache_is_that_of_the_reference():
    rng = np.random.default_rng(0)
    args = draw(rng, 2, 9, 13, 5), draw_boxes(rng, 6, 20), rng.integers(0, 2, 6)
    for reduce in ("mean", "max"):
        options = {"output_size": 3, "spatial_scale": 0.5, "reduce": reduce, "sampling_ratio": 0}
        mine, its = fast_align.roi_align(*args, **options)[1], roi_align.reference(*args, **options)[1]
        assert len(mine) == len(its)
        for a, b in zip(mine, its):
            assert type(a) is type(b)
            np.testing.assert_array_equal(a, b)
        if reduce == "max":
            assert mine[-1].dtype == its[-1].dtype


@pytest.mark.parametrize(
    "change",
    [
        {"rois": np.full((2, 4), np.nan, np.float32)},
        {"batch_index": np.array([0, 2])},
        {"batch_index": np.array([-1, 0])},
        {"output_size": 0},
        {"sampling_ratio": -1},
        {"reduce": "median"},
    ],
)
def test_refused_arguments_are_left_to_the_reference(change):
    arguments = {
        "features": np.zeros((2, 4, 4, 3), np.float32), "rois": np.zeros((2, 4), np.float32),
        "batch_index": np.array([0, 1]), "output_size": 2, "spatial_scale": 1.0,
    } | change  # fmt: skip
    assert fast_align.roi_align(**arguments) is NotImplemented
    with pytest.raises(ValueError):
        roi_align(**arguments)


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("split", ["caffe", "disjoint"])
def test_roi_pool(shape, split):
    rng = np.random.default_rng(1)
    kernels = (fast_pool.roi_pool, fast_pool.roi_pool_backward)
    for count, size in ((7, (3, 2)), (4, 7), (0, 7)):
        rois, index = draw_boxes(rng, count, 2.0 * max(shape[1:3])), rng.integers(0, shape[0], count)
        args = (np.round(draw(rng, *shape)), rois, index)
        options = {"output_size": size, "spatial_scale": 0.5, "split": split}
        check_pair(roi_pool, roi_pool_backward, kernels, args, options, rng)
        mine, its = fast_pool.roi_pool(*args, **options)[1][-1], roi_pool.reference(*args, **options)[1][-1]
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("size", [(3, 2), 1, (1, 5)])
def test_crop_and_resize(shape, size):
    rng = np.random.default_rng(2)
    kernels = (fast_crop.crop_and_resize, fast_crop.crop_and_resize_backward)
    for count in (7, 0):
        boxes, index = draw_boxes(rng, count, 1.0), rng.integers(0, shape[0], count)
        args, options = (draw(rng, *shape), boxes, index), {"output_size": size, "extrapolation_value": -3.0}
        check_pair(crop_and_resize, crop_and_resize_backward, kernels, args, options, rng)


# --- boxes and suppression: the same bits ---


@pytest.mark.filterwarnings("ignore:invalid value encountered in scalar divide")  # 0 / 0 is not above the threshold
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 50, 129, 400]), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_nms_keeps_the_same_boxes(seed, count, threshold):
    rng = np.random.default_rng(seed)
    boxes = draw_boxes(rng, count, 30)
    scores = rng.integers(0, 20, count).astype(np.float32)  # with ties
    groups = rng.integers(0, 4, count)
    for b in (boxes, scattered(boxes)):
        for mine, its in (
            (fast_nms.nms(b, scores, threshold), nms.reference(b, scores, threshold)),
            (fast_nms.batched_nms(b, scores, groups, threshold), batched_nms.reference(b, scores, groups, threshold)),
        ):
            np.testing.assert_array_equal(mine, its)
            assert mine.dtype == its.dtype


def test_an_overlap_equal_to_the_threshold_does_not_suppress():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)  # IoU 0.5
    scores = np.array([1, 0], np.float32)
    assert fast_nms.nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert fast_nms.nms(boxes, scores, 0.499).tolist() == [0]


def test_nms_declines():
    boxes, scores = np.zeros((2, 4), np.float32), np.array([0, np.nan], np.float32)
    assert fast_nms.nms(boxes, scores, 0.5) is NotImplemented
    assert fast_nms.nms(boxes.astype(np.float64), scores * 0, 0.5) is NotImplemented
    assert fast_nms.nms(boxes[:0], scores[:0], 0.5) is NotImplemented
    assert nms(boxes[:0], scores[:0], 0.5).shape == (0,)
    with pytest.raises(ValueError, match="NaN"):
        nms(boxes, scores, 0.5)


@pytest.mark.parametrize("counts", [(1, 1), (70, 33), (0, 5), (5, 0), (3000, 7)])
def test_iou_has_the_bits_of_the_reference(counts):
    rng = np.random.default_rng(3)
    a, b = (draw_boxes(rng, count, 40) for count in counts)
    a[:1, 2] = np.nan
    for x in (a, scattered(a)):
        np.testing.assert_array_equal(fast_boxes.iou(x, b), iou.reference(a, b))
    assert fast_boxes.iou(to_float64(a), b) is NotImplemented


@pytest.mark.parametrize("counts", [(1, 1), (70, 33), (4099, 3), (2048, 1), (150 if INTERPRETED else 5000, 130)])
@pytest.mark.parametrize(("match_best", "tie"), [(False, 1e-6), (True, 1e-6), (True, 0.0)])
def test_label_anchors_has_the_bits_of_the_reference(counts, match_best, tie):
    rng = np.random.default_rng(6)
    anchors, objects = (draw_boxes(rng, count, 40) for count in counts)
    if len(anchors) > 1:
        anchors[:2, 2], anchors[-1] = np.nan, np.inf
    if len(objects) > 2:
        objects[1], objects[2] = [900, 900, 910, 910], [3, 3, 3, 9]  # touched by no anchor; without area
    options = {"negative_iou": 0.3, "positive_iou": 0.7, "match_best": match_best, "tie": tie}
    with np.errstate(invalid="ignore"):
        wanted = label_anchors.reference(anchors, objects, **options)
    for args in ((anchors, objects), (scattered(anchors), scattered(objects))):
        for count in (1, 2):
            with threads(count):
                for mine, its in zip(fast_targets.label_anchors(*args, **options), wanted):
                    np.testing.assert_array_equal(mine, its)
                    assert mine.dtype == its.dtype
    assert fast_targets.label_anchors(to_float64(anchors), objects, **options) is NotImplemented
    assert fast_targets.label_anchors(anchors[:0], objects, **options) is NotImplemented


@pytest.mark.parametrize("aligned", [False, True])
def test_crop_masks(aligned):
    rng = np.random.default_rng(7)
    masks, rois = rng.random((3, 40, 53)) > 0.5, draw_boxes(rng, 30, 60)
    owner = rng.integers(0, 3, 30)
    options = {"output_size": 14, "method": "roi_align", "aligned": aligned}
    exact = crop_masks.reference(masks, owner, to_float64(rois), **options)
    found = fast_targets.crop_masks(masks, owner, rois, **options)
    assert found.dtype == np.float32
    body = crop_masks.reference(masks, owner, rois, **options)
    assert error(found, exact) <= 4 * error(body, exact) + 1e-6  # measured: both 6e-7
    for some in (scattered(masks), np.pad(masks, ((0, 0), (3, 2), (4, 1)))[:, 3:-2, 4:-1]):
        with threads(1):
            np.testing.assert_array_equal(fast_targets.crop_masks(some, owner, scattered(rois), **options), found)
    assert fast_targets.crop_masks(masks, owner[:0], rois[:0], **options).shape == (0, 14, 14)
    one = np.array([[True]])[None], np.array([0]), np.array([[0, 0, 1, 1]], np.float32)
    np.testing.assert_allclose(
        fast_targets.crop_masks(*one, **options), crop_masks.reference(*one, **options), atol=1e-6
    )
    for change in (
        {"masks": masks.astype(np.float32)},
        {"rois": to_float64(rois)},
        {"rois": rois * np.float32(np.nan)},
        {"owner": owner + 1},
        {"method": "crop_and_resize"},
    ):
        arguments = {"masks": masks, "owner": owner, "rois": rois, **options} | change
        assert fast_targets.crop_masks(**arguments) is NotImplemented


@pytest.mark.parametrize("limit", [None, 1.5])
def test_decode(limit):
    rng = np.random.default_rng(4)
    deltas, anchors = draw(rng, 500, 4), draw_boxes(rng, 500, 40)
    options = {"std": (0.1, 0.1, 2.0, 2.0), "max_log_scale": limit}
    exact = decode_boxes.reference(to_float64(deltas), to_float64(anchors), **options)
    assert error(fast_boxes.decode_boxes(deltas, anchors, **options), exact) <= 1e-6  # measured: 2e-7
    assert fast_boxes.decode_boxes(to_float64(deltas), anchors, **options) is NotImplemented
    assert fast_boxes.decode_boxes(deltas[:, None], anchors, **options) is NotImplemented


@pytest.mark.parametrize("method", ["grid_sample", "resize", "plus_one", "resize_zero"])
def test_paste(method):
    rng = np.random.default_rng(5)
    how = {"method": method, "threshold": 0.5}
    for m, shape in ((28, (50, 61)), (1, (20, 20)), (5, (1, 1))):
        masks, boxes = rng.random((40, m, m)).astype(np.float32), draw_boxes(rng, 40, 60)
        boxes[0] = [10, 10, 10.5, 10.25]  # smaller than a pixel: mask coordinates far outside
        mine, its = (f(masks, boxes, shape, **how) for f in PASTE)
        # across before down rounds otherwise: a value within 1e-6 of the threshold may fall on its other side
        assert (mine != its).sum() <= 1e-4 * its.size
        with threads(1):
            np.testing.assert_array_equal(mine, PASTE[0](scattered(masks), boxes, shape, **how))
    if method == "resize_zero":  # no pixel of the box falls below the mask's smallest value
        full = np.full((1, 5, 5), 0.75, np.float32)
        full[0, 2, 2], box = 0.5, np.array([[3, 4, 23, 24]], np.float32)
        for function in PASTE:
            assert function(full, box, (30, 30), **how)[0].sum() == 400
            full[0, 0, 0] = np.nan
            assert function(full, box, (30, 30), **how)[0].sum() == 0
            full[0, 0, 0] = 0.75
    assert PASTE[0](to_float64(masks), boxes, shape, **how) is NotImplemented
    assert paste_into_boxes(masks[:0], boxes[:0], shape, **how).shape == (0, *shape)
