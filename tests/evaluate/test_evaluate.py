"""Average precision: hand-made tables, loop oracles that share no code with the package, then properties."""

from __future__ import annotations

import json
import math

import naive_metrics
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import detections_of, fill, sample_of

from mrcnn_np.detections import Detections
from mrcnn_np.evaluate import (
    Evaluator,
    average_precision,
    evaluate_coco,
    evaluate_detections,
    mask_iou,
    match_detections,
    matterport_map,
)
from mrcnn_np.evaluate.coco import AREA_RANGES
from mrcnn_np.evaluate.matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, box_iou

NAMES = ("background", "cat", "dog", "cow")
METHODS = ("voc07", "voc10", "coco")
# Sums of fewer than 200 doubles in [0, 1] in another order: measured 4e-16.
EXACT = 1e-12


def random_scene(rng, *, images=5, shape=(40, 40), ties=False):
    """Objects, and detections that often lie near one of them."""
    samples, detections = [], []
    for i in range(images):
        corners = np.sort(rng.integers(0, shape[0] + 1, (int(rng.integers(0, 6)), 2, 2)), axis=1)
        gt = np.concatenate([corners[:, 0], np.maximum(corners[:, 1], corners[:, 0] + 1)], axis=1)
        classes = rng.integers(1, len(NAMES), len(gt))
        flags = rng.random((2, len(gt))) < 0.2
        boxes, ids = [], []
        for _ in range(int(rng.integers(0, 12))):
            if len(gt) and rng.random() < 0.8:
                g = int(rng.integers(len(gt)))
                boxes.append(gt[g] + rng.integers(-2, 3, 4))
                ids.append(classes[g])
            else:
                boxes.append(np.array([0, 0, *rng.integers(1, shape[0], 2)]))
                ids.append(rng.integers(1, len(NAMES)))
            boxes[-1] = np.clip(boxes[-1], 0, shape[0])
            boxes[-1][2:] = np.maximum(boxes[-1][2:], boxes[-1][:2])
        scores = rng.integers(0, 4, len(boxes)) / 4 if ties else rng.random(len(boxes))
        samples.append(sample_of(gt, classes, name=str(i), shape=shape, crowd=flags[0], difficult=flags[1]))
        detections.append(detections_of(boxes, scores, ids, shape=shape))
    return detections, samples


# --- average_precision: tables ---


@pytest.mark.parametrize("method", METHODS)
def test_average_precision_of_perfect_and_empty_rankings(method):
    assert average_precision(np.array([0.5, 1.0]), np.ones(2), method=method) == 1
    assert average_precision(np.zeros(0), np.zeros(0), method=method) == 0
    assert average_precision(np.zeros(2), np.zeros(2), method=method) == 0


def test_voc07_reads_three_of_ten_objects_as_recall_three_tenths():
    # 3/10 < 0.1 * 3 in doubles: with np.arange(0, 1.1, 0.1) this would be 3/11.
    assert average_precision(np.arange(1, 4) / 10, np.ones(3), method="voc07") == pytest.approx(4 / 11, abs=EXACT)


def test_average_precision_uses_the_envelope():
    # Wrong, right, right of 2: precision 0, 1/2, 2/3; from recall 0 on, 2/3 can be had.
    for method in METHODS:
        ap = average_precision(np.array([0, 0.5, 1]), np.array([0, 1 / 2, 2 / 3]), method=method)
        assert ap == pytest.approx(2 / 3, abs=EXACT)


@pytest.mark.parametrize(
    ("recall", "precision", "method", "message"),
    [
        ([0.5], [1.0, 1.0], "voc10", "the same"),
        ([0.5, 0.4], [1.0, 1.0], "voc10", "recall leaves"),
        ([math.nan], [1.0], "voc10", "recall leaves"),
        ([0.5], [1.0], "voc12", "voc07, voc10, coco"),
    ],
)
def test_average_precision_refuses(recall, precision, method, message):
    with pytest.raises(ValueError, match=message):
        average_precision(np.array(recall), np.array(precision), method=method)


# --- overlaps ---


