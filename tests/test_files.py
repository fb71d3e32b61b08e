"""Files that survive a kill: atomic replacement; what cannot be written or read is named."""

import ast
import errno
import os
from pathlib import Path

import pytest

import mrcnn_np
from mrcnn_np.errors import UserError
from mrcnn_np.files import (
    atomic_write,
    did_you_mean_path,
    only_filled,
    open_own,
    own_folder,
    prepare,
    prepare_file,
    read_bytes,
    read_json,
    remove_leftovers,
    write_json,
)


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


def test_folders_that_stay_empty_go_again(tmp_path):
    """But not those that were there before, nor what is in them."""
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="it fails"), only_filled():
        for folder in ("there", "a/b", "c/d", "c/e"):
            prepare(tmp_path / folder)
        (tmp_path / "c" / "e" / "file").write_text("x")
        raise UserError("it fails")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["c", "c/e", "c/e/file", "there"]


def test_prepare_finds_a_read_only_folder(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(UserError, match="Permission denied"):
        prepare(folder)


# --- links, devices, leftovers


def test_a_link_is_replaced_and_never_followed(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "out").mkdir()
    for name in ("a.bin", ".a.bin.tmp", ".writable.tmp"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "victim")
    prepare(tmp_path / "out")
    prepare_file(tmp_path / "out" / "a.bin")
    atomic_write(tmp_path / "out" / "a.bin", b"new")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"new" and not (tmp_path / "out" / "a.bin").is_symlink()


def test_the_temporary_name_cannot_be_guessed_and_is_created(tmp_path, monkeypatch):
    """Whoever guesses it all the same, and puts a link there, gets an error."""
    names, real = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (names.append(os.fspath(a)), real(a, b)))
    for _ in range(3):
        atomic_write(tmp_path / "a.bin", b"new")
    assert len(set(names)) == 3
    monkeypatch.setattr("mrcnn_np.files.secrets.token_hex", lambda n: "0" * 2 * n)
    (tmp_path / "victim").write_text("mine")
    (tmp_path / f".mrcnn-np.{16 * '0'}.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="File exists"):
        atomic_write(tmp_path / "a.bin", b"new")
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_name_as_long_as_names_can_be(tmp_path):
    path = tmp_path / ("x" * 255)
    prepare_file(path)
    atomic_write(path, b"new")
    assert os.listdir(tmp_path) == ["x" * 255]


def test_modes_are_those_of_any_new_file(tmp_path):
    atomic_write(tmp_path / "a.bin", b"")
    (tmp_path / "b.bin").write_bytes(b"")
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "b.bin").stat().st_mode


@pytest.mark.parametrize("write", [lambda path: atomic_write(path, b""), prepare_file])
def test_pipes_devices_and_folders_are_no_files(tmp_path, write):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name, reason in (("pipe", "no regular file"), ("folder", "it is a folder"), ("link", "it is a folder")):
        with pytest.raises(UserError, match=f"cannot write .*{name}: .*{reason}"):
            write(tmp_path / name)
    if os.path.exists("/dev/null"):
        with pytest.raises(UserError, match="no regular file"):
            write(Path("/dev/null"))
    assert sorted(os.listdir(tmp_path)) == ["folder", "link", "pipe"]


def test_a_file_that_grows_is_no_link_and_no_device(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("link", "symbolic link"), ("dangling", "symbolic link"), ("pipe", "no regular file")):
        with pytest.raises(OSError, match=reason):
            open_own(tmp_path / name)
    assert (tmp_path / "victim").read_text() == "mine" and not (tmp_path / "nowhere").exists()
    for keep, content in ((True, b"a"), (True, b"ab"), (False, b"c")):
        with open_own(tmp_path / "file", keep=keep) as file:
            file.write(content[-1:])
        assert (tmp_path / "file").read_bytes() == content


def test_a_folder_of_ours_is_no_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("x")
    own_folder(tmp_path / "new")
    own_folder(tmp_path / "new")
    for name in ("link", "file"):
        with pytest.raises(UserError, match=f"cannot write into .*{name}"):
            own_folder(tmp_path / name)


def test_leftovers_of_a_kill_go_and_nothing_else(tmp_path):
    old, young = (tmp_path / f".mrcnn-np.{c * 16}.tmp" for c in "ab")
    for path in (old, young, tmp_path / ".mine.tmp", tmp_path / "a.tmp"):
        path.write_text("half")
    os.utime(old, (0, 0))
    prepare(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".mine.tmp", young.name, "a.tmp"]
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".mine.tmp", "a.tmp"]


