"""Boxes, suppression, targets and pasting in the simulator: the bits of the NumPy bodies, or of the CPU's kernels."""

import numpy as np
import pytest
from cuda_cases import boxes_of, check, device_tree, same_in_any_order

from kernels import use
from kernels.cpu import detections as cpu_detections
from kernels.cuda import boxes as cuda_boxes
from kernels.cuda import detections as cuda_detections
from kernels.cuda import nms as cuda_nms
from kernels.cuda import targets as cuda_targets
from kernels.cuda.machine.device import COPIES, to_device
from mrcnn_np.boxes import decode_boxes, iou
from mrcnn_np.detections import paste_into_boxes
from mrcnn_np.nms import batched_nms, nms
from mrcnn_np.targets import crop_masks, label_anchors

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered")  # NaN and infinity are among the cases


@pytest.fixture(autouse=True)
def bodies_call_bodies():
    with use("numpy"):
        yield


@pytest.mark.parametrize("counts", [(1, 1), (9, 7), (0, 5), (5, 0)])
def test_iou_has_the_bits_of_the_reference(counts):
    rng = np.random.default_rng(3)
    a, b = (boxes_of(rng, count, 40) for count in counts)
    a[:1, 2], b[1:2, 0] = np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        check(cuda_boxes.iou(*device_tree((a, b))), iou.reference(a, b), 0)
    assert cuda_boxes.iou(*device_tree((a.astype(np.float64), b))) is NotImplemented


@pytest.mark.parametrize("limit", [None, 1.5])
def test_decode(limit):
    rng = np.random.default_rng(4)
    anchors, options = boxes_of(rng, 7, 40), {"std": (0.1, 0.1, 2.0, 2.0), "max_log_scale": limit}
    for shape in ((7, 4), (3, 7, 4), (0, 7, 4)):
        deltas = rng.standard_normal(shape).astype(np.float32)
        found = cuda_boxes.decode_boxes(*device_tree((deltas, anchors)), **options)
        check(found, decode_boxes.reference(deltas, anchors, **options))


# --- suppression ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 4, 5, 23])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_nms_keeps_the_same_boxes(count, threshold):
    rng = np.random.default_rng(count)
    boxes = boxes_of(rng, count, 20)
    scores = rng.integers(-3, 4, count).astype(np.float32)  # with ties, and both zeros
    scores[::5] *= -1
    if count > 8:
        boxes[1, 2], boxes[2, 0], scores[3], scores[6] = np.nan, -np.inf, np.inf, -np.inf
    groups = rng.integers(-1, 2, count)
    COPIES.reset()
    found = cuda_nms.nms(*device_tree((boxes, scores)), threshold)
    assert COPIES.to_host == (count > 0)
    check(found, nms.reference(boxes, scores, threshold), 0)
    found = cuda_nms.batched_nms(*device_tree((boxes, scores, groups)), threshold)
    check(found, batched_nms.reference(boxes, scores, groups, threshold), 0)


def test_an_overlap_equal_to_the_threshold_does_not_suppress():
    boxes, scores = device_tree((np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32), np.array([1, 0], np.float32)))
    assert cuda_nms.nms(boxes, scores, 0.5).get().tolist() == [0, 1]
    assert cuda_nms.nms(boxes, scores, 0.499).get().tolist() == [0]


def test_a_score_that_is_nan_is_named():
    boxes, scores = np.zeros((3, 4), np.float32), np.array([1, np.nan, -np.nan], np.float32)
    with pytest.raises(ValueError, match=r"score 1 is NaN"):
        cuda_nms.nms(*device_tree((boxes, scores)), 0.5)
    assert cuda_nms.nms(*device_tree((boxes, scores[:2])), 0.5) is NotImplemented
    assert cuda_nms.nms(*device_tree((boxes.astype(np.float64), scores)), 0.5) is NotImplemented


def test_suppression_does_not_depend_on_the_order_of_threads():
    rng = np.random.default_rng(0)
    args = device_tree((boxes_of(rng, 22, 20), rng.random(22).astype(np.float32), rng.integers(0, 2, 22)))
    same_in_any_order(lambda: [cuda_nms.batched_nms(*args, 0.3)])


