"""Files that survive a kill: atomic replacement; what cannot be written or read is named."""

import errno
import os

import pytest

from mrcnn_np.errors import UserError
from mrcnn_np.files import atomic_write, prepare, read_json, write_json


def test_atomic_write_replaces_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "a.bin"
    for content in (b"old", b"new"):
        atomic_write(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_temporary_file_left_by_a_kill_is_no_obstacle(tmp_path):
    (tmp_path / ".a.bin.tmp").write_bytes(b"half")
    atomic_write(tmp_path / "a.bin", b"new")
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match=r"a\.bin: No space left on device; .*unchanged"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_json_round_trip_and_messages(tmp_path):
    write_json(tmp_path / "a.json", {"ä": [1, 2.5]})
    assert read_json(tmp_path / "a.json") == {"ä": [1, 2.5]}
    (tmp_path / "a.json").write_text("{")
    for name, message in (("a.json", "not JSON"), ("b.json", "No such file")):
        with pytest.raises(UserError, match=message):
            read_json(tmp_path / name)


def test_prepare_makes_folders_and_names_what_is_in_the_way(tmp_path):
    prepare(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("x")
    for hopeless in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="cannot write into"):
            prepare(hopeless)


def test_prepare_finds_a_read_only_folder(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(UserError, match="Permission denied"):
        prepare(folder)