def test_reading_ends(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 11)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    assert read_bytes(tmp_path / "large", most=11) == b"x" * 11
    for name, reason in (("large", "more than 10 bytes"), ("pipe", "no regular file"), ("device", "no regular file")):
        with pytest.raises(UserError, match=f"cannot read .*{name}: .*{reason}"):
            read_bytes(tmp_path / name, most=10)


def test_json_is_checked(tmp_path):
    write_json(tmp_path / "a.json", {"steps": "5"})
    with pytest.raises(UserError, match=r"a\.json\['steps'\] is '5'; expected a whole number"):
        read_json(tmp_path / "a.json", {"steps": int})
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"a\.json is not JSON"):
        read_json(tmp_path / "a.json")


def test_a_name_that_cannot_be_one(tmp_path):
    for use in (prepare, prepare_file, lambda p: atomic_write(p, b""), read_bytes):
        with pytest.raises(UserError, match="null"):
            use(Path(f"{tmp_path}/a\0b"))


# --- whatever the package writes

ROOT = Path(mrcnn_np.__file__).parents[1]
#: calls that write, and are not those of files.py, with why they may
ALLOWED = {
    "mrcnn_np/data/shapes.py": "into a folder that it has just made by mkdtemp",
    "mrcnn_np/data/unpacking.py": "into a folder that it has just made by mkdtemp",
    "mrcnn_np/data/download.py: extractall": "into a folder that it has just made",
    "mrcnn_np/data/well_known.py: extractall": "into a folder that it has just made",
    "mrcnn_np/bench/timing.py": "to the system: /proc/self/clear_refs",
    "kernels/cpu/machine/once.py": "files that are locked, and stay empty, in the folder of compiled kernels",
    "mrcnn_np/cli/ranks.py": "to the null device: what ranks but the first would print",
}
#: methods that write to a path, or to something in memory where the argument is one of these names
METHODS = {"write_text", "write_bytes", "savefig", "save", "tofile", "touch", "extractall", "savez", "symlink_to"}
IN_MEMORY = {"file", "png", "out", "content"}


def writers(source):
    """Yield the name and the line of every call that may write to a path."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if method else getattr(node.func, "id", "")
        texts = [a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)]
        memory = any(isinstance(a, ast.Name) and a.id in IN_MEMORY for a in node.args)
        returns = method and name == "save" and "safetensors" in ast.unparse(node.func)  # bytes
        modes = [t for t in texts if isinstance(t, str) and len(t) < 4 and set(t) & set("wax+")]
        opens = name in ("open", "File") and modes and not memory
        creates = name in ("mkstemp", "NamedTemporaryFile") or (name == "open" and "O_CREAT" in ast.unparse(node))
        if opens or creates or (method and name in METHODS and not memory and not returns):
            yield name, node.lineno


def test_nothing_is_written_past_this_module():
    found = []
    for path in sorted([*(ROOT / "mrcnn_np").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]):
        place = path.relative_to(ROOT).as_posix()
        for name, line in writers(path.read_text()):
            if place not in ALLOWED and f"{place}: {name}" not in ALLOWED and place != "mrcnn_np/files.py":
                found.append(f"{place}:{line} {name}")
    assert not found
    # the sweep itself sees them
    code = "open(p, 'w'); p.write_text(x); f.savefig(p); im.save(p); np.savez(p, a); open(p, mode='ab+')"
    assert [name for name, _ in writers(code)] == ["open", "write_text", "savefig", "save", "savez", "open"]
    assert not list(writers("open(p); open(p, 'rb'); im.save(png, format='png'); safetensors.numpy.save(t)"))


def test_a_wrong_path_names_what_lies_beside_it(tmp_path, monkeypatch):
    (tmp_path / "holiday").mkdir()
    assert did_you_mean_path(tmp_path / "holidays") == f"; did you mean {str(tmp_path / 'holiday')!r}?"
    assert did_you_mean_path(tmp_path / "zzz") == did_you_mean_path(tmp_path / "no" / "holidays") == ""
    assert did_you_mean_path("lableme", ["voc", "labelme"]) == "; did you mean 'labelme'?"
    assert did_you_mean_path("a\0b/x") == ""
    monkeypatch.chdir(tmp_path)
    assert did_you_mean_path("holidays") == "; did you mean 'holiday'?"
