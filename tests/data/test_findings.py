"""Data that can teach nothing, or the wrong thing: `data check` and `train` say so."""

import json

import numpy as np
import pytest
from all_named import all_named
from coco_tree import CocoTree
from PIL import Image
from voc_tree import Tree

from mrcnn_np.cli.main import main
from mrcnn_np.data import COCODataset, VOCDataset, check_dataset, describe, require_teachable
from mrcnn_np.data.labelme import Labelme
from mrcnn_np.data.via import VIA
from mrcnn_np.errors import DataError
from mrcnn_np.training.batches import load_samples

PLACES = [(2, 3, 14, 9), (20, 4, 9, 11), (24, 18, 12, 8)]


@pytest.fixture
def tree(tmp_path):
    tree = CocoTree(tmp_path / "coco")
    del tree.content["categories"][0]  # of which there is no object
    return tree


def filled(tree, change=lambda annotation: annotation, *, images=4):
    """Three objects in each image, each changed."""
    for number in range(1, images + 1):
        tree.image(number)
        for place in PLACES:
            tree.rectangle(number, *place)
    tree.content["annotations"] = [change(a) for a in tree.content["annotations"]]
    return tree


def crowd(a):
    return a | {"iscrowd": 1}


def two_points(a):
    x, y, w, h = a["bbox"]
    return a | {"segmentation": [[x, y, x + w, y + h]]}


def one_wide(a):
    x, y, _, h = a["bbox"]
    return a | {"segmentation": [[x, y, x, y + h, x, y]]}


