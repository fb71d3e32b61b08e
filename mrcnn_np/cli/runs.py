"""``mrcnn-np runs``: finished runs beside each other, their settings, their results, and how much a difference says."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Config
from ..config.config import BY_NAME
from ..errors import UserError
from ..files import prepare_file, write_json
from ..tables import text_table
from ..training.finished import Measured, Result, read_result, worth
from .options import Options, recorded_options
from .splits import VAL_FRACTION

#: options that configuration fields do not tell already, and that change what comes out
OPTIONS_SHOWN = (
    "data", "root", "split", "subset", "ids", "val_split", "val_fraction", "val_subset", "weights", "class_names",
    "seed", "minutes", "skip_bad", "backend", "threads", "vector", "processes",
)  # fmt: skip
#: which images were trained on and which were held out
_DATA, _PART, _HELD_OUT = ("data", "root"), ("split", "subset", "ids"), ("val_split", "val_fraction", "val_subset")
_MACHINE = ("backend", "threads", "vector", "processes")


class Run(NamedTuple):
    """One of the runs.

    Attributes
    ----------
    name : str
        As it was given.
    options : Options
    result : Result
    """

    name: str
    options: Options
    result: Result

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that was chosen: options as ``--name``, then configuration fields."""
        return _options(self.options) | _fields(self.result.config)


def run_runs(args: argparse.Namespace) -> int:
    """Print runs beside each other; of one run, what differs from its preset."""
    if args.out is not None:
        prepare_file(Path(args.out))
    runs = [read_run(text) for text in args.folders]
    settings = differing(runs) if len(runs) > 1 else from_defaults(runs[0])
    notes = notes_on(runs)
    heads = [run.name for run in runs]
    if len(runs) == 1:
        heads.insert(0, f"preset {runs[0].result.config.name}")
    if settings:
        rows = [(name, *map(_shown, values)) for name, values in settings.items()]
        print(text_table(("settings that differ", *heads), rows, rule=True))
    else:
        print("no setting differs")
    print()
    print(text_table(("what came out", *(run.name for run in runs)), _results(runs), rule=True))
    if notes:
        print("", *notes, sep="\n")
    if args.out is not None:
        write_json(Path(args.out), _plain(runs, settings, notes))
        print(f"\nwritten to {args.out}")
    missing = [run.result.missing for run in runs if run.result.missing]
    if missing:
        raise UserError("; ".join(missing))
    return 0


def read_run(folder: str) -> Run:
    """Read a run's options and what came out.

    Parameters
    ----------
    folder : str

    Raises
    ------
    UserError
        It is no run, or a file in it is damaged.
    """
    path = Path(folder)
    result = read_result(path)
    values = recorded_options(path)
    values["config"] = tuple(values.get("config", ()))
    return Run(folder, Options(**values), result)


# --- settings ---------------------------------------------------------------------------------------------------------


def _options(options: Options) -> dict[str, Any]:
    values = asdict(options)
    return {f"--{name.replace('_', '-')}": values[name] for name in OPTIONS_SHOWN}


