"""From a file of weights to its network: what the user says counts, and what does not fit is refused."""

import numpy as np
import pytest

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.errors import UserError, WeightFileError, WeightMismatchError
from mrcnn_np.synthetic import params_that_detect, picture
from mrcnn_np.weights import save_weights
from mrcnn_np.weights.manifest import Manifest
from mrcnn_np.weights.network import name_classes, open_weights

CONFIG = presets.tiny(image_min_size=64, image_max_size=96)


@pytest.fixture(scope="module")
def params():
    return params_that_detect(CONFIG)


@pytest.fixture
def path(params, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, params, CONFIG)
    return path


def test_the_network_of_a_file_detects(path, params):
    model = MaskRCNN.load(path, detections_per_image=3)
    assert model.config == CONFIG.replace(detections_per_image=3) and model.class_names == ()
    assert all(np.array_equal(model.params[name], p) for name, p in params.items())
    assert len(model.detect([picture((64, 90))])[0].boxes) == 3


def test_what_the_user_says_counts_more(path):
    weights, manifest, config = open_weights(path, "tiny", ["channel_order=bgr", "detection_nms_iou=0.3"])
    assert (config.channel_order, config.detection_nms_iou) == ("bgr", 0.3)
    assert manifest.config().channel_order == "bgr" and weights.manifest.channel_order == "rgb"
    model = MaskRCNN.load(path, overrides=["channel_order=bgr"], class_names="circle,square,triangle")
    assert model.config.channel_order == "bgr" and model.class_names == ("background", "circle", "square", "triangle")


@pytest.mark.parametrize(
    "preset, overrides, error, words",
    [
        ("small", None, WeightMismatchError, "small"),
        (None, ["fpn_channels=16"], WeightMismatchError, "does not fit the network"),
        (None, ["colour=1"], UserError, "unknown config field 'colour'"),
    ],
)
def test_what_does_not_fit_is_refused(path, preset, overrides, error, words):
    with pytest.raises(error, match=words):
        MaskRCNN.load(path, preset=preset, overrides=overrides)


def test_a_backbone_detects_nothing(tmp_path):
    config = presets.torchvision(backbone="resnet18")
    backbone = Manifest.from_config(config, source="x", backbone_only=True)
    assert name_classes(backbone, None, tmp_path) is backbone
    with pytest.raises(UserError, match="holds a backbone only"):
        name_classes(backbone, "a,b", tmp_path)


def test_numbers_that_are_not_finite_name_the_file(path, params, tmp_path):
    spoilt = {name: p.copy() for name, p in params.items()}
    spoilt["fpn.output2.b"][0] = np.nan
    bad = tmp_path / "bad.safetensors"
    save_weights(bad, spoilt, CONFIG)
    with pytest.raises(WeightFileError, match=r"bad\.safetensors.*fpn\.output2\.b"):
        MaskRCNN.load(bad)
