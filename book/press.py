"""The press: chapters as text, executed into notebooks, checked, and bound as a site.

::

    python book/press.py build [NN ...]    execute text/NN_name.py and write NN_name.ipynb with its outputs
    python book/press.py check [NN ...]    is every notebook what its text gives? exercises, figures of the bar
    python book/press.py check --full      execute all chapters, also those whose sources did not change
    python book/press.py site              the site in book/_build/html, offline; warnings are errors

A notebook is never edited: it is made from its text. What a reader sees on GitHub or in JupyterLab was computed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
PATHS = [str(BOOK), str(ROOT), str(ROOT / "tests" / "oracles")]  # helpers, the package, the readable loops
sys.path[:0] = PATHS

# One thread for BLAS and the same hash seed everywhere: the same text twice gives the same bytes on one machine
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "2",
    "PYTHONPATH": os.pathsep.join(PATHS),
}


def chapters(names: list[str]) -> list[Path]:
    """Return the texts whose file names begin with one of ``names`` (``["07"]``), or all."""
    texts = sorted((BOOK / "text").glob("[0-9][0-9]_*.py"))
    chosen = [text for text in texts if not names or text.name.startswith(tuple(names))]
    if not chosen:
        sys.exit(f"no chapter begins with {' or '.join(names)}; there are {', '.join(t.stem for t in texts)}")
    return chosen


def notebook_of(text: Path) -> Path:
    """Return where the notebook of a text is."""
    return BOOK / f"{text.stem}.ipynb"


# --- executing ------------------------------------------------------------------------------------------------------


def render(text: Path) -> dict[str, Any]:
    """Execute a text from a clean state and return the notebook, free of everything that differs without a reason."""
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(text)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    }
    os.environ.update(ENVIRONMENT)
    os.environ.pop(
        "VOC_ROOT", None
    )  # chapters show a reader's own data where there is some; what is committed has none
    began = time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(BOOK)}},
    )
    client.execute()
    took = time.perf_counter() - began
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256((cell.cell_type + cell.source).encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell["id"] = f"{digest}-{seen[digest]}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "mystnb")}
        for output in cell.get("outputs", []):
            for kind, value in list((output.get("data") or {}).items()):
                if isinstance(value, str) and kind.startswith("text/"):
                    output["data"][kind] = re.sub(r"0x[0-9a-f]{8,}", "0x...", value)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["mrcnn_np"] = {"sources": sources_digest(text)}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    print(f"  executed {text.stem} in {took:.1f} s", flush=True)
    return {**json.loads(json.dumps(notebook)), "_seconds": took}


def dump(notebook: dict[str, Any]) -> str:
    """Return the file's text."""
    kept = {key: value for key, value in notebook.items() if not key.startswith("_")}
    return json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def sources_digest(text: Path) -> str:
    """Return a digest of what a chapter's outputs come from."""
    total = hashlib.sha256()
    for path in sorted(sources(text)):
        total.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def sources(text: Path) -> set[Path]:
    """Return the files of the project that a chapter's outputs come from.

    Imports are followed from file to file, also those inside functions. The kernels are chosen by name when they run,
    so all of them count.
    """
    static = BOOK / "_static"
    live = [f"{name}{end}" for name in LIVE.findall(text.read_text(encoding="utf-8")) for end in (".js", ".math.js")]
    found = {static / file for file in ([*live, "explorable.js"] if live else [])}
    found.update((ROOT / "kernels").rglob("*.py"))
    data = [BOOK / "exercises" / f"ch{text.name[:2]}.py", BOOK / "network.safetensors"]
    found.update(path for path in data if path.is_file())
    waiting = [text, *(path for path in found if path.suffix == ".py")]
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting += [other for other in _imported(path) if other not in found]
    return found


LIVE = re.compile(r"""explorable\(\s*["'](\w+)["']""")