def test_mask_iou_table():
    a = fill([(0, 0, 2, 2), (0, 0, 0, 0)], (4, 4))
    b = fill([(0, 0, 2, 2), (1, 0, 3, 2), (0, 0, 4, 4), (0, 0, 0, 0)], (4, 4))
    np.testing.assert_array_equal(mask_iou(a, b), [[1, 2 / 6, 4 / 16, 0], [0, 0, 0, 0]])
    crowd = np.array([False, False, True, True])
    np.testing.assert_array_equal(mask_iou(a, b, crowd=crowd), [[1, 2 / 6, 1, 0], [0, 0, 0, 0]])
    void = fill([(1, 0, 2, 4)], (4, 4))[0]  # row 1: half of the first mask of each
    np.testing.assert_array_equal(mask_iou(a, b, void=void), [[1, 0, 2 / 12, 0], [0, 0, 0, 0]])


def test_box_iou_table():
    a = np.array([[0, 0, 2, 2]], np.float32)
    b = np.array([[1, 0, 3, 2], [0, 0, 4, 4]], np.float32)
    np.testing.assert_allclose(box_iou(a, b), [[1 / 3, 1 / 4]], rtol=1e-15)
    np.testing.assert_allclose(box_iou(a, b, crowd=np.array([False, True])), [[1 / 3, 1]], rtol=1e-15)


def test_mask_iou_equals_counting_sets_of_pixels():
    rng = np.random.default_rng(0)
    shape = (300, 250)  # 75000 pixels: more than one block
    a, b, void = rng.random((3, *shape)) < 0.3, rng.random((2, *shape)) < 0.6, rng.random(shape) < 0.1
    expected = np.zeros((3, 2))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            left = {p for p in zip(*np.nonzero(one)) if not void[p]}
            right = {p for p in zip(*np.nonzero(other)) if not void[p]}
            expected[i, j] = len(left & right) / len(left | right)
    np.testing.assert_array_equal(mask_iou(a, b, void=void), expected)


def test_mask_iou_of_nothing_and_of_one_pixel():
    none, one = np.zeros((0, 5, 5), bool), np.ones((2, 5, 5), bool)
    assert mask_iou(none, one).shape == (0, 2)
    assert mask_iou(one, none, crowd=np.zeros(0, bool)).shape == (2, 0)
    np.testing.assert_array_equal(mask_iou(np.ones((1, 1, 1), bool), np.ones((1, 1, 1), bool)), [[1]])


@pytest.mark.parametrize(
    ("a", "b", "void", "message"),
    [
        (np.zeros((1, 2, 2)), np.zeros((1, 2, 2), bool), None, "float64"),
        (np.zeros((1, 2, 2), bool), np.zeros((1, 2, 3), bool), None, r"\(2, 3\)"),
        (np.zeros((2, 2), bool), np.zeros((1, 2, 2), bool), None, r"\(N, H, W\)"),
        (np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2), bool), np.zeros((3, 2), bool), "void"),
    ],
)
def test_mask_iou_refuses(a, b, void, message):
    with pytest.raises(ValueError, match=message):
        mask_iou(a, b, void=void)


# --- match_detections: tables ---


def outcomes(ious, rule, **flags):
    flags = {name: np.array(values, bool) for name, values in flags.items()}
    outcome, matched = match_detections(np.array(ious), iou_threshold=0.5, rule=rule, **flags)
    return outcome.tolist(), matched.tolist()


TP, FP, IG = TRUE_POSITIVE, FALSE_POSITIVE, IGNORED


@pytest.mark.parametrize("rule", ["voc", "coco"])
def test_a_second_detection_of_an_object_is_wrong(rule):
    assert outcomes([[0.6], [0.9]], rule) == ([TP, FP], [0, -1])


@pytest.mark.parametrize("rule", ["voc", "coco"])
def test_the_threshold_itself_is_enough(rule):
    assert outcomes([[0.5, 0.2], [0.2, 0.499]], rule) == ([TP, FP], [0, -1])


def test_voc_looks_only_at_the_best_object_coco_at_the_best_that_is_free():
    ious = [[0.9, 0.0], [0.8, 0.6]]
    assert outcomes(ious, "voc") == ([TP, FP], [0, -1])
    assert outcomes(ious, "coco") == ([TP, TP], [0, 1])


def test_equally_good_objects_first_in_voc_last_in_coco():
    assert outcomes([[0.7, 0.7]], "voc")[1] == [0]
    assert outcomes([[0.7, 0.7]], "coco")[1] == [1]


