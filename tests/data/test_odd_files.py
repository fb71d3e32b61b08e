"""All readers on odd files: a ``DataError`` that names the file, or data that can be trained on; nothing else."""

import copy
import json
import math

import numpy as np
import pytest
from coco_tree import CocoTree
from PIL import Image
from voc_tree import Tree

from mrcnn_np.data import COCODataset, VOCDataset, check_dataset, read_image
from mrcnn_np.data.coco_json import Instances
from mrcnn_np.data.coco_results import read_results
from mrcnn_np.data.sample import check_sample, for_training
from mrcnn_np.data.voc_labels import read_labels
from mrcnn_np.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore")


def try_reading(root, open_it):
    """Read everything; whatever is wrong must be a message that names a file of the data set."""
    try:
        dataset = open_it()
    except DataError as error:
        assert str(root) in str(error) and "\n" not in str(error)
        return "refused"
    said = "read"
    for index in range(len(dataset)):
        try:
            check_sample(for_training(dataset.load(index)), len(dataset.class_names))
        except DataError as error:
            assert str(root) in str(error) and error.image_id == dataset.ids[index]
            said = "refused"
    check_dataset(dataset)
    return said


# --- every value of a good file, replaced by values of other kinds ---

ODD = [
    None, True, 0, -1, 1, 7, 10**9, 10**18, 10**30, 0.5, -0.0, 1e300, 1e999, -1e999, math.nan, "", "a", "1", "\x00",
    "\ud800", "../../x", "C:\\x.png", "1e9", [], {}, [[]], [None], [1, 2, 3, 4], [[1, 2, 3, 4, 5, 6]], [1e308] * 4,
    {"size": [1, 1], "counts": []}, {"size": [30, 40], "counts": "0" * 50}, {"size": [30, 40], "counts": [1 << 62] * 4},
    {"size": 3, "counts": {}}, {"size": [30, 40], "counts": [math.nan]}, [[math.nan] * 6], [[1e300] * 6],
    [[10**400] * 6], ["x"] * 6, "x" * 70_000,
]  # fmt: skip


