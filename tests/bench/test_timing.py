"""Peaks of memory where the system does not tell them, as on Windows: unknown, not an error."""

import builtins
import importlib
import sys

import pytest

from mrcnn_np.bench import markdown, network, presets, timing


@pytest.fixture
def no_memory(monkeypatch):
    """A system without the module ``resource`` and without Linux' files."""
    monkeypatch.setattr(timing, "resource", None)
    monkeypatch.setattr(timing, "STATUS", "/nowhere/status")


def test_a_peak_is_known_here():
    assert timing.peak_mib() > 20


def test_without_linux_the_resource_module_says_it(monkeypatch):
    pytest.importorskip("resource", reason="not on Windows")
    monkeypatch.setattr(timing, "STATUS", "/nowhere/status")
    assert timing.peak_mib() > 20


def test_without_both_it_is_unknown(no_memory):
    timing.reset_peak()
    assert timing.peak_mib() is None
    assert (timing.in_mib(None), timing.in_mib(None, " MiB"), timing.in_mib(12.3, " MiB")) == (
        "unknown", "unknown", "12 MiB",
    )  # fmt: skip


def test_every_module_of_the_bench_imports_without_resource(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # its import fails, as on Windows
    for name in ("timing", "team", "quiet", "network", "presets", "busy", "markdown", "worker", "operations.run"):
        monkeypatch.delitem(sys.modules, f"mrcnn_np.bench.{name}", raising=False)
    assert importlib.import_module("mrcnn_np.bench.timing").resource is None
    for name in ("network", "presets", "busy", "markdown", "worker", "operations.run"):
        importlib.import_module(f"mrcnn_np.bench.{name}")


def test_a_preset_is_measured_without_it(no_memory):
    found = presets.measure_here("tiny", "detect")
    assert found["peak_mib"] is None and found["seconds"] > 0
    measured = {"seconds": 0.5, "peak_mib": None}
    row = {"preset": "tiny", "backbone": "tiny", **found, "train": measured, "detect": measured}
    assert presets.cells(row)[3:] == ("8, 0.50, unknown", "0.50, unknown")


def test_tables_and_lines_say_unknown():
    row = {
        "what": "detect", "preset": "torchvision", "size": [800, 1088], "batch": 1, "threads": 2, "target": 2.5,
        "median": {"cpu": 0.5, "torch": 1.5}, "ratio": 3.0, "peak_mib": {"cpu": None, "torch": None}, "quiet": True,
    }  # fmt: skip
    assert "cpu 0.500 s, memory unknown; torch 1.500 s, memory unknown" in network.describe(row)
    results = {"machine": MACHINE, "network": {"rows": [row]}}
    assert "| detect 800x1088 | – | 0.500 | 1.500 | – | 3.00 | – | unknown | unknown | – |" in markdown.write(results)
    assert [goal.what for goal in markdown.targets(results)] == ["network detect"]  # and no memory to be reached


def test_a_file_that_cannot_be_opened_is_no_error(monkeypatch, no_memory):
    def refused(*args, **kwargs):
        raise PermissionError("no")

    monkeypatch.setattr(builtins, "open", refused)
    timing.reset_peak()
    assert timing.peak_mib() is None


MACHINE = {
    "processor": "a processor", "cores": 2, "vectors": "none", "threads": 2, "system": "a system", "versions": {},
    "date": "today", "two_threads": 1.9,
}  # fmt: skip
