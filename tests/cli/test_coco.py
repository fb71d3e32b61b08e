"""The command line on data in COCO's format: train, detect, eval, results files."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from mrcnn_np import MaskRCNN
from mrcnn_np.cli.main import main
from mrcnn_np.data import COCODataset, open_dataset
from mrcnn_np.detections import Detections

FEW = [
    "--size", "64", "--batch-size", "2", "--steps", "2", "--quiet", "--config", "warmup_steps=2",
    "--config", "detection_score_threshold=0.0", "--config", "detections_per_image=5",
]  # fmt: skip


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Shapes, written in COCO's format by the command itself."""
    folder = tmp_path_factory.mktemp("data")
    shapes, root = str(folder / "shapes"), folder / "coco"
    assert main(["data", "shapes", "--root", shapes, "--train", "4", "--val", "3", "--size", "64"]) == 0
    for split in ("train", "val"):
        out = str(root / "annotations" / f"instances_{split}.json")
        assert main(["data", "coco", "--root", shapes, "--split", split, "--out", out, "--quiet"]) == 0
    (root / "images").symlink_to(folder / "shapes" / "VOC2012" / "JPEGImages")
    return root


@pytest.fixture(scope="module")
def trained(coco, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    assert main(["train", "--data", "coco", "--root", str(coco), "--out", str(out), *FEW]) == 0
    return out


def nearly(sample, rng):
    """Most objects of an image, not quite in their places."""
    kept = rng.random(len(sample.gt_boxes)) < 0.8
    boxes = sample.gt_boxes[kept] + rng.uniform(-2, 2, (kept.sum(), 4))
    masks = np.roll(sample.gt_masks[kept], (1, 2), axis=(1, 2))
    return Detections(boxes.astype(np.float32), sample.gt_class_ids[kept], rng.random(kept.sum()), masks)


def eval_results(coco, results, out, *more):
    truth = str(coco / "annotations" / "instances_val.json")
    return main(["eval", "--results", str(results), "--ground-truth", truth, "--out", str(out), "--quiet", *more])


def test_training_on_coco_is_training_on_the_same_shapes(coco, trained, tmp_path):
    out = tmp_path / "b"
    root = str(coco.parent / "shapes")
    assert (
        main(["train", "--data", "shapes", "--root", root, "--out", str(out), "--no-eval", "--no-pictures", *FEW]) == 0
    )
    assert (out / "metrics.jsonl").read_text() == (trained / "metrics.jsonl").read_text()
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["images"] == 4 and set(summary["evaluation"]) == {"val"}


def test_a_data_set_without_held_out_images(coco, tmp_path, capsys):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train2017.json").symlink_to(coco / "annotations" / "instances_train.json")
    (tmp_path / "images").symlink_to(coco / "images")
    command = ["train", "--data", "coco", "--root", str(tmp_path), "--out", str(tmp_path / "run"), *FEW]
    assert main([*command, "--val-fraction", "0"]) == 2
    message = capsys.readouterr().err
    assert "there are no held-out images: " in message and "no annotations/instances_val*.json" in message
    assert "--val-split" in message and "--no-eval" in message
    assert not (tmp_path / "run").exists()
    assert main([*command, "--val-split", "train2017", "--val-subset", "1"]) == 0
    assert main([*command, "--overwrite"]) == 0
    assert "of 4 images, drawn by a hash of their names (--val-fraction 0.1)" in capsys.readouterr().out


def test_eval_and_its_results_file_give_the_same_numbers(coco, trained, tmp_path, capsys, monkeypatch):
    found, out, again = tmp_path / "new" / "found.json", tmp_path / "e.json", tmp_path / "r.json"
    dataset, rng = COCODataset(coco, "val"), np.random.default_rng(0)
    answers = iter([nearly(dataset.load(i), rng) for i in range(len(dataset))])
    monkeypatch.setattr(MaskRCNN, "detect", lambda self, images: [next(answers)])  # after two steps it finds nothing
    command = ["eval", "--run", str(trained), "--method", "coco", "--out", str(out), "--quiet"]
    assert main([*command, "--coco-results", str(found)]) == 0
    records = json.loads(found.read_text())
    assert {r["image_id"] for r in records} == {1, 2, 3}
    assert f"{len(records)} detections written to {found}" in capsys.readouterr().out
    assert eval_results(coco, found, again) == 0
    model, files = json.loads(out.read_text()), json.loads(again.read_text())
    for kind in ("box", "mask"):
        assert 0.1 < model[kind]["AP"] < 0.9
        assert model[kind].pop("classes") == pytest.approx(files[kind].pop("classes"), abs=1e-12)
        assert model[kind] == pytest.approx(files[kind], abs=1e-12)
    capsys.readouterr()
    # the data set in place of the file; boxes only
    assert main(["eval", "--results", str(found), "--root", str(coco), "--iou-type", "box", "--quiet"]) == 0
    assert f"AP     {files['box']['AP']:>7.4f}" in capsys.readouterr().out


def test_perfect_results_are_perfect(coco, tmp_path):
    truth = json.loads((coco / "annotations" / "instances_val.json").read_text())
    keys = ("image_id", "category_id", "bbox", "segmentation")
    results = [{k: a[k] for k in keys} | {"score": 1} for a in truth["annotations"]]
    (tmp_path / "found.json").write_text(json.dumps(results))
    assert eval_results(coco, tmp_path / "found.json", tmp_path / "e.json") == 0
    numbers = json.loads((tmp_path / "e.json").read_text())
    assert numbers["box"]["AP"] == numbers["mask"]["AP"] == 1


def test_detect_numbers_the_images(coco, trained, tmp_path, capsys):
    images = []
    for name in ("000000000139.png", "7.png"):
        Image.fromarray(np.full((48, 64, 3), 120, np.uint8)).save(tmp_path / name)
        images.append(str(tmp_path / name))
    found = tmp_path / "found.json"
    command = ["detect", "--run", str(trained), "--score", "0", "--out", str(tmp_path / "out"), "--quiet"]
    command += ["--coco-results", str(found), *images]
    assert main(command) == 0
    records = json.loads(found.read_text())
    assert {r["image_id"] for r in records} == {139, 7} and {r["category_id"] for r in records} <= {1, 2, 3}
    assert records[0]["segmentation"]["size"] == [48, 64]
    # by a list of images as COCO publishes them for its test images: no annotations
    listed = [
        {"id": 50 + n, "file_name": n_, "height": 48, "width": 64} for n, n_ in enumerate(("7.png", "000000000139.png"))
    ]
    content = {"images": listed, "categories": [{"id": 12, "name": "square"}, {"id": 30, "name": "circle"}]}
    truth = tmp_path / "image_info.json"
    truth.write_text(json.dumps(content))
    assert main([*command, "--ground-truth", str(truth)]) == 0
    again = json.loads(found.read_text())
    kept = [r for r in records if r["category_id"] != 3]  # circle, square, triangle: that one is not in the list
    assert [r["category_id"] for r in again] == [{1: 30, 2: 12}[r["category_id"]] for r in kept]
    assert [r["image_id"] for r in again] == [{7: 50, 139: 51}[r["image_id"]] for r in kept]
    assert ("left out" in capsys.readouterr().err) == (len(kept) < len(records))
    truth.write_text(json.dumps(content | {"images": listed[:1]}))
    assert main([*command, "--ground-truth", str(truth)]) == 2
    assert "does not list 000000000139.png" in capsys.readouterr().err
    truth.write_text(json.dumps(content | {"categories": [{"id": 1, "name": "cow"}]}))
    assert main([*command, "--ground-truth", str(truth)]) == 2
    assert "has the categories cow; expected some of those that the model knows, circle" in capsys.readouterr().err
    assert main([*command[:-4], "--ground-truth", str(truth), *images]) == 2
    assert "--ground-truth numbers the images of --coco-results" in capsys.readouterr().err


def test_pictures_without_a_detection_are_counted_aloud(coco, tmp_path, capsys):
    """The results may be of a part of the pictures; then AP is low for no fault of the network."""
    truth = json.loads((coco / "annotations" / "instances_val.json").read_text())
    results = [
        {k: a[k] for k in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 1}
        for a in truth["annotations"]
    ]
    seen, found = len({a["image_id"] for a in truth["annotations"]}), tmp_path / "found.json"
    found.write_text(json.dumps(results))
    assert eval_results(coco, found, tmp_path / "e.json") == 0
    assert "warning" not in capsys.readouterr().err
    first = results[0]["image_id"]
    found.write_text(json.dumps([one for one in results if one["image_id"] == first]))
    assert eval_results(coco, found, tmp_path / "e.json") == 0
    said = capsys.readouterr().err
    assert f"warning: {seen - 1} of {seen} pictures of " in said and f"have no detection in {found}: " in said


def test_results_without_masks(coco, tmp_path, capsys):
    found = tmp_path / "found.json"
    found.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "score": 0.5}]))
    assert eval_results(coco, found, tmp_path / "e.json") == 0
    assert "boxes are compared, masks are not" in capsys.readouterr().err
    assert set(json.loads((tmp_path / "e.json").read_text())) == {"results", "ground_truth", "box"}
    assert eval_results(coco, found, tmp_path / "e.json", "--iou-type", "mask") == 2
    assert "a detection without segmentation; expected masks in all, or --iou-type box" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "voc10"], "--method voc10 does not go with --results; expected coco"),
        (["--subset", "3"], "--subset chooses images for a model"),
        (["--skip-bad"], "--skip-bad chooses images for a model"),
        (["--split", "val"], "--ground-truth names the file itself"),
    ],
)
def test_options_that_do_not_go_together(coco, tmp_path, capsys, options, message):
    (tmp_path / "found.json").write_text("[]")
    assert eval_results(coco, tmp_path / "found.json", tmp_path / "e.json", *options) == 2
    assert message in capsys.readouterr().err


