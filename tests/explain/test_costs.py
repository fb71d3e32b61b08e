"""Costs by hand: each kind of mistake set right."""

import numpy as np
import pytest
from judged_images import NAMES, random_image
from scenes import detections_of, sample_of

from mrcnn_np.detections import Detections
from mrcnn_np.evaluate import evaluate_detections
from mrcnn_np.explain.costs import Costs, Ledger
from mrcnn_np.explain.judge import KINDS, Rules, judge

A, B = (0, 0, 10, 10), (10, 10, 20, 20)


def costs(objects, classes, boxes, scores, found_classes, names=3):
    sample, found = sample_of(objects, classes), detections_of(boxes, scores, found_classes)
    judged, ledger = judge(found, sample, names, Rules()), Ledger(names, "voc10")
    ledger.add(found.class_ids, found.scores, sample.gt_class_ids, judged)
    return Costs(ledger)


def test_a_duplicate_before_a_right_one():
    """Right, duplicate, right of two objects: AP 1/2 + 1/2 * 2/3; without the duplicate 1."""
    of = costs([A, B], [1, 1], [A, A, B], [0.9, 0.8, 0.7], [1, 1, 1])
    assert of.mean_ap == pytest.approx(5 / 6)
    assert of.of_kind("duplicate") == of.of_detection(1) == of.of_false() == pytest.approx(1 / 6)
    assert of.of_kind("background") == of.of_missed(of.missed()) == 0


def test_background_after_all_right_ones_costs_nothing():
    of = costs([A], [1], [A, B], [0.9, 0.5], [1, 1])
    assert (of.mean_ap, of.of_kind("background"), of.of_detection(1)) == (1, 0, 0)
    of = costs([A], [1], [A, B], [0.5, 0.9], [1, 1])
    assert (of.mean_ap, of.of_kind("background"), of.of_detection(1)) == (0.5, 0.5, 0.5)


def test_a_wrong_class_is_mended_in_both_classes():
    """The object of class 2 is named 1: both classes gain, and the detection moves into the ranking of class 2."""
    of = costs([A, B], [1, 2], [A, B], [0.5, 0.9], [1, 1])
    assert of.mean_ap == pytest.approx((0.5 + 0) / 2)
    assert of.of_kind("wrong class") == of.of_detection(1) == pytest.approx(0.75)
    assert of.of_false() == pytest.approx(0.25)  # only taken away
    assert of.of_missed(np.array([1])) == pytest.approx(0.5)  # class 2 has nothing left to ask for


def test_a_bad_place_is_mended_once():
    """Two detections overlap a free object too little: the better one becomes right, the other goes away."""
    half, third = (0, 0, 10, 4), (0, 0, 10, 3)
    of = costs([A], [1], [half, third], [0.9, 0.8], [1, 1])
    assert (of.mean_ap, of.of_kind("badly placed")) == (0, 1)
    assert of.of_detection(0) == 1 and of.of_detection(1) == 0.5
    found = costs([A], [1], [half, A], [0.9, 0.8], [1, 1])  # the object is found: it only goes away
    assert found.of_kind("badly placed") == 0.5


def test_a_missed_object_is_no_longer_asked_for():
    of = costs([A, B], [1, 1], [A], [0.9], [1])
    assert (of.mean_ap, of.missed().tolist(), of.of_missed(of.missed())) == (0.5, [1], 0.5)


def test_nothing_to_find():
    of = costs([], [], [A], [0.9], [1])
    assert np.isnan([of.mean_ap, of.of_kind("background"), of.of_false(), of.of_missed(np.zeros(0, int))]).all()
    of = costs([A], [1], [], [], [])
    assert (of.mean_ap, of.of_kind("background"), of.of_missed(of.missed())) == (0, 0, 1)


def test_no_single_mistake_costs_more_than_all_of_its_kind_when_they_only_go_away():
    rng = np.random.default_rng(0)
    boxes = [A, B, *[(0, 0, 10, int(w)) for w in rng.integers(1, 10, 20)]]
    of = costs([A, B], [1, 2], boxes, rng.random(22), rng.integers(1, 3, 22))
    for kind in ("duplicate", "background", "both"):
        rows = np.flatnonzero(of.kinds == kind)
        assert all(0 <= of.of_detection(int(row)) <= of.of_kind(kind) + 1e-12 for row in rows)


@pytest.mark.parametrize("iou_type", ["mask", "box"])
@pytest.mark.parametrize("kind", KINDS)
def test_setting_right_is_what_the_evaluation_measures(kind, iou_type):
    """The detections themselves are set right, kind by kind, and evaluated again."""
    rng, rules = np.random.default_rng(11), Rules("voc10", iou_type)
    ledger, changed, samples = Ledger(len(NAMES), "voc10"), [], []
    for number in range(30):
        sample, found = random_image(rng, number)
        sample = sample.replace(gt_crowd=sample.gt_crowd & False, gt_difficult=sample.gt_difficult & False)
        sample = sample.replace(void=sample.void & False)
        judged = judge(found, sample, len(NAMES), rules)
        ledger.add(found.class_ids, found.scores, sample.gt_class_ids, judged)
        samples.append(sample)
        changed.append(set_right(found, sample, judged, kind))
    costs = Costs(ledger)
    expected = evaluate_detections(changed, samples, class_names=NAMES, iou_type=iou_type).mean_ap
    assert costs.mean_ap + costs.of_kind(kind) == pytest.approx(expected, abs=1e-12)
    assert expected > costs.mean_ap


def set_right(found, sample, judged, kind):
    """Mend or drop the detections of a kind, with no regard to how costs are computed."""
    boxes, masks, classes = found.boxes.copy(), found.masks.copy(), found.class_ids.copy()
    keep, mended = np.ones(len(found.scores), bool), set()
    for d in np.argsort(-found.scores, kind="stable"):
        g = int(judged.target[d])
        if judged.kinds[d] != kind:
            continue
        if kind in ("wrong class", "badly placed") and not judged.found[g] and g not in mended:
            mended.add(g)
            classes[d], boxes[d], masks[d] = sample.gt_class_ids[g], sample.gt_boxes[g], sample.gt_masks[g]
        else:
            keep[d] = False
    return Detections(boxes[keep], classes[keep], found.scores[keep], masks[keep])
