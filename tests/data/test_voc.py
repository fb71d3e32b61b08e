import os

import numpy as np
import pytest
from voc_tree import VOC_COLOURS, Tree, save_palette, xml_text

from mrcnn_np.data import open_dataset
from mrcnn_np.data.augment import tight_box
from mrcnn_np.data.masks import Masks
from mrcnn_np.data.orientation import upright, upright_boxes, upright_masks
from mrcnn_np.data.voc import VOC_CLASSES, VOCDataset, colour_map
from mrcnn_np.errors import DataError, DataWarning


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def fails(tree, match, image_id="a"):
    """Loading the first image fails with this message, the image's id and one of its files."""
    dataset = VOCDataset(tree.split())
    with pytest.raises(DataError, match=match) as caught:
        dataset.load(0)
    assert caught.value.image_id == image_id
    assert str(tree.voc) in str(caught.value) and f"{image_id}." in str(caught.value)
    return str(caught.value)


def test_classes_and_colours():
    assert len(VOC_CLASSES) == 21 and VOC_CLASSES[0] == "background"
    assert list(VOC_CLASSES[1:]) == sorted(VOC_CLASSES[1:])
    assert (VOC_CLASSES[1], VOC_CLASSES[15], VOC_CLASSES[20]) == ("aeroplane", "person", "tvmonitor")
    np.testing.assert_array_equal(colour_map(21), VOC_COLOURS)
    full = colour_map()
    assert full.shape == (256, 3) and full.dtype == np.uint8
    assert tuple(full[255]) == (224, 224, 192)
    assert len({tuple(c) for c in full}) == 256


def test_load_by_hand(tree):
    dataset = VOCDataset(tree.add().split())
    assert len(dataset) == 1 and dataset.ids == ("a",) and dataset.class_names == VOC_CLASSES
    sample = dataset.load(0)
    assert sample.image_id == "a" and sample.image.shape == (30, 40, 3) and sample.path == str(tree.jpeg("a"))
    # Half-open: XML columns 11..30 and rows 5..14, counted from 1, are [10, 30) and [4, 14).
    np.testing.assert_array_equal(sample.gt_boxes, [[4, 10, 14, 30], [20, 0, 30, 5]])
    assert sample.gt_boxes.dtype == np.float32
    np.testing.assert_array_equal(sample.gt_class_ids, [8, 12])
    assert sample.gt_class_ids.dtype == np.int64
    assert sample.gt_masks.shape == (2, 30, 40) and sample.gt_masks.dtype == bool
    assert sample.gt_masks.sum(axis=(1, 2)).tolist() == [200, 50]
    assert sample.void.sum() == 20 and sample.void[3, 10:30].all()
    assert not sample.gt_crowd.any() and not sample.gt_difficult.any()


def test_flags_parts_and_fractional_coordinates(tree):
    part = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>1</ymin><xmax>3</xmax><ymax>2</ymax></bndbox></part>"
    objects = [
        ("person", 11.5, 5.25, 29.75, 14, "<truncated>1</truncated><difficult>0</difficult>", part),
        ("dog", 1, 21, 5, 30, "<difficult>1</difficult>"),
    ]
    tree.add()
    tree.xml("a").write_text(xml_text(objects))
    dataset = VOCDataset(tree.split())
    sample = dataset.load(0)
    np.testing.assert_array_equal(sample.gt_boxes[0], [4.25, 10.5, 14, 29.75])
    assert sample.gt_difficult.tolist() == [False, True]
    first, second = dataset.info(0)
    assert (first.name, first.truncated, first.difficult) == ("person", True, False)
    assert (second.truncated, second.difficult) == (False, True)


def test_image_without_instance_is_background(tree):
    sample = VOCDataset(tree.add(objects=[]).split()).load(0)
    assert sample.gt_boxes.shape == (0, 4) and sample.gt_masks.shape == (0, 30, 40)
    assert sample.gt_class_ids.shape == (0,) and sample.gt_class_ids.dtype == np.int64
    assert sample.gt_difficult.dtype == bool and not sample.void.any()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (50, 5000), (5000, 50)])
def test_extreme_sizes(tree, height, width):
    sample = VOCDataset(tree.add(objects=[], height=height, width=width).split()).load(0)
    assert sample.image.shape == (height, width, 3)


def test_a_split_may_begin_with_a_byte_order_mark(tree):
    root = tree.add().split()
    (tree.voc / "ImageSets" / "Segmentation" / "train.txt").write_bytes(b"\xef\xbb\xbfa\r\n")
    assert VOCDataset(root).ids == ("a",)


