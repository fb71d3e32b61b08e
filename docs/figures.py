"""Rewrite the figures in README.md and docs/ from what the measuring commands wrote: ``make docs-numbers``.

A section stands between ``<!-- numbers:NAME -->`` and ``<!-- end -->``. What it is made of is in ``SECTIONS``: files
that ``mrcnn-np train``, ``bench`` and ``compare`` leave in ``runs/``. A section whose files are missing stays as it
is and is named; so is a file that is measured and used nowhere. Nothing is measured here.

Run ``python docs/figures.py``; ``--runs FOLDER`` takes other measurements, ``--root FOLDER`` rewrites other pages.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mrcnn_np.tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
MARKED = r"(<!-- numbers:{name} -->\n)(.*?)(<!-- end -->)"


class Missing(Exception):
    """A measurement that is not there, or not whole; the text says which."""


class Section(NamedTuple):
    """One marked part of a page, and the function that writes it from the folder of measurements."""

    page: str
    name: str
    write: Callable[[Path], str]


def read(path: Path) -> Any:
    """Return what a JSON file holds."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Missing(f"{path} does not exist") from None
    except ValueError as error:
        raise Missing(f"{path} is no JSON: {error}") from None


def measured_on(machine: dict[str, Any]) -> str:
    """Say on what and when something was measured."""
    return f"Measured on {machine['cores']} cores of {machine['processor']}, {machine['vectors']}, {machine['date']}"


# --- training -------------------------------------------------------------------------------------------------------


def summary(runs: Path, name: str) -> dict[str, Any]:
    """Return the summary of a run that says where it was made."""
    path = runs / name / "summary.json"
    found: dict[str, Any] = read(path)
    if "machine" not in found:
        raise Missing(f"{path} does not say on which machine it was measured: train again")
    return found


def ap(found: dict[str, Any], kind: str, split: str = "val") -> str:
    """Return an average precision of a run, or a dash."""
    value = found.get("evaluation", {}).get(split, {}).get(kind, {}).get("mean_ap")
    return "–" if value is None else f"{value:.3f}"


def train(runs: Path) -> str:
    """Write the README's table: the run of ``make train``."""
    found = summary(runs, "shapes-tiny")
    row = ("compiled kernels (the default)" if found["backend"] == "cpu" else f"{found['backend']} backend",)
    row += (f"**{ap(found, 'mask')}**", ap(found, "box"), f"{found['training_seconds']:.0f} s", peak(found))
    head = (
        f"{found['steps']} steps of {found['batch_size']} images",
        "mask AP50",
        "box AP50",
        "training",
        "peak memory",
    )
    where = f"{measured_on(found['machine'])}, seed {found['seed']}; AP by VOC 2010 rules, IoU 0.5."
    return f"{where}\n\n{markdown_table(head, [row])}\n"


def peak(found: dict[str, Any]) -> str:
    """Return the most memory that a run took."""
    value = found["peak_memory_mib"]["with_evaluation"]
    return "–" if value is None else f"{value:.0f} MiB"


def shapes(runs: Path) -> str:
    """Write the runs on generated shapes, on both backends."""
    rows, where = [], ""
    for name, text in (("shapes-tiny", "`make train`"), ("shapes-numpy", "the same with `--backend numpy`")):
        found = summary(runs, name)
        where = f"{measured_on(found['machine'])}, seed {found['seed']}."
        seconds = f"{found['training_seconds']:.0f} s"
        rows.append(
            (
                text,
                f"{found['steps']} of {found['batch_size']}",
                seconds,
                ap(found, "mask"),
                ap(found, "box"),
                peak(found),
            )
        )
    head = ("run", "steps of images", "training", "mask AP50", "box AP50", "peak memory")
    return f"{where}\n\n{markdown_table(head, rows)}\n"


def voc(runs: Path) -> str:
    """Write the run on Pascal VOC."""
    found = summary(runs, "voc")
    where = f"{measured_on(found['machine'])}, seed {found['seed']}."
    row = (f"{found['images']} images, `--preset {found['preset']}`, {found['steps']} steps of {found['batch_size']}",)
    row += (
        f"{found['training_seconds']:.0f} s",
        *(f"{ap(found, 'mask', s)} ({ap(found, 'box', s)})" for s in ("train", "val")),
    )
    head = ("run", "training", "trained on: mask AP50 (box)", "held out", "peak memory")
    return f"{where}\n\n{markdown_table(head, [(*row, peak(found))])}\n"


