"""Proof of the exercises: the stub fails, the printed solution passes, a mutant of the solution fails."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import exercises
import numpy as np


def solutions(notebook: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return stub and printed solution of every exercise by its number.

    A stub is a code cell tagged ``exercise-8.1``; its solution is the first Python block of the cell behind it.
    """
    found = {}
    cells = notebook["cells"]
    for i, cell in enumerate(cells):
        for tag in cell["metadata"].get("tags", []):
            if tag.startswith("exercise-"):
                behind = "".join(cells[i + 1]["source"]) if i + 1 < len(cells) else ""
                block = re.search(r"```python\n(.*?)```", behind, re.S)
                found[tag.removeprefix("exercise-")] = ("".join(cell["source"]), block.group(1) if block else "")
    return found


def outcome(number: str, code: str) -> str:
    """Run code in which ``check(number, fn)`` is called, as a reader would, and return what it prints last."""
    # what the chapters import at their top, so that a solution stands by itself
    namespace = {"np": np, "check": exercises.check}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, namespace)
    lines = [line for line in said.getvalue().splitlines() if line.startswith(f"exercise {number}:")]
    return lines[-1] if lines else ""


def exercises_of(notebook: dict[str, Any]) -> list[str]:
    """Return what is wrong with the exercises of a notebook."""
    wrong = []
    for number, (stub, solution) in solutions(notebook).items():
        if not solution:
            wrong.append(f"exercise {number} has no solution behind it")
            continue
        call = re.search(r"^check\(.*\)$", stub, re.M)
        if call is None:
            wrong.append(f"exercise {number}: its cell does not call check")
            continue
        if outcome(number, stub) != f"exercise {number}: not written yet":
            wrong.append(f"exercise {number}: the stub says {outcome(number, stub)!r}")
        if outcome(number, f"{solution}\n{call.group()}") != f"exercise {number}: right":
            wrong.append(f"exercise {number}: the solution says {outcome(number, solution + chr(10) + call.group())!r}")
        mutants = exercises.mutants(number)
        if not mutants:
            wrong.append(f"exercise {number} has no mutant")
        for old, new in mutants:
            mutant = solution.replace(old, new, 1)
            if mutant == solution:
                wrong.append(f"exercise {number}: the mutant changes nothing, {old!r} is not in the solution")
            elif not outcome(number, f"{mutant}\n{call.group()}").startswith(f"exercise {number}: not right yet"):
                wrong.append(f"exercise {number}: nobody notices {new!r} in place of {old!r}")
    return wrong
