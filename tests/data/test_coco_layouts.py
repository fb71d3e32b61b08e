"""Where different tools put the JSON and the images."""

import json
import warnings

import numpy as np
import pytest
from coco_tree import CocoTree
from PIL import Image

from mrcnn_np.data import COCODataset, check_dataset, open_dataset
from mrcnn_np.errors import DataError, DataWarning


class Layout:
    """One image with one object; the JSON and the image go where a test puts them."""

    def __init__(self, root, names=("a.png",)):
        self.root, self.names = root, names
        self.content = {
            "images": [{"id": n, "file_name": name, "height": 30, "width": 40} for n, name in enumerate(names, 1)],
            "categories": [{"id": 1, "name": "nut"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 3, 9, 3, 9, 8, 2, 8]]},
            ],
        }

    def json(self, path):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(json.dumps(self.content))
        return self

    def image(self, path, level=50):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((30, 40, 3), level, np.uint8)).save(self.root / path)
        return self


LAYOUTS = {
    "Label Studio": ("result.json", "images/a.png", "images/a.png"),
    "Label Studio on Windows": ("result.json", "images\\a.png", "images/a.png"),
    "Label Studio, uploaded": ("result.json", "/data/upload/3/a.png", "images/a.png"),
    "CVAT": ("annotations/instances_default.json", "a.png", "images/default/a.png"),
    "CVAT, beside": ("annotations/instances_default.json", "a.png", "images/a.png"),
    "Roboflow": ("train/_annotations.coco.json", "a.png", "train/a.png"),
    "Roboflow, one folder": ("_annotations.coco.json", "a.png", "a.png"),
    "FiftyOne": ("labels.json", "a.png", "data/a.png"),
    "labelme2coco": ("annotations.json", "JPEGImages/a.png", "JPEGImages/a.png"),
    "COCO": ("annotations/instances_train2017.json", "a.png", "train2017/a.png"),
    "one file of any name": ("bolts_and_nuts.json", "a.png", "images/a.png"),
    "a Windows drive": ("annotations/instances_train.json", "C:\\Users\\me\\my images\\a.png", "images/a.png"),
    "from elsewhere": ("annotations/instances_train.json", "../../pictures/a.png", "images/train/a.png"),
    "a folder above": ("annotations/instances_train.json", "own/images/a.png", "images/a.png"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path, name):
    path, listed, stored = LAYOUTS[name]
    layout = Layout(tmp_path, [listed]).json(path).image(stored)
    for root in (tmp_path, tmp_path / path):
        sample = open_dataset("coco", root).load(0)
        assert len(sample.gt_masks) == 1 and sample.path == str(layout.root / stored)


def test_one_file_for_all_images_is_a_remark_and_no_warning(tmp_path):
    Layout(tmp_path).json("result.json").image("images/a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)  # real problems still are, see test_coco_left_out.py
        dataset = COCODataset(tmp_path)
    remark = f"1 x the file stands for all images, and so for split 'train' (such as {tmp_path / 'result.json'})"
    assert check_dataset(dataset).remarks == [remark]
    assert dataset.notes.repeated() == []
    with pytest.raises(
        DataError, match=r"has no annotations/instances_val.*result\.json.*--root may also name the JSON"
    ):
        COCODataset(tmp_path, "val")
    with pytest.raises(DataError, match=r"result\.json: is one file, taken for the split 'train'; expected a folder"):
        COCODataset(tmp_path / "result.json", "val")


@pytest.mark.parametrize("folders", [("train", "valid", "test"), ("train", "val", "test")])
def test_roboflow_splits(tmp_path, folders):
    for level, folder in enumerate(folders):
        Layout(tmp_path).json(f"{folder}/_annotations.coco.json").image(f"{folder}/a.png", level)
    for level, split in enumerate(("train", "val", "test")):
        sample = COCODataset(tmp_path, split).load(0)
        assert (sample.image == level).all()


def test_a_file_of_another_split_is_not_taken(tmp_path):
    for name in ("instances_val.json", "instances_test2017.json", "valid.json", "train_val.json"):
        folder = tmp_path / name
        Layout(folder).json(f"annotations/{name}").image("images/a.png")
        if not name.startswith("train"):
            with pytest.raises(DataError, match="has no annotations/instances_train"):
                COCODataset(folder)
    Layout(tmp_path / "two").json("one.json").json("other.json").image("images/a.png")
    with pytest.raises(DataError, match=r"there is no annotations/instances_\*\.json, but one\.json, other\.json"):
        COCODataset(tmp_path / "two")
    Layout(tmp_path / "captions").json("annotations/captions_all.json").image("images/a.png")
    with pytest.raises(DataError, match="has no annotations/instances_train"):
        COCODataset(tmp_path / "captions")


def test_names_that_only_folders_tell_apart(tmp_path):
    names = ["left/a.png", "right/a.png"]
    layout = Layout(tmp_path, names).json("annotations/instances_train.json")
    layout.image("images/left/a.png", 1).image("images/right/a.png", 2)
    assert [int(COCODataset(tmp_path).load(i).image[0, 0, 0]) for i in range(2)] == [1, 2]
    layout.image("images/a.png", 3)
    for name in names:
        (tmp_path / "images" / name).unlink()
    with pytest.raises(DataError, match="holds none of the images"):
        COCODataset(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../secret.png", "..\\secret.png", "x/../../secret.png"])
def test_nothing_outside_the_folder_is_read(tmp_path, name):
    root = tmp_path / "own" / "data"
    layout = (
        Layout(root, [name]).json("annotations/instances_train.json").image("../secret.png").image("../../secret.png")
    )
    with pytest.raises(DataError, match="holds none of the images"):
        COCODataset(root)
    layout.image("images/" + name.replace("\\", "/").rpartition("/")[2] + ".png")
    with pytest.raises(DataError, match="holds none of the images"):
        COCODataset(root)


def test_root_of_another_kind(tmp_path):
    tree = CocoTree(tmp_path / "coco").image(1)
    tree.save()
    with pytest.raises(DataError, match="does not exist; expected the voc data set"):
        open_dataset("voc", tree.json)
