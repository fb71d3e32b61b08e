"""A training step of matterport's Mask R-CNN, assembled from Keras layers, against our matterport preset.

Which anchors and RoIs are drawn is left to chance, in both; here both take the first ones.
"""

import dataclasses

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="comparison needs TensorFlow: pip install mrcnn-np[compare-tf]")

from keras_case import INSIDE, MARKS, SAMPLES, TRAINING, error, first  # noqa: E402

from mrcnn_np import MaskRCNN, presets, targets  # noqa: E402
from mrcnn_np.compare.fixed_relus import params_with_fixed_relus  # noqa: E402
from mrcnn_np.compare.keras import losses as keras_losses  # noqa: E402
from mrcnn_np.compare.keras import model as keras_model  # noqa: E402
from mrcnn_np.compare.keras import regions as keras_regions  # noqa: E402
from mrcnn_np.compare.keras.data import Truth, anchor_targets, ground_truth, mold  # noqa: E402
from mrcnn_np.molding import make_batch  # noqa: E402
from mrcnn_np.targets import Targets, match_anchors, roi_targets, rpn_targets  # noqa: E402

pytestmark = MARKS


# --- data and targets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mini", [(56, 56), None], ids=["mini masks", "whole masks"])
def test_ground_truth(mini):
    """Images, boxes and masks on the canvas are equal; the object of one pixel is lost by both when it shrinks."""
    config = TRAINING.replace(mini_mask_shape=mini)
    batch = make_batch(SAMPLES, config)
    for n, s in enumerate(SAMPLES):
        molded, truth = mold(s.image, config), ground_truth(s, config)
        np.testing.assert_array_equal(batch.images[n], molded.image)
        assert batch.moldings[n].window == molded.window
        np.testing.assert_array_equal(batch.gt_boxes[n], truth.boxes)
        np.testing.assert_array_equal(batch.gt_masks[n], truth.masks)
        np.testing.assert_array_equal(np.where(batch.gt_crowd[n], -1, 1) * batch.gt_class_ids[n], truth.class_ids)


@pytest.mark.parametrize("sizes", [INSIDE["anchor_sizes"], (32.0, 64.0, 128.0, 256.0, 512.0)], ids=["small", "default"])
def test_anchor_targets(monkeypatch, sizes):
    """Labels and deltas, also of anchors that overlap an object equally on paper: which of them rounding prefers."""
    config = TRAINING.replace(anchor_sizes=sizes)
    batch = make_batch(SAMPLES, config, np.float64)
    monkeypatch.setattr(targets, "_choose", lambda indices, count, rng: indices[:count])
    anchors = np.concatenate(keras_regions.pyramid_anchors((128, 128), config))
    ties = 0
    for n, s in enumerate(SAMPLES):
        truth = ground_truth(s, config)
        labels, _ = match_anchors(anchors, batch.gt_boxes[n], batch.gt_crowd[n], config)
        match, _ = anchor_targets(anchors, truth, config, lambda indices, count: indices)
        np.testing.assert_array_equal(labels, match)
        assert (match == 1).any()
        shared, _ = match_anchors(
            anchors, batch.gt_boxes[n], batch.gt_crowd[n], config.replace(rpn_best_ties="tolerance")
        )
        ties += int((shared == 1).sum() - (match == 1).sum())
        assert (shared[match == 1] == 1).all()
        found, deltas = rpn_targets(anchors, batch.gt_boxes[n], batch.gt_crowd[n], config, np.random.default_rng(0))
        match, packed = anchor_targets(anchors, truth, config, first)
        np.testing.assert_array_equal(found, match)
        np.testing.assert_allclose(deltas[found == 1], packed[: (match == 1).sum()], atol=1e-12)
    assert ties > 0  # the rule had something to decide


def test_head_targets(monkeypatch):
    """From the same proposals: RoIs, classes, deltas (measured 4e-6) and masks, mini or whole, padding included."""
    monkeypatch.setattr(targets, "_choose", lambda indices, count, rng: indices[:count])
    rng = np.random.default_rng(0)
    for mini in ((56, 56), None):
        config = TRAINING.replace(mini_mask_shape=mini, rois_per_image=40)
        batch = make_batch(SAMPLES, config)
        for n, s in enumerate(SAMPLES):
            truth = ground_truth(s, config)
            near = truth.boxes[rng.integers(0, len(truth.boxes), 150)] + rng.normal(0, 4, (150, 4))
            proposals = np.clip(near, 0, 127.7).astype(np.float32)
            proposals[:, 2:] = np.maximum(proposals[:, 2:], proposals[:, :2] + 1.5)
            normalised = tf.constant(np.pad(keras_regions.normalise(proposals, (128, 128)), [(0, 30), (0, 0)]))
            rois, class_ids, deltas, masks = keras_losses.head_targets(normalised, truth, (128, 128), config, first)
            ours = roi_targets(
                proposals, batch.gt_boxes[n], batch.gt_class_ids[n], batch.gt_masks[n], batch.gt_crowd[n], config, rng
            )
            positive = class_ids.numpy() > 0
            assert positive.sum() == 13 and len(ours.rois) == 40
            np.testing.assert_array_equal(ours.class_ids, class_ids)
            np.testing.assert_allclose(ours.rois, keras_regions.denormalise(rois, (128, 128)), atol=1e-4)
            np.testing.assert_allclose(ours.deltas, deltas, atol=3e-5)
            # a sample on the mask's outline, or within a hair of it, may be rounded to the other side
            assert (ours.masks != masks.numpy()[positive]).mean() < 1e-3
            assert 0.2 < ours.masks.mean() < 0.95


