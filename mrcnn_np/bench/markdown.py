"""``bench.md``: what was to be reached, then every table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..tables import markdown_table
from .presets import HEAD as PRESETS_HEAD
from .presets import cells as preset_cells
from .quiet import MARK, QUIET, in_words, mark
from .timeline.page import section as timeline
from .timing import in_mib

Results = dict[str, Any]


class Target(NamedTuple):
    """A figure that is to be reached.

    Attributes
    ----------
    what : str
    target, value : float
    more : bool
        Whether more is better.
    unit : str
    quiet : bool or None
        Whether the machine was quiet; None if it cannot be told.
    """

    what: str
    target: float
    value: float
    more: bool
    unit: str
    quiet: bool | None

    @property
    def verdict(self) -> str:
        """Whether it is reached; nobody knows if the machine was not quiet."""
        if self.quiet is False:
            return "not known"
        reached = self.value >= self.target if self.more else self.value <= self.target
        return "reached" if reached else "**not reached**"


OPS_NOTE = """\
This machine at best, measured in the same run: {peaks}. Arithmetic is counted by the definition of a
convolution; Winograd's does a quarter of the multiplications and can exceed 100 %. Bytes are the least that has to
move; what fits into a cache can exceed 100 % as well. Backward means all gradients together (input and weights).
Errors are against float64, the largest difference over the largest number (for NMS and mask paste: the share of
decisions that differ), for PyTorch the larger of its variants. RoIPool's are large for everyone: it rounds edges to
cells, and some lie so close to a half that float32 and float64 round to different cells. PyTorch's NCHW and
channels_last are its memory formats."""
NETWORK_NOTE = """\
`maskrcnn_resnet50_fpn` with the same random weights, adjusted so that the heads find plenty (91 classes, 1000
proposals). The training step is losses, backward and SGD with 3 objects, batch norm frozen. Memory is the peak of the
whole process while it runs, the model loaded."""
BUSY_NOTE = """\
The preset tiny with two threads and with one, alone (quiet) and beside a program that counts on one core (busy).
Threads that share what is left fairly take 1.33 times as long with one of two cores taken, threads that wait for each
other 2 times, and one thread should not notice."""
DISTURBED = """\
†: the machine was not quiet. Around this row two threads reached less than {quiet:g} times the peak of one, so another
program had one of the cores: the figure says more about that program than about these."""


def write(results: Results) -> str:
    """Return the whole document."""
    parts = [_head(results["machine"])]
    goals = list(targets(results))
    if goals:
        parts.append("## Targets\n\n" + _targets(goals))
    for name, section in SECTIONS.items():
        if name in results:
            parts.append(section(results[name]))
            if MARK in parts[-1]:
                parts.append(DISTURBED.format(quiet=QUIET))
    return "\n\n".join(parts) + "\n"


def targets(results: Results) -> Iterator[Target]:
    """Yield every figure that is to be reached and was measured."""
    ops = results.get("ops", {"rows": [], "means": []})
    for mean in ops["means"]:
        name = f"{mean['group']} {mean['direction']}, geometric mean of {mean['rows']}"
        yield Target(name, mean["target"], mean["ratio"], True, "", mean["quiet"])
    for row in ops["rows"]:
        if row["target"] and row["ratio"] is not None:
            name = f"{row['group']} {row['case']} {row['direction']}"
            yield Target(name, row["target"], row["ratio"], True, "", row["quiet"])
    for row in results.get("network", {"rows": []})["rows"]:
        name, peak = f"network {row['what']}", row["peak_mib"]
        if row["ratio"] is not None:
            yield Target(name, row["target"], row["ratio"], True, "", row["quiet"])
            if None not in peak.values():
                least = min(v for k, v in peak.items() if "torch" in k)
                yield Target(f"{name}, peak memory", least, peak["cpu"], False, " MiB", None)
    scaling = results.get("scaling")
    if scaling and len(scaling["threads"]) > 1 and scaling["threads"][-1]["threads"] == 2:
        yield Target("1 -> 2 threads, detect", 1.7, scaling["speedup"]["cpu"], True, "", scaling["quiet"])
    if "start" in results:
        start = results["start"]
        step, warm = start["step"], statistics.median(start["warm_seconds"])
        name = "training step of `make train`, numpy / cpu"
        yield Target(name, 3.0, step["numpy_over_cpu"], True, "", step["quiet"])
        if start["cold_seconds"] is not None:
            yield Target("first start, compiling", 30.0, start["cold_seconds"], False, " s", start["quiet"])
        yield Target("start to first detection", 3.0, warm, False, " s", start["quiet"])


def _head(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        "# Benchmark\n\n"
        f"{machine['processor']}, {machine['cores']} cores, {machine['vectors']}, {machine['threads']} threads for "
        f"everyone; {machine['system']}; {versions}; {machine['date']}. At the beginning: "
        f"{in_words(machine['two_threads'])}.\n\n"
        "Contenders take turns within one run, on the same numbers; times are medians. **Ratio** is the time of the\n"
        "framework, the faster of its variants, over that of our cpu backend: above 1 we are faster. float32\n"
        "throughout."
    )


def _targets(goals: Sequence[Target]) -> str:
    verdicts = [goal.verdict for goal in goals]
    rows = [
        (goal.what, f"{'≥' if goal.more else '≤'} {_number(goal.target)}{goal.unit}",
         f"{_number(goal.value)}{goal.unit}{MARK if goal.quiet is False else ''}", verdict)
        for goal, verdict in zip(goals, verdicts)
    ]  # fmt: skip
    open_ones = verdicts.count("not known")
    unknown = f", {open_ones} not known, because the machine was not quiet (†)" if open_ones else ""
    reached = f"{verdicts.count('reached')} of {len(goals)} reached{unknown}."
    return f"{reached}\n\n" + markdown_table(("what", "target", "measured", ""), rows)


def _ratio(row: Results) -> str:
    """Return the ratio of a row, marked if the machine was not quiet."""
    return "–" if row["ratio"] is None else f"{row['ratio']:.2f}{mark(row)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _ms(row: dict[str, Any], name: str) -> str:
    return f"{1e3 * row['median'][name]:.3g}" if name in row["median"] else "–"


def _variants(row: dict[str, Any]) -> str:
    """Return the framework's times, the faster first, each with its variant."""
    times = sorted((t, name.removeprefix("torch").strip()) for name, t in row["median"].items() if "torch" in name)
    return "; ".join(f"{1e3 * t:.3g} {variant}".strip() for t, variant in times) or "–"


