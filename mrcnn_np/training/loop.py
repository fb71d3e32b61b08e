"""The training loop: which images, which random numbers, one step, and what is written when.

**Randomness without state.** Everything random in step s is drawn from ``default_rng([seed, s, ...])``, and the order
of images in epoch e from ``default_rng([seed, e, ...])``. No generator outlives a step, so there is none to save:
a run continued from the checkpoint of step s draws what the uninterrupted run would have drawn. "The same bits" holds
for one machine, one backend, one NumPy and one number of BLAS threads: another number splits the sums of a matrix
product elsewhere.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernels import backend, on_device, place, to_host

from ..config import Config
from ..data.augment import augmented_as, leave_out
from ..data.remembered import Remembered
from ..data.sample import Dataset, Sample, for_training
from ..errors import CheckpointError, DataError, NonFiniteError
from ..files import remove_leftovers
from ..model import MaskRCNN
from ..molding import Batch, make_batch
from ..parallel.ranks import ALONE, Ranks
from ..params import Params, first_non_finite
from . import accumulate
from .agreement import alike, require_shares
from .bar import Bar
from .batches import INITIALISE as INITIALISE
from .batches import ORDER as ORDER
from .batches import STEP, as_one_batch, batch_indices, load_samples, stream
from .batches import epoch_order as epoch_order
from .checkpoint import Checkpoint, check_resumable, save_checkpoint
from .events import Events
from .held_out import HeldOut, best_by, best_of, standing
from .interruption import Interruption
from .optim import clip_gradients, global_norm, learning_rate_at, update, zero_velocity
from .page import Page
from .run_folder import BEST, CHECKPOINT, METRICS, TIMINGS, NoLog, StepLog, read_steps

#: a loss of so many times the first step's is no success any more; and the largest first loss that this counts from
DIVERGED, LARGE_FIRST_LOSS = 1e6, 1e3


def step_samples(
    dataset: Dataset,
    config: Config,
    *,
    seed: int,
    step: int,
    rng: np.random.Generator,
    skipped: dict[str, str] | None,
    ranks: Ranks = ALONE,
) -> tuple[list[Sample], list[Batch]]:
    """Load, augment and mold what one step trains on.

    Parameters
    ----------
    dataset : Dataset
    config : Config
    seed, step : int
        Of the run, and steps done before this one.
    rng : numpy.random.Generator
        The step's, for the augmentation.
    skipped : dict of str to str, or None
        As in ``load_samples``.
    ranks : Ranks
        If there are several, each takes its share of every batch, augmented as one process would.

    Returns
    -------
    samples : list of Sample
        After augmentation.
    batches : list of Batch
        ``config.accumulate`` of them.
    """
    size, own = config.batch_size, ranks.share(config.batch_size)
    indices = batch_indices(seed, step, size * config.accumulate, len(dataset))
    parts = []
    for start in range(0, len(indices), size):
        loaded = load_samples(dataset, [indices[start + i] for i in own], skipped)
        leave_out(own.start, rng, config)
        parts.append([augmented_as(for_training(sample), rng, config) for sample in loaded])
        leave_out(size - own.stop, rng, config)
    return [sample for part in parts for sample in part], [make_batch(part, config) for part in parts]


def require_finite(what: str, tensors: Iterable[tuple[str, np.ndarray]]) -> None:
    """Raise ``NonFiniteError`` with the name of the first tensor that holds NaN or infinity.

    If the norm of all tensors together is finite, so are they. A kernel finds it in one pass over memory, and from a
    device it is one answer to wait for; in NumPy the question tensor by tensor is cheaper.
    """
    named = dict(tensors)
    quick = backend() == "cpu" and all(t.dtype == np.float32 for t in named.values())
    if (quick or any(map(on_device, named.values()))) and np.isfinite(global_norm(named)):
        return
    name = first_non_finite(named.items())
    if name is not None:
        raise NonFiniteError(f"{what} {name} holds NaN or infinity")


def train_step(
    model: MaskRCNN,
    batch: Batch | Sequence[Batch],
    velocity: Params,
    *,
    step: int,
    rng: np.random.Generator,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Do one step of gradient descent: forward, backward, clip, update.

    Parameters
    ----------
    model : MaskRCNN
        Its parameters change in place.
    batch : Batch, or sequence of Batch
        Several make one step of all their images, as ``accumulate.py`` says.
    velocity : dict of str to ndarray
        The optimiser's state; changes in place.
    step : int
        Steps done before this one.
    rng : numpy.random.Generator
        For the subsampling of anchors and RoIs.
    ranks : Ranks
        If there are several, all do this together, each with its share of every batch; the result is the same on all.

    Returns
    -------
    dict of str to float
        ``loss``, those of ``model.losses``, ``grad_norm`` before clipping, ``learning_rate``, and how many anchors and
        RoIs were positive: ``rpn_positives``, ``roi_positives``. Without positive RoIs the losses of boxes and masks
        are 0.

    Raises
    ------
    NonFiniteError
        Names the first tensor that went wrong, in the order in which they are computed: image, parameters, losses,
        gradients. Nothing has been updated then.
    """
    place(velocity, device=model.settle())
    parts = [batch] if isinstance(batch, Batch) else batch
    require_finite("the input", [("image", part.images) for part in parts])
    require_finite("parameter", model.params.items())
    with np.errstate(over="ignore", invalid="ignore"):  # found by name below
        losses, left = accumulate.forward(model, parts, rng, ranks)
        require_finite("loss", [(name, np.asarray(loss)) for name, loss in losses.items()])
        every_grad = accumulate.backward(model, left, velocity)  # frees the activations on its way
        # in the order of the backward pass, which is that of the dictionary
        grads = {name: g for name, g in every_grad.items() if name in velocity}
        grad_norm = clip_gradients(grads, model.config.clip_norm)
        if not np.isfinite(grad_norm):  # clipped or not, what was NaN or infinite is still no number
            require_finite("gradient of", grads.items())
    learning_rate = learning_rate_at(step, model.config)
    update(model.params, grads, velocity, learning_rate=learning_rate, config=model.config)
    numbers = {name: float(loss) for name, loss in losses.items()}
    rates = {"grad_norm": float(grad_norm), "learning_rate": learning_rate}
    return {"loss": sum(numbers.values()), **numbers, **rates, **left.positives}