def fractions(a):
    x, y, w, h = a["bbox"]
    x, y, w, h = x / 40, y / 30, w / 40, h / 30
    return a | {"bbox": [x, y, w, h], "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}


def corners(a):
    x, y, w, h = a["bbox"]
    return a | {"bbox": [x, y, x + w, y + h]}


def flat(a):
    return a | {"bbox": [*a["bbox"][:3], 0]}


def centred_fractions(a):
    """All cover the point (0.5, 0.5), and so fill the first pixel."""
    return a | {"bbox": [0.3, 0.3, 0.5, 0.5], "segmentation": [[0.3, 0.3, 0.8, 0.3, 0.8, 0.8, 0.3, 0.8]]}


def fraction_polygons(a):
    return a | {"segmentation": fractions(a)["segmentation"]}


def fractions_without_bbox(a):
    return {key: value for key, value in fractions(a).items() if key not in ("bbox", "area")}


def fraction_boxes(a):
    return a | {"bbox": fractions(a)["bbox"]}


def centres(a):
    x, y, w, h = a["bbox"]
    return a | {"bbox": [x + w / 2, y + h / 2, w, h]}


def rows_first(a):
    x, y, w, h = a["bbox"]
    return a | {"bbox": [y, x, y + h, x + w]}


def exchanged(a):
    x, y, w, h = a["bbox"]
    return a | {"bbox": [y, x, h, w]}


def elsewhere(a):
    x, y, w, h = a["bbox"]
    return a | {"bbox": [39 - x - w, 29 - y - h, w, h]}


WRONG = {  # what is said, and whether training is refused where all objects are so
    crowd: ("which is left out of training; run lengths", True),
    two_points: ("the mask has 0 pixels", True),
    one_wide: ("the mask has 0 pixels", True),
    fractions: ("the coordinates are fractions of the image", True),
    corners: ("bbox is x1 y1 x2 y2; expected x y width height", True),
    flat: ("the box has no area", True),
    centred_fractions: ("the coordinates are fractions of the image", True),
    fraction_polygons: ("the coordinates are fractions of the image", True),
    fractions_without_bbox: ("the coordinates are fractions of the image", True),
    fraction_boxes: ("bbox is a fraction of the image", True),
    centres: ("bbox is the centre's x and y, width, height", True),
    rows_first: ("bbox is y1 x1 y2 x2", True),
    exchanged: ("x and y are exchanged", True),
    elsewhere: ("box and mask disagree", False),
}


def test_classes_without_an_object_are_named_if_all_images_were_looked_at(tree):
    dataset = COCODataset(filled(tree).save())
    assert require_teachable(dataset) == []
    tree.content["categories"].append({"id": 8, "name": "zebra"})
    (warning,) = require_teachable(COCODataset(tree.save()))
    assert warning == "1 of 2 classes: never to be found, as nothing in these 4 images teaches them (zebra)"
    assert require_teachable(COCODataset(tree.save()), limit=2) == []


@pytest.mark.parametrize("change", WRONG, ids=lambda f: f.__name__)
def test_everything_is_wrong(tree, change):
    said, refused = WRONG[change]
    dataset = COCODataset(filled(tree, change).save())
    report = check_dataset(dataset)
    (finding,) = [f for f in all_named(report.findings) if said in f.text]
    assert finding.count == finding.of == 12 and finding.example.startswith(
        "object 1 of image 1 (000000000001.png), box"
    )
    assert not report.ok and f"12 of 12 objects: {finding.text}" in describe(report)
    if refused:
        with pytest.raises(DataError, match=f"cannot teach what is meant.*{said}"):
            require_teachable(dataset)
    else:
        (warning,) = require_teachable(dataset)
        assert said in warning


@pytest.mark.parametrize("change", [f for f in WRONG if f is not crowd], ids=lambda f: f.__name__)
def test_one_is_wrong(tree, change):
    filled(tree)
    tree.content["annotations"][4] = change(tree.content["annotations"][4])
    dataset = COCODataset(tree.save())
    (finding,) = all_named(check_dataset(dataset).findings)
    assert finding.names_all and finding.count == 1 and finding.of in (11, 12)
    assert finding.example.startswith("object 2 of image 2") and not finding.fatal
    assert require_teachable(dataset) == [str(finding)]


@pytest.mark.parametrize("change", [fractions, centred_fractions, fraction_polygons, fraction_boxes, centres])
@pytest.mark.parametrize("most", [False, True])
def test_some_are_wrong(tree, change, most):
    """Of two tools' annotations in one file, most decide."""
    filled(tree)
    every = tree.content["annotations"]
    for place in range(0, 12, 2 if most else 3):
        every[place] = change(every[place])
    for place in range(1, 12, 4) if most else ():
        every[place] = change(every[place])
    dataset = COCODataset(tree.save())
    (finding,) = all_named(check_dataset(dataset).findings)
    assert not finding.names_all and finding.count == (9 if most else 4) and finding.fatal == most


def test_an_image_of_fractions_alone(tree):
    """One object may be as small as a pixel in the corner, but not all of an image."""
    filled(tree)
    tree.content["annotations"][3:6] = map(centred_fractions, tree.content["annotations"][3:6])
    with pytest.raises(DataError, match=r"3 of 12 objects: the coordinates are fr.*object 1 of image 2 .*; object 2"):
        require_teachable(COCODataset(tree.save()))
    del tree.content["annotations"][4:6]
    (warning,) = require_teachable(COCODataset(tree.save()))
    assert warning.startswith("1 of 10 objects: the coordinates are fractions")


def test_boxes_that_disagree_in_several_ways_are_all_named(tree):
    """Too few of each kind to tell how a file writes its boxes."""
    filled(tree)
    every = tree.content["annotations"]
    for place, change in ((1, elsewhere), (4, corners), (8, fraction_boxes), (9, fraction_boxes)):
        every[place] = change(every[place])
    (finding,) = all_named(check_dataset(COCODataset(tree.save())).findings)
    assert finding.count == 4 and "disagree" in finding.text and finding.example == finding.concerns[0]
    assert sorted(place.split(" (")[0] for place in finding.concerns) == [
        "object 1 of image 4", "object 2 of image 1", "object 2 of image 2", "object 3 of image 3",
    ]  # fmt: skip


def test_small_things_are_no_fractions(tree):
    """Tiny images, whole coordinates, and objects of a pixel or two whose boxes are one off."""
    for number, (height, width) in enumerate([(1, 1), (2, 3), (8, 8)], start=1):
        tree.image(number, height=height, width=width).rectangle(number, 0, 0, 0.9, 0.9).rectangle(number, 0, 0, 1, 1)
    assert check_dataset(COCODataset(tree.save())).ok
    tree.content |= {"images": [], "annotations": []}
    tree.image(1).rectangle(1, 0, 0, 1, 1).rectangle(1, 0, 0, 1, 1)
    assert check_dataset(COCODataset(tree.save())).ok
    tree.content["annotations"] = []
    for place in range(2, 20, 4):
        tree.rectangle(1, place, 5, 1, 2, bbox=[place + 0.5, 6, 1, 2])
    assert require_teachable(COCODataset(tree.save())) == []


def test_fractions_of_other_tools(tmp_path):
    """Every reader whose files have coordinates, with all kinds of shapes that it knows."""
    inside = [[0.3, 0.3], [0.8, 0.3], [0.8, 0.8], [0.3, 0.8]]  # covers the first pixel's middle
    cases: dict = {"labelme": (Labelme, []), "via": (VIA, [])}
    for kind, points in {"polygon": inside, "rectangle": inside[::2], "circle": [[0.5, 0.5], [0.5, 0.9]]}.items():
        cases["labelme"][1].append([{"label": "cat", "points": points, "shape_type": kind}] * 2)
    for kind, shape in {
        "polygon": {"all_points_x": [0.3, 0.8, 0.8, 0.3], "all_points_y": [0.3, 0.3, 0.8, 0.8]},
        "rect": {"x": 0.3, "y": 0.3, "width": 0.5, "height": 0.5},
        "circle": {"cx": 0.5, "cy": 0.5, "r": 0.4},
        "ellipse": {"cx": 0.5, "cy": 0.5, "rx": 0.4, "ry": 0.3, "theta": 2},
    }.items():
        cases["via"][1].append([{"shape_attributes": {"name": kind} | shape, "region_attributes": {}}] * 2)
    for name, (reader, pictures) in cases.items():
        for number, shapes in enumerate(pictures):
            root = tmp_path / f"{name}{number}"
            root.mkdir()
            Image.new("RGB", (40, 30)).save(root / "a.png")
            document = {"shapes": shapes, "imagePath": "a.png"} if name == "labelme" else {"a": {
                "filename": "a.png", "size": 1, "regions": shapes}}  # fmt: skip
            (root / "a.json").write_text(json.dumps(document))
            with pytest.raises(DataError, match="the coordinates are fractions of the image"):
                require_teachable(reader(root))
            (root / "a.json").write_text(json.dumps(document).replace("0.5", "0.4").replace("0.8", "0.35"))
            with pytest.raises(DataError, match="fractions of the image"):  # without a pixel
                reader(root).load(0)
                require_teachable(reader(root))


def test_fractions_in_voc(tmp_path):
    indices = np.zeros((30, 40), np.uint8)
    indices[4:14, 10:30] = 1
    tree = Tree(tmp_path).add(objects=[("cat", 0.25, 0.2, 0.75, 0.5)], indices=indices)
    with pytest.raises(DataError, match=r"box 1 of image a has fractions .* \(x 0.25 .. 0.75, y 0.2 .. 0.5\);"):
        VOCDataset(tree.split()).load(0)


def test_good_data(tree, tmp_path):
    filled(tree).rectangle(1, 0, 0, 40, 30, iscrowd=1).image(9)
    dataset = COCODataset(tree.save())
    assert check_dataset(dataset).ok and require_teachable(dataset) == []
    # boxes a few pixels off, as they are drawn by hand; VOC's, whose objects have a line of void around them
    filled(tree, lambda a: a | {"bbox": [v + d for v, d in zip(a["bbox"], (-2, 1, 3, -1))]})
    assert check_dataset(COCODataset(tree.save())).ok
    assert check_dataset(VOCDataset(Tree(tmp_path).add().split())).ok


def test_no_annotation(tree):
    dataset = COCODataset(tree.image(1).image(2).save())
    report = check_dataset(dataset)
    assert [f.text for f in report.findings] == ["nothing can be learned, because there is no annotation in 2 images"]
    with pytest.raises(DataError, match="there is no annotation in 2 images"):
        require_teachable(dataset)


def test_boxes_from_masks_are_right_whatever_the_file_says(tree):
    dataset = COCODataset(filled(tree, corners).save())
    (warning,) = require_teachable(dataset, boxes_from_masks=True)
    assert "bbox is x1 y1 x2 y2" in warning
    assert require_teachable(COCODataset(filled(tree, flat).save()), boxes_from_masks=True)


def test_a_sample_is_enough_but_one_good_object_is_looked_for_everywhere(tree):
    filled(tree, crowd, images=9)
    dataset = COCODataset(tree.save())
    with pytest.raises(DataError, match="27 of 27 objects: nothing can be learned, because 27 are crowds"):
        require_teachable(dataset, limit=3)
    tree.rectangle(5, *PLACES[0])
    seen = []
    dataset = COCODataset(tree.save())
    load = dataset.load
    dataset.load = lambda index: seen.append(index) or load(index)
    (warning,) = require_teachable(dataset, limit=3)
    assert seen[:3] == [0, 3, 6] and seen[-1] == 4 and len(seen) < 9
    assert warning.startswith("18 of 19 objects: is a crowd")
    (tree.images / "000000000001.png").unlink()
    warning, _ = require_teachable(COCODataset(tree.save()), skipped={})
    assert warning.startswith("1 of 9 images: cannot be read")


def test_images_that_cannot_be_read_are_refused_unless_they_are_skipped(tree):
    filled(tree).content["categories"].append({"id": 8, "name": "zebra"})
    dataset = COCODataset(tree.save())
    sorted(tree.images.iterdir())[3].write_bytes(b"<html>")
    with pytest.raises(DataError) as training:
        load_samples(dataset, [3], None)
    with pytest.raises(DataError) as before:
        require_teachable(dataset)
    assert str(before.value) == str(training.value) and before.value.image_id == "4"
    sorted(tree.images.iterdir())[1].write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"^image 2: .*; 1 more of the 4 images looked at cannot be read either$"):
        require_teachable(dataset)
    skipped, untaught = {}, []
    first, second = require_teachable(dataset, skipped=skipped, untaught=untaught)
    assert first.startswith("2 of 4 images: cannot be read, so they are left out (such as 2: ")
    assert second.startswith("1 of 2 classes: never to be found, as nothing in these 4 images teaches them (zebra)")
    assert list(skipped) == ["2", "4"] and untaught == ["zebra"]
    untaught.clear()
    assert require_teachable(dataset, skipped={}, untaught=untaught, limit=2) == []  # images 1 and 3
    assert untaught == []


