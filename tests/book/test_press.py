"""The press: what it takes for a difference, what it counts, and that it notices an exercise without proof."""

import copy
import importlib
import sys
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[2] / "book"


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BOOK), *sys.path])


def load(name):
    return importlib.import_module(name)


def notebook(*outputs, source="print()"):
    cells = [
        {"cell_type": "code", "source": source, "metadata": {}, "outputs": [{"output_type": "stream", "text": text}]}
        for text in outputs
    ]
    return {"cells": cells, "metadata": {}}


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("loss 0.693", "loss 0.694", True),  # one unit of the last digit
        ("loss 0.693", "loss 0.793", False),
        ("loss 0.693", "gain 0.693", False),
        ("shape (3, 4)", "shape (3, 5)", False),  # whole numbers are shapes and counts
        ("1.20e-03", "1.21e-03", True),
        ("1.20e-03", "1.20e-02", False),
        ("a 1.0", "a 1.0 b", False),
    ],
)
def test_differences(old, new, same):
    assert (load("press").differences(notebook(old), notebook(new)) == []) == same


def test_other_sources_are_a_difference():
    press = load("press")
    assert press.differences(notebook("a"), notebook("a", source="print(1)")) == ["its cells are not those of the text"]


EXERCISE = {
    "cells": [
        {
            "cell_type": "code",
            "metadata": {"tags": ["exercise-8.5"]},
            "outputs": [],
            "source": "def value_at_backward(dy, dplane, y, x):\n    raise NotImplementedError\n\n\n"
            'check("8.5", value_at_backward)',
        },
        {"cell_type": "markdown", "metadata": {}, "source": ""},
    ],
    "metadata": {},
}
SOLUTION = """```python
def value_at_backward(dy, dplane, y, x):
    top, left = int(np.floor(y)), int(np.floor(x))
    ly, lx = y - top, x - left
    bottom, right = min(top + 1, dplane.shape[0] - 1), min(left + 1, dplane.shape[1] - 1)
    dplane[top, left] += (1 - ly) * (1 - lx) * dy
    dplane[top, right] += (1 - ly) * lx * dy
    dplane[bottom, left] += ly * (1 - lx) * dy
    dplane[bottom, right] += ly * lx * dy
```"""


def test_proof_of_an_exercise():
    prove = load("prove")
    good = copy.deepcopy(EXERCISE)
    good["cells"][1]["source"] = SOLUTION
    assert prove.exercises_of(good) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("(1 - ly) * lx * dy", "ly * lx * dy", "the solution says"),
        ("ly * (1 - lx) * dy", "dy * ly * (1 - lx)", "the mutant changes nothing"),
        ("```python", "```", "has no solution"),
    ],
)
def test_an_exercise_without_proof(old, new, complaint):
    bad = copy.deepcopy(EXERCISE)
    bad["cells"][1]["source"] = SOLUTION.replace(old, new)
    assert any(complaint in line for line in load("prove").exercises_of(bad))


def test_a_stub_that_is_solved_already():
    bad = copy.deepcopy(EXERCISE)
    bad["cells"][0]["source"] = SOLUTION.split("\n", 1)[1].rsplit("```", 1)[0] + 'check("8.5", value_at_backward)'
    bad["cells"][1]["source"] = SOLUTION
    assert any("the stub says" in line for line in load("prove").exercises_of(bad))


def test_the_bar_counts():
    bar = load("bar")
    chapter = {
        "cells": [
            {
                "cell_type": "markdown",
                "metadata": {},
                "source": "one two `three` $x$ ```four```\n<details><summary>Q1. Why?",
            },
            {
                "cell_type": "code",
                "metadata": {"tags": ["break-it"]},
                "source": "# a remark\nassert x\nnp.testing.assert_allclose(a, b)\nledger.expect('x', x, ())\n"
                "a, b = on_both(f, x), simulated(g)",
                "outputs": [{"output_type": "display_data", "data": {"image/png": "AAAA"}}],
            },
        ],
        "metadata": {},
    }  # fmt: skip
    row, missing = bar.count(Path("08_roi_align.py"), chapter, 100.0)
    values = row.values
    assert (values["asserts"], values["figures"], values["recall"], values["break it"], values["code lines"]) == (
        3,
        1,
        1,
        1,
        4,
    )
    assert values["four ways"] == 2
    assert any(line.startswith("words") for line in missing) and any(line.startswith("seconds") for line in missing)
    assert any("cannot see it" in line for line in missing)


def test_an_array_that_is_shown_by_accident():
    chapter = {
        "cells": [
            {
                "cell_type": "code",
                "metadata": {},
                "source": "ledger.expect('x', x, ())",
                "outputs": [{"output_type": "execute_result", "data": {"text/plain": "array(1.)"}}],
            }
        ],
        "metadata": {},
    }
    assert any("nobody asked for" in line for line in load("bar").count(Path("08_roi_align.py"), chapter, None)[1])


@pytest.mark.parametrize(("chapter", "asked"), [("00_map.py", False), ("08_roi_align.py", True), ("12_all.py", False)])
def test_a_chapter_without_cuda(chapter, asked):
    cells = [{"cell_type": "code", "metadata": {}, "source": "from helpers import on_both", "outputs": []}]
    _, missing = load("bar").count(Path(chapter), {"cells": cells, "metadata": {}}, None)
    assert ("four ways: 0; the bar is at least 1" in missing) == asked