def _fields(config: Config) -> dict[str, Any]:
    return {"preset" if name == "name" else name: value for name, value in config.to_dict().items()}


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings that are not the same in all runs, with the value in each.

    Parameters
    ----------
    runs : sequence of Run
    """
    columns = [run.settings for run in runs]
    rows = {name: [column[name] for column in columns] for name in columns[0]}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}


def from_defaults(run: Run) -> dict[str, list[Any]]:
    """Return the settings of a run that are not those of its preset, with the preset's value and the run's.

    Parameters
    ----------
    run : Run
        Where its preset's name is none of ours, the fields' own defaults take the preset's place.
    """
    config = run.result.config
    preset = BY_NAME.get(config.name)
    usual = preset(num_classes=config.num_classes) if preset else Config(config.name, config.num_classes)
    drawn = VAL_FRACTION if run.options.val_fraction else 0.0  # what is drawn, where something is
    before = _options(Options(val_fraction=drawn)) | _fields(usual)
    machine = {f"--{name}" for name in _MACHINE}  # a run remembers its machine, whether it was asked for or not
    return {
        name: [before[name], value]
        for name, value in run.settings.items()
        if value != before[name] and name not in machine
    }


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- results ----------------------------------------------------------------------------------------------------------


def _results(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Return the rows of the table of results."""
    results = [run.result for run in runs]
    rows = [
        _row("steps done", results, lambda one: f"{one.steps} of {one.config.steps}"),
        _row("training", results, lambda one: f"{one.seconds:.1f} s"),
        _row("images trained on", results, lambda one: "-" if one.images is None else str(one.images)),
    ]
    for name in dict.fromkeys(name for one in results for name in one.losses):
        label = name if name == "loss" else f"  {name}"
        rows.append((label, *(f"{one.losses[name]:.3f}" if name in one.losses else "-" for one in results)))
    for split, kind in _measurements(results):
        measured = [_of(one, split, kind) for one in results]
        rows.append((f"{split}: {kind} AP50", *_differences([None if m is None else m.ap50 for m in measured])))
        coco = [None if m is None else m.coco_ap for m in measured]
        if any(ap is not None for ap in coco):
            rows.append((f"{split}: COCO {kind} AP", *_differences(coco)))
    return rows


def _row(label: str, results: Sequence[Result], cell: Callable[[Result], str]) -> tuple[str, ...]:
    return (label, *map(cell, results))