def test_difficult_objects_are_neither_right_nor_wrong():
    assert outcomes([[0.9], [0.8]], "voc", ignored=[True]) == ([IG, IG], [0, 0])
    # VOC: the difficult object is the best one; COCO: the ordinary object comes first, however good the other is
    assert outcomes([[0.9, 0.6]], "voc", ignored=[True, False]) == ([IG], [0])
    assert outcomes([[0.9, 0.6]], "coco", ignored=[True, False]) == ([TP], [1])
    # COCO: one ignored object absorbs one detection
    assert outcomes([[0.9], [0.8]], "coco", ignored=[True]) == ([IG, FP], [0, -1])


@pytest.mark.parametrize("rule", ["voc", "coco"])
def test_a_crowd_absorbs_any_number(rule):
    ious = [[1.0, 0.7], [1.0, 0.0], [1.0, 0.3], [0.4, 0.0]]
    assert outcomes(ious, rule, crowd=[True, False]) == ([TP, IG, IG, FP], [1, 0, 0, -1])


def test_a_duplicate_inside_a_crowd_is_wrong_in_voc_and_ignored_in_coco():
    ious = [[1.0, 0.9], [1.0, 0.8]]
    assert outcomes(ious, "voc", crowd=[True, False]) == ([TP, FP], [1, -1])
    assert outcomes(ious, "coco", crowd=[True, False]) == ([TP, IG], [1, 0])


@pytest.mark.parametrize("rule", ["voc", "coco"])
def test_matching_with_nothing_on_one_side(rule):
    for shape in [(0, 0), (0, 3), (3, 0)]:
        outcome, matched = match_detections(np.zeros(shape), iou_threshold=0.5, rule=rule)
        assert outcome.tolist() == [FP] * shape[0]
        assert matched.tolist() == [-1] * shape[0]


def test_matching_refuses_unknown_rules_and_wrong_flags():
    with pytest.raises(ValueError, match="'voc' or 'coco'"):
        match_detections(np.zeros((1, 1)), iou_threshold=0.5, rule="lvis")
    with pytest.raises(ValueError, match=r"expected \(1,\)"):
        match_detections(np.zeros((1, 1)), iou_threshold=0.5, crowd=np.zeros(2, bool))


# --- whole evaluations: tables ---


THREE = [(0, 0, 4, 4), (0, 10, 4, 14), (10, 0, 14, 4)]


@pytest.mark.parametrize("iou_type", ["mask", "box"])
@pytest.mark.parametrize(("method", "expected"), [("voc10", 5 / 9), ("voc07", 6 / 11), ("coco", 56 / 101)])
def test_right_wrong_right_over_two_images(method, expected, iou_type):
    samples = [sample_of(THREE[:2], name="a"), sample_of(THREE[2:], name="b")]
    detections = [
        detections_of([(15, 15, 20, 20), THREE[0]], [0.8, 0.9]),  # wrong (second in rank), right (first)
        detections_of([THREE[2]], [0.7]),
    ]
    found = evaluate_detections(detections, samples, class_names=NAMES, method=method, iou_type=iou_type)
    assert found.ap[1] == pytest.approx(expected, abs=EXACT)
    assert found.mean_ap == found.ap[1]
    assert np.isnan(found.ap[[0, 2, 3]]).all()
    assert (found.gt[1], found.tp[1], found.fp[1], found.images) == (3, 2, 1, 2)
    assert found.max_recall[1] == 2 / 3
    np.testing.assert_allclose(found.recall[1], [1 / 3, 1 / 3, 2 / 3])
    np.testing.assert_allclose(found.precision[1], [1, 1 / 2, 2 / 3])


@pytest.mark.parametrize("method", METHODS)
def test_an_object_is_never_counted_twice(method):
    detections = detections_of([THREE[0]] * 5, [0.9, 0.8, 0.7, 0.6, 0.5])
    found = evaluate_detections([detections], [sample_of(THREE[:2])], class_names=NAMES, method=method)
    assert (found.tp[1], found.fp[1], found.max_recall[1]) == (1, 4, 0.5)
    assert found.ap[1] == {"voc07": 6 / 11, "voc10": 1 / 2, "coco": 51 / 101}[method]


