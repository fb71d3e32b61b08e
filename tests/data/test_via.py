"""VIA's JSON, of version 1 and 2: every kind of region, where classes come from, and files that are damaged."""

import json

import numpy as np
import pytest
from annotated_trees import HEIGHT, WIDTH, masks_of, pixels, via, via_document

from mrcnn_np.data.via import VIA
from mrcnn_np.errors import DataError, DataWarning


def write(root, *regions, version=2, **changes):
    """Replace the regions of picture a, and other things."""
    document = via_document(version=version)
    document["a.png123"] |= {"regions": list(regions)} | changes
    (root / "via_region_data.json").write_text(json.dumps(document))
    return root / "via_region_data.json"


def region(name="rect", attributes=None, **shape):
    shape = shape or {"x": 4, "y": 5, "width": 6, "height": 7}
    return {"shape_attributes": {"name": name, **shape}, "region_attributes": attributes or {}}


@pytest.fixture
def root(tmp_path):
    return via(tmp_path / "balloon")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_versions(tmp_path, version):
    dataset = VIA(via(tmp_path / "balloon", version=version))
    assert dataset.ids == ("a", "b")
    np.testing.assert_array_equal(np.asarray(dataset.load(0).gt_masks), masks_of("a"))
    assert VIA(tmp_path / "balloon" / "via_region_data.json").ids == ("a", "b")


def test_circles_and_ellipses(root):
    write(root, region("circle", cx=20, cy=15, r=6), region("ellipse", cx=20, cy=15, rx=10, ry=4, theta=np.pi / 2))
    masks = VIA(root).load(0).gt_masks
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert (np.asarray(masks[0]) ^ (np.hypot(y - 15, x - 20) <= 6)).sum() <= 8
    assert (np.asarray(masks[1]) ^ (np.hypot((y - 15) / 10, (x - 20) / 4) <= 1)).sum() <= 8


def test_the_only_attribute_is_the_class(root):
    write(root, region(attributes={"animal": "cat"}), region(attributes={"animal": {"dog": True, "cat": False}}))
    document = json.loads((root / "via_region_data.json").read_text())
    document["b.png123"]["regions"][0]["region_attributes"] = {"animal": "cat"}
    (root / "via_region_data.json").write_text(json.dumps(document))
    dataset = VIA(root)
    assert dataset.class_names == ("background", "cat", "dog")
    assert dataset.load(0).gt_class_ids.tolist() == [1, 2]


def test_of_several_attributes_that_which_is_called_class(root):
    path = write(root, region(attributes={"colour": "red", "Name": "cat", "quality": "good"}))
    with pytest.raises(
        DataError, match=f"^{path}: region 1 of image b.png has no attribute 'Name'; expected its class"
    ):
        VIA(root).load(1)
    assert VIA(root).class_names == ("background", "cat")
    write(root, region(attributes={"colour": "red", "quality": "good"}))
    with pytest.raises(DataError, match="has regions with the attributes colour, quality; expected one of them"):
        VIA(root)


def test_classes_txt(root):
    (root / "classes.txt").write_text("balloon\n")
    assert VIA(root).class_names == ("background", "balloon")
    (root / "classes.txt").write_text("balloon\nkite\n")
    with pytest.raises(DataError, match="lists 2 classes, and no region says which it is"):
        VIA(root)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            region("polyline", all_points_x=[1, 2], all_points_y=[1, 2]),
            "is a polyline, which encloses no area; expected",
        ),
        (region("point", cx=3, cy=3), "is a point, which encloses no area"),
        (region("polygon", all_points_x=[1, 2, 3], all_points_y=[1, 2]), "has no all_points_x and all_points_y of one"),
        (region("polygon", all_points_x=[1, 2], all_points_y=[1, 2]), "is a polygon of 2 points"),
        (region("circle", cx=3, cy=3), "is a circle with cx, cy, r = .*; expected numbers of pixels"),
        (region("ellipse", cx=3, cy=3, rx=2), "is an ellipse with cx, cy, rx, ry = .*; expected numbers of pixels"),
        (region("circle", cx=3, cy=3, r=-2), "is a circle with cx, cy, r = .*; expected numbers of pixels"),
        (region("rect", x=90, y=90, width=4, height=4), "has no pixel within the image"),
        (region(["rect"]), r"is a \['rect'\], which encloses no area"),
        ({"shape_attributes": None}, "has the shape nothing; expected an object"),
        ("region", "is a text; expected an object with shape_attributes"),
    ],
)
def test_broken_regions(root, broken, message):
    path = write(root, region(), broken)
    with pytest.raises(DataError, match=f"^{path}: region 2 of image a.png {message}"):
        VIA(root).load(0)
    dataset = VIA(root, skip_bad=True)
    with pytest.warns(DataWarning, match="an object is left out"):
        assert len(dataset.load(0).gt_masks) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filename": ""}, "has no filename in 'a.png123'"),
        ({"filename": None}, "has no filename in 'a.png123'"),
        ({"filename": "b.png"}, "lists image b.png twice"),
        ({"regions": "none"}, "image a.png has regions of type a text; expected a list"),
    ],
)
def test_damaged_entries(root, changes, message):
    path = write(root, **changes)
    if changes == {"filename": "b.png"}:  # two of one name cannot be told apart, whatever their sizes are
        content = json.loads(path.read_text())
        content["again"] = content["b.png123"]
        path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"^{path}: {message}"):
        VIA(root)


def test_damaged_files(root):
    path = root / "via_region_data.json"
    whole = path.read_text()
    path.write_text(whole[:-20])
    with pytest.raises(DataError, match=f"^{path}: is not JSON"):
        VIA(root)
    path.write_text(whole)
    (root / "again.json").write_text(whole)
    with pytest.raises(DataError, match="both list images of one folder; expected one JSON in it"):
        VIA(root)
    (root / "again.json").unlink()
    (root / "a.png").unlink()
    with pytest.raises(DataError, match=f"^{path}: lists the image 'a.png', which is not there"):
        VIA(root).load(0)
    np.testing.assert_array_equal(VIA(root).load(1).image, pixels("b"))