def nuclei(runs: Path) -> str:
    """Write the runs of the nuclei's recipe, a seed each: runs/nuclei, runs/nuclei-seed1, ...; with COCO's numbers."""
    rows, where = [], ""
    for folder in sorted(runs.glob("nuclei*")):
        found, coco = summary(runs, folder.name), read(folder / "coco.json")["mask"]
        where = f"{measured_on(found['machine'])}: {found['images']} images trained on, {coco['images']} held out; "
        where += f"{found['steps']} steps of {found['batch_size']}."
        threads = read(folder / "options.json")["threads"]
        seconds = f"{found['training_seconds'] / 60:.1f} min, {threads} thread{'' if threads == 1 else 's'}"
        numbers = (f"{coco[name]:.3f}" for name in ("AP50", "AP75", "AP"))
        rows.append((str(found["seed"]), *numbers, seconds, peak(found)))
    if not rows:
        raise Missing(f"{runs / 'nuclei'} does not exist")
    head = ("seed", "mask AP50", "mask AP75", "COCO mask AP", "training", "peak memory")
    return f"{where}\n\n{markdown_table(head, rows)}\n"


def ablation(runs: Path) -> str:
    """Write what each step of the nuclei's recipe is worth, from ``recipes/ablation.py``."""
    found = read(runs / "ablation" / "ablation.json")
    rows = []
    for name, row in found.items():
        mask = row["coco"]["mask"]
        rows.append((name, f"{mask['AP50']:.3f}", f"{mask['AP75']:.3f}", f"{mask['AP']:.3f}", str(row["steps"])))
    return f"{markdown_table(('step', 'mask AP50', 'mask AP75', 'COCO mask AP', 'steps'), rows)}\n"


# --- the bench ------------------------------------------------------------------------------------------------------


def bench(runs: Path) -> str:
    """Write the summary of the bench: whole networks, then the operations by groups."""
    found = read(runs / "bench" / "bench.json")
    for part in ("ops", "network", "start"):
        if part not in found:
            raise Missing(f"{runs / 'bench' / 'bench.json'} has no section {part}: run `make bench`")
    rows = [_network_row(row) for row in found["network"]["rows"]]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in found["ops"]["rows"]:
        groups.setdefault((row["group"], row["direction"]), []).append(row)
    rows += [_group_row(group, direction, members) for (group, direction), members in groups.items()]
    step = found["start"]["step"]
    ours, theirs = step["median"]["cpu"], step["median"]["numpy"]
    rows.append(
        ("one step of `make train`, over the NumPy backend", f"{ours:.3f} s", f"{theirs:.3f} s", f"{theirs / ours:.1f}")
    )
    versions = ", ".join(f"{name} {version}" for name, version in found["machine"]["versions"].items())
    where = f"{measured_on(found['machine'])}, {found['machine']['threads']} threads for everyone, float32; {versions}."
    cold, warm = found["start"]["cold_seconds"], statistics.median(found["start"]["warm_seconds"])
    starts = f"Start to first detection of the tiny preset: {warm:.1f} s"
    starts += f"; the first start, which compiles: {cold:.0f} s." if cold is not None else "."
    return f"{where}\n\n{markdown_table(('work', 'ours', 'framework', 'ratio'), rows)}\n\n{starts}\n"


def _unquiet(row: dict[str, Any]) -> str:
    return " †" if row.get("quiet") is False else ""


def _network_row(row: dict[str, Any]) -> tuple[str, str, str, str]:
    def cost(name: str) -> str:
        memory = row["peak_mib"].get(name)
        return f"{row['median'][name]:.2f} s" + (f", {memory / 1024:.1f} GiB" if memory else "")

    others = [
        f"{cost(name)} {name.removeprefix('torch').strip() or 'NCHW'}" for name in row["median"] if "torch" in name
    ]
    what = f"`maskrcnn_resnet50_fpn`, one image of {row['size'][0]}×{row['size'][1]}, {row['what']}"
    ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}{_unquiet(row)}"
    return what, cost("cpu"), "; ".join(others) or "–", ratio