def _ops(ops: Results) -> str:
    peaks = "; ".join(
        f"{count} thread{'s' * (count != '1')}: {p['gflops']:.0f} GFLOP/s, {p['gbytes']:.0f} GB/s"
        for count, p in ops["roofline"].items()
    )
    rows = []
    for row in ops["rows"]:
        error = row["error"]
        framework = [error[name] for name in error if "torch" in name]
        rate = "–"
        if row["percent_of_peak"] is not None:
            unit, work = ("GFLOP/s", row["gflop"]) if "gflop" in row else ("GB/s", row["gbytes"])
            rate = f"{work / row['median']['cpu']:.0f} {unit}, {row['percent_of_peak']:.0f} %"
        goal = "–"
        if row["target"]:
            goal = f"≥ {row['target']:g}"
            if row["ratio"] is not None:
                goal += " " + Target("", row["target"], row["ratio"], True, "", row["quiet"]).verdict
        rows.append((
            row["group"], row["case"], row["direction"], _ms(row, "numpy"), _ms(row, "cpu"), _variants(row),
            _ratio(row), goal, rate,
            f"{error['cpu']:.1e}", f"{max(framework):.1e}" if framework else "–", f"{error['numpy']:.1e}",
        ))  # fmt: skip
    head = (
        "operation", "size", "direction", "numpy ms", "cpu ms", "PyTorch ms", "ratio", "target", "cpu achieves",
        "error cpu", "error PyTorch", "error numpy",
    )  # fmt: skip
    means = "".join(
        f"\n\nGeometric mean, {m['group']} {m['direction']}: **{m['ratio']:.2f}**{mark(m)} over {m['rows']} sizes, "
        f"target ≥ {m['target']:g}, {Target('', m['target'], m['ratio'], True, '', m['quiet']).verdict}."
        for m in ops["means"]
    )
    return "## Operations\n\n" + markdown_table(head, rows) + means + "\n\n" + OPS_NOTE.format(peaks=peaks)


