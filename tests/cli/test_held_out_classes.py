"""The classes of held-out images are those of the training by name, in ``train`` and in ``eval``."""

import json

import numpy as np
import pytest
from coco_tree import CocoTree
from scenes import fill

from mrcnn_np import MaskRCNN
from mrcnn_np.cli.main import main
from mrcnn_np.detections import Detections

TRAIN = {1: "bolt", 2: "nut", 3: "ring"}
FEW = ["--size", "32", "--batch-size", "1", "--steps", "1", "--quiet", "--config", "warmup_steps=0", "--no-pictures"]
#: box (y1, x1, y2, x2) of the object of each class
PLACES = {"bolt": (2, 3, 12, 13), "nut": (14, 4, 28, 20), "ring": (5, 22, 20, 38), "gear": (22, 24, 29, 38)}


def make(root, val):
    """Two images, of which each has every class once; ``val`` maps the category ids of the held-out file to names."""
    tree = CocoTree(root)
    (root / "images" / "val").symlink_to(tree.images)
    tree.image(1).image(2)
    for split, categories in (("val", val), ("train", TRAIN)):
        tree.json = root / "annotations" / f"instances_{split}.json"
        tree.content["annotations"] = []
        tree.content["categories"] = [{"id": number, "name": name} for number, name in categories.items()]
        for image in (1, 2):
            for number, name in categories.items():
                y1, x1, y2, x2 = PLACES[name.lower()]
                tree.rectangle(image, x1, y1, x2 - x1, y2 - y1, category=number)
        tree.save()
    return root


@pytest.fixture(autouse=True)
def perfect(monkeypatch):
    """Let the network find one object of every class that it was trained on, where it is."""
    boxes = np.array([PLACES[name] for name in TRAIN.values()], np.float32)
    found = Detections(boxes, np.array([1, 2, 3]), np.array([0.9, 0.8, 0.7], np.float32), fill(boxes, (30, 40)))
    monkeypatch.setattr(MaskRCNN, "detect", lambda self, images: [found for _ in images])


def train(root, out, *more):
    return main(["train", "--data", "coco", "--root", str(root), "--out", str(out), *FEW, *more])


CASES = {
    "the same": (TRAIN, {"bolt": 1, "nut": 1, "ring": 1}, ""),
    "another order": ({1: "ring", 2: "bolt", 3: "nut"}, {"bolt": 1, "nut": 1, "ring": 1}, "are matched by name"),
    "other numbers": ({9: "nut", 7: "ring", 8: "bolt"}, {"bolt": 1, "nut": 1, "ring": 1}, "are matched by name"),
    "one lacks": ({1: "ring", 2: "nut"}, {"bolt": None, "nut": 1, "ring": 1}, "lacks bolt: no AP of these classes"),
    "one more": (TRAIN | {4: "gear"}, {"bolt": 1, "nut": 1, "ring": 1}, "has gear, which the network does not know"),
    "one more, first": ({1: "gear", 2: "nut", 3: "ring", 4: "bolt"}, {"bolt": 1, "nut": 1, "ring": 1}, "has gear"),
    "both": ({5: "gear", 6: "ring"}, {"bolt": None, "nut": None, "ring": 1}, "lacks bolt, nut"),
    "written otherwise": ({1: "Nut", 2: "RING", 3: "bolt"}, {"bolt": 1, "nut": 1, "ring": 1}, "are matched by name"),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_are_matched_by_name(name, tmp_path, capsys):
    val, expected, said = CASES[name]
    root, run, results = make(tmp_path / "data", val), tmp_path / "run", tmp_path / "found.json"
    assert train(root, run, "--eval-splits", "train,val") == 0
    out = capsys.readouterr().out
    assert said in out and (said or "the held-out split" not in out)
    assert main(["eval", "--run", str(run), "--quiet", "--coco-results", str(results)]) == 0
    assert said in capsys.readouterr().out
    summary = json.loads((run / "summary.json").read_text())["evaluation"]
    evaluated = json.loads((run / "eval-val.json").read_text())
    for kind in ("box", "mask"):
        assert summary["train"][kind]["mean_ap"] == 1
        assert summary["val"][kind] == evaluated[kind]
        assert {n: c["ap"] for n, c in evaluated[kind]["classes"].items()} == expected
        assert evaluated[kind]["mean_ap"] == 1
    # the results file has the held-out file's numbers
    categories = {(c["image_id"], val[c["category_id"]].lower()) for c in json.loads(results.read_text())}
    known = {n.lower() for n in val.values()} & set(TRAIN.values())
    assert categories == {(image, n) for image in (1, 2) for n in known}
    assert main(["eval", "--run", str(run), "--method", "coco", "--quiet"]) == 0
    assert json.loads((run / "eval-val.json").read_text())["mask"]["AP"] == pytest.approx(1)


def test_no_class_in_common_is_said_before_the_first_step(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mrcnn_np.cli.train.train", lambda *a, **k: pytest.fail("training began"))
    root = make(tmp_path / "data", {1: "gear"})
    assert train(root, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "was trained on the classes background, bolt, nut, ring; the held-out split 'val' has gear" in error
    assert not (tmp_path / "run").exists()


def test_two_classes_that_differ_in_case_are_two(tmp_path, capsys):
    root = make(tmp_path / "data", {1: "Bolt", 2: "bolt", 3: "nut", 4: "ring"})
    assert train(root, tmp_path / "run") == 0
    assert "has Bolt, which the network does not know" in capsys.readouterr().out
