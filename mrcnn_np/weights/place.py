"""Where weights lie: a file, or the folder of a run, which stands for its checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import WeightFileError, some_of
from ..training.run_folder import CHECKPOINT

#: runs that a message names
_NAMED = 5


def of_run(path: str | Path) -> Path:
    """Return the checkpoint of a run for the run's folder; any other path stays what it is."""
    path = Path(path)
    # os.path: a name that is too long, or a folder that may not be entered, holds none
    return path / CHECKPOINT if os.path.isfile(path / CHECKPOINT) else path


def file_of(path: str | Path) -> Path:
    """Return the file that holds weights: a run's folder stands for its checkpoint.

    Raises
    ------
    WeightFileError
        It is a folder, but not that of a run.
    """
    path = of_run(path)
    if os.path.isdir(path):
        raise WeightFileError(
            f"{path} holds no {CHECKPOINT}; it is a folder, expected that of a training run, or a file of weights"
            f"{runs_in(path)}"
        )
    return path


def runs_in(folder: Path) -> str:
    """Return "; the runs in FOLDER are a, b", an empty text if there are none."""
    try:
        runs = sorted(path.name for path in folder.iterdir() if os.path.isfile(path / CHECKPOINT))
    except OSError:  # there is no such folder, or it may not be looked into
        return ""
    return f"; the runs in {folder} are {some_of(runs, _NAMED)}" if runs else ""
