"""What other tools write in VOC layout."""

import shutil
import time

import numpy as np
import pytest
from PIL import Image
from voc_tree import Tree, save_palette, xml_text

from mrcnn_np.data import VOCDataset, check_dataset, describe
from mrcnn_np.data.voc_labels import colour_map, read_labels
from mrcnn_np.data.voc_layout import read_classes
from mrcnn_np.errors import DataError, DataWarning


def labelled(count=3, shape=(30, 40)):
    """Objects as columns of 5 x 4 pixels, numbered from 1, with gaps between them; the last is the largest."""
    labels = np.zeros(shape, np.int32)
    places = [(y, x) for y in range(2, shape[0] - 8, 7) for x in range(2, shape[1] - 6, 6)][:count]
    for number, (y, x) in enumerate(places, start=1):
        labels[y : y + 5 + (number == count), x : x + 4] = number
    return labels


class Folder:
    """A folder as labelme's or CVAT's converters leave it: images, object and class images, a list of classes."""

    def __init__(self, root):
        self.root = root / "own"
        (self.root / "JPEGImages").mkdir(parents=True)

    def image(self, name, shape=(30, 40)):
        Image.fromarray(np.full((*shape, 3), 77, np.uint8)).save(self.root / "JPEGImages" / name)
        return self

    def labels(self, path, labels):
        path = self.root / path
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, labels)
        elif labels.ndim == 3 or labels.max() > 255:
            Image.fromarray(labels.astype(np.uint8 if labels.ndim == 3 else np.uint16)).save(path)
        else:
            save_palette(np.where(labels < 0, 255, labels), path)
        return self

    def text(self, name, text):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)
        return self


def assert_three_objects(sample, names):
    assert [names[k] for k in sample.gt_class_ids] == ["nut", "bolt", "nut"]
    np.testing.assert_array_equal(sample.gt_masks, [labelled() == n for n in (1, 2, 3)])
    np.testing.assert_array_equal(sample.gt_boxes, [[2, 2, 7, 6], [2, 8, 7, 12], [2, 14, 8, 18]])
    assert sample.gt_boxes.dtype == np.float32


CLASSES = np.array([0, 2, 1, 2])


@pytest.mark.parametrize(
    "places",
    [
        ("SegmentationObjectPNG/a.png", "SegmentationClassPNG/a.png"),
        ("SegmentationObject/a.npy", "SegmentationClass/a.npy"),
        ("SegmentationObject/a.png", "SegmentationClass/a.png"),
        ("SegmentationObjectNpy/a.npy", "SegmentationClassNpy/a.npy"),
    ],
)
def test_labelme(tmp_path, places):
    folder = Folder(tmp_path).image("a.jpg").text("class_names.txt", "_background_\nbolt\nnut\n")
    folder.labels(places[0], labelled()).labels(places[1], CLASSES[labelled()])
    dataset = VOCDataset(folder.root)
    assert dataset.class_names == ("background", "bolt", "nut") and dataset.ids == ("a",)
    assert_three_objects(dataset.load(0), dataset.class_names)
    assert check_dataset(dataset).ok
    with pytest.raises(DataError, match=r"has no ImageSets, .* expected a list of split 'val'"):
        VOCDataset(folder.root, "val")


def test_pixels_to_be_ignored(tmp_path):
    """labelme writes -1 into arrays and 255 into PNG files."""
    labels = labelled()
    labels[20:, 30:] = -1
    names = "__ignore__\n_background_\nbolt\nnut\n"
    for place in ("SegmentationObject/a.npy", "SegmentationObject/a.png"):
        folder = Folder(tmp_path / place[-3:]).image("a.jpg").text("class_names.txt", names)
        folder.labels(place, labels).labels("SegmentationClass/a.png", np.append(CLASSES, 255)[labels])
        dataset = VOCDataset(folder.root)
        sample = dataset.load(0)
        assert_three_objects(sample, dataset.class_names)
        np.testing.assert_array_equal(sample.void, labels == -1)


LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbolt:250,50,83::\nnut:51,221,255::\n"
COLOURS = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]])
OWN_COLOURS = np.array([[0, 0, 0], [1, 2, 3], [1, 3, 3], [2, 0, 0]])


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("objects", [colour_map(4), OWN_COLOURS], ids=["VOC's palette", "own colours"])
def test_cvat(tmp_path, palette, objects):
    folder = Folder(tmp_path).image("a.png").text("labelmap.txt", LABELMAP)
    folder.text("ImageSets/Segmentation/default.txt", "a\n")
    folder.labels("SegmentationObject/a.png", objects[labelled()])
    pixels = COLOURS[CLASSES[labelled()]]
    folder.labels("SegmentationClass/a.png", pixels)
    if palette:
        Image.fromarray(pixels.astype(np.uint8)).quantize(8).save(folder.root / "SegmentationClass" / "a.png")
    for split in ("train", "default"):
        dataset = VOCDataset(folder.root, split)
        assert_three_objects(dataset.load(0), dataset.class_names)
    with pytest.raises(DataError, match="found: default"):
        VOCDataset(folder.root, "val")