def test_difficult_and_crowd_objects_are_not_demanded():
    sample = sample_of(THREE, difficult=[True, False, False], crowd=[False, True, False])
    detections = detections_of([*THREE, (0, 10, 2, 12)], [0.9, 0.8, 0.7, 0.6])
    for method in METHODS:
        found = evaluate_detections([detections], [sample], class_names=NAMES, method=method)
        assert (found.gt[1], found.tp[1], found.fp[1], found.ap[1]) == (1, 1, 0, 1)
    only_difficult = sample_of(THREE[:1], difficult=[True])
    found = evaluate_detections([detections], [only_difficult], class_names=NAMES)
    assert np.isnan(found.ap).all()
    assert math.isnan(found.mean_ap)


def test_empty_detections_empty_ground_truth_and_no_images():
    nothing, background = detections_of([], []), sample_of([])
    found = evaluate_detections([nothing], [sample_of(THREE)], class_names=NAMES)
    assert (found.ap[1], found.mean_ap, found.max_recall[1]) == (0, 0, 0)
    found = evaluate_detections([detections_of(THREE, [0.5] * 3)], [background], class_names=NAMES)
    assert math.isnan(found.mean_ap)
    assert found.fp[1] == 3
    for images in ([], [background]):
        found = evaluate_detections([nothing] * len(images), images, class_names=NAMES)
        assert math.isnan(found.mean_ap)
        assert set(evaluate_coco([nothing] * len(images), images, class_names=NAMES).numbers.values()) == {-1.0}


def test_void_pixels_are_taken_out_of_both_masks():
    void = fill([(4, 0, 10, 4)], (20, 20))[0]
    sample = sample_of(THREE[:1], void=void)
    detections = detections_of([(0, 0, 10, 4)], [0.9])  # 16 of 40 pixels, or 16 of 16 without void
    for ignore_void, ap in ((True, 1), (False, 0)):
        found = evaluate_detections([detections], [sample], class_names=NAMES, ignore_void=ignore_void)
        assert found.ap[1] == ap


def test_masks_and_boxes_are_judged_apart():
    detections = detections_of(THREE[:1], [0.9])
    detections.masks[:] = False
    for iou_type, ap in (("mask", 0), ("box", 1)):
        found = evaluate_detections([detections], [sample_of(THREE[:1])], class_names=NAMES, iou_type=iou_type)
        assert found.ap[1] == ap


def test_the_keras_map_is_a_mean_over_images_and_differs_from_voc():
    # Image a: one object, found. Image b: a false alarm with the best score, then the object. Each image alone: 1 and
    # 1/2, mean 3/4. Pooled: wrong, right, right of 2 objects: envelope 2/3 everywhere.
    samples = [sample_of(THREE[:1], name="a"), sample_of(THREE[:1], name="b")]
    detections = [
        detections_of(THREE[:1], [0.6]),
        detections_of([(10, 10, 20, 20), THREE[0]], [0.9, 0.5]),
    ]
    assert matterport_map(detections, samples) == pytest.approx(3 / 4, abs=EXACT)
    assert matterport_map(detections, samples, iou_type="box") == pytest.approx(3 / 4, abs=EXACT)
    assert evaluate_detections(detections, samples, class_names=NAMES).mean_ap == pytest.approx(2 / 3, abs=EXACT)
    # A class that is always missed halves VOC's mean; here it is one more object of an image.
    samples = [sample_of(THREE, [1, 1, 2])]
    detections = [detections_of(THREE[:2], [0.9, 0.8])]
    assert matterport_map(detections, samples) == pytest.approx(2 / 3, abs=EXACT)
    assert evaluate_detections(detections, samples, class_names=NAMES).mean_ap == 1 / 2


def test_the_keras_map_matches_classes_and_leaves_out_empty_images():
    wrong_class = detections_of(THREE[:1], [0.9], [2])
    assert matterport_map([wrong_class], [sample_of(THREE[:1])]) == 0
    empty = detections_of([], [])
    assert matterport_map([empty, detections_of(THREE, [1, 1, 1])], [sample_of([]), sample_of(THREE)]) == 1
    assert math.isnan(matterport_map([empty], [sample_of([])]))


