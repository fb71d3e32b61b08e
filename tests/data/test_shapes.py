import hashlib
import json
import os

import numpy as np
import pytest

from mrcnn_np.data import open_dataset
from mrcnn_np.data import shapes as shapes_module
from mrcnn_np.data.augment import tight_box
from mrcnn_np.data.scene import SHAPES_CLASSES, draw_scene
from mrcnn_np.data.shapes import generate
from mrcnn_np.data.voc import VOID
from mrcnn_np.errors import DataError

SMALL = {"train": 6, "val": 3, "size": 64, "seed": 3}


def digest(root):
    """Hash of every file's name and bytes."""
    out = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        out.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return out.hexdigest()


def entries(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("shapes") / "small", **SMALL)


def test_layout_and_splits(small):
    assert entries(small) == ["VOC2012", "shapes.json"]
    assert entries(small / "VOC2012") == [
        "Annotations", "ImageSets", "JPEGImages", "SegmentationClass", "SegmentationObject",
    ]  # fmt: skip
    train, val, both = (open_dataset("shapes", small, s) for s in ("train", "val", "trainval"))
    assert (len(train), len(val)) == (6, 3) and both.ids == train.ids + val.ids
    assert train.class_names == SHAPES_CLASSES == ("background", "circle", "square", "triangle")


def test_boxes_are_those_of_the_visible_masks(small):
    dataset = open_dataset("shapes", small, "trainval")
    for index in range(len(dataset)):
        sample = dataset.load(index)
        assert sample.image.shape == (64, 64, 3)
        assert 1 <= len(sample.gt_boxes) <= 5
        np.testing.assert_array_equal(sample.gt_boxes, [tight_box(m) for m in sample.gt_masks])
        dataset.check_classes(index)


def test_same_arguments_give_the_same_bytes(small, tmp_path):
    assert digest(generate(tmp_path / "again", **SMALL)) == digest(small)
    assert digest(generate(tmp_path / "other", **SMALL | {"seed": 4})) != digest(small)


def test_a_longer_data_set_begins_with_the_shorter_one(small, tmp_path):
    longer = generate(tmp_path / "longer", **SMALL | {"train": 9, "val": 4})
    for path in (small / "VOC2012").rglob("*_00000*"):
        assert (longer / path.relative_to(small)).read_bytes() == path.read_bytes()


def test_second_call_does_nothing_and_other_arguments_need_force(tmp_path, monkeypatch):
    root = generate(tmp_path / "d", **SMALL)
    before = digest(root)
    with monkeypatch.context() as patch:
        patch.setattr(shapes_module, "_write_voc", None)
        generate(root, **SMALL)  # would fail if it wrote
    with pytest.raises(DataError, match=r"holds shapes generated with .*'train': 6.*expected .*'train': 7"):
        generate(root, **SMALL | {"train": 7})
    assert digest(root) == before
    generate(root, **SMALL | {"train": 7}, force=True)
    assert len(open_dataset("shapes", root)) == 7
    assert json.loads((root / "shapes.json").read_text())["train"] == 7
    assert entries(tmp_path) == ["d"]


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_other_things_is_left_alone(tmp_path, force):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="no shapes data set"):
        generate(tmp_path, **SMALL, force=force)
    assert entries(tmp_path) == ["thesis.txt"]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "d").mkdir()
    assert len(open_dataset("shapes", generate(tmp_path / "d", **SMALL))) == 6


def test_interruption_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        write(*args)

    write = shapes_module._write_scene
    monkeypatch.setattr(shapes_module, "_write_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "d", **SMALL)
    assert entries(tmp_path) == []


def test_interrupted_force_keeps_the_old_data(tmp_path, monkeypatch):
    root = generate(tmp_path / "d", **SMALL)
    before = digest(root)
    monkeypatch.setattr(shapes_module, "_write_scene", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate(root, **SMALL | {"seed": 9}, force=True)
    assert digest(root) == before and entries(tmp_path) == ["d"]


def test_remains_of_a_killed_run_are_removed_when_old(tmp_path):
    for name in ("old", "young"):
        (tmp_path / f".d.partial-{name}" / "VOC2012").mkdir(parents=True)
    os.utime(tmp_path / ".d.partial-old", (0, 0))
    generate(tmp_path / "d", **SMALL)
    assert entries(tmp_path) == [".d.partial-young", "d"]


def test_two_writers_at_once(tmp_path, monkeypatch):
    """The other process finishes while this one is writing: its data set stays."""
    write = shapes_module._write_voc

    def slow(folder, arguments):
        monkeypatch.setattr(shapes_module, "_write_voc", write)
        write(folder, arguments)
        generate(tmp_path / "d", **SMALL)

    monkeypatch.setattr(shapes_module, "_write_voc", slow)
    generate(tmp_path / "d", **SMALL)
    assert entries(tmp_path) == ["d"] and len(open_dataset("shapes", tmp_path / "d")) == 6


@pytest.mark.parametrize(("name", "value"), [("train", 0), ("val", 0), ("size", 31), ("seed", -1)])
def test_bad_arguments(tmp_path, name, value):
    with pytest.raises(DataError, match=f"{name} is {value}; expected at least"):
        generate(tmp_path / "d", **SMALL | {name: value})
    assert entries(tmp_path) == []


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        generate(tmp_path / "file" / "d", **SMALL)


def test_scenes():
    """Instances are large enough, visible, of all classes and numbers; void lies only where instances meet."""
    counts, classes, truncated, voids = set(), set(), 0, 0
    for seed in range(60):
        scene = draw_scene(128, np.random.default_rng(seed))
        assert scene.image.dtype == np.uint8 and scene.image.shape == (128, 128, 3)
        assert scene.image.std() > 5
        count = len(scene.class_ids)
        assert set(np.unique(scene.indices)) - {0, VOID} == set(range(1, count + 1))
        for k in range(1, count + 1):
            assert np.count_nonzero(scene.indices == k) >= 60
        void = scene.indices == VOID
        if void.any():
            assert count >= 2 and void.mean() < 0.03
        counts.add(count)
        classes.update(scene.class_ids)
        truncated += sum(scene.truncated)
        voids += int(void.any())
    assert counts == {1, 2, 3, 4, 5} and classes == {1, 2, 3}
    assert truncated > 20 and voids > 10


def test_instances_differ_from_what_is_around_them():
    """The mean colour inside differs from the colour of a ring outside: measured median 175, lowest 86."""
    differences = []
    for seed in range(40):
        scene = draw_scene(128, np.random.default_rng(seed))
        for k in range(1, len(scene.class_ids) + 1):
            mask = scene.indices == k
            y1, x1, y2, x2 = tight_box(mask).astype(int)
            window = np.s_[max(y1 - 3, 0) : y2 + 3, max(x1 - 3, 0) : x2 + 3]
            pixels, inside = scene.image[window].astype(float), mask[window]
            differences.append(np.linalg.norm(pixels[inside].mean(axis=0) - pixels[~inside].mean(axis=0)))
    assert min(differences) > 50 and np.median(differences) > 120
