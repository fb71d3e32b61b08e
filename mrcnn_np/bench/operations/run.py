"""The table of operations, in this process: every row on every backend, the framework between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kernels import use

from .. import roofline
from ..timing import REST, interleave, relative_error, summarise
from .op import Op
from .rows import MEANS, rows


def run(
    *,
    repeat: int,
    threads: int,
    frameworks: bool,
    quick: bool = False,
    match: str = "",
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure all rows.

    Parameters
    ----------
    repeat : int
        Rounds for each row.
    threads : int
        For everyone; the environment must have told OpenBLAS already.
    frameworks : bool
        Include PyTorch.
    quick : bool
        Small sizes, short rests.
    match : str
        Only rows whose name contains this.
    say : callable
        Gets a line for each finished row.

    Returns
    -------
    dict
        ``roofline``, ``rows``, ``means``.
    """
    if frameworks:
        import torch

        torch.set_num_threads(threads)
    peaks = roofline.measure(threads, quick=quick)
    for count, peak in peaks.items():
        say(f"peak with {count} threads: {peak['gflops']:.0f} GFLOP/s, {peak['gbytes']:.1f} GB/s")
    records: list[dict[str, Any]] = []
    for number, op in enumerate(rows(quick=quick)):
        if match not in f"{op.group} {op.case}":
            continue
        op.prepare(np.random.default_rng(number))
        for direction in op.directions:
            record = measure(op, direction, repeat=repeat, frameworks=frameworks, rest=0.0 if quick else REST)
            record["percent_of_peak"] = _percent(record, peaks[str(threads)])
            records.append(record)
            say(describe(record))
    return {"roofline": peaks, "rows": records, "means": geometric_means(records)}


def measure(op: Op, direction: str, *, repeat: int, frameworks: bool, rest: float) -> dict[str, Any]:
    """Time one direction of one operation and find everyone's error against the float64 reference."""
    with use("numpy"):
        exact = [np.array(a) for a in op.ours(np.float64)[direction]()]
    contenders = {name: _on(name, op, direction) for name in ("numpy", "cpu")}
    if frameworks:
        for variant in op.variants:
            contenders[f"torch {variant}".strip()] = op.theirs(variant)[direction]
    error: dict[str, float] = {}

    def keep(name: str, result: Any) -> None:
        arrays = op.translate(direction, result) if name.startswith("torch") else result
        error[name] = relative_error(arrays, exact)

    seconds = interleave(contenders, repeat=repeat, rest=rest, keep=keep)
    record = {"group": op.group, "case": op.case, "direction": direction, **summarise(seconds), "error": error}
    record["target"] = op.targets.get(direction)
    for name, work in (("gflop", op.gflop), ("gbytes", op.gbytes)):
        if direction in work:
            record[name] = work[direction]
    return record


def _on(backend: str, op: Op, direction: str) -> Callable[[], Any]:
    """Return our function for one backend."""
    with use(backend):
        function = op.ours(np.float32)[direction]

    def call() -> Any:
        with use(backend):
            return function()

    return call


def _percent(record: dict[str, Any], peak: dict[str, float]) -> float | None:
    for work, limit in (("gflop", "gflops"), ("gbytes", "gbytes")):
        if work in record:
            return float(100 * record[work] / record["median"]["cpu"] / peak[limit])
    return None


def geometric_means(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the geometric means of the ratios in the groups that have a target for it."""
    means = []
    for (group, direction), target in MEANS.items():
        ratios = [
            r["ratio"] for r in records if (r["group"], r["direction"]) == (group, direction) and r["ratio"] is not None
        ]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            means.append({"group": group, "direction": direction, "ratio": mean, "rows": len(ratios), "target": target})
    return means


def describe(record: dict[str, Any]) -> str:
    """Return one line about a row."""
    times = ", ".join(f"{name} {1e3 * value:.2f}" for name, value in record["median"].items())
    ratio = f", ratio {record['ratio']:.2f}" if record["ratio"] else ""
    return f"{record['group']} {record['case']} {record['direction']}: {times} ms{ratio}"
