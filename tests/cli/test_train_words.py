"""What ``train`` says before and after: too few pictures, known by heart, what AP is worth, which run is meant."""

import re
import shutil

import pytest
from made_runs import make_run
from small_run import SMALL

from mrcnn_np.cli import train_words
from mrcnn_np.cli.main import main
from mrcnn_np.cli.options import Options
from mrcnn_np.cli.train_words import last_words, too_few
from mrcnn_np.data import open_dataset


def test_too_few_pictures_for_random_weights(shapes):
    dataset = open_dataset("shapes", shapes, "train")  # 6 pictures of 3 classes
    said = too_few(Options(data="labelme", root="my photos"), dataset)
    assert "6 pictures of 3 classes are too few to begin with random weights" in said
    assert "train --data 'my photos' --preset small --weights" in said and "mrcnn-np weights download resnet18" in said


def test_enough_pictures(shapes, monkeypatch):
    monkeypatch.setattr(train_words, "FEW_IMAGES", 2)
    assert too_few(Options(), open_dataset("shapes", shapes, "train")) is None


def test_said_before_and_after_a_training(shapes, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--root", shapes, "--out", str(run), *SMALL]) == 0
    said = capsys.readouterr()
    assert "warning: 6 pictures of 3 classes are too few" in said.err
    assert re.search(r"val: AP was measured on \d+ objects? in 2 images: so few that small differences", said.out)
    assert re.search(r"on 2 of the pictures it was trained on AP50 is [01]\.\d{3}, on the held-out ones", said.out)
    assert "trained ones do" in said.out and "train it for longer" not in said.out


@pytest.mark.parametrize(
    ("own", "few", "by_heart", "longer"),
    [
        ((1.0, 5), False, True, False),
        ((0.5, 5), False, False, True),  # the held-out ones: 0.25
        ((0.8, 5), True, True, False),
        (None, False, False, True),
    ],
)
def test_more_steps_are_advised_where_they_help(tmp_path, monkeypatch, own, few, by_heart, longer):
    run = make_run(tmp_path / "a", box=0.5, mask=0.25)
    monkeypatch.setattr(train_words, "_ap50", lambda report: 0.25)
    said = "\n".join(last_words(tmp_path / "a", {"val": None}, own, steps=4, few=few))
    assert "val: AP was measured on 4 objects in 4 images" in said and f"explain --run {run} --split val" in said
    assert ("by heart" in said) == by_heart
    assert (f"train --out {run} --resume --steps 8" in said) == longer


def test_own_pictures_are_spread_over_the_data_set(shapes):
    dataset = open_dataset("shapes", shapes, "train")
    some = train_words._Some(dataset, 3)
    assert some.ids == (dataset.ids[0], dataset.ids[2], dataset.ids[5])
    assert some.load(2).image_id == dataset.ids[5] and len(some) == 3
    assert train_words._Some(dataset, 1).ids == (dataset.ids[0],)


def test_resuming_under_another_preset_is_no_new_run(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    make_run(tmp_path / "runs" / "shapes-tiny")
    (tmp_path / "runs" / "shapes-tiny" / "checkpoint.safetensors").touch()
    shutil.copytree(shapes, tmp_path / "shapes")
    assert main(["train", "--data", "shapes", "--preset", "small", "--resume"]) == 2
    said = capsys.readouterr().err
    assert "there is no run in runs/shapes-small, but there is runs/shapes-tiny" in said
    assert "add --out runs/shapes-tiny" in said and "leave --resume out" in said
    assert not (tmp_path / "runs" / "shapes-small").exists()