def test_void_may_belong_to_the_object(tmp_path):
    """A box around an object of which half is not labelled."""
    tree = Tree(tmp_path)
    indices = np.zeros((30, 40), np.uint8)
    indices[2:28, 2:38], indices[4:8, 4:8] = 255, 1
    tree.add(objects=[("cat", 3, 3, 38, 28)], indices=indices)
    assert check_dataset(VOCDataset(tree.split())).ok
    indices[indices == 255] = 0
    tree.add("b", objects=[("cat", 3, 3, 38, 28)], indices=indices)
    (finding,) = check_dataset(VOCDataset(tree.split())).findings
    assert "disagree" in finding.text and "of image b (b.jpg)" in finding.example


# --- from the command line ---


def run(capsys, *words):
    code = main([str(word) for word in words])
    return code, "".join(capsys.readouterr())


def test_check_and_train_say_it(tree, tmp_path, capsys):
    root = filled(tree, crowd).save()
    code, said = run(capsys, "data", "check", "--data", "coco", "--root", root)
    assert code == 2 and "12 of 12 objects: nothing can be learned, because 12 are crowds" in said
    train = ["train", "--data", "coco", "--root", root, "--steps", 1, "--no-eval", "--no-pictures", "--quiet"]
    train += ["--backend", "numpy", "--config", "rois_per_image=16", "--out"]
    code, said = run(capsys, *train, tmp_path / "a")
    assert code == 2 and "error: the data set cannot teach" in said and not (tmp_path / "a").exists()
    tree.content["annotations"] = [a | {"iscrowd": 0} for a in tree.content["annotations"]]
    tree.content["annotations"][0] = two_points(tree.content["annotations"][0])
    tree.save()
    code, said = run(capsys, *train, tmp_path / "b")
    assert code == 0 and "warning: 1 of 12 objects: the mask has 0 pixels" in said


