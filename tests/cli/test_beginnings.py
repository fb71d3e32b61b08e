"""What the weights know that a run begins with, by the records of the runs before it."""

import json
from dataclasses import replace

import pytest
from coco_tree import CocoTree
from made_runs import make_run

from mrcnn_np.cli.beginnings import OWN, RANDOM, start_of, untaught_by
from mrcnn_np.cli.options import Options

MINE = Options(data="coco", root="/mine")


def begun_with(folder):
    return replace(MINE, weights=str(folder / "checkpoint.safetensors"))


def few_photographs(root):
    tree = CocoTree(root).image(1).image(2)
    return str(tree.rectangle(1, 2, 3, 9, 9).rectangle(2, 2, 3, 9, 9).save())


def test_without_weights_and_with_those_of_other_programs():
    assert start_of(MINE, None) == RANDOM
    assert start_of(replace(MINE, weights="resnet18.pth"), "torchvision ImageNet") == ""


def test_a_run_on_generated_shapes_knows_shapes(tmp_path):
    make_run(tmp_path / "a", data="shapes", root=None)
    assert start_of(begun_with(tmp_path / "a"), OWN) == f"weights that know generated shapes only ({tmp_path / 'a'})"
    assert start_of(replace(begun_with(tmp_path / "a"), data="shapes"), OWN) == ""
    (tmp_path / "shapes.json").write_text("{}")  # the same by its path
    make_run(tmp_path / "b", data="voc", root=str(tmp_path))
    assert start_of(begun_with(tmp_path / "b"), OWN).startswith("weights that know generated shapes only")


def test_a_run_on_few_pictures_knows_few(tmp_path):
    make_run(tmp_path / "a", data="coco", root=few_photographs(tmp_path / "data"))
    assert start_of(begun_with(tmp_path / "a"), OWN) == f"weights that know 2 pictures only ({tmp_path / 'a'})"


@pytest.mark.parametrize(("source", "known"), [("torchvision", True), (OWN, False)])
def test_earlier_runs_are_asked_what_they_began_with(tmp_path, source, known):
    make_run(tmp_path / "shapes", data="shapes")
    weights, root = str(tmp_path / "shapes" / "checkpoint.safetensors"), few_photographs(tmp_path / "data")
    make_run(tmp_path / "a", data="coco", root=root, weights=weights)
    (tmp_path / "a" / "weights.json").write_text(json.dumps({"source": source}))
    said = start_of(begun_with(tmp_path / "a"), OWN)
    assert said == ("" if known else f"weights that know 2 pictures only ({tmp_path / 'a'})")


def test_what_nobody_recorded_is_not_known(tmp_path):
    assert start_of(begun_with(tmp_path), OWN) is None
    make_run(tmp_path / "a", data="coco", root="/gone")
    assert start_of(begun_with(tmp_path / "a"), OWN) is None
    weights = str(tmp_path / "b" / "checkpoint.safetensors")  # written over itself
    make_run(tmp_path / "b", data="coco", root="/gone", weights=weights)
    (tmp_path / "b" / "weights.json").write_text(json.dumps({"source": OWN}))
    assert start_of(begun_with(tmp_path / "b"), OWN) is None


def test_classes_that_were_never_taught_are_recorded(tmp_path):
    make_run(tmp_path / "a")
    assert untaught_by(None) == untaught_by(tmp_path) == untaught_by(tmp_path / "a") == ()
    facts = json.loads((tmp_path / "a" / "summary.json").read_text())
    (tmp_path / "a" / "summary.json").write_text(json.dumps(facts | {"untaught": ["sheep"]}))
    assert untaught_by(tmp_path / "a") == ("sheep",)