def _measurements(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return the splits and kinds that some run was measured on."""
    return list(dict.fromkeys((split, kind) for one in results for split in one.evaluation for kind in
                              one.evaluation[split]))  # fmt: skip


def _of(result: Result, split: str, kind: str) -> Measured | None:
    return result.evaluation.get(split, {}).get(kind)


def _differences(aps: Sequence[float | None]) -> list[str]:
    """Return the AP of every run, all but the first with the difference to it."""
    return [_with_difference(ap, aps[0] if i else None) for i, ap in enumerate(aps)]


def _with_difference(ap: float | None, first: float | None) -> str:
    if ap is None:
        return "-"
    return f"{ap:.3f}" if first is None else f"{ap:.3f} ({ap - first:+.3f})"


# --- what to know -----------------------------------------------------------------------------------------------------


def notes_on(runs: Sequence[Run]) -> list[str]:
    """Return what has to be known to compare the runs, a sentence each; warnings first.

    Parameters
    ----------
    runs : sequence of Run
    """
    changed = set(differing(runs))  # of one run nothing
    return [
        *_other_images(runs, changed),
        *_other_schedule(runs, changed),
        *_other_chance(changed),
        *_not_measured(runs),
        *how_far_to_trust(runs),
    ]


def _named(names: Sequence[str], changed: set[str]) -> list[str]:
    options = [f"--{name.replace('_', '-')}" for name in names]
    return [option for option in options if option in changed]


def _other_images(runs: Sequence[Run], changed: set[str]) -> list[str]:
    """Warn of runs that were trained or measured on different images."""
    said = []
    data, part = _named(_DATA, changed), _named(_PART, changed)
    if data:
        said.append(f"warning: the runs used different data ({', '.join(data)}): AP is not of the same images")
    if part:
        said.append(f"warning: the runs were trained on different images ({', '.join(part)})")
    held_out, alike = _named(_HELD_OUT, changed), _counts_are_alike(runs)
    if held_out and not alike:
        said.append(
            f"warning: the runs held out different images ({', '.join(held_out)}), so their AP cannot be compared; "
            "train again with the same --val-fraction, or measure all on the same images (`mrcnn-np eval --run DIR "
            "--data PATH`)"
        )
    elif not alike and not data and not part:
        said.append(
            "warning: the numbers of images or of held-out objects differ, though the options name the same data: it "
            "changed between the runs, so their AP cannot be compared"
        )
    return said


def _counts_are_alike(runs: Sequence[Run]) -> bool:
    """Say whether the finished runs had equally many images to train on, and the same objects on every common split.

    Without two finished runs it is not known, and the options decide.
    """
    done = [run.result for run in runs if run.result.images is not None]
    if len(done) < len(runs):
        return not any(
            getattr(run.options, name) != getattr(runs[0].options, name) for run in runs for name in _HELD_OUT
        )
    if any(one.images != done[0].images for one in done):
        return False
    for split, kind in _measurements(done):
        there = [measured for one in done if (measured := _of(one, split, kind)) is not None]
        if any((one.images, one.objects) != (there[0].images, there[0].objects) for one in there):
            return False
    return True


def _other_schedule(runs: Sequence[Run], changed: set[str]) -> list[str]:
    """Say where the number of steps and the warm-up differ, which --minutes plans and --steps leaves alone."""
    fields = [name for name in ("steps", "warmup_steps") if name in changed]
    if not fields:
        return []
    planned = [run.name for run in runs if run.options.minutes is not None]
    if not planned:
        return _longer(changed)
    values = "; ".join(
        f"{run.name}: " + ", ".join(f"{name} {getattr(run.result.config, name)}" for name in fields) for run in runs
    )
    return [
        f"the schedules differ, too ({values}): --minutes planned {' and '.join(planned)}, and it plans the steps by "
        "the speed of the machine and a warm-up of a tenth of them at most, where --steps keeps the preset's "
        "warmup_steps; give all runs the same --steps to compare another setting"
    ]


def _longer(changed: set[str]) -> list[str]:
    if "steps" not in changed:
        return []
    return [
        "the runs were planned for different numbers of steps: a part of every difference is that of training longer, "
        "and the rates decay at other steps; give all runs the same --steps to compare another setting"
    ]


def _other_chance(changed: set[str]) -> list[str]:
    """Say what differs that nobody expects an effect of: the seed, the machine."""
    machine = _named(_MACHINE, changed)
    said = []
    if "--weights" in changed:
        said.append("the runs started from different weights")
    if "--seed" in changed and changed <= {"--seed", *machine}:
        said.append("nothing but the seed differs: so much do these numbers differ by chance")
    elif "--seed" in changed:
        said.append("the seeds differ, too: a part of every difference is chance")
    if machine:
        said.append(
            f"{', '.join(machine)} differ: sums are taken in another order, which over many steps changes the numbers "
            "as another seed does"
        )
    return said


def _not_measured(runs: Sequence[Run]) -> list[str]:
    return [
        f"{run.name} was not evaluated at its end; `mrcnn-np eval --run {run.name}` measures it"
        for run in runs
        if not run.result.evaluation and not run.result.missing
    ]


def how_far_to_trust(runs: Sequence[Run]) -> list[str]:
    """Say on how many objects each split was measured, and what one of them is worth.

    Parameters
    ----------
    runs : sequence of Run
    """
    said: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for split, kinds in run.result.evaluation.items():
            if kinds:
                sentence = worth(next(iter(kinds.values())), run.result.untaught)
                said.setdefault((split, sentence), []).append(run.name)
    same = len(said) == len({split for split, _ in said})
    return [
        f"{split}: AP was measured {'' if same else 'in ' + ' and '.join(names) + ' '}on {sentence}"
        for (split, sentence), names in said.items()
    ]


def _plain(runs: Sequence[Run], settings: dict[str, list[Any]], notes: Sequence[str]) -> dict[str, Any]:
    """Return everything as plain values for JSON."""
    rows = []
    for run in runs:
        one = asdict(run.result)
        rows.append({"run": run.name, **{k: v for k, v in one.items() if k not in ("folder", "config")},
                     "planned_steps": run.result.config.steps})  # fmt: skip
    return {"runs": rows, "settings": settings, "notes": list(notes)}
