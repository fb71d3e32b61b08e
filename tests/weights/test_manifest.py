"""The manifest that goes with weights, and the tables of what does not fit."""

import json

import pytest

from mrcnn_np import presets
from mrcnn_np.config import Config
from mrcnn_np.errors import UserError, WeightFileError, WeightMismatchError
from mrcnn_np.weights.manifest import SHOWN, Manifest, match


@pytest.mark.parametrize(
    "config",
    [
        presets.torchvision(bn_eps=0.0),
        presets.detectron2(backbone="resnext101_32x8d", pixel_std=(57.375, 57.12, 58.395), stride_in_1x1=False),
        presets.matterport(num_classes=4, mask_head_convs=2),
        presets.tiny(anchor_sizes=(8.0, 16.0, 32.0, 64.0, 128.0), frozen=("backbone.*",)),
        Config("mine", 3, backbone="resnet18", roi_aligned=True),
    ],
)
def test_a_config_survives_its_manifest_and_json(config):
    names = tuple(f"class {i}" for i in range(config.num_classes))
    manifest = Manifest.from_config(config, source="test", class_names=names)
    assert manifest.config() == config
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest and again.config() == config
    assert again.differences(config) == []


def test_overrides_hold_only_what_differs_from_the_preset():
    manifest = Manifest.from_config(presets.torchvision(num_classes=5, roi_aligned=True), source="torchvision")
    assert manifest.overrides == {"roi_aligned": True}
    assert manifest.config(detections_per_image=7).detections_per_image == 7


def test_contradictions_are_a_table():
    manifest = Manifest.from_config(presets.torchvision(), source="torchvision", presumed=("channel_order",))
    with pytest.raises(WeightMismatchError) as caught:
        manifest.check(presets.detectron2(num_classes=81), "weights.pth")
    assert isinstance(caught.value, UserError)
    lines = [line.split("  ") for line in str(caught.value).splitlines()]
    rows = {cells[1]: [c.strip() for c in cells[2:] if c.strip()] for cells in lines[1:]}
    assert "weights.pth belongs to another configuration" in str(caught.value)
    assert rows["channel_order"] == ["rgb (presumed)", "bgr"]
    assert rows["stride_in_1x1"] == ["no", "yes"]
    assert rows["num_classes"] == ["91", "81"]
    assert rows["pixel_mean"] == ["(0.485, 0.456, 0.406)", "(103.53, 116.28, 123.675)"]
    assert "detection_min_size" not in rows  # a threshold may be chosen freely


def test_a_backbone_does_not_care_for_the_heads():
    manifest = Manifest.from_config(presets.torchvision(), source="torchvision", backbone_only=True)
    manifest.check(presets.torchvision(num_classes=3, roi_aligned=True), "x")
    with pytest.raises(WeightMismatchError, match="bn_eps"):
        manifest.check(presets.torchvision(bn_eps=1e-3), "x")


def test_match_accepts_equal_names_and_shapes():
    match({"a": (2, 3)}, {"a": (2, 3)}, "x")


def test_match_lists_every_kind_and_counts_the_rest():
    found = {f"extra{i}": (1,) for i in range(SHOWN + 5)} | {"w": (2, 3)}
    with pytest.raises(WeightMismatchError) as caught:
        match(found, {"w": (3, 2), "gone": (4,)}, "file.pth")
    text = str(caught.value)
    assert f"of 2 tensors 1 missing, {SHOWN + 5} not expected, 1 of another shape" in text
    assert "... and 5 more" in text and f"extra{SHOWN - 1} " in text and f"extra{SHOWN} " not in text
    rows = [line.split() for line in text.splitlines()]
    assert ["gone", "(4)", "missing"] in rows
    assert ["w", "(3,", "2)", "(2,", "3)"] in rows


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "3", "{" * 10_000, json.dumps({"source": "x"}), '{"unknown": 1}'],
)
def test_a_broken_manifest_is_an_error_of_the_file(text):
    with pytest.raises(WeightFileError, match=r"f\.safetensors: its manifest"):
        Manifest.from_json(text, "f.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": 3},
        {"overrides": {"no_such_field": 1}},
        {"overrides": 4},
        {"class_names": ["a"]},
        {"class_names": [1, 2, 3, 4]},
        {"class_names": 3},
        {"source": 3},
        {"num_classes": 1},
        {"pixel_mean": [1, 2]},
    ],
)
def test_a_manifest_with_values_of_another_type(change):
    values = json.loads(Manifest.from_config(presets.tiny(), source="x").to_json()) | change
    with pytest.raises(WeightFileError, match="its manifest"):
        Manifest.from_json(json.dumps(values))