def test_a_colour_that_is_not_in_the_list(tmp_path):
    folder = Folder(tmp_path).image("a.png").text("labelmap.txt", LABELMAP)
    folder.labels("SegmentationObject/a.png", labelled())
    folder.labels("SegmentationClass/a.png", (COLOURS - [0, 1, 1]).clip(0)[CLASSES[labelled()]])
    with pytest.raises(DataError, match=r"a\.png: has the colour 51,220,254; expected those that labelmap\.txt lists"):
        VOCDataset(folder.root).load(0)
    for line in ("bolt:1,2", "bolt:1,2,x", "bolt:1,2,256"):
        folder.text("labelmap.txt", f"background:0,0,0::\n{line}::\n")
        with pytest.raises(DataError, match=rf"has the line '{line}::'; expected name:red,green,blue"):
            VOCDataset(folder.root)


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg", ".PNG", ".bmp", ".tif", ".webp", ".gif", ".ppm"])
def test_every_suffix(tmp_path, suffix):
    tree = Tree(tmp_path).add()
    path = tree.jpeg("a")
    Image.open(path).save(path.with_suffix(suffix))
    path.unlink()
    sample = VOCDataset(tree.split()).load(0)
    assert sample.image.shape == (30, 40, 3) and sample.path.endswith(f"a{suffix}")
    assert VOCDataset(tree.split(ids=[f"a{suffix}"])).load(0).gt_masks.shape == (2, 30, 40)


def test_the_usual_suffix_comes_first_and_names_may_hold_points(tmp_path):
    tree = Tree(tmp_path).add("a.b.1")
    Image.new("RGB", (9, 9)).save(tree.voc / "JPEGImages" / "a.b.1.png")
    assert VOCDataset(tree.split()).load(0).image.shape == (30, 40, 3)


@pytest.mark.parametrize("kind", ["png", "npy"])
@pytest.mark.parametrize("void", [False, True])
def test_more_objects_than_eight_bits_hold(tmp_path, kind, void):
    shape = (200, 200)
    labels = labelled(300, shape)
    folder = Folder(tmp_path).image("a.png", shape).text("classes.txt", "cell\n")
    stored = labels.copy()
    if void:
        stored[195:] = -1 if kind == "npy" else 65535
    folder.labels(f"SegmentationObject/a.{kind}", stored)
    folder.labels("SegmentationClass/a.png", (labels > 0).astype(np.uint8))
    sample = VOCDataset(folder.root).load(0)
    assert sample.gt_masks.shape == (300, *shape) and sample.gt_class_ids.tolist() == [1] * 300
    np.testing.assert_array_equal(sample.gt_masks[254], labels == 255)
    assert sample.void.sum() == (1000 if void else 0)


def test_objects_with_an_xml_file_may_be_as_many(tmp_path):
    labels = labelled(300, (200, 200))
    tree = Tree(tmp_path).add(objects=[], height=200, width=200)
    objects = []
    for number in range(1, 301):
        rows, columns = np.nonzero(labels == number)
        objects.append(("cat", columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1))
    tree.xml("a").write_text(xml_text(objects, size=(200, 200)))
    Image.fromarray(labels.astype(np.uint16)).save(tree.mask("a"))
    sample = VOCDataset(tree.split()).load(0)
    assert len(sample.gt_masks) == 300
    np.testing.assert_array_equal(sample.gt_boxes, sample.gt_masks.boxes)


def test_in_sixteen_bits_255_is_void_unless_it_is_the_next_number(tmp_path):
    labels = np.zeros((4, 300), np.uint16)
    labels[0, :3] = 1, 2, 255
    Image.fromarray(labels).save(tmp_path / "a.png")
    found, void = read_labels(tmp_path / "a.png", image_id="a")
    assert found.max() == 2 and void.sum() == 1
    labels[1, :256] = np.arange(256)
    Image.fromarray(labels).save(tmp_path / "a.png")
    found, void = read_labels(tmp_path / "a.png", image_id="a")
    assert found.max() == 255 and not void.any()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x10\x00" + b"[" * 16, b"PK\x03\x04", b"hello"],
    ids=["empty", "cut", "brackets", "zip", "text"],
)
def test_arrays_that_are_none(tmp_path, content):
    folder = Folder(tmp_path).image("a.png").text("classes.txt", "cell\n")
    folder.labels("SegmentationObject/a.npy", labelled()).labels("SegmentationClass/a.npy", labelled())
    path = folder.root / "SegmentationObject" / "a.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npy: cannot be read .*; expected an array"):
        VOCDataset(folder.root).load(0)
    for array in (np.array([[{}]], object), np.zeros((2, 2)), np.zeros(3, int), np.zeros((0, 4), int)):
        np.save(path, array)
        with pytest.raises(DataError, match="expected an array"):
            VOCDataset(folder.root).load(0)
    np.save(path, np.full((30, 40), -2))
    with pytest.raises(DataError, match=r"has the numbers -2 \.\. -2"):
        VOCDataset(folder.root).load(0)


