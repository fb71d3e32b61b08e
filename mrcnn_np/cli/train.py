"""``mrcnn-np train``: from options to a finished run folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import kernels

from ..bench import machine
from ..config import Config
from ..data.sample import Dataset
from ..data.splits import names_alike
from ..errors import CheckpointError, DataError, UserError
from ..evaluate.split import SplitReport, evaluate_split, never_taught, require_pose, require_readable
from ..files import own_folder, prepare, write_json
from ..model import MaskRCNN
from ..network import initialise
from ..parallel.ranks import Ranks
from ..params import Params, count
from ..synthetic import picture
from ..training.agreement import require_shares
from ..training.budget import fitting_warmup, plan_steps
from ..training.checkpoint import Checkpoint, check_resumable, load_checkpoint
from ..training.events import Events, opened, remove_events, require_package
from ..training.fine_tune import (
    Origin,
    begin,
    check_same_start,
    describe,
    open_origin,
    record,
    recorded_origin,
    schedule,
)
from ..training.held_out import HeldOut
from ..training.loop import INITIALISE, TrainResult, image_checksum, stream, train
from ..training.optim import trained_names
from ..training.page import Page
from ..training.run_folder import CHECKPOINT, CONFIG, FILES, METRICS, OPTIONS, PICTURES, REPORT, START, clear, locked
from ..training.summary import add_words, changed_fields, draw, peak_memory_mib, summarise
from .backend import remembered, threads_of
from .beginnings import recorded_source, start_of
from .compile_ahead import compiling_ahead
from .first_run import warm_detection
from .looking_size import SCALE, typical_scale
from .options import Options, open_dataset, recognise_data, recorded_options, require_run
from .splits import choose_val_fraction, open_splits
from .train_config import PRESET, make_config, with_pose
from .train_words import Outlook, ap50_of_own_pictures, go_on, last_words, look
from .warmup import compiling

#: seconds of compiling that a plan mentions
WORTH_SAYING = 5.0


def refuse_existing(folder: Path) -> None:
    """Raise ``UserError`` if the folder holds a run."""
    if existing := [name for name in FILES if (folder / name).exists()]:
        raise UserError(
            f"{folder} holds a run already ({', '.join(existing)}); continue it with --resume, replace it with "
            "--overwrite, or choose another --out"
        )


def find_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the checkpoint to continue from; None if the run was stopped before it wrote the first."""
    if (folder / CHECKPOINT).exists():
        return load_checkpoint(folder / CHECKPOINT)
    if (folder / METRICS).exists():
        raise CheckpointError(f"{folder} has {METRICS} but no {CHECKPOINT}; start anew with --overwrite")
    print(f"there is no checkpoint in {folder}: training starts at the first step", file=sys.stderr)
    return None


class Plan(NamedTuple):
    """A run that can begin: everything that could be wrong with it has been looked at, and nothing is written.

    Attributes
    ----------
    options : Options
    dataset : Dataset
    splits : dict of str to Dataset
        What is evaluated at the end.
    checkpoint : Checkpoint or None
        Where a resumed run goes on.
    model : MaskRCNN
    said : str
        What is to be said about the weights it starts from.
    kept : dict or None
        What ``weights.json`` keeps of them.
    held_out : HeldOut or None
        What is measured while training.
    ranks : Ranks
        Who shares it.
    outlook : Outlook
        What a look at the pictures said.
    """

    options: Options
    dataset: Dataset
    splits: dict[str, Dataset]
    checkpoint: Checkpoint | None
    model: MaskRCNN
    said: str
    kept: dict[str, Any] | None
    held_out: HeldOut | None
    ranks: Ranks
    outlook: Outlook


