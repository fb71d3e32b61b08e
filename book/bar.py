"""The bar: what every chapter must hold, counted in its notebook."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrcnn_np.tables import markdown_table

#: what is counted: (heading, least, most); None is no bound
BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "words": (2000, 3500),
    "code lines": (None, 300),
    "longest cell": (None, 25),
    "asserts": (8, None),
    "exercises": (4, None),
    "figures": (4, None),
    "recall": (10, 20),
    "break it": (1, None),
    "four ways": (1, None),
    "kB": (None, 300),
    "largest figure kB": (None, 60),
    "seconds": (None, 90),
}

#: chapters that derive no operation of the package, so that there is nothing to compare as loop, NumPy, Numba and CUDA:
#: the first tours the network, the last lets chains of operations from the others go backwards
NO_OPERATION = ("00", "12")


@dataclass
class Row:
    """What was counted in one chapter."""

    name: str
    values: dict[str, float | None]


def count(text: Path, notebook: dict[str, Any], seconds: float | None) -> tuple[Row, list[str]]:
    """Count what one chapter holds.

    Parameters
    ----------
    text : Path
        Of the chapter.
    notebook : dict
        Its notebook, as JSON.
    seconds : float, optional
        How long it took to execute, where that was done.

    Returns
    -------
    row : Row
    missing : list of str
        What does not reach the bar.
    """
    prose = "\n".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown")
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    tags = [tag for c in notebook["cells"] for tag in c["metadata"].get("tags", [])]
    figures = [value for c in notebook["cells"] for o in c.get("outputs", []) for value in _pictures(o)]
    lines = [line for cell in code for line in cell.splitlines() if line.strip() and not line.strip().startswith("#")]
    values: dict[str, float | None] = {
        "words": len(
            re.findall(r"[A-Za-z][A-Za-z'’-]*", re.sub(r"```.*?```|\$[^$]*\$|`[^`]*`", " ", prose, flags=re.S))
        ),
        "code lines": len(lines),
        "longest cell": max((len(cell.splitlines()) for cell in code), default=0),
        "asserts": len(
            re.findall(r"^\s*(?:assert\b|np\.testing\.assert|(?:\w+ = )?ledger\.expect)", "\n".join(code), flags=re.M)
        ),
        "exercises": sum(tag.startswith("exercise-") for tag in tags),
        "figures": len(figures),
        "recall": len(re.findall(r"<details><summary>Q\d+", prose)),
        "break it": sum(tag == "break-it" for tag in tags),
        "four ways": sum(len(re.findall(r"\b(?:on_both|simulated)\(", cell)) for cell in code),
        "kB": text_size(notebook),
        "largest figure kB": round(max((len(f) * 3 / 4 / 1000 for f in figures), default=0)),
        "seconds": None if seconds is None else round(seconds, 1),
    }
    missing = []
    for name, (least, most) in BOUNDS.items():
        value = values[name]
        if name == "four ways" and text.name.startswith(NO_OPERATION):
            continue
        if value is not None and least is not None and value < least:
            missing.append(f"{name}: {value:g}; the bar is at least {least:g}")
        if value is not None and most is not None and value > most:
            missing.append(f"{name}: {value:g}; the bar is at most {most:g}")
    for number, cell in enumerate(notebook["cells"]):
        drawn = any(_pictures(output) for output in cell.get("outputs", []))
        if drawn and not cell["metadata"].get("mystnb", {}).get("image", {}).get("alt"):
            missing.append(f"the figure of cell {number} has no text for those who cannot see it")
        if any(
            output["output_type"] == "execute_result" and set(output["data"]) == {"text/plain"}
            for output in cell.get("outputs", [])
        ):
            missing.append(f"cell {number} shows the value of its last line, which nobody asked for: _ = ...")
    return Row(text.stem, values), missing


def text_size(notebook: dict[str, Any]) -> float:
    """Return the size of the notebook's file in kB, nearly."""
    return round(len(json.dumps(notebook, indent=1, ensure_ascii=False).encode()) / 1000)


def _pictures(output: dict[str, Any]) -> list[str]:
    return ["".join(value) for kind, value in (output.get("data") or {}).items() if kind == "image/png"]


def table(rows: list[Row]) -> str:
    """Return the table that ``check`` prints."""
    header = ["chapter", *BOUNDS]
    body = [[row.name, *("-" if row.values[k] is None else f"{row.values[k]:g}" for k in BOUNDS)] for row in rows]
    return markdown_table(header, body)
