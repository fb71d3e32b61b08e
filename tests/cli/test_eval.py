"""``mrcnn-np eval``: the numbers, and what is found before anything is measured."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from annotated_trees import save

from mrcnn_np.cli.main import main
from mrcnn_np.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.mark.parametrize("method", ["voc07", "coco"])
def test_eval_prints_and_writes(trained, tmp_path, capsys, method):
    out = tmp_path / "e.json"
    assert main(["eval", "--run", str(trained), "--method", method, "--out", str(out), "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "box" in text
    assert "mask" in text
    record = json.loads(out.read_text())
    assert (record["split"], record["step"], record["mask"]["method"]) == ("val", 4, method)
    counts = record["counts"]
    # by VOC's rules COCO's AP stands beside, as after the training, from the same detections
    assert ("COCO AP" in text) == ("coco" in record) == (method != "coco")
    assert "what detect finds\ndetect with" in text and "--score 0.5" in text
    assert (counts["iou_type"], counts["default"]["score"], counts["best_f1"]) == ("mask", 0.5, None)
    assert "objects are too few for that" in text and "too few" in counts["no_proposal_because"]


def test_an_unfinished_training_is_told(trained, tmp_path, capsys):
    """By each command that looks at a run, in one line; not by those of a finished run."""
    path = tmp_path / "half" / "checkpoint.safetensors"
    shutil.copytree(trained, path.parent)
    assert main(["eval", "--run", str(path.parent), "--quiet", "--iou-type", "box"]) == 0
    assert "not finished" not in capsys.readouterr().out
    checkpoint = load_checkpoint(path)
    save_checkpoint(path, replace(checkpoint, config=checkpoint.config.replace(steps=9)))
    save(tmp_path / "a.png", np.zeros((32, 32, 3), np.uint8))
    for command in (["eval", "--iou-type", "box"], ["explain", "--no-oracles"], ["detect", str(tmp_path / "a.png")]):
        assert main([*command, "--run", str(path.parent), "--quiet", "--out", str(tmp_path / command[0])]) == 0
        assert capsys.readouterr().out.count(f"{path} is of step 4 of 9: its training is not finished\n") == 1


def test_eval_agrees_with_the_summary(trained, tmp_path):
    out = tmp_path / "e.json"
    command = ["eval", "--run", str(trained), "--split", "train", "--iou-type", "mask", "--out", str(out), "--quiet"]
    assert main(command) == 0
    summary = json.loads((trained / "summary.json").read_text())
    assert json.loads(out.read_text())["mask"] == summary["evaluation"]["train"]["mask"]
    assert json.loads(out.read_text())["coco"] == summary["evaluation"]["train"]["coco"]
    counts = json.loads(out.read_text())["counts"]
    assert counts == summary["evaluation"]["train"]["counts"] and "has learnt" in counts["no_proposal_because"]
    assert "## train: what detect finds" in (trained / "summary.md").read_text()


def test_eval_complains_before_it_generates_or_measures(trained, tmp_path, monkeypatch, capsys):
    """A run that is not there, and places that cannot be written."""
    monkeypatch.setattr("mrcnn_np.cli.eval.evaluate_split", lambda *a, **k: pytest.fail("it was measured"))
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "--run", "missing"]) == 2
    assert "missing" in capsys.readouterr().err and not list(tmp_path.iterdir())
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for option in ("--out", "--coco-results"):
        assert main(["eval", "--run", str(trained), option, "folder"]) == 2
        assert "cannot write folder: it is a folder; expected the name of a file" in capsys.readouterr().err
        assert main(["eval", "--run", str(trained), option, "file/e.json"]) == 2
        assert "cannot write into file: " in capsys.readouterr().err
    assert main(["detect", "--run", str(trained), "x.png", "--coco-results", "folder"]) == 2
    assert "cannot write folder: it is a folder" in capsys.readouterr().err


def test_eval_on_data_of_other_classes(trained, tmp_path, monkeypatch, capsys):
    if "VOC_ROOT" not in os.environ:
        pytest.skip("VOC_ROOT is not set")
    assert main(["eval", "--run", str(trained), "--data", "voc"]) == 2
    assert "was trained on the classes background, circle" in capsys.readouterr().err