def _imported(path: Path) -> set[Path]:
    """Return the project's files that a file imports, with the packages that they lie in."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parent.parts[: None if node.level < 2 else 1 - node.level]
            base = ".".join([*(package if node.level else ()), *filter(None, [node.module])])
            names.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
    files = set()
    for name in names:
        parts = name.split(".")
        for n in range(1, len(parts) + 1):
            for folder in map(Path, PATHS):
                stem = folder.joinpath(*parts[:n])
                files.update(file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file())
    return files


# --- comparing ------------------------------------------------------------------------------------------------------

NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?")


def differences(old: dict[str, Any], new: dict[str, Any], *, tolerance: float = 2e-2) -> list[str]:
    """Return where a notebook is not what it should be: other sources, other words, numbers too far apart.

    Words must be equal. Numbers in outputs may differ by ``tolerance`` of the larger one, or by one unit of the last
    digit that is printed: rounding differs between processors. Pictures must exist on both sides; their pixels are
    what Matplotlib's version makes of them.
    """
    found = []
    if [c["source"] for c in old["cells"]] != [c["source"] for c in new["cells"]]:
        return ["its cells are not those of the text"]
    for number, (before, after) in enumerate(zip(old["cells"], new["cells"])):
        a, b = _outputs(before), _outputs(after)
        if [kind for kind, _ in a] != [kind for kind, _ in b]:
            found.append(f"cell {number}: outputs {[k for k, _ in a]}, now {[k for k, _ in b]}")
            continue
        for (kind, x), (_, y) in zip(a, b):
            if kind != "image/png" and not _alike(x, y, tolerance):
                found.append(f"cell {number}: {_first_line_apart(x, y, tolerance)}")
    return found


def _outputs(cell: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":
            rows.append(("stream", "".join(output["text"])))
        for kind, value in sorted((output.get("data") or {}).items()):
            rows.append((kind, "".join(value)))
    return rows


def _alike(x: str, y: str, tolerance: float) -> bool:
    if NUMBER.sub("#", x) != NUMBER.sub("#", y):
        return False
    for a, b in zip(NUMBER.findall(x), NUMBER.findall(y)):
        unit = 10.0 ** -len(a.partition(".")[2]) if "e" not in a.lower() and "." in a else 0.0
        if abs(float(a) - float(b)) > max(unit * 1.01, tolerance * max(abs(float(a)), abs(float(b)))):
            return False
    return True


def _first_line_apart(x: str, y: str, tolerance: float) -> str:
    for a, b in zip(x.splitlines(), y.splitlines()):
        if not _alike(a, b, tolerance):
            return f"{a.strip()[:90]!r} is now {b.strip()[:90]!r}"
    return "another number of lines"


# --- commands -------------------------------------------------------------------------------------------------------


def build(texts: list[Path]) -> int:
    """Write the notebooks."""
    import nbformat

    for text in texts:
        notebook = render(text)
        content = dump(notebook)
        nbformat.validate(json.loads(content))
        notebook_of(text).write_text(content, encoding="utf-8")
        print(f"wrote {notebook_of(text).name}, {len(content.encode()) // 1000} kB")
    return 0


def check(texts: list[Path], *, full: bool) -> int:
    """Compare notebooks with their texts, prove the exercises, count what the bar asks for; print a table."""
    import bar
    import prove

    problems, rows = [], []
    for text in texts:
        path = notebook_of(text)
        if not path.is_file():
            problems.append(f"{path.name} is missing: python book/press.py build {text.name[:2]}")
            continue
        committed = json.loads(path.read_text(encoding="utf-8"))
        changed = committed["metadata"].get("mrcnn_np", {}).get("sources") != sources_digest(text)
        seconds = None
        if full or changed:
            fresh = render(text)
            seconds = fresh["_seconds"]
            problems += [f"{path.name}: {line}" for line in differences(committed, fresh)]
        problems += [f"{path.name}: {line}" for line in prove.exercises_of(committed)]
        row, missing = bar.count(text, committed, seconds)
        rows.append(row)
        problems += [f"{path.name}: {line}" for line in missing]
    print(bar.table(rows))
    for line in problems:
        print(f"error: {line}", file=sys.stderr)
    return 1 if problems else 0


def reference(texts: list[Path]) -> str:
    """Return the page with the docstrings of everything that the chapters import from the package."""
    used: dict[str, set[str]] = {}
    for text in texts:
        for node in ast.walk(ast.parse(text.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mrcnn_np."):
                used.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
    lines = ["# What the chapters use", "", "The docstrings of what the chapters import from the package.", ""]
    for module in sorted(used):
        loaded = importlib.import_module(module)
        # only what is explained there: functions and classes at home in this module; constants and modules are not
        own = [name for name in sorted(used[module]) if getattr(getattr(loaded, name), "__module__", None) == module]
        if own:
            kinds = {name: "class" if isinstance(getattr(loaded, name), type) else "function" for name in own}
            directives = [f".. auto{kinds[name]}:: {name}" for name in own]
            lines += [f"## {module}", "", "```{eval-rst}", f".. currentmodule:: {module}", *directives, "```", ""]
    return "\n".join(lines)


def site() -> int:
    """Build the site with Sphinx; a warning is an error."""
    (BOOK / "reference.md").write_text(reference(chapters([])), encoding="utf-8")
    target = BOOK / "_build" / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(BOOK), str(target)]
    code = subprocess.run(command, check=False, env=os.environ | ENVIRONMENT).returncode
    if code == 0:
        print(f"the site is in {(target / 'index.html').relative_to(ROOT)}")
    return code


def main() -> int:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(description="The press of the book.")
    parser.add_argument("command", choices=("build", "check", "site"))
    parser.add_argument("chapters", nargs="*", metavar="NN", help="numbers of chapters (default: all)")
    parser.add_argument("--full", action="store_true", help="check: execute chapters whose sources did not change, too")
    args = parser.parse_args()
    if args.command == "site":
        return site()
    texts = chapters(args.chapters)
    return build(texts) if args.command == "build" else check(texts, full=args.full)


if __name__ == "__main__":
    sys.exit(main())
