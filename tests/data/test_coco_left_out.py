"""What in a file of COCO's format has no meaning is left out, and said; what can be understood is read."""

import numpy as np
import pytest
from coco_tree import CocoTree
from PIL import Image

from mrcnn_np.data import COCODataset, check_dataset
from mrcnn_np.errors import DataError, DataWarning


@pytest.fixture
def tree(tmp_path):
    return CocoTree(tmp_path / "coco")


def opened(tree, **options):
    return COCODataset(tree.save(), **options)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"image_id": 9}, "an annotation of an image that is not listed is left out"),
        ({"image_id": None}, "an annotation of an image that is not listed is left out"),
        ({"image_id": "none"}, "an annotation of an image that is not listed is left out"),
        ({"category_id": 4}, "an annotation of a category that is not listed is left out"),
        ({"category_id": [3]}, "an annotation of a category that is not listed is left out"),
        ({"category_id": 5}, "an annotation of the background is left out"),
        ({"segmentation": []}, "an annotation without segmentation is left out"),
        ({"segmentation": [[]]}, "an annotation without segmentation is left out"),
        ({"segmentation": None}, "an annotation without segmentation is left out"),
        ({"id": 2}, "the copy of an annotation is left out"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*called background")
def test_what_has_no_meaning_is_left_out(tree, changes, kind):
    """... and named and counted, and the rest is read."""
    tree.content["categories"].append({"id": 5, "name": "_background_"})
    tree.image(1).rectangle(1, 4, 5, 6, 7).rectangle(1, 14, 5, 6, 7, category=7)
    if "id" in changes:
        tree.content["annotations"][0] = dict(tree.content["annotations"][1])
    tree.content["annotations"][0] |= changes
    with pytest.warns(DataWarning) as caught:
        dataset = opened(tree)
        sample = dataset.load(0)
        dataset.load(0)
    assert sample.gt_class_ids.tolist() == [2] and dataset.class_names == ("background", "cat", "dog")
    assert dataset.notes.count(kind) == 1 and any(kind in line for line in dataset.notes.lines())
    (said,) = [str(w.message) for w in caught if kind in str(w.message)]
    assert said.startswith(f"{tree.json}: ") and "annotation" in said


def test_a_category_that_is_missing_is_a_problem(tree):
    """Not a remark: its objects are lost. Named and counted, at once and in the check."""
    tree.image(1).rectangle(1, 4, 5, 6, 7).rectangle(1, 14, 5, 6, 7, category=5)
    for place in (8, 18):
        tree.rectangle(1, place, 15, 6, 7, category=12)
    kind = "an annotation of a category that is not listed is left out"
    with pytest.warns(DataWarning, match=f"annotation 2 of image 1 .category 5. and 2 more: {kind}$") as caught:
        dataset = opened(tree)
    assert len(caught) == 1 and dataset.notes.count(kind) == 3
    report = check_dataset(dataset)
    assert not report.ok and [str(finding) for finding in report.findings] == [
        "3 of 4 annotations: their category is not in the file's list, so they are left out: category 5 (1), 12 (2); "
        "list it with its name, or remove them (such as annotation 2 of image 1)"
    ]
    assert report.findings[0].concerns == tuple(f"annotation {n} of image 1" for n in (2, 3, 4))


def test_what_can_be_understood_is_read(tree):
    """Numbers as texts, ids that are missing or occur twice, sizes that only the image tells."""
    tree.image(1).image(2)
    tree.content["images"][0] |= {"height": None, "width": None}
    tree.content["images"][1] |= {"id": "2", "height": "30", "width": 40.0}
    tree.content["categories"][0] = {"id": "7", "name": "dog", "supercategory": None}
    tree.rectangle("1", 4, 5, 6, 7, id=None, iscrowd=None, area=None, bbox=None)
    tree.rectangle(1.0, 14, 5, 6, 7, category="7", id=...)
    tree.rectangle(2, 4, 5, 6, 7, id=5).rectangle(2, 14, 5, 6, 7, id=5, bbox=[])
    tree.content |= {"info": None, "licenses": None}
    with pytest.warns(DataWarning, match="annotation 5 of image 2: different annotations of one id are all read"):
        dataset = opened(tree)
    assert [len(dataset.load(i).gt_masks) for i in range(2)] == [2, 2]
    assert dataset.load(0).gt_class_ids.tolist() == [1, 2]
    assert dataset.load(1).gt_boxes.tolist() == [[5, 4, 12, 10], [5, 14, 12, 20]]


def test_a_polygon_that_was_deleted(tree):
    tree.image(1).rectangle(1, 4, 5, 6, 7)
    tree.content["annotations"][0]["segmentation"].append([])
    tree.content["annotations"][0]["segmentation"].insert(0, [])
    assert opened(tree).load(0).gt_masks.areas.tolist() == [42]


def test_no_annotations_at_all(tree):
    tree.image(1).content["annotations"] = None
    assert len(opened(tree).load(0).gt_masks) == 0


def test_two_categories_of_one_name(tree):
    tree.content["categories"] = [{"id": n, "name": name} for n, name in ((0, "dog"), (1, "cat"), (4, "dog"))]
    tree.image(1).rectangle(1, 4, 5, 6, 7, category=4).rectangle(1, 4, 5, 6, 7, category=1)
    with pytest.warns(DataWarning, match="categories 0 and 4, dog: categories of one name are read as one class"):
        dataset = opened(tree)
    # the number by which detections are written is the one that the annotations use
    assert dataset.class_names == ("background", "dog", "cat") and dataset.category_ids == (-1, 4, 1)
    assert dataset.load(0).gt_class_ids.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["background", "_background_", "Background"])
