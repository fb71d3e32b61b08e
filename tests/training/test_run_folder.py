"""A run's folder survives a kill: step logs that are cut back, the lock."""

import os
import re
import subprocess
import sys

import pytest

from mrcnn_np.errors import CheckpointError, UserError
from mrcnn_np.training.run_folder import StepLog, clear, locked, read_steps


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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"step": 2, "loss": "0.5"}', "['loss'] is '0.5'; expected a finite number"),
        ('{"step": 2, "loss": 1e999}', "['loss'] is inf; expected a finite number"),
        ('{"step": 2, "loss": NaN}', "['loss'] is nan"),
        ('{"step": "2"}', "['step'] is '2'; expected a whole number from 1 on"),
        ('{"step": 0}', "['step'] is 0"),
        ('{"step": true}', "['step'] is True"),
        ('{"loss": 1}', " lacks 'step'"),
        ("[2]", " is a list of 1; expected an object"),
        ('{"step": 2, "a": {"b": [{}]}}', "['a'] is a dict of 1"),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_a_line_that_holds_something_else_is_named(tmp_path, line, message, complete):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1) + line + "\n" + lines(3))
    for read in (lambda: StepLog(path, step=3, complete=complete), lambda: read_steps(path)):
        with pytest.raises(CheckpointError, match=f"line 2 of .*metrics.jsonl{re.escape(message)}"):
            read()
    assert path.read_text() == lines(1) + line + "\n" + lines(3)
    for step in (0, 1):  # later lines are cut off, whatever they hold
        StepLog(path, step=step, complete=True).close()
        assert path.read_text() == lines(*range(1, step + 1))
        path.write_text(lines(1) + line + "\n")


@pytest.mark.parametrize("content", ["[" * 100_000 + "\n", "0" * 10**7, "\0" * 10**6])
def test_no_line_is_too_much(tmp_path, content):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1) + content)
    assert [r["step"] for r in read_steps(path)] == [1]
    StepLog(path, step=5, complete=False).close()
    assert path.read_text() == lines(1)


def test_a_log_is_no_link_and_no_device(tmp_path):
    path = tmp_path / "metrics.jsonl"
    (tmp_path / "victim").write_text("mine")
    for target, reading in (("victim", None), ("/dev/zero", "no regular file")):
        path.symlink_to(target)
        with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: it is a symbolic link"):
            StepLog(path, step=0, complete=True)
        if reading:
            with pytest.raises(UserError, match=reading):
                read_steps(path)
        path.unlink()
    assert (tmp_path / "victim").read_text() == "mine"


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
