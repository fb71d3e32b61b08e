"""Overlaps and matching: tables, bad input, then properties."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_evaluate import NAMES, THREE
from scenes import detections_of, fill, sample_of

from mrcnn_np.data.masks import Masks, placed
from mrcnn_np.detections import Detections
from mrcnn_np.evaluate import (
    evaluate_coco,
    evaluate_detections,
    match_detections,
)
from mrcnn_np.evaluate.matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, box_iou, mask_iou


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


def test_large_photographs_are_compared_by_their_outlines():
    """450 objects and 100 detections of 12 megapixels: no array of all masks is ever made."""
    rng = np.random.default_rng(0)
    size = (3000, 4000)

    def discs(count):
        found = []
        for height, width in rng.integers(40, 400, (count, 2)):
            y, x = np.ogrid[:height, :width]
            disc = np.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5) < 0.5
            found.append(placed(disc, (int(rng.integers(size[0] - height)), int(rng.integers(size[1] - width))), size))
        return Masks(found, size)

    truth, found = discs(450), discs(100)
    tracemalloc.start()
    overlaps = mask_iou(found, truth, void=np.zeros(size, bool))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # measured: 17 MB; one mask as an array has 12, all of them 6,600
    k, g = np.unravel_index(overlaps.argmax(), overlaps.shape)
    shared, either = np.count_nonzero(found[k] & truth[g]), np.count_nonzero(found[k] | truth[g])
    assert overlaps[k, g] == shared / either > 0
