"""Zips of the formats that are read from folders: unpacked once, whole or not at all."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from coco_tree import CocoTree

from mrcnn_np.data import open_dataset, recognise, unpacking
from mrcnn_np.data.shapes import generate
from mrcnn_np.errors import DataError


def zipped(folder, name):
    return Path(shutil.make_archive(str(folder.parent / name), "zip", folder))


@pytest.fixture
def coco(tmp_path):
    """An export as an annotation tool leaves it: a zip, and nothing beside it."""
    tree = CocoTree(tmp_path / "in" / "top")
    tree.image(1).rectangle(1, 4, 5, 6, 7)
    tree.save()
    return tree.root


@pytest.mark.parametrize("below", ["", "in a folder of the zip"])
def test_coco(coco, tmp_path, below):
    path = zipped(coco.parent if below else coco, "an export 1.0")
    shutil.rmtree(tmp_path / "in" / "top")
    found = recognise(path)
    folder = path.parent / "an export 1.0.unpacked"
    assert found.kind == "coco" and found.ground.endswith(f"unpacked into {folder / 'top' if below else folder}")
    before = (folder / unpacking.ORIGIN).stat().st_mtime_ns
    dataset = open_dataset("coco", path)
    assert len(dataset) == 1 and np.asarray(dataset.load(0).gt_masks).sum() == 42
    assert (folder / unpacking.ORIGIN).stat().st_mtime_ns == before


def test_voc(tmp_path):
    generate(tmp_path / "in" / "VOCdevkit", train=2, val=1, size=64)
    path = zipped(tmp_path / "in", "shapes")
    assert recognise(path).kind == "voc"
    assert len(open_dataset("voc", path, "val")) == 1


def test_another_zip_of_the_same_name_is_not_mixed_with_the_first(coco, tmp_path):
    path = zipped(coco, "export")
    recognise(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match=r"export\.unpacked, which is there and came from something else; expected no"):
        open_dataset("coco", path)
    shutil.rmtree(path.parent / "export.unpacked")
    (path.parent / "export.unpacked").mkdir()
    (path.parent / "export.unpacked" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="came from something else"):
        open_dataset("coco", path)
    assert os.listdir(path.parent / "export.unpacked") == ["mine.txt"]


def test_names_that_lead_out_of_the_folder(tmp_path):
    """What lies in a folder "..", which begins with a dot, counts as hidden and is left out; the rest is refused."""
    for number, name in enumerate(("/evil.json", "a/../../evil.json", "C:/evil.json", "../evil.json", "..\\evil.json")):
        path = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("annotations/instances_default.json", "{}")
            archive.writestr(name, "{}")
        if ".." in name:
            folder = unpacking.unpacked(path)
            assert [p.name for p in folder.rglob("*.json")] == ["instances_default.json"]
            shutil.rmtree(tmp_path / f"{number}.unpacked")
        else:
            with pytest.raises(DataError, match="expected names that stay in its folder"):
                unpacking.unpacked(path)
    assert sorted(os.listdir(tmp_path)) == [f"{number}.zip" for number in range(5)]


def test_damage_or_a_full_disk_leaves_nothing(coco, monkeypatch):
    path = zipped(coco, "export")
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        at = next(e for e in archive.infolist() if e.filename.endswith(".json")).header_offset + 100
    path.write_bytes(content[:at] + bytes(8) + content[at + 8 :])
    with pytest.raises(DataError, match="expected a zip file that is whole"):
        open_dataset("coco", path)
    path.write_bytes(content)

    def full(self, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match=r"cannot be unpacked into .*No space left on device.*give the folder"):
            open_dataset("coco", path)
    assert sorted(p.name for p in path.parent.iterdir() if p.name != "top") == ["export.zip"]
    assert len(open_dataset("coco", path)) == 1


def test_another_process_may_be_first(coco, monkeypatch):
    path = zipped(coco, "export")
    opened = unpacking.Tree

    def meanwhile(root):
        with monkeypatch.context() as patch:
            patch.setattr(unpacking, "Tree", opened)
            unpacking.unpacked(path)
        return opened(root)

    monkeypatch.setattr(unpacking, "Tree", meanwhile)
    assert len(open_dataset("coco", path)) == 1
    assert sorted(p.name for p in path.parent.iterdir() if p.name != "top") == ["export.unpacked", "export.zip"]


def test_a_zip_of_something_else_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(DataError, match=r"holds notes\.txt; expected one of these"):
        recognise(tmp_path / "a.zip")
    assert os.listdir(tmp_path) == ["a.zip"]
