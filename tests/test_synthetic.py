"""Made-up pictures, samples and weights: what they promise, on images of odd shapes too."""

import numpy as np
import pytest
from nets import make_sample, small_config

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.compare.trace import trace_ours
from mrcnn_np.data.sample import check_sample, without_objects
from mrcnn_np.synthetic import (
    batch,
    generated_sample,
    params_that_detect,
    picture,
    sample,
    sample_from,
    sample_of,
    spread_outputs,
)


def assert_tight(found):
    """Every box is the smallest around its mask."""
    assert len(found.gt_boxes) == len(found.gt_masks) == len(found.gt_class_ids)
    for mask, (y1, x1, y2, x2) in zip(found.gt_masks, found.gt_boxes):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) == (y1, x1, y2, x2)


# --- pictures and samples ---


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (64, 96)])
def test_a_picture_depends_on_its_seed_only(size):
    image = picture(size, 3)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image, picture(size, 3))
    assert not np.array_equal(image, picture(size, 4))


def test_a_sample_of_two_masks_by_hand():
    masks = np.zeros((2, 4, 6), bool)
    masks[0, 1:3, 2:5] = True
    masks[1, 3, 0] = True
    found = sample_of(picture((4, 6)), masks, np.array([2, 1]), image_id="a")
    assert found.gt_boxes.tolist() == [[1, 2, 3, 5], [3, 0, 4, 1]] and found.gt_boxes.dtype == np.float32
    assert found.image_id == "a" and not found.void.any() and not found.gt_crowd.any()
    check_sample(found, 3)
    none = sample_of(picture((4, 6)), masks[:0], np.zeros(0, np.int64), void=masks[0])
    check_sample(none, 3)
    assert none.gt_boxes.shape == (0, 4) and none.void.sum() == 6


def test_an_image_without_objects():
    found = without_objects(picture((5, 7)), "b", "b.png")
    check_sample(found, 2)
    assert (found.image_id, found.path) == ("b", "b.png")
    assert found.gt_masks.shape == (0, 5, 7) and found.void.shape == (5, 7) and found.of_objects([]).gt_boxes.size == 0


@pytest.mark.parametrize("classes", [2, 4, 91])
@pytest.mark.parametrize("size", [(32, 48), (200, 272)])
def test_three_ellipses_of_every_size(size, classes):
    found = sample(size, classes=classes)
    check_sample(found, classes)
    assert_tight(found)
    shares = found.gt_masks.mean(axis=(1, 2))
    assert len(shares) == 3 and (shares > 0.05).all() and (shares < 0.25).all()
    one = batch(size, presets.tiny(num_classes=classes, batch_size=2))
    assert one.image_ids == ("0", "1") and [len(b) for b in one.gt_boxes] == [3, 3]


def test_objects_are_marked_at_the_size_of_the_network():
    config = presets.torchvision(num_classes=4, image_min_size=48, image_max_size=64)
    found = sample_from(picture((100, 130)), config, seed=3)
    assert found.image.shape == (48, 62, 3) and found.gt_masks.shape == (3, 48, 62)
    assert_tight(found)
    none = sample_from(picture((100, 130)), config, count=0)
    check_sample(none, 4)
    assert none.gt_masks.shape == (0, 48, 62)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_generated_sample_has_to_be_resized_and_padded(classes):
    config = presets.tiny(num_classes=classes)
    for seed in range(8):
        found = generated_sample(config, seed)
        check_sample(found, classes)
        assert_tight(found)
        assert found.image.shape == (160, 192, 3)
        assert not (found.gt_masks & found.void).any()


# --- weights ---


@pytest.mark.parametrize("preset", [presets.tiny, presets.small])
def test_with_these_weights_every_head_decides_something(preset):
    config = preset()
    image = picture((192, 256))
    (found,) = MaskRCNN(config, params_that_detect(config)).detect([image])
    assert len(found.boxes) > 3 and np.ptp(found.scores) > 0.01
    assert found.masks.any(axis=(1, 2)).any() and not found.masks.all(axis=(1, 2)).all()


def test_weights_for_a_picture_of_its_own():
    image = make_sample(np.random.default_rng(1), size=(64, 48)).image
    config = small_config()
    noise, own = params_that_detect(config), params_that_detect(config, image=image)
    assert not np.array_equal(noise["rpn.objectness.w"], own["rpn.objectness.w"])
    trace = trace_ours(MaskRCNN(config, own), image)
    assert np.abs(np.concatenate([trace[f"rpn_logits.p{level}"] for level in range(2, 7)])).max() < 20


def test_outputs_of_a_layer_are_spread_about_zero():
    rng = np.random.default_rng(0)
    x, params = rng.normal(size=(200, 5)), {"a.w": rng.normal(size=(5, 3)), "a.b": rng.normal(size=3)}
    spread_outputs(params, "a", x @ params["a.w"] + params["a.b"], 2.5)
    y = x @ params["a.w"] + params["a.b"]
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    assert 2.0 < y.std() <= 2.5 + 1e-9  # the channels' means were part of the spread before