def places(value, path=()):
    """Yield the way to every value within JSON."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def changed(content, path, value):
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return content


def good(root):
    tree = CocoTree(root).image(1).image(2).rectangle(1, 4, 5, 6, 7).rectangle(2, 14, 5, 6, 7)
    tree.rectangle(2, 3, 3, 9, 9, iscrowd=1, segmentation={"size": [30, 40], "counts": [90, 30, 1080]})
    return tree


@pytest.mark.parametrize("skip_bad", [False, True])
def test_every_field_of_a_coco_file(tmp_path, skip_bad):
    tree = good(tmp_path / "coco")
    tree.save()
    everywhere = list(places(tree.content))
    rng = np.random.default_rng(0)
    said = []
    for path in everywhere:
        for k in rng.choice(len(ODD) + 1, 6, replace=False):
            value = ... if k == len(ODD) else ODD[k]
            tree.json.write_text(json.dumps(changed(tree.content, path, value)))
            said.append(try_reading(tree.root, lambda: COCODataset(tree.root, skip_bad=skip_bad)))
    assert len(said) > 400 and {"read", "refused"} == set(said)


def test_every_odd_value_in_the_fields_of_an_annotation(tmp_path):
    tree = good(tmp_path / "coco")
    tree.save()
    for key in tree.content["annotations"][0]:
        for value in ODD:
            tree.json.write_text(json.dumps(changed(tree.content, ("annotations", 0, key), value)))
            try_reading(tree.root, lambda: COCODataset(tree.root))
            try_reading(tree.root, lambda: COCODataset(tree.root, skip_bad=True))


def test_every_field_of_a_results_file(tmp_path):
    tree = good(tmp_path / "coco")
    tree.save()
    instances = Instances(tree.json)
    segmentation = {"size": [30, 40], "counts": "j2n0hQ1"}
    results = [{"image_id": 1, "category_id": 3, "score": 0.5, "bbox": [1, 2, 3, 4], "segmentation": segmentation}]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    assert len(read_results(path, instances)) == 1
    for where in places(results):
        for value in [*ODD, ...]:
            path.write_text(json.dumps(changed(results, where, value)))
            try:
                read_results(path, instances)
            except DataError as error:
                assert str(error).startswith(str(path))


@pytest.mark.parametrize("tag", ["xmin", "ymax", "name", "difficult", "bndbox", "object"])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_every_field_of_a_voc_annotation(tmp_path, tag, skip_bad):
    tree = Tree(tmp_path).add()
    root, text = tree.split(), tree.xml("a").read_text()
    before, rest = text.split(f"<{tag}>", 1) if f"<{tag}>" in text else (text.replace("<bndbox>", "", 1), "")
    after = rest.split(f"</{tag}>", 1)[1] if rest else ""
    for value in (
        "",
        "x",
        "nan",
        "inf",
        "-1",
        "0",
        "1e300",
        "1e999",
        "9" * 400,
        "<a/>",
        "&#x1b;",
        "&amp;",
        "\x00",
        "&x;",
    ):
        tree.xml("a").write_text(f"{before}<{tag}>{value}</{tag}>{after}")
        try_reading(tmp_path, lambda: VOCDataset(root, skip_bad=skip_bad))


def test_an_xml_of_entities_takes_no_memory(tmp_path):
    tree = Tree(tmp_path).add()
    entities = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 12))
    tree.xml("a").write_text(f'<!DOCTYPE x [<!ENTITY e0 "x">{entities}]><annotation>&e11;</annotation>')
    assert try_reading(tmp_path, lambda: VOCDataset(tree.split())) == "refused"


# --- bytes ---


def damaged(whole, rng):
    """Yield nothing, parts of a file, and files of which some bytes are others."""
    yield b""
    yield b"\x00" * 100
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        yield whole[: int(len(whole) * share)]
    for _ in range(25):
        part = bytearray(whole)
        for place in rng.integers(0, min(len(part), 600), int(rng.integers(1, 12))):
            part[place] = rng.integers(0, 256)
        yield bytes(part)


def test_damaged_files_of_a_coco_data_set(tmp_path):
    tree = good(tmp_path / "coco")
    root, rng = tree.save(), np.random.default_rng(1)
    for path in (tree.json, next(tree.images.iterdir())):
        whole = path.read_bytes()
        for content in damaged(whole, rng):
            path.write_bytes(content)
            try_reading(root, lambda: COCODataset(root))
        path.write_bytes(whole)


def test_damaged_files_of_a_voc_data_set(tmp_path):
    tree = Tree(tmp_path).add()
    root, rng = tree.split(), np.random.default_rng(2)
    (tree.voc / "classes.txt").write_text("cat\ndog\n")
    lists = tree.voc / "ImageSets" / "Segmentation" / "train.txt"
    for path in (tree.jpeg("a"), tree.xml("a"), tree.mask("a"), lists, tree.voc / "classes.txt"):
        whole = path.read_bytes()
        for content in damaged(whole, rng):
            path.write_bytes(content)
            try_reading(root, lambda: VOCDataset(root))
        path.write_bytes(whole)


@pytest.mark.parametrize("kind", ["jpg", "png", "gif", "bmp", "tif", "webp", "ppm", "npy"])
def test_damaged_images_and_masks(tmp_path, kind):
    rng = np.random.default_rng(3)
    path = tmp_path / f"a.{kind}"
    pixels = rng.integers(0, 4, (20, 30), dtype=np.uint8)
    if kind == "npy":
        np.save(path, pixels.astype(np.int32))
    else:
        Image.fromarray(pixels).save(path)
    for content in damaged(path.read_bytes(), rng):
        path.write_bytes(content)
        readers = [lambda: read_labels(path, image_id="a")]
        for reader in readers if kind == "npy" else [*readers, lambda: read_image(path)]:
            try:
                reader()
            except DataError as error:
                assert str(path) in str(error)


@pytest.mark.parametrize("name", ["JPEGImages/a.jpg", "Annotations/a.xml", "SegmentationObject/a.png", "classes.txt"])
def test_folders_in_the_place_of_files(tmp_path, name):
    tree = Tree(tmp_path).add()
    root = tree.split()
    (tree.voc / name).unlink(missing_ok=True)
    (tree.voc / name).mkdir()
    assert try_reading(root, lambda: VOCDataset(root)) == "refused"
