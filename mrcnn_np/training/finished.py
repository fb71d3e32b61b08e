"""What the folder of a run says of it: its configuration and what came out, also of a run that was interrupted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config import Config
from ..errors import ConfigError, UserError
from ..files import did_you_mean_path, read_json
from ..objective import KEYPOINT_LOSS, LOSSES
from ..schema import Optional, require
from ..tables import counted
from .run_folder import CONFIG, METRICS, OPTIONS, SUMMARY, TIMINGS, read_steps

#: steps whose losses are averaged, as in ``summary.json``
LAST = 50
_COUNT = range(2**63)
#: what is read of ``summary.json``, which holds more
_SUMMARY = {
    "steps": _COUNT, "images": _COUNT, "training_seconds": float, "losses_of_last_steps": {str: float},
    "evaluation": {str: {str: object}}, "untaught": Optional([str]), ...: object,
}  # fmt: skip
_AP = (float, None)
#: the same of one kind of overlap: VOC's mean AP, or COCO's AP50, which is -1 where there are no objects
_EVALUATION = {"images": _COUNT, "mean_ap": Optional(_AP), "AP50": Optional(_AP), "AP": Optional(_AP),
               "classes": {str: object}, ...: object}  # fmt: skip
#: COCO's numbers of one kind beside VOC's, which runs from before do not have
_COCO = {"iou_type": str, "AP": float, ...: object}
_KINDS = ("box", "mask", "keypoints")
#: on fewer held-out objects it is said that small differences mean little
FEW_OBJECTS = 500


@dataclass(frozen=True)
class Measured:
    """The average precision of one kind on one split.

    Attributes
    ----------
    ap50 : float or None
        Mean over the classes that have objects, at an overlap of 0.5; None where no class has any.
    images : int
    objects : dict of str to int
        For each class that has any; empty if the file does not count them (keypoints).
    coco_ap : float or None
        COCO's AP, the mean over overlaps of 0.5 to 0.95; None where it was not measured, or no class has objects.
    """

    ap50: float | None
    images: int
    objects: dict[str, int]
    coco_ap: float | None = None


@dataclass(frozen=True)
class Result:
    """What a run has come to.

    Attributes
    ----------
    folder : Path
    config : Config
    steps : int
        Done so far.
    seconds : float
        Of training, without evaluation.
    images : int or None
        In the training set; None if the run has no summary.
    losses : dict of str to float
        Means of the last ``LAST`` steps.
    evaluation : dict of str to dict of str to Measured
        For each split and kind.
    missing : str
        What is not there, and why; empty for a finished run.
    untaught : tuple of str
        Classes that no picture of the training set taught.
    """

    folder: Path
    config: Config
    steps: int
    seconds: float
    images: int | None = None
    losses: dict[str, float] = field(default_factory=dict)
    evaluation: dict[str, dict[str, Measured]] = field(default_factory=dict)
    missing: str = ""
    untaught: tuple[str, ...] = ()


def worth(measured: Measured, untaught: Sequence[str] = ()) -> str:
    """Say on how much was measured, and what one object of the rarest class there is worth.

    Parameters
    ----------
    measured : Measured
    untaught : sequence of str
        Classes that were never taught, so that none of their objects can be found.
    """
    images = counted(measured.images, "image")
    trust = "a difference counts if it is there with another --seed, too"
    if not measured.objects:
        return f"{images}; on few images small differences mean little: {trust}"
    objects, classes = sum(measured.objects.values()), len(measured.objects)
    taught = {name: count for name, count in measured.objects.items() if name not in untaught}
    rarest, least = min((taught or measured.objects).items(), key=lambda one: one[1])
    few = ": so few that small differences mean little" if objects < FEW_OBJECTS else ""
    share = "" if classes == 1 else f"; {rarest!r}, of which there is least ({least}), is 1/{classes} of AP"
    return (
        f"{objects} object{'' if objects == 1 else 's'} in {images}{few}{share}; one object found more or less is up "
        f"to about {1 / (classes * least):.3f}; {trust}"
    )


def read_result(folder: Path) -> Result:
    """Read what a training left in its folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Result
        Of an interrupted run what is there; ``missing`` says what is not.

    Raises
    ------
    UserError
        There is no such folder, it is not that of a run, or a file in it is damaged; the message names the file.
    """
    if not folder.is_dir():
        what, meant = ("is no folder", "") if folder.exists() else ("does not exist", did_you_mean_path(folder))
        raise UserError(f"{folder} {what}; expected that of a run{meant}")
    lacking = [name for name in (CONFIG, OPTIONS) if not os.path.lexists(folder / name)]
    if lacking:
        raise UserError(f"{folder} is no run, it has no {' and no '.join(lacking)}; expected a folder that `mrcnn-np "
                        f"train` wrote{_runs_below(folder)}")  # fmt: skip
    config = read_config(folder / CONFIG)
    rows, timings = (_steps(folder / name) for name in (METRICS, TIMINGS))
    done = rows[-1]["step"] if rows else 0
    if not os.path.lexists(folder / SUMMARY):
        seconds = sum(float(row.get("seconds", 0.0)) for row in timings)
        missing = (
            f"{folder} has no {SUMMARY}: it was interrupted, or it is not done yet, after {done} of {config.steps} "
            f"steps, so there is no AP; `mrcnn-np train --out {folder} --resume` finishes it"
        )
        return Result(folder, config, done, round(seconds, 1), None, _losses(rows), {}, missing)
    summary = read_json(folder / SUMMARY, _SUMMARY)
    if done < summary["steps"]:
        last = f"ends after step {done}" if (folder / METRICS).exists() else "is missing"
        raise UserError(f"{folder / METRICS} {last}, but {SUMMARY} beside it is of {summary['steps']} steps; expected "
                        "a line for each step")  # fmt: skip
    missing = ""
    if done > summary["steps"]:
        missing = (
            f"{folder / SUMMARY} is of step {summary['steps']}, and training went on to step {done} of {config.steps}: "
            f"time, losses and AP are of the earlier step; `mrcnn-np train --out {folder} --resume` finishes it"
        )
    evaluation = {
        split: _measurements(kinds, f"{folder / SUMMARY}: {split}") for split, kinds in summary["evaluation"].items()
    }
    losses = {name: float(value) for name, value in summary["losses_of_last_steps"].items()}
    of_summary = summary["steps"], float(summary["training_seconds"]), summary["images"]
    return Result(folder, config, *of_summary, losses, evaluation, missing, tuple(summary.get("untaught") or ()))


def read_config(path: Path) -> Config:
    """Read the configuration of a run; a ``ConfigError`` names its file."""
    try:
        return Config.from_dict(read_json(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _steps(path: Path) -> list[dict[str, Any]]:
    return read_steps(path) if os.path.lexists(path) else []


def _losses(rows: list[dict[str, Any]]) -> dict[str, float]:
    last = rows[-LAST:]
    names = [name for name in ("loss", *LOSSES, KEYPOINT_LOSS) if last and all(name in row for row in last)]
    return {name: sum(row[name] for row in last) / len(last) for name in names}


def _measurements(kinds: Mapping[str, Any], where: str) -> dict[str, Measured]:
    """Return what was measured of each kind on one split; COCO's AP stands beside, of one kind."""
    found = {kind: _measured(kinds[kind], f"{where}, {kind}") for kind in _KINDS if kind in kinds}
    if "coco" in kinds:
        coco = _checked(kinds["coco"], _COCO, f"{where}, coco")
        if coco["iou_type"] in found:
            found[coco["iou_type"]] = replace(found[coco["iou_type"]], coco_ap=_ap(coco["AP"]))
    return found


def _ap(value: float | None) -> float | None:
    """Return an AP as a number; None where there are no objects, for which COCO's is -1."""
    return None if value is None or value < 0 else float(value)


def _measured(values: Any, where: str) -> Measured:
    from_file: Mapping[str, Any] = _checked(values, _EVALUATION, where)
    counts = {
        name: one["gt"]
        for name, one in from_file["classes"].items()
        if isinstance(one, dict) and isinstance(one.get("gt"), int) and one["gt"] > 0
    }
    ap50, coco_ap = from_file.get("mean_ap", from_file.get("AP50")), from_file.get("AP")
    return Measured(_ap(ap50), from_file["images"], counts, _ap(coco_ap))


def _checked(values: Any, schema: Any, where: str) -> Any:
    try:
        require(values, schema, where)
    except ValueError as error:
        raise UserError(str(error)) from error
    return values


def _runs_below(folder: Path) -> str:
    """Say which runs lie in a folder that is none itself."""
    runs = sorted(str(path.parent) for path in folder.glob(f"*/{OPTIONS}"))[:5]
    return f"; runs lie in it, such as {', '.join(runs)}" if runs else ""
