import json
import os

import numpy as np
import pytest
from coco_tree import CocoTree

from mrcnn_np import presets
from mrcnn_np.data import COCO_CATEGORIES, COCODataset, check_dataset, open_dataset
from mrcnn_np.data.augment import augment
from mrcnn_np.data.coco import category_ids_of
from mrcnn_np.data.coco_json import Instances, dump_json, image_numbers, instances_of
from mrcnn_np.data.sample import check_sample, for_training
from mrcnn_np.data.shapes import generate
from mrcnn_np.errors import DataError
from mrcnn_np.molding import make_batch
from mrcnn_np.targets import match_anchors


@pytest.fixture
def tree(tmp_path):
    return CocoTree(tmp_path / "coco")


def opened(tree, **options):
    return COCODataset(tree.save(), **options)


def fails(tree, message, image_id=None):
    with pytest.raises(DataError, match=message) as caught:
        opened(tree).load(0)
    assert caught.value.image_id == image_id
    assert str(tree.root) in str(caught.value)


# --- reading ---


def test_load_by_hand(tree):
    tree.image(8).image(5)
    tree.rectangle(5, 2, 3, 10, 4, category=7).rectangle(8, 0, 0, 1, 1).rectangle(5, 1.5, 20, 6.25, 5, area=99.5)
    dataset = opened(tree)
    assert dataset.class_names == ("background", "cat", "dog") and dataset.category_ids == (-1, 3, 7)
    assert dataset.ids == ("5", "8") and len(dataset) == 2
    sample = dataset.load(0)
    check_sample(sample, 3)
    assert sample.image_id == "5" and sample.image.shape == (30, 40, 3) and sample.path.endswith("000000000005.png")
    # corners of x, y, width, height; in the order of the file; class ids in the order of category ids
    np.testing.assert_array_equal(sample.gt_boxes, [[3, 2, 7, 12], [20, 1.5, 25, 7.75]])
    assert sample.gt_boxes.dtype == np.float64
    assert sample.gt_class_ids.tolist() == [2, 1] and sample.gt_class_ids.dtype == np.int64
    assert sample.gt_masks[0].sum() == 40 and sample.gt_masks[0, 3:7, 2:12].all()
    assert sample.gt_areas.tolist() == [40, 99.5]
    assert not sample.gt_crowd.any() and not sample.gt_difficult.any() and not sample.void.any()


def test_crowds_as_run_lengths_in_both_forms(tree):
    mask = np.zeros((30, 40), bool)
    mask[:, 3] = True
    for counts in ([90, 30, 1080], "j2n0hQ1"):
        tree.content |= {"images": [], "annotations": []}
        tree.image(1).rectangle(1, 3, 0, 1, 30, iscrowd=1, segmentation={"size": [30, 40], "counts": counts})
        sample = opened(tree).load(0)
        np.testing.assert_array_equal(sample.gt_masks, mask[None])
        assert sample.gt_crowd.tolist() == [True]


def test_crowds_are_no_training_targets(tree):
    tree.image(1, height=64, width=64).rectangle(1, 0, 0, 60, 60, iscrowd=1).rectangle(1, 8, 8, 16, 16)
    config = presets.tiny(num_classes=3)
    (boxes,), (crowd,) = (getattr(make_batch([opened(tree).load(0)], config), n) for n in ("gt_boxes", "gt_crowd"))
    assert crowd.tolist() == [True, False]
    labels, matched = match_anchors(boxes, boxes, crowd, config)  # the crowd's own box as an anchor
    assert labels.tolist()[1] == 1 and labels[0] != 1 and matched[1] == 1


def test_images_without_annotations_are_background(tree):
    sample = opened(tree.image(1)).load(0)
    assert sample.gt_boxes.shape == (0, 4) and sample.gt_masks.shape == (0, 30, 40)
    assert sample.gt_class_ids.shape == (0,) and sample.gt_areas.shape == (0,) and sample.gt_crowd.dtype == bool


def test_what_an_annotation_may_lack(tree):
    tree.image(1).rectangle(1, 4, 5, 6, 7, bbox=..., area=..., iscrowd=...)
    sample = opened(tree).load(0)
    np.testing.assert_array_equal(sample.gt_boxes, [[5, 4, 12, 10]])
    assert sample.gt_areas.tolist() == [42] and sample.gt_crowd.tolist() == [False]


