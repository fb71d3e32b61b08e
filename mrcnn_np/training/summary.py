"""What a run leaves at its end: its summary, and its pictures."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..config.presets import base
from ..errors import printable
from ..evaluate import Evaluation
from ..evaluate.split import SplitReport, ap50_of
from ..files import own_folder, write_json, write_text
from ..objective import KEYPOINT_LOSS, LOSSES
from ..pictures import instances
from .run_folder import METRICS, PICTURES, REPORT, SUMMARY, TIMINGS, read_steps

try:  # POSIX only
    import resource
except ImportError:  # pragma: no cover
    resource = None  # type: ignore[assignment]


#: fields that the summary tells of anyway
_TOLD = ("steps", "batch_size")


def peak_memory_mib() -> float | None:
    """Return the most memory this process has held at once, in MiB; None where the system does not tell."""
    if resource is None:  # pragma: no cover
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)  # macOS counts bytes, Linux KiB


def changed_fields(config: Config) -> dict[str, Any]:
    """Return the fields that are not as in the preset, without those of which the summary has lines of their own."""
    usual = base(config.name).replace(num_classes=config.num_classes).to_dict()
    return {name: value for name, value in config.to_dict().items() if value != usual[name] and name not in _TOLD}


def summarise(folder: Path, facts: dict[str, Any], splits: dict[str, SplitReport]) -> dict[str, Any]:
    """Write ``summary.json`` and ``summary.md`` of a run and return the summary.

    Parameters
    ----------
    folder : Path
        The run's folder, with its metrics and timings.
    facts : dict
        What else to tell: preset, steps, parameters, memory, ...
    splits : dict of str to SplitReport

    Returns
    -------
    dict
    """
    rows, timings = read_steps(folder / METRICS), read_steps(folder / TIMINGS)
    last = rows[-50:]
    summary = {
        **facts,
        "training_seconds": round(sum(t["seconds"] for t in timings), 1),
        "losses_of_last_steps": {
            name: float(np.mean([r[name] for r in last]))
            for name in ("loss", *LOSSES, KEYPOINT_LOSS)
            if last and name in last[0]
        },
        "evaluation": {name: report.as_dict() for name, report in splits.items()},
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    write_json(folder / SUMMARY, summary)
    write_text(folder / REPORT, _markdown(summary, splits))
    return summary


def add_words(folder: Path, said: Sequence[str]) -> None:
    """Write at the end of ``summary.md`` what its numbers are worth.

    Parameters
    ----------
    folder : Path
        Of the run.
    said : sequence of str
        A sentence each.
    """
    if said:
        before = (folder / REPORT).read_text(encoding="utf-8")
        lines = "".join(f"- {printable(line)}\n" for line in said)
        write_text(folder / REPORT, f"{before}\n## what these numbers are worth\n\n{lines}")


def _markdown(summary: dict[str, Any], splits: dict[str, SplitReport]) -> str:
    memory = summary["peak_memory_mib"]
    skipped = summary["skipped"] | {k: v for report in splits.values() for k, v in report.skipped.items()}
    changed = ", ".join(f"{name}={json.dumps(value)}" for name, value in summary.get("changed", {}).items())
    lines = [
        f"# {summary['run']}",
        "",
        f"- preset {summary['preset']}, {summary['parameters']:,} parameters, seed {summary['seed']}, "
        f"backend {summary['backend']}",
        *([f"- unlike the preset: {changed}"] if changed else []),
        *([f"- started from {summary['weights']}"] if summary.get("weights") else []),
        f"- {summary['steps']} steps of {summary['batch_size']} images in {summary['training_seconds']:.0f} s, "
        f"{summary['images']} images in the training set",
        f"- peak memory: {memory['training']} MiB in training, {memory['with_evaluation']} MiB with evaluation",
        f"- images skipped because they cannot be read: {len(skipped) or 'none'}",
        *(f"  - {image_id}: {reason}" for image_id, reason in skipped.items()),
    ]
    if summary["losses_of_last_steps"]:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in summary["losses_of_last_steps"].items())
        lines.append(f"- mean losses of the last steps: {losses}")
    for name, report in splits.items():
        found = [f"{k} AP50 {_number(ap50_of(e))}" for k, e in report.evaluations.items()]
        if report.coco is not None:
            ap = report.coco.numbers["AP"]
            found.append(f"COCO {report.coco.iou_type} AP {_number(ap if ap >= 0 else None)}")
        lines.append(f"- **{name}: {', '.join(found)}**")
        lines += [f"- {name}: {note}" for note in report.notes]
    for name, report in splits.items():
        for kind in report.evaluations:
            lines += ["", f"## {name}: {kind}", "", "```", report.table(kind), "```"]
        if report.counts is not None:
            lines += ["", f"## {name}: what detect finds", "", "```", report.counts.table(), "```"]
    return printable("\n".join(lines), keep="\n") + "\n"


def _number(ap: float | None) -> str:
    return "none, as there are no objects" if ap is None else f"{ap:.3f}"


def draw(folder: Path, splits: dict[str, SplitReport], class_names: tuple[str, ...]) -> list[Path]:
    """Draw the loss curves, and of every split the detections and the precision-recall curves; return the files.

    Parameters
    ----------
    folder : Path
        Of the run.
    splits : dict of str to SplitReport
    class_names : tuple of str
    """
    pictures = folder / PICTURES
    own_folder(pictures)
    rows = read_steps(folder / METRICS)
    made = []
    if rows:
        made.append(pictures / "losses.png")
        instances.plot_losses(made[-1], rows)
    for name, report in splits.items():
        made.append(pictures / f"detections_{name}.png")
        instances.save_gallery(made[-1], report.samples, report.detections, class_names)
        evaluation = report.evaluations.get("mask")
        if isinstance(evaluation, Evaluation):
            made.append(pictures / f"precision_recall_{name}.png")
            instances.plot_precision_recall(made[-1], evaluation)
    return made
