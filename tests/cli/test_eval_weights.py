"""``mrcnn-np eval --weights``: classes by name, what does not map, and the same numbers as the run's own evaluation."""

import json

import numpy as np
import pytest
from weight_files import save_like_torch

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.cli.main import main
from mrcnn_np.data import open_dataset
from mrcnn_np.detections import Detections
from mrcnn_np.synthetic import params_that_detect
from mrcnn_np.training.checkpoint import Checkpoint, save_checkpoint
from mrcnn_np.weights.torchvision import state_shapes, to_torchvision

SMALL = {
    "backbone": "tiny", "fpn_channels": 8, "rpn_channels": 8, "box_head_channels": 16, "mask_head_channels": 8,
    "image_min_size": 64, "image_max_size": 96,
}  # fmt: skip
CONFIG = presets.torchvision(num_classes=4, **SMALL)
SIZES = ["--config", "image_min_size=64", "--config", "image_max_size=96"]
OURS = ("background", "circle", "square", "triangle")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    assert main(["data", "shapes", "--root", str(root), "--train", "1", "--val", "4", "--size", "64"]) == 0
    return str(root)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights in torchvision's layout, which name no classes."""
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    save_like_torch(path, to_torchvision(params_that_detect(CONFIG), state_shapes(CONFIG), channels=8))
    return str(path)


def answer_with_the_truth(monkeypatch, shapes, numbers):
    """Let the network find every object, with our class k called ``numbers[k]``."""
    dataset = open_dataset("shapes", shapes, "val")
    samples = iter([dataset.load(i) for i in range(len(dataset))])

    def detect(self, images):
        sample = next(samples)
        scores = np.linspace(1, 0.5, len(sample.gt_boxes), dtype=np.float32)
        return [Detections(sample.gt_boxes, np.array(numbers)[sample.gt_class_ids], scores, sample.gt_masks)]

    monkeypatch.setattr(MaskRCNN, "detect", detect)
    return dataset


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and "Traceback" not in captured.err
    return captured.err


def test_classes_are_mapped_by_name(shapes, weights, tmp_path, monkeypatch, capsys):
    """The file's triangle is its class 1 and its circle class 3; it has no square and a disc of its own."""
    dataset = answer_with_the_truth(monkeypatch, shapes, (0, 3, 2, 1))
    out, found = tmp_path / "e.json", tmp_path / "found.json"
    command = ["eval", "--weights", weights, "--data", "shapes", "--root", shapes, "--quiet", "--out", str(out)]
    assert main([*command, "--class-names", "Triangle,disc,circle", "--coco-results", str(found)]) == 0
    said = capsys.readouterr().out
    assert "2 of the data set's 3 classes are among the 3 of" in said
    assert "not in the weights, so never found (AP 0): square\n" in said
    assert "not in the data set, so left out: disc\n" in said
    record = json.loads(out.read_text())
    assert record["weights"] == weights and record["classes"] == {"Triangle": "triangle", "circle": "circle"}
    count = dict.fromkeys(OURS, 0)
    for sample in map(dataset.load, range(len(dataset))):
        for k in sample.gt_class_ids:
            count[OURS[k]] += 1
    assert all(count[name] for name in OURS[1:])  # or the next lines say nothing
    ap = {name: row["ap"] for name, row in record["mask"]["classes"].items()}
    assert ap == {"circle": 1, "square": 0, "triangle": 1} and record["mask"]["mean_ap"] == pytest.approx(2 / 3)
    assert sorted({r["category_id"] for r in json.loads(found.read_text())}) == [1, 3]  # the data set's numbers


def test_the_same_numbers_as_the_run_itself(shapes, tmp_path, capsys):
    """A checkpoint is a file of weights, too: whichever option names it."""
    config = presets.tiny(image_min_size=64, image_max_size=64, detection_score_threshold=0.01)
    path, outs = tmp_path / "checkpoint.safetensors", [tmp_path / "a.json", tmp_path / "b.json"]
    save_checkpoint(path, Checkpoint(3, 0, config, OURS, params_that_detect(config), {}))
    for option, out in zip(("--checkpoint", "--weights"), outs):
        command = ["eval", option, str(path), "--data", "shapes", "--root", shapes, "--quiet", "--out", str(out)]
        assert main([*command, "--method", "coco"]) == 0
    first, second = (json.loads(out.read_text()) for out in outs)
    assert first["box"] == second["box"] and first["mask"] == second["mask"]
    assert "3 of the data set's 3 classes" in capsys.readouterr().out
    assert not list(tmp_path.glob("eval-*"))


def test_nothing_is_written_beside_the_weights(shapes, weights, tmp_path, capsys):
    command = ["eval", "--weights", weights, "--data", "shapes", "--root", shapes, "--preset", "torchvision", *SIZES]
    assert main([*command, "--class-names", "circle,square,triangle", "--iou-type", "box", "--quiet"]) == 0
    assert "(voc10, box IoU >= 0.5, 4 images; COCO AP: mean" in capsys.readouterr().out


def test_bad_input(shapes, weights, tmp_path, capsys):
    data = ["--data", "shapes", "--root", shapes]
    command = ["eval", "--weights", weights]
    assert "expected --data shapes, voc or coco" in refused(capsys, *command)
    assert "does not say what its 3 classes are; expected their names by --class-names" in refused(
        capsys, *command, *data
    )
    err = refused(capsys, *command, *data, "--class-names", "cat,dog,bird")
    assert "(cat, dog, bird) has the name of one of the data set (circle, square, triangle)" in err
    err = refused(capsys, *command, *data, "--preset", "detectron2")
    assert "belongs to another configuration" in err and "channel_order" in err
    missing = str(tmp_path / "none.pth")
    assert f"cannot read {missing}" in refused(capsys, "eval", "--weights", missing, *data)
    for option in (["--preset", "tiny"], ["--class-names", "a"], ["--config", "bn_eps=0"]):
        if option[0] != "--config":
            assert "go with --weights" in refused(capsys, "eval", "--run", str(tmp_path), *option)
        assert "go with --weights" in refused(capsys, "eval", "--results", "x.json", *option)
    with pytest.raises(SystemExit):
        main([*command, "--run", str(tmp_path)])
