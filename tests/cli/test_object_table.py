"""``mrcnn-np detect --table``: one line for each object and one for each picture, numbers by hand."""

import csv

import numpy as np
import pytest
from PIL import Image

from mrcnn_np import MaskRCNN
from mrcnn_np.cli.main import main
from mrcnn_np.cli.object_table import ObjectTable, measured
from mrcnn_np.detections import Detections
from mrcnn_np.errors import UserError

NAMES = ("background", "nucleus", "debris, dark")


def scene(shape=(20, 30)):
    """A square of 4 x 4, one of 2 x 6 at the border of which it covers four pixels, and one without a pixel."""
    masks = np.zeros((3, *shape), bool)
    masks[0, 2:6, 4:8] = True
    masks[1, 4:6, 0:6] = True
    boxes = np.array([[2, 4, 6, 8], [4, 0, 6, 6.126], [9, 9, 9, 9]], np.float32)
    return Detections(boxes, np.array([1, 2, 1]), np.array([0.9, 0.8, 0.7]), masks)


def picture(shape=(20, 30)):
    image = np.zeros((*shape, 3), np.uint8)
    image[2:6, 4:8] = (100, 0, 0)
    image[5, 5] = (0, 0, 250)
    return image


def table_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_by_hand():
    first, second, empty = measured(scene(), picture(), NAMES)
    assert first[:7] == (1, "nucleus", 0.9, 2.0, 4.0, 6.0, 8.0)
    assert (first.pixels, first.pixels_of_its_own, second.pixels, second.pixels_of_its_own) == (16, 16, 12, 8)
    assert (first.centroid_y, first.centroid_x) == (4.0, 6.0)  # the middle of its box
    assert (second.centroid_y, second.centroid_x, second.x2) == (5.0, 3.0, 6.13)
    assert first.mean_grey == round((15 * 100 * 0.299 + 250 * 0.114) / 16, 2)
    assert second.mean_grey == round((3 * 100 * 0.299 + 250 * 0.114) / 12, 2)
    assert (first.touches_border, second.touches_border, empty.touches_border) == (False, True, False)
    assert empty[7:12] == (0, 0, None, None, None)


@pytest.mark.parametrize("place", [np.s_[0, 3], np.s_[-1, 3], np.s_[3, 0], np.s_[3, -1]])
def test_every_border(place):
    masks = np.zeros((1, 5, 6), bool)
    masks[0][place] = True
    found = Detections(np.zeros((1, 4)), np.array([1]), np.array([0.9]), masks)
    assert measured(found, np.zeros((5, 6, 3), np.uint8), NAMES)[0].touches_border


def test_no_object():
    found = scene()[:0]
    assert measured(found, picture(), NAMES) == []


@pytest.fixture
def photos(tmp_path):
    """Two pictures, one of them black, and an animation."""
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture()).save(tmp_path / "photos" / "a.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "photos" / "b.png")
    frames = [Image.fromarray(picture() + np.uint8(k)) for k in range(2)]
    frames[0].save(tmp_path / "photos" / "c.tif", save_all=True, append_images=frames[1:])
    return tmp_path / "photos"


@pytest.fixture
def finds(monkeypatch):
    """A network that finds the scene everywhere but in black pictures."""

    def detect(self, images):
        return [scene() if images[0].any() else scene()[:0]]

    monkeypatch.setattr(MaskRCNN, "detect", detect)


def run(trained, *args):
    return main(["detect", "--run", str(trained), "--quiet", "--no-pictures", *map(str, args)])


def test_the_command(trained, photos, finds, tmp_path, capsys):
    out, file = tmp_path / "out", tmp_path / "tables" / "all.csv"
    options = ("--out", out, "--table", file, "--pixel-size", "0.5")
    assert run(trained, photos, *options) == 0
    assert f"9 objects listed in {file}, 4 pictures listed in {tmp_path}/tables/all-pictures.csv" in (
        capsys.readouterr().out
    )
    rows, pictures = table_of(file), table_of(tmp_path / "tables" / "all-pictures.csv")
    assert [row["name"] for row in rows] == ["a"] * 3 + ["c_frame00000"] * 3 + ["c_frame00001"] * 3
    assert [row["frame"] for row in rows[::3]] == ["", "0", "1"]
    assert [row["area_um2"] for row in rows[:3]] == ["4.0", "3.0", "0.0"]
    assert rows[2]["centroid_y"] == rows[2]["mean_grey"] == "" and rows[1]["touches_border"] == "TRUE"
    assert {row["picture"] for row in rows} == {str(photos / "a.png"), str(photos / "c.tif")}
    counts = {row["name"]: (row["objects"], row["pixels_covered"], row["limit_reached"]) for row in pictures}
    assert counts == {"a": ("3", "24", "FALSE"), "b": ("0", "0", "FALSE"), "c_frame00000": ("3", "24", "FALSE"),
                      "c_frame00001": ("3", "24", "FALSE")}  # fmt: skip
    assert (pictures[0]["height"], pictures[0]["width"]) == ("20", "30")
    instances = np.array(Image.open(out / "a_instances.png"))
    for row in rows[:3]:
        assert (instances == int(row["number"])).sum() == int(row["pixels_of_its_own"])
    # again, without areas: such a table is replaced, and objects outside the limits are in neither file
    assert run(trained, photos / "a.png", "--out", out, "--table", file, "--min-area", "13") == 0
    (row,) = table_of(file)
    assert row["pixels"] == "16" and "area_um2" not in row
    (row,) = table_of(tmp_path / "tables" / "all-pictures.csv")
    assert row["objects"] == "1"
    assert "1 object listed in" in capsys.readouterr().out


def test_the_limit_of_the_network_is_marked(trained, photos, finds, tmp_path):
    limit = ("--config", "detections_per_image=3", "--table", tmp_path / "t.csv", "--out", tmp_path / "out")
    assert run(trained, photos / "a.png", photos / "b.png", *limit) == 0
    assert [row["limit_reached"] for row in table_of(tmp_path / "t-pictures.csv")] == ["TRUE", "FALSE"]


def test_an_interruption_leaves_the_table_as_it_was(trained, photos, finds, tmp_path, monkeypatch):
    options = ("--out", tmp_path / "out", "--table", tmp_path / "t.csv")
    assert run(trained, photos / "a.png", *options) == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("*.csv")}

    def interrupted(self, images):
        raise KeyboardInterrupt

    monkeypatch.setattr(MaskRCNN, "detect", interrupted)
    assert run(trained, photos, *options) == 130
    assert {path: path.read_bytes() for path in tmp_path.glob("*.csv")} == before and len(before) == 2


def test_refusals(trained, photos, finds, tmp_path, capsys):
    out = ("--out", tmp_path / "out")
    mine = tmp_path / "mine.csv"
    for options, message in (
        (("--table", tmp_path / "t.txt"), "t.txt is no name of a table; expected one that ends in .csv"),
        (("--pixel-size", "0.5"), "--pixel-size is for the areas of --table; expected that option, too"),
        (("--table", mine), "mine.csv is there already, and is no table as detect writes it"),
    ):
        mine.write_bytes(b"picture;frame;name\r\n")
        assert run(trained, photos, *out, *options) == 2
        assert message in capsys.readouterr().err
        assert mine.read_bytes() == b"picture;frame;name\r\n"
    (tmp_path / "two-pictures.csv").write_text("mine")
    with pytest.raises(UserError, match=r"two-pictures\.csv is there already"):
        ObjectTable(tmp_path / "two.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="it is a folder"):
        ObjectTable(tmp_path / "folder.csv")
