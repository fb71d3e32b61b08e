"""The table of operations, in this process: every row on every backend, the framework between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from kernels import use

from .. import roofline
from ..quiet import Watch, mark, together
from ..timing import REST, interleave, relative_error, summarise
from .op import Op
from .rows import MEANS, rows


def run(
    *,
    repeat: int,
    threads: int,
    frameworks: bool,
    watch: Watch,
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
    watch : Watch
        Says whether the machine was quiet, group by group.
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
    settings: dict[str, Any] = {"repeat": repeat, "frameworks": frameworks, "rest": 0.0 if quick else REST}
    found = ((seed, op) for seed, op in enumerate(rows(quick=quick)) if match in f"{op.group} {op.case}")
    for name, group in groupby(found, key=lambda pair: pair[1].group):
        measured = watch.around(name, partial(_group, list(group), settings))
        for record in measured:
            record["percent_of_peak"] = _percent(record, peaks[str(threads)])
            say(describe(record))
        records += measured
    return {"roofline": peaks, "rows": records, "means": geometric_means(records)}


def _group(group: Iterable[tuple[int, Op]], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Measure operations in all directions; a copy of each draws the inputs, and they are gone when it is."""
    records = []
    for seed, op in group:
        drawn = copy(op)
        drawn.prepare(np.random.default_rng(seed))
        records += [measure(drawn, direction, **settings) for direction in drawn.directions]
    return records


def measure(op: Op, direction: str, *, repeat: int, frameworks: bool, rest: float) -> dict[str, Any]:
    """Time one direction of one operation and find everyone's error against the float64 reference.

    Parameters
    ----------
    op : Op
        With its inputs drawn.
    direction : str
        One of ``op.directions``.
    repeat : int
        Rounds.
    frameworks : bool
        Include PyTorch.
    rest : float
        Seconds before each turn.

    Returns
    -------
    dict
        What it is, ``seconds``, ``median``, ``ratio``, ``error`` by contender, ``target``, ``gflop`` or ``gbytes``.
    """
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
    """Return our function for one backend.

    Parameters
    ----------
    backend : str
    op : Op
    direction : str
    """
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
            means[-1]["quiet"] = together(r for r in records if (r["group"], r["direction"]) == (group, direction))
    return means


def describe(record: dict[str, Any]) -> str:
    """Return one line about a row."""
    times = ", ".join(f"{name} {1e3 * value:.2f}" for name, value in record["median"].items())
    ratio = f", ratio {record['ratio']:.2f}" if record["ratio"] else ""
    return f"{record['group']} {record['case']} {record['direction']}: {times} ms{ratio}{mark(record)}"
