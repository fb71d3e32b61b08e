"""Data that can teach nothing, or the wrong thing: `data check` and `train` say so."""

import json

import numpy as np
import pytest
from coco_tree import CocoTree
from voc_tree import Tree

from mrcnn_np.cli.main import main
from mrcnn_np.data import COCODataset, VOCDataset, check_dataset, describe, require_teachable
from mrcnn_np.errors import DataError

PLACES = [(2, 3, 14, 9), (20, 4, 9, 11), (24, 18, 12, 8)]


@pytest.fixture
def tree(tmp_path):
    return CocoTree(tmp_path / "coco")


def filled(tree, change=lambda annotation: annotation, *, images=4):
    """Three objects in each image, each changed."""
    for number in range(1, images + 1):
        tree.image(number)
        for place in PLACES:
            tree.rectangle(number, *place)
    tree.content["annotations"] = [change(a) for a in tree.content["annotations"]]
    return tree


def crowd(a):
    return a | {"iscrowd": 1}


def two_points(a):
    x, y, w, h = a["bbox"]
    return a | {"segmentation": [[x, y, x + w, y + h]]}


def one_wide(a):
    x, y, _, h = a["bbox"]
    return a | {"segmentation": [[x, y, x, y + h, x, y]]}


def fractions(a):
    x, y, w, h = a["bbox"]
    x, y, w, h = x / 40, y / 30, w / 40, h / 30
    return a | {"bbox": [x, y, w, h], "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}


def corners(a):
    x, y, w, h = a["bbox"]
    return a | {"bbox": [x, y, x + w, y + h]}


def flat(a):
    return a | {"bbox": [*a["bbox"][:3], 0]}


def elsewhere(a):
    x, y, w, h = a["bbox"]
    return a | {"bbox": [39 - x - w, 29 - y - h, w, h]}


WRONG = {  # what is said, and whether training is refused where all objects are so
    crowd: ("is a crowd, which is left out", True),
    two_points: ("the mask has 0 pixels", True),
    one_wide: ("the mask has 0 pixels", True),
    fractions: ("the coordinates are fractions of the image", True),
    corners: ("bbox is x1 y1 x2 y2; expected x y width height", True),
    flat: ("the box has no area", True),
    elsewhere: ("box and mask disagree", False),
}


@pytest.mark.parametrize("change", WRONG, ids=lambda f: f.__name__)
def test_everything_is_wrong(tree, change):
    said, refused = WRONG[change]
    dataset = COCODataset(filled(tree, change).save())
    report = check_dataset(dataset)
    (finding,) = [f for f in report.findings if said in f.text]
    assert finding.count == finding.of == 12 and finding.example.startswith(
        "object 1 of image 1 (000000000001.png), box"
    )
    assert not report.ok and f"12 of 12 objects: {finding.text}" in describe(report)
    if refused:
        with pytest.raises(DataError, match=f"cannot teach what is meant.*{said}"):
            require_teachable(dataset)
    else:
        (warning,) = require_teachable(dataset)
        assert said in warning


@pytest.mark.parametrize("change", [f for f in WRONG if f is not crowd], ids=lambda f: f.__name__)
def test_one_is_wrong(tree, change):
    filled(tree)
    tree.content["annotations"][4] = change(tree.content["annotations"][4])
    dataset = COCODataset(tree.save())
    (finding,) = check_dataset(dataset).findings
    assert finding.count == 1 and finding.of in (11, 12)
    assert finding.example.startswith("object 2 of image 2") and not finding.fatal
    assert require_teachable(dataset) == [str(finding)]


def test_good_data(tree, tmp_path):
    filled(tree).rectangle(1, 0, 0, 40, 30, iscrowd=1).image(9)
    dataset = COCODataset(tree.save())
    assert check_dataset(dataset).ok and require_teachable(dataset) == []
    # boxes a few pixels off, as they are drawn by hand; VOC's, whose objects have a line of void around them
    filled(tree, lambda a: a | {"bbox": [v + d for v, d in zip(a["bbox"], (-2, 1, 3, -1))]})
    assert check_dataset(COCODataset(tree.save())).ok
    assert check_dataset(VOCDataset(Tree(tmp_path).add().split())).ok


def test_no_annotation(tree):
    dataset = COCODataset(tree.image(1).image(2).save())
    report = check_dataset(dataset)
    assert [f.text for f in report.findings] == ["nothing can be learned, because there is no annotation in 2 images"]
    with pytest.raises(DataError, match="there is no annotation in 2 images"):
        require_teachable(dataset)


def test_boxes_from_masks_are_right_whatever_the_file_says(tree):
    dataset = COCODataset(filled(tree, corners).save())
    (warning,) = require_teachable(dataset, boxes_from_masks=True)
    assert "bbox is x1 y1 x2 y2" in warning
    assert require_teachable(COCODataset(filled(tree, flat).save()), boxes_from_masks=True)


def test_a_sample_is_enough_but_one_good_object_is_looked_for_everywhere(tree):
    filled(tree, crowd, images=9)
    dataset = COCODataset(tree.save())
    with pytest.raises(DataError, match="27 of 27 objects: nothing can be learned, because 27 are crowds"):
        require_teachable(dataset, limit=3)
    tree.rectangle(5, *PLACES[0])
    seen = []
    dataset = COCODataset(tree.save())
    load = dataset.load
    dataset.load = lambda index: seen.append(index) or load(index)
    (warning,) = require_teachable(dataset, limit=3) or [""]
    assert seen[:3] == [0, 3, 6] and seen[-1] == 4 and len(seen) < 9 and warning == ""
    (tree.images / "000000000001.png").unlink()
    assert require_teachable(COCODataset(tree.save())) == []


def test_images_that_cannot_be_read_are_passed_over(tree):
    filled(tree)
    root = tree.save()
    for path in sorted(tree.images.iterdir())[1:]:
        path.write_bytes(b"")
    assert require_teachable(COCODataset(root)) == []


def test_void_may_belong_to_the_object(tmp_path):
    """A box around an object of which half is not labelled."""
    tree = Tree(tmp_path)
    indices = np.zeros((30, 40), np.uint8)
    indices[2:28, 2:38], indices[4:8, 4:8] = 255, 1
    tree.add(objects=[("cat", 3, 3, 38, 28)], indices=indices)
    assert check_dataset(VOCDataset(tree.split())).ok
    indices[indices == 255] = 0
    tree.add("b", objects=[("cat", 3, 3, 38, 28)], indices=indices)
    (finding,) = check_dataset(VOCDataset(tree.split())).findings
    assert "disagree" in finding.text and "of image b (b.jpg)" in finding.example


# --- from the command line ---


def run(capsys, *words):
    code = main([str(word) for word in words])
    return code, "".join(capsys.readouterr())


def test_check_and_train_say_it(tree, tmp_path, capsys):
    root = filled(tree, crowd).save()
    code, said = run(capsys, "data", "check", "--data", "coco", "--root", root)
    assert code == 2 and "12 of 12 objects: nothing can be learned, because 12 are crowds" in said
    train = ["train", "--data", "coco", "--root", root, "--steps", 1, "--no-eval", "--no-pictures", "--quiet"]
    train += ["--backend", "numpy", "--config", "rois_per_image=16", "--out"]
    code, said = run(capsys, *train, tmp_path / "a")
    assert code == 2 and "error: the data set cannot teach" in said and not (tmp_path / "a").exists()
    tree.content["annotations"] = [a | {"iscrowd": 0} for a in tree.content["annotations"]]
    tree.content["annotations"][0] = two_points(tree.content["annotations"][0])
    tree.save()
    code, said = run(capsys, *train, tmp_path / "b")
    assert code == 0 and "warning: 1 of 12 objects: the mask has 0 pixels" in said


def test_check_names_what_was_left_out_and_shows_no_escape_codes(tree, capsys):
    filled(tree)
    tree.content["categories"].append({"id": 9, "name": "\x1b[31mred"})
    tree.content["annotations"][0]["segmentation"] = []
    tree.content["images"][1]["file_name"] = "\x1b[2J.png"
    code, said = run(capsys, "data", "check", "--data", "coco", "--root", tree.save())
    assert code == 2 and "\x1b" not in said and "\\x1b[31mred" in said and "\\x1b[2J.png: does not exist" in said
    assert "1 x an annotation without segmentation is left out (such as " in said
    assert json.dumps(said)