def run_train(args: argparse.Namespace) -> int:
    """Train, evaluate, draw, summarise."""
    name = "finetuned" if args.weights else args.preset or PRESET
    what = Path(args.root).absolute().stem if recognise_data(args) else args.data or Options.data
    folder = Path(args.out or f"runs/{what}-{name}")
    ranks: Ranks = args.ranks
    recorded = ranks.of_first(lambda: recorded_options(folder) if args.resume else {})
    require_run(args, folder, recorded)
    choose_val_fraction(args, recorded)
    _check_minutes(args, recorded)
    check_same_start(recorded, asdict(Options.merge({}, args).absolute()), folder)
    with remembered(_machine(recorded, args, folder), args, folder) as machine:
        processes = ranks.size if ranks.several else None
        options = replace(Options.merge(recorded, args), **machine._asdict(), processes=processes)
        if options.tensorboard:
            require_package()
        checkpoint = ranks.of_first(lambda: find_checkpoint(folder) if args.resume else None)
        plan = ranks.after_first(lambda: _plan(args, folder, options, recorded, checkpoint))
        with compiling_ahead(plan.model.config, wanted=not ranks.several):
            if options.minutes is not None and not recorded:
                plan = _within_budget(plan, options.minutes)
            if not ranks.first:
                try:
                    _train_and_evaluate(args, folder, plan, None, None)
                except KeyboardInterrupt as error:  # the first rank may hang in a call that waits for this one
                    raise KeyboardInterrupt(go_on(folder, ranks)) from error
                return 0
            prepare(folder)
            if not options.no_pictures:
                own_folder(folder / PICTURES)
            with locked(folder):
                return _run(args, folder, plan)


def _machine(recorded: Mapping[str, Any], args: argparse.Namespace, folder: Path) -> Mapping[str, Any]:
    """Return what the run remembers of the machine; where its processes are others than before, its threads are, too.

    Says so if a run goes on with another number of processes than it had.
    """
    ranks: Ranks = args.ranks
    before = recorded.get("processes") or 1
    if recorded and before != ranks.size:
        print(
            f"the run in {folder} was started as {_in_words(before)} and goes on as {_in_words(ranks.size)}: every "
            "step has the images and random draws that it would have had, but its sums are taken in another order: "
            "the last digits change and, after many steps, what is found"
        )
    elif recorded or not ranks.several:
        return recorded
    backend = recorded.get("backend") or kernels.backend()
    return {**recorded, "threads": args.threads or threads_of(ranks) if backend == "cpu" else None}


def _in_words(processes: int) -> str:
    return "one process" if processes == 1 else f"{processes} processes"


def _check_minutes(args: argparse.Namespace, recorded: Mapping[str, Any]) -> None:
    """Refuse a budget beside a number of steps, or for a run that has begun."""
    if args.minutes is None:
        return
    if args.steps is not None:
        raise UserError(f"--minutes {args.minutes:g} plans the number of steps; it does not go with --steps")
    if recorded and args.minutes != recorded.get("minutes"):
        planned = f"--minutes {recorded['minutes']:g}" if recorded.get("minutes") else "a number of steps"
        raise UserError(
            f"--minutes {args.minutes:g} plans a run at its start, and this one was started with {planned}; "
            "continue it with --resume alone, make it longer by --steps, or start anew with --overwrite"
        )


def _plan(
    args: argparse.Namespace,
    folder: Path,
    options: Options,
    recorded: Mapping[str, Any],
    checkpoint: Checkpoint | None,
) -> Plan:
    """Find everything that can be wrong before anything is written."""
    ranks: Ranks = args.ranks
    if not args.resume and not args.overwrite and ranks.first:
        refuse_existing(folder)
    if recorded.get("root") and options.root and args.root is None and not Path(options.root).exists():
        there = f"{folder / OPTIONS} says that the images are there"
        raise DataError(f"does not exist; {there}. If they moved, say where to by --root", path=options.root)
    dataset = open_dataset(options, options.split, subset=options.subset, ids=options.ids)
    origin = _origin(options, folder, checkpoint, len(dataset.class_names))
    config = with_pose(make_config(options, dataset.class_names, origin.base if origin else None), dataset)
    require_shares(config, ranks)
    splits = {} if options.no_eval else open_splits(options.eval_splits, options, dataset, begins=checkpoint is None)
    held_out = _held_out(options, dataset, splits, ranks, begins=checkpoint is None)
    measured = splits if held_out is None else splits | {"val": held_out.dataset}
    for name, split in measured.items():
        require_pose(split, config, f"what is measured as {name!r}")
    if checkpoint is not None:
        check_resumable(
            checkpoint,
            config=config,
            seed=options.seed,
            class_names=dataset.class_names,
            images=image_checksum(dataset),
        )
    params, said, kept = _parameters(options, config, origin, checkpoint, dataset.class_names)
    model = MaskRCNN(config, params)
    if not trained_names(model.params, config):  # which also finds a misspelt pattern of config.frozen
        raise UserError("everything is frozen, so there is nothing to train; expected some part that is not")
    for warning in names_alike(dataset):
        print(f"warning: {warning}", file=sys.stderr)
    source = None
    if options.weights:
        source = recorded_source(folder) if kept is None else kept["source"]
    start = start_of(options, source)
    outlook = look(dataset, options, folder, measured, config=config, start=start, begins=checkpoint is None)
    if not options.skip_bad and ranks.first:
        for name, split in measured.items():
            require_readable(split, f"check {name}", progress=not args.quiet)
    return Plan(options, dataset, splits, checkpoint, model, said, kept, held_out, ranks, outlook)