def test_a_box_without_area_is_evaluated_but_not_trained_on(tree):
    tree.image(1).rectangle(1, 4, 5, 6, 0).rectangle(1, -0.5, 2, 41, 7)
    sample = opened(tree).load(0)
    assert len(sample.gt_boxes) == 2
    kept = for_training(sample)
    np.testing.assert_array_equal(kept.gt_boxes, [[2, 0, 9, 40]])  # and clipped
    assert kept.gt_areas.tolist() == [287] and kept.gt_masks.shape == (1, 30, 40)
    check_sample(kept, 3)


def test_augmentation_forgets_annotated_areas_that_no_longer_hold(tree):
    sample = opened(tree.image(1).rectangle(1, 4, 5, 6, 7, area=40)).load(0)
    assert augment(sample, np.random.default_rng(0), flip=1).gt_areas.tolist() == [40]
    assert augment(sample, np.random.default_rng(0), scale_jitter=(1.5, 1.5)).gt_areas is None


def test_boxes_only_need_no_masks(tree):
    tree.image(1).rectangle(1, 4, 5, 6, 7, segmentation=...)
    (found,) = Instances(tree.save() / "annotations" / "instances_train.json").objects(1, masks=False)
    assert found.box == (4, 5, 6, 7) and found.mask is None


# --- where the files are ---


def test_splits_and_years(tree):
    root = tree.image(1).save()
    (root / "annotations" / "instances_val2017.json").write_text(tree.json.read_text())
    (root / "images" / "val2017").symlink_to(tree.images)
    assert COCODataset(root, "val").ids == COCODataset(root, "val2017").ids == ("1",)
    (root / "annotations" / "instances_val2017.json").rename(root / "annotations" / "instances_val2014.json")
    (root / "images" / "val2017").rename(root / "val2014")
    assert COCODataset(root, "val").load(0).image.shape == (30, 40, 3)
    with pytest.raises(DataError, match=r"has no annotations/instances_test\*\.json; .* \(found: train, val2014\)"):
        COCODataset(root, "test")
    (root / "annotations" / "instances_val2015.json").write_text("{}")
    with pytest.raises(
        DataError,
        match=r"has several annotations/instances_val\*\.json; expected one, or its whole name \(found: .*val2014",
    ):
        COCODataset(root, "val")


def test_other_layouts(tree):
    root = tree.image(1).save()
    tree.json.rename(root / "annotations" / "train.json")
    assert len(COCODataset(root)) == 1
    for entry in tree.images.iterdir():
        entry.rename(root / entry.name)
    assert COCODataset(root).load(0).image.shape == (30, 40, 3)
    (root / "train").mkdir()
    for entry in (root / "annotations" / "train.json", *root.glob("*.png")):
        entry.rename(root / "train" / entry.name.replace("train.json", "_annotations.coco.json"))
    assert COCODataset(root).load(0).image.shape == (30, 40, 3)


def test_subset_and_ids(tree):
    for number in (3, 1, 20):
        tree.image(number)
    assert opened(tree, subset=2).ids == ("1", "3")
    assert opened(tree, ids=["20", "1"]).ids == ("20", "1")
    with pytest.raises(DataError, match=r"image '4' is not in split 'train' \(3 images, 1 \.\.\.\)"):
        opened(tree, ids=["4"])
    with pytest.raises(DataError, match="image 3 is listed twice"):
        opened(tree, ids=["3", "3"])


def test_open_dataset_says_how_to_get_the_data(tmp_path, tree, monkeypatch):
    monkeypatch.delenv("COCO_ROOT", raising=False)
    for root in (None, tmp_path / "none"):
        with pytest.raises(DataError, match="set COCO_ROOT to the folder that holds annotations/"):
            open_dataset("coco", root)
    monkeypatch.setenv("COCO_ROOT", str(tree.image(1).save()))
    assert len(open_dataset("coco", None)) == 1
    with pytest.raises(DataError, match=r"there is no annotations/instances_\*\.json"):
        COCODataset(tmp_path)
    with pytest.raises(DataError, match="does not exist; expected the folder"):
        COCODataset(tmp_path / "none")


