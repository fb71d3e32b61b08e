"""Downloads of weights, from a server on this machine."""

import hashlib
import re

import pytest
from download_server import Server

from mrcnn_np.cli.main import main
from mrcnn_np.errors import UserError, WeightFileError
from mrcnn_np.weights import download
from mrcnn_np.weights.download import PUBLISHED, Published, download_weights, published

DATA = bytes(range(256)) * 2000
SHA256, MD5 = hashlib.sha256(DATA).hexdigest(), hashlib.md5(DATA).hexdigest()


@pytest.fixture
def server():
    server = Server(DATA)
    yield server
    server.http.shutdown()
    server.http.server_close()


def fetch(server, dest, checksum=""):
    return download_weights(Published(server.url, "test", checksum), dest, progress=False, timeout=5)


def entries(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("checksum", ["", f"sha256:{SHA256[:8]}", f"md5:{MD5[:6]}", f"sha256:{SHA256}"])
def test_download_and_second_call(server, tmp_path, checksum):
    dest = tmp_path / "new" / "weights"
    path = fetch(server, dest, checksum)
    assert path == dest / "voc.tar" and path.read_bytes() == DATA and entries(dest) == ["voc.tar"]
    assert fetch(server, dest, checksum) == path and len(server.requests) == 1


@pytest.mark.parametrize("checksum", ["sha256:00000000", "md5:000000", "md5:" + "0" * 32])
def test_a_wrong_checksum_leaves_nothing(server, tmp_path, checksum):
    digits = checksum.partition(":")[2]
    with pytest.raises(WeightFileError, match=rf"has the (sha256|md5) [0-9a-f]+, expected {digits}.*thrown away"):
        fetch(server, tmp_path, checksum)
    assert entries(tmp_path) == []


def test_a_file_that_is_there_is_checked_too(server, tmp_path):
    (tmp_path / "voc.tar").write_bytes(b"something else")
    with pytest.raises(WeightFileError, match="it is there already; remove it"):
        fetch(server, tmp_path, f"sha256:{SHA256[:8]}")
    assert (tmp_path / "voc.tar").read_bytes() == b"something else" and server.requests == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_transfer_is_continued(server, tmp_path, ranges):
    server.ranges, server.cut = ranges, 300_000
    with pytest.raises(WeightFileError, match="cannot be downloaded"):
        fetch(server, tmp_path, f"sha256:{SHA256[:8]}")
    assert entries(tmp_path) == ["voc.tar.part"]
    server.cut = None
    fetch(server, tmp_path, f"sha256:{SHA256[:8]}")
    assert entries(tmp_path) == ["voc.tar"] and server.requests[1].startswith("bytes=")


def test_no_server_and_no_place(server, tmp_path):
    with pytest.raises(WeightFileError, match="expected a network connection"):
        download_weights(Published("http://127.0.0.1:9/x.pth", "test"), tmp_path, progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightFileError, match="cannot be written"):
        fetch(server, tmp_path / "file" / "folder")


@pytest.mark.parametrize("name", PUBLISHED)
def test_addresses_and_checksums(name):
    file = published(name)
    assert re.fullmatch(r"https://[a-z.]+/\S+\.(pth|pkl|h5)", file.url)
    if file.url.startswith(download.TORCHVISION):
        assert re.fullmatch(r"sha256:[0-9a-f]{8}", file.checksum) and file.checksum[7:] in file.filename
    elif file.url.startswith(download.COCO_MASKS):
        assert re.fullmatch(r"md5:[0-9a-f]{6}", file.checksum) and file.checksum[4:] in file.filename


def test_torchvision_agrees_on_its_addresses():
    models = pytest.importorskip("torchvision", reason="knows where its own files are").models
    ours = {name: file.url for name, file in PUBLISHED.items() if file.url.startswith(download.TORCHVISION)}
    theirs = {}
    for name in ours:
        builder, version = (name[:-3], "V2") if name.endswith("_v2") and name.startswith("res") else (name, "V1")
        enum = models.get_model_weights(builder)
        theirs[name] = enum[f"IMAGENET1K_{version}" if builder.startswith("res") else "COCO_V1"].url
    assert ours == theirs


def test_the_command(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PUBLISHED, "some", Published(server.url, "test", f"sha256:{SHA256[:8]}"))
    monkeypatch.setitem(PUBLISHED, "other", Published(server.url, "test"))
    assert main(["weights", "download", "some", "--root", str(tmp_path), "--quiet"]) == 0
    assert f"its sha256 begins with the published {SHA256[:8]}; sha256 {SHA256}" in capsys.readouterr().out
    assert main(["weights", "download", "other", "--root", str(tmp_path), "--quiet"]) == 0
    assert f"its authors publish no checksum; sha256 {SHA256}" in capsys.readouterr().out
    assert main(["weights", "download"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in PUBLISHED) and "mask_rcnn_coco" in listed
    assert main(["weights", "download", "nonsense"]) == 2
    assert "no published weights are called 'nonsense'; expected one of" in capsys.readouterr().err
    with pytest.raises(UserError, match="expected one of"):
        published("")
