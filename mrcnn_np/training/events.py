"""TensorBoard's files of a run, with the package tensorboardX: curves, and pictures of what was found.

They tell what ``metrics.jsonl`` and the last measurement hold, so nothing of the training depends on them; if they
cannot be written, a warning says so, once. A resumed run writes them anew: events of steps that its checkpoint has are
taken over, those of later steps are left out, because these steps are done again, and lines of ``metrics.jsonl`` that
a kill kept from the file are added. So no step is there twice, whatever reads the files.
"""

from __future__ import annotations

import importlib.util
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import UserError
from ..evaluate.split import SplitReport
from ..files import own_folder
from ..objective import LOSSES
from ..pictures.canvas import pixels
from ..pictures.instances import gallery
from .run_folder import EVENTS

#: what a curve is called, for each number of a line of ``metrics.jsonl``; TensorBoard groups by what is before "/"
TAGS = {
    "loss": "loss/all",
    **{name: f"loss/{name}" for name in LOSSES},
    "val_loss": "held-out-loss/all",
    **{f"val_{name}": f"held-out-loss/{name}" for name in LOSSES},
    "val_box_ap50": "held-out-AP50/box",
    "val_mask_ap50": "held-out-AP50/mask",
    "learning_rate": "step/learning_rate",
    "grad_norm": "step/grad_norm",
    "rpn_positives": "positives/anchors",
    "roi_positives": "positives/RoIs",
}
_PATTERN = "*tfevents*"


def require_package() -> None:
    """Raise ``UserError`` if the package that writes these files is missing."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise UserError(
            "--tensorboard needs the package tensorboardX, which is not installed: "
            "pip install 'mrcnn-np[tensorboard]', or leave the option out: the run's report.html shows the same"
        )


def remove_events(folder: Path) -> None:
    """Delete the event files of an earlier run in its folder, and nothing else."""
    for path in (folder / EVENTS).glob(_PATTERN):
        path.unlink(missing_ok=True)


class Events:
    """The event files of one run; as a context they are closed at the end.

    Parameters
    ----------
    folder : Path
        Of the run; the files lie in ``tensorboard/`` in it, which is there.
    class_names : sequence of str
        The background first.
    pictures : bool
        Write what was found in held-out images.
    """

    def __init__(self, folder: Path, class_names: Iterable[str], *, pictures: bool = True) -> None:
        require_package()
        self.folder, self.class_names, self.pictures = folder / EVENTS, tuple(class_names), pictures
        self._writer: Any = None

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._trying(self._writer.close)
            self._writer = None

    def begin(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Write anew what is there of the steps that are done.

        Parameters
        ----------
        rows : iterable of mappings
            The lines of ``metrics.jsonl``.
        """
        self._trying(lambda: self._begin({int(row["step"]): row for row in rows}))

    def add(self, row: Mapping[str, float], measured: SplitReport | None = None) -> None:
        """Take over one step.

        Parameters
        ----------
        row : mapping of str to float
            A line of ``metrics.jsonl``.
        measured : SplitReport, optional
            What held-out images said after this step.
        """
        if self._writer is not None:
            self._trying(lambda: self._add(row, measured))

    def _begin(self, rows: dict[int, Mapping[str, float]]) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        old = sorted(self.folder.glob(_PATTERN))
        kept: list[Any] = []
        told: set[tuple[int, str]] = set()
        for event in (event for path in old for event in read_events(path) if event.step in rows):
            names = {(event.step, value.tag) for value in event.summary.value}
            if names and not names & told:
                told |= names
                kept.append(event)
        self._writer = EventsWriter(str(self.folder / "events"))
        for event in kept:
            self._writer.write_event(event)
        scalars = {step for step, tag in told if tag == TAGS["loss"]}
        for row in (row for step, row in rows.items() if step not in scalars):
            self._write_row(row)
        self._writer.flush()
        for path in old:
            if path.name != Path(self._writer._file_name).name:
                path.unlink(missing_ok=True)

    def _add(self, row: Mapping[str, float], measured: SplitReport | None) -> None:
        self._write_row(row)
        if self.pictures and measured is not None:
            for sample, seen in zip(measured.samples, measured.detections):
                drawn = pixels(gallery([sample], [seen], self.class_names, columns=1))
                self._write_picture(int(row["step"]), sample.image_id, drawn)
        self._writer.flush()

    def _write_row(self, row: Mapping[str, float]) -> None:
        from tensorboardX import summary

        parts = [summary.scalar(tag, row[name]) for name, tag in TAGS.items() if name in row]
        self._write(int(row["step"]), parts)

    def _write_picture(self, step: int, name: str, drawn: Any) -> None:
        from tensorboardX import summary

        self._write(step, [summary.image(f"held-out/{name}", drawn[..., :3], dataformats="HWC")])

    def _write(self, step: int, summaries: list[Any]) -> None:
        from tensorboardX.proto.event_pb2 import Event

        event = Event(step=step, wall_time=time.time())
        for part in summaries:
            event.summary.MergeFrom(part)
        self._writer.write_event(event)

    def _trying(self, action: Any) -> None:
        """Do something that the training does not depend on."""
        try:
            action()
        except (UserError, OSError, ValueError, MemoryError) as problem:
            tqdm.write(f"warning: the run goes on without TensorBoard's files: {problem}", file=sys.stderr)
            self._writer = None


def opened(
    folder: Path, class_names: Iterable[str], *, wanted: bool, pictures: bool
) -> AbstractContextManager[Events | None]:
    """Return the event files of a run as a context, which gives None if they are not wanted.

    Parameters
    ----------
    folder, class_names, pictures
        As of ``Events``.
    wanted : bool

    Raises
    ------
    UserError
        The package is missing, or their folder cannot be made.
    """
    if not wanted:
        return nullcontext()
    events = Events(folder, class_names, pictures=pictures)
    own_folder(events.folder)
    return events


def read_events(path: Path) -> Iterator[Any]:
    """Yield the events of a file, up to the first that is damaged or was only half written.

    Parameters
    ----------
    path : Path
        TensorBoard's format: of each event its length as 8 bytes, their checksum, the event, and its checksum.

    Yields
    ------
    tensorboardX.proto.event_pb2.Event
    """
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    with open(path, "rb") as file:
        size = path.stat().st_size
        while len(head := file.read(12)) == 12:
            (length,) = struct.unpack("<Q", head[:8])
            if length > size - file.tell() - 4:
                return
            text = file.read(length)
            file.seek(4, 1)
            try:
                yield Event.FromString(text)
            except DecodeError:
                return