def image_checksum(dataset: Dataset) -> str:
    """Return a short text that changes with the ids of the images or their order."""
    ids = "\n".join(dataset.ids).encode(errors="surrogateescape")
    return f"{len(dataset)} images, {zlib.crc32(ids):08x}"


def require_convergence(record: Mapping[str, float], first: float) -> None:
    """Raise ``NonFiniteError`` if a step's numbers are finite, but beyond all that training can come back from.

    Parameters
    ----------
    record : mapping
        What ``train_step`` returned.
    first : float
        The loss of the run's first step.

    Notes
    -----
    The rule: a loss is at most ``DIVERGED`` times that of the first step, of which a loss below 1 counts as 1 and one
    above ``LARGE_FIRST_LOSS`` as that: a network that starts beyond reason is not measured by itself. And the norm of
    the gradients is finite.
    """
    limit = DIVERGED * min(max(first, 1.0), LARGE_FIRST_LOSS)
    if not np.isfinite(record["grad_norm"]):
        raise NonFiniteError("the norm of the gradients is infinite, though each of them is finite")
    if record["loss"] > limit:
        raise NonFiniteError(
            f"the loss is {record['loss']:.3g}, more than {limit:.3g} (it was {first:.3g} at the first step): training "
            "has diverged; try a smaller --config learning_rate=... or a longer warmup_steps"
        )


@dataclass(frozen=True)
class TrainResult:
    """What a training did: steps done in all, wall-clock seconds of this call, images skipped (id to reason)."""

    step: int
    seconds: float
    skipped: dict[str, str]