def test_negatives_go_with_positives():
    """.33 in float32: 33 positives take 67 negatives, 66 take 134."""
    for positives in range(67):
        theirs = int(tf.cast((1.0 / 0.33) * tf.cast(positives, tf.float32), tf.int32)) - positives
        assert targets.negative_count(positives, presets.matterport()) == theirs


def test_no_objects_but_a_crowd():
    truth = Truth(np.array([-1]), np.array([[10, 10, 60, 60]]), np.ones((1, 56, 56), bool))
    proposals = tf.constant(keras_regions.normalise(np.array([[0, 0, 9, 9], [20, 20, 50, 50]]), (128, 128)))
    rois, class_ids, _, _ = keras_losses.head_targets(proposals, truth, (128, 128), TRAINING, first)
    assert not rois.numpy().any() and not class_ids.numpy().any()


# --- training -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["resnet50", "resnet101"])
def step(request):
    """One training step of theirs, and ours from the same weights and the same choice of anchors and RoIs."""
    config = TRAINING.replace(backbone=request.param, loss_weights=(1.0, 2.0, 0.5, 1.0, 3.0))
    samples = SAMPLES[:2]
    params = params_with_fixed_relus(config, make_batch(samples, config).images)
    active = np.ones((2, config.num_classes), bool)
    active[0, 3] = active[1, 1] = False  # only the first image's count
    theirs = keras_model.train_step(params, config, samples, first, active_class_ids=active)
    batch = dataclasses.replace(make_batch(samples, config), active_class_ids=active)
    model = MaskRCNN(config, {name: p.copy() for name, p in params.items()})
    losses, cache = model.losses(batch, np.random.default_rng(0), targets=theirs.targets)
    return theirs, losses, model.backward(cache)


def test_losses(step):
    """Measured: 3e-7."""
    theirs, losses, _ = step
    assert (theirs.targets.class_ids > 0).sum() >= 5 and (theirs.targets.rois[-1] == [0, 0, 1, 1]).all()
    assert set(losses) == set(theirs.losses) and all(value > 0 for value in losses.values())
    for name, value in theirs.losses.items():
        assert losses[name] == pytest.approx(value, rel=1e-4), name


def test_gradients(step):
    """Of every parameter, relative to the largest of its tensor. Measured: 4e-5 (ResNet-50), 8e-5 (ResNet-101)."""
    theirs, _, gradients = step
    assert set(gradients) == set(theirs.gradients)
    errors = {name: error(gradients[name], g) for name, g in theirs.gradients.items()}
    assert max(errors.values()) <= 5e-4, max(errors, key=errors.get)
    assert np.median(list(errors.values())) <= 2e-5
    assert all(np.abs(g).max() > 0 for g in theirs.gradients.values())


def test_gradients_are_not_a_matter_of_luck():
    """With several threads TensorFlow loses additions to the pyramid's gradient."""
    assert tf.config.threading.get_intra_op_parallelism_threads() == 1
    params = params_with_fixed_relus(TRAINING, make_batch(SAMPLES[:1], TRAINING).images)
    once, again = (keras_model.train_step(params, TRAINING, SAMPLES[:1], first).gradients for _ in range(2))
    for name, gradient in once.items():
        np.testing.assert_array_equal(gradient, again[name])


def test_targets_and_losses_of_its_own(monkeypatch):
    """Nothing is handed over but the choice: the same anchors, RoIs, targets and losses come out."""
    monkeypatch.setattr(targets, "_choose", lambda indices, count, rng: indices[:count])
    params = params_with_fixed_relus(TRAINING, make_batch(SAMPLES[:1], TRAINING).images)
    theirs = keras_model.train_step(params, TRAINING, SAMPLES[:1], first)
    losses, cache = MaskRCNN(TRAINING, params).losses(make_batch(SAMPLES[:1], TRAINING), np.random.default_rng(0))
    found: Targets = cache.targets
    np.testing.assert_array_equal(found.rpn_labels, theirs.targets.rpn_labels)
    np.testing.assert_array_equal(found.class_ids, theirs.targets.class_ids)
    np.testing.assert_allclose(found.rois, theirs.targets.rois, atol=1e-3)
    for name, value in theirs.losses.items():
        assert losses[name] == pytest.approx(value, rel=1e-4), name
