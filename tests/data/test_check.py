import numpy as np
from voc_tree import Tree, xml_text

from mrcnn_np.data import VOCDataset, check_dataset, describe, generate, open_dataset


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