def train(
    model: MaskRCNN,
    dataset: Dataset,
    *,
    out_dir: Path,
    seed: int = 0,
    resume: Checkpoint | None = None,
    checkpoint_every: int = 50,
    skip_bad: bool = False,
    progress: bool = True,
    held_out: HeldOut | None = None,
    page: Page | None = None,
    events: Events | None = None,
    ranks: Ranks = ALONE,
) -> TrainResult:
    """Train a model for ``model.config.steps`` steps.

    Parameters
    ----------
    model : MaskRCNN
        Changes in place; with ``resume``, it first takes over the checkpoint's parameters.
    dataset : Dataset
        As many samples as fit into `remembered.ROOM` bytes are read once and kept.
    out_dir : Path
        An existing folder; the checkpoint, ``metrics.jsonl`` and ``timings.jsonl`` go there.
    seed : int
    resume : Checkpoint, optional
        Continue from here: the files end up byte for byte as if there had been no interruption (all but the timings).
    checkpoint_every : int
        Steps between checkpoints; there is one before the first step and one after the last as well.
    skip_bad : bool
        Leave out images that cannot be read, instead of stopping.
    progress : bool
        Show a progress bar with the five losses and images per second.
    held_out : HeldOut, optional
        Measures every so many steps; the numbers stand in the step's line of ``metrics.jsonl``, and the checkpoint with
        the best AP (of masks, see ``held_out.best_by``) is kept as ``best.safetensors``.
    page : Page, optional
        Is told of every step, to show it in a browser.
    events : Events, optional
        Is told of every step, for TensorBoard.
    ranks : Ranks
        If there are several, all call this with the same arguments and share every batch. Only the first writes, and
        only it needs ``out_dir``; all end with the same parameters.

    Returns
    -------
    TrainResult

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C: the step was ended and saved first, but where there are several ranks.
    NonFiniteError
        Names the step, its images, and the first tensor that holds NaN or infinity, or says that the loss has grown
        beyond ``require_convergence``. The last checkpoint stays.
    DataError, CheckpointError, UserError
        An image cannot be read; ``resume`` belongs to another run; the folder cannot be written; there are more ranks
        than images in a batch.
    """
    if len(dataset) == 0:
        raise DataError("the data set has no images to train on")
    require_shares(model.config, ranks)
    dataset = Remembered(dataset)
    config, images = model.config, image_checksum(dataset)
    velocity, start, skipped = zero_velocity(model.params, config), 0, {}
    if resume is not None:
        check_resumable(resume, config=config, seed=seed, class_names=dataset.class_names, images=images)
        if odd := set(velocity) ^ set(resume.velocity):
            raise CheckpointError(f"the checkpoint is damaged: the velocity of {min(odd)!r} is missing or too many")
        place(model.params, device=False)
        for name, value in resume.params.items():
            model.params[name][...] = value
        velocity, start = resume.velocity, resume.step
        skipped = dict.fromkeys(resume.skipped, "skipped before the training was resumed")

    def save(step: int, name: str = CHECKPOINT) -> None:
        alike(model.params, velocity, ranks)
        if not ranks.first:
            return
        tensors = to_host(model.params), to_host(velocity)
        state = (step, seed, config, dataset.class_names, *tensors, images, tuple(skipped))
        save_checkpoint(out_dir / name, Checkpoint(*state))

    if ranks.first:
        remove_leftovers(out_dir)
    if resume is None:
        save(0)  # what is wrong with the disk shows now, and a kill from here on can be resumed
    began, saved = time.perf_counter(), start
    log: type[StepLog] | type[NoLog] = StepLog if ranks.first else NoLog
    metrics = log(out_dir / METRICS, step=start, complete=True)
    timings = log(out_dir / TIMINGS, step=start, complete=False)
    rows = ranks.of_first(lambda: read_steps(out_dir / METRICS))
    decides = best_by(config)
    first, best = rows[0].get("loss") if rows else None, best_of(rows, decides)
    if page is not None:
        page.begin(rows)
    if events is not None:
        events.begin(rows)
    bar = Bar(start, config.steps, enabled=progress and ranks.first)
    interruption = Interruption(enabled=not ranks.several)
    with interruption, closing(bar), closing(metrics), closing(timings):
        for step in range(start, config.steps):
            before = time.perf_counter()
            rng = stream(seed, step, STEP)
            known = skipped if skip_bad else None
            own = step_samples(dataset, config, seed=seed, step=step, rng=rng, skipped=known, ranks=ranks)
            image_ids, batches = as_one_batch(*own, config, skipped=known, ranks=ranks)
            try:
                record = train_step(model, batches, velocity, step=step, rng=rng, ranks=ranks)
                first = record["loss"] if first is None else first
                require_convergence(record, first)
                if step + 1 == config.steps:  # else the next step looks
                    require_finite("after the update, parameter", model.params.items())
            except NonFiniteError as error:
                kept = f"the checkpoint of step {saved} is kept"
                raise NonFiniteError(f"step {step + 1}: {error} (images {', '.join(image_ids)}); {kept}") from error
            seconds = time.perf_counter() - before
            looks = held_out is not None and ((step + 1) % held_out.every == 0 or step + 1 == config.steps)
            if held_out is not None and looks:
                measured = held_out.measure(model)
                bar.say(step + 1, measured)
                record |= measured
            record = {"step": step + 1, **record}
            metrics.write(record)
            timings.write({"step": step + 1, "seconds": round(seconds, 4)})
            bar.show(record, images_per_second=len(image_ids) / seconds)
            seen = held_out.report if held_out is not None and looks else None
            if page is not None:
                page.add(record, seen)
            if events is not None:
                events.add(record, seen)
            if standing(record, decides) > best:
                best = standing(record, decides)
                metrics.sync()
                save(step + 1, BEST)  # before the checkpoint: what a resumed run does not measure again is there
            if (step + 1) % checkpoint_every == 0 or step + 1 == config.steps or interruption.asked:
                metrics.sync()  # before the checkpoint: it must never be newer than the metrics
                timings.sync()
                save(step + 1)
                saved = step + 1
            if interruption.asked:
                raise KeyboardInterrupt
    return TrainResult(config.steps, time.perf_counter() - began, skipped)
