"""Masks that are as large as they were drawn, and images in which they are not."""

import numpy as np
import pytest
from scenes import detections_of, sample_of

from mrcnn_np.explain.judge import Rules, judge
from mrcnn_np.explain.outlines import LEAST, area_ratios, drawn_otherwise

ALIKE = [1.0, 1.02, 0.98, 1.01, 0.99]
NAMES = {name: f"{name}.png" for name in "abcdefgh"}


def test_areas_of_right_detections_only():
    """A mask of 8 x 10 on an object of 10 x 10; the second is a duplicate, the third lies on nothing."""
    sample = sample_of([(0, 0, 10, 10), (12, 12, 22, 22)])
    found = detections_of([(0, 0, 8, 10), (0, 0, 10, 9), (30, 30, 40, 40), (12, 12, 22, 22)], [0.9, 0.8, 0.7, 0.6])
    assert area_ratios(found, sample, judge(found, sample, 2, Rules())) == [0.8, 1.0]
    nothing = sample_of([])
    assert area_ratios(found, nothing, judge(found, nothing, 2, Rules())) == []


def test_an_object_without_a_mask_is_left_out():
    sample = sample_of([(0, 0, 10, 10)])
    sample = sample.replace(gt_masks=np.zeros_like(np.asarray(sample.gt_masks)))
    found = detections_of([(0, 0, 10, 10)], [0.9])
    assert area_ratios(found, sample, judge(found, sample, 2, Rules("voc10", "box"))) == []


def test_nothing_is_said_of_masks_that_fit():
    assert drawn_otherwise({"a": ALIKE, "b": ALIKE}, NAMES, 0.5) == []
    assert drawn_otherwise({}, NAMES, 0.5) == []
    few = {"a": ALIKE, "b": [0.5] * (LEAST - 1)}
    assert drawn_otherwise(few, NAMES, 0.5) == [], "four masks may be chance"


def test_images_drawn_otherwise_are_named_the_furthest_first():
    ratios = {"a": ALIKE, "b": [0.8] * 5, "c": ALIKE, "d": [0.7] * 5, "e": ALIKE}
    (said,) = drawn_otherwise(ratios, NAMES, 0.5)
    assert said.startswith("in 2 of 5 images masks have 70% to 80% of the annotated area")
    assert "98% on the whole: d.png, b.png. Are outlines drawn further out there" in said
    (said,) = drawn_otherwise(ratios | {"b": ALIKE, "d": [1.5] * 5}, NAMES, 0.5)
    assert said.startswith("in 1 of 5 images masks have 150% of the annotated area") and "further in there" in said


LOWER = "a lower threshold, --config mask_threshold=0.35 (0.45 now)"
HIGHER = "a higher threshold, --config mask_threshold=0.55 (0.45 now)"


@pytest.mark.parametrize("threshold, share, advised", [(0.1, 0.5, 0.05), (0.05, 0.5, 0.025), (0.95, 2.0, 0.97)])
def test_a_threshold_that_is_advised_is_one(threshold, share, advised):
    (said,) = drawn_otherwise({"a": [share] * LEAST}, NAMES, threshold)
    assert f"mask_threshold={advised:g} " in said


@pytest.mark.parametrize("share, words", [(0.8, LOWER), (1.3, HIGHER)])
def test_all_masks_too_small_or_too_large(share, words):
    (said,) = drawn_otherwise({name: [share] * 5 for name in "abc"}, NAMES, 0.45)
    assert said.startswith(f"masks have {share:.0%} of the area of their objects") and words in said
