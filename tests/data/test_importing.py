"""``data import``: every format, there and back through COCO's; nothing is overwritten and nothing half there."""

import os
from pathlib import Path

import numpy as np
import pytest
from annotated_trees import BUILDERS, labelme
from coco_tree import CocoTree
from voc_tree import Tree

from mrcnn_np.cli.main import main
from mrcnn_np.data import COCODataset, VOCDataset, check_dataset, open_dataset
from mrcnn_np.data.importing import write_as_coco
from mrcnn_np.errors import DataError, UserError


def check_round_trip(dataset, out, split="train"):
    """What was imported is what was there."""
    again = COCODataset(out, split)
    assert again.class_names == dataset.class_names and len(again) == len(dataset)
    for index in range(len(dataset)):
        a, b = dataset.load(index), again.load(index)
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(np.asarray(a.gt_masks), np.asarray(b.gt_masks))
        np.testing.assert_array_equal(a.gt_boxes, b.gt_boxes)
        assert a.gt_class_ids.tolist() == b.gt_class_ids.tolist() and a.gt_crowd.tolist() == b.gt_crowd.tolist()
    return again


@pytest.mark.parametrize("kind", list(BUILDERS))
def test_there_and_back(kind, tmp_path):
    root = BUILDERS[kind](tmp_path / "mine")
    dataset = open_dataset(kind, root)
    (done,) = write_as_coco({"train": dataset}, tmp_path / "coco")
    assert done == ("train", 2, 3, 0, [], 0, 0)
    again = check_round_trip(dataset, tmp_path / "coco")
    assert [again.name_of(i) for i in again.ids] == ["a.png", "b.png"]
    assert (tmp_path / "coco" / "images" / "train" / "a.png").read_bytes() == next(root.rglob("a.png")).read_bytes()
    # the same images are held out, whatever the format
    held = open_dataset(kind, root, "val", val_fraction=0.5).ids
    coco = open_dataset("coco", tmp_path / "coco", "val", val_fraction=0.5)
    assert [coco.name_of(i) for i in coco.ids] == [f"{name}.png" for name in held]


def test_photographs_inside_json(tmp_path):
    dataset = open_dataset("labelme", labelme(tmp_path / "mine", embedded=True))
    write_as_coco({"train": dataset}, tmp_path / "coco")
    check_round_trip(dataset, tmp_path / "coco")


def test_coco(tmp_path):
    """Category ids and folders of names stay; boxes are those of the files, not those of the masks."""
    tree = CocoTree(tmp_path / "one")
    tree.image(1).rectangle(1, 4, 5, 6, 7, category=7, bbox=[3, 4, 8, 9]).image(2)
    dataset = COCODataset(tree.save())
    write_as_coco({"train": dataset}, tmp_path / "coco")
    assert check_round_trip(dataset, tmp_path / "coco").category_ids == (-1, 3, 7)


def test_folders_in_names_and_several_splits(tmp_path):
    for split in ("train", "val"):
        for folder in ("x", "y"):
            labelme(tmp_path / "mine" / split / folder, names="a")
    splits = {split: open_dataset("labelme", tmp_path / "mine", split) for split in ("train", "val")}
    write_as_coco(splits, tmp_path / "coco")
    for split, dataset in splits.items():
        assert dataset.ids == ("x/a", "y/a")
        check_round_trip(dataset, tmp_path / "coco", split)


def test_nothing_is_overwritten_and_nothing_left_behind(tmp_path):
    root = labelme(tmp_path / "mine")
    dataset = open_dataset("labelme", root)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already; expected the name of a folder that is new or empty"):
        write_as_coco({"train": dataset}, tmp_path / "there")
    assert os.listdir(tmp_path / "there") == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    (root / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"b\.png: is not an image"):
        write_as_coco({"train": dataset}, tmp_path / "empty")
    assert sorted(os.listdir(tmp_path)) == ["empty", "mine", "there"] and not os.listdir(tmp_path / "empty")
    (done,) = write_as_coco({"train": dataset}, tmp_path / "empty", skip_bad=True)
    assert done.images == 1 and "b.png: is not an image" in done.left_out[0]
    (root / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="no image of the split 'train' can be read; the first error: "):
        write_as_coco({"train": dataset}, tmp_path / "none", skip_bad=True)