# --- bad input ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ('{"images": [', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        ("[]", "holds a list; expected an object with images, annotations and categories"),
        ("{}", "has categories of type nothing; expected a list"),
        ('{"categories": [], "images": 5, "annotations": []}', "has images of type 5; expected a list"),
        ('{"categories": [], "images": [], "annotations": []}', "lists no image"),
        ('{"categories": [{"id": 1}], "images": []}', "category 1 has the name None"),
        ('{"categories": [{"id": "one", "name": "a"}]}', "entry 0 of categories has the id 'one'"),
        ('{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "category id 1 is 'a' and 'b'"),
        ('{"categories": [{"id": 1, "name": "\\ud800"}]}', r"category 1 has the name '.ud800"),
        ('{"categories": [{"id": -1, "name": "a"}]}', "category id is -1; expected 0 or more"),
        ('{"categories": [7]}', "entry 0 of categories has the id None"),
        ('{"categories": [], "images": [{"id": 1}]}', "image 1 has file_name None"),
        ('{"categories": [], "images": [{"id": 1, "file_name": "..//"}]}', "'..//'; expected the name of a file"),
        ('{"categories": [], "images": [{"id": 1, "file_name": "a\\u0000"}]}', "expected the name of a file"),
        (
            '{"categories": [], "images": [{"id": 1, "file_name": "a", "height": 0, "width": 3}]}',
            "height 0 and width 3",
        ),
        (
            '{"categories": [], "images": [{"id": 1, "file_name": "a", "height": 100000, "width": 100000}]}',
            "height 100000 and width 100000",
        ),
    ],
)
def test_broken_json(tree, text, message):
    root = tree.image(1).save()
    tree.json.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        COCODataset(root)
    assert str(caught.value).startswith(str(tree.json))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iscrowd": 2}, "iscrowd is 2; expected 0 or 1"),
        ({"iscrowd": "no"}, "iscrowd is 'no'; expected 0 or 1"),
        ({"bbox": [1, 2, 3]}, r"bbox is \[1, 2, 3\]; expected \[x, y, width, height\]"),
        ({"bbox": [1, 2, -3, 4]}, r"bbox is \[1, 2, -3, 4\]"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox is .*nan"),
        ({"bbox": [1, 2, True, 4]}, "bbox is .*True"),
        ({"bbox": [50, 2, 3, 4]}, r"bbox \[50.0, 2.0, 3.0, 4.0\] lies outside the image; .* within 40 x 30"),
        ({"area": -1}, "area is -1; expected a number of pixels"),
        ({"area": float("inf")}, "area is inf"),
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "polygon 1 has 5 coordinates; .* an even number"),
        ({"segmentation": [[], 7]}, "polygon 2 is 7; expected a list of coordinates"),
        ({"segmentation": {"size": [30, 40], "counts": [1199]}}, "add up to 1199 pixels; expected 1200"),
        ({"segmentation": {"size": [40, 30], "counts": [1200]}}, r"RLE has the size \[40, 30\]; expected \[30, 40\]"),
        ({"segmentation": {"size": [30, 40], "counts": "abc!"}}, "character 3 of the run lengths is '!'"),
    ],
)
def test_broken_annotations(tree, changes, message):
    tree.image(1).rectangle(1, 4, 5, 6, 7, **changes)
    fails(tree, f"annotation 1 of image 1: .*{message}|annotation 1 of image 1: {message}", "1")


def test_missing_image_and_image_of_another_size(tree):
    tree.image(1).image(2)
    (tree.images / "000000000001.png").rename(tree.root / "moved")
    fails(tree, r"000000000001\.png: does not exist", "1")
    (tree.root / "moved").rename(tree.images / "000000000001.png")
    tree.content["images"][0]["width"] = 41
    fails(tree, r"is 40 x 30 pixels; expected 41 x 30, its size in instances_train\.json", "1")


def test_no_image_anywhere(tree):
    tree.image(1)
    for entry in tree.images.iterdir():
        entry.unlink()
    where = r"looked in images/train, .*; put them into one of these$"
    fails(tree, rf"holds none of the images that instances_train\.json lists, such as 000000000001\.png; {where}")


# --- writing ---