# --- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(1, 1), (19, 5), (7, 0), (0, 3)])
@pytest.mark.parametrize(("match_best", "tie"), [(False, 1e-6), (True, 1e-6), (True, 0.0)])
def test_label_anchors_has_the_bits_of_the_reference(counts, match_best, tie):
    rng = np.random.default_rng(6)
    anchors, objects = (boxes_of(rng, count, 40) for count in counts)
    if min(counts) > 2:
        anchors[:2, 2], anchors[-1] = np.nan, np.inf
        objects[1], objects[2] = [900, 900, 910, 910], [3, 3, 3, 9]  # touched by no anchor; without area
    options = {"negative_iou": 0.3, "positive_iou": 0.7, "match_best": match_best, "tie": tie}
    if counts[0] == 0:
        wanted = np.zeros(0, np.int8), np.zeros(0, np.int64)
    else:
        with np.errstate(invalid="ignore"):
            wanted = label_anchors.reference(anchors, objects, **options)
    args = device_tree((anchors, objects))
    for mine, its in zip(cuda_targets.label_anchors(*args, **options), wanted):
        check(mine, its, 0)
    if counts == (19, 5) and match_best:
        same_in_any_order(lambda: cuda_targets.label_anchors(*args, **options))


@pytest.mark.parametrize("aligned", [False, True])
def test_crop_masks(aligned):
    rng = np.random.default_rng(7)
    masks, rois, owner = rng.random((3, 9, 11)) > 0.5, boxes_of(rng, 5, 16), rng.integers(0, 3, 5)
    options = {"output_size": 5, "method": "roi_align", "aligned": aligned}
    check(cuda_targets.crop_masks(*device_tree((masks, owner, rois)), **options),
          crop_masks.reference(masks, owner, rois, **options), 4e-6)  # fmt: skip
    same_in_any_order(lambda: [cuda_targets.crop_masks(*device_tree((masks, owner, rois)), **options)])
    part = to_device(masks)[:, 1:8, 2:9]  # with gaps
    found = cuda_targets.crop_masks(part, owner, to_device(rois), **options)
    check(found, crop_masks.reference(masks[:, 1:8, 2:9], owner, rois, **options), 4e-6)
    assert cuda_targets.crop_masks(part, owner[:0], to_device(rois[:0]), **options).shape == (0, 5, 5)
    for change in ({"method": "crop_and_resize"}, {"rois": to_device(rois[:4])}, {"output_size": 0}):
        arguments = {"masks": part, "owner": owner, "rois": to_device(rois), **options} | change
        assert cuda_targets.crop_masks(**arguments) is NotImplemented


# --- pasting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["grid_sample", "resize", "plus_one", "resize_zero"])
def test_paste_has_the_bits_of_the_cpu(method, monkeypatch):
    for name in ("_paste", "_axis", "_smallest"):  # its text, not compiled
        function = getattr(cpu_detections, name)
        monkeypatch.setattr(cpu_detections, name, getattr(function, "py_func", function))
    rng = np.random.default_rng(5)
    how = {"method": method, "threshold": 0.5}
    for count, m, shape in ((4, 4, (9, 11)), (2, 1, (5, 4)), (2, 3, (1, 1)), (0, 3, (4, 4))):
        masks, boxes = rng.random((count, m, m)).astype(np.float32), boxes_of(rng, count, 10).astype(np.float64)
        boxes[:1] = [1, 1, 1.5, 1.25]  # smaller than a pixel
        wanted = cpu_detections.paste_into_boxes(masks, boxes, shape, **how) if count else np.zeros((0, *shape), bool)
        check(cuda_detections.paste_into_boxes(to_device(masks), boxes, shape, **how), wanted, 0)
        assert (wanted != paste_into_boxes.reference(masks, boxes, shape, **how)).sum() <= 1
    masks = np.full((2, 3, 3), 0.75, np.float32)
    masks[:, 1, 1], masks[1, 0, 0] = 0.5, np.nan
    boxes = np.array([[1, 1, 7, 7]] * 2, np.float32)
    wanted = cpu_detections.paste_into_boxes(masks, boxes, (8, 8), **how)
    check(cuda_detections.paste_into_boxes(*device_tree((masks, boxes)), (8, 8), **how), wanted, 0)
    same_in_any_order(lambda: [cuda_detections.paste_into_boxes(*device_tree((masks, boxes)), (8, 8), **how)])
    boxes[0, 2], boxes[1, 1] = np.nan, 1e30
    assert not cuda_detections.paste_into_boxes(*device_tree((masks, boxes)), (8, 8), **how).get().any()
