"""``mrcnn-np data anchors``: the table, its files, and what it recommends goes into ``train``."""

import json
import shlex
import shutil

import pytest
from annotated_trees import labelme

from mrcnn_np.cli.main import main


def test_anchors_of_a_preset(shapes, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["data", "anchors", "--root", shapes, "--size", "64", "--out", str(out), "--quiet"]
    assert main(given) == 0
    said = capsys.readouterr().out
    assert "objects in 6 images; preset tiny" in said and "only the best-anchor rule saves" in said
    numbers = json.loads((out / "anchors.json").read_text())
    assert numbers["images"] == 6 and (out / "anchors.png").is_file()
    options = shlex.split(numbers["options"])
    assert options and numbers["options"] in said
    assert main([*given, *options]) == 0  # the line is taken as it stands, and raises what it said
    again = json.loads((out / "anchors.json").read_text())
    assert again["now"] == numbers["suggested"]


def test_anchors_of_a_run(trained, shapes, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["data", "anchors", "--run", str(trained), "--out", str(out), "--quiet"]) == 0
    config = json.loads((trained / "config.json").read_text())
    numbers = json.loads((out / "anchors.json").read_text())
    assert numbers["now"]["anchor_sizes"] == config["anchor_sizes"] and numbers["images"] == 6
    assert main(["data", "anchors", "--run", str(trained), "--split", "val", "--subset", "1", "--out", str(out)]) == 0
    assert json.loads((out / "anchors.json").read_text())["images"] == 1


def test_anchors_of_a_folder(tmp_path, capsys):
    """--data takes a path, and what would be held out of it is left out."""
    root = labelme(tmp_path / "mine")
    given = ["data", "anchors", "--data", str(root), "--size", "64", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(given) == 0
    said = capsys.readouterr().out
    assert f"{root}: labelme's JSON files" in said and "3 objects in 2 images; preset tiny" in said
    assert main([*given, "--val-fraction", "0.5"]) == 0
    assert "in 1 image" in capsys.readouterr().out


def test_what_is_wrong_is_said(shapes, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--root", shapes]
    for given, said in (
        (["--config", "anchor_sizes=[1, 2]"], "anchor_sizes is (1, 2); expected 5 sizes"),
        (["--config", "anchor_size=3"], "did you mean 'anchor_sizes'"),
        (["--split", "test"], "test"),
    ):
        assert main(["data", "anchors", *given, *out]) == 2
        message = capsys.readouterr().err
        assert said in message and "Traceback" not in message


def test_a_run_that_is_none_is_answered_as_by_other_commands(trained, shapes, tmp_path, capsys):
    run = tmp_path / "runs" / "shapes"
    run.mkdir(parents=True)
    for name in ("checkpoint.safetensors", "config.json"):
        shutil.copy(trained / name, run)
    (tmp_path / "empty").mkdir()
    for given, said in (
        (run.parent / "shape", f"there is no run {run.parent / 'shape'}; did you mean {str(run)!r}?"),
        (run.parent / "other", f"there is no run {run.parent / 'other'}; the runs in {run.parent} are shapes"),
        (run / "checkpoint.safetensors", f"is a file; expected the folder of a run, such as {run}"),
        (run.parent, f"holds no checkpoint.safetensors; it is a folder, expected that of a training run, or a file of "
                     f"weights; the runs in {run.parent} are shapes"),
        (tmp_path / "empty", "holds no checkpoint.safetensors; it is a folder"),
    ):  # fmt: skip
        messages = []
        for command in (["data", "anchors", "--out", str(tmp_path / "out")], ["eval"]):
            assert main([*command, "--root", shapes, "--data", "shapes", "--run", str(given)]) == 2
            messages.append(capsys.readouterr().err)
        assert said in messages[0] and messages[0] == messages[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kept", ["checkpoint.safetensors", "config.json"])
def test_a_run_says_its_configuration_in_either_file(trained, shapes, tmp_path, capsys, kept):
    (tmp_path / "run").mkdir()
    shutil.copy(trained / kept, tmp_path / "run")
    given = ["data", "anchors", "--root", shapes, "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*given, "--run", str(tmp_path / "run")]) == 0
    now = json.loads((tmp_path / "out" / "anchors.json").read_text())["now"]
    assert now["anchor_sizes"] == json.loads((trained / "config.json").read_text())["anchor_sizes"]