def _seconds(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [f"{row['median'][name]:.3f}{mark(row)}" if name in row["median"] else "–" for name in names]


def _network(network: Results) -> str:
    names = ("numpy", "cpu", "torch", "torch channels_last")
    head = ["one image", *(f"{name} s" for name in names), "ratio", *(f"{name} MiB" for name in names)]
    rows, notes = [], []
    for row in network["rows"]:
        memory = [in_mib(row["peak_mib"][name]) if name in row["peak_mib"] else "–" for name in names]
        height, width = row["size"]
        rows.append([f"{row['what']} {height}x{width}", *_seconds(row, names), _ratio(row), *memory])
        if "scores_apart" in row:
            counts = ", ".join(f"{name} {count}" for name, count in row["detections"].items())
            notes.append(f"Detections: {counts}; sorted scores differ by at most {row['scores_apart']:.1e}.")
    return "\n\n".join(["## Network", NETWORK_NOTE, markdown_table(head, rows), *notes])


def _scaling(scaling: Results) -> str:
    names = ("cpu", "numpy", "torch", "torch channels_last")
    head = ["", *(f"{name} s" for name in names), "ratio"]
    parts = ["## Scaling"]
    for title, key, label in (
        ("detect by image size", "area", lambda r: f"{r['size'][0]}x{r['size'][1]}"),
        ("detect by threads", "threads", lambda r: f"{r['threads']} thread" + "s" * (r["threads"] > 1)),
        ("training step of the preset tiny by images in the batch", "batch", lambda r: f"{r['batch']}"),
    ):
        rows = [[label(r), *_seconds(r, names), _ratio(r)] for r in scaling[key]]
        parts.append(f"{title[0].upper()}{title[1:]}:\n\n" + markdown_table(head, rows))
    if len(scaling["threads"]) > 1:
        speedup = ", ".join(f"{name} {value:.2f}" for name, value in scaling["speedup"].items())
        parts.append(f"Speed-up from 1 to {scaling['threads'][-1]['threads']} threads: {speedup}{mark(scaling)}.")
    return "\n\n".join(parts)


def _start(start: Results) -> str:
    step = start["step"]
    cold = f"{start['cold_seconds']:.1f} s{mark(start)}" if start["cold_seconds"] is not None else "not measured"
    warm = statistics.median(start["warm_seconds"])
    return (
        "## Start\n\n"
        f"- training step of the preset tiny, {step['batch']} images: numpy {step['median']['numpy']:.3f} s, "
        f"cpu {step['median']['cpu']:.3f} s, numpy / cpu {step['numpy_over_cpu']:.2f}{mark(step)}\n"
        f"- first start, with everything to compile that `train` and `detect` need: {cold}\n"
        f"- start to first detection by the preset tiny, compiled before: {warm:.2f} s{mark(start)}"
    )


def _busy(busy: Results) -> str:
    rows = [
        (
            f"{row['what']}, {row['batch']} image" + "s" * (row["batch"] > 1), row["layer"], str(row["threads"]),
            f"{row['median']['quiet']:.3f}{mark(row)}", f"{row['median']['busy']:.3f}",
            f"{row['ratio']:.2f}{mark(row)}",
        )
        for row in busy["rows"]
    ]  # fmt: skip
    missing = [f"Not available here: {layer} ({why})." for layer, why in busy["missing"].items()]
    head = ("step of tiny", "threading layer", "threads", "quiet s", "busy s", "busy / quiet")
    return "\n\n".join(["## Beside a busy core", BUSY_NOTE, markdown_table(head, rows), *missing])


def _presets(found: Results) -> str:
    rows = [(row["backend"], *preset_cells(row)) for row in found["rows"]]
    return "## Presets\n\n" + markdown_table(("backend", *PRESETS_HEAD), rows)


SECTIONS: dict[str, Callable[[Results], str]] = {
    "ops": _ops, "network": _network, "scaling": _scaling, "start": _start, "busy": _busy, "presets": _presets,
    "timeline": timeline,
}  # fmt: skip
