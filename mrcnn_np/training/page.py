"""The page that shows a run while it goes on: ``report.html``, which a browser loads again by itself.

It is one file without a network: curves as SVG, pictures inside. It only tells what ``metrics.jsonl`` and the last
measurement hold, so nothing of the training depends on it; if it cannot be written, a warning says so, once.
"""

from __future__ import annotations

import html
import sys
import time
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..data.photographs import name_of
from ..data.sample import Sample
from ..detections import Detections
from ..errors import UserError, some_of
from ..evaluate import Evaluation
from ..evaluate.coco import CocoEvaluation
from ..evaluate.split import SHOWN_SCORE, SplitReport
from ..files import write_text
from ..objective import KEYPOINT_LOSS, LOSSES
from ..pictures import chart
from ..pictures.canvas import pixels
from ..pictures.html import page, picture, table
from ..pictures.instances import gallery
from .run_folder import PAGE

#: steps between two writings, at least; seconds between them, at least; seconds after which a browser looks again
STEPS, SECONDS, REFRESH = 20, 2.0, 10
#: objects or detections that the text of a picture names
_NAMED = 8
#: what each chart shows; charts of nothing are left out
CHARTS = {
    "Loss": ("loss", "val_loss"),
    "The five losses": (*LOSSES, KEYPOINT_LOSS),
    "AP50 of held-out images": ("val_mask_ap50", "val_box_ap50", "val_keypoints_ap50"),
    "The five losses of held-out images": tuple(f"val_{name}" for name in (*LOSSES, KEYPOINT_LOSS)),
    "Learning rate": ("learning_rate",),
    "Positive anchors and RoIs of a step": ("rpn_positives", "roi_positives"),
}
_STYLE = """
table { border-collapse: collapse; } th, td { padding: .15rem .7rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr + tr { border-top: 1px solid #8884; }
"""


