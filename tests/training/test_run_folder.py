"""Files that survive a kill: atomic replacement, step logs that are cut back, the lock."""

import errno
import os
import subprocess
import sys

import pytest

from mrcnn_np.errors import CheckpointError, UserError
from mrcnn_np.training.run_folder import (
    StepLog,
    atomic_write,
    clear,
    locked,
    prepare,
    read_json,
    read_steps,
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


def test_prepare_finds_a_read_only_folder(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(UserError, match="Permission denied"):
        prepare(folder)


def test_clear_deletes_only_what_a_run_writes(tmp_path):
    for name in ("metrics.jsonl", "checkpoint.safetensors", "notes.txt"):
        (tmp_path / name).write_text("x")
    clear(tmp_path)
    assert os.listdir(tmp_path) == ["notes.txt"]


def lines(*steps):
    return "".join(f'{{"step": {s}, "loss": {s / 8}}}\n' for s in steps)


@pytest.mark.parametrize(
    ("content", "step", "kept"),
    [
        (lines(1, 2, 3), 3, lines(1, 2, 3)),
        (lines(1, 2, 3), 2, lines(1, 2)),
        (lines(1, 2, 3), 0, ""),
        (lines(1, 2) + '{"step": 3, "lo', 2, lines(1, 2)),
        (lines(1, 2) + '{"step": 3, "loss": 1}', 2, lines(1, 2)),
        ("", 0, ""),
    ],
)
def test_log_is_cut_back_to_the_checkpoint(tmp_path, content, step, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    log = StepLog(path, step=step, complete=True)
    assert path.read_text() == kept
    log.write({"step": step + 1, "loss": (step + 1) / 8})
    log.sync()
    assert path.read_text() == kept + lines(step + 1)
    log.close()
    assert [r["step"] for r in read_steps(path)] == list(range(1, step + 2))


@pytest.mark.parametrize("content", ["", lines(1, 2), lines(1, 2) + "garbage\n" + lines(3), lines(1, 1, 2, 3)])
def test_log_older_than_the_checkpoint_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"ends after step \d, but the checkpoint beside it is at step 3"):
        StepLog(path, step=3, complete=True)
    assert path.read_text() == content


def test_incomplete_log_may_have_gaps(tmp_path):
    path = tmp_path / "timings.jsonl"
    path.write_text(lines(1, 4, 9))
    StepLog(path, step=5, complete=False).close()
    assert path.read_text() == lines(1, 4)


def test_one_training_per_folder(tmp_path):
    code = "import sys, pathlib, mrcnn_np.training.run_folder as r\nwith r.locked(pathlib.Path(sys.argv[1])): pass"
    with locked(tmp_path):
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "another training is writing" in other.stderr
    with locked(tmp_path):
        pass