def _within_budget(plan: Plan, minutes: float) -> Plan:
    """Take as many steps as fit into the minutes, and a warm-up that fits to them."""
    options, dataset, model = plan.options, plan.dataset, plan.model
    whole = "1 minute" if minutes == 1 else f"{minutes:g} minutes"
    print(f"timing the first steps, to plan {whole} (a busy machine makes it longer or shorter)", flush=True)
    with compiling(lambda line: None) as compiled:
        between = 0.0 if plan.held_out is None else _seconds_between(model, plan.held_out)
        timed = plan_steps(
            model,
            dataset,
            minutes,
            seed=options.seed,
            skip_bad=options.skip_bad,
            seconds_between=between,
            ranks=plan.ranks,
        )
    if sum(compiled) > WORTH_SAYING:
        print(f"compiling took {sum(compiled):.0f} s, which is not counted; it is kept for the next run")
    options, shorter = replace(options, steps=timed.steps), fitting_warmup(model.config, timed.steps)
    said = f"a step takes {timed.seconds:.3g} s (median of {timed.measured}): {timed.steps} steps in {whole}"
    asked = any(text.partition("=")[0].strip() == "warmup_steps" for text in options.config)
    if shorter != model.config.warmup_steps and not asked:
        options = replace(options, config=(*options.config, f"warmup_steps={shorter}"))
        said += f", the first {shorter} of them warm-up"
    if plan.held_out is not None:
        aside = timed.steps * between
        said += f"; {aside:.3g} s are set aside for held-out images, looked at every {plan.held_out.every} steps"
    print(said, flush=True)
    changes = {"steps": timed.steps, "warmup_steps": model.config.warmup_steps if asked else shorter}
    planned = MaskRCNN(model.config.replace(**changes), model.params, class_names=model.class_names)
    return plan._replace(options=options, model=planned)


def _seconds_between(model: MaskRCNN, held_out: HeldOut) -> float:
    """Return the share of a step in the time for held-out images, after all that this needs is compiled."""
    warm_detection(model, picture((model.config.image_min_size,) * 2))
    return held_out.seconds_a_time(model) / held_out.every


def _run(args: argparse.Namespace, folder: Path, plan: Plan) -> int:
    """Write down what the run is, and do it; Ctrl-C says how to go on."""
    if args.overwrite and not args.resume:
        clear(folder)
        remove_events(folder)
    write_json(folder / OPTIONS, asdict(plan.options.absolute()))
    write_json(folder / CONFIG, plan.model.config.to_dict())
    if plan.kept is not None:
        write_json(folder / START, plan.kept)
    if plan.said:
        print(plan.said, schedule(plan.model.config), sep="\n", flush=True)
    try:
        names, pictures = plan.dataset.class_names, not plan.options.no_pictures
        page = Page(folder, names, plan.model.config.steps, pictures=pictures)
        with page, opened(folder, names, wanted=plan.options.tensorboard, pictures=pictures) as events:
            return _train_and_report(args, folder, plan, page, events)
    except KeyboardInterrupt:
        print(f"\n{go_on(folder, plan.ranks)}", file=sys.stderr)
        return 130


def _origin(options: Options, folder: Path, checkpoint: Checkpoint | None, num_classes: int) -> Origin | None:
    """Open the weights that the run starts from, or what it kept of them."""
    if options.weights is None:
        if options.class_names is not None:
            raise UserError("--class-names names the classes of --weights; expected that option, too")
        return None
    if checkpoint is not None:
        return recorded_origin(folder, Path(options.weights), num_classes)
    return open_origin(Path(options.weights), options.preset, options.class_names, num_classes)