def test_check_names_what_was_left_out_and_shows_no_escape_codes(tree, capsys):
    filled(tree)
    tree.content["categories"].append({"id": 9, "name": "\x1b[31mred"})
    tree.content["annotations"][0]["segmentation"] = []
    tree.content["images"][1]["file_name"] = "\x1b[2J.png"
    code, said = run(capsys, "data", "check", "--data", "coco", "--root", tree.save())
    assert code == 2 and "\x1b" not in said and "\\x1b[31mred" in said and "\\x1b[2J.png: does not exist" in said
    assert "1 x an annotation without segmentation is left out (such as " in said
    assert json.dumps(said)


def test_some_crowds_are_told(tree):
    """As where a tool writes a polygon as an object and a painted mask as a crowd."""
    filled(tree, images=9)
    for a in tree.content["annotations"][::4]:
        a["iscrowd"] = 1
    data = COCODataset(tree.save(), "train")
    report = check_dataset(data)
    assert report.ok
    (finding,) = (f for f in report.advice if "is a crowd" in f.text)
    assert (finding.count, finding.of) == (7, 27) and "--crowds-as-objects" in finding.text
    all_named([finding])
    (warning,) = (w for w in require_teachable(data) if "is a crowd" in w)
    assert warning.startswith("7 of 27 objects: is a crowd (iscrowd 1): nobody learns it")


@pytest.mark.parametrize("images, crowds", [(9, 2), (40, 4)])
def test_few_crowds_are_not_told(tree, images, crowds):
    filled(tree, images=images)
    for a in tree.content["annotations"][:crowds]:
        a["iscrowd"] = 1
    assert not [f for f in check_dataset(COCODataset(tree.save(), "train")).advice if "crowd" in f.text]
