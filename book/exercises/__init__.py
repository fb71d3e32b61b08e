"""What ``check("8.1", fn)`` in a chapter runs: one file of tests a chapter, hidden from the reader until she looks.

A file ``chNN.py`` has a function ``test_1(fn)`` for exercise NN.1, which raises ``AssertionError`` with a sentence
that helps, and ``MUTANTS = {1: [("right", "wrong")]}``: replacements in the printed solution that the test must notice.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def check(number: str, fn: Any) -> None:
    """Say whether a reader's function solves an exercise.

    Parameters
    ----------
    number : str
        Chapter and exercise, ``"8.1"``.
    fn : callable or value
        What the exercise asks for.
    """
    try:
        test = _test(number)
    except ImportError as error:  # of what the tests need, not of what the reader wrote
        print(f"exercise {number}: cannot be checked here ({error}); `make lab` installs what is missing")
        return
    try:
        test(fn)
    except NotImplementedError:
        print(f"exercise {number}: not written yet")
    except Exception as error:  # whatever a reader's code may raise
        reason = str(error).strip().splitlines()
        print(f"exercise {number}: not right yet: {reason[0] if reason else type(error).__name__}")
    else:
        print(f"exercise {number}: right")


def mutants(number: str) -> list[tuple[str, str]]:
    """Return the replacements in the printed solution that the test of an exercise must notice."""
    chapter, exercise = number.split(".")
    module = importlib.import_module(f"exercises.ch{int(chapter):02d}")
    return list(module.MUTANTS.get(int(exercise), []))


def _test(number: str) -> Callable[[Any], None]:
    chapter, exercise = number.split(".")
    module = importlib.import_module(f"exercises.ch{int(chapter):02d}")
    test: Callable[[Any], None] = getattr(module, f"test_{exercise}")
    return test
