"""``bench.md``: what was to be reached, then every table."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from ..tables import markdown_table

Results = dict[str, Any]
#: (what, target, value, whether more is better, unit)
Target = tuple[str, float, float, bool, str]

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


def write(results: Results) -> str:
    """Return the whole document."""
    parts = [_head(results["machine"])]
    goals = list(targets(results))
    if goals:
        parts.append("## Targets\n\n" + _targets(goals))
    for name, section in (("ops", _ops), ("network", _network), ("scaling", _scaling), ("start", _start)):
        if name in results:
            parts.append(section(results[name]))
    return "\n\n".join(parts) + "\n"


def targets(results: Results) -> Iterator[Target]:
    """Yield every figure that is to be reached and was measured."""
    ops = results.get("ops", {"rows": [], "means": []})
    for mean in ops["means"]:
        name = f"{mean['group']} {mean['direction']}, geometric mean of {mean['rows']}"
        yield name, mean["target"], mean["ratio"], True, ""
    for row in ops["rows"]:
        if row["target"] and row["ratio"] is not None:
            yield f"{row['group']} {row['case']} {row['direction']}", row["target"], row["ratio"], True, ""
    for row in results.get("network", {"rows": []})["rows"]:
        name, peak = f"network {row['what']}", row["peak_mib"]
        if row["ratio"] is not None:
            yield name, row["target"], row["ratio"], True, ""
            yield f"{name}, peak memory", min(v for k, v in peak.items() if "torch" in k), peak["cpu"], False, " MiB"
    if "scaling" in results and len(results["scaling"]["threads"]) > 1:
        last = results["scaling"]["threads"][-1]["threads"]
        if last == 2:
            yield "1 -> 2 threads, detect", 1.7, results["scaling"]["speedup"]["cpu"], True, ""
    if "start" in results:
        start = results["start"]
        yield "training step of `make train`, numpy / cpu", 3.0, start["step"]["numpy_over_cpu"], True, ""
        if start["cold_seconds"] is not None:
            yield "first start, compiling", 90.0, start["cold_seconds"], False, " s"
        yield "start to first detection", 3.0, statistics.median(start["warm_seconds"]), False, " s"


def _head(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        "# Benchmark\n\n"
        f"{machine['processor']}, {machine['cores']} cores, {machine['vectors']}, {machine['threads']} threads for "
        f"everyone; {machine['system']}; {versions}; {machine['date']}.\n\n"
        "Contenders take turns within one run, on the same numbers; times are medians. **Ratio** is the time of the\n"
        "framework, the faster of its variants, over that of our cpu backend: above 1 we are faster. float32\n"
        "throughout."
    )


def _verdict(target: float, value: float, more: bool) -> str:
    return "reached" if (value >= target if more else value <= target) else "**not reached**"


def _targets(goals: Sequence[Target]) -> str:
    reached = sum(_verdict(t, v, more) == "reached" for _, t, v, more, _ in goals)
    rows = [
        (name, f"{'≥' if more else '≤'} {_number(t)}{unit}", f"{_number(v)}{unit}", _verdict(t, v, more))
        for name, t, v, more, unit in goals
    ]
    return f"{reached} of {len(goals)} reached.\n\n" + markdown_table(("what", "target", "measured", ""), rows)


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
            goal += f" {_verdict(row['target'], row['ratio'], True)}" if row["ratio"] is not None else ""
        rows.append((
            row["group"], row["case"], row["direction"], _ms(row, "numpy"), _ms(row, "cpu"), _variants(row),
            f"{row['ratio']:.2f}" if row["ratio"] is not None else "–", goal, rate,
            f"{error['cpu']:.1e}", f"{max(framework):.1e}" if framework else "–", f"{error['numpy']:.1e}",
        ))  # fmt: skip
    head = (
        "operation", "size", "direction", "numpy ms", "cpu ms", "PyTorch ms", "ratio", "target", "cpu achieves",
        "error cpu", "error PyTorch", "error numpy",
    )  # fmt: skip
    means = "".join(
        f"\n\nGeometric mean, {m['group']} {m['direction']}: **{m['ratio']:.2f}** over {m['rows']} sizes, target "
        f"≥ {m['target']:g}, {_verdict(m['target'], m['ratio'], True)}."
        for m in ops["means"]
    )
    return "## Operations\n\n" + markdown_table(head, rows) + means + "\n\n" + OPS_NOTE.format(peaks=peaks)


def _seconds(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [f"{row['median'][name]:.3f}" if name in row["median"] else "–" for name in names]


def _network(network: Results) -> str:
    names = ("numpy", "cpu", "torch", "torch channels_last")
    head = ["one image", *(f"{name} s" for name in names), "ratio", *(f"{name} MiB" for name in names)]
    rows, notes = [], []
    for row in network["rows"]:
        memory = [f"{row['peak_mib'][name]:.0f}" if name in row["peak_mib"] else "–" for name in names]
        height, width = row["size"]
        ratio = f"{row['ratio']:.2f}" if row["ratio"] is not None else "–"
        rows.append([f"{row['what']} {height}x{width}", *_seconds(row, names), ratio, *memory])
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
        rows = [
            [label(r), *_seconds(r, names), f"{r['ratio']:.2f}" if r["ratio"] is not None else "–"]
            for r in scaling[key]
        ]
        parts.append(f"{title[0].upper()}{title[1:]}:\n\n" + markdown_table(head, rows))
    if len(scaling["threads"]) > 1:
        speedup = ", ".join(f"{name} {value:.2f}" for name, value in scaling["speedup"].items())
        parts.append(f"Speed-up from 1 to {scaling['threads'][-1]['threads']} threads: {speedup}.")
    return "\n\n".join(parts)


def _start(start: Results) -> str:
    step = start["step"]
    cold = f"{start['cold_seconds']:.1f} s" if start["cold_seconds"] is not None else "not measured"
    warm = statistics.median(start["warm_seconds"])
    return (
        "## Start\n\n"
        f"- training step of the preset tiny, {step['batch']} images: numpy {step['median']['numpy']:.3f} s, "
        f"cpu {step['median']['cpu']:.3f} s, numpy / cpu {step['numpy_over_cpu']:.2f}\n"
        f"- first start, with everything to compile that `train` and `detect` need: {cold}\n"
        f"- start to first detection by the preset tiny, compiled before: {warm:.2f} s"
    )
