"""``mrcnn-np explain``: what it prints and writes, and what it refuses."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from coco_tree import CocoTree
from PIL import Image

from mrcnn_np.cli.beginnings import too_few_to_begin
from mrcnn_np.cli.explain import _find
from mrcnn_np.cli.main import main
from mrcnn_np.data import open_dataset
from mrcnn_np.data.few import LOOKED_AT, too_few
from mrcnn_np.errors import UserError


@pytest.fixture(scope="module")
def explained(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("explain") / "val"
    assert main(["explain", "--run", str(trained), "--out", str(out), "--quiet"]) == 0
    return out


def test_the_files_say_what_the_evaluation_says(trained, explained, tmp_path, capsys):
    record = json.loads((explained / "explain.json").read_text())
    out = tmp_path / "e.json"
    assert main(["eval", "--run", str(trained), "--iou-type", "mask", "--out", str(out), "--quiet"]) == 0
    evaluated = json.loads(out.read_text())["mask"]
    assert record["mean_ap"] == pytest.approx(evaluated["mean_ap"], abs=1e-6)
    assert record["oracles"]["as it is"]["mask"] == record["mean_ap"]
    classes = evaluated["classes"].values()
    assert len(record["missed"]) == sum(c["gt"] - c["tp"] for c in classes) > 0
    assert len(record["false"]) == sum(c["fp"] for c in classes) > 0
    assert sum(s["count"] for s in record["stages"].values()) == len(record["missed"])
    assert sum(k["count"] for k in record["kinds"].values()) == len(record["false"])
    assert all(miss["text"] and miss["numbers"] for miss in record["missed"])


def test_the_page_is_whole_by_itself(explained):
    page = (explained / "explain.html").read_text()
    assert re.findall(r"src=.(.{15})", page) == ["data:image/png;"] * 2
    words = re.sub(r"base64,[^']+", "", page)  # in which any four letters may come
    assert not re.search(r"href|url\(|https?:|<script|<link", words)
    pictures = re.findall(r"base64,([^']+)'", page)
    assert len(pictures) == 2
    for data in pictures:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert picture.shape[0] > 300 and (picture == [0xD6, 0x27, 0x28]).all(axis=2).any()  # something is missed
    costs = [float(c) for c in re.findall(r"<h2>.*?([+-][\d.]+) AP", page)]
    assert costs == sorted(costs, reverse=True)


def test_one_image(trained, tmp_path, capsys):
    for name in ("val_000001", "val_000001.jpg", "somewhere/val_000001.jpg"):
        out = tmp_path / "one"
        command = ["explain", "--run", str(trained), "--image", name, "--out", str(out), "--quiet", "--no-oracles"]
        assert main(command) == 0
        text = capsys.readouterr().out
        record = json.loads((out / "explain.json").read_text())
        assert record["images"] == 1 and record["oracles"] == {}
        assert {one["image_id"] for one in record["missed"] + record["false"]} == {"val_000001"}
        assert text.count("missed: object") == len(record["missed"])
        left = re.search(r"and (\d+) more false detections?, .*; explain.json has all", text)
        assert text.count("false: detection") + (int(left[1]) if left else 0) == len(record["false"])
        assert " of the 6 pictures that it learned from: too few for that" in text.splitlines()[0]
        assert "what to try" in text
        assert Image.open(out / "explain.png").size[0] > 600


def test_detections_have_the_numbers_that_detect_gives_them(trained, shapes, tmp_path, capsys):
    (picture,) = (p for p in Path(shapes).rglob("val_000001.*g") if p.suffix == ".jpg")
    out = tmp_path / "out"
    common = ["--run", str(trained), "--score", "0", "--out", str(out), "--quiet"]
    assert main(["explain", *common, "--image", picture.name, "--no-oracles"]) == 0
    told = re.findall(r"false: detection (\d+), (\w+) ([\d.]+)", capsys.readouterr().out)
    assert main(["detect", *common, str(picture)]) == 0
    (path,) = out.glob("*_detections.json")
    found = {one["n"]: one for one in json.loads(path.read_text())["detections"]}
    false = json.loads((out / "explain.json").read_text())["false"]
    assert false
    for one in false:
        same = found[one["number"]]
        assert (one["class"], one["box"]) == (same["class"], same["box"])
        assert one["score"] == pytest.approx(same["score"], abs=1e-4)
    for number, name, score in told:
        assert (name, float(score)) == (
            found[int(number)]["class"],
            pytest.approx(found[int(number)]["score"], abs=1e-4),
        )


def test_the_beginning_of_a_long_name_is_enough():
    class Named:
        ids = ("3b3f5168a0", "3b3f52", "00ae65c1c6", "00ae")

    assert _find(Named(), "3b3f516", "val") == 0 and _find(Named(), "00ae", "val") == 3
    assert _find(Named(), "00a", "val") is None and _find(Named(), "00ae65c2", "val") is None
    with pytest.raises(UserError, match="one of several images of split 'val': 3b3f5168a0, 3b3f52; expected an id"):
        _find(Named(), "3b3f5", "val")


@pytest.mark.parametrize(
    ("changes", "known"),
    [({}, True), ({"root": "/gone"}, False), ({"weights": "w.pth"}, False), ({"images": LOOKED_AT + 1}, False)],
)
def test_whether_pictures_were_too_few_is_asked_of_the_pictures(trained, shapes, tmp_path, changes, known):
    """Not of the number of classes that are listed, and only where they are still there."""
    for name in ("options.json", "summary.json"):
        facts = json.loads((trained / name).read_text())
        (tmp_path / name).write_text(json.dumps(facts | {k: v for k, v in changes.items() if k in facts}))
    judged = too_few(open_dataset("shapes", shapes))
    assert judged is not None and too_few_to_begin(tmp_path) == (judged if known else None)


def test_the_default_place_is_the_run(trained, monkeypatch, capsys, tmp_path):
    def explain(*args, **options):
        there.append((trained / "explain-val").is_dir())
        raise RuntimeError

    there = []
    monkeypatch.setattr("mrcnn_np.cli.explain.explain_split", explain)
    with pytest.raises(RuntimeError):
        main(["explain", "--run", str(trained)])
    assert there == [True] and not (trained / "explain-val").exists()  # it failed


def test_pictures_may_be_few(trained, tmp_path):
    out = tmp_path / "few"
    command = ["explain", "--run", str(trained), "--pictures", "0", "--out", str(out), "--quiet", "--no-oracles"]
    assert main(command) == 0
    assert "0 dearest of 2 images" in (out / "explain.html").read_text()


@pytest.mark.parametrize(
    "options, message",
    [
        (
            ["--image", "val_00001"],
            "has no image val_00001; expected the id or the file name of one; did you mean 'val_000001'",
        ),
        (["--image", "train_000001"], "split 'val' has no image train_000001, split 'train' has it; add --split train"),
        (["--image", "train_000001.jpg"], "split 'train' has it; add --split train"),
        (["--iou", "0.1"], "--iou is 0.1; expected a number above 0.1"),
        (["--preset", "tiny"], "--preset"),
        (["--out", "file"], "file"),
        (["--split", "nothing"], "nothing"),
    ],
)
def test_what_is_refused(trained, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("mrcnn_np.cli.explain.explain_split", lambda *a, **k: pytest.fail("it was measured"))
    assert main(["explain", "--run", str(trained), "--quiet", *options]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "x"
    if (trained / "explain-val").exists():
        (trained / "explain-val").rmdir()


def test_weights_need_data(trained, capsys):
    assert main(["explain", "--weights", str(trained / "checkpoint.safetensors")]) == 2
    assert "--weights does not say which images" in capsys.readouterr().err


def test_weights_and_data(trained, shapes, tmp_path):
    out = tmp_path / "w"
    command = ["explain", "--weights", str(trained / "checkpoint.safetensors"), "--data", "shapes", "--root", shapes]
    assert main([*command, "--out", str(out), "--no-oracles", "--quiet"]) == 0
    assert json.loads((out / "explain.json").read_text())["images"] == 2


def test_the_page_of_the_documents_shows_python_that_runs(trained, shapes, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "why-did-it-miss.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "runs").mkdir()
    (tmp_path / "datasets").mkdir()
    (tmp_path / "runs" / "shapes-tiny").symlink_to(trained)
    (tmp_path / "datasets" / "shapes").symlink_to(shapes)
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert "IoU" in capsys.readouterr().out


def test_numbers_of_coco_stand_beside_the_names_of_files(trained, tmp_path, capsys):
    tree = CocoTree(tmp_path / "coco")
    tree.content["categories"] = [{"id": n, "name": name} for n, name in enumerate(("circle", "square", "triangle"), 1)]
    for number in (7, 139):
        tree.image(number, height=64, width=64).rectangle(number, 8, 8, 30, 24, category=1)
    command = ["explain", "--weights", str(trained), "--data", "coco", "--root", str(tree.save()), "--split", "train"]
    command += ["--out", str(tmp_path / "o"), "--quiet", "--no-oracles"]
    assert main(command) == 0
    said, name = capsys.readouterr().out, "139 (000000000139.png)"
    assert f"  {name}  false: " in said or f"  {name}  missed: " in said
    assert f"<h2>{name} " in (tmp_path / "o" / "explain.html").read_text()
    record = json.loads((tmp_path / "o" / "explain.json").read_text())
    assert {(one["image_id"], one["file"]) for one in record["missed"]} == {
        ("7", "000000000007.png"), ("139", "000000000139.png"),
    }  # fmt: skip
    for given in ("139", name):
        assert main([*command, "--image", given]) == 0
        assert f"  {name}  " in capsys.readouterr().out
    assert json.loads((tmp_path / "o" / "explain.json").read_text())["title"].endswith(f"split train, image {name}")


def test_a_broken_image_is_named_or_left_out(trained, shapes, tmp_path, capsys):
    root = tmp_path / "shapes"
    shutil.copytree(shapes, root)
    next(root.rglob("val_000000.*g")).write_bytes(b"no image")
    command = ["explain", "--run", str(trained), "--root", str(root), "--out", str(tmp_path / "o"), "--quiet"]
    assert main(command) == 2
    assert "val_000000" in capsys.readouterr().err
    assert main([*command, "--skip-bad", "--no-oracles"]) == 0
    assert "skipped image val_000000" in capsys.readouterr().err
    assert json.loads((tmp_path / "o" / "explain.json").read_text())["images"] == 1
