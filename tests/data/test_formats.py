"""Every format of the table: the same pictures give the same samples, a path is recognised, 10,000 images open."""

import json
import os
import re
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from annotated_trees import BUILDERS, TRUTH, labelme, masks_of, pixels
from coco_tree import CocoTree

from mrcnn_np.data import check_dataset, formats, open_dataset, recognise
from mrcnn_np.data.masks import Masks
from mrcnn_np.data.opening import has_split
from mrcnn_np.errors import DataError

KINDS = list(BUILDERS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pictures_give_the_same_samples(kind, tmp_path):
    dataset = open_dataset(kind, BUILDERS[kind](tmp_path / "mine"))
    assert dataset.ids == ("a", "b") and dataset.class_names == ("background", "object") and len(dataset) == 2
    for index, name in enumerate(dataset.ids):
        sample = dataset.load(index)
        np.testing.assert_array_equal(sample.image, pixels(name))
        assert isinstance(sample.gt_masks, Masks)
        np.testing.assert_array_equal(np.asarray(sample.gt_masks), masks_of(name))
        np.testing.assert_array_equal(sample.gt_boxes, TRUTH[name])
        assert sample.gt_class_ids.tolist() == [1] * len(TRUTH[name])
        assert not (sample.gt_crowd.any() or sample.gt_difficult.any() or sample.void.any())
        assert Path(sample.path).exists()
    assert check_dataset(dataset).ok and not dataset.notes


def many(root):
    """COCO's ids are numbers, so that files are named beside them; one has such brackets itself."""
    tree = CocoTree(root).image(1).image(2).image(3, file_name="b (2) (c).png")
    (tree.images / f"{3:012d}.png").rename(tree.images / "b (2) (c).png")
    return tree.rectangle(1, 2, 3, 9, 8).save()


@pytest.mark.parametrize(
    ("kind", "build"),
    [*BUILDERS.items(), ("labelme", lambda root: labelme(root, embedded=True)), ("coco", many)],
)
def test_a_name_that_is_printed_is_an_id(kind, build, tmp_path):
    root = build(tmp_path / "mine")
    dataset = open_dataset(kind, root)
    names = check_dataset(dataset).names
    assert open_dataset(kind, root, ids=names).ids == dataset.ids
    assert open_dataset(kind, root, ids=names[::-1]).ids == dataset.ids[::-1]
    with pytest.raises(DataError, match=r"image 'x \(a\)' is not in split"):
        open_dataset(kind, root, ids=["x (a)"])


@pytest.mark.parametrize("kind", KINDS)
def test_recognised_by_what_lies_there(kind, tmp_path):
    root = BUILDERS[kind](tmp_path / "mine")
    found = recognise(root)
    assert found.kind == kind and found.ground and found.what == formats.by_name(kind).what
    for path in (root, str(root)):
        dataset = open_dataset(path)
        assert type(dataset) is type(open_dataset(kind, root)) and dataset.ids == ("a", "b")


def test_a_path_alone_that_is_no_data_set(tmp_path):
    with pytest.raises(DataError, match="is no folder, zip or JSON that exists, and no name of a data set"):
        open_dataset(tmp_path / "none")
    with pytest.raises(DataError, match="holds nothing; expected one of these"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_zip_without_unpacking(kind, tmp_path):
    root = BUILDERS[kind](tmp_path / "in" / "mine")
    path = Path(shutil.make_archive(str(tmp_path / "mine"), "zip", tmp_path / "in"))
    shutil.rmtree(root)
    assert recognise(path).kind == kind
    dataset = open_dataset(kind, path)
    assert dataset.ids == ("a", "b")
    np.testing.assert_array_equal(np.asarray(dataset.load(1).gt_masks), masks_of("b"))
    np.testing.assert_array_equal(dataset.load(1).image, pixels("b"))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=rf"^{path}: is no zip file .*; it begins like one and may be cut off: "):
        open_dataset(kind, path)


@pytest.mark.parametrize("kind", KINDS)
def test_folders_called_like_splits_are_splits(kind, tmp_path):
    BUILDERS[kind](tmp_path / "train", names="a")
    BUILDERS[kind](tmp_path / "valid", names="b")
    assert [has_split(kind, tmp_path, split) for split in ("train", "val", "test")] == [True, True, False]
    assert [open_dataset(kind, tmp_path, split).ids for split in ("train", "val", "valid")] == [("a",), ("b",), ("b",)]
    assert open_dataset(kind, tmp_path, "train", val_fraction=0.5).ids == ("a",)
    with pytest.raises(DataError, match="has no images of the split 'test'; expected one of train, val"):
        open_dataset(kind, tmp_path, "test")


@pytest.mark.parametrize("kind", KINDS)
def test_no_split_no_image_no_format(kind, tmp_path, monkeypatch):
    root = BUILDERS[kind](tmp_path / "mine")
    with pytest.raises(DataError, match="has no folder for the split 'val'"):
        open_dataset(kind, root, "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"^{tmp_path / 'empty'}: holds no .*; expected"):
        open_dataset(kind, tmp_path / "empty")
    variable = formats.by_name(kind).variable
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(DataError, match=f"no folder is given; .*set {variable}"):
        open_dataset(kind, None)
    monkeypatch.setenv(variable, str(root))
    assert len(open_dataset(kind, None)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_is_cut_short_or_missing(kind, tmp_path):
    root = BUILDERS[kind](tmp_path / "mine")
    path = next(p for p in sorted(root.rglob("a.png")))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=rf"{path}: cannot be"):
        open_dataset(kind, root).load(0)
    assert len(check_dataset(open_dataset(kind, root)).problems) == 1


def test_both_ways_of_coco_are_recognised(tmp_path):
    tree = CocoTree(tmp_path / "coco")
    tree.image(1).rectangle(1, 4, 5, 6, 7)
    assert recognise(tree.save()) == ("coco", "COCO's instances JSON", "annotations/instances_train.json lists images, "
                                      "annotations and categories")  # fmt: skip
    assert recognise(tree.json).kind == "coco"


def test_what_is_none_or_several(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"holds notes\.txt; expected one of these: voc, .* \(JPEG.*; coco, "):
        recognise(tmp_path)
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for name in ("images/a.png", "images/b.png", "outlines/x.svg", "readme.md"):
            archive.writestr(name, "")
    with pytest.raises(DataError, match=r"mine\.zip: holds images/, outlines/, readme\.md; expected one of .*ID/masks"):
        recognise(tmp_path / "mine.zip")
    with pytest.raises(DataError, match="is a file; expected a folder, a zip, or a JSON"):
        recognise(tmp_path / "notes.txt")
    with pytest.raises(DataError, match=r"expected one of shapes, voc, .*; did you mean 'labelme'"):
        recognise("lableme")
    (tmp_path / "task_12_coco.zip").touch()
    meant = re.escape(str(tmp_path / "task_12_coco.zip"))
    with pytest.raises(DataError, match=f"or a path; did you mean '{meant}'"):
        recognise(tmp_path / "task_12_cocos.zip")
    with pytest.raises(DataError, match=f"does not exist; expected the coco data set: .*; did you mean '{meant}'"):
        open_dataset("coco", tmp_path / "task_12_cocos.zip")
    for kind in ("labelme", "via"):
        BUILDERS[kind](tmp_path)
    with pytest.raises(DataError, match=r"may be labelme's JSON files .*; VIA's JSON.* Say which: --data labelme or"):
        recognise(tmp_path)
    with pytest.raises(DataError, match=r"unknown data set 'vco'; expected shapes, voc, .*; did you mean 'voc'"):
        open_dataset("vco", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_images_open_in_seconds(kind, tmp_path):
    """The files are links to those of one image, so that the test takes longer to write them than to open them."""
    root, count = BUILDERS[kind](tmp_path / "mine", names="b"), 10_000
    if kind == "via":
        content = json.loads((root / "via_region_data.json").read_text())
        (one,) = content.values()
        content = {f"{k}": one | {"filename": f"{k}.png"} for k in range(count)}
        (root / "via_region_data.json").write_text(json.dumps(content))
    for file in [p for p in root.rglob("*") if p.is_file() and kind != "via"]:
        for k in range(count):
            to = root / str(file.relative_to(root)).replace("b", str(k), 1).replace("b.", f"{k}.", 1)
            if kind == "labels":
                to = file.with_name(file.name.replace("b", str(k), 1))
            if kind == "labelme":
                to = file.with_name(f"{k}{file.suffix}")
            to.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, to)
        file.unlink()
    began = time.process_time()
    assert recognise(root).kind == kind
    dataset = open_dataset(kind, root, val_fraction=0.1)
    assert time.process_time() - began < 20  # a few seconds on a machine with nothing else to do
    assert 8_800 < len(dataset) < 9_200


@pytest.mark.skipif("DSB_ROOT" not in os.environ, reason="DSB_ROOT is not set")
def test_the_nuclei():
    assert recognise(os.environ["DSB_ROOT"]).kind == "dsb"
    dataset = open_dataset("dsb", None)
    assert len(dataset) == 250
    sample = dataset.load(0)
    assert len(sample.gt_masks) == 27 and sample.image.shape == (256, 256, 3)
    parts = [open_dataset("dsb", None, split, val_fraction=0.1) for split in ("train", "val")]
    assert sorted(parts[0].ids + parts[1].ids) == list(dataset.ids) and 15 < len(parts[1]) < 40
