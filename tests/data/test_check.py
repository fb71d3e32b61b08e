import json

import numpy as np
import pytest
from all_named import all_named
from annotated_trees import BUILDERS, HEIGHT, WIDTH, masks_of, pixels, save
from voc_tree import Tree, xml_text

from mrcnn_np.data import VOCDataset, check_dataset, describe, few_pictures, generate, open_dataset
from mrcnn_np.data.check import FEW


def test_report_of_a_good_data_set(tmp_path):
    tree = Tree(tmp_path).add("a").add("b", objects=[], height=10, width=50)
    objects = [("cat", 11, 5, 30, 14, "<difficult>1</difficult>"), ("dog", 1, 21, 5, 30)]
    tree.add("c").xml("c").write_text(xml_text(objects))
    report = check_dataset(VOCDataset(tree.split()))
    assert report.ok and report.images == 3 and report.empty == 1 and report.difficult == 1
    assert report.instances.sum() == 4 and report.instances[8] == report.instances[12] == 2
    np.testing.assert_array_equal(report.image_sizes, [[30, 40], [10, 50], [30, 40]])
    np.testing.assert_array_equal(report.box_sizes[:2], [[10, 20], [10, 5]])
    text = describe(report)
    assert "images     3 (1 without instance)" in text and "height 10 .. 30, width 40 .. 50" in text
    assert "instances  4 (1 difficult)" in text and "problems   none" in text
    assert "  dog               2" in text


@pytest.mark.parametrize(("empty", "told"), [(1, False), (2, True), (3, False)])
def test_images_without_objects_may_not_be_annotated_yet(tmp_path, empty, told):
    """One may be meant so, all are another complaint; and not one of twenty."""
    tree = Tree(tmp_path)
    for k, name in enumerate("abc"):
        tree.add(name, **({"objects": []} if k < empty else {}))
    report = check_dataset(VOCDataset(tree.split()))
    said = [str(one) for one in report.advice if "have no object" in str(one)]
    assert bool(said) == told and not (
        said and not said[0].startswith("2 of 3 images: have no object and train as background. ")
    )
    assert not said or said[0].endswith("(such as a)")
    assert not report.findings or empty == 3
    assert [one.concerns for one in all_named(report.advice) if "have no object" in one.text] == [("a", "b")] * told


def test_every_problem_is_reported(tmp_path):
    tree = Tree(tmp_path)
    for name in "abcd":
        tree.add(name)
    tree.jpeg("a").unlink()
    tree.xml("c").write_text(xml_text([("cat", 11, 5, 30, 14), ("dog", 5, 21, 3, 30)]))
    report = check_dataset(VOCDataset(tree.split()))
    assert not report.ok and report.images == 2 and report.bad_ids == ["a", "c"]
    assert str(tree.jpeg("a")) in report.problems[0] and "box 2 of image c" in report.problems[1]
    text = describe(report)
    assert "problems   2" in text and all(problem in text for problem in report.problems)


def test_nothing_usable(tmp_path):
    tree = Tree(tmp_path).add()
    tree.jpeg("a").unlink()
    report = check_dataset(VOCDataset(tree.split()))
    assert report.images == 0 and report.box_sizes.shape == (0, 2)
    assert "instances  0" in describe(report)


def test_class_masks_are_compared(tmp_path):
    root = generate(tmp_path / "d", train=3, val=1, size=64)
    assert check_dataset(open_dataset("shapes", root)).ok
    folder = root / "VOC2012"
    first, second = sorted((folder / "SegmentationClass").iterdir())[:2]
    second.write_bytes(first.read_bytes())
    assert check_dataset(open_dataset("shapes", root)).bad_ids == [second.stem]


def empty_one(kind, root):
    """Make the first object of picture a one of no pixel, as it may happen in each format; return what file has it."""
    if kind == "dsb":
        path = next((root / "a" / "masks").iterdir())
        save(path, np.zeros((HEIGHT, WIDTH), np.uint8))
        return path.name
    if kind == "labelme":
        document = json.loads((root / "a.json").read_text())
        document["shapes"][0]["points"] = [[1, 1], [9, 9], [5, 5]]
        (root / "a.json").write_text(json.dumps(document))
        return "a.json"
    document = json.loads((root / "via_region_data.json").read_text())
    document["a.png123"]["regions"]["0"]["shape_attributes"] |= {"all_points_x": [1, 9, 5], "all_points_y": [1, 9, 5]}
    (root / "via_region_data.json").write_text(json.dumps(document))
    return "via_region_data.json"


@pytest.mark.parametrize("kind", [kind for kind in BUILDERS if kind != "labels"])  # there a number is an object
def test_empty_masks(kind, tmp_path):
    """In COCO's and VOC's layout: test_findings.py and test_voc.py."""
    root = BUILDERS[kind](tmp_path / "mine")
    said = empty_one(kind, root)
    report = check_dataset(open_dataset(kind, root))
    assert not report.ok and report.images == 1 and report.bad_ids == ["a"]
    (problem,) = report.problems
    assert said in problem, problem
    text = describe(report)
    assert "1 of 2 images cannot be used as they are; mend them" in text and "--skip-bad" in text
    skipped = check_dataset(open_dataset(kind, root, skip_bad=True))
    assert skipped.ok and skipped.images == 2 and skipped.instances.sum() == 2


def test_everything_is_a_crowd_in_cityscapes(tmp_path):
    stem = "train/aachen/aachen_000000_000019"
    save(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png", pixels("a"))
    numbers = np.zeros((HEIGHT, WIDTH), np.uint16)
    for mask, group in zip(masks_of("a"), (24, 26)):
        numbers[mask] = group
    save(tmp_path / f"gtFine/{stem}_gtFine_instanceIds.png", numbers)
    report = check_dataset(open_dataset("labels", tmp_path))
    said = [(f.count, f.of) for f in report.findings if f.text.startswith("is a crowd (iscrowd 1), which is left out")]
    assert said == [(2, 2)] and not report.ok


def test_boxes_and_masks_that_disagree_in_voc(tmp_path):
    tree = Tree(tmp_path).add("a").add("b")
    tree.xml("b").write_text(xml_text([("cat", 1, 20, 9, 28), ("dog", 1, 21, 5, 30)]))
    report = check_dataset(VOCDataset(tree.split()))
    assert not report.ok and "b" in describe(report).split("problems")[1]


def test_classes_of_few_pictures(tmp_path):
    root = generate(tmp_path / "d", train=21, val=1, size=64)
    report = check_dataset(open_dataset("shapes", root))
    few = [k for k in (1, 2, 3) if 0 < report.pictures[k] < FEW]
    (finding,) = all_named(few_pictures(report))
    assert finding.count == len(few) and finding.of == np.count_nonzero(report.instances) and not finding.fatal
    assert f"{report.class_names[few[0]]}: {report.pictures[few[0]]}" in finding.example
    report.pictures[:] = FEW
    assert few_pictures(report) == []
