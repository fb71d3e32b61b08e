"""What is held out where there is no split for it: drawn by name, so that adding images moves none."""

import json

import pytest
from coco_tree import CocoTree

from mrcnn_np.data import open_dataset
from mrcnn_np.data.held_out import drawn, fraction_for
from mrcnn_np.errors import DataError

NAMES = [f"photo_{k}.jpg" for k in range(2000)]


def test_a_share_and_never_nothing():
    assert 0.08 < sum(drawn(NAMES, 0.1)) / 2000 < 0.12
    assert 0.47 < sum(drawn(NAMES, 0.5)) / 2000 < 0.53
    for names in (NAMES[:2], NAMES[:5]):
        assert sum(drawn(names, 1e-9)) == 1 and sum(drawn(names, 1.0)) == len(names) - 1
    for names in ([], NAMES[:1]):
        with pytest.raises(DataError, match=rf"no image that could be held out of {len(names)}; expected two or more"):
            drawn(names, 0.1)


def test_adding_images_moves_none():
    held = dict(zip(NAMES, drawn(NAMES, 0.1)))
    assert dict(zip(NAMES[:700][::-1], drawn(NAMES[:700][::-1], 0.1))).items() <= held.items()
    smaller = dict(zip(NAMES, drawn(NAMES, 0.05)))
    assert all(held[name] for name in NAMES if smaller[name])  # a larger share holds out the same and more


def test_only_the_name_counts():
    """Not its folder, suffix or Windows' separators; versions that Roboflow made of one photograph stay together."""
    for name in NAMES[:50]:
        stem = name.removesuffix(".jpg")
        others = [f"images\\{stem}.PNG", f"a/b/{stem}", f"{stem}.rf.0a1b2c.jpg", f"{stem.upper()}.JPG"]
        assert {drawn([*NAMES[50:], one], 0.3)[-1] for one in (name, *others)} == {drawn(NAMES, 0.3)[NAMES.index(name)]}


def test_the_share_that_holds_out_enough():
    """It holds out so many, one of a hundredth less does not; few digits as long as they do."""
    for total in (2, 7, 34, 300):
        for count in range(1, total, 1 + total // 9):
            fraction, held = fraction_for(NAMES[:total], count)
            assert 0 < fraction < 1 and held == sum(drawn(NAMES[:total], fraction)) >= count
            assert sum(drawn(NAMES[:total], max(fraction - 0.01, 0.0))) < max(count, 2)
    assert len(f"{fraction_for(NAMES[:34], 11)[0]:g}") <= 4
    versions = [f"a.rf.{k}.jpg" for k in range(5)] + NAMES[:2]  # of one photograph: all or none
    assert {fraction_for(versions, count)[1] for count in range(1, 7)} <= {1, 2, 5, 6}


def test_a_coco_file_of_one_split(tmp_path):
    tree = CocoTree(tmp_path / "coco")
    for number in range(1, 31):
        tree.image(number).rectangle(number, 4, 5, 6, 7)
    tree.save()
    for root in (tree.root, tree.json):
        train, val = (open_dataset("coco", root, split, val_fraction=0.2) for split in ("train", "val"))
        assert len(train) + len(val) == 30 and not set(train.ids) & set(val.ids) and 1 <= len(val) <= 12
        assert len(open_dataset("coco", root)) == 30
        with pytest.raises(DataError):
            open_dataset("coco", root, "val")
        assert open_dataset("coco", root, "val", val_fraction=0.2, subset=1).ids == val.ids[:1]
        with pytest.raises(DataError, match="is not in split 'val'"):
            open_dataset("coco", root, "val", val_fraction=0.2, ids=[train.ids[0]])
    # numbers are given anew by every export, names are not
    for image in tree.content["images"]:
        image["id"] += 1000
    tree.content["annotations"] = []
    tree.save()
    again = open_dataset("coco", tree.root, "val", val_fraction=0.2)
    assert [str(int(i) - 1000) for i in again.ids] == list(val.ids)
    (tree.images.parent / "val").symlink_to(tree.images)
    (tree.root / "annotations" / "instances_val.json").write_text(json.dumps(tree.content))
    assert len(open_dataset("coco", tree.root, "val", val_fraction=0.2)) == 30
