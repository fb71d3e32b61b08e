"""A run's folder survives a kill: step logs that are cut back, the lock."""

import os
import subprocess
import sys

import pytest

from mrcnn_np.errors import CheckpointError
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
