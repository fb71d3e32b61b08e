"""Pictures that one split holds twice: how many, which, and whether their objects contradict each other."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from all_named import all_named
from annotated_trees import BUILDERS, labelme
from PIL import Image
from scenes import sample_of
from stored_again import SECOND, photograph, real_pictures

from mrcnn_np.cli.main import main
from mrcnn_np.data import Overview, check_dataset, open_dataset
from mrcnn_np.data.copies import Annotation, Copies, Picture

CLASSES = ("background", "cat", "dog")


def picture(image, boxes=((1, 1, 9, 9),), class_ids=None, *, name="a", path="", crowd=None):
    sample = sample_of(boxes, class_ids, shape=image.shape[:2], name=name, crowd=crowd)
    return Picture.of(replace(sample, image=image, path=path))


def found(*pictures):
    copies = Copies(pictures, CLASSES)
    return all_named(copies.wrong), all_named(copies.advice), copies.spare


def test_the_same_pixels_and_objects_are_advice():
    one, other = photograph(0), photograph(1)
    again = [picture(image, name=name) for name, image in zip("abcde", (one, other, one, one, other))]
    wrong, (finding,), spare = found(*again)
    assert wrong == [] and spare == [2, 3, 4] and (finding.count, finding.of, finding.unit) == (3, 5, "images")
    assert finding.example == "c, which is a; d, which is a; e, which is b"
    assert "--good-ids FILE" in finding.text and "--val-fraction" in finding.text
    assert found(picture(one), picture(other)) == ([], [], []) and found() == ([], [], [])


@pytest.mark.parametrize(
    ("boxes", "class_ids", "example"),
    [
        ([], [], "b has nothing, and a has 1 x cat"),
        ([(1, 1, 9, 9)], [2], "b has 1 x dog, and a has 1 x cat"),
        ([(1, 1, 9, 9), (30, 30, 60, 60)], [1, 2], "b has 1 x cat, 1 x dog, and a has 1 x cat"),
        ([(50, 50, 90, 90)], [1], "b and a, which have 1 x cat each, in other places"),
    ],
)
def test_other_objects_on_the_same_pixels_are_wrong(boxes, class_ids, example):
    (finding,), advice, spare = found(picture(photograph(0)), picture(photograph(0), boxes, class_ids, name="b"))
    assert advice == [] and spare == [] and finding.count == 1 and finding.example == example
    assert "as an object and as background" in finding.text and "remove the other" in finding.text


def test_what_counts_as_the_same_objects():
    def of(boxes, class_ids=None, crowd=None, shape=(100, 100)):
        return Annotation.of(sample_of(boxes, class_ids, shape=shape, crowd=crowd))

    two = of([(10, 10, 30, 30), (50, 50, 90, 90)], [1, 2])
    assert two.agrees(of([(50, 52, 88, 90), (11, 9, 30, 31)], [2, 1]))  # another order, drawn by another hand
    assert two.agrees(of([(20, 20, 60, 60), (100, 100, 180, 180)], [1, 2], shape=(200, 200)))
    assert not two.agrees(of([(10, 10, 30, 30), (50, 50, 90, 90)], [2, 1]))
    assert not two.agrees(of([(10, 10, 30, 30)])) and not of([]).agrees(two) and of([]).agrees(of([]))
    assert not two.agrees(of([(10, 10, 30, 30), (50, 50, 90, 90)], [1, 2], crowd=[False, True]))
    flat = of([(10, 10, 10, 30)])
    assert flat.agrees(flat)


@pytest.mark.parametrize("kind", SECOND)
def test_one_photograph_stored_again(kind):
    one = photograph(0)
    again = SECOND[kind](one)
    scale = again.shape[0] / one.shape[0]
    same = picture(again, [tuple(scale * v for v in (10, 10, 60, 60))], name="b")
    wrong, (finding,), spare = found(picture(one, [(10, 10, 60, 60)]), picture(photograph(1)), same)
    assert wrong == spare == [] and (finding.count, finding.of) == (1, 3)
    assert finding.example == "b, which looks like a" and "none of them with other objects" in finding.text
    _, (finding,), _ = found(picture(one, [(10, 10, 60, 60)]), picture(again, [], name="b"))
    assert finding.example == "b has nothing, and a has 1 x cat" and "(1 of them with other objects)" in finding.text


def test_those_with_the_same_objects_are_named_beside_those_with_others():
    """The line has those with others alone."""
    one = photograph(0)
    other, same = picture(SECOND["darker"](one), [], name="b"), picture(SECOND["brighter"](one), name="c")
    _, (finding,), _ = found(picture(one), other, same)
    assert finding.example == "b has nothing, and a has 1 x cat" and not finding.names_all
    assert finding.concerns == (finding.example, "c, which looks like a")


def test_it_is_said_once_and_not_of_versions_or_plain_pictures():
    one = photograph(0)
    bright = SECOND["brighter"](one)
    versions = [picture(i, path=f"p.rf.{k}.jpg", name=f"p.rf.{k}") for k, i in enumerate((one, bright))]
    assert found(*versions) == ([], [], [])
    _, (same, alike), _ = found(picture(one), picture(one, name="b"), picture(bright, name="c"))
    assert (same.count, alike.count, alike.example) == (1, 1, "c, which looks like a")
    plain = picture(np.full((60, 60, 3), 7, np.uint8))
    assert found(plain, plain) == ([], [], [])


@pytest.mark.parametrize("kind", list(BUILDERS))
def test_every_format(kind, tmp_path):
    root = BUILDERS[kind](tmp_path / "mine")
    assert check_dataset(open_dataset(kind, root)).ok
    for path in sorted(root.rglob("*b.png")):  # b shows what a does
        if kind != "labels" or path.parent.name == "PNGImages":
            shutil.copyfile(next(iter(root.rglob(path.name.replace("b", "a")))), path)
    report = check_dataset(open_dataset(kind, root))
    (finding,) = report.findings
    example = "b has 1 x object, and a has 2 x object"
    assert not report.ok and finding.example.startswith(example) and not report.spare_ids


def test_the_command_leaves_copies_out(tmp_path, capsys):
    root, good = labelme(tmp_path / "mine"), tmp_path / "good.txt"
    Image.open(root / "a.png").save(root / "c.bmp")
    document = json.loads((root / "a.json").read_text()) | {"imagePath": "c.bmp"}
    (root / "c.json").write_text(json.dumps(document))
    (root / "b.png").write_bytes(b"")  # places count what can be read, ids do not
    assert main(["data", "check", "--data", str(root), "--quiet", "--good-ids", str(good)]) == 2
    said = capsys.readouterr().out
    assert "  1 of 2 images: are another image of this split, pixel for pixel, with the same objects" in said
    assert "(such as c, which is a)" in said and f"are in {good}, for --ids (copies left out: 1)" in said
    assert good.read_text() == "a\n"


@pytest.mark.parametrize("kind", ["voc", "coco", "dsb"])
def test_no_false_alarm_on_real_pictures(kind):
    dataset = real_pictures(kind)
    overview = Overview.of(dataset, "train")
    for index in range(len(dataset)):
        overview.add(dataset.load(index))
    assert found(*overview.seen) == ([], [], [])
