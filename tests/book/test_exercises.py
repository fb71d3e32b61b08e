"""What ``check`` says where an exercise cannot be checked."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture
def exercises():
    """Load the package of the chapters' folder, which is no part of ours."""
    place = Path(__file__).parents[2] / "book" / "exercises" / "__init__.py"
    spec = importlib.util.spec_from_file_location("exercises", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_missing_parts_are_no_mistake_of_the_reader(exercises, monkeypatch, capsys):
    def missing(name):
        raise ModuleNotFoundError("No module named 'naive_roi'")

    monkeypatch.setattr(exercises.importlib, "import_module", missing)
    exercises.check("8.2", lambda: None)
    said = capsys.readouterr().out
    assert "cannot be checked here" in said and "naive_roi" in said and "not right" not in said


def test_import_errors_of_the_reader_are_theirs(exercises, monkeypatch, capsys):
    def solution():
        raise ImportError("No module named 'thing'")

    monkeypatch.setattr(exercises, "_test", lambda number: lambda fn: fn())
    exercises.check("8.2", solution)
    assert "not right yet: No module named 'thing'" in capsys.readouterr().out
