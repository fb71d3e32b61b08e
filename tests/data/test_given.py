"""What a user may name: files, folders, zips, patterns."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from annotated_trees import label_images, mask_folders
from PIL import Image

from mrcnn_np.data.given import find_given
from mrcnn_np.errors import DataError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("p/b.png", "p/a.JPG", "p/below/c.tif", "p/found/d_detections.png", "p/.hidden.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 4, 3), len(name), np.uint8)).save(name)
    Path("p/notes.txt").write_text("x")
    Path("p/film.mp4").write_bytes(b"x")
    with zipfile.ZipFile("z.zip", "w") as file:
        file.write("p/b.png", "in/b.png")
        file.write("p/notes.txt", "notes.txt")
        file.write("p/film.mp4", "film.mp4")
    return tmp_path


def paths(given):
    return [str(file.path).replace(os.sep, "/") for file in given.files]


def test_folders_and_zips(tree):
    given = find_given(["p"], without=[Path("p/found"), Path("elsewhere")])
    assert paths(given) == ["p/a.JPG", "p/b.png", "p/below/c.tif", "p/film.mp4"]
    assert given.others == [Path("p/notes.txt")] and not given.bad
    assert "p/found/d_detections.png" in paths(find_given(["p"], without=[Path("p")]))  # written beside the pictures
    given = find_given(["z.zip", "p/b.png", "p/b.png", "p"], without=[Path("p/found")])
    assert paths(given)[:3] == ["z.zip/film.mp4", "z.zip/in/b.png", "p/b.png"] and len(given.files) == 6
    ((number, image),) = given.files[1].pictures()
    assert number is None and (image == 7).all()
    with pytest.raises(DataError, match="is a video in a zip; expected it unpacked"):
        list(given.files[0].pictures())


def test_annotations_of_the_pictures_are_no_odd_files(tree):
    for name in ("b.json", "a.xml", "below/a.txt", "classes.txt", "other.json", "b.doc", "b.png.json"):
        Path("p", name).write_text("x")
    given = find_given(["p"], without=[Path("p/found")])
    assert given.others == [Path("p/b.doc"), Path("p/b.png.json"), Path("p/notes.txt"), Path("p/other.json")]


def test_patterns(tree):
    assert paths(find_given(["p/*.png"])) == ["p/b.png"]
    assert set(paths(find_given(["p/**/*.[pt]*"]))) == {
        "p/b.png", "p/below/c.tif", "p/found/d_detections.png", "p/notes.txt",
    }  # fmt: skip
    assert paths(find_given(["p/bel*"])) == ["p/below/c.tif"]  # a folder
    given = find_given(["p/*.bmp"])
    assert not given.files and "p/*.bmp: matches no file" in given.bad[0]
    Path("[1].png").write_bytes(b"")
    assert paths(find_given(["[1].png"])) == ["[1].png"]  # it is there: no pattern


def test_what_is_not_there_and_what_is_empty(tree):
    Path("empty").mkdir()
    Path("broken.zip").write_bytes(b"no zip")
    given = find_given(["gone.png", "empty", "broken.zip"])
    assert paths(given) == ["gone.png"]
    assert "empty: holds no picture" in given.bad[0] and "broken.zip: is no zip file" in given.bad[1]
    with pytest.raises(DataError, match="does not exist"):
        list(given.files[0].pictures())


def test_masks_of_data_sets_are_no_photographs(tmp_path):
    mask_folders(tmp_path / "dsb")
    label_images(tmp_path / "ped")
    for name, photos in (("dsb", ["a.png", "b.png"]), ("ped", ["a.png", "b.png"])):
        given = find_given([str(tmp_path / name)])
        assert [file.path.name for file in given.files] == photos
        assert given.masks and not given.bad and not given.others
    Image.new("L", (4, 3)).save(tmp_path / "dsb" / "a" / "masks" / "more.png")
    (tmp_path / "masks").mkdir()  # without photographs beside it
    Image.new("L", (4, 3)).save(tmp_path / "masks" / "c.png")
    assert [file.path.name for file in find_given([str(tmp_path / "masks")]).files] == ["c.png"]


def test_frames_or_the_first(tree):
    pages = [Image.new("L", (4, 3), k) for k in range(3)]
    pages[0].save("a.tif", save_all=True, append_images=pages[1:])
    (file,) = find_given(["a.tif"]).files
    assert [k for k, _ in file.pictures()] == [0, 1, 2]
    with pytest.warns(UserWarning, match="the first is read"):
        assert [k for k, _ in file.pictures(frames=False)] == [None]
