"""Whole evaluations by every method: tables, a loop oracle, properties, reports."""

from __future__ import annotations

import json
import math

import naive_metrics
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_evaluate import EXACT, METHODS, NAMES, THREE, loop_voc, random_scene
from scenes import detections_of, fill, sample_of

from mrcnn_np.detections import Detections
from mrcnn_np.evaluate import (
    Evaluator,
    evaluate_coco,
    evaluate_detections,
)


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


def test_perfect_detections_score_one_by_every_method():
    _, samples = random_scene(np.random.default_rng(3))
    perfect = [Detections(s.gt_boxes, s.gt_class_ids, np.ones(len(s.gt_boxes)), s.gt_masks) for s in samples]
    samples = [s.replace(gt_crowd=s.gt_crowd & False) for s in samples]
    for method in METHODS:
        assert evaluate_detections(perfect, samples, class_names=NAMES, method=method).mean_ap == pytest.approx(1)
    assert evaluate_coco(perfect, samples, class_names=NAMES).numbers["AP"] == pytest.approx(1)


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


def test_cocos_ap_has_a_column_beside():
    samples = [sample_of(THREE[:1]), sample_of(THREE[:1])]
    detections = [detections_of([THREE[0], (8, 8, 9, 9)], [0.9, 0.5], [1, 3]), detections_of([], [])]
    found = evaluate_detections(detections, samples, class_names=NAMES)
    lines = found.table(evaluate_coco(detections, samples, class_names=NAMES)).splitlines()
    assert lines[0].split() == ["class", "AP", "COCO", "AP", "objects", "right", "wrong", "recall"]
    assert lines[1].split() == ["cat", "0.500", "0.505", "2", "1", "0", "0.500"]
    assert lines[2].split() == ["dog", "-", "-", "0", "0", "0", "-"]
    assert lines[4].split() == ["mean", "0.500", "0.505", "2", "1", "1", "0.500"]
    assert lines[-1] == "(voc10, mask IoU >= 0.5, 2 images; COCO AP: mean over IoU 0.5 to 0.95)"


def test_an_evaluator_can_be_asked_in_between():
    evaluator = Evaluator(NAMES)
    evaluator.add(detections_of(THREE[:1], [0.9]), sample_of(THREE[:1]))
    assert evaluator.result().mean_ap == 1
    evaluator.add(detections_of([], []), sample_of(THREE[:1]))
    assert evaluator.result().mean_ap == 0.5


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