def test_objects_whose_class_is_unknown(tmp_path):
    folder = Folder(tmp_path).image("a.png").text("classes.txt", "cell\n")
    folder.labels("SegmentationObject/a.png", labelled()).labels("SegmentationClass/a.png", CLASSES[labelled()])
    with pytest.raises(DataError, match=r"a\.png: object 1 of image a is class 2 here; expected 1 \.\. 1"):
        VOCDataset(folder.root).load(0)
    dataset = VOCDataset(folder.root, skip_bad=True)
    with pytest.warns(DataWarning, match="an object is left out"):
        assert len(dataset.load(0).gt_masks) == 1
    assert dataset.notes.lines()[0].startswith("2 x an object is left out")


def test_skip_bad_leaves_out_objects(tmp_path):
    tree = Tree(tmp_path).add()
    for objects, kept in (
        ([("cat", 11, 5, 30, 14), ("kat", 1, 21, 5, 30)], [8]),
        ([("cat", 11, 5, 99, 14), ("dog", 1, 21, 5, 30)], [12]),
        ([("cat", 11, 5, "?", 14), ("dog", 1, 21, 5, 30)], [12]),
        ([("cat", 11, 5, 30, 14)], [8]),
        ([("cat", 11, 5, 30, 14), ("dog", 1, 21, 5, 30), ("cow", 1, 1, 2, 2)], [8, 12]),
    ):
        tree.xml("a").write_text(xml_text(objects))
        with pytest.raises(DataError):
            VOCDataset(tree.split()).load(0)
        dataset = VOCDataset(tree.split(), skip_bad=True)
        with pytest.warns(DataWarning, match="an object is left out"):
            sample = dataset.load(0)
        assert sample.gt_class_ids.tolist() == kept and len(sample.gt_masks) == len(sample.gt_boxes) == len(kept)
        assert dataset.notes.count("an object is left out") == 1


# --- from where boxes are counted ---


@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 1), (1, 1)], ids=["from 0", "from 0, end excluded", "from 1"])
@pytest.mark.parametrize("margin", [0, 1])
def test_boxes_counted_from_zero(tmp_path, first, last, margin):
    """``first`` and ``last`` are added to the first and last pixel of a box, as the masks show them, counted from 0."""
    tree = Tree(tmp_path)
    rng = np.random.default_rng(0)
    truth = []
    for name in "abcd":
        indices, boxes = np.zeros((30, 40), np.uint8), []
        for number, x in enumerate((2, 15, 27), start=1):
            y, h, w = (int(v) for v in rng.integers((2, 3, 3), (15, 12, 11)))
            indices[y : y + h, x : x + w] = number
            boxes.append([y - margin, x - margin, y + h + margin, x + w + margin])
        truth.append(boxes)
        objects = [("cat", x1 + first, y1 + first, x2 - 1 + last, y2 - 1 + last) for y1, x1, y2, x2 in boxes]
        tree.add(name, objects=objects, indices=indices)
    dataset = VOCDataset(tree.split())
    if first:
        for index, boxes in enumerate(truth):
            np.testing.assert_array_equal(dataset.load(index).gt_boxes, boxes)
        assert not dataset.notes
        return
    with pytest.warns(DataWarning, match=r"Annotations: the boxes fit their masks only if they are counted from 0"):
        dataset.load(0)
    for index, boxes in enumerate(truth):
        np.testing.assert_array_equal(dataset.load(index).gt_boxes, boxes)


# --- classes ---


def test_long_lists_of_classes_take_no_time(tmp_path):
    (tmp_path / "classes.txt").write_text("".join(f"class {i}\n" for i in range(100_000)))
    began = time.process_time()
    names, _ = read_classes(tmp_path)
    assert len(names) == 100_001 and time.process_time() - began < 2


# --- no lists ---


@pytest.mark.parametrize("folders", [(), ("ImageSets",), ("ImageSets/Segmentation",), ("ImageSets/Main",)])
def test_no_list_at_all(tmp_path, folders):
    """An empty folder of lists is as none; images without object numbers are counted, not forgotten in silence."""
    tree = Tree(tmp_path).add("a").add("b").add("c").add("d")
    shutil.rmtree(tree.voc / "ImageSets")
    for folder in folders:
        (tree.voc / folder).mkdir(parents=True)
    assert VOCDataset(tree.root).ids == ("a", "b", "c", "d") and not VOCDataset(tree.root).notes.lines()
    for name in "bd":
        tree.mask(name).unlink()
    with pytest.warns(DataWarning, match=r"b\.jpg: an image without SegmentationObject is left out"):
        dataset = VOCDataset(tree.root)
    assert dataset.ids == ("a", "c") and "2 x an image without SegmentationObject" in describe(check_dataset(dataset))
    with pytest.raises(DataError, match=r"has no .*ImageSets, so that all images are in split 'train'"):
        VOCDataset(tree.root, "val")
