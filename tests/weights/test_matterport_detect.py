"""A Keras .h5 file end to end: ResNet-101 in matterport's layout, narrow enough for a test, and what it detects."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.backbone import ARCHITECTURES, Architecture
from mrcnn_np.cli.main import main
from mrcnn_np.synthetic import params_that_detect, picture
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.weights import load_weights
from mrcnn_np.weights.formats.keras_h5 import write_matterport

pytest.importorskip("h5py", reason="Keras's files need h5py: pip install mrcnn-np[keras]")

SIZES = ["--config", "image_min_size=128", "--config", "image_max_size=128"]


class Narrow(Architecture):
    """All 101 layers, a few channels each."""

    @property
    def out_channels(self):
        return tuple(4 * width for width in self.width)


@pytest.fixture
def config(monkeypatch):
    narrow = Narrow(**{**dataclasses.asdict(ARCHITECTURES["resnet101"]), "width": (4, 4, 6, 8), "stem": 8})
    monkeypatch.setitem(ARCHITECTURES, "resnet101", narrow)
    return presets.matterport(
        num_classes=4,
        image_min_size=128,
        image_max_size=128,
        fpn_channels=16,
        rpn_channels=16,
        box_head_channels=32,
        mask_head_channels=8,
    )


@pytest.fixture
def image():
    return picture((96, 120), seed=3)


@pytest.fixture
def params(config, image):
    """Random, but moved to where heads decide; log heights stay below 10, which the preset does not see to."""
    return params_that_detect(config, image=image)


@pytest.fixture
def path(params, tmp_path):
    write_matterport(tmp_path / "mask_rcnn.h5", params)
    return str(tmp_path / "mask_rcnn.h5")


def test_detect(config, params, path, image, tmp_path, capsys):
    Image.fromarray(image).save(tmp_path / "photo.png")
    command = [
        "detect",
        "--weights",
        path,
        "--preset",
        "matterport",
        str(tmp_path / "photo.png"),
        "--out",
        str(tmp_path),
    ]
    assert main([*command, *SIZES, "--score", "0.5", "--class-names", "cat,dog,bird"]) == 0
    record = json.loads((tmp_path / "photo_detections.json").read_text())
    (found,) = MaskRCNN(config.replace(detection_score_threshold=0.5), params).detect([image])
    assert 3 <= len(found.scores) == len(record["detections"])
    for n, detection in enumerate(record["detections"]):
        assert detection["class"] == ("background", "cat", "dog", "bird")[found.class_ids[n]]
        assert detection["score"] == pytest.approx(float(found.scores[n]), abs=1e-5)
        assert detection["box"] == [float(v) for v in found.boxes[n]]
        assert detection["pixels"] == found.masks[n].sum()
    assert sum(d["pixels"] > 20 for d in record["detections"]) >= 3
    weights = load_weights(path)
    assert (weights.manifest.backbone, weights.manifest.bn_eps) == ("resnet101", 1e-3)


def test_the_backbone_of_the_file_is_its_101_layers(params):
    named = [n for n in params if n.startswith("backbone.") and ".conv" in n and n.endswith(".w")]
    main_path = [n for n in named if "shortcut" not in n]
    assert len(main_path) == 100  # and the classifier, which a detector does not have


def test_fine_tune(params, path, tmp_path, capsys):
    """matterport's recipe: the heads first (frozen: backbone); its conventions enter the configuration."""
    root, out = str(tmp_path / "shapes"), tmp_path / "run"
    assert main(["data", "shapes", "--root", root, "--train", "3", "--val", "1", "--size", "128"]) == 0
    options = ["--size", "128", "--steps", "2", "--batch-size", "1", "--freeze", "backbone", "--quiet", "--no-eval"]
    assert main(["train", "--root", root, "--out", str(out), "--weights", path, *options, "--no-pictures"]) == 0
    config = json.loads((out / "config.json").read_text())
    expected = {"name": "matterport", "bn_eps": 1e-3, "stride_in_1x1": True, "pixel_mean": [123.7, 116.8, 103.9]}
    assert {name: config[name] for name in expected} == expected
    trained = load_checkpoint(out / "checkpoint.safetensors")
    for name, p in params.items():
        moved = trained.params[name].shape != p.shape or (trained.params[name] != p).any()
        if name.startswith("backbone.") or name.endswith((".mean", ".var")):
            assert not moved, name
    assert (trained.params["box_head.conv1.w"] != params["box_head.conv1.w"]).any()
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(r["loss"]) for r in rows) and len(rows) == 2
