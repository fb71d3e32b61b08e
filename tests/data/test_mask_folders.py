"""Mask folders, the layout of the Data Science Bowl 2018."""

import shutil
import zipfile

import numpy as np
import pytest
from annotated_trees import HEIGHT, WIDTH, mask_folders, masks_of, pixels, save
from PIL import Image

from mrcnn_np.data.mask_folders import MaskFolders
from mrcnn_np.errors import DataError, DataWarning


@pytest.fixture
def root(tmp_path):
    return mask_folders(tmp_path / "stage1_train")


def test_whatever_the_masks_are_made_of(root):
    """0 and 1, one bit, palette, RGBA, smoothed edges: white is the object."""
    mask = masks_of("b")[0]
    path = root / "b" / "masks" / "0f3c.png"
    palette = Image.fromarray(mask.astype(np.uint8))
    palette.putpalette([255, 255, 255, 0, 0, 0])
    smooth = np.where(mask, 255, 0).astype(np.uint8)
    smooth[4, 5:30] = 100
    colours = np.where(mask[..., None], [0, 200, 0, 255], [0, 0, 0, 255]).astype(np.uint8)
    deep = Image.fromarray(mask.astype(np.uint16) * 65535)
    for image in (Image.fromarray(mask.astype(np.uint8)), Image.fromarray(mask), palette, Image.fromarray(smooth),
                  Image.fromarray(colours), deep):  # fmt: skip
        image.save(path)
        np.testing.assert_array_equal(np.asarray(MaskFolders(root).load(1).gt_masks)[0], mask)


def test_what_is_transparent_is_not_of_the_object(root):
    mask = masks_of("b")[0]
    white = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    white[..., 3] = mask * 255
    Image.fromarray(white).save(root / "b" / "masks" / "0f3c.png")
    np.testing.assert_array_equal(np.asarray(MaskFolders(root).load(1).gt_masks)[0], mask)


def test_classes_txt_names_the_class(root):
    (root / "classes.txt").write_text("nucleus\n")
    assert MaskFolders(root).class_names == ("background", "nucleus")
    (root / "classes.txt").write_text("nucleus\ncell\n")
    with pytest.raises(DataError, match="lists 2 classes; expected one"):
        MaskFolders(root)


def test_pictures_without_masks_and_masks_without_pictures(root):
    """An empty folder says that there is no object, a missing one that nobody looked."""
    save(root / "c" / "images" / "c.png", pixels("a"))
    save(root / "d" / "images" / "d.png", pixels("a"))
    (root / "d" / "masks").mkdir()
    shutil.rmtree(root / "b" / "images")
    with pytest.warns(DataWarning) as caught:
        dataset = MaskFolders(root)
    assert dataset.ids == ("a", "d") and len(dataset.load(1).gt_masks) == 0
    assert sorted(str(w.message) for w in caught) == [
        f"{root / 'b'}: a folder of masks without a picture beside it is left out",
        f"{root / 'c'}: a picture without a folder of masks beside it is left out",
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "cannot be"),
        (lambda path: path.write_text("no image"), "is not an image"),
        (lambda path: save(path, np.zeros((HEIGHT, WIDTH), np.uint8)), "the mask has no pixel within the image"),
        (lambda path: save(path, np.ones((HEIGHT, 5), np.uint8)), f"is 5 x {HEIGHT} pixels; expected {WIDTH} x"),
    ],
)
def test_damaged_masks(root, damage, message):
    path = root / "a" / "masks" / "1f3c.png"
    damage(path)
    with pytest.raises(DataError, match=f"^{path}: {message}"):
        MaskFolders(root).load(0)
    dataset = MaskFolders(root, skip_bad=True)
    with pytest.warns(DataWarning, match="an object is left out"):
        assert len(dataset.load(0).gt_masks) == 1


def test_masks_of_another_size_than_the_picture(root):
    path = save(root / "b" / "masks" / "0f3c.png", np.ones((9, 9), np.uint8))
    with pytest.raises(DataError, match=rf"b\.png: is {WIDTH} x {HEIGHT} pixels; expected 9 x 9, the size of its"):
        MaskFolders(root).load(1)
    path.unlink()


def test_the_mask_that_is_unlike_the_picture_is_blamed(root):
    """Also where it comes first, and is what the others would be compared with."""
    first, second = sorted((root / "a" / "masks").iterdir())
    save(first, np.ones((HEIGHT, 5), np.uint8))
    with pytest.raises(DataError, match=f"^{first}: is 5 x {HEIGHT} pixels; expected {WIDTH} x .* of the picture"):
        MaskFolders(root).load(0)
    for path in (first, second):
        save(path, np.ones((9, 5 if path == first else 6), np.uint8))
    with pytest.raises(DataError, match=f"^{second}: is 6 x 9 pixels; expected 5 x 9, the size of the other masks"):
        MaskFolders(root).load(0)


def test_two_pictures_in_one_folder(root):
    save(root / "a" / "images" / "another.png", pixels("a"))
    with pytest.raises(DataError, match=rf"{root / 'a' / 'images'}: holds 2 images \(a.png, another.png, ...\)"):
        MaskFolders(root)


def test_pictures_turned_by_exif(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels("b")).save(root / "b" / "images" / "b.png", exif=exif)
    with pytest.warns(DataWarning, match="fit the picture before its EXIF orientation"):
        sample = MaskFolders(root).load(1)
    assert sample.image.shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_array_equal(sample.gt_masks[0], sample.image[..., 0] == 255)


def test_damage_inside_a_zip(root, tmp_path):
    """A byte that was changed in the zip is one message with the name of the file in it."""
    path = tmp_path / "nuclei.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for one in sorted(p for p in root.rglob("*") if p.is_file()):
            file.write(one, one.relative_to(root))
        file.writestr("__MACOSX/a/images/._a.png", b"")
    dataset = MaskFolders(path)
    assert dataset.ids == ("a", "b") and len(dataset.load(0).gt_masks) == 2
    content = bytearray(path.read_bytes())
    place = content.index((root / "a" / "masks" / "0f3c.png").read_bytes())
    content[place + 40] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{path}/a/masks/0f3c\.png: cannot be read \(Bad CRC"):
        MaskFolders(path).load(0)
