"""How many steps fit into some minutes: the first steps are done once on a copy, and timed.

The very first also compiles, which says nothing about the others: the budget begins after it. The copy is thrown away
afterwards and the training begins at its first step. So a planned run is the run of that many steps, bit for bit, and
goes on after an interruption like any other; only the number depends on the machine.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ..config import Config
from ..data.sample import Dataset
from ..errors import UserError
from ..model import MaskRCNN
from ..parallel.ranks import ALONE, Ranks
from .batches import STEP, as_one_batch, stream
from .loop import step_samples, train_step
from .optim import zero_velocity

#: steps that are timed, at least and at most, after one that also compiles; and the share of the budget to stop at.
#: More are no better: on a busy machine the median of 60 missed a run's mean by as much as that of 25, about a quarter
LEAST, MOST, SHARE = 3, 25, 0.02
#: a warm-up takes at most this share of a planned run
WARMUP = 0.1


class StepPlan(NamedTuple):
    """What the first steps said.

    Attributes
    ----------
    steps : int
        That fit into what the timing left of the budget.
    seconds : float
        Of one step: the median.
    measured : int
        Steps that were timed.
    """

    steps: int
    seconds: float
    measured: int


def plan_steps(
    model: MaskRCNN,
    dataset: Dataset,
    minutes: float,
    *,
    seed: int,
    skip_bad: bool = False,
    seconds_between: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    ranks: Ranks = ALONE,
) -> StepPlan:
    """Time the first steps of a training on a copy of the model and say how many fit into the budget.

    Parameters
    ----------
    model : MaskRCNN
        Stays as it is.
    dataset : Dataset
    minutes : float
        For planning and training together, from the end of the first step on, which compiles; what comes after the last
        step is not counted.
    seed : int
        Of the run: the same images and draws as in its first steps.
    skip_bad : bool
        As in ``train``.
    seconds_between : float
        What is done between the steps takes so long, for each step: held-out images every N steps.
    clock : callable
        Returns seconds.
    ranks : Ranks
        As in ``train``; all go by the first one's clock, so that they stop together.

    Returns
    -------
    StepPlan

    Raises
    ------
    UserError
        Not one step fits.
    """
    clock = partial(ranks.of_first, clock)
    probe, config = copy.deepcopy(model), model.config
    velocity = zero_velocity(probe.params, config)
    skipped: dict[str, str] | None = {} if skip_bad else None
    times: list[float] = []
    began = 0.0
    for step in range(1 + MOST):
        before = clock()
        rng = stream(seed, step, STEP)
        own = step_samples(dataset, config, seed=seed, step=step, rng=rng, skipped=skipped, ranks=ranks)
        _, batches = as_one_batch(*own, config, skipped=skipped, ranks=ranks)
        train_step(probe, batches, velocity, step=step, rng=rng, ranks=ranks)
        now = clock()
        if step:
            times.append(now - before)
        else:
            began = now
        if len(times) >= LEAST and clock() - began > SHARE * 60 * minutes:
            break
    seconds = statistics.median(times)
    took = clock() - began
    left = 60 * minutes - took
    steps = int(left / (seconds + seconds_between))
    if steps < 1:
        enough = 1.1 * (took + seconds + seconds_between) / 60
        raise UserError(
            f"--minutes {minutes:g} is too short: timing {len(times)} steps took {took:.2g} s, and one takes "
            f"{seconds:.2g} s{_beside(seconds_between)}; expected at least {enough:.2g} minutes"
        )
    return StepPlan(steps, seconds, len(times))


def _beside(seconds_between: float) -> str:
    return f" and {seconds_between:.2g} s of held-out evaluation come with each" if seconds_between else ""


def fitting_warmup(config: Config, steps: int) -> int:
    """Return the steps of the warm-up in a run of so many: the configuration's, but at most a tenth of the run."""
    return min(config.warmup_steps, int(WARMUP * steps))
