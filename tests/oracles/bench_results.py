"""Run a small benchmark and check what every row of its results has to hold."""

import json

import numpy as np
import pytest

from mrcnn_np.bench import markdown
from mrcnn_np.bench.quiet import QUIET
from mrcnn_np.cli.main import main


def bench(out, *options):
    # one thread: two that wait for each other on busy cores take ten times as long
    assert main(["bench", "--quick", "--threads", "1", "--out", str(out), *options]) == 0
    results = json.loads((out / "bench.json").read_text())
    assert (out / "bench.md").read_text() == markdown.write(results)
    assert results["options"]["quick"] and results["machine"]["threads"] == 1
    assert {"processor", "cores", "versions", "date", "two_threads"} <= set(results["machine"])
    return results


def check_times(row):
    """Medians are those of the times, and the ratio that of the medians."""
    for name, times in row["seconds"].items():
        assert times and min(times) > 0
        assert row["median"][name] == pytest.approx(np.median(times))
    theirs = [value for name, value in row["median"].items() if "torch" in name]
    assert row["ratio"] == (pytest.approx(min(theirs) / row["median"]["cpu"]) if theirs else None)
    check_quiet(row)


def check_quiet(row):
    """Every row says whether the machine was quiet around it."""
    figure = row["two_threads"]
    assert row["quiet"] == (None if figure is None else figure >= QUIET) and row["tries"] == 1