def test_xml_of_an_unknown_encoding(tree):
    dataset = VOCDataset(tree.add().split())
    tree.xml("a").write_text('<?xml version="1.0" encoding="klingon"?><annotation/>')
    with pytest.raises(DataError, match=r"a\.xml: is not well-formed XML \(unknown encoding: klingon\)"):
        dataset.load(0)


def test_one_pixel_instance(tree):
    indices = np.zeros((30, 40), np.uint8)
    indices[7, 9] = 1
    sample = VOCDataset(tree.add(objects=[("cat", 10, 8, 10, 8)], indices=indices).split()).load(0)
    np.testing.assert_array_equal(sample.gt_boxes, [[7, 9, 8, 10]])


# --- choosing images ---


def test_root_may_be_the_year_folder(tree):
    tree.add().split()
    assert VOCDataset(tree.voc).load(0).image_id == "a"


def test_subset_and_ids(tree):
    for name in "abcd":
        tree.add(name)
    root = tree.split()
    assert VOCDataset(root, subset=2).ids == ("a", "b")
    assert VOCDataset(root, subset=9).ids == ("a", "b", "c", "d")
    dataset = VOCDataset(root, ids=["d", "b"])
    assert dataset.ids == ("d", "b") and dataset.load(1).image_id == "b"
    assert VOCDataset(root, ids=["d", "b"], subset=1).ids == ("d",)
    for options, message in [
        ({"ids": ["a", "x"]}, "image 'x' is not in split 'train'"),
        ({"ids": ["a", "b", "a"]}, "image a is listed twice"),
        ({"ids": []}, "list of image ids is empty"),
        ({"subset": 0}, "subset is 0; expected at least 1"),
    ]:
        with pytest.raises(DataError, match=message):
            VOCDataset(root, **options)


def test_bad_splits(tree):
    root = tree.add().split("train")
    with pytest.raises(DataError, match=r"nope\.txt.*found: train"):
        VOCDataset(root, "nope")
    tree.split("val", ids=[])
    with pytest.raises(DataError, match=r"val\.txt: split 'val' is empty"):
        VOCDataset(root, "val")
    tree.split("val", ids=["a", "b", "a"])
    with pytest.raises(DataError, match=r"val\.txt: names image a twice"):
        VOCDataset(root, "val")


def test_bad_roots(tmp_path):
    with pytest.raises(DataError, match="does not exist; expected the VOCdevkit folder"):
        VOCDataset(tmp_path / "none")
    (tmp_path / "VOC2007").mkdir()
    with pytest.raises(DataError, match="contains VOC2007; expected VOC2012/JPEGImages"):
        VOCDataset(tmp_path)


def test_open_dataset_says_how_to_get_the_data(tmp_path, tree, monkeypatch):
    monkeypatch.delenv("VOC_ROOT", raising=False)
    for root in (None, tmp_path / "none"):
        with pytest.raises(DataError, match="set VOC_ROOT to the VOCdevkit folder, or run `mrcnn-np data voc"):
            open_dataset("voc", root)
    with pytest.raises(DataError, match="run `mrcnn-np data shapes`"):
        open_dataset("shapes", tmp_path / "none")
    with pytest.raises(DataError, match="unknown data set 'imagenet'; expected shapes, voc, coco"):
        open_dataset("imagenet", tmp_path)
    monkeypatch.setenv("VOC_ROOT", str(tree.add().split()))
    assert len(open_dataset("voc", None)) == len(open_dataset("voc")) == 1


# --- bad input ---


def test_missing_files(tree):
    tree.add()
    moved = tree.root / "moved"
    for path in (tree.jpeg("a"), tree.xml("a"), tree.mask("a")):
        path.rename(moved)
        assert str(path) in fails(tree, "does not exist; expected")
        moved.rename(path)


def test_truncated_files(tree):
    tree.add()
    for path, message in [
        (tree.jpeg("a"), "cannot be decoded"),
        (tree.mask("a"), "cannot be"),
        (tree.xml("a"), "well-formed"),
    ]:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert str(path) in fails(tree, message)
        path.write_bytes(whole)


def test_mask_of_another_size(tree):
    tree.add()
    save_palette(np.zeros((30, 41)), tree.mask("a"))
    message = fails(tree, r"is 41 x 30 pixels; expected 40 x 30, the size of a\.jpg$")
    assert "SegmentationObject" in message and "EXIF" not in message


