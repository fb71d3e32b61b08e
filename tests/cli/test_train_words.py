"""What ``train`` says before and after: too few pictures, known by heart, what AP is worth, which run is meant."""

import html
import json
import re

import pytest
from coco_tree import CocoTree
from made_runs import make_run
from small_run import SMALL

from mrcnn_np.cli import train_words
from mrcnn_np.cli.main import main
from mrcnn_np.cli.train_words import LEAST, WELL, ap50_of_own_pictures, go_on, in_words, last_words
from mrcnn_np.data import open_dataset
from mrcnn_np.data.few import Few
from mrcnn_np.evaluate.counting import Count, Counts
from mrcnn_np.evaluate.split import SplitReport


def test_said_before_and_after_a_training(shapes, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--root", shapes, "--out", str(run), *SMALL]) == 0
    said = capsys.readouterr()
    assert re.search(r"warning: .* seen in fewer than 20 of the 6 pictures: too few to begin with random", said.err)
    assert "mrcnn-np weights download resnet18" in said.err
    assert re.search(r"val: AP was measured on \d+ objects? in 2 images: so few that small differences", said.out)
    assert re.search(r"on 2 of the pictures it was trained on AP50 is [01]\.\d{3}, on the held-out ones", said.out)
    assert "or trained weights; more steps " in said.out and "train it for longer" not in said.out
    assert f"--freeze stem,c2,norm --out {run}-resnet18\n" in said.err and "COCO" not in said.err
    worth = [line for line in said.out.splitlines() if line.startswith(("val: AP was", "on 2 of the", "too few"))]
    assert len(worth) == 3
    for line in worth:
        assert f"\n- {line}\n" in (run / "summary.md").read_text()
        assert f"<p>{html.escape(line)}</p>" in (run / "report.html").read_text()


class Report(SplitReport):
    """One of which only AP50 and the number of images are known."""

    def __init__(self, ap50, images):
        super().__init__()
        self.evaluations = {"mask": type("E", (), {"images": images, "numbers": {"AP50": ap50}})()}


@pytest.mark.parametrize(
    ("own", "elsewhere", "images", "few", "by_heart", "advice"),
    [
        ((1.0, LEAST), 0.25, LEAST, False, True, ""),
        ((1.0, LEAST), 0.25, LEAST - 1, False, False, "longer"),  # one picture more or less decides there
        ((1.0, LEAST - 1), 0.25, LEAST, False, False, "longer"),
        ((0.5, LEAST), 0.25, LEAST, False, False, "longer"),  # it does not know its own yet
        ((0.8, LEAST), 0.25, LEAST, True, True, "few"),
        ((0.8, LEAST), 0.7, LEAST, True, False, "longer"),  # few pictures, but they did
        (None, 0.25, LEAST, False, False, "longer"),
        ((1.0, LEAST), 0.95, LEAST, False, False, "longer"),
        ((1.0, LEAST), 0.951, LEAST, False, False, ""),  # AP50 has nowhere to go
        ((0.9, LEAST), -1.0, LEAST, False, False, "longer"),  # nothing to find on the held-out ones
    ],
)
def test_more_steps_are_advised_where_they_help(tmp_path, own, elsewhere, images, few, by_heart, advice):
    run = make_run(tmp_path / "a", box=0.5, mask=0.25)
    reports = {"train": Report(1.0, 9), "val": Report(elsewhere, images)}
    few = Few(1, 2, 9) if few else None
    words, next_ones = last_words(tmp_path / "a", reports, own, steps=4, few=few)
    said = "\n".join([*words, *next_ones])
    assert "val: AP was measured on 4 objects in 4 images" in said and f"explain --run {run} --split val" in said
    assert ("by heart" in said) == by_heart
    assert (f"train --out {run} --resume --steps 8" in said) == (advice == "longer")
    assert ("too few pictures" in said) == (advice == "few")


def test_the_score_that_does_best_is_in_the_next_command(tmp_path):
    make_run(tmp_path / "a")
    report = Report(0.5, 4)
    chosen = "  # chosen on these 4 held-out pictures; the default is 0.5"
    for best, option, said in (
        (None, "", ""),
        (Count(0.62, 9, 8, 1, 0), " --score 0.62", chosen),
        (Count(0.5, 9, 8, 1, 0), "", ""),
    ):
        report.counts = Counts("mask", 4, Count(0.5, 9, 7, 5, 0), {}, best=best)
        _, next_ones = last_words(tmp_path / "a", {"val": report}, None, steps=4, few=None)
        assert next_ones[1].endswith(f"mrcnn-np detect --run {tmp_path / 'a'} PICTURES{option} --out found{said}")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ((WELL, 4), "too few pictures for random weights: more of them help, or trained weights; more steps hardly do"),
        (
            (0.0, 4),
            "more steps teach it its own pictures, which it has not learned yet, but hardly what it",
        ),
        (None, "more steps hardly do"),
    ],
)
def test_more_steps_teach_a_network_its_own_pictures(tmp_path, own, said):
    make_run(tmp_path / "a")
    words, _ = last_words(tmp_path / "a", {"val": Report(0.0, 4)}, own, steps=4, few=Few(1, 2, 9))
    assert said in words[-1]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("sheep", "Person", "tvmonitor"),
            "  sheep, Person, tvmonitor are among COCO's classes, which maskrcnn_",
        ),
        (
            ("sheep", "nut"),
            "  sheep is among COCO's classes, which maskrcnn_resnet50_fpn finds without any ",
        ),
        (("nut", "bolt"), None),
    ],
)
def test_classes_that_a_published_network_knows_are_named(tmp_path, names, said):
    words = in_words(Few(2, 2, 9), ("background", *names), tmp_path / "my run")
    assert said in words if said else "COCO" not in words
    assert f"--out '{tmp_path}/my run-resnet18'" in words  # the same command would find the folder of this run
    known = "mrcnn-np detect --weights weights/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth PICTURES --out found" in words
    assert known == bool(said)


