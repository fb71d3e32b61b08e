"""``mrcnn-np data anchors``: the table, its files, and what it recommends goes into ``train``."""

import json
import shlex

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
    assert "in 1 images" in capsys.readouterr().out


def test_what_is_wrong_is_said(shapes, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--root", shapes]
    for given, said in (
        (["--run", str(tmp_path / "none")], "config.json"),
        (["--config", "anchor_sizes=[1, 2]"], "anchor_sizes is (1, 2); expected 5 sizes"),
        (["--config", "anchor_size=3"], "did you mean 'anchor_sizes'"),
        (["--split", "test"], "test"),
    ):
        assert main(["data", "anchors", *given, *out]) == 2
        message = capsys.readouterr().err
        assert said in message and "Traceback" not in message
