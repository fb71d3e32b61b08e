"""labelme's JSON: every kind of shape, where photographs are, and files that are damaged."""

import base64
import io
import json

import numpy as np
import pytest
from annotated_trees import HEIGHT, WIDTH, labelme, labelme_document, masks_of, pixels, save
from PIL import Image

from mrcnn_np.data.labelme import Labelme
from mrcnn_np.errors import DataError, DataWarning


@pytest.fixture
def root(tmp_path):
    return labelme(tmp_path / "mine")


def write(root, *shapes, **changes):
    """Replace the shapes of picture a, and other things."""
    document = labelme_document("a")
    document["shapes"] = list(shapes) or document["shapes"]
    (root / "a.json").write_text(json.dumps(document | changes))
    return root / "a.json"


def shape(kind, points, label="cat", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


def png(mask):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def test_the_image_inside_the_json(tmp_path):
    dataset = Labelme(labelme(tmp_path / "mine", embedded=True))
    np.testing.assert_array_equal(dataset.load(0).image, pixels("a"))
    np.testing.assert_array_equal(np.asarray(dataset.load(0).gt_masks), masks_of("a"))


@pytest.mark.parametrize("given", ["C:\\Users\\me\\a.png", "../images/a.png", "images/a.png", "/nowhere/a.png"])
def test_where_photographs_are(root, given):
    """Paths of another machine lead to a file of that name within the folder, and never outside."""
    (root / "images").mkdir()
    (root / "a.png").rename(root / "images" / "a.png")
    write(root, imagePath=given)
    np.testing.assert_array_equal(Labelme(root).load(0).image, pixels("a"))


def test_json_and_photographs_in_folders_of_their_own(root):
    for folder, kind in (("labels", "json"), ("images", "png")):
        (root / folder).mkdir()
        for name in "ab":
            (root / f"{name}.{kind}").rename(root / folder / f"{name}.{kind}")
    assert Labelme(root).ids == ("a", "b")
    np.testing.assert_array_equal(Labelme(root).load(1).image, pixels("b"))


def test_one_file(root):
    dataset = Labelme(root / "b.json")
    assert dataset.ids == ("b",) and len(dataset.load(0).gt_masks) == 1


def test_circles_and_masks(root):
    mask = np.zeros((5, 6), bool)
    mask[1:, 2:] = True
    write(root, shape("circle", [[20, 15], [26, 15]]), shape("mask", [[30, 4], [35, 8]], "dog", mask=png(mask)))
    dataset = Labelme(root)
    sample = dataset.load(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    off = np.asarray(sample.gt_masks[0]) ^ (np.hypot(y - 15, x - 20) <= 6)
    assert off.sum() <= 8 and abs(int(sample.gt_masks.areas[0]) - np.pi * 36) < 6
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[4:9, 30:36] = mask
    np.testing.assert_array_equal(np.asarray(sample.gt_masks[1]), expected)
    assert [dataset.class_names[k] for k in sample.gt_class_ids] == ["cat", "dog"]
    assert dataset.class_names == ("background", "cat", "dog", "object")


def test_group_ids_join_parts(root):
    """Parts of one group and one class; a group of another class, or none, is another object."""
    parts = ((0, "cat", 1), (8, "cat", 1), (16, "dog", 1), (24, "cat", None), (32, "cat", 2))
    write(root, *(shape("rectangle", [[x, 2], [x + 4, 6]], label, group_id=group) for x, label, group in parts))
    sample = Labelme(root).load(0)
    assert sample.gt_masks.areas.tolist() == [32, 16, 16, 16]
    assert sample.gt_boxes[0].tolist() == [2, 0, 6, 12]


def test_ignored_pixels_are_void(root):
    write(root, shape("rectangle", [[0, 0], [4, 4]], "__ignore__"), shape("rectangle", [[8, 8], [12, 12]]))
    dataset = Labelme(root)
    assert dataset.class_names == ("background", "cat", "object")
    assert dataset.load(0).void.sum() == 16 and len(dataset.load(0).gt_masks) == 1


def test_labels_txt_says_the_order(root):
    (root / "labels.txt").write_text("__ignore__\n_background_\nobject\ncat\n")
    assert Labelme(root).class_names == ("background", "object", "cat")
    write(root, shape("rectangle", [[8, 8], [12, 12]], "dog"))
    with pytest.raises(
        DataError,
        match=r"a\.json: shape 1 \(dog\) is of a class that is not listed in labels\.txt; expected object, cat$",
    ):
        Labelme(root).load(0)
    write(root, shape("rectangle", [[8, 8], [12, 12]], "obejct"))
    with pytest.raises(DataError, match=r"expected object, cat; did you mean 'object'\?$"):
        Labelme(root).load(0)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            shape("linestrip", [[0, 0], [5, 5], [9, 0]]),
            r"shape 2 \(cat\) is a linestrip, which encloses no area; expected",
        ),
        (shape("point", [[0, 0]]), "is a point, which encloses no area"),
        (shape("polygon", [[0, 0], [5, 5]]), "is a polygon of 2 points; expected three or more"),
        (shape("circle", [[0, 0]]), "is a circle of 1 point; expected the centre and a point"),
        (shape("rectangle", [[0, 0], [1, "x"]]), r"has the points .*; expected a list of \[x, y\]"),
        (shape("polygon", [[0, 0], [9e9, 5], [4, 4]]), "far outside the image"),
        (shape("rectangle", [[50, 50], [60, 60]]), "has no pixel within the image"),
        (shape("rectangle", [[5, 5], [6, 6]], ""), "has the label ''; expected the name of a class"),
        (shape("rectangle", [[5, 5], [6, 6]], None), "has the label None; expected the name of a class"),
        (shape("mask", [[5, 5], [6, 6]], mask="AAAA"), "has a mask that cannot be read"),
        (shape(["x"], [[5, 5], [6, 6]]), "encloses no area"),
        ("shape", "is a text; expected an object with label"),
    ],
)
def test_broken_shapes(root, broken, message):
    """One message with file and place; or, with --skip-bad, the others are read."""
    path = write(root, shape("rectangle", [[1, 1], [9, 9]]), broken)
    with pytest.raises(DataError, match=f"^{path}: .*{message}"):
        Labelme(root).load(0)
    dataset = Labelme(root, skip_bad=True)
    with pytest.warns(DataWarning, match="an object is left out"):
        assert len(dataset.load(0).gt_masks) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"shapes": [', "is not JSON .*; expected labelme's JSON"),
        (b'{"shapes": {}, "imagePath": "a.png"}', "has shapes of type an object; expected a list"),
    ],
)
def test_damaged_json(root, content, message):
    (root / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=f"^{root / 'a.json'}: {message}"):
        Labelme(root)
    with pytest.warns(DataWarning, match="a file that cannot be read is left out"):
        assert Labelme(root, skip_bad=True).ids == ("b",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imagePath": "c.png"}, None),  # there is a.png beside a.json
        ({"imageHeight": 31}, "is 40 x 30 pixels; expected 40 x 31, the size of its annotation"),
        ({"imageHeight": "x"}, "has imageHeight 'x' and imageWidth 40; expected pixels"),
        ({"imageData": "%%%"}, "has imageData that is no base64"),
        ({"imageData": "AAAA"}, "imageData: is not an image"),
    ],
)
def test_damaged_entries(root, changes, message):
    write(root, **changes)
    if message is None:
        assert len(Labelme(root).load(0).gt_masks) == 2
        return
    with pytest.raises(DataError, match=message):
        Labelme(root).load(0)


def test_a_photograph_that_is_not_there(root):
    (root / "a.png").unlink()
    with pytest.raises(
        DataError, match=rf"^{root / 'a.json'}: has imagePath 'a.png' and no imageData, and there is no"
    ):
        Labelme(root).load(0)


def test_other_json_is_left_out(root):
    (root / "settings.json").write_text("{}")
    with pytest.warns(DataWarning, match=r"settings\.json: a JSON that is none of labelme's is left out"):
        assert Labelme(root).ids == ("a", "b")


def test_no_shape_at_all(tmp_path):
    save(tmp_path / "a.png", pixels("a"))
    (tmp_path / "a.json").write_text(json.dumps(labelme_document("a") | {"shapes": []}))
    with pytest.raises(DataError, match="names no class in any shape"):
        Labelme(tmp_path)
