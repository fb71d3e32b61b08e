"""``mrcnn-np detect`` on folders, zips, patterns and animations, its limits, and what it writes to be corrected."""

import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from mrcnn_np import MaskRCNN
from mrcnn_np.cli.main import main
from mrcnn_np.detections import Detections

#: boxes of what `finds` finds, with their classes
FOUND = {(2, 3, 10, 12): 1, (12, 20, 28, 38): 3, (20, 2, 24, 6): 1}


@pytest.fixture
def folder(tmp_path):
    """Three pictures, one of them damaged, and an animation."""
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    for k, name in enumerate(("a.png", "more/a.png", "b.png")):
        Image.new("RGB", (40, 30), (k, 9, 9)).save(root / name)
    (root / "b.png").write_bytes((root / "b.png").read_bytes()[:30])
    (root / "notes.txt").write_text("no picture")
    first, *others = [Image.new("RGB", (40, 30), (90 * k, 0, 0)) for k in range(3)]
    first.save(root / "c.gif", save_all=True, append_images=others)
    return root


@pytest.fixture
def finds(monkeypatch):
    """A network that finds the same three objects everywhere."""

    def detect(self, images):
        asked.append(self.config)
        boxes = np.array(list(FOUND), np.float32)
        masks = np.zeros((len(FOUND), *images[0].shape[:2]), bool)
        for mask, (y1, x1, y2, x2) in zip(masks, FOUND):
            mask[y1:y2, x1:x2] = True
        return [Detections(boxes, np.array(list(FOUND.values())), np.array([0.9, 0.8, 0.7]), masks)]

    asked = []
    monkeypatch.setattr(MaskRCNN, "detect", detect)
    return asked


def run(trained, *args):
    return main(["detect", "--run", str(trained), "--quiet", *map(str, args)])


def test_a_folder(trained, folder, tmp_path, finds, capsys):
    out = tmp_path / "out"
    assert run(trained, folder, "--out", out, "--no-pictures", "--coco-results", tmp_path / "r.json") == 2
    said = capsys.readouterr()
    assert "b.png: is not an image" in said.err and "1 could not be read; the others are done" in said.err
    assert "left out: 1 file, not called like pictures (such as " in said.err and "notes.txt" in said.err
    names = {path.name for path in out.iterdir()}
    expected = ("a", "a-2", "c_frame00000", "c_frame00001", "c_frame00002")
    assert names == {f"{name}_{kind}" for name in expected for kind in ("detections.json", "instances.png")}
    record = json.loads((out / "c_frame00002_detections.json").read_text())
    assert record["frame"] == 2 and record["image"].endswith("c.gif") and len(record["detections"]) == 3
    results = json.loads((tmp_path / "r.json").read_text())
    numbers = [json.loads((out / f"{name}_detections.json").read_text())["coco_image_id"] for name in expected]
    assert len(set(numbers)) == 5 and {r["image_id"] for r in results} == set(numbers) and len(results) == 15
    # once more: what was written below is not taken for pictures
    assert run(trained, folder, "--out", folder / "found", "--no-pictures") == 2
    assert run(trained, folder, "--out", folder / "found", "--no-pictures") == 2
    assert len(list((folder / "found").iterdir())) == 10


def test_nothing_is_written_where_nothing_can_be_read(trained, tmp_path, capsys):
    """Neither a table without rows nor a folder to correct that would say so much as that nothing was found."""
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    wanted = {"--table": "t.csv", "--coco-results": "r.json", "--labelme": "l", "--label-images": "i"}
    options = [str(word) for option, name in wanted.items() for word in (option, tmp_path / name)]
    for files, say in (("a.png", 0), ("*", 1)):
        assert run(trained, tmp_path / files, "--out", tmp_path / "out", *options) == 2
        said = capsys.readouterr()
        assert "a.png: is not an image" in said.err and "written to" not in said.out
        assert said.err.count("error: 2 could not be read; nothing is written\n") == say
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.png", "b.jpg"]


def test_outlines(trained, folder, tmp_path, finds):
    drawn = []
    for more in ([], ["--outlines"], ["--no-pictures"]):
        assert run(trained, folder / "a.png", "--out", tmp_path / "out", *more) == 0
        drawn.append((tmp_path / "out" / "a_detections.png").read_bytes())
    assert drawn[0] != drawn[1] == drawn[2]


def test_zips_patterns_and_steps(trained, folder, tmp_path, finds):
    os.remove(folder / "b.png")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        for name in ("a.png", "c.gif"):
            file.write(folder / name, f"in/{name}")
    out = tmp_path / "out"
    assert run(trained, tmp_path / "z.zip", "--out", out, "--frame-step", "2", "--no-pictures") == 0
    assert {p.name for p in out.glob("*.json")} == {
        f"{name}_detections.json" for name in ("a", "c_frame00000", "c_frame00002")
    }
    assert run(trained, folder / "**" / "*.png", "--out", tmp_path / "two") == 0
    assert {p.name for p in (tmp_path / "two").glob("*.png")} == {
        f"{name}_{kind}.png" for name in ("a", "a-2") for kind in ("detections", "instances")
    }


def test_limits_and_every_class(trained, folder, tmp_path, finds):
    def kept(*options):
        assert run(trained, folder / "a.png", "--out", tmp_path / "out", "--no-pictures", *options) == 0
        return [d["pixels"] for d in json.loads((tmp_path / "out" / "a_detections.json").read_text())["detections"]]

    assert kept() == [72, 288, 16]
    assert kept("--min-side", "8") == [72, 288] and kept("--min-side", "9") == [288]
    assert kept("--max-side", "9") == [72, 16] and kept("--max-side", "3") == []
    assert kept("--min-area", "72", "--max-area", "72") == [72]
    before = finds[-1].detection_classes
    kept("--every-class")
    assert finds[-1].detection_classes == "all" and finds[-2].detection_classes == before