def test_coco_sizes_and_limits():
    # One small (10 x 10) and one medium (40 x 40) object, both found exactly, and a large false alarm ranked first.
    boxes, shape = [(0, 0, 10, 10), (20, 20, 60, 60)], (120, 120)
    samples = [sample_of(boxes, shape=shape)]
    detections = [detections_of([*boxes, (0, 0, 100, 100)], [0.8, 0.7, 0.9], shape=shape)]
    numbers = evaluate_coco(detections, samples, class_names=NAMES).numbers
    # everything: wrong, right, right of 2; small and medium: the large false alarm is out of range and ignored
    expected = {"AP": 2 / 3, "AP50": 2 / 3, "AP75": 2 / 3, "APs": 1, "APm": 1, "APl": -1}
    expected |= {"AR1": 0, "AR10": 1, "AR100": 1, "ARs": 1, "ARm": 1, "ARl": -1}
    assert list(numbers) == list(expected)
    assert numbers == pytest.approx(expected, abs=EXACT)


def test_coco_area_comes_from_the_annotation_if_given_and_ranges_include_both_ends():
    sample, found = (
        sample_of([(0, 0, 32, 32)], shape=(40, 40)),
        detections_of([(0, 0, 32, 32)], [1], shape=(40, 40)),
    )
    numbers = evaluate_coco([found], [sample], class_names=NAMES).numbers
    assert (numbers["APs"], numbers["APm"], numbers["APl"]) == (1, 1, -1)
    numbers = evaluate_coco([found], [sample], class_names=NAMES, gt_areas=[np.array([9500.0])]).numbers
    assert (numbers["APs"], numbers["APm"], numbers["APl"]) == (-1, -1, 1)
    with pytest.raises(ValueError, match="gt_areas of image 1"):
        evaluate_coco([found], [sample], class_names=NAMES, gt_areas=[np.zeros(3)])


# --- loop oracles ---


def loop_iou(kind, detections, sample, d, g, crowd):
    if kind == "mask":
        one, other = detections.masks[d], sample.gt_masks[g]
        both = int(np.sum(one & other))
        area_d, area_g = int(one.sum()), int(other.sum())
    else:
        a, b = [float(v) for v in detections.boxes[d]], [float(v) for v in sample.gt_boxes[g]]
        both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        area_d, area_g = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    whole = area_d if crowd else area_d + area_g - both
    return both / whole if whole > 0 else 0.0


def loop_area(kind, detections, d):
    if kind == "mask":
        return int(detections.masks[d].sum())
    y1, x1, y2, x2 = (float(v) for v in detections.boxes[d])
    return (y2 - y1) * (x2 - x1)


def loop_voc(detections, samples, k, kind, threshold):
    """Rank all detections of a class, then walk down the list as VOCevaldet does; crowds absorb the rest."""
    everything = [(i, d) for i, found in enumerate(detections) for d in range(len(found.scores))]
    everything = [(i, d) for i, d in everything if detections[i].class_ids[d] == k]
    everything.sort(key=lambda e: -float(detections[e[0]].scores[e[1]]))
    npos = sum(
        int(s.gt_class_ids[g] == k and not s.gt_difficult[g] and not s.gt_crowd[g])
        for s in samples
        for g in range(len(s.gt_boxes))
    )
    taken, tp, fp, curve = set(), 0, 0, []
    for i, d in everything:
        sample, best, where, in_crowd = samples[i], -1.0, None, False
        for g in range(len(sample.gt_boxes)):
            if sample.gt_class_ids[g] != k:
                continue
            overlap = loop_iou(kind, detections[i], sample, d, g, sample.gt_crowd[g])
            if sample.gt_crowd[g]:
                in_crowd = in_crowd or overlap >= threshold
            elif overlap > best:
                best, where = overlap, g
        if best >= threshold:
            if sample.gt_difficult[where]:
                continue
            if (i, where) in taken:
                fp += 1
            else:
                taken.add((i, where))
                tp += 1
        elif in_crowd:
            continue
        else:
            fp += 1
        curve.append((tp / npos if npos else math.nan, tp / (tp + fp)))
    return npos, curve


@pytest.mark.parametrize("kind", ["mask", "box"])
@pytest.mark.parametrize("seed", range(4))
def test_voc_equals_the_loop_oracle(seed, kind):
    detections, samples = random_scene(np.random.default_rng(seed), ties=seed % 2 == 1)
    for method in ("voc07", "voc10"):
        for threshold in (0.5, 0.75):
            found = evaluate_detections(
                detections, samples, class_names=NAMES, method=method, iou_type=kind, iou_threshold=threshold
            )
            for k in range(1, len(NAMES)):
                npos, curve = loop_voc(detections, samples, k, kind, threshold)
                assert found.gt[k] == npos
                np.testing.assert_allclose(found.precision[k], [p for _, p in curve], atol=EXACT)
                if npos:
                    np.testing.assert_allclose(found.recall[k], [r for r, _ in curve], atol=EXACT)
                    assert found.ap[k] == pytest.approx(naive_metrics.average_precision(curve, method), abs=EXACT)
                else:
                    assert np.isnan(found.ap[k])


