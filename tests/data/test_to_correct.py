"""Detections as labelme's files and as label images: read again, they are what was found."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrcnn_np.data import open_dataset, recognise
from mrcnn_np.data.given import GivenFile, find_given
from mrcnn_np.data.to_correct import MARK, LabelImageFolder, LabelmeFolder, labelme_document, numbered, uncorrected
from mrcnn_np.detections import Detections
from mrcnn_np.errors import DataError, UserError

CLASSES = ("background", "square", "kite", "ring")
SHAPE = (40, 50)


def found_of(masks, class_ids=None):
    masks = np.array(masks, bool).reshape(len(masks), *(masks[0].shape if len(masks) else SHAPE))
    boxes = np.zeros((len(masks), 4), np.float32)
    ids = np.array(class_ids if class_ids is not None else [1] * len(masks), np.int64)
    return Detections(boxes, ids, np.linspace(0.9, 0.6, len(masks)), masks)


def scene():
    """Two parts, a ring, and one of no pixel."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    apart = np.hypot(y - 20, x - 34)
    parts = ((y < 6) & (x < 9)) | ((y > 30) & (x > 3) & (x < 12))
    return found_of([parts, (apart < 13) & (apart > 5), np.zeros(SHAPE, bool)], [1, 3, 2])


@pytest.fixture
def photo(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    return tmp_path / "photo.png", image


def test_specks_are_no_polygons(photo, tmp_path):
    mask = np.zeros(SHAPE, bool)
    mask[5:35, 5:35] = True
    mask[0:2, 0:2] = mask[0, 10] = mask[39, 49] = True
    document = labelme_document(found_of([mask]), CLASSES, "photo.png")
    assert len(document["shapes"]) == 1 and document["shapes"][0]["group_id"] is None
    np.testing.assert_array_equal(np.ptp(document["shapes"][0]["points"], axis=0), [30, 30])


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_labelme_there_and_back(photo, tmp_path):
    path, image = photo
    found, folder = scene(), LabelmeFolder(tmp_path / "out", CLASSES)
    folder.add("photo", GivenFile(path), None, image, found)
    folder.add("clip_frame00003", GivenFile(Path("clip.gif")), 3, image, found[:0])
    assert (
        folder.hidden_in == {"photo": 1}
        and folder.hidden == 1
        and (tmp_path / "out" / "photo.png").read_bytes() == path.read_bytes()
    )
    document = json.loads((tmp_path / "out" / "photo.json").read_text())
    assert [s["group_id"] for s in document["shapes"]] == [1, 1, None]
    assert document["shapes"][0]["description"] == "score 0.900"
    assert recognise(tmp_path / "out").kind == "labelme"
    dataset = open_dataset("labelme", tmp_path / "out", "train")
    assert dataset.class_names == CLASSES and dataset.ids == ("clip_frame00003", "photo")
    empty, sample = dataset.load(0), dataset.load(1)
    assert len(empty.gt_boxes) == 0
    for read in (empty, sample):
        np.testing.assert_array_equal(read.image, image)
    assert sample.gt_class_ids.tolist() == [1, 3]
    for read, mask in zip(np.asarray(sample.gt_masks), found.masks):
        assert iou(read, mask) >= 0.98


@pytest.mark.parametrize("name", ["photo", "a_mask", "b_img", "c_cp", "masks", "images", "d.x", "e_instances", "train"])
def test_label_images_there_and_back(photo, tmp_path, name):
    path, image = photo
    found, folder = scene(), LabelImageFolder(tmp_path / "out", CLASSES[:2])
    folder.add(name, GivenFile(path), None, image, found)
    folder.add("other", GivenFile(path), None, image, found[:0])
    assert folder.hidden == 1
    assert recognise(tmp_path / "out").kind == "labels"
    dataset = open_dataset("labels", tmp_path / "out", "train")
    assert set(dataset.ids) == {name, "other"} and dataset.class_names == CLASSES[:2]
    sample = dataset.load(dataset.ids.index(name))
    np.testing.assert_array_equal(np.asarray(sample.gt_masks), found.masks[:2])
    np.testing.assert_array_equal(sample.image, image)


@pytest.mark.parametrize("count", [254, 255, 256, 300])
def test_numbers_that_mean_unlabelled_are_not_objects(photo, tmp_path, count):
    path, _ = photo
    masks = np.zeros((count, *SHAPE), bool)
    masks[np.arange(count), np.arange(count) // 50, np.arange(count) % 50] = True
    found, folder = found_of(masks), LabelImageFolder(tmp_path / "out", CLASSES)
    folder.add("a", GivenFile(path), None, np.zeros((*SHAPE, 3), np.uint8), found)
    sample = open_dataset("labels", tmp_path / "out", "train").load(0)
    assert len(sample.gt_boxes) == count and not sample.void.any()


def test_the_better_is_on_top_and_what_lies_beneath_is_counted(photo, tmp_path):
    mask = np.zeros(SHAPE, bool)
    mask[:5, :5] = True
    found = found_of([mask, mask])
    assert set(np.unique(numbered(found))) == {0, 1}
    folder = LabelImageFolder(tmp_path / "out", CLASSES)
    folder.add("a", GivenFile(photo[0]), None, photo[1], found)
    assert folder.hidden == 1
    with pytest.raises(DataError, match="as many as 16 bits number"):
        numbered(Detections(np.zeros((65535, 4)), np.ones(65535, int), np.ones(65535), np.zeros((65535, 1, 1), bool)))


def test_a_photograph_on_its_side(tmp_path):
    """It is copied as it is, with its tag, and read upright as it was when objects were found in it."""
    upright = np.zeros((30, 20, 3), np.uint8)
    upright[3:9, 2:12] = 255
    picture, exif = Image.fromarray(np.rot90(upright)), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "side.jpg", exif=exif, quality=95)
    file = find_given([str(tmp_path / "side.jpg")]).files[0]
    ((_, image),) = file.pictures()
    assert image.shape == (30, 20, 3)
    mask = np.zeros((30, 20), bool)
    mask[3:9, 2:12] = True
    for kind, folder in (("labelme", LabelmeFolder), ("labels", LabelImageFolder)):
        folder(tmp_path / kind, CLASSES[:2]).add("side", file, None, image, found_of([mask]))
        with pytest.warns(UserWarning, match="EXIF"):
            sample = open_dataset(kind, tmp_path / kind, "train").load(0)
        np.testing.assert_array_equal(sample.image, image)
        np.testing.assert_array_equal(np.asarray(sample.gt_masks)[0], mask)


def test_from_a_zip_and_under_a_name_that_is_no_text(photo, tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.write(photo[0], "in/a.png")
    (given,) = find_given([str(tmp_path / "z.zip")]).files
    LabelmeFolder(tmp_path / "out", CLASSES).add("\udcff", given, None, photo[1], scene())
    assert open_dataset("labelme", tmp_path / "out", "train").load(0).gt_class_ids.tolist() == [1, 3]


def as_labelme_saves(path, **changes):
    """labelme writes the fields it knows anew, with the picture inside, and after them those that it does not."""
    document = json.loads(path.read_text())
    known = ("version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth")
    shapes = [{k: v for k, v in shape.items() if k != "mask"} | changes for shape in document["shapes"]]
    saved = {k: document[k] for k in known} | {"version": "4.6.0", "shapes": shapes, "imageData": "aGE="}
    path.write_text(json.dumps(saved | {k: v for k, v in document.items() if k not in known}))


def test_copies_that_nobody_corrected_are_known_without_the_record(photo, tmp_path):
    """They lie beside older files, where the hidden record did not come along."""
    folder, where = LabelmeFolder(tmp_path / "out", CLASSES), tmp_path / "mine" / "train"
    for name in ("a", "b", "c"):
        folder.add(name, GivenFile(photo[0]), None, photo[1], scene())
    shutil.copytree(tmp_path / "out", where, ignore=shutil.ignore_patterns(".*"))
    older = labelme_document(scene(), CLASSES, "a.png")
    del older[MARK]
    (where / "older.json").write_text(json.dumps(older))
    (where / "broken.json").write_text(f'{{"{MARK}": ')
    (where / "odd.json").write_text(json.dumps({MARK: 3, "shapes": 3}))
    assert uncorrected(tmp_path / "mine", labelme=True) == (3, 4) and uncorrected(tmp_path / "mine") == (0, 0)
    (where / "odd.json").unlink()
    as_labelme_saves(where / "a.json")
    as_labelme_saves(where / "b.json", label="kite")
    as_labelme_saves(where / "c.json", points=[[0, 0], [9, 0], [9, 9]])
    assert uncorrected(tmp_path / "mine", labelme=True) == (1, 3)
    assert uncorrected(where / "a.json", labelme=True) == (1, 1)
    assert uncorrected(where / "b.json", labelme=True) == (0, 1)
    assert uncorrected(tmp_path / "out", labelme=True) == uncorrected(tmp_path / "out") == (3, 3)


@pytest.mark.parametrize("kind", [LabelmeFolder, LabelImageFolder])
def test_what_was_corrected_is_not_overwritten(photo, tmp_path, kind):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds a\.json, of which there is no record .* that is new or empty"):
        kind(tmp_path / "mine", CLASSES)
    with pytest.raises(UserError, match=r"photo\.png is no folder; expected"):
        kind(photo[0], CLASSES)
    where, args = tmp_path / "out", (GivenFile(photo[0]), None, photo[1])
    kind(where, CLASSES[:2]).add("a", *args, found_of([np.ones(SHAPE, bool)]))
    again = kind(where, CLASSES[:2])
    assert set(again.earlier) == {"a" if kind is LabelmeFolder else "a_image"}
    assert uncorrected(where) == (1, 1) and uncorrected(tmp_path / "mine") == uncorrected(tmp_path / "none") == (0, 0)
    again.add("a", *args, found_of([]))  # other numbers for the same picture
    assert not again.earlier
    again = kind(where, CLASSES[:2])
    again.add("b", *args, found_of([]))
    assert len(again.earlier) == 1
    Image.fromarray(255 - photo[1]).save(tmp_path / "other.png")
    Image.fromarray(photo[1]).save(tmp_path / "other.bmp")
    for name in ("other.png", "other.bmp"):
        with pytest.raises(
            UserError, match=rf"is a copy of another picture than .*{name}; expected the name of a folder"
        ):
            kind(where, CLASSES[:2]).add("a", GivenFile(tmp_path / name), *args[1:], found_of([]))
    for classes in (CLASSES, ("background", "other")):
        with pytest.raises(UserError, match="a network of other classes wrote it"):
            kind(where, classes)
    with pytest.raises(UserError, match="it is not of this option's format"):
        (LabelImageFolder if kind is LabelmeFolder else LabelmeFolder)(where, CLASSES[:2])
    (where / "classes.txt").write_text("square\nmore\n")
    with pytest.raises(UserError, match=r"classes\.txt in it was changed since detect wrote it; expected"):
        kind(where, CLASSES[:2])
