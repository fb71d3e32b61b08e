"""Where compiled kernels are kept: only where nobody else can put any, for Numba's index of them is a pickle."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kernels.cpu as cpu
from kernels.cpu.machine import folders
from kernels.cpu.machine.folders import private_folder, temporary_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and modes are those of POSIX")
ROOT = Path(cpu.__file__).parents[2]
OTHER = 54321


def mode(path):
    return path.stat().st_mode & 0o777


def test_what_is_missing_is_made_for_the_owner_alone(tmp_path):
    umask = os.umask(0)
    try:
        folder = private_folder(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(umask)
    assert folder == tmp_path / "a" / "b" / "c"
    assert [mode(p) for p in (folder, folder.parent, folder.parents[1])] == [0o700] * 3
    assert private_folder(folder) == folder


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o777, 0o755, 0o750, 0o720, 0o702])
def test_a_folder_that_others_can_enter(tmp_path, bits):
    folder = tmp_path / "kernels"
    folder.mkdir()
    folder.chmod(bits)
    with pytest.raises(PermissionError, match=r"others can (enter|write into) .*kernels"):
        private_folder(folder)


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o777, 0o775])
def test_a_folder_above_into_which_others_can_write(tmp_path, bits):
    above = tmp_path / "above"
    private_folder(above / "between" / "kernels")
    above.chmod(bits)
    with pytest.raises(PermissionError, match=r"others can write into .*above$"):
        private_folder(above / "between" / "kernels")
    above.chmod(0o1777)  # like /tmp: what is mine there stays mine
    assert mode(private_folder(above / "between" / "kernels")) == 0o700
    above.chmod(0o755)  # others may look at it
    private_folder(above / "between" / "kernels")


def test_links_are_followed_to_where_they_lead_and_looked_at_there(tmp_path):
    disk, home = tmp_path / "disk", tmp_path / "home"
    disk.mkdir()
    home.mkdir(mode=0o700)
    (home / "far").symlink_to(disk)
    (home / "near").symlink_to("far/../disk")
    for link in ("far", "near"):
        if link == "near":
            (home / "disk").symlink_to(disk)
        assert private_folder(home / link / "kernels") == disk / "kernels"
    disk.chmod(0o777)
    with pytest.raises(PermissionError, match=r"others can write into .*disk$"):
        private_folder(home / "far" / "kernels")
    (home / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="too many links"):
        private_folder(home / "loop" / "kernels")
    (home / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is no folder"):
        private_folder(home / "file" / "kernels")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("whose", ["folder", "above", "link"])
def test_a_folder_of_someone_else(tmp_path, whose):
    """As if someone had been in /tmp first."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    folder = private_folder(shared / "above" / "kernels")
    if whose == "link":
        (shared / "link").symlink_to(folder)
        os.chown(shared / "link", OTHER, OTHER, follow_symlinks=False)
        folder = shared / "link"
    else:
        os.chown(folder if whose == "folder" else folder.parent, OTHER, OTHER)
    with pytest.raises(PermissionError, match="belongs to another user"):
        private_folder(folder)


def test_a_temporary_folder_is_new_each_time_and_goes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = temporary_folder(), temporary_folder()
    assert first != second and mode(first) == mode(second) == 0o700
    folders._remove(first, os.getpid() + 1)  # a forked process leaves it to its parent
    assert first.exists()
    for folder in (first, second):
        folders._remove(folder, os.getpid())
        assert not folder.exists()
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="others can replace what is in"):
        temporary_folder()
    tmp_path.chmod(0o1777)
    temporary_folder()


def no_home():
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("why", ["a file", "others can write", "no home"])
def test_without_a_private_folder_kernels_are_kept_for_one_run(tmp_path, monkeypatch, why):
    place, temporary = tmp_path / "place", tmp_path / "temporary"
    temporary.mkdir(mode=0o700)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(place))
    if why == "a file":
        place.touch()
    elif why == "others can write":
        place.mkdir()
        place.chmod(0o777)
    else:
        monkeypatch.delenv("NUMBA_CACHE_DIR")
        monkeypatch.setattr(Path, "home", no_home)
    (temporary / "mrcnn_np").mkdir()  # where kernels were looked for once: anybody could make it
    with pytest.warns(RuntimeWarning, match="kept for this run only"):
        folder, kept = cpu._cache_folder()
    assert not kept and folder.parent == temporary and mode(folder) == 0o700
    assert list(folder.iterdir()) == [] and list((temporary / "mrcnn_np").iterdir()) == []


def test_a_program_without_home_and_name():
    """As in a container with --user: HOME is not set, no entry says where it is; what was kept is gone at the end."""
    code = (
        "import os, pwd\n"
        "def unknown(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = unknown\n"
        "import kernels.cpu, numba; print(numba.config.CACHE_DIR, os.path.isdir(numba.config.CACHE_DIR))"
    )
    variables = {k: v for k, v in os.environ.items() if k not in ("HOME", "NUMBA_CACHE_DIR")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    folder, there = done.stdout.split()
    assert there == "True" and not Path(folder).exists()
    assert Path(folder).name.startswith("mrcnn_np-") and "kept for this run only" in done.stderr


def test_nothing_else_is_read_from_where_others_can_write():
    """A predictable name in a shared folder is anybody's; ``tempfile`` makes names that are not."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ("mrcnn_np", "kernels")
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"gettempdir|[\"']/(var/)?tmp|/dev/shm|mktemp\(", line)
    ]
    assert found == []
