"""The step and the detection beside a busy core: that it runs, on every layer there is; no time is judged."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mrcnn_np.bench.busy import DEFAULT, LAYERS, available, busy_core
from mrcnn_np.cli.main import main


def test_a_quick_run(tmp_path, capsys):
    assert main(["bench", "--quick", "--threads", "2", "--only", "busy", "--out", str(tmp_path)]) == 0
    busy = json.loads((tmp_path / "bench.json").read_text())["busy"]
    rows, printed = busy["rows"], capsys.readouterr().out
    layers = [layer for layer in LAYERS if layer not in busy["missing"]]
    assert "workqueue" in layers  # Numba brings it along
    for what in ("train", "detect"):
        found = [(row["layer"].partition(" ")[0], row["threads"]) for row in rows if row["what"] == what]
        assert found == [(DEFAULT, 2), *((layer, 2) for layer in layers), (DEFAULT, 1)]
    for row in rows:
        assert set(row["seconds"]) == {"quiet", "busy"} and min(map(min, row["seconds"].values())) > 0
        assert row["ratio"] == pytest.approx(row["median"]["busy"] / row["median"]["quiet"])
        assert {"quiet", "two_threads", "tries"} <= set(row)
    assert printed.count("busy / quiet") == len(rows)
    assert (tmp_path / "bench.md").read_text().count("| train, 2 images |") == len(rows) // 2


def test_layers_that_are_not_there_say_why():
    assert available("workqueue") == ""
    assert "unknown to Numba" in available("nonsense")


def is_running(pid):
    """Whether a process is there, and not only its exit code."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().split()[2] != "Z"


def test_a_core_is_busy_within_the_block_only():
    with busy_core() as pid:
        assert is_running(pid)
    assert not is_running(pid)


def test_the_core_is_free_again_when_the_bench_is_killed():
    lines = [
        "import time",
        "from mrcnn_np.bench.busy import busy_core",
        "with busy_core() as pid:",
        "    print(pid, flush=True)",
        "    time.sleep(60)",
    ]
    parent = subprocess.Popen([sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < deadline, "it counts on"
        time.sleep(0.05)
