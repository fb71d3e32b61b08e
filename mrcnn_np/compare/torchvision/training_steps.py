"""Train torchvision's model and ours side by side, from the same weights, on the same images, with the same draws.

What has to be the same on both sides, or nothing can be compared after the first step (or, in float32, in it):

- the anchors that count and the RoIs that are read. We draw them (from a generator of their own in every step) and hand
  them to torchvision: the masks of sampled anchors in place of its sampler's, the RoIs in place of its proposals. What
  the anchors and RoIs are to say (labels, deltas, masks), it works out itself.
- in float32 the draw is ours in *every* step. If each side drew from its own proposals, one proposal that rounding puts
  on the other side of a threshold would change all later draws, and the two would part within a few steps although
  both are right.
- images that are not resized: torchvision scales masks with an index in float32, which can be off by one row.
- in float32, for gradients and steps to the last digits, ReLUs that rounding cannot flip, see ``fixed_relus.py``.

In a float64 model torchvision still keeps labels and ratios of image sizes in float32; for the comparison they are
float64 (``model.in_precision``). Its losses and its optimiser: ``their_training.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kernels import to_host

from ...backbone import map_channels
from ...config import Config
from ...data.sample import Sample
from ...model import MaskRCNN
from ...molding import Batch, make_batch
from ...params import Params
from ...tables import text_table
from ...targets import Targets
from ...training.optim import clip_gradients, learning_rate_at, sgd_step, zero_velocity
from ...weights.torchvision import from_torchvision
from ..report import Report, Table
from ..rows import HEAD, Row, cells, errors, number
from . import model, norms, their_training

#: largest relative error of a loss in any step, and of a gradient in the first, by precision
LOSS_BOUND = {"float32": 1e-3, "float64": 1e-8}
GRADIENT_BOUND = {"float32": 1e-3, "float64": 1e-9}
LOSS_HEAD = ("step", "loss", "mrcnn-np", "torchvision", "relative")
#: our losses' names in torchvision
THEIR_LOSSES = {
    "rpn_class": "loss_objectness", "rpn_box": "loss_rpn_box_reg", "head_class": "loss_classifier",
    "head_box": "loss_box_reg", "head_mask": "loss_mask", "head_keypoint": "loss_keypoint",
}  # fmt: skip


@dataclass
class TrainingComparison:
    """Losses of every step on both sides, and gradients of the first.

    Attributes
    ----------
    ours, theirs : list of dict
        For every step, ``{loss: value}``.
    gradients : list of Row
        Of the first step.
    parameters : list of Row
        All tensors after the last step; running statistics among them. No bound: ``within`` is None.
    dtype : str
    names : tuple of str
    info : dict of str to str
    """

    ours: list[dict[str, float]]
    theirs: list[dict[str, float]]
    gradients: list[Row]
    parameters: list[Row]
    dtype: str
    names: tuple[str, str] = ("mrcnn-np", "torchvision")
    info: dict[str, str] = field(default_factory=dict)

    def relative(self, step: int, name: str) -> float:
        """Return the relative error of a loss in a step (from 0)."""
        return errors(np.array([self.ours[step][name]]), np.array([self.theirs[step][name]]))[1]

    @property
    def worst_loss(self) -> tuple[float, int, str]:
        """The largest relative error of a loss, its step and its name."""
        return max((self.relative(step, name), step, name) for step, found in enumerate(self.ours) for name in found)

    @property
    def worst_gradient(self) -> Row:
        """The gradient of the first step that is farthest off."""
        return max((row for row in self.gradients if row.within is not None), key=lambda row: row.relative)

    @property
    def worst_parameter(self) -> Row:
        """The tensor that is farthest off at the end."""
        return max(self.parameters, key=lambda row: row.relative)

    @property
    def agree(self) -> bool:
        """Whether losses and gradients are within their bounds."""
        return self.worst_loss[0] <= LOSS_BOUND[self.dtype] and all(row.within is not False for row in self.gradients)

    @property
    def verdict(self) -> str:
        """Both figures beside their bounds."""
        loss, step, name = self.worst_loss
        gradient, parameter = self.worst_gradient, self.worst_parameter
        counted = sum(row.within is not None for row in self.gradients)
        zero = len(self.gradients) - counted
        left_out = f" ({zero} more are zero up to rounding)" if zero else ""
        return (
            f"{len(self.ours)} steps: losses differ by at most {loss:.1e} ({name}, step {step + 1}; bound "
            f"{LOSS_BOUND[self.dtype]:.0e}); the {counted} gradients of step 1{left_out} by at most "
            f"{gradient.relative:.1e} ({gradient.name}; bound {GRADIENT_BOUND[self.dtype]:.0e}); parameters after the "
            f"last step by at most {parameter.relative:.1e} ({parameter.name})"
        )

    def __str__(self) -> str:
        facts = [f"{key}: {value}" for key, value in self.info.items()]
        losses = text_table(LOSS_HEAD, self._losses())
        gradients = text_table(("gradient, step 1", *HEAD[1:]), self._gradients()[:10])
        return "\n".join([*facts, "", losses, "", gradients, "", self.verdict])

    def _repr_html_(self) -> str:
        return self.report().html(whole=False)

    def report(self) -> Report:
        """Return losses and all gradients as a document."""
        losses = Table(LOSS_HEAD, self._losses())
        gradients = Table(HEAD, self._gradients(), title="Gradients of the first step")
        return Report("Training beside torchvision", self.info, self.verdict, [losses, gradients])

    def _losses(self) -> list[tuple[str, ...]]:
        """Return a line for every loss of every step."""
        return [
            (str(step + 1), name, f"{ours[name]:.6f}", f"{theirs[name]:.6f}", number(self.relative(step, name)))
            for step, (ours, theirs) in enumerate(zip(self.ours, self.theirs))
            for name in ours
        ]

    def _gradients(self) -> list[tuple[str, ...]]:
        """Return a line for every gradient of the first step, the farthest off first."""
        return [cells(row) for row in sorted(self.gradients, key=lambda row: -row.relative)]


def compare_training(
    params: Mapping[str, np.ndarray], config: Config, samples: Sequence[Sample], *, steps: int = 20, seed: int = 0
) -> TrainingComparison:
    """Train both models for some steps and compare losses, first gradients and last parameters.

    Parameters
    ----------
    params : mapping of str to ndarray
        Ours; their precision is that of the run. They are copied.
    config : Config
        ``learning_rate`` (warmed up if ``warmup_steps`` says so), ``momentum``, ``weight_decay``, ``no_decay`` and
        ``bn_mode`` are those of both sides.
    samples : sequence of Sample
        One batch, the same in every step.
    steps : int
    seed : int
        Of the draws.

    Returns
    -------
    TrainingComparison

    Raises
    ------
    ConfigError
        The network is one that torchvision does not have.
    """
    dtype = next(iter(params.values())).dtype
    ours = MaskRCNN(config, {name: p.copy() for name, p in params.items()})
    ours.settle()
    theirs = model.build(params, config).train()
    if config.bn_mode == "frozen":
        norms.freeze_norms(theirs)
    velocity, optimiser = zero_velocity(ours.params, config), their_training.optimiser(theirs, config)
    batch = make_batch(samples, config, dtype.type)
    result = TrainingComparison([], [], [], [], str(dtype))
    for step in range(steps):
        rate = learning_rate_at(step, config)
        losses, cache = ours.losses(batch, np.random.default_rng([seed, step]))
        grads = ours.backward(cache)
        targets = to_host(cache.targets)
        their_losses = their_training.losses(theirs, samples, targets)
        optimiser.zero_grad()
        sum(their_losses.values()).backward()
        result.ours.append({name: float(loss) for name, loss in losses.items()})
        result.theirs.append({name: _loss(their_losses, THEIR_LOSSES[name]) for name in losses})
        if step == 0:
            named = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
            result.gradients = _rows(to_host(grads), _converted(named, config), GRADIENT_BOUND[str(dtype)])
        their_training.step(theirs, optimiser, config, rate)
        clip_gradients(grads, config.clip_norm)
        sgd_step(ours.params, grads, velocity, learning_rate=rate, config=config)
    state = {name: t.detach().numpy() for name, t in theirs.state_dict().items()}
    result.parameters = _rows(to_host(ours.params), _converted(state, config), None)
    result.info = _facts(batch, config, str(dtype), targets if steps else None)
    return result


def _loss(losses: Mapping[str, Any], name: str) -> float:
    """Return one of theirs; without a mask branch there is none of masks, which is 0 here."""
    return float(losses[name].detach()) if name in losses else 0.0


def _rows(ours: Params, theirs: Params, bound: float | None) -> list[Row]:
    """Compare tensors of the same names.

    Parameters
    ----------
    ours, theirs : dict of str to ndarray
        Gradients or parameters of both sides.
    bound : float or None
        Largest relative error; None: nothing is judged.
    """
    assert set(ours) == set(theirs)
    largest = max(float(np.abs(b).max()) for b in theirs.values())
    rows = []
    for name, a in ours.items():
        max_abs, relative = errors(a, theirs[name])
        # A shift that the next batch norm takes away again has a gradient of 0; what is left of it is rounding
        is_zero = float(np.abs(theirs[name]).max()) < 16 * np.finfo(a.dtype).eps * largest
        if bound is None:
            rows.append(Row(name, a.shape, max_abs, relative, None))
        elif is_zero:
            rows.append(Row(name, a.shape, max_abs, relative, None, "zero up to rounding"))
        else:
            rows.append(Row(name, a.shape, max_abs, relative, relative <= bound))
    return rows


def _converted(tensors: Mapping[str, np.ndarray], config: Config) -> Params:
    # heads that share C5 have it twice in a state_dict
    once = {name: a for name, a in tensors.items() if not name.startswith("roi_heads.mask_head.layer4.")}
    return from_torchvision(once, channels=map_channels(config))


def _facts(batch: Batch, config: Config, dtype: str, targets: Targets | None) -> dict[str, str]:
    """Say what was trained, how, and on what.

    Parameters
    ----------
    batch : Batch
    config : Config
    dtype : str
    targets : Targets or None
        Of the last step.
    """
    n, height, width = batch.images.shape[:3]
    norm = f"{config.norm} norm" + (f" {config.bn_mode}" if config.norm == "batch" else "")
    facts = {
        "images": f"{n} of {height} × {width} pixels, {sum(len(b) for b in batch.gt_boxes)} objects",
        "network": f"{config.backbone}, {config.num_classes} classes, {norm}, {dtype}",
        "optimiser": f"rate {config.learning_rate:g}, momentum {config.momentum:g}, decay {config.weight_decay:g}",
    }
    if targets is not None:
        anchors, positive = (targets.rpn_labels != 0).sum(), (targets.rpn_labels == 1).sum()
        rois, objects = len(targets.rois), (targets.class_ids > 0).sum()
        facts["last draw"] = f"{anchors} anchors, {positive} positive; {rois} RoIs, {objects} positive"
    return facts
