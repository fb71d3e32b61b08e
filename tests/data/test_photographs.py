"""Photographs with orientation tags and 16-bit pictures that are nearly black, in every format that has files."""

import base64
import io
import json

import numpy as np
import pytest
from all_named import all_named
from annotated_trees import BUILDERS, HEIGHT, WIDTH, labelme, save
from coco_tree import CocoTree
from PIL import Image
from voc_tree import Tree

from mrcnn_np.data import COCODataset, VOCDataset, check_dataset, describe, open_dataset
from mrcnn_np.data.photographs import with_file

ORIENTATION = 0x0112


def coco(root):
    return CocoTree(root).image(1).image(2).rectangle(1, 2, 3, 9, 9).rectangle(2, 2, 3, 9, 9).save()


def voc(root):
    return Tree(root).add("a").add("b").split()


OPENED = {kind: (build, lambda root, kind=kind: open_dataset(kind, root)) for kind, build in BUILDERS.items()}
OPENED |= {"coco": (coco, COCODataset), "voc": (voc, VOCDataset)}


def picture_of(dataset):
    return dataset.load(0).path


def advice(dataset, said):
    report = check_dataset(dataset)
    assert report.ok, describe(report)  # none of these keeps the network from learning
    (finding,) = all_named(report.advice)
    assert said in finding.text and (finding.count, finding.of) == (1, 2) and finding.unit == "images"
    assert f"  1 of 2 images: {finding.text} (such as {finding.example})" in describe(report)
    return finding


@pytest.mark.parametrize("kind", list(OPENED))
@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_that_the_annotation_ignored(kind, orientation, tmp_path):
    """6 turns by a quarter, which the size tells; 3 by a half, which it does not."""
    build, opened = OPENED[kind]
    root = build(tmp_path / "mine")
    path = picture_of(opened(root))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    with Image.open(path) as picture:
        picture.load()
        picture.save(path, exif=exif)
    known = orientation == 6 and kind != "via"  # whose files say no size
    said = "that the annotation ignored" if known else "does not tell whether the annotation ignored it"
    finding = advice(opened(root), said)
    assert "tag" in finding.text and finding.example


@pytest.mark.parametrize("kind", ["dsb", "labels", "labelme", "via", "coco"])
@pytest.mark.parametrize("brightest", [65535, 200])
def test_sixteen_bits_that_are_nearly_black(kind, brightest, tmp_path):
    """One hot pixel in an image of few counts; or few counts altogether."""
    build, opened = OPENED[kind]
    root = build(tmp_path / "mine")
    path = picture_of(opened(root))
    deep = np.full((HEIGHT, WIDTH), 9, np.uint16)
    deep[0, 0] = brightest
    save(path, deep)
    advice(opened(root), "hold 16 bits and are nearly black")
    deep[:, :20] = brightest  # half of it is bright
    save(path, deep)
    assert check_dataset(opened(root)).advice == []


def test_eight_bits_may_be_black(tmp_path):
    root = labelme(tmp_path / "mine")
    save(root / "a.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert check_dataset(open_dataset("labelme", root)).advice == []


def test_sixteen_bit_picture_inside_a_json(tmp_path):
    root, file = labelme(tmp_path / "mine", embedded=True), io.BytesIO()
    Image.fromarray(np.full((HEIGHT, WIDTH), 3, np.uint16)).save(file, "png")
    document = json.loads((root / "a.json").read_text())
    (root / "a.json").write_text(json.dumps(document | {"imageData": base64.b64encode(file.getvalue()).decode()}))
    advice(open_dataset("labelme", root), "nearly black")


@pytest.mark.parametrize(
    ("image_id", "path", "named"),
    [
        ("139", "val2017/000000000139.jpg", "139 (000000000139.jpg)"),
        ("a", "mine/a.jpg", "a"),
        ("day/a.b", "mine/day/a.b.png", "day/a.b"),  # the folder is told, too
        ("a.png", "a.png", "a.png"),
        ("a", "", "a"),
        ("1", "mine.zip/x/00.png", "1 (00.png)"),
        ("day/a", "mine/day/a.json/imageData", "day/a"),  # within labelme's JSON
        ("1", "mine/a.json/imageData", "1 (a.json)"),
    ],
)
def test_a_file_is_named_where_the_id_does_not_tell_it(image_id, path, named):
    assert with_file(image_id, path) == named
