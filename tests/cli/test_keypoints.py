"""The commands with a network that finds keypoints: train, eval, detect, data; what they refuse, and how."""

import json

import numpy as np
import pytest
from coco_tree import CocoTree
from PIL import Image
from small_run import SMALL

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.cli.main import main
from mrcnn_np.config import Config
from mrcnn_np.training.checkpoint import load_checkpoint

KINDS = {"keypoints": ["nose", "left_hand", "right_hand"], "skeleton": [[1, 2], [1, 3]]}
HEAD = ["--config", "keypoints=3", "--config", "keypoint_head_convs=1", "--config", "keypoint_head_channels=8"]
QUICK = [*SMALL, *HEAD, "--config", "detections_per_image=5", "--config", "detection_score_threshold=0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    tree = CocoTree(tmp_path_factory.mktemp("data") / "coco")
    tree.content["categories"] = [{"id": 1, "name": "person", **KINDS}]
    for number in (1, 2, 3):
        tree.image(number, height=60, width=64)
        points = [20, 20, 2, 14, 30, 1, 30, 32, 2 * (number % 2)]
        tree.rectangle(number, 8, 8, 30, 40, category=1, keypoints=points, num_keypoints=2 + number % 2)
    return str(tree.save())


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "pose"
    arguments = ["train", "--data", "coco", "--root", root, "--out", str(out), *QUICK, "--eval-splits", "train"]
    assert main([*arguments, "--steps", "2"]) == 0
    return out


def test_train(run):
    config = load_checkpoint(run / "checkpoint.safetensors").config
    assert config.keypoint_names == tuple(KINDS["keypoints"]) and config.keypoint_skeleton == (1, 2, 1, 3)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < row["head_keypoint"] < 20 and row["head_mask"] > 0 for row in rows)
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["evaluation"]["train"]) >= {"box", "mask", "keypoints"} and "head_keypoint" in str(summary)
    assert "keypoints AP50" in (run / "summary.md").read_text()


def test_resumed_it_is_the_same(root, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    quick = [*QUICK, "--no-eval", "--no-pictures", "--config", "flip=0.5"]
    for out, steps in ((whole, "2"), (parts, "1")):
        assert main(["train", "--data", "coco", "--root", root, "--out", str(out), *quick, "--steps", steps]) == 0
    assert main(["train", "--out", str(parts), "--resume", "--steps", "2", "--no-eval", "--no-pictures"]) == 0
    a, b = (load_checkpoint(folder / "checkpoint.safetensors").params for folder in (whole, parts))
    assert set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def test_eval(run, root, tmp_path, capsys):
    results = tmp_path / "found.json"
    arguments = ["eval", "--run", str(run), "--data", "coco", "--root", root, "--split", "train", "--out"]
    assert main([*arguments, str(tmp_path / "a.json"), "--coco-results", str(results)]) == 0
    assert main([*arguments, str(tmp_path / "b.json"), "--iou-type", "keypoints"]) == 0
    measured, alone = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert measured["keypoints"] == alone["keypoints"] and "box" in measured and "box" not in alone
    assert list(alone["keypoints"])[3:13] == ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]
    records = json.loads(results.read_text())
    assert records and all(len(record["keypoints"]) == 9 for record in records)
    truth = f"{root}/annotations/instances_train.json"
    found = ["eval", "--results", str(results), "--ground-truth", truth, "--out", str(tmp_path / "c.json")]
    assert main([*found, "--iou-type", "keypoints"]) == 0
    assert json.loads((tmp_path / "c.json").read_text())["keypoints"]["AP"] == pytest.approx(alone["keypoints"]["AP"])
    assert main(found) == 0 and "keypoints\n" in capsys.readouterr().out


def test_detect(run, root, tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 64, 3), dtype=np.uint8)).save(picture)
    assert main(["detect", str(picture), "--run", str(run), "--out", str(tmp_path / "out"), "--score", "0"]) == 0
    record = json.loads((tmp_path / "out" / "a_detections.json").read_text())
    assert record["skeleton"] == [["nose", "left_hand"], ["nose", "right_hand"]] and record["detections"]
    for found in record["detections"]:
        assert set(found["keypoints"]) == set(KINDS["keypoints"])
        assert all(set(point) == {"y", "x", "score"} for point in found["keypoints"].values())
    assert (tmp_path / "out" / "a_detections.png").stat().st_size > 1000
    (found,) = MaskRCNN.load(run, detection_score_threshold=0.0).detect(picture)
    assert found.pose.names == tuple(KINDS["keypoints"]) and found.plot().size[0] >= 64


def test_data(root, tmp_path, capsys):
    assert main(["data", "check", "--data", "coco", "--root", root]) in (0, 2)
    assert "images     3" in capsys.readouterr().out
    show = [
        "data",
        "show",
        "--data",
        "coco",
        "--root",
        root,
        "--subset",
        "1",
        "--out",
        str(tmp_path),
        "--augmented",
        "1",
    ]
    assert main(show) == 0 and len(list(tmp_path.glob("*.png"))) == 2


def test_a_data_set_without_keypoints_is_refused(tmp_path, capsys):
    tree = CocoTree(tmp_path / "coco").image(1).rectangle(1, 2, 3, 10, 10)
    arguments = [
        "train",
        "--data",
        "coco",
        "--root",
        str(tree.save()),
        "--out",
        str(tmp_path / "run"),
        *QUICK,
        "--no-eval",
    ]
    assert main(arguments) == 2
    assert "keypoints is 3, but what is trained on has none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_another_number_of_keypoints_is_refused(root, tmp_path, capsys):
    arguments = ["train", "--data", "coco", "--root", root, "--out", str(tmp_path / "run"), *QUICK, "--no-eval"]
    assert main([*arguments, "--config", "keypoints=17"]) == 2
    assert "keypoints is 17, but what is trained on has 3: nose, left_hand, right_hand" in capsys.readouterr().err


def test_a_network_without_masks(root, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["train", "--data", "coco", "--root", root, "--out", str(out), *QUICK, "--no-pictures", "--no-eval"]
    assert main([*arguments, "--steps", "1", "--config", "mask_branch=false"]) == 0
    there = ["--data", "coco", "--root", root, "--split", "train"]
    assert main(["eval", "--run", str(out), *there, "--iou-type", "mask"]) == 2
    assert "--iou-type mask: the network has no such branch; expected box or keypoints" in capsys.readouterr().err
    assert main(["eval", "--run", str(out), *there]) == 0
    assert "mask" not in json.loads((out / "eval-train.json").read_text())
    assert main(["explain", "--run", str(out), *there, "--out", str(tmp_path / "why")]) == 2
    assert "explain follows boxes and masks, not keypoints" in capsys.readouterr().err


def test_a_network_without_keypoints_has_none_to_measure(root, tmp_path, capsys):
    out = tmp_path / "run"
    quick = ["--out", str(out), *SMALL, "--no-pictures", "--no-eval", "--steps", "0"]
    assert main(["train", "--data", "coco", "--root", root, *quick]) == 0
    assert main(["eval", "--run", str(out), "--split", "train", "--iou-type", "keypoints"]) == 2
    assert "the network has no such branch; expected box or mask" in capsys.readouterr().err


def test_old_configurations_have_no_keypoints():
    old = {name: value for name, value in presets.tiny().to_dict().items() if "keypoint" not in name}
    del old["mask_branch"]
    assert Config.from_dict(old) == presets.tiny()
