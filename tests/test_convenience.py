"""What a notebook tries first: one image without a list, a path, a seed, a folder; and messages for wrong guesses."""

import warnings

import numpy as np
import pytest
from nets import make_sample, small_config
from PIL import Image

from mrcnn_np import MaskRCNN
from mrcnn_np.boxes import boxes_from_xyxy, boxes_to_xyxy
from mrcnn_np.errors import CheckpointError, ConfigError, DataError
from mrcnn_np.molding import make_batch
from mrcnn_np.proposals import propose
from mrcnn_np.training.checkpoint import Checkpoint, save_checkpoint

NAMES = ("background", "a", "b", "c")


@pytest.fixture(scope="module")
def model():
    return MaskRCNN(small_config(detection_score_threshold=0.0, detections_per_image=5), rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def image():
    return make_sample(np.random.default_rng(1)).image


def test_detect_takes_one_image_or_several_of_any_kind(model, image, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    (wanted,) = model.detect([image])
    assert len(wanted.boxes) == 5
    for given in (image, path, str(path), Image.fromarray(image), [path], (image,), image[None]):
        (found,) = model.detect(given)
        np.testing.assert_array_equal(found.masks, wanted.masks)
    assert len(model.detect([image, path, Image.fromarray(image)])) == 3


def test_wrong_images_are_told(model, image, tmp_path):
    for given, kind, message in (
        (image.transpose(2, 0, 1), ValueError, r"shape \(3, 64, 64\).*looks like \(3, H, W\)"),
        ([image[None]], ValueError, "this is a batch"),
        (image / 255, ValueError, "float64.*whole numbers from 0 to 255"),
        ([3], TypeError, "image 0 is int; expected an array"),
        (tmp_path / "missing.png", DataError, "missing.png.*does not exist"),
    ):
        with pytest.raises(kind, match=message):
            model.detect(given)


def test_losses_take_a_seed(model, image):
    batch = make_batch([make_sample(np.random.default_rng(0))], model.config)
    frozen = MaskRCNN(model.config.replace(bn_mode="frozen"), model.params)
    assert frozen.losses(batch, 0)[0] == frozen.losses(batch, np.random.default_rng(0))[0]
    with pytest.raises(TypeError, match=r"rng is NoneType; expected a numpy\.random\.Generator"):
        frozen.losses(batch, None)
    assert len(repr(frozen.losses(batch, 0)[1])) < 400


def test_propose_wants_one_image(model):
    anchors = [np.zeros((6, 4))]
    with pytest.raises(ValueError, match=r"logits have shape \(1, 6\).*expected \(6,\) and \(6, 4\)"):
        propose(np.zeros((1, 6)), np.zeros((1, 6, 4)), anchors, (0, 0, 9, 9), model.config, training=False)


def test_a_model_says_what_it_is(model):
    assert repr(model).startswith("MaskRCNN(tiny, tiny, ") and repr(model).endswith(" parameters, 4 classes)")
    with pytest.raises(ConfigError, match="class_names has 2 names; expected 4"):
        MaskRCNN(model.config, model.params, class_names=("background", "a"))


def test_load_takes_a_run_or_its_checkpoint(model, image, tmp_path):
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    save_checkpoint(run / "checkpoint.safetensors", Checkpoint(3, 0, model.config, NAMES, model.params, {}))
    for path in (run, str(run), run / "checkpoint.safetensors"):
        loaded = MaskRCNN.load(path, detections_per_image=2)
        assert loaded.class_names == NAMES and loaded.config == model.config.replace(detections_per_image=2)
        assert len(loaded.detect(image)[0].boxes) == 2
    assert MaskRCNN.load(run, class_names=["background", "x", "y", "z"]).class_names[1] == "x"
    with pytest.raises(CheckpointError, match=r"runs holds no checkpoint\.safetensors.*the runs in it are first"):
        MaskRCNN.load(tmp_path / "runs")
    with pytest.raises(CheckpointError, match="does not exist; did you mean 'first'"):
        MaskRCNN.load(tmp_path / "runs" / "frst")


def test_boxes_in_the_other_order():
    boxes = np.array([[1.0, 2, 30, 40]])
    assert boxes_from_xyxy(boxes).tolist() == [[2, 1, 40, 30]] and boxes_to_xyxy(boxes_from_xyxy(boxes)).tolist() == [
        [1, 2, 30, 40]
    ]


def test_boxes_in_the_other_order_are_warned_of(model):
    sample = make_sample(np.random.default_rng(0), size=(64, 48), objects=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_batch([sample], model.config)
        make_batch([make_sample(np.random.default_rng(0), objects=0)], model.config)
    with pytest.warns(UserWarning, match=r"image a: gt_boxes fit gt_masks only when read as \(x1, y1, x2, y2\)"):
        make_batch([sample.replace(gt_boxes=boxes_to_xyxy(sample.gt_boxes))], model.config)
