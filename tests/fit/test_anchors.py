"""The best anchor of an object without search, against all anchors; and what perfect proposals are."""

from types import SimpleNamespace

import numpy as np
import pytest
from nets import make_sample, small_config
from scenes import boxes_of, sample_of

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.anchors import network_anchors
from mrcnn_np.boxes import iou
from mrcnn_np.fit.anchors import best_overlaps, found_by, perfect_proposals, positives_per_level
from mrcnn_np.fit.truth import truth_of
from mrcnn_np.molding import make_batch
from mrcnn_np.targets import rpn_targets

EVERY = sorted(presets.PRESETS)


def truth(boxes, config, shape=(64, 64), **options):
    return truth_of(sample_of(boxes, shape=shape, **options), config)


@pytest.mark.parametrize("preset", EVERY)
def test_the_truth_is_that_of_a_batch(preset):
    config = presets.by_name(preset, num_classes=4).replace(mini_mask_shape=None)
    sample = make_sample(np.random.default_rng(0), size=(50, 70), objects=3)
    seen, batch = truth_of(sample, config), make_batch([sample], config)
    assert seen.molding == batch.moldings[0]
    np.testing.assert_array_equal(seen.boxes, batch.gt_boxes[0])
    np.testing.assert_array_equal(seen.crowd, batch.gt_crowd[0])
    np.testing.assert_array_equal(np.asarray(seen.masks), np.asarray(batch.gt_masks[0]))


@pytest.mark.parametrize("preset", EVERY)
def test_the_anchors_are_those_of_the_network(preset):
    config = presets.by_name(preset, num_classes=4)
    shape = (96, 160)
    pyramid = [np.zeros((1, -(-shape[0] // s), -(-shape[1] // s), 1)) for s in config.cells]
    network = SimpleNamespace(config=config, dtype=np.float32)
    for ours, theirs in zip(network_anchors(shape, config), MaskRCNN.anchors(network, shape, pyramid), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("preset", EVERY)
def test_the_best_anchor_is_found_without_search(preset):
    rng = np.random.default_rng(0)
    shape = (96, 160)
    config = presets.by_name(preset, num_classes=4).replace(anchor_offset=0.3)
    corner = rng.uniform(-5, 150, (60, 2)) * [0.6, 1]
    boxes = np.concatenate([corner, corner + np.exp(rng.uniform(-1, 5.5, (60, 2)))], axis=1)
    found = best_overlaps(boxes, np.tile(shape, (60, 1)), config)
    each = config.anchors_per_cell
    for level, anchors in enumerate(network_anchors(shape, config)):
        searched = iou(boxes, anchors.astype(np.float64)).reshape(60, -1, each).max(axis=1)
        np.testing.assert_allclose(found[:, level], searched, atol=1e-5)  # anchors are float32
    assert best_overlaps(np.zeros((0, 4)), np.zeros((0, 2)), config).shape == (0, len(config.levels), each)


def test_an_anchor_by_hand():
    """One square anchor of 32 pixels at each corner of a cell; an object of 16 in its middle shares 1/4."""
    config = presets.tiny(anchor_sizes=(32.0,) * 5, anchor_ratios=(1.0,), anchor_offset=0.0)
    overlaps = best_overlaps(boxes_of([56, 56, 72, 72]), np.array([[128, 128]]), config)
    np.testing.assert_allclose(overlaps, np.full((1, 5, 1), 16 * 16 / 32**2))
    assert best_overlaps(boxes_of([48, 48, 80, 80]), np.array([[128, 128]]), config).min() == 1


def test_positives_are_those_of_training():
    config = small_config(rpn_anchors_per_image=10**5, rpn_positive_fraction=1.0)
    seen = truth([[5, 6, 30, 28], [20, 30, 58, 60]], config)
    anchors = network_anchors((64, 64), config)
    labels, _ = rpn_targets(np.concatenate(anchors), seen.boxes, seen.crowd, config, np.random.default_rng(0))
    counted = positives_per_level(seen, anchors, config)
    ends = np.cumsum([len(level) for level in anchors])
    assert counted.tolist() == [int((part == 1).sum()) for part in np.split(labels, ends[:-1])] and counted.sum() >= 2
    assert positives_per_level(truth([], config), anchors, config).tolist() == [0] * 5


@pytest.mark.parametrize("preset", EVERY)
def test_perfect_proposals_are_the_objects(preset):
    config = presets.by_name(preset, num_classes=4).replace(image_min_size=64, image_max_size=128)
    seen = truth([[4, 6, 60, 28], [20, 34, 58, 60]], config)
    anchors = network_anchors(seen.molding.molded_shape, config)
    perfect = perfect_proposals(seen, anchors, config, count=50)
    np.testing.assert_allclose(iou(perfect.decoded, seen.objects).max(axis=0), 1, atol=1e-4)
    best = np.concatenate(anchors)[iou(np.concatenate(anchors), seen.objects).max(axis=1).argmax()]
    first, (top, left, bottom, right) = perfect.as_they_stand[0], seen.molding.proposal_window(config)
    np.testing.assert_allclose(first, np.clip(best, [top, left] * 2, [bottom, right] * 2), atol=1e-4)
    assert len(perfect_proposals(seen, anchors, config, count=1).decoded) == 1
    for none in perfect_proposals(truth([], config), anchors, config, count=5):
        assert none.shape[1] == 4 and len(none) <= 5


def test_what_perfect_proposals_lose():
    """Of two objects that overlap by more than NMS allows, one is lost in a pool of all levels."""
    config = small_config(proposals_nms_iou=0.5, proposals_pre_nms_test=400, proposals_per_level=False)
    boxes = [[8, 8, 48, 48], [8, 8, 48, 44]]
    for crowd, objects, found in (([False, False], 2, 1), ([False, True], 1, 1)):
        seen = truth(boxes, config, crowd=crowd)
        anchors = network_anchors((64, 64), config)
        decoded = perfect_proposals(seen, anchors, config, count=100).decoded
        assert len(seen.objects) == objects
        assert found_by(seen.objects, decoded, (100,), 0.95).tolist() == [found]


def test_objects_are_counted_by_the_first_n():
    objects = boxes_of([0, 0, 10, 10], [20, 20, 30, 30])
    proposals = boxes_of([0, 0, 10, 5], [50, 50, 60, 60], [20, 20, 30, 30])
    assert found_by(objects, proposals, (1, 2, 3, 99), 0.5).tolist() == [1, 1, 2, 2]
    assert found_by(objects, proposals, (1, 99), 0.6).tolist() == [0, 1]
    assert found_by(objects[:0], proposals, (1,), 0.5).tolist() == [0]
    assert found_by(objects, proposals[:0], (1,), 0.5).tolist() == [0]
