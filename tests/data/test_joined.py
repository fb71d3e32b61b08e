"""Several data sets as one: classes of equal names, pictures of equal names, and what `data import` writes of them."""

import json

import numpy as np
import pytest
from annotated_trees import BUILDERS, labelme, pixels, save

from mrcnn_np.cli.main import main
from mrcnn_np.data import open_dataset
from mrcnn_np.data.held_out import drawn
from mrcnn_np.data.joined import Joined
from mrcnn_np.errors import DataError
from mrcnn_np.keypoints.pose import Pose


@pytest.fixture
def two(tmp_path):
    """Labelme's files of two classes, and one mask file for each object of one class, one picture's name in both."""
    first, second = labelme(tmp_path / "first"), tmp_path / "second"
    for name in ("a", "own"):
        save(second / name / "images" / f"{name}.png", pixels("b"))
        mask = np.zeros(pixels("b").shape[:2], np.uint8)
        mask[3:9, 4:14] = 255
        save(second / name / "masks" / "0.png", mask)
    return first, second


def test_classes_and_names(two):
    parts = [open_dataset("labelme", two[0]), open_dataset("dsb", two[1])]
    both = Joined(parts, [*parts[0].class_names, *parts[1].class_names])
    assert both.class_names == tuple(dict.fromkeys((*parts[0].class_names, *parts[1].class_names)))
    assert both.ids == (*parts[0].ids, "2/a", "own") and len(both) == 4
    seen = 0
    for part in parts:
        for index in range(len(part)):
            mine, its = both.load(seen), part.load(index)
            assert mine.image_id == both.ids[seen]
            assert [both.class_names[c] for c in mine.gt_class_ids] == [part.class_names[c] for c in its.gt_class_ids]
            np.testing.assert_array_equal(np.asarray(mine.gt_masks), np.asarray(its.gt_masks))
            assert both.picture(seen)[0].name == its.path.rpartition("/")[2]
            seen += 1
    # a picture of one name is held out in both or in neither
    held = dict(zip(both.ids, drawn(both.ids, 0.5)))
    assert held["a"] == held["2/a"]


def test_import_of_several(two, tmp_path, capsys):
    out = tmp_path / "together"
    assert main(["data", "import", *map(str, two), "--out", str(out), "--quiet"]) == 0
    parts = [open_dataset("labelme", two[0]), open_dataset("dsb", two[1])]
    whole = open_dataset("coco", out, "train")
    assert [whole.name_of(i).removesuffix(".png") for i in whole.ids] == [*parts[0].ids, "2/a", "own"]
    assert set(whole.class_names) == {*parts[0].class_names, *parts[1].class_names}
    its = [part.load(index) for part in parts for index in range(len(part))]
    for index, sample in enumerate(its):
        mine = whole.load(index)
        np.testing.assert_array_equal(mine.image, sample.image)
        np.testing.assert_array_equal(np.asarray(mine.gt_masks), np.asarray(sample.gt_masks))
    assert "objects in 4 images written to" in capsys.readouterr().out


def test_import_of_what_was_imported(two, tmp_path):
    """Numbers in front of names are there already then; and a folder may be called 2."""
    first, second = two
    third = labelme(tmp_path / "third")
    (third / "2").mkdir()
    for suffix in ("png", "json"):
        (third / "2" / f"a.{suffix}").write_bytes((third / f"a.{suffix}").read_bytes())
    before: list[str] = []
    for number, (one, other) in enumerate([(first, second), (tmp_path / "0", first), (third, tmp_path / "1")]):
        out = tmp_path / str(number)
        assert main(["data", "import", str(one), str(other), "--out", str(out), "--quiet"]) == 0
        whole = open_dataset("coco", out, "train")
        names = [whole.name_of(i) for i in whole.ids]
        assert len(set(names)) == len(names) == sum(1 for _ in (out / "images" / "train").rglob("*.png"))
        assert len(names) == len(before) + (4 if number == 0 else 2 if number == 1 else 3)
        before = names


def test_different_keypoints_are_not_joined(two):
    """They would be written under the names of the first set's."""
    parts = [open_dataset("labelme", two[0]), open_dataset("dsb", two[1])]
    for poses, said in (
        ((Pose(("nose", "tail")), None), "2 keypoints and none"),
        ((Pose(("nose", "tail")), Pose(("tail", "nose"))), "2 keypoints and 2 keypoints"),
    ):
        for part, pose in zip(parts, poses):
            part.pose = pose
        with pytest.raises(DataError, match=rf"different keypoints \({said}\); expected sets that have the same"):
            Joined(parts, parts[0].class_names)
    parts[1].pose = parts[0].pose
    assert len(Joined(parts, (*parts[0].class_names, *parts[1].class_names))) == 4


@pytest.mark.parametrize("kind", list(BUILDERS))
def test_every_format_beside_another(kind, two, tmp_path):
    """The other one has a split of its own, or none."""
    out, other = tmp_path / "together", BUILDERS[kind](tmp_path / "other")
    assert main(["data", "import", str(two[1]), str(other), "--out", str(out), "--quiet"]) == 0
    counts = {
        path.stem.removeprefix("instances_"): len(json.loads(path.read_text())["images"])
        for path in (out / "annotations").iterdir()
    }
    alone = tmp_path / "alone"
    assert main(["data", "import", str(other), "--out", str(alone), "--quiet"]) == 0
    for path in (alone / "annotations").iterdir():
        split = path.stem.removeprefix("instances_")
        assert counts[split] == len(json.loads(path.read_text())["images"]) + 2 * (split == "train")
