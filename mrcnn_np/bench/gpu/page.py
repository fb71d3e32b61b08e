"""The table of docs/gpu.md: what was predicted beside what was measured, row by row.

``python -m mrcnn_np.bench.gpu.page`` writes it from ``docs/gpu-predicted.json`` and ``docs/gpu-measured.json``, the
last measurement. Where that knows nothing of a row, the measured column stays empty.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from ...files import write_text
from ...tables import markdown_table
from .works import SHARE

PAGE, PREDICTED = Path("docs/gpu.md"), Path("docs/gpu-predicted.json")
MEASURED = Path("docs/gpu-measured.json")
MARKED = re.compile(r"(<!-- numbers:gpu -->\n)(.*?)(<!-- end -->)", re.DOTALL)
HEAD = (
    "work",
    "direction",
    "floor: operations / bytes",
    "predicted",
    "predicted ratio",
    "to reach",
    "measured",
    "error",
)
#: what the network is to reach
NETWORK = {"inference": 0.8, "training step": 0.6}
MEANS = ("conv 3x3 stride 1", "conv 1x1")


def table(predicted: dict[str, Any], measured: dict[str, Any] | None) -> str:
    """Return the table in Markdown."""
    rows = [_row(row, measured) for row in predicted["rows"]]
    for group in MEANS:
        for direction in ("forward", "backward"):
            rows.append(_mean(group, direction, predicted["rows"], measured))
    for what, row in predicted["network"].items():
        rows.append(_network(what, row, measured))
    said = "Nothing has been measured yet: there was no GPU. " if measured is None else _measured_on(measured)
    card = predicted["card"]
    facts = (
        f"*Predicted* for the {card['name']}: {card['tflops']} TFLOP/s in float32, {card['tbytes']} TB/s of which a "
        f"copy reaches {card['copy']:.0%}, {card['launch']:g} µs a launch, cuBLAS and cuDNN at {card['library']:.0%} "
        "of the rate. A predicted ratio is their assumed time over ours."
    )
    return f"{said}{facts}\n\n{markdown_table(HEAD, rows)}\n"


def rewrite(measured: dict[str, Any] | None = None) -> None:
    """Put the table into the page; a new measurement is kept beside it."""
    if measured is not None:
        write_text(MEASURED, json.dumps(measured, indent=1) + "\n")
    elif MEASURED.is_file():
        measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    predicted = json.loads(PREDICTED.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    written, count = MARKED.subn(lambda m: m[1] + table(predicted, measured) + m[3], text)
    if count != 1:
        raise ValueError(f"{PAGE} has {count} places for the table; expected one")
    write_text(PAGE, written)


def _row(row: dict[str, Any], measured: dict[str, Any] | None) -> tuple[str, ...]:
    ratio = None if row["library"] is None else row["library"] / row["ours"]
    goal = "" if row["target"] is None else f"≥ {row['target']:g}"
    if row["bandwidth"]:
        goal = f"≥ {SHARE:.0%} of copy"
        share = (row["floors"]["bytes"] or 0) / row["ours"] / 0.9
        return (*_start(row), f"{share:.0%} of copy", goal, *_found(row, measured))
    return (*_start(row), "" if ratio is None else f"{ratio:.2f}", goal, *_found(row, measured))


def _start(row: dict[str, Any]) -> tuple[str, ...]:
    floors = " / ".join("–" if v is None else _ms(v) for v in row["floors"].values())
    return f"{row['group']} {row['case']}", row["direction"], floors, _ms(row["ours"])


def _mean(group: str, direction: str, rows: list[dict[str, Any]], measured: dict[str, Any] | None) -> tuple[str, ...]:
    those = [row for row in rows if row["group"] == group and row["direction"] == direction]
    ratio = geometric_mean(row["library"] / row["ours"] for row in those)
    found = [_ratio(m) for row in those if (m := _match(row, measured)) is not None]
    got = f"{geometric_mean(r for r in found if r):.2f}" if found and all(found) else ""
    return f"**{group}**, geometric mean", direction, "", "", f"{ratio:.2f}", f"≥ {those[0]['target']:g}", got, ""


def _network(what: str, row: dict[str, Any], measured: dict[str, Any] | None) -> tuple[str, ...]:
    floor = f"{row['gflop']:.0f} GFLOP"
    got = ""
    if measured is not None and what in measured.get("network", {}):
        found = measured["network"][what]
        got = ", ".join(f"{name} {_ms(ms)}" for name, ms in found["ms"].items())
        got += "; MiB " + ", ".join(f"{name} {mib}" for name, mib in found["peak_mib"].items())
        if "torch" in found["ms"]:
            got = f"{found['ms']['torch'] / found['ms']['ours']:.2f} ({got})"
    predicted = f"{_ms(row['ours'])} in {row['launches']} launches, {row['memory'] / 2**30:.1f} GiB"
    ratio = f"{row['library'] / row['ours']:.2f}"
    return "`maskrcnn_resnet50_fpn`, 800×1088", what, floor, predicted, ratio, f"≥ {NETWORK[what]:g}", got, ""


def _match(row: dict[str, Any], measured: dict[str, Any] | None) -> dict[str, Any] | None:
    for found in (measured or {}).get("rows", ()):
        if all(found[name] == row[name] for name in ("group", "case", "direction")):
            return dict(found)
    return None


def _ratio(found: dict[str, Any], clock: str = "card_ms") -> float | None:
    theirs = [ms for name, ms in found[clock].items() if name != "ours"]
    return min(theirs) / found[clock]["ours"] if theirs else None


def _found(row: dict[str, Any], measured: dict[str, Any] | None) -> tuple[str, str]:
    """Return the ratio on the card, and in parentheses our time there and as called; and the errors."""
    found = _match(row, measured)
    if found is None:
        return "", ""
    ours = found["card_ms"]["ours"]
    text = f"{_ms(ours)}, as called {_ms(found['ms']['ours'])}"
    if found["bandwidth"] and found["gbytes"] and measured and "ceilings" in measured:
        share = found["gbytes"] / ours * 1e3 / measured["ceilings"]["copy_gbytes"]
        text = f"{share:.0%} of copy; {text}"
    ratio = _ratio(found)
    if ratio is not None:
        called, fast = _ratio(found, "ms"), min(found["tf32_card_ms"].values()) / ours
        text = f"{ratio:.2f} ({text}, {called:.2f}; with TF32 {fast:.2f})"
    return text, " / ".join(f"{error:.0e}" for error in found["errors"].values())


def _measured_on(measured: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    ceilings = measured.get("ceilings")
    best = ""
    if ceilings is not None:
        best = (
            f" In the same run a copy reached {ceilings['copy_gbytes']:.0f} GB/s, PyTorch's product of 8192³ "
            f"{ceilings['tflops']:.1f} TFLOP/s, with TF32 {ceilings['tf32_tflops']:.0f}. The measured ratio is that of "
            "times on the card, where calls follow each other without gaps; *as called* the host takes part. *Error* "
            "is the largest difference from NumPy in float64, relative to the largest number: ours / PyTorch's."
        )
    return f"*Measured* on one {measured['card']}, {measured['date']}, {versions}.{best} "


def _ms(value: float) -> str:
    return f"{value * 1e3:.0f} µs" if value < 1 else f"{value:.2f} ms"


if __name__ == "__main__":
    rewrite()
