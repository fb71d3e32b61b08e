"""Label images: PennFudan's and Cityscapes' layouts, Cellpose's names, and what is no label image."""

import numpy as np
import pytest
from annotated_trees import HEIGHT, TRUTH, WIDTH, label_images, masks_of, pixels, save

from mrcnn_np.data.label_images import CITYSCAPES, LabelImages
from mrcnn_np.errors import DataError, DataWarning


def numbers_of(name, *values, dtype=np.uint8):
    numbers = np.zeros((HEIGHT, WIDTH), dtype)
    for value, mask in zip(values, masks_of(name)):
        numbers[mask] = value
    return numbers


@pytest.mark.parametrize(
    ("picture", "labels"),
    [
        ("images/a.png", "masks/a.png"),
        ("a.png", "a_masks.png"),
        ("a_img.png", "a_cp_masks.png"),
        ("imgs/x/a.png", "labels/x/a_label.png"),
        ("train/images/a.png", "train/labels/a.png"),
        ("images/train/a.png", "labels/train/a.png"),
    ],
)
def test_where_labels_lie(picture, labels, tmp_path):
    save(tmp_path / picture, pixels("a"))
    save(tmp_path / labels, numbers_of("a", 7, 300, dtype=np.uint16))
    dataset = LabelImages(tmp_path)
    assert len(dataset) == 1 and dataset.ids[0].endswith("a")
    np.testing.assert_array_equal(np.asarray(dataset.load(0).gt_masks), masks_of("a"))


def test_cityscapes(tmp_path):
    """1000 times the class and the number; a class alone is a group; walls and sky are no objects."""
    for split, city in (("train", "aachen"), ("train", "bochum"), ("val", "lindau")):
        stem = f"{split}/{city}/{city}_000000_000019"
        save(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png", pixels("a"))
        numbers = numbers_of("a", 26001, 24, dtype=np.uint16) + np.uint16(11) * ~masks_of("a").any(axis=0)
        numbers[0] = 3
        save(tmp_path / f"gtFine/{stem}_gtFine_instanceIds.png", numbers)
        save(tmp_path / f"gtFine/{stem}_gtFine_labelIds.png", numbers_of("a", 26, 24))
        save(tmp_path / f"gtFine/{stem}_gtFine_color.png", pixels("a"))
    dataset = LabelImages(tmp_path)
    assert dataset.ids == ("aachen/aachen_000000_000019", "bochum/bochum_000000_000019")
    assert LabelImages(tmp_path, "val").ids == ("lindau/lindau_000000_000019",)
    sample = dataset.load(0)
    assert dataset.class_names == ("background", *CITYSCAPES.values())
    assert [dataset.class_names[k] for k in sample.gt_class_ids] == ["person", "car"]
    assert sample.gt_crowd.tolist() == [True, False]
    assert sample.gt_boxes.tolist() == [list(TRUTH["a"][1]), list(TRUTH["a"][0])]
    assert sample.void[0].all() and not sample.void[1:].any()


def test_void(tmp_path):
    root = label_images(tmp_path, names="a")
    numbers = numbers_of("a", 1, 255)
    save(root / "PedMasks" / "a_mask.png", numbers)
    sample = LabelImages(root).load(0)
    np.testing.assert_array_equal(sample.void, numbers == 255)
    assert len(sample.gt_masks) == 1


def test_a_mask_of_all_objects_together(tmp_path):
    root = label_images(tmp_path, names="a")
    path = save(root / "PedMasks" / "a_mask.png", numbers_of("a", 255, 255))
    with pytest.raises(DataError, match=rf"^{path}: has no number but 255, .*does not tell them apart"):
        LabelImages(root).load(0)


def test_what_has_no_counterpart_is_left_out(tmp_path):
    root = label_images(tmp_path)
    save(root / "PNGImages" / "c.png", pixels("a"))
    save(root / "PedMasks" / "d_mask.png", numbers_of("a", 1))
    with pytest.warns(DataWarning) as caught:
        assert LabelImages(root).ids == ("a", "b")
    assert sorted(str(w.message) for w in caught) == [
        f"{root / 'PNGImages' / 'c.png'}: a picture without a label image is left out",
        f"{root / 'PedMasks' / 'd_mask.png'}: a label image without its picture is left out",
    ]


def test_damaged_labels(tmp_path):
    root = label_images(tmp_path)
    path = root / "PedMasks" / "a_mask.png"
    save(path, numbers_of("a", 1)[:9])
    with pytest.raises(DataError, match=rf"a\.png: is {WIDTH} x {HEIGHT} pixels; expected {WIDTH} x 9"):
        LabelImages(root).load(0)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=f"^{path}: cannot be"):
        LabelImages(root).load(0)
    save(root / "PedMasks" / "a_masks.png", numbers_of("a", 1))
    with pytest.raises(DataError, match="are label images of one picture; expected one"):
        LabelImages(root)