def test_exif_rotation_against_an_unrotated_mask(tree):
    """A mask of the size of the stored pixels was drawn on these, and is turned with them."""
    tree.add("a").add("b", exif=6)
    dataset = VOCDataset(tree.split())
    plain = dataset.load(0)
    with pytest.warns(DataWarning, match=r"b\.jpg: boxes and masks fit the picture before its EXIF orientation"):
        turned = dataset.load(1)
    assert turned.image.shape == (40, 30, 3)
    # 6: what is stored as the first row is seen as the last column
    np.testing.assert_array_equal(turned.gt_masks, np.asarray(plain.gt_masks).swapaxes(1, 2)[:, :, ::-1])
    np.testing.assert_array_equal(turned.void, plain.void.T[:, ::-1])
    for plain_box, box in zip(plain.gt_boxes, turned.gt_boxes):
        y1, x1, y2, x2 = plain_box
        assert box.tolist() == [x1, 30 - y2, x2, 30 - y1]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_boxes_and_masks_are_turned_alike(orientation):
    rng = np.random.default_rng(orientation)
    masks = Masks.of_array(rng.random((4, 9, 14)) < 0.05)
    seen = upright_masks(masks, orientation)
    np.testing.assert_array_equal(seen, [upright(mask, orientation) for mask in masks])
    np.testing.assert_array_equal(upright_boxes(masks.boxes, orientation, (9, 14)), seen.boxes)


def test_a_turned_picture_whose_size_tells_nothing(tree):
    dataset = VOCDataset(tree.add(exif=3).split())
    with pytest.warns(DataWarning, match=r"a\.jpg: the EXIF orientation turns the picture; its size does not tell"):
        dataset.load(0)


def test_exif_rotation_with_a_rotated_mask_or_a_square_image(tree):
    indices = np.zeros((40, 30), np.uint8)
    indices[:4, :4] = 1
    tree.add("a", objects=[("cat", 1, 1, 4, 4)], exif=6)
    save_palette(indices, tree.mask("a"))
    tree.add("b", objects=[], height=16, width=16, exif=6)
    dataset = VOCDataset(tree.split())
    assert dataset.load(0).image.shape == (40, 30, 3)
    assert dataset.load(1).image.shape == (16, 16, 3)


def test_colour_mask(tree):
    from PIL import Image

    tree.add()
    Image.open(tree.mask("a")).convert("RGB").save(tree.mask("a"))
    """Written in colours instead of numbers, VOC's palette is known."""
    before = VOCDataset(tree.split()).load(0)
    np.testing.assert_array_equal(before.gt_masks.sum(axis=(1, 2)), [200, 50])
    assert before.void.sum() == 20
    Image.new("F", (40, 30)).save(tree.mask("a"), format="TIFF")
    fails(tree, "has mode F; expected a palette")


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([], r"a\.png: mask id 1 of image a has no object: a\.xml holds 0 object"),
        ([("cat", 11, 5, 30, 14)], "mask id 2 of image a has no object"),
        (
            [("cat", 11, 5, 30, 14), ("dog", 1, 21, 5, 30), ("cow", 1, 1, 2, 2)],
            "object 3 of image a has no pixel; a.xml holds 3",
        ),
        (
            [("cat", 11, 5, 30, 14), ("dog", 5, 21, 3, 30)],
            r"a\.xml: box 2 of image a has x2 <= x1 \(x1=5, x2=3\); expected x1 < x2",
        ),
        ([("cat", 11, 5, 30, 2), ("dog", 1, 21, 5, 30)], r"box 1 of image a has y2 <= y1 \(y1=5, y2=2\)"),
        ([("cat", 11, 5, 30, 14), ("dog", 3, 21, 3, 30)], r"box 2 of image a has x2 <= x1 \(x1=3, x2=3\)"),
        ([("cat", 11, 5, 41, 14), ("dog", 1, 21, 5, 30)], r"box 1 of image a is outside .*x within 1 \.\. 40"),
        ([("cat", 11, 5, 30, 31), ("dog", 1, 21, 5, 30)], r"box 1 of image a is outside .*y within 1 \.\. 30"),
        ([("cat", 11, 5, 30, 14), ("dog", 0, 21, 5, 30)], r"box 2 of image a is outside the image \(x 0 \.\. 5"),
        ([("cat", 11, 5, 30, 14), ("cow", 1, 21, "?", 30)], r"box 2 of image a has xmax '\?'; expected a number"),
        ([("cat", 11, 5, 30, "nan"), ("cow", 1, 21, 5, 30)], "box 1 of image a has ymax 'nan'; expected a number"),
        (
            [("kat", 11, 5, 30, 14), ("dog", 1, 21, 5, 30)],
            "object 1 of image a has the unknown class 'kat'; expected one of aeroplane, .*tvmonitor",
        ),
        ([("background", 11, 5, 30, 14), ("dog", 1, 21, 5, 30)], "unknown class 'background'"),
        ([(" ", 11, 5, 30, 14), ("dog", 1, 21, 5, 30)], "object 1 of image a has no <name>"),
        ([("dog", 1, 21, 5, 30), ("cat", 11, 5, 30, 14)], r"box 1 of image a \(y 21 \.\. 30\) does not meet its mask"),
        ([("cat", 11, 5, 30, 14, "<difficult>maybe</difficult>"), ("dog", 1, 21, 5, 30)], "difficult 'maybe'"),
    ],
)
def test_bad_annotations(tree, objects, message):
    tree.add()
    tree.xml("a").write_text(xml_text(objects))
    fails(tree, message)


