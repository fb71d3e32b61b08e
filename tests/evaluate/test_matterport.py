"""The mean over images."""

from __future__ import annotations

import math

import pytest
from naive_evaluate import EXACT, NAMES, THREE
from scenes import detections_of, sample_of

from mrcnn_np.evaluate import (
    evaluate_detections,
    matterport_map,
)


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
