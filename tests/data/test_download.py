import io
import tarfile

import pytest
from download_server import Server
from voc_tree import Tree

from mrcnn_np.data import VOCDataset, download_voc2012
from mrcnn_np.data import download as download_module
from mrcnn_np.errors import DataError


def archive(tree_root):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(tree_root, arcname="VOCdevkit")
    return out.getvalue()


@pytest.fixture
def server(tmp_path):
    tree = Tree(tmp_path / "source").add()
    root = tree.split()
    (tree.voc / "large").write_bytes(bytes(range(256)) * 2000)
    server = Server(archive(root))
    yield server
    server.http.shutdown()
    server.http.server_close()


def entries(folder):
    return sorted(p.name for p in folder.iterdir())


def test_download_unpack_and_second_call(server, tmp_path):
    dest = tmp_path / "new" / "data"
    root = download_voc2012(dest, **server.options)
    assert root == dest / "VOCdevkit" and entries(dest) == ["VOCdevkit"]
    assert VOCDataset(root).load(0).image_id == "a"
    download_voc2012(dest, **server.options)
    assert len(server.requests) == 1


@pytest.mark.parametrize("length", ["abc", "-1", "1e6", "\u00b2", "9" * 30, "1" * 5000])
def test_a_length_that_is_no_number(server, tmp_path, length):
    server.length = length
    try:
        root = download_voc2012(tmp_path / "d", **server.options)
    except DataError as error:
        assert "cannot be downloaded" in str(error)
    else:
        assert VOCDataset(root).load(0).image_id == "a"


def test_archive_can_be_kept(server, tmp_path):
    download_voc2012(tmp_path / "d", **server.options, keep_archive=True)
    assert entries(tmp_path / "d") == ["VOCdevkit", "voc.tar"]


def test_other_years_stay(server, tmp_path):
    (tmp_path / "d" / "VOCdevkit" / "VOC2007").mkdir(parents=True)
    download_voc2012(tmp_path / "d", **server.options)
    assert entries(tmp_path / "d" / "VOCdevkit") == ["VOC2007", "VOC2012"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_transfer_never_looks_finished_and_is_continued(server, tmp_path, ranges):
    server.ranges = ranges
    dest = tmp_path / "d"
    server.cut = 300_000
    with pytest.raises(DataError, match="cannot be downloaded"):
        download_voc2012(dest, **server.options)
    assert entries(dest) == ["voc.tar.part"]
    part = (dest / "voc.tar.part").read_bytes()
    assert 200_000 < len(part) <= 300_000 and server.data.startswith(part)
    server.cut = None
    assert VOCDataset(download_voc2012(dest, **server.options)).load(0).image_id == "a"
    assert server.requests == [None, f"bytes={len(part)}-"]
    assert entries(dest) == ["VOCdevkit"]


def test_kill_after_the_last_byte(server, tmp_path):
    """The part is complete but was not renamed: the server has nothing to add."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "voc.tar.part").write_bytes(server.data)
    download_voc2012(tmp_path / "d", **server.options)
    assert entries(tmp_path / "d") == ["VOCdevkit"]


@pytest.mark.parametrize("foreign_part", [False, True])
def test_wrong_checksum(server, tmp_path, foreign_part):
    dest = tmp_path / "d"
    dest.mkdir()
    options = server.options
    if foreign_part:
        (dest / "voc.tar.part").write_bytes(b"something else")
    else:
        options["known_hash"] = "md5:" + "0" * 32
    with pytest.raises(DataError, match=r"voc\.tar: .*hash.*expected the checksum md5:"):
        download_voc2012(dest, **options)
    assert entries(dest) == []  # so that the next attempt starts afresh
    download_voc2012(dest, **server.options)


def test_kill_between_download_and_unpacking(server, tmp_path, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    dest = tmp_path / "d"
    with monkeypatch.context() as patch:
        patch.setattr(download_module, "_unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            download_voc2012(dest, **server.options)
    assert entries(dest) == ["voc.tar"]
    (dest / ".VOC2012.partial" / "VOCdevkit" / "VOC2012").mkdir(parents=True)  # a kill while unpacking leaves this
    download_voc2012(dest, **server.options)
    assert len(server.requests) == 1 and entries(dest) == ["VOCdevkit"]


def test_damaged_archive_on_disk_is_downloaded_again(server, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "voc.tar").write_bytes(server.data[:500])
    download_voc2012(tmp_path / "d", **server.options)
    assert entries(tmp_path / "d") == ["VOCdevkit"]


def test_other_contents(server, tmp_path):
    server.data = b"no archive at all"
    with pytest.raises(DataError, match="cannot be unpacked"):
        download_voc2012(tmp_path / "d", **server.options)
    server.data = archive(tmp_path / "source" / "VOCdevkit" / "VOC2012")
    with pytest.raises(DataError, match="does not contain VOCdevkit/VOC2012/JPEGImages"):
        download_voc2012(tmp_path / "e", **server.options)
    assert entries(tmp_path / "e") == ["voc.tar"]


def test_archive_that_writes_outside(server, tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../escaped.txt"), io.BytesIO())
    server.data = out.getvalue()
    with pytest.raises(DataError, match=r"cannot be unpacked.*outside"):
        download_voc2012(tmp_path / "d", **server.options)
    assert not list(tmp_path.glob("**/escaped.txt"))


def test_no_server(server, tmp_path):
    options = server.options | {"url": "http://127.0.0.1:9/voc.tar"}
    with pytest.raises(DataError, match=r"cannot be downloaded.*expected a network connection.*VOC_ROOT"):
        download_voc2012(tmp_path / "d", **options)


def test_unwritable_place(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        download_voc2012(tmp_path / "file" / "d", **server.options)