def loop_coco_outcomes(detections, sample, k, kind, threshold, low, high, limit):
    """One image and class: (score, right, ignored) per detection, and how many objects are demanded."""
    gts = [g for g in range(len(sample.gt_boxes)) if sample.gt_class_ids[g] == k]
    ignore = {}
    for g in gts:
        area = int(sample.gt_masks[g].sum())
        ignore[g] = bool(sample.gt_crowd[g] or sample.gt_difficult[g] or area < low or area > high)
    gts.sort(key=lambda g: ignore[g])
    ds = [d for d in range(len(detections.scores)) if detections.class_ids[d] == k]
    ds.sort(key=lambda d: -float(detections.scores[d]))
    used, rows = set(), []
    for d in ds[:limit]:
        bar, match = min(threshold, 1 - 1e-10), None
        for g in gts:
            if g in used and not sample.gt_crowd[g]:
                continue
            if match is not None and not ignore[match] and ignore[g]:
                break
            overlap = loop_iou(kind, detections, sample, d, g, sample.gt_crowd[g])
            if overlap < bar:
                continue
            bar, match = overlap, g
        if match is not None:
            used.add(match)
            rows.append((float(detections.scores[d]), True, ignore[match]))
        else:
            area = loop_area(kind, detections, d)
            rows.append((float(detections.scores[d]), False, area < low or area > high))
    return rows, sum(not v for v in ignore.values())


def loop_coco(detections, samples, kind):
    thresholds = [0.5 + 0.05 * i for i in range(10)]
    ap, ar = {}, {}
    for name, (low, high) in AREA_RANGES.items():
        for limit in (1, 10, 100):
            for threshold in thresholds:
                for k in range(1, len(NAMES)):
                    rows, npos = [], 0
                    for found, sample in zip(detections, samples):
                        more, count = loop_coco_outcomes(found, sample, k, kind, threshold, low, high, limit)
                        rows, npos = rows + more, npos + count
                    if not npos:
                        continue
                    tp, n, curve = 0, 0, []
                    for _, right, ignored in sorted(rows, key=lambda r: -r[0]):
                        if not ignored:
                            tp, n = tp + right, n + 1
                            curve.append((tp / npos, tp / n))
                    ap[name, limit, round(threshold, 2), k] = naive_metrics.average_precision(curve, "coco")
                    ar[name, limit, round(threshold, 2), k] = curve[-1][0] if curve else 0.0

    def mean(table, name, limit, threshold=None):
        values = [v for (n, m, t, _), v in table.items() if (n, m) == (name, limit) and threshold in (None, t)]
        return sum(values) / len(values) if values else -1.0

    return [
        mean(ap, "all", 100),
        mean(ap, "all", 100, 0.5),
        mean(ap, "all", 100, 0.75),
        *(mean(ap, name, 100) for name in ("small", "medium", "large")),
        *(mean(ar, "all", limit) for limit in (1, 10, 100)),
        *(mean(ar, name, 100) for name in ("small", "medium", "large")),
    ]


@pytest.mark.parametrize("kind", ["mask", "box"])
@pytest.mark.parametrize("seed", range(2))
def test_the_twelve_coco_numbers_equal_the_loop_oracle(seed, kind):
    detections, samples = random_scene(np.random.default_rng(seed), images=4, ties=seed == 1)
    found = evaluate_coco(detections, samples, class_names=NAMES, iou_type=kind)
    np.testing.assert_allclose(list(found.numbers.values()), loop_coco(detections, samples, kind), atol=EXACT)
    assert found.numbers["AP"] == pytest.approx(np.nanmean(found.ap), abs=EXACT)
    single = evaluate_detections(detections, samples, class_names=NAMES, method="coco", iou_type=kind)
    assert single.mean_ap == pytest.approx(found.numbers["AP50"], abs=EXACT)


# --- properties ---