@pytest.mark.parametrize(("option", "kind"), [("--labelme", "labelme"), ("--label-images", "labels")])
def test_what_was_found_can_be_corrected_and_trained_on(trained, folder, tmp_path, finds, capsys, option, kind):
    os.remove(folder / "b.png")
    where = tmp_path / "correct"
    assert run(trained, folder, "--out", tmp_path / "out", "--no-pictures", option, where) == 0
    said = capsys.readouterr().out
    first = "labelme" if kind == "labelme" else "a program that paints label images"
    train = f"mrcnn-np train --data {where} --weights {trained}/checkpoint"
    assert f"5 images written to {where}; correct them in {first} first, then: {train}" in said
    beside = "if you have labelme files already, copy these beside them and train on that folder instead"
    assert (beside in said) == (kind == "labelme")
    assert main(["data", "check", "--data", str(where), "--quiet"]) in (0, 2)  # equal pictures are remarked on
    said = capsys.readouterr().out
    assert kind in said or "label images" in said
    few = ["--size", "64", "--steps", "1", "--batch-size", "1", "--quiet", "--no-pictures", "--no-eval"]
    run_folder = tmp_path / "run"
    assert main(["train", "--data", str(where), "--out", str(run_folder), *few]) == 0
    summary = json.loads((run_folder / "summary.json").read_text())
    assert summary["images"] == 5
    # a second time nothing is lost
    before = {path.name: path.read_bytes() for path in where.iterdir()}
    assert run(trained, folder, "--out", tmp_path / "out", "--no-pictures", option, where) == 0
    assert {path.name: path.read_bytes() for path in where.iterdir()} == before
    assert "earlier detection" not in capsys.readouterr().out
    assert run(trained, folder / "a.png", "--out", tmp_path / "out", "--no-pictures", option, where) == 0
    assert f"{where} holds what an earlier detection wrote of other pictures (4), too" in capsys.readouterr().out
    # now it would overwrite what was corrected
    corrected = "a.json" if kind == "labelme" else "a_mask.png"
    (where / corrected).write_bytes(before[corrected] + b" ")
    assert run(trained, folder, "--out", tmp_path / "out", "--no-pictures", option, where) == 2
    refused = f"{where} is there already, and {corrected} in it was changed since detect wrote it; expected the name"
    assert refused in capsys.readouterr().err
    assert (where / corrected).read_bytes() == before[corrected] + b" "


def test_empty_masks_are_named_with_their_pictures(trained, folder, tmp_path, monkeypatch, capsys):
    def detect(self, images):
        shape = images[0].shape[:2]
        boxes = np.array([[2, 3, 10, 12]], np.float32)
        return [Detections(boxes, np.array([1]), np.array([0.9]), np.zeros((1, *shape), bool))]

    monkeypatch.setattr(MaskRCNN, "detect", detect)
    where = tmp_path / "correct"
    pictures = (folder / "a.png", folder / "more" / "a.png")
    assert run(trained, *pictures, "--out", tmp_path / "out", "--no-pictures", "--labelme", where) == 0
    said = capsys.readouterr().err
    assert f"2 detections have no pixel in {where}, because their masks are empty, only their boxes are there" in said
    assert "they are in the JSON of --out, in these pictures: a (1), a-2 (1)" in said


def test_annotations_beside_the_pictures_are_not_remarked_on(trained, folder, tmp_path, finds, capsys):
    for name in ("a.json", "notes.txt", "b.png"):
        (folder / name).write_text("{}") if name == "a.json" else os.remove(folder / name)
    assert run(trained, folder, "--out", tmp_path / "out", "--no-pictures") == 0
    assert "left out" not in capsys.readouterr().err


def test_refusals(trained, folder, tmp_path, finds, capsys):
    out = str(tmp_path / "out")
    assert run(trained, folder / "a.png", "--out", out, "--labelme", out) == 2
    assert "name one folder; expected another for each" in capsys.readouterr().err
    assert run(trained, folder / "*.bmp", "--out", out) == 2
    assert "matches no file" in capsys.readouterr().err
    (folder / "d.mp4").write_bytes(b"no video")
    assert run(trained, folder / "d.mp4", "--out", out) == 2
    assert "d.mp4: " in capsys.readouterr().err
    Image.new("RGB", (40, 30)).save(folder / "c_frame00001_instances.png")
    assert run(trained, folder, "--out", folder) == 2
    assert "c_frame00001_instances.png would be overwritten" in capsys.readouterr().err


def test_a_real_network_there_and_back(trained, shapes, tmp_path):
    """Whatever a hardly trained network finds is read again as it was found."""
    from mrcnn_np.data import open_dataset

    image = os.path.join(shapes, "VOC2012", "JPEGImages", "val_000000.jpg")
    where, out = tmp_path / "correct", tmp_path / "out"
    assert run(trained, image, "--score", "0", "--out", out, "--labelme", where) == 0
    found = json.loads((out / "val_000000_detections.json").read_text())["detections"]
    dataset = open_dataset("labelme", where, "train")
    sample = dataset.load(0)
    drawn = [d for d in found if d["pixels"]]
    assert [dataset.class_names[k] for k in sample.gt_class_ids] == [d["class"] for d in drawn]
    for mask, one in zip(np.asarray(sample.gt_masks), drawn):
        assert abs(int(mask.sum()) - one["pixels"]) <= 0.04 * one["pixels"]
