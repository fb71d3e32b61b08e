"""Every kernel for a graphics card says, in one form, what a thread owns, what is shared, why none races, its floor.

Read from the text, so that nothing has to be imported, and no card or compiler has to be there.
"""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ["**Owns:**", "**Shared:**", "**No race:**", "**Floor:**"]


def is_kernel(function):
    """Tell whether a function is under ``@kernel(...)``."""
    called = [decorator.func for decorator in function.decorator_list if isinstance(decorator, ast.Call)]
    return any(isinstance(name, ast.Name) and name.id == "kernel" for name in called)


def kernels_in(tree):
    """Return the kernels of a file, also those that a function makes."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and is_kernel(node)]


@functools.cache
def kernels():
    """Return where each kernel stands, its docstring, and the functions of its file."""
    found = {}
    for path in sorted((ROOT / "kernels" / "cuda").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        for function in kernels_in(tree):
            found[f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"] = function, functions
    return found


def wrong_with(function, functions):
    """Return what a kernel's docstring lacks; one that only says "See ``f``." has that of ``f``."""
    text = " ".join((ast.get_docstring(function) or "").split())
    if text.startswith("See ``") and text.endswith("``."):
        other = functions.get(text[6:-3])
        return wrong_with(other, functions) if other else [f"no {text[6:-3]} in this file"]
    places = [text.find(part) for part in PARTS]
    wrong = [part for part, place in zip(PARTS, places) if text.count(part) != 1 or place == 0]
    said = text.split("**Owns:**")[-1] if not wrong else ""
    wrong += [f"nothing behind {part}" for part in PARTS[1:] if not wrong and not said.partition(part)[2].strip("* ")]
    return wrong or ([] if places == sorted(places) else ["the order"])


def test_all_kernels_are_found():
    """As many as ``@kernel`` stands in the text."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "kernels" / "cuda").rglob("*.py")]
    written = sum(line.strip().startswith("@kernel(") for text in texts for line in text.splitlines())
    assert len(kernels()) == written > 40


@pytest.mark.parametrize("place", kernels())
def test_says_what_it_owns_shares_and_cannot_beat(place):
    assert wrong_with(*kernels()[place]) == []


@pytest.mark.parametrize(
    ("docstring", "wrong"),
    [
        ("Write. **Owns:** a. **Shared:** b. **No race:** c. **Floor:** d.", []),
        ("See ``f``.", []),
        ("See ``g``.", ["no g in this file"]),
        ("Write.", PARTS),
        ("Write. **Owns:** a. **Shared:** b, so there is no race. **Floor:** d.", ["**No race:**"]),
        ("Write. **Owns:** a. **No race:** c. **Shared:** b. **Floor:** d.", ["the order"]),
        ("Write. **Owns:** a. **Shared:** b. **No race:** c. **Floor:**", ["nothing behind **Floor:**"]),
    ],
)
def test_what_is_missing_is_seen(docstring, wrong):
    whole = '"""Make. **Owns:** a. **Shared:** b. **No race:** c. **Floor:** d."""'
    tree = ast.parse(f'def f():\n    {whole}\n\n@kernel("f4")\ndef body():\n    """{docstring}"""')
    (function,) = kernels_in(tree)
    assert wrong_with(function, {"f": tree.body[0]}) == wrong