@st.composite
def curves(draw):
    """A ranking as outcomes, with at least as many objects as right detections."""
    right = draw(st.lists(st.booleans(), max_size=30))
    objects = sum(right) + draw(st.integers(0, 5))
    return np.array(right, bool), max(objects, 1)


def curve_of(right, objects):
    found = np.cumsum(right)
    return found / objects, found / np.arange(1, len(right) + 1)


@settings(max_examples=60, deadline=None)
@given(curves())
def test_average_precision_lies_between_zero_and_the_final_recall(case):
    right, objects = case
    recall, precision = curve_of(right, objects)
    for method in METHODS:
        assert 0 <= average_precision(recall, precision, method=method) <= 1 + 1e-15
    assert average_precision(recall, precision, method="voc10") <= right.sum() / objects + 1e-15


@settings(max_examples=60, deadline=None)
@given(curves())
def test_a_last_wrong_detection_changes_nothing_and_an_earlier_one_never_helps(case):
    right, objects = case
    for method in METHODS:
        before = average_precision(*curve_of(right, objects), method=method)
        assert average_precision(*curve_of(np.append(right, False), objects), method=method) == before
        worse = average_precision(*curve_of(np.append(False, right), objects), method=method)
        assert worse <= before + 1e-15


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(METHODS), st.sampled_from(["mask", "box"]))
def test_the_order_of_images_does_not_matter_without_ties(seed, method, kind):
    rng = np.random.default_rng(seed)
    detections, samples = random_scene(rng, images=4, shape=(16, 16))
    order = rng.permutation(4)
    one = evaluate_detections(detections, samples, class_names=NAMES, method=method, iou_type=kind)
    two = evaluate_detections(
        (detections[i] for i in order), (samples[i] for i in order), class_names=NAMES, method=method, iou_type=kind
    )
    np.testing.assert_array_equal(one.ap, two.ap)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(METHODS))
def test_a_low_scored_false_alarm_never_raises_ap(seed, method):
    detections, samples = random_scene(np.random.default_rng(seed), images=3, shape=(16, 16))
    before = evaluate_detections(detections, samples, class_names=NAMES, method=method)
    first = detections[0]
    alarm = Detections(
        np.concatenate([first.boxes, np.zeros((1, 4), np.float32)]),
        np.append(first.class_ids, 1),
        np.append(first.scores, np.float32(-1)),
        np.concatenate([first.masks, np.zeros((1, 16, 16), bool)]),
    )
    after = evaluate_detections([alarm, *detections[1:]], samples, class_names=NAMES, method=method)
    np.testing.assert_array_equal(after.ap, before.ap)
    assert after.fp[1] == before.fp[1] + 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["voc", "coco"]))
def test_no_object_is_matched_twice_and_every_match_reaches_the_threshold(seed, rule):
    rng = np.random.default_rng(seed)
    ious = rng.integers(0, 11, rng.integers(0, 8, 2)) / 10
    ignored, crowd = rng.random((2, ious.shape[1])) < 0.3
    outcome, matched = match_detections(ious, iou_threshold=0.5, rule=rule, ignored=ignored, crowd=crowd)
    right = matched[outcome == TRUE_POSITIVE]
    assert len(set(right)) == len(right)
    assert not (ignored | crowd)[right].any()
    hits = np.flatnonzero(matched >= 0)
    assert (ious[hits, matched[hits]] >= 0.5).all()
    np.testing.assert_array_equal(outcome == FALSE_POSITIVE, matched < 0)


def test_perfect_detections_score_one_by_every_method():
    _, samples = random_scene(np.random.default_rng(3))
    perfect = [Detections(s.gt_boxes, s.gt_class_ids, np.ones(len(s.gt_boxes)), s.gt_masks) for s in samples]
    samples = [s.replace(gt_crowd=s.gt_crowd & False) for s in samples]
    for method in METHODS:
        assert evaluate_detections(perfect, samples, class_names=NAMES, method=method).mean_ap == pytest.approx(1)
    assert evaluate_coco(perfect, samples, class_names=NAMES).numbers["AP"] == pytest.approx(1)


# --- reports and bad input ---