class Page:
    """The page of one run; as a context it is written a last time at the end, and refreshes itself no more.

    Parameters
    ----------
    folder : Path
        Of the run; the page is ``report.html`` in it.
    class_names : sequence of str
        The background first.
    steps : int
        Of the whole run.
    pictures : bool
        Draw what was found in held-out images.

    Attributes
    ----------
    reports : dict of str to SplitReport
        What was measured, by the name of the split; shown from the next writing on.
    words : sequence of str
        What the numbers of a finished run are worth, a sentence each; shown above them.
    """

    def __init__(self, folder: Path, class_names: Iterable[str], steps: int, *, pictures: bool = True) -> None:
        self.path, self.class_names, self.steps, self.pictures = folder / PAGE, tuple(class_names), steps, pictures
        self.reports: dict[str, SplitReport] = {}
        self.words: Sequence[str] = ()
        self._columns = {name: array("d") for name in ("step", *dict.fromkeys(sum(CHARTS.values(), ())))}
        self._drawn: dict[str, tuple[SplitReport, list[str]]] = {}
        self._written, self._warned = -np.inf, False

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        done = self.reports or not self.path.exists()  # a finished run that is asked again shows what it showed
        if done or self._written > 0:
            self.write(going_on=False, stopped=error)

    @property
    def step(self) -> int:
        """The last step that it knows of."""
        return int(self._columns["step"][-1]) if self._columns["step"] else 0

    def begin(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Take over the lines of ``metrics.jsonl`` that are there, and show that the run goes on, if it does.

        Parameters
        ----------
        rows : iterable of mappings
        """
        for row in rows:
            self._take(row)
        if self.step < self.steps:
            self.write()

    def add(self, row: Mapping[str, float], measured: SplitReport | None = None) -> None:
        """Take over one step; the page is written now and then, and after every measurement.

        Parameters
        ----------
        row : mapping of str to float
            A line of ``metrics.jsonl``.
        measured : SplitReport, optional
            What held-out images said after this step.
        """
        self._take(row)
        if measured is not None:
            self.reports["val"] = measured
        due = self.step % STEPS == 0 and time.monotonic() - self._written >= SECONDS
        if measured is not None or due:
            self.write()

    def write(self, *, going_on: bool = True, stopped: BaseException | None = None) -> None:
        """Write the page, or warn that this cannot be done; the training goes on either way.

        Parameters
        ----------
        going_on : bool
            Whether a browser shall look again.
        stopped : BaseException, optional
            What ended the run before its time.
        """
        self._written = time.monotonic()
        try:
            said = [f"<p>{html.escape(line)}</p>" for line in (self._state(going_on, stopped), *self.words)]
            parts = [*said, *self._charts(), *self._measured()]
            title = self.path.absolute().parent.name
            refresh = REFRESH if going_on else None
            write_text(self.path, page(title, parts, style=chart.STYLE + _STYLE, refresh=refresh))
        except (UserError, OSError, ValueError, MemoryError) as problem:
            if not self._warned:
                tqdm.write(f"warning: the run goes on without its page: {problem}", file=sys.stderr)
            self._warned = True

    def _take(self, row: Mapping[str, float]) -> None:
        for name, column in self._columns.items():
            column.append(row.get(name, np.nan))

    def _state(self, going_on: bool, stopped: BaseException | None) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        if going_on and self.step < self.steps:
            state = f"Step {self.step} of {self.steps}"
        elif going_on:
            state = f"All {self.steps} steps are done; what they taught is being evaluated"
        elif stopped is None and self.step >= self.steps:
            state = f"Finished after {self.steps} steps"
        else:
            why = f" ({stopped})" if str(stopped or "") else ""
            state = f"Stopped after step {self.step} of {self.steps}{why}; train --resume goes on"
        return f"{state}. Written at {when}."

    def _charts(self) -> list[str]:
        columns = self._columns
        if not columns["step"]:
            return ["<p>No step is done yet.</p>"]
        drawn = [chart.chart(title, columns["step"], {n: columns[n] for n in names}) for title, names in CHARTS.items()]
        return ['<div class="charts">', *drawn, "</div>"]

    def _measured(self) -> list[str]:
        """Return tables and pictures of every split; pictures are drawn once."""
        parts = []
        for name, report in self.reports.items():
            if name not in self._drawn or self._drawn[name][0] is not report:
                self._drawn[name] = report, list(self._section(name, report))
            parts += self._drawn[name][1]
        return parts

    def _section(self, name: str, report: SplitReport) -> Iterable[str]:
        yield f"<section><h2>Split {html.escape(name)}: average precision of every class</h2>"
        found = {k: e for k, e in report.evaluations.items() if isinstance(e, Evaluation)}
        if found:
            yield class_table(found, report.coco)
            some = next(iter(found.values()))
            said = f"{some.method}, IoU {some.iou_threshold:g}, {some.images} images"
            coco = "" if report.coco is None else "; COCO AP: mean over IoU 0.5 to 0.95"
            yield f"<p>{said}{coco}; -: no objects, hence no AP.</p>"
        yield from (f"<p>{html.escape(note)}</p>" for note in report.notes)
        yield from (f"<p>skipped {html.escape(f'{image}: {why}')}</p>" for image, why in report.skipped.items())
        if self.pictures and report.samples:
            yield f"<h2>Truth, and beside it what was found with a score above {SHOWN_SCORE:g}</h2>"
            for sample, seen in zip(report.samples, report.detections):
                drawn = pixels(gallery([sample], [seen], self.class_names, columns=1))
                said = in_words(sample, seen, self.class_names)
                shown = picture(Image.fromarray(drawn), said)
                yield f"<figure>{shown}<figcaption>{html.escape(said)}</figcaption></figure>"
        yield "</section>"


def class_table(evaluations: Mapping[str, Evaluation], coco: CocoEvaluation | None = None) -> str:
    """Return a table of the classes with the AP of each kind; objects and detections are counted by the last kind.

    Parameters
    ----------
    evaluations : mapping of str to Evaluation
        By ``"box"`` and ``"mask"``; at least one.
    coco : CocoEvaluation, optional
        Of the same detections.
    """
    last = list(evaluations.values())[-1]
    columns = {f"{kind} AP": (e.ap, e.mean_ap) for kind, e in evaluations.items()}
    if coco is not None:
        columns[f"COCO {coco.iou_type} AP"] = coco.ap, coco.numbers["AP"]
    rows = [
        [name, *(_number(ap[k]) for ap, _ in columns.values()), *(str(n[k]) for n in (last.gt, last.tp, last.fp))]
        for k, name in list(enumerate(last.class_names))[1:]
    ]
    totals = [str(n.sum()) for n in (last.gt, last.tp, last.fp)]
    rows.append(["mean", *(_number(mean) for _, mean in columns.values()), *totals])
    head = ["class", *columns, "objects", "right", "wrong"]
    return table(head, rows)


def _number(ap: float) -> str:
    return f"{ap:.3f}" if ap >= 0 else "-"  # NaN, and COCO's -1, where there are no objects


def in_words(sample: Sample, found: Detections, class_names: tuple[str, ...]) -> str:
    """Return what a picture shows, for those who cannot see it.

    Parameters
    ----------
    sample : Sample
    found : Detections
        Of the same image.
    class_names : tuple of str
    """
    objects = [class_names[k] for k in sample.gt_class_ids]
    order = np.argsort(-found.scores, kind="stable")
    seen = [f"{class_names[found.class_ids[i]]} {found.scores[i]:.2f}" for i in order]
    return f"{name_of(sample)}: {_listed('object', objects)}; {_listed('detection', seen)}"


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return f"no {what}s"
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''}: {some_of(names, _NAMED)}"