def test_other_xml(tree):
    tree.add()
    tree.xml("a").write_text("<html/>")
    fails(tree, "root element <html>; expected <annotation>")
    tree.xml("a").write_text("<annotation><object><name>cat</name></object></annotation>")
    fails(tree, "box 1 of image a has xmin 'missing'; expected a number")


def test_class_masks_are_cross_checked_where_they_exist(tree):
    dataset = VOCDataset(tree.add().split())
    dataset.check_classes(0)  # no file, nothing to compare
    classes = np.zeros((30, 40), np.uint8)
    classes[4:14, 10:30], classes[20:30, 0:5] = 8, 12
    save_palette(classes, tree.mask("a", "Class"))
    dataset.check_classes(0)
    classes[20:30, 0:5] = 8
    save_palette(classes, tree.mask("a", "Class"))
    with pytest.raises(DataError, match=r"object 2 of image a is class 8 here; expected 12 \(dog\)"):
        dataset.check_classes(0)


# --- the real thing ---

needs_voc = pytest.mark.skipif("VOC_ROOT" not in os.environ, reason="VOC_ROOT is not set")


@needs_voc
def test_real_voc():
    """Every image of the splits loads; boxes and masks belong together. Of a large copy the first 34 images."""
    dataset = open_dataset("voc", None, "trainval", subset=34)
    overlaps = []
    for index in range(len(dataset)):
        sample = dataset.load(index)
        height, width = sample.image.shape[:2]
        assert sample.gt_masks.shape == (len(sample.gt_boxes), height, width) and len(sample.gt_boxes) > 0
        # The pixels between objects and background are void, so every image has some.
        assert 0 < sample.void.mean() < 0.3
        assert not (sample.void & sample.gt_masks.any(axis=0)).any()
        assert sample.gt_masks.sum(axis=0).max() == 1
        for box, mask in zip(sample.gt_boxes, sample.gt_masks):
            tight = tight_box(mask)
            common = np.minimum(box[2:], tight[2:]) - np.maximum(box[:2], tight[:2])
            both = common.prod()
            overlaps.append(both / ((box[2:] - box[:2]).prod() + (tight[2:] - tight[:2]).prod() - both))
    # Measured: median .885, lowest .33 (a bottle of a few pixels, most of them void).
    assert np.median(overlaps) > 0.85 and min(overlaps) > 0.3


@needs_voc
def test_real_voc_example():
    sample = open_dataset("voc", None, "trainval", ids=["2007_000032"]).load(0)
    assert sample.image.shape == (281, 500, 3)
    assert [VOC_CLASSES[c] for c in sample.gt_class_ids] == ["aeroplane", "aeroplane", "person", "person"]
    np.testing.assert_array_equal(sample.gt_boxes[0], [77, 103, 183, 375])


@needs_voc
def test_real_voc_classes_agree():
    dataset = open_dataset("voc", None, "trainval", subset=34)
    for index in range(len(dataset)):
        dataset.check_classes(index)


# --- classes of one's own


def test_a_file_names_other_classes(tree):
    tree.add(objects=[("mole", 11, 5, 30, 14), ("dog", 1, 21, 5, 30)], indices=tree_indices())
    with pytest.raises(DataError, match=r"unknown class 'mole'; .* lists its classes in .*VOC2012/classes\.txt"):
        VOCDataset(tree.split()).load(0)
    for text in ("dog\nmole\n", "\ufeffbackground\r\ndog\r\n\r\n mole "):
        (tree.voc / "classes.txt").write_text(text, encoding="utf-8")
        dataset = open_dataset("voc", tree.root, "train")
        assert dataset.class_names == ("background", "dog", "mole")
        assert dataset.load(0).gt_class_ids.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("background\n", "is empty"),
        ("a\nb\na\n", "names a twice"),
        ("a\nbackground", "names background"),
    ],
)
def test_a_list_of_classes_that_is_none(tree, text, message):
    (tree.voc / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=rf"classes\.txt: {message}.*; expected every class once"):
        VOCDataset(tree.add().split())


def tree_indices():
    indices = np.zeros((30, 40), np.uint8)
    indices[4:14, 10:30], indices[20:30, 0:5] = 1, 2
    return indices