def test_reports_are_json_and_text():
    samples = [sample_of(THREE[:1]), sample_of(THREE[:1])]
    detections = [detections_of([THREE[0], (8, 8, 9, 9)], [0.9, 0.5], [1, 3]), detections_of([], [])]
    found = evaluate_detections(detections, samples, class_names=NAMES)
    report = json.loads(json.dumps(found.as_dict(curves=True), allow_nan=False))
    assert report["classes"]["cat"] == {
        "ap": 0.5, "gt": 2, "tp": 1, "fp": 0, "max_recall": 0.5, "recall": [0.5], "precision": [1.0],
    }  # fmt: skip
    assert report["classes"]["cow"]["recall"] == [None]
    assert report["classes"]["dog"]["ap"] is None
    assert "recall" not in found.as_dict()["classes"]["cat"]
    lines = found.table().splitlines()
    assert lines[1].split() == ["cat", "0.500", "2", "1", "0", "0.500"]
    assert lines[2].split() == ["dog", "-", "0", "0", "0", "-"]
    assert lines[-1] == "(voc10, mask IoU >= 0.5, 2 images)"
    coco = evaluate_coco(detections, samples, class_names=NAMES)
    report = json.loads(json.dumps(coco.as_dict(), allow_nan=False))
    assert report["AP50"] == pytest.approx(51 / 101)
    assert report["classes"]["dog"] is None
    assert coco.table().splitlines()[1].split() == ["AP50", f"{51 / 101:.4f}"]


def test_an_evaluator_can_be_asked_in_between():
    evaluator = Evaluator(NAMES)
    evaluator.add(detections_of(THREE[:1], [0.9]), sample_of(THREE[:1]))
    assert evaluator.result().mean_ap == 1
    evaluator.add(detections_of([], []), sample_of(THREE[:1]))
    assert evaluator.result().mean_ap == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": np.zeros((3, 10, 20), bool)}, r"image 07 have masks of shape \(3, 10, 20\), expected \(3, 20, 20\)"),
        ({"masks": np.zeros((3, 20, 20))}, "masks of dtype float64, expected bool"),
        ({"boxes": np.zeros((2, 4))}, r"image 07 have boxes of shape \(2, 4\), expected \(3, 4\)"),
        ({"class_ids": np.array([1, 2])}, r"class_ids of shape \(2,\)"),
        ({"scores": np.array([0.5, np.nan, 0.5])}, "detection 1 of image 07 has scores nan"),
        ({"boxes": np.full((3, 4), np.inf)}, "detection 0 of image 07 has boxes"),
        ({"class_ids": np.array([1, 4, 1])}, r"detection 1 of image 07 has class id 4, expected 1 .. 3"),
        ({"class_ids": np.array([1, 1, 0])}, "detection 2 of image 07 has class id 0"),
    ],
)
def test_detections_that_do_not_fit_their_image_are_named(change, message):
    good = detections_of(THREE, [0.9, 0.8, 0.7])
    bad = Detections(**{**vars(good), **change})
    for evaluate in (evaluate_detections, evaluate_coco):
        with pytest.raises(ValueError, match=message):
            evaluate([bad], [sample_of(THREE, name="07")], class_names=NAMES)


def test_ground_truth_that_does_not_fit_is_named():
    detections = detections_of([], [])
    with pytest.raises(ValueError, match="object 0 of image 07 has class id 9"):
        evaluate_detections([detections], [sample_of(THREE[:1], [9], name="07")], class_names=NAMES)
    wrong = sample_of(THREE, name="07").replace(gt_masks=np.zeros((2, 20, 20), bool))
    with pytest.raises(ValueError, match="image 07 has gt_masks of shape"):
        evaluate_detections([detections], [wrong], class_names=NAMES)


def test_one_list_longer_than_the_other_is_refused():
    sample, found = sample_of(THREE), detections_of([], [])
    with pytest.raises(ValueError, match="detections ends after 1 images but samples goes on"):
        evaluate_detections([found], [sample, sample], class_names=NAMES)
    with pytest.raises(ValueError, match="samples ends after 0 images but detections goes on"):
        evaluate_coco(iter([found]), iter([]), class_names=NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "voc"}, "voc07, voc10, coco"),
        ({"iou_type": "segm"}, "'mask' or 'box'"),
        ({"iou_threshold": 0}, r"\(0, 1\]"),
        ({"iou_threshold": 1.5}, r"\(0, 1\]"),
        ({"class_names": ("background", "cat", "cat")}, "each class once"),
        ({"class_names": ()}, "each class once"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_detections([], [], **{"class_names": NAMES, **options})