def test_what_a_user_gets_wrong(coco, trained, tmp_path, capsys, monkeypatch):
    (tmp_path / "found.json").write_text('[{"image_id": 99}]')
    for command, message in (
        (["eval", "--run", str(trained), "--ground-truth", "x.json"], "--ground-truth belongs to --results"),
        (["eval", "--results", str(tmp_path / "found.json"), "--data", "voc"], "write one with `mrcnn-np data coco`"),
        (
            ["eval", "--results", str(tmp_path / "found.json"), "--root", str(coco)],
            "detection 0: image_id is 99; expected an image of instances_val.json",
        ),
        (
            ["train", "--data", "coco", "--root", str(coco), "--split", "test"],
            "has no annotations/instances_test*.json",
        ),
    ):
        assert main(command) == 2
        assert message in capsys.readouterr().err
    monkeypatch.delenv("COCO_ROOT", raising=False)
    assert main(["train", "--data", "coco", "--out", str(tmp_path / "run")]) == 2
    assert "set COCO_ROOT" in capsys.readouterr().err
    assert main(["data", "check", "--data", "coco", "--root", str(coco), "--split", "val"]) == 0
    assert "images     3" in capsys.readouterr().out


@pytest.mark.skipif("COCO_ROOT" not in os.environ, reason="COCO_ROOT is not set")
def test_training_on_real_coco(tmp_path):
    """Two steps, of a crowd's image among others; the evaluation goes through a results file."""
    dataset = open_dataset("coco", None, "train")
    crowds = [i for i in dataset.ids if any(o.crowd for o in dataset.instances.objects(int(i), masks=False))]
    (tmp_path / "ids.txt").write_text("\n".join([*crowds[:2], *[i for i in dataset.ids if i not in crowds][:4]]))
    run, found = tmp_path / "run", tmp_path / "found.json"
    chosen = ["--data", "coco", "--split", "train", "--ids", str(tmp_path / "ids.txt"), "--quiet"]
    few = [*FEW[:-1], "detections_per_image=100"]
    assert main(["train", *chosen, *few, "--out", str(run), "--no-eval", "--no-pictures"]) == 0
    assert main(["eval", "--run", str(run), *chosen, "--method", "coco", "--coco-results", str(found)]) == 0
    ids = {int(i) for i in (tmp_path / "ids.txt").read_text().split()}
    records = json.loads(found.read_text())
    assert {r["image_id"] for r in records} <= ids and {r["category_id"] for r in records} <= set(dataset.category_ids)
    numbers = json.loads((run / "eval-train.json").read_text())
    assert len(records) > 100 and 0 <= numbers["box"]["AP"] < 0.5