def _parameters(
    options: Options, config: Config, origin: Origin | None, checkpoint: Checkpoint | None, class_names: tuple[str, ...]
) -> tuple[Params, str, dict[str, Any] | None]:
    """Return the parameters to begin with, what to say about them, and what the run keeps of where they came from."""
    rng = stream(options.seed, 0, INITIALISE)
    if checkpoint is not None:
        return checkpoint.params, "", None
    if origin is None:
        return initialise(config, rng), "", None
    start = begin(origin, config, class_names, rng)
    return start.params, describe(origin, start, config, class_names), record(origin, start)


def _held_out(
    options: Options, dataset: Dataset, splits: Mapping[str, Dataset], ranks: Ranks, *, begins: bool
) -> HeldOut | None:
    """Return what is measured every --eval-every steps: the held-out split, evaluated at the end or not."""
    if options.eval_every is None:
        return None
    split = (splits if "val" in splits else open_splits("val", options, dataset, begins=begins))["val"]
    return HeldOut(split, options.eval_every, seed=options.seed, skip_bad=options.skip_bad, ranks=ranks)


class Outcome(NamedTuple):
    """What training and evaluation gave; the peaks of memory in MiB after each, where they are known."""

    result: TrainResult
    reports: dict[str, SplitReport]
    peaks: tuple[float | None, float | None]


def _train_and_evaluate(
    args: argparse.Namespace, folder: Path, plan: Plan, page: Page | None, events: Events | None
) -> Outcome:
    """Do the work, which is what all ranks do together."""
    options, model, dataset = plan.options, plan.model, plan.dataset
    result = train(
        model,
        dataset,
        out_dir=folder,
        seed=options.seed,
        resume=plan.checkpoint,
        checkpoint_every=options.checkpoint_every,
        skip_bad=options.skip_bad,
        progress=not args.quiet,
        held_out=plan.held_out,
        page=page,
        events=events,
        ranks=plan.ranks,
    )
    after_training = peak_memory_mib()
    reports: dict[str, SplitReport] = {}
    for name, split in plan.splits.items():
        shown: dict[str, Any] = {"progress": not args.quiet, "label": f"evaluate {name}"}
        shown |= {"learned_from": name == options.split, "with_coco": True}
        reports[name] = evaluate_split(model, split, skip_bad=options.skip_bad, ranks=plan.ranks, **shown)
        reports[name].notes += never_taught(reports[name], plan.outlook.untaught)
    return Outcome(result, reports, (after_training, peak_memory_mib()))


def _train_and_report(args: argparse.Namespace, folder: Path, plan: Plan, page: Page, events: Events | None) -> int:
    options, model, dataset = plan.options, plan.model, plan.dataset
    result, reports, (after_training, with_evaluation) = _train_and_evaluate(args, folder, plan, page, events)
    page.reports |= reports
    pictures = [] if options.no_pictures else draw(folder, reports, dataset.class_names)
    facts = {
        "run": str(folder),
        "preset": model.config.name,
        "changed": changed_fields(model.config),
        "weights": options.weights,
        "backend": kernels.backend(),
        **({"processes": plan.ranks.size} if plan.ranks.several else {}),
        "seed": options.seed,
        "steps": result.step,
        "batch_size": model.config.batch_size * model.config.accumulate,
        "images": len(dataset),
        SCALE: typical_scale(dataset, model.config),
        "parameters": count(model.params),
        "skipped": {**result.skipped, **plan.outlook.skipped},
        "untaught": list(plan.outlook.untaught),
        "machine": machine.info(machine.cpu_count()),
        "peak_memory_mib": {"training": after_training, "with_evaluation": with_evaluation},
    }
    summarise(folder, facts, reports)
    print((folder / REPORT).read_text(encoding="utf-8"))
    for path in pictures:
        print(f"picture: {path}")
    own = None if plan.ranks.several else ap50_of_own_pictures(model, dataset, reports, progress=not args.quiet)
    said, next_ones = last_words(folder, reports, own, steps=result.step, few=plan.outlook.few)
    add_words(folder, said)
    page.words = said
    print(*said, *next_ones, sep="\n")
    return 0
