"""What ``check("8.1", fn)`` in a chapter runs: one file of tests a chapter, hidden from the reader until she looks.

A file ``chNN.py`` has a function ``test_1(fn)`` for exercise NN.1, which raises ``AssertionError`` with a sentence
that helps, and ``MUTANTS = {1: [("right", "wrong")]}``: replacements in the printed solution that the test must notice.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np


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
    failed: list[tuple[Exception, str]] = []
    try:
        test(_watched(fn, failed))
    except NotImplementedError:
        print(f"exercise {number}: not written yet")
    except Exception as error:  # whatever a reader's code may raise
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        if failed and failed[-1][0] is error:  # it comes from the reader's function, not from the test
            reason += f" ({type(error).__name__}, when called with {failed[-1][1]})"
        print(f"exercise {number}: not right yet: {reason}")
    else:
        print(f"exercise {number}: right")


def _watched(fn: Any, failed: list[tuple[Exception, str]]) -> Any:
    """Return the function, noting what it raises and what it was called with then; anything else as it is."""
    if not callable(fn):
        return fn

    @functools.wraps(fn)
    def watched(*args: Any, **options: Any) -> Any:
        try:
            return fn(*args, **options)
        except Exception as error:
            case = [*map(_shown, args), *(f"{name}={_shown(value)}" for name, value in options.items())]
            failed.append((error, ", ".join(case) or "nothing"))
            raise

    return watched


def _shown(value: Any) -> str:
    """Return an argument in a few characters: a small array or number as it is, of a larger array its shape."""
    if isinstance(value, np.ndarray):
        numbers = np.round(value, 4) if value.dtype.kind == "f" else value
        return str(numbers.tolist()) if 0 < value.size <= 8 else f"an array of shape {value.shape}"
    if callable(value):
        return "a function"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


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
