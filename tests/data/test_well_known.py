"""Small well-known sets: downloaded from a server on this machine that offers their layouts, made small."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from annotated_trees import label_images, mask_folders, via
from download_server import Server

from mrcnn_np.cli.main import main
from mrcnn_np.data import open_dataset, recognise
from mrcnn_np.data import well_known as module
from mrcnn_np.data.well_known import WELL_KNOWN, download_set
from mrcnn_np.errors import DataError


def pennfudan(root):
    label_images(root / "PennFudanPed")
    (root / "PennFudanPed" / "Annotation").mkdir()
    for name in "ab":
        (root / "PennFudanPed" / "Annotation" / f"{name}.txt").write_text("# Compatible with PASCAL Annotation\n")
    for name in ("readme.txt", "added-object-list.txt"):
        (root / "PennFudanPed" / name).write_text("x\n")


def balloons(root):
    for split, names in (("train", "a"), ("val", "b")):
        via(root / "balloon" / split, names=names)
        beside = root / "__MACOSX" / "balloon" / split
        beside.mkdir(parents=True)
        (beside / "._via_region_data.json").write_bytes(b"\0\5\26\7")


def dsb2018(root):
    mask_folders(root)


SMALL = {"pennfudan": pennfudan, "balloons": balloons, "dsb2018": dsb2018}
FORMS = {"pennfudan": "labels", "balloons": "via", "dsb2018": "dsb"}


def zipped(folder):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(Path(folder).rglob("*")):
            file.write(path, path.relative_to(folder).as_posix())
    return out.getvalue()


@pytest.fixture(params=[one.name for one in WELL_KNOWN])
def offered(request, tmp_path):
    (tmp_path / "source").mkdir()
    SMALL[request.param](tmp_path / "source")
    yield from serving(request.param, zipped(tmp_path / "source"))


@pytest.fixture
def balloon(tmp_path):
    balloons(tmp_path / "source")
    yield from serving("balloons", zipped(tmp_path / "source"))


def serving(name, data):
    server = Server(data)
    server.name, server.url = name, server.url.replace("voc.tar", "small.zip")
    server.get = lambda dest, **more: download_set(
        name, dest, **{"url": server.url, "progress": False, "timeout": 5, **more}
    )
    yield server
    server.http.shutdown()
    server.http.server_close()


def entries(folder):
    return sorted(p.name for p in folder.iterdir())


def test_the_table_says_where_and_what():
    assert [one.name for one in WELL_KNOWN] == list(SMALL)
    for one in WELL_KNOWN:
        assert one.url.startswith("https://") and one.url.endswith(".zip") and one.known_hash is None


def test_each_is_unpacked_recognised_and_read(offered, tmp_path):
    chosen, dest = module.by_name(offered.name), tmp_path / "new" / "data"
    root = offered.get(dest)
    assert root == dest / chosen.folder and entries(dest) == sorted([chosen.folder, "small.zip.sha256"])
    assert recognise(root).kind == FORMS[offered.name]
    dataset = open_dataset(FORMS[offered.name], root, "train")
    assert dataset.class_names == ("background", chosen.class_name)
    assert [len(dataset.load(k).gt_boxes) for k in range(len(dataset))] == {"balloons": [2]}.get(offered.name, [2, 1])
    if offered.name == "balloons":
        assert open_dataset("via", root, "val").ids == ("b",)
    (tmp_path / "fetched.zip").write_bytes(offered.data)  # by hand, as the message without a network advises
    assert recognise(tmp_path / "fetched.zip").kind == FORMS[offered.name]
    offered.get(dest)
    assert len(offered.requests) == 1
    assert (dest / "small.zip.sha256").read_text() == f"{hashlib.sha256(offered.data).hexdigest()}  small.zip\n"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_transfer_is_continued(balloon, tmp_path, ranges):
    balloon.ranges, dest = ranges, tmp_path / "d"
    balloon.data = zipped_with(balloon.data, "balloon/large", bytes(range(256)) * 1200)
    balloon.cut = 250_000
    with pytest.raises(DataError, match=r"cannot be downloaded.*expected a network connection.*hand --data the zip"):
        balloon.get(dest)
    assert entries(dest) == ["small.zip.part"]
    part = (dest / "small.zip.part").stat().st_size
    balloon.cut = None
    assert recognise(balloon.get(dest)).kind == "via"
    assert balloon.requests == [None, f"bytes={part}-"] and "small.zip.part" not in entries(dest)


def zipped_with(data, name, content):
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as file:
        file.writestr(name, content)
    return out.getvalue()


def test_a_later_download_is_held_to_the_first(balloon, tmp_path):
    import shutil

    dest = tmp_path / "d"
    shutil.rmtree(balloon.get(dest))
    good = balloon.data
    balloon.data = zipped_with(good, "balloon/more.txt", b"other")
    with pytest.raises(DataError, match="expected the checksum sha256:"):
        balloon.get(dest)
    assert entries(dest) == ["small.zip.sha256"]
    balloon.data = good
    assert balloon.get(dest).is_dir()
    shutil.rmtree(dest / "balloon")
    (dest / "small.zip.sha256").write_text("nothing")
    with pytest.raises(DataError, match=r"small\.zip\.sha256: .*expected md5: and 32"):
        balloon.get(dest)


def test_a_checksum_that_is_given(balloon, tmp_path):
    with pytest.raises(DataError, match="expected the checksum md5:0000"):
        balloon.get(tmp_path / "d", known_hash="md5:" + "0" * 32)
    for wrong in ("md5:12", "crc:00", "sha256:" + "g" * 64):
        with pytest.raises(DataError, match="is none; expected md5: and 32 or sha256: and 64"):
            balloon.get(tmp_path / "d", known_hash=wrong)
    right = "md5:" + hashlib.md5(balloon.data).hexdigest().upper()
    assert balloon.get(tmp_path / "d", known_hash=right).is_dir()


def test_other_contents_leave_nothing_behind(balloon, tmp_path, monkeypatch):
    dest, good = tmp_path / "d", balloon.data
    mask_folders(tmp_path / "other" / "balloon")
    wrong = {
        "cannot be unpacked": b"no archive at all",
        "expected a zip file that is whole": good[:-40],
        "does not contain the folder balloon": zipped(tmp_path / "source" / "balloon"),
        "does not contain what was expected: matterport's balloons, 61": zipped_with(
            zipped(tmp_path / "nothing"), "balloon/x.txt", b"x"
        ),
        "does not contain what was expected: matterport's balloons": zipped(tmp_path / "other"),
    }
    for message, data in wrong.items():
        balloon.data = data
        with pytest.raises(DataError, match=message):
            balloon.get(dest)
        assert entries(dest) == []
    balloon.data = good
    with monkeypatch.context() as patch:
        patch.setattr(module, "_MOST_BYTES", 100)
        with pytest.raises(DataError, match=r"bytes unpacked; expected at most 100"):
            balloon.get(dest)
    assert balloon.get(dest).is_dir()  # fetched anew


def test_an_archive_cannot_write_outside(balloon, tmp_path):
    balloon.data = zipped_with(balloon.data, "../../escaped.txt", b"x")
    balloon.get(tmp_path / "d" / "e")
    assert not list(tmp_path.glob("escaped.txt")) and not list((tmp_path / "d").glob("escaped.txt"))


def test_a_kill_between_download_and_unpacking(balloon, tmp_path, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    dest = tmp_path / "d"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            balloon.get(dest)
    assert entries(dest) == ["small.zip"]
    (dest / ".balloon.partial" / "balloon").mkdir(parents=True)  # a kill while unpacking leaves this
    balloon.get(dest)
    assert len(balloon.requests) == 1 and entries(dest) == ["balloon", "small.zip.sha256"]


def test_places_that_cannot_be_written(balloon, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        balloon.get(tmp_path / "file" / "d")


def test_the_command(balloon, tmp_path, capsys):
    command = ["data", "get", "balloons", "--root", str(tmp_path / "d"), "--url", balloon.url, "--quiet"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"train with: mrcnn-np train --data {tmp_path / 'd' / 'balloon'}" in said
    assert main(["data", "get", "baloons", "--root", str(tmp_path)]) == 2
    assert "unknown data set 'baloons'; expected pennfudan, balloons, dsb2018" in capsys.readouterr().err
    command[6] = "http://127.0.0.1:9/small.zip"
    assert main([*command[:4], str(tmp_path / "e"), *command[5:]]) == 2
    assert "expected a network connection" in capsys.readouterr().err