def test_image_numbers():
    assert image_numbers(["000000397133", "12"]) == {"000000397133": 397133, "12": 12}
    assert image_numbers(["2007_000032", "12"]) == {"2007_000032": 1, "12": 2}
    assert image_numbers(["1", "01"]) == {"1": 1, "01": 2}
    assert image_numbers([]) == {}


def test_written_ground_truth_is_read_back(tree):
    tree.image(1).image(4).image(6)
    tree.rectangle(4, 2.5, 3, 10, 4.25, category=7, area=12.5).rectangle(1, 0, 0, 8, 8, iscrowd=1).rectangle(
        4, 5, 5, 9, 9
    )
    before = opened(tree)
    samples = [before.load(i) for i in range(3)]
    content = instances_of(samples, ids=before.ids, class_names=before.class_names, category_ids=before.category_ids)
    tree.json.write_bytes(dump_json(content))
    after = COCODataset(tree.root)
    assert (after.class_names, after.category_ids, after.ids) == (before.class_names, before.category_ids, before.ids)
    for index, old in enumerate(samples):
        new = after.load(index)
        for name in ("gt_boxes", "gt_class_ids", "gt_masks", "gt_crowd", "gt_areas", "image"):
            np.testing.assert_array_equal(getattr(new, name), getattr(old, name), err_msg=name)


def test_shapes_as_coco(tmp_path):
    """Another data set, written in COCO's form, is the same data set."""
    root = generate(tmp_path / "shapes", train=3, val=1, size=64)
    shapes = open_dataset("shapes", root)
    samples = [shapes.load(i) for i in range(3)]
    categories = category_ids_of(shapes.class_names)
    content = instances_of(samples, ids=shapes.ids, class_names=shapes.class_names, category_ids=categories)
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_bytes(dump_json(content))
    (root / "train").symlink_to(shapes.folder / "JPEGImages")
    coco = COCODataset(root)
    assert coco.class_names == shapes.class_names and coco.ids == ("1", "2", "3")
    for index, sample in enumerate(samples):
        found = coco.load(index)
        for name in ("gt_boxes", "gt_class_ids", "gt_masks", "image"):
            np.testing.assert_array_equal(getattr(found, name), getattr(sample, name))
        assert found.gt_areas.tolist() == sample.gt_masks.sum(axis=(1, 2)).tolist()


def test_category_ids():
    assert len(COCO_CATEGORIES) == 80 and max(COCO_CATEGORIES) == 90
    assert category_ids_of(("background", *COCO_CATEGORIES.values())) == (-1, *COCO_CATEGORIES)
    assert category_ids_of(("background", "cat", "dog")) == (-1, 1, 2)


# --- the real thing ---

needs_coco = pytest.mark.skipif("COCO_ROOT" not in os.environ, reason="COCO_ROOT is not set")


@needs_coco
def test_real_coco():
    """Of a large copy the first 32 images."""
    dataset = open_dataset("coco", None, "train", subset=32)
    assert dict(zip(dataset.category_ids[1:], dataset.class_names[1:])) == COCO_CATEGORIES
    report = check_dataset(dataset)
    assert report.problems == [] and report.images == 32 and report.crowd > 0 and report.empty > 0
    distances = []
    for index in range(len(dataset)):
        sample = dataset.load(index)
        check_sample(for_training(sample), 81)
        for box, mask, area, crowd in zip(sample.gt_boxes, sample.gt_masks, sample.gt_areas, sample.gt_crowd):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            tight = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
            distances.append(np.abs(box - tight).max())
            if not crowd:  # the area of the polygon; measured: at most 7.6 % apart
                assert abs(mask.sum() - area) < 0.1 * max(area, 100)
    # Pixels; measured: median .47 (polygons are drawn on whole pixels), largest 3.97 (thin tips that cover no pixel)
    assert np.median(distances) < 0.6 and max(distances) < 6


@needs_coco
def test_the_file_is_that_of_the_data_set():
    dataset = open_dataset("coco", None, "train", subset=1)
    entry = dataset.instances.images[int(dataset.ids[0])]
    listed = json.loads(dataset.instances.path.read_text())["images"]
    assert {"id": entry.id, "height": entry.height}.items() <= next(i for i in listed if i["id"] == entry.id).items()