def _group_row(group: str, direction: str, members: list[dict[str, Any]]) -> tuple[str, str, str, str]:
    """Write the operations of a group and direction: the range of their times, the geometric mean of their ratios."""
    ours = [1e3 * row["median"]["cpu"] for row in members]
    theirs = [
        1e3 * min(v for k, v in row["median"].items() if "torch" in k) for row in members if row["ratio"] is not None
    ]
    ratios = [row["ratio"] for row in members if row["ratio"] is not None]
    mean = math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None
    ratio = "–" if mean is None else f"{mean:.2f}{max((_unquiet(row) for row in members), key=len)}"
    if len(ratios) > 1:
        ratio += f" ({min(ratios):.2f} to {max(ratios):.2f})"
    sizes = f", {len(members)} sizes" if len(members) > 1 else ""
    return f"{group} {direction}{sizes}", _span(ours), _span(theirs), ratio


def _span(times: list[float]) -> str:
    if not times:
        return "–"
    ends = [f"{t:.3g}" for t in (min(times), max(times))]
    return f"{ends[0]} ms" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} ms"


def presets(runs: Path) -> str:
    """Write time and memory of every preset on the NumPy backend."""
    path = runs / "bench" / "bench.json"
    found = read(path)
    if "presets" not in found:
        raise Missing(f"{path} has no section presets: run `mrcnn-np bench --only presets`")
    rows = []
    for row in found["presets"]["rows"]:
        cost = [f"{row[what]['seconds']:.2f}, {row[what]['peak_mib'] or 0:.0f}" for what in ("train", "detect")]
        cells = (
            row["backend"],
            row["preset"],
            row["backbone"],
            f"{row['parameters']:,}",
            f"{row['images']}, {cost[0]}",
            cost[1],
        )
        rows.append(cells)
    head = (
        "backend",
        "preset",
        "backbone",
        "parameters",
        "training step: images, seconds, peak MiB",
        "detect: seconds, peak MiB",
    )
    return f"{measured_on(found['machine'])}.\n\n{markdown_table(head, rows)}\n"


# --- agreement ------------------------------------------------------------------------------------------------------


def agreement(runs: Path) -> str:
    """Write a row for each comparison that lies in ``runs/agreement``."""
    paths = sorted((runs / "agreement").glob("*/*.json"))
    if not paths:
        raise Missing(f"{runs / 'agreement'} holds no comparison: run `make agreement`")
    rows = []
    for path in paths:
        found = read(path)
        largest = found["facts"].get("largest relative error")
        result = found["verdict"] + (f"; largest relative error {largest}" if largest else "")
        where = found["facts"].get("machine") or found["facts"]["versions"]
        rows.append((path.parent.name, found["title"], result, where))
    return f"{markdown_table(('comparison', 'of', 'result', 'measured on'), rows)}\n"


SECTIONS = (
    Section("README.md", "train", train),
    Section("docs/training.md", "shapes", shapes),
    Section("docs/training.md", "voc", voc),
    Section("docs/recipes.md", "nuclei", nuclei),
    Section("docs/recipes.md", "ablation", ablation),
    Section("docs/benchmarks.md", "bench", bench),
    Section("docs/benchmarks.md", "presets", presets),
    Section("docs/agreement.md", "agreement", agreement),
)


def _literal(text: str) -> str:
    """Keep a text from being read as a pattern's replacement."""
    return text.replace("\\", r"\\")


def rewrite(root: Path, runs: Path) -> list[str]:
    """Rewrite every section whose measurements are there; return a line for each section, what became of it.

    Parameters
    ----------
    root : Path
        Holds README.md and docs/.
    runs : Path
        Holds what the measuring commands wrote.
    """
    said = []
    for page, name, write in SECTIONS:
        path = root / page
        text = path.read_text(encoding="utf-8")
        pattern = re.compile(MARKED.format(name=name), re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise SystemExit(f"error: {page} has {len(pattern.findall(text))} sections numbers:{name}; expected one")
        try:
            body = write(runs)
        except Missing as why:
            said.append(f"left: {page} {name}, because {why}")
            continue
        new = pattern.sub(rf"\g<1>{_literal(body)}\g<3>", text)
        said.append(f"{'rewritten' if new != text else 'unchanged'}: {page} {name}")
        path.write_text(new, encoding="utf-8")
    return said


def main() -> None:
    """Rewrite the pages and say what became of each section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--root", type=Path, default=ROOT)
    args = parser.parse_args()
    print("\n".join(rewrite(args.root, args.runs)))


if __name__ == "__main__":
    main()