def test_a_class_that_is_held_out_altogether(tmp_path, capsys):
    """It is said before and after, wherever its AP of 0 is."""
    root, run = tmp_path / "data", tmp_path / "run"
    tree = CocoTree(root)
    (root / "images" / "val").symlink_to(tree.images)
    tree.image(1).image(2).rectangle(1, 2, 3, 20, 20).rectangle(2, 2, 3, 20, 20).save()
    tree.content |= {"images": [], "annotations": []}
    tree.image(3).rectangle(3, 2, 3, 20, 20, category=7).rectangle(3, 2, 3, 20, 20)
    tree.json = root / "annotations" / "instances_val.json"
    tree.save()
    (root / "images" / "train" / "000000000002.png").write_text("<html>")
    command = ["train", "--data", "coco", "--root", str(root), "--out", str(run), *SMALL, "--steps", "1"]
    assert main(command) == 2
    refused = capsys.readouterr().err
    assert "000000000002.png: is not an image" in refused and "leave such images out with --skip-bad)" in refused
    assert not run.exists()
    assert main([*command, "--skip-bad", "--no-pictures"]) == 0
    said = capsys.readouterr()
    assert "warning: 1 of 2 images: cannot be read, so they are left out (such as 2: " in said.err
    assert "as nothing in these 2 images teaches them (dog)" in said.err
    assert "warning: all pictures of dog are held out: they are measured, and never taught." in said.err
    assert "images skipped because they cannot be read: 1" in said.out
    note = "never taught: dog (1 object). No picture that the network was trained on shows this"
    assert note in said.out and note in (run / "summary.md").read_text() and note in (run / "report.html").read_text()
    assert main(["eval", "--run", str(run), "--quiet"]) == 0
    assert note in capsys.readouterr().out
    assert main(["explain", "--run", str(run), "--quiet", "--no-oracles", "--pictures", "0"]) == 0
    assert "never taught: dog (1 missed)" in capsys.readouterr().out


def test_own_pictures_that_were_measured_are_not_measured_again():
    assert ap50_of_own_pictures(None, None, {"train": Report(0.75, 7), "val": Report(0.25, 3)}) == (0.75, 7)
    assert ap50_of_own_pictures(None, None, {}) is None


def test_a_broken_picture_does_not_end_a_run_that_is_done(monkeypatch):
    seen = {}

    def evaluate(model, dataset, **how):
        seen.update(how, images=len(dataset))
        return Report(0.5, len(dataset))

    monkeypatch.setattr(train_words, "evaluate_split", evaluate)
    dataset = type("D", (tuple,), {"class_names": (), "ids": tuple("abcdefgh")})(range(8))
    assert ap50_of_own_pictures(None, dataset, {"val": Report(0.5, 3)}) == (0.5, 3)
    assert seen["skip_bad"] and seen["images"] == 3


def test_own_pictures_are_spread_over_the_data_set(shapes):
    dataset = open_dataset("shapes", shapes, "train")
    some = train_words._Some(dataset, 3)
    assert some.ids == (dataset.ids[0], dataset.ids[2], dataset.ids[5])
    assert some.load(2).image_id == dataset.ids[5] and len(some) == 3
    assert train_words._Some(dataset, 1).ids == (dataset.ids[0],)


@pytest.mark.parametrize("same", [True, False])
def test_resuming_under_another_preset_is_no_new_run(shapes, tmp_path, monkeypatch, capsys, same):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    make_run(tmp_path / "runs" / "other-tiny")
    run = tmp_path / "runs" / "other-tiny"
    (run / "checkpoint.safetensors").touch()
    options = json.loads((run / "options.json").read_text())
    (run / "options.json").write_text(json.dumps(options | {"data": "shapes", "root": shapes if same else "/other"}))
    code = main(["train", "--data", "shapes", "--root", shapes, "--resume", *SMALL])
    said = capsys.readouterr().err
    assert code == (2 if same else 0)
    assert ("there is runs/other-tiny on the same data" in said) == same
    assert (tmp_path / "runs" / "shapes-tiny").exists() != same


def test_how_an_interrupted_run_goes_on(tmp_path):
    run = make_run(tmp_path / "a")
    said = go_on(tmp_path / "a", type("R", (), {"several": True, "size": 3})())
    assert (
        said.startswith("interrupted; the checkpoint of step 0") and f"mpirun -n 3 mrcnn-np train --out {run}" in said
    )
