"""What is known after training: average precision of a split, the summary of a run, its pictures."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data.sample import Dataset, Sample
from ..detections import Detections
from ..errors import DataError
from ..evaluate import Evaluation, Evaluator
from ..evaluate.coco import CocoEvaluation, CocoEvaluator
from ..files import atomic_write, write_json
from ..model import MaskRCNN
from ..objective import LOSSES
from ..pictures import instances
from .run_folder import METRICS, PICTURES, REPORT, SUMMARY, TIMINGS, read_steps

try:  # POSIX only
    import resource
except ImportError:  # pragma: no cover
    resource = None  # type: ignore[assignment]

#: a gallery shows detections above this score; evaluation counts all of them
SHOWN_SCORE = 0.5
#: images in a gallery
SHOWN = 12


@dataclass
class SplitReport:
    """How good a model is on one split: the evaluations by ``"box"`` and ``"mask"``, and some images to look at."""

    evaluations: dict[str, Evaluation | CocoEvaluation] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    detections: list[Detections] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        numbers = {kind: evaluation.as_dict() for kind, evaluation in self.evaluations.items()}
        return {**numbers, "seconds": round(self.seconds, 2), "skipped": self.skipped}


def require_readable(dataset: Dataset, what: str, *, progress: bool) -> None:
    """Read every image that will be evaluated, so that hours of training do not end in a message about a file.

    Raises
    ------
    DataError
        Names the first that cannot be read.
    """
    for index in tqdm(range(len(dataset)), desc=what, unit="image", disable=not progress):
        try:
            dataset.load(index)
        except DataError as error:
            raise _advising(error, dataset.ids[index]) from error


def _advising(error: DataError, image_id: str) -> DataError:
    return DataError(f"{error} (mend it, or leave such images out with --skip-bad)", image_id=image_id)


def evaluate_split(
    model: MaskRCNN,
    dataset: Dataset,
    *,
    method: str = "voc10",
    iou_types: tuple[str, ...] = ("box", "mask"),
    class_ids: np.ndarray | None = None,
    skip_bad: bool = False,
    progress: bool = True,
    label: str = "evaluate",
    on_image: Callable[[str, Detections], None] | None = None,
) -> SplitReport:
    """Detect the objects of every image and compare them with the ground truth, one image in memory at a time.

    Parameters
    ----------
    model : MaskRCNN
    dataset : Dataset
    method : {"voc07", "voc10", "coco"}
    iou_types : tuple of {"box", "mask"}
    class_ids : ndarray of shape (num_classes,), optional
        The data set's class for each class of the model, 0 where it has none; if not given, they are the same.
    skip_bad : bool
        Leave out images that cannot be read, instead of stopping.
    progress : bool
        Show a progress bar.
    label : str
        What the bar says.
    on_image : callable, optional
        Called with the id and the detections of every image.

    Returns
    -------
    SplitReport
    """
    evaluators: dict[str, Evaluator | CocoEvaluator] = {}
    for kind in iou_types:
        if method == "coco":
            evaluators[kind] = CocoEvaluator(dataset.class_names, iou_type=kind)
        else:
            evaluators[kind] = Evaluator(dataset.class_names, method=method, iou_type=kind)
    report, began = SplitReport(), time.perf_counter()
    for index in tqdm(range(len(dataset)), desc=label, unit="image", disable=not progress):
        try:
            sample = dataset.load(index)
        except DataError as error:
            if not skip_bad:
                raise _advising(error, dataset.ids[index]) from error
            report.skipped[dataset.ids[index]] = str(error)
            continue
        found = model.detect([sample.image])[0]
        if class_ids is not None:
            found = found.of_classes(class_ids)
        for evaluator in evaluators.values():
            evaluator.add(found, sample)
        if on_image is not None:
            on_image(sample.image_id, found)
        if len(report.samples) < SHOWN:
            report.samples.append(sample)
            report.detections.append(found.above(SHOWN_SCORE))
    if report.skipped and len(report.skipped) == len(dataset):
        raise DataError(
            f"none of the {len(dataset)} images can be read; the last error: {[*report.skipped.values()][-1]}"
        )
    report.evaluations = {kind: evaluator.result() for kind, evaluator in evaluators.items()}
    report.seconds = time.perf_counter() - began
    return report


def peak_memory_mib() -> float | None:
    """Return the most memory this process has held at once, in MiB; None where the system does not tell."""
    if resource is None:  # pragma: no cover
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)  # macOS counts bytes, Linux KiB


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
        "losses_of_last_steps": {name: float(np.mean([r[name] for r in last])) for name in ("loss", *LOSSES) if last},
        "evaluation": {name: report.as_dict() for name, report in splits.items()},
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    write_json(folder / SUMMARY, summary)
    atomic_write(folder / REPORT, _markdown(summary, splits).encode())
    return summary


def _markdown(summary: dict[str, Any], splits: dict[str, SplitReport]) -> str:
    memory = summary["peak_memory_mib"]
    skipped = summary["skipped"] | {k: v for report in splits.values() for k, v in report.skipped.items()}
    lines = [
        f"# {summary['run']}",
        "",
        f"- preset {summary['preset']}, {summary['parameters']:,} parameters, seed {summary['seed']}, "
        f"backend {summary['backend']}",
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
        found = [f"{k} AP50 {e.mean_ap:.3f}" for k, e in report.evaluations.items() if isinstance(e, Evaluation)]
        lines.append(f"- **{name}: {', '.join(found)}**")
    for name, report in splits.items():
        for kind, evaluation in report.evaluations.items():
            lines += ["", f"## {name}: {kind}", "", "```", evaluation.table(), "```"]
    return "\n".join(lines) + "\n"


def draw(folder: Path, splits: dict[str, SplitReport], class_names: tuple[str, ...]) -> list[Path]:
    """Draw the loss curves, and of every split the detections and the precision-recall curves; return the files."""
    pictures = folder / PICTURES
    pictures.mkdir(exist_ok=True)
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