def test_a_box_that_needs_void_pixels_is_drawn_around_the_mask(tmp_path):
    """Else what is right in VOC's layout, where void may be the object's, would be wrong in COCO's."""
    tree, indices = Tree(tmp_path), np.zeros((30, 40), np.uint8)
    indices[4:24, 10:30] = 255
    indices[9:19, 15:25], indices[0:9, 0:9] = 1, 2
    dataset = VOCDataset(tree.add("a", [("cat", 11, 5, 30, 24), ("dog", 1, 1, 10, 10)], indices).split())
    assert check_dataset(dataset).ok
    (done,) = write_as_coco({"train": dataset}, tmp_path / "coco")
    assert (done.void, done.tightened) == (1, 1)
    again = COCODataset(tmp_path / "coco", "train")
    assert again.load(0).gt_boxes.tolist() == [[9, 15, 19, 25], [0, 0, 10, 10]] and check_dataset(again).ok


def test_voc_as_imported_has_no_problem(tmp_path, capsys):
    if not os.environ.get("VOC_ROOT"):
        pytest.skip("VOC_ROOT is not set")
    out = tmp_path / "coco"
    assert main(["data", "import", os.environ["VOC_ROOT"], "--split", "train", "--out", str(out), "--quiet"]) == 0
    assert "boxes fitted their masks only with void pixels" in capsys.readouterr().out
    assert check_dataset(COCODataset(out, "train")).ok


def test_crowds_that_are_objects(tmp_path, capsys):
    tree = CocoTree(tmp_path / "painted").image(1).image(2)
    tree.rectangle(1, 2, 3, 10, 10, iscrowd=1).rectangle(1, 20, 3, 10, 10).rectangle(2, 2, 3, 10, 10, iscrowd=1)
    command = ["data", "import", str(tree.save()), "--quiet", "--out"]
    assert main([*command, str(tmp_path / "as-it-is")]) == 0
    assert "3 objects, 2 of them crowds in 2 images written" in capsys.readouterr().out
    assert main([*command, str(tmp_path / "objects"), "--crowds-as-objects"]) == 0
    assert "3 objects, 2 of them crowds until now in 2 images written" in capsys.readouterr().out
    for name, crowds in (("as-it-is", [True, False]), ("objects", [False, False])):
        dataset = COCODataset(tmp_path / name, "train")
        assert dataset.load(0).gt_crowd.tolist() == crowds
        np.testing.assert_array_equal(dataset.load(0).gt_boxes, [[3, 2, 13, 12], [3, 20, 13, 30]])
        np.testing.assert_array_equal(dataset.load(0).gt_masks.areas, [100, 100])


def test_a_list_of_names_holds_for_the_imported_set(tmp_path):
    """Its ids are numbers; a file's name will do, if it is one image's."""
    mine = open_dataset("labelme", labelme(tmp_path / "mine"))
    write_as_coco({"train": mine}, tmp_path / "coco")
    whole = open_dataset("coco", tmp_path / "coco")
    assert [Path(whole.name_of(i)).stem for i in whole.ids] == list(mine.ids) == ["a", "b"]
    for said in ("b", "b.png", whole.ids[1], f"{whole.ids[1]} (b.png)"):
        assert open_dataset("coco", tmp_path / "coco", ids=[said]).ids == whole.ids[1:]
    held = [open_dataset("coco", tmp_path / "coco", split, val_fraction=0.5).ids for split in ("train", "val")]
    for split, ids in zip(("train", "val"), held):
        name = Path(whole.name_of(ids[0])).stem
        assert open_dataset("coco", tmp_path / "coco", split, val_fraction=0.5, ids=[name]).ids == ids[:1]
    with pytest.raises(DataError, match="image 'c' is not in split 'train'"):
        open_dataset("coco", tmp_path / "coco", ids=["c"])


def test_a_name_that_two_files_have_is_nobodys(tmp_path):
    tree = CocoTree(tmp_path / "two").image(1).image(2).rectangle(1, 2, 3, 10, 10)
    for entry, name in zip(tree.content["images"], ("x/a.png", "y/a.png")):
        (tree.images / name).parent.mkdir()
        (tree.images / entry["file_name"]).rename(tree.images / name)
        entry["file_name"] = name
    root = tree.save()
    assert open_dataset("coco", root, ids=["y/a.png"]).ids == ("2",)
    with pytest.raises(DataError, match="image 'a' is not in split 'train'"):
        open_dataset("coco", root, ids=["a"])
