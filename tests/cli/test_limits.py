"""Limits are said: detections an image, fields that may change, AP without objects, images that are not held out."""

import json
import os
import shutil

import numpy as np
import pytest
from coco_tree import CocoTree
from scenes import detections_of
from small_run import SMALL, train

from mrcnn_np import MaskRCNN
from mrcnn_np.cli.main import main
from mrcnn_np.cli.network import load_model
from mrcnn_np.config import Config
from mrcnn_np.errors import ConfigError
from mrcnn_np.params import shapes

ALL = ["--config", "detections_per_image=400", "--config", "detection_score_threshold=0"]


@pytest.fixture
def image(shapes):
    return os.path.join(shapes, "VOC2012", "JPEGImages", "val_000000.jpg")


@pytest.fixture
def many(monkeypatch):
    """Let the network find so many things as the limit allows, of 7."""

    def detect(self, images):
        count = min(7, self.config.detections_per_image)
        shape = images[0].shape[:2]
        return [detections_of([(0, 0, 4, 4)] * count, np.linspace(0.9, 0.6, count), shape=shape) for _ in images]

    monkeypatch.setattr(MaskRCNN, "detect", detect)


def test_detect_says_once_how_many_images_are_cut_off(trained, image, tmp_path, capsys, many):
    command = ["detect", "--run", str(trained), image, "--out", str(tmp_path), "--quiet"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.count("detections_per_image is 5: 1 of 1 images reached that number") == 1
    assert "--config detections_per_image=N" in out
    assert main([*command, "--config", "detections_per_image=7"]) == 0
    assert "detections_per_image is 7: 1 of 1" in capsys.readouterr().out
    assert main([*command, "--config", "detections_per_image=400"]) == 0
    assert "detections_per_image" not in capsys.readouterr().out
    record = json.loads((tmp_path / "val_000000_detections.json").read_text())
    assert len(record["detections"]) == 7


def test_evaluation_says_how_many_images_have_more_objects(shapes, trained, tmp_path, capsys, many):
    out = tmp_path / "e.json"
    command = ["eval", "--run", str(trained), "--out", str(out), "--quiet"]
    assert main([*command, "--config", "detections_per_image=1"]) == 0
    printed, record = capsys.readouterr().out, json.loads(out.read_text())
    (note,) = record["notes"]
    assert printed.count(note) == 1 and record["config"] == ["detections_per_image=1"]
    assert "detections_per_image is 1: 2 of 2 images reached that number" in note and "have more objects" in note
    assert main([*command, "--config", "detections_per_image=400"]) == 0
    assert json.loads(out.read_text())["notes"] == [] and "detections_per_image" not in capsys.readouterr().out
    assert train(shapes, tmp_path / "run", "--config", "detections_per_image=1", "--steps", "1") == 0
    command = ["train", "--out", str(tmp_path / "run"), "--resume", "--eval-splits", "val", "--quiet", "--no-pictures"]
    assert main(command) == 0
    assert f"- val: {note}" in (tmp_path / "run" / "summary.md").read_text()


def other_value(name, value):
    """Another value of a field, or several to try."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [other for other in (value + 1, value * 2, value / 2, 64) if other != value]
    choices = {
        "pixel_mean": [(1.0, 2.0, 3.0)], "pixel_std": [(1.0, 2.0, 3.0)], "anchor_ratios": [(1.0,), (0.5, 1.0)],
        "frozen": [("rpn.*",)], "no_decay": [("rpn.*",)], "decay_at": [(0.5,)], "backbone": ["small", "resnet18"],
    }  # fmt: skip
    return choices.get(name, [])


def test_every_field_changes_parameters_or_may_be_changed(trained):
    """Whatever the field: either the parameters are the same, or it is refused and the parameter is named."""
    path = trained / "checkpoint.safetensors"
    model, checkpoint = load_model(path)
    outcomes = {True: set(), False: set()}
    for name, value in checkpoint.config.to_dict().items():
        for other in other_value(name, value):
            text = f"{name}={json.dumps(other)}"
            try:
                config = checkpoint.config.with_overrides([text])
            except ConfigError:
                continue  # out of range
            try:
                changed, _ = load_model(path, [text])
            except ConfigError as error:
                assert f"--config {text} changes the parameters: " in str(error) and "would be" in str(error)
                assert shapes(model.params) != shapes(MaskRCNN(config).params)
                outcomes[False].add(name)
            else:
                assert getattr(changed.config, name) == getattr(config, name)
                outcomes[True].add(name)
    assert {"detections_per_image", "detection_nms_iou", "image_max_size", "proposals_nms_iou"} <= outcomes[True]
    assert {"num_classes", "backbone", "fpn_channels", "rpn_channels", "anchor_ratios"} <= outcomes[False]
    assert not outcomes[True] & outcomes[False]
    assert len(outcomes[True] | outcomes[False]) > 0.6 * len(Config.__dataclass_fields__)


@pytest.mark.parametrize("which", ["--run", "--checkpoint"])
@pytest.mark.parametrize("command", ["detect", "eval"])
def test_what_may_not_be_changed_is_refused_and_why(trained, image, tmp_path, capsys, which, command):
    place = trained if which == "--run" else trained / "checkpoint.safetensors"
    more = [image, "--out", str(tmp_path / "found")] if command == "detect" else ["--out", str(tmp_path / "e.json")]
    if which == "--checkpoint" and command == "eval":
        more += ["--split", "val"]
    for text, message in (
        ("rpn_channels=24", "changes the parameters: rpn.conv.w is"),
        ("num_classes=7", "changes the parameters: box_head.class."),
        ("detections_per_image=0", "detections_per_image is 0; expected"),
        ("no_such_field=1", "unknown config field"),
    ):
        assert main([command, which, str(place), *more, "--config", text, "--quiet"]) == 2
        assert message in capsys.readouterr().err
    assert main([command, which, str(place), *more, *ALL, "--quiet"]) == 0


def test_the_score_may_be_a_field(trained, image, tmp_path, many):
    def found(*more):
        assert main(["detect", "--run", str(trained), image, "--out", str(tmp_path), "--quiet", *more]) == 0

    seen = []
    real = MaskRCNN.detect
    MaskRCNN.detect = lambda self, images: (seen.append(self.config.detection_score_threshold), real(self, images))[1]
    try:
        found()
        found("--config", "detection_score_threshold=0.25")
        found("--config", "detection_score_threshold=0.25", "--score", "0.75")
    finally:
        MaskRCNN.detect = real
    assert seen == [0.5, 0.25, 0.75]


# --- AP without objects


def test_ap_without_objects_says_why(trained, tmp_path, capsys):
    """COCO has -1, VOC a dash."""
    root = CocoTree(tmp_path / "data").image(1).save()
    content = json.loads((root / "annotations" / "instances_train.json").read_text())
    content["categories"] = [{"id": i, "name": n} for i, n in ((1, "circle"), (2, "square"))]
    corners = [2, 3, 12, 3, 12, 13, 2, 13]
    content["annotations"] = [
        {"id": 1, "image_id": 1, "category_id": 2, "bbox": [2, 3, 10, 10], "area": 100, "iscrowd": 0,
         "segmentation": [corners]}
    ]  # fmt: skip
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    command = ["eval", "--run", str(trained), "--data", "coco", "--root", str(root), "--split", "train", "--quiet"]
    assert main([*command, "--out", str(tmp_path / "e.json"), "--method", "coco", "--iou-type", "box"]) == 0
    out = capsys.readouterr().out
    assert "APm    -1.0000  no medium objects" in out and "ARl    -1.0000  no large objects" in out
    assert "no objects of circle, triangle: the means are over the other classes" in out
    assert main([*command, "--out", str(tmp_path / "e.json")]) == 0
    assert "-: no objects of this class" in capsys.readouterr().out
    content["annotations"] = []
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    assert main([*command, "--out", str(tmp_path / "e.json"), "--method", "coco"]) == 0
    assert "AP     -1.0000  no objects" in capsys.readouterr().out


# --- images that are not held out


def test_held_out_images_that_are_trained_on_are_said(shapes, tmp_path, capsys):
    command = ["train", "--root", shapes, "--no-pictures", *SMALL, "--steps", "1"]
    cases = (
        (["--val-split", "train"], ["--val-split is train, the split that is trained on", "all 6 images"]),
        (["--val-split", "trainval"], ["--val-split is trainval: 6 of the 8 images"]),
        (["--split", "trainval"], ["--val-split is val: all 2 images"]),
        ([], []),
    )
    for i, (options, said) in enumerate(cases):
        assert main([*command, *options, "--out", str(tmp_path / str(i))]) == 0
        out = capsys.readouterr().out
        assert all(text in out for text in said) and ("warning: --val-split" in out) == bool(said)


def test_images_of_one_number_in_two_files_are_two(tmp_path, capsys):
    """COCO's ids often begin with 1 in both files."""
    tree = CocoTree(tmp_path / "data")
    tree.image(1).rectangle(1, 2, 3, 10, 10).save()
    shutil.copytree(tree.images, tree.root / "images" / "val")
    shutil.copy(tree.json, tree.json.with_name("instances_val.json"))
    few = ["--size", "32", "--batch-size", "1", "--steps", "1", "--quiet", "--no-pictures"]
    command = ["train", "--data", "coco", "--root", str(tree.root), *few]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    assert "warning" not in capsys.readouterr().out
    assert main([*command, "--out", str(tmp_path / "b"), "--val-split", "train"]) == 0
    assert (
        "warning: --val-split is train, the split that is trained on (--split train): all 1 images"
        in capsys.readouterr().out
    )