def test_a_category_called_background(tree, name):
    tree.content["categories"].append({"id": 0, "name": name})
    tree.image(1).rectangle(1, 4, 5, 6, 7)
    with pytest.warns(DataWarning, match="category 0: a category that is called background is none, and left out"):
        dataset = opened(tree)
    assert dataset.class_names == ("background", "cat", "dog") and dataset.load(0).gt_class_ids.tolist() == [1]


def test_ids_of_images_that_occur_twice(tree):
    tree.image(1).rectangle(1, 4, 5, 6, 7)
    tree.content["images"] *= 2
    assert len(opened(tree).load(0).gt_masks) == 1
    tree.content["images"][1] = tree.content["images"][0] | {"file_name": "another.png"}
    with pytest.warns(DataWarning), pytest.raises(DataError, match="image id 1 occurs twice"):
        opened(tree)
    tree.image(2)
    with pytest.warns(DataWarning, match="image 1: different images of one id cannot be told apart"):
        assert opened(tree).ids == ("2",)


def test_an_image_that_is_not_described_leaves_the_others(tree):
    for number in (1, 2, 3, 4):
        tree.image(number)
    for entry, changes in zip(tree.content["images"][1:], ({"file_name": None}, {"height": -4}, {"id": None})):
        entry |= changes
    with pytest.warns(DataWarning, match="entry 1 of images: an image that is not described is left out"):
        dataset = opened(tree)
    assert dataset.ids == ("1",) and dataset.notes.lines()[0].startswith("3 x ")


def test_skip_bad_leaves_out_annotations(tree):
    tree.image(1).rectangle(1, 4, 5, 6, 7).rectangle(1, 14, 5, 6, 7, segmentation=[[1, 2, 3]])
    tree.rectangle(1, 4, 5, 6, 7, segmentation=[[1, 2, 3, 4, 5]]).rectangle(1, 94, 5, 6, 7)
    with pytest.raises(DataError, match="annotation 2 of image 1: polygon 1 has 3 coordinates"):
        opened(tree).load(0)
    dataset = opened(tree, skip_bad=True)
    with pytest.warns(DataWarning, match="annotation 2 of image 1: an annotation that is broken is left out"):
        assert len(dataset.load(0).gt_masks) == 1
    assert sum(int(line.split()[0]) for line in dataset.notes.lines()) == 3


@pytest.mark.parametrize("drawn_on", ["stored", "turned"])
def test_exif(tree, drawn_on):
    """The size in the file tells whether the picture was annotated as stored or as it is seen."""
    height, width = (40, 30) if drawn_on == "stored" else (30, 40)
    tree.image(1, height=height, width=width).rectangle(1, 2, 3, 10, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # the first stored row is seen as the last column
    stored = np.zeros((40, 30, 3), np.uint8)
    stored[3:7, 2:12] = 255
    Image.fromarray(stored).save(tree.images / "000000000001.png", exif=exif)
    said = "fit the picture before its EXIF orientation" if drawn_on == "stored" else "its size does not tell"
    with pytest.warns(DataWarning, match=rf"000000000001\.png: .*{said}"):
        sample = opened(tree).load(0)
    assert sample.image.shape == (30, 40, 3)
    if drawn_on == "stored":
        np.testing.assert_array_equal(sample.gt_masks[0], sample.image[..., 0] == 255)
        np.testing.assert_array_equal(sample.gt_boxes, sample.gt_masks.boxes)
    else:
        np.testing.assert_array_equal(sample.gt_boxes, [[3, 2, 7, 12]])


@pytest.mark.parametrize("sides", [{"height": None}, {"width": None}, {"height": None, "width": None}, {"height": ...}])
def test_sides_that_are_not_said(tree, sides):
    tree.image(1).rectangle(1, 4, 5, 6, 7)
    entry = tree.content["images"][0] | sides
    tree.content["images"][0] = {key: value for key, value in entry.items() if value is not ...}
    dataset = COCODataset(tree.save())
    assert dataset.load(0).gt_boxes.tolist() == [[5, 4, 12, 10]] and not dataset.notes.lines()
    if sides != {"height": None, "width": None}:
        tree.content["images"][0] |= {side: 31 for side in ("height", "width") if side not in sides}
        with pytest.raises(DataError, match=r"is 40 x 30 pixels; expected (31 x 30|40 x 31), its size in"):
            COCODataset(tree.save()).load(0)


@pytest.mark.parametrize("nothing", [None, [], {}, "", [[]], [None]])
def test_segmentations_that_are_none(tree, nothing):
    tree.image(1).rectangle(1, 4, 5, 6, 7).rectangle(1, 14, 5, 6, 7, segmentation=nothing)
    with pytest.warns(DataWarning, match="an annotation without segmentation is left out"):
        assert len(COCODataset(tree.save()).load(0).gt_boxes) == 1
