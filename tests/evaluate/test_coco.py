"""COCO's twelve numbers: tables, then a loop oracle."""

from __future__ import annotations

import numpy as np
import pytest
from naive_evaluate import EXACT, NAMES, loop_coco, random_scene
from scenes import detections_of, sample_of

from mrcnn_np.evaluate import (
    evaluate_coco,
    evaluate_detections,
)


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


@pytest.mark.parametrize("kind", ["mask", "box"])
@pytest.mark.parametrize("seed", range(2))
def test_the_twelve_coco_numbers_equal_the_loop_oracle(seed, kind):
    detections, samples = random_scene(np.random.default_rng(seed), images=4, ties=seed == 1)
    found = evaluate_coco(detections, samples, class_names=NAMES, iou_type=kind)
    np.testing.assert_allclose(list(found.numbers.values()), loop_coco(detections, samples, kind), atol=EXACT)
    assert found.numbers["AP"] == pytest.approx(np.nanmean(found.ap), abs=EXACT)
    single = evaluate_detections(detections, samples, class_names=NAMES, method="coco", iou_type=kind)
    assert single.mean_ap == pytest.approx(found.numbers["AP50"], abs=EXACT)
