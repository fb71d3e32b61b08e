"""The benchmark: that it runs, at small sizes, and that what it writes is consistent. No time is judged here."""

import subprocess
import sys

import numpy as np
import pytest
from bench_results import bench, check_quiet, check_times

from mrcnn_np.bench import chart, markdown, timing
from mrcnn_np.bench.operations.rows import MEANS, rows
from mrcnn_np.cli.main import main


def test_interleave_takes_turns_and_keeps_the_first_results():
    calls = []

    def contender(name):
        def run():
            calls.append(name)
            timing.time.sleep(timing.SHORT)  # long enough not to be repeated
            return name.upper()

        return run

    kept = {}
    seconds = timing.interleave(
        {name: contender(name) for name in "ab"},
        repeat=2,
        rest=0.0,
        keep=lambda name, result: kept.update({name: result}),
    )
    assert calls == ["a", "b"] * 3 and kept == {"a": "A", "b": "B"}
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_relative_error():
    exact = [np.array([1.0, -4.0]), np.array([True, False]), np.array([3, 1])]
    assert timing.relative_error(exact, exact) == 0
    assert timing.relative_error([np.array([1.0, -3.0])], exact[:1]) == 0.25
    assert timing.relative_error([np.array([True, True])], exact[1:2]) == 0.5
    assert timing.relative_error([np.array([3])], exact[2:]) == 0.5
    assert timing.relative_error([np.zeros((0, 4))], [np.zeros((0, 4))]) == 0


def test_peak_memory_grows_with_what_is_held():
    # in a process of its own: this one may hold freed memory that an array then reuses
    lines = [
        "import numpy as np",
        "from mrcnn_np.bench import timing",
        "timing.reset_peak()",
        "before = timing.peak_mib()",
        "np.ones(8 << 20)",
        "print(timing.peak_mib() - before)",
    ]
    done = subprocess.run([sys.executable, "-c", "; ".join(lines)], capture_output=True, text=True, check=True)
    assert 50 < float(done.stdout) < 100  # 64 MiB


def test_operations_have_the_sizes_that_are_asked_for():
    found = list(rows())
    winograd = [op.case for op in found if (op.group, "forward") in MEANS]
    assert winograd == [
        "64@200x272", "128@100x136", "256@50x68", "512@25x34", "256@200x272", "256@14x14x100",
    ]  # fmt: skip
    assert found[0].gflop["forward"] == pytest.approx(2e-9 * 200 * 272 * 9 * 64 * 64)
    assert len(found) == len(list(rows(quick=True)))


def test_our_own_operations(tmp_path, capsys):
    results = bench(tmp_path, "--only", "ops", "--without-torch", "--match", "RoI")
    printed = capsys.readouterr().out
    assert "no ratios" in printed and "two threads reach" in printed and "bench.png" not in printed
    assert not (tmp_path / "bench.png").exists()
    assert [row["case"] for row in results["ops"]["rows"]]
    for row in results["ops"]["rows"]:
        check_times(row)
        assert set(row["seconds"]) == set(row["error"]) == {"numpy", "cpu"}
    assert set(results["ops"]["roofline"]) == {"1"}


def test_start(tmp_path):
    results = bench(tmp_path, "--only", "start", "--without-torch")
    start = results["start"]
    check_times(start["step"])
    check_quiet(start)
    assert start["step"]["numpy_over_cpu"] > 0
    assert start["cold_seconds"] is None and start["warm_seconds"][0] > 0


def test_chart_and_targets_without_ratios(tmp_path):
    assert chart.draw(tmp_path / "none.png", {"machine": {}}) is None
    assert list(markdown.targets({})) == []


def test_presets(tmp_path, capsys):
    (row,) = bench(tmp_path, "--only", "presets", "--without-torch")["presets"]["rows"]
    check_quiet(row)
    assert (row["preset"], row["backbone"], row["backend"]) == ("tiny", "tiny", "cpu")
    for what in ("train", "detect"):
        assert row[what]["seconds"] > 0 and row[what]["peak_mib"] > 50
    capsys.readouterr()
    done = subprocess.run(
        [sys.executable, "-m", "mrcnn_np.bench.presets", "tiny"], capture_output=True, text=True, check=True
    )
    head, rule, line = done.stdout.splitlines()
    assert head.startswith("| preset | backbone |") and rule == "|---|---|---|---|---|"
    assert line.startswith(f"| tiny | tiny | {row['parameters']:,} | 8, ")


def test_a_preset_that_does_not_exist():
    done = subprocess.run([sys.executable, "-m", "mrcnn_np.bench.presets", "huge"], capture_output=True, text=True)
    assert done.returncode == 2 and "no preset 'huge'; expected some of tiny, small" in done.stderr


def test_warmup(capsys):
    assert main(["warmup", "--preset", "tiny"]) == 0
    assert "is warm after" in capsys.readouterr().out
    assert main(["warmup", "--preset", "tiny", "--quiet"]) == 0
    assert "compiled already" in capsys.readouterr().out  # and the second time nothing is left to do
