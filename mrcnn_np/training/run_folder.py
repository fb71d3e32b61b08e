"""The folder of a training run, written so that a kill at any moment leaves something that can be continued.

=========================== ==============================================================================
file                        how it is written
=========================== ==============================================================================
options.json, config.json,  once, before the first step; replaced atomically
weights.json                (the last where a run starts from weights)
metrics.jsonl               one line per step, appended; forced to disk before the checkpoint that covers it
timings.jsonl               the same, for what differs between two runs with one seed
checkpoint.safetensors      replaced atomically every few steps, the first time before step 1
best.safetensors            with --eval-every: the same for the step with the best held-out AP
tensorboard/                with --tensorboard: one event file, appended; written anew on resume
report.html                 replaced atomically every now and then, and at the end
summary.json, summary.md    at the end; replaced atomically
pictures/                   at the end
=========================== ==============================================================================

So the checkpoint is never newer than the metrics. Lines that are newer than the checkpoint belong to steps that will
be computed again, and are cut off on resume.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..errors import CheckpointError, UserError
from ..files import open_own, open_to_read
from ..schema import require

try:  # POSIX only; without it, two trainings in one folder go unnoticed
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]

CHECKPOINT, CONFIG, OPTIONS = "checkpoint.safetensors", "config.json", "options.json"
START, BEST = "weights.json", "best.safetensors"
METRICS, TIMINGS = "metrics.jsonl", "timings.jsonl"
SUMMARY, REPORT, PICTURES, PAGE = "summary.json", "summary.md", "pictures", "report.html"
EVENTS = "tensorboard"
#: what a run writes; the checkpoint first, because a run without it starts from the beginning
FILES = (CHECKPOINT, BEST, METRICS, TIMINGS, OPTIONS, CONFIG, START, SUMMARY, REPORT, PAGE)


#: a line of metrics.jsonl or timings.jsonl
LINE = {"step": range(1, 2**63), ...: float}
#: bytes of a line, at most
_LONGEST = 1 << 16


def clear(folder: Path) -> None:
    """Delete what an earlier run wrote into the folder, and nothing else."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder against a second training; the system lets go of it even after ``kill -9``."""
    if fcntl is None:  # pragma: no cover
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another training is writing into {folder}; wait for it, or choose another --out"
            ) from None
        yield
    finally:
        os.close(descriptor)


class StepLog:
    """A file with one JSON object per step; line i is step i (from 1).

    Parameters
    ----------
    path : Path
    step : int
        Steps done so far, as the checkpoint says. Later lines, and a last line that was only half written, are cut off.
    complete : bool
        Whether every step up to ``step`` must be there.

    Attributes
    ----------
    first : dict
        The first line of those that stay; empty if there is none.

    Raises
    ------
    CheckpointError
        ``complete``, and the file does not reach as far as the checkpoint; or a line of a step up to there holds
        something else than numbers.
    UserError
        The file cannot be written, or is a link or a device.
    """

    def __init__(self, path: Path, *, step: int, complete: bool) -> None:
        self.path = path
        self.first: dict[str, Any] = {}
        with self._naming_errors():
            self._file: IO[bytes] = open_own(path)
            found, length = self._scan(step)
            if complete and found < step:
                raise CheckpointError(
                    f"{path} ends after step {found}, but the checkpoint beside it is at step {step}; "
                    "restore the file, or start anew with --overwrite"
                )
            self._file.truncate(length)

    def _scan(self, step: int) -> tuple[int, int]:
        """Return the last step to keep and the number of bytes up to there."""
        found = length = 0
        self._file.seek(0)
        for record, size in _records(self._file, self.path) if step else ():
            if not found < record["step"] <= step:
                break
            self.first = self.first or record
            found, length = record["step"], length + size
            if found == step:  # what comes now is cut off, whatever it is
                break
        return found, length

    def write(self, record: dict[str, Any]) -> None:
        """Append one line."""
        with self._naming_errors():
            self._file.write((json.dumps(record) + "\n").encode())
            self._file.flush()

    def sync(self) -> None:
        """Force everything to disk."""
        with self._naming_errors():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # only what could not be flushed, which has been reported
            self._file.close()

    @contextlib.contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error


class NoLog:
    """What stands in the place of a ``StepLog`` where another process writes it.

    Parameters
    ----------
    path : Path
    step : int
    complete : bool
    """

    def __init__(self, path: Path, *, step: int, complete: bool) -> None:
        pass

    def write(self, record: dict[str, Any]) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _records(file: IO[bytes], path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield every whole line and its number of bytes, up to the first that is no JSON or was only half written."""
    number = 0
    while (line := file.readline(_LONGEST)).endswith(b"\n"):
        number += 1
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return
        try:
            require(record, LINE, f"line {number} of {path}")
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        yield record, len(line)


def read_steps(path: Path) -> list[dict[str, Any]]:
    """Read a file that ``StepLog`` wrote; a half-written last line is left out.

    Raises
    ------
    UserError
        It cannot be read, or a line holds something else than numbers.
    """
    try:
        with open_to_read(path) as file:
            return [record for record, _ in _records(file, path)]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
