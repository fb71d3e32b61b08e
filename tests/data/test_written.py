"""The record of what was written into a folder, by which a changed file is told from one that was only written."""

import os

import pytest

from mrcnn_np.data.written import RECORD, WrittenFiles
from mrcnn_np.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Two files that were written, of which the second was given two contents."""
    files = WrittenFiles(tmp_path)
    assert files.names == [] and files.changed() == ""
    for name, data in (("a", b"one"), ("b\n\udcff", b"old"), ("b\n\udcff", b"new")):
        files.write(name, data)
        assert files.same(name, data)
    assert (tmp_path / "b\n\udcff").read_bytes() == b"new"
    return tmp_path


def test_as_it_was_written(folder):
    files = WrittenFiles(folder)
    assert files.names == ["a", "b\n\udcff"] and files.changed() == ""
    assert files.same("a", b"one") and not files.same("a", b"old") and not files.same("c", b"one")
    before = (folder / RECORD).read_bytes()
    files.write("a", b"one")
    assert (folder / RECORD).read_bytes() == before and before.count(b"sha256") == 3
    (folder / "b\n\udcff").write_bytes(b"old")  # a kill came between the record and the file
    (folder / ".DS_Store").touch()
    assert WrittenFiles(folder).changed() == ""
    os.remove(folder / "b\n\udcff")
    assert WrittenFiles(folder).changed() == ""


def test_those_that_are_as_they_were_written(folder):
    """Of some endings, so that a folder of large photographs need not be read."""
    every = ("", "never read")
    assert WrittenFiles(folder).as_written(every) == ["a", "b\n\udcff"]
    assert WrittenFiles(folder).as_written(("a", ".json")) == ["a"]
    (folder / "a").write_bytes(b"One")
    (folder / "c").write_bytes(b"one")
    assert WrittenFiles(folder).as_written(every) == ["b\n\udcff"]
    os.remove(folder / "b\n\udcff")
    os.mkfifo(folder / "b\n\udcff")
    assert WrittenFiles(folder).as_written(every) == []


def test_changed(folder):
    (folder / "c").mkdir()
    assert WrittenFiles(folder).changed() == "it holds c, of which there is no record that detect wrote it"
    os.rmdir(folder / "c")
    (folder / "a").write_bytes(b"One")
    assert WrittenFiles(folder).changed() == "a in it was changed since detect wrote it"
    os.remove(folder / "a")
    assert WrittenFiles(folder).changed() == "a in it was removed since detect wrote it"
    os.mkfifo(folder / "a")
    assert WrittenFiles(folder).changed() == "a in it cannot be read (it is no regular file)"


def test_an_emptied_folder_begins_anew(folder):
    for name in ("a", "b\n\udcff"):
        os.remove(folder / name)
    files = WrittenFiles(folder)
    assert files.names == [] and files.changed() == ""
    files.write("z", b"1")
    assert WrittenFiles(folder).names == ["z"]


def test_a_record_that_was_cut_or_is_of_something_else(folder):
    with open(folder / RECORD, "ab") as file:
        file.write(b'\n[1]\n"x"\n{"name": 1}\n{"name": "half')
    files = WrittenFiles(folder)
    files.write("c", b"3")
    again = WrittenFiles(folder)
    assert again.names == ["a", "b\n\udcff", "c"] and again.changed() == ""
    os.remove(folder / RECORD)
    assert WrittenFiles(folder).changed() == "it holds a, of which there is no record that detect wrote it"
    (folder / RECORD).symlink_to(folder / "a")
    with pytest.raises(UserError, match="symbolic link"):
        WrittenFiles(folder).write("z", b"")
