"""--data PATH: folders of annotation tools from the command line, what is held out of them, import and show."""

import json
import os

import numpy as np
import pytest
from annotated_trees import BUILDERS, labelme, pixels, save
from coco_tree import CocoTree
from PIL import Image

from mrcnn_np.cli.main import main
from mrcnn_np.data import open_dataset
from mrcnn_np.data.held_out import drawn, fraction_for
from mrcnn_np.data.written import WrittenFiles
from mrcnn_np.evaluate.split import evaluate_split
from mrcnn_np.explain.report import explain_split

FEW = ["--size", "64", "--steps", "1", "--batch-size", "1", "--quiet", "--no-pictures"]


@pytest.fixture
def folder(tmp_path):
    """Ten pictures with labelme's JSON."""
    for k in range(5):
        root = labelme(tmp_path / "mine" / f"f{k}")
        for name in "ab":
            for suffix in ("png", "json"):
                os.rename(root / f"{name}.{suffix}", root.parent / f"{k}{name}.{suffix}")
        root.rmdir()
    return tmp_path / "mine"


def refused(capsys, *command):
    assert main([str(part) for part in command]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "Traceback" not in message
    return message


def test_train_resume_and_eval(folder, tmp_path, capsys, monkeypatch):
    out, measured = tmp_path / "run", []

    def spy(model, dataset, **options):
        measured.append(tuple(dataset.ids))
        return evaluate_split(model, dataset, **options)

    monkeypatch.setattr("mrcnn_np.cli.eval.evaluate_split", spy)
    assert main(["train", "--data", str(folder), "--out", str(out), "--val-fraction", "0.3", *FEW]) == 0
    said = capsys.readouterr().out
    assert f"{folder}: labelme's JSON files, because 10 JSON files, and 0a.json has shapes and imagePath" in said
    assert "of 10 images, drawn by a hash of their names (--val-fraction 0.3), as there is no split 'val'" in said
    options = json.loads((out / "options.json").read_text())
    assert (options["data"], options["root"], options["val_fraction"]) == ("labelme", str(folder), 0.3)
    summary = json.loads((out / "summary.json").read_text())
    held_out = int(said.split("held out: ")[1].split(" of")[0])
    assert summary["images"] + held_out == 10 and held_out >= 1
    # what was held out is what eval and resume hold out again
    assert main(["train", "--out", str(out), "--resume", "--steps", "2", "--quiet", "--no-pictures"]) == 0
    again = ["train", "--out", str(out), "--resume", "--steps", "3", "--val-split", "train", "--quiet", "--no-pictures"]
    assert main(again) == 0  # another split is measured, the same images are trained on
    assert main([*again[:5], "3", "--val-split", "val", *again[8:]]) == 0
    capsys.readouterr()
    for chosen in ([], ["--data", str(folder)]):
        assert main(["eval", "--run", str(out), "--quiet", "--iou-type", "box", *chosen]) == 0
    # all of another folder
    labelme(tmp_path / "others")
    assert main(["eval", "--run", str(out), "--data", str(tmp_path / "others"), "--quiet"]) == 0
    assert "measured on all images, as there is no split 'val'" in capsys.readouterr().out
    expected = open_dataset("labelme", folder, "val", val_fraction=0.3).ids
    assert len(expected) == held_out and measured == [expected, expected, ("a", "b")]


def test_a_run_remembers_where_its_images_are(folder, tmp_path, capsys, monkeypatch):
    """Also where an environment variable said so, which another terminal has not set."""
    monkeypatch.setenv("LABELME_ROOT", str(folder))
    out = tmp_path / "run"
    assert main(["train", "--data", "labelme", "--out", str(out), *FEW]) == 0
    assert json.loads((out / "options.json").read_text())["root"] == str(folder)
    monkeypatch.delenv("LABELME_ROOT")
    assert main(["eval", "--run", str(out), "--quiet", "--iou-type", "box"]) == 0
    assert main(["train", "--out", str(out), "--resume", "--steps", "2", "--quiet", "--no-pictures"]) == 0
    # the same run by its path differs in nothing
    assert main(["train", "--data", str(folder), "--out", str(tmp_path / "b"), *FEW]) == 0
    capsys.readouterr()
    assert main(["runs", str(out), str(tmp_path / "b")]) == 0
    assert "different data" not in capsys.readouterr().out


def test_one_set_of_images(folder, tmp_path, capsys):
    """A second --data is refused: the first would be dropped."""
    with pytest.raises(SystemExit) as stop:
        main(["train", "--data", "shapes", "--data", str(folder)])
    said = f"--data is given twice, shapes and {folder}; expected one: `mrcnn-np data import A B"
    assert stop.value.code == 2 and said in capsys.readouterr().err


def test_detections_that_nobody_corrected_are_told(folder, tmp_path, capsys):
    where = tmp_path / "found"
    where.mkdir()
    written = WrittenFiles(where)
    for name in ("0a", "0b", "1a"):
        for suffix in ("png", "json"):
            written.write(f"{name}.{suffix}", (folder / f"{name}.{suffix}").read_bytes())
    words = f"of the 3 annotations in {where} that `detect` wrote are as it wrote them: a network that learns from them"
    assert main(["data", "check", "--data", str(where)]) in (0, 1)
    assert f"warning: 3 {words}" in capsys.readouterr().err
    for name in ("0a", "0b"):
        (where / f"{name}.json").write_bytes((where / f"{name}.json").read_bytes() + b" ")
    assert main(["train", "--data", str(where), "--out", str(tmp_path / "run"), *FEW]) == 0
    assert f"warning: 1 {words}" in capsys.readouterr().err
    (where / "1a.json").write_bytes((where / "1a.json").read_bytes() + b" ")
    assert main(["eval", "--run", str(tmp_path / "run"), "--data", str(where), "--quiet"]) == 0
    assert "as it wrote them" not in capsys.readouterr().err


def test_a_share_that_leaves_a_class_untaught_is_not_proposed_without_saying_so(tmp_path, monkeypatch, capsys):
    """Of 20 pictures none is held out but the first; the share that holds out five has all of one class."""
    tree = CocoTree(tmp_path / "data")
    for number in range(1, 21):
        tree.image(number)
    names = [entry["file_name"] for entry in tree.content["images"]]
    share, _ = fraction_for(names, 5)
    held = [number for number, out in enumerate(drawn(names, share), start=1) if out]
    for number in range(1, 21):
        tree.rectangle(number, 2, 3, 9, 9, category=7 if number in held else 3)
    tree.rectangle(held[0], 2, 3, 9, 9, category=3)
    command = ["train", "--data", "coco", "--root", str(tree.save()), "--out", str(tmp_path / "run"), *FEW]
    monkeypatch.setattr("mrcnn_np.cli.train.train", lambda *a, **k: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(RuntimeError):
        main([*command, "--val-fraction", "0.01"])
    said = capsys.readouterr().out
    assert f"--val-fraction {share:g} --overwrite holds out 5, and every picture of dog is among them" in said


def test_a_split_of_ones_own_by_ids(folder, tmp_path, capsys):
    """What docs/your-own-pictures.md says: one list is trained on, the other is measured."""
    ids, taught, others = open_dataset(str(folder)).ids, tmp_path / "taught.txt", tmp_path / "others.txt"
    taught.write_text("\n".join(ids[:7]))
    others.write_text("\n".join(ids[7:]))
    run = str(tmp_path / "run")
    assert main(["train", "--data", str(folder), "--no-eval", "--ids", str(taught), "--out", run, *FEW]) == 0
    capsys.readouterr()
    assert main(["eval", "--run", run, "--split", "train", "--ids", str(others), "--quiet"]) == 0
    assert "3 images" in capsys.readouterr().out


def test_train_says_which_names_are_spelt_alike(folder, tmp_path, capsys):
    for path in folder.glob("*.json"):
        document = json.loads(path.read_text())
        for shape in document["shapes"]:
            shape["label"] = "Bolt" if path.stem == "0a" else "bolt"
        path.write_text(json.dumps(document))
    assert main(["train", "--data", str(folder), "--out", str(tmp_path / "run"), "--no-eval", *FEW]) == 0
    said = capsys.readouterr().err
    assert "warning: classes 'bolt' (in 9 images) and 'Bolt' (in 1 image) differ by capitals, spaces or dashes" in said


def test_explain_looks_at_what_a_run_held_out(folder, tmp_path, capsys, monkeypatch):
    out, looked_at = tmp_path / "run", []

    def spy(model, dataset, **options):
        looked_at.append(tuple(dataset.ids))
        return explain_split(model, dataset, **options)

    monkeypatch.setattr("mrcnn_np.cli.explain.explain_split", spy)
    assert main(["train", "--data", str(folder), "--out", str(out), "--val-fraction", "0.3", "--no-eval", *FEW]) == 0
    held_out, trained_on = (open_dataset("labelme", folder, split, val_fraction=0.3).ids for split in ("val", "train"))
    labelme(tmp_path / "others")
    for chosen, expected in (
        ([], held_out),
        (["--split", "val"], held_out),
        (["--data", str(folder)], held_out),
        (["--split", "train"], trained_on),
        (["--data", str(tmp_path / "others")], ("a", "b")),
    ):
        more = ["--pictures", "0", "--no-oracles", "--quiet", "--out", str(tmp_path / "told")]
        assert main(["explain", "--run", str(out), *chosen, *more]) == 0
        assert looked_at.pop() == tuple(expected), chosen
    assert "measured on all images, as there is no split 'val'" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--no-eval"], ["--eval-splits", "train"], ["--val-fraction", "0", "--no-eval"]])
def test_without_evaluation_nothing_is_held_out(folder, tmp_path, options):
    out = tmp_path / "run"
    assert main(["train", "--data", str(folder), "--out", str(out), *FEW, *options]) == 0
    assert json.loads((out / "summary.json").read_text())["images"] == 10
    assert json.loads((out / "options.json").read_text())["val_fraction"] == 0


def test_a_split_that_is_there_is_held_out(tmp_path, capsys):
    labelme(tmp_path / "mine" / "train")
    labelme(tmp_path / "mine" / "valid", names="b")
    assert main(["train", "--data", str(tmp_path / "mine"), "--out", str(tmp_path / "run"), *FEW]) == 0
    assert "held out: the split 'val', 1 image" in capsys.readouterr().out


def test_one_image_cannot_be_held_out_of(tmp_path, capsys):
    root = labelme(tmp_path / "mine", names="a")
    command = ["train", "--data", root, "--out", tmp_path / "run", *FEW]
    assert "no image that could be held out of 1; expected two or more, or --val-fraction 0" in refused(
        capsys, *command
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", list(BUILDERS))
def test_check_show_and_import(kind, tmp_path, capsys):
    root, out = BUILDERS[kind](tmp_path / "mine"), tmp_path / "out"
    assert main(["data", "check", "--data", str(root)]) == 0
    assert "problems   none" in capsys.readouterr().out
    assert main(["data", "show", "--data", str(root), "--subset", "1", "--out", str(out)]) == 0
    assert f"a: 2 x object -> {out / 'a_truth.png'}" in capsys.readouterr().out
    assert os.listdir(out) == ["a_truth.png"] and np.asarray(Image.open(out / "a_truth.png")).std() > 0
    filled = (out / "a_truth.png").read_bytes()
    assert main(["data", "show", "--data", str(root), "--subset", "1", "--out", str(out), "--outlines"]) == 0
    assert (out / "a_truth.png").read_bytes() != filled
    capsys.readouterr()
    command = ["data", "import", str(root), "--out", str(tmp_path / "coco"), "--quiet"]
    assert main(command) == 0
    assert "3 objects in 2 images written to " in capsys.readouterr().out
    assert main(["data", "check", "--data", str(tmp_path / "coco")]) == 0
    assert "is there already; expected the name of a folder that is new or empty" in refused(capsys, *command)
    path = next(root.rglob("a.png"))
    path.write_bytes(path.read_bytes()[:70])
    command[4] = str(tmp_path / "again")
    assert f"error: {path}: cannot be" in refused(capsys, *command) and not (tmp_path / "again").exists()
    assert main([*command, "--skip-bad"]) == 0
    assert f"left out: {path}: cannot be" in capsys.readouterr().err


def test_paths_that_lead_nowhere(folder, tmp_path, capsys):
    check = ("data", "check", "--data")
    assert "did you mean 'labelme'?" in refused(capsys, *check, "lableme")
    assert "is a path, and --root names another" in refused(capsys, *check, folder, "--root", folder)
    save(tmp_path / "only" / "a.png", pixels("a"))
    assert "holds a.png; expected one of these: voc, " in refused(capsys, *check, tmp_path / "only")
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 no zip")
    assert "is no zip file that can be read" in refused(capsys, *check, tmp_path / "broken.zip")
    more = ("--val-split", "train", "--val-fraction", "0.2")
    assert "does not go with --val-fraction" in refused(capsys, "train", "--data", folder, *more)
    with pytest.raises(SystemExit):
        main(["train", "--data", str(folder), "--val-fraction", "2"])


def test_help_lists_the_formats(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "dsb, mask folders, as of the Data Science Bowl 2018" in said and "labelme" in said


def test_runs_that_do_not_remember_held_out_nothing(folder, tmp_path):
    """A run of before this option goes on with all its images."""
    out = tmp_path / "run"
    assert main(["train", "--data", str(folder), "--out", str(out), "--no-eval", *FEW]) == 0
    options = json.loads((out / "options.json").read_text())
    del options["val_fraction"]
    (out / "options.json").write_text(json.dumps(options))
    assert main(["train", "--out", str(out), "--resume", "--steps", "2", "--no-eval", "--quiet", "--no-pictures"]) == 0
    assert json.loads((out / "summary.json").read_text())["images"] == 10


def test_show_draws_what_training_may_see(tmp_path, capsys):
    root, out = tmp_path / "shapes", tmp_path / "shown"
    assert main(["data", "shapes", "--root", str(root), "--train", "2", "--val", "1", "--size", "64"]) == 0
    command = ["data", "show", "--root", str(root), "--subset", "1", "--out", str(out)]
    asked = ["--augmented", "2", "--config", "quarter_turns=1", "--config", "colour_jitter=[0.3, 0.3, 0.3]"]
    assert main([*command, *asked]) == 0
    names = [f"train_000000_{what}.png" for what in ("augmented_1", "augmented_2", "truth")]
    assert sorted(path.name for path in out.iterdir()) == names
    first = {name: (out / name).read_bytes() for name in names}
    assert first[names[0]] != first[names[2]]
    assert main([*command, *asked]) == 0
    assert {name: (out / name).read_bytes() for name in names} == first
    assert main([*command, *asked, "--seed", "7"]) == 0
    assert any((out / name).read_bytes() != first[name] for name in names[:2])
    assert main([*command, "--augmented", "1", "--config", "flip=0"]) == 0  # nothing is left that changes it
    assert (out / names[0]).read_bytes() == (out / names[2]).read_bytes()
    capsys.readouterr()
    assert main([*command, "--config", "flip=0"]) == 2
    assert "expected --augmented with them" in capsys.readouterr().err
    assert main([*command, "--augmented", "--config", "flop=0"]) == 2
    assert "unknown config field 'flop'" in capsys.readouterr().err
