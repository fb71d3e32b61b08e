"""Stochastic gradient descent with momentum: schedule, clipping, weight decay, frozen parameters.

One step of training, once the gradients are there::

    norm = clip_gradients(grads, config.clip_norm)
    update(params, grads, velocity, learning_rate=learning_rate_at(step, config), config=config)

``velocity`` is the whole state of the optimiser: a dict with the names of the tensors that are trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import numpy as np

from kernels import accelerated

from ..config import Config
from ..errors import ConfigError
from ..params import Params, matches, trainable


def trained_names(params: Iterable[str], config: Config) -> list[str]:
    """List the tensors that gradient descent changes: trainable and not matched by ``config.frozen``.

    Parameters
    ----------
    params : iterable of str
        The names of all tensors.
    config : Config

    Returns
    -------
    list of str
        In the order of ``params``.

    Raises
    ------
    ConfigError
        A pattern of ``config.frozen`` matches no trainable tensor: most likely it is misspelt, and training what was
        meant to stay would go unnoticed.
    """
    names = [name for name in params if trainable(name)]
    for pattern in config.frozen:
        if not any(fnmatchcase(name, pattern) for name in names):
            some = ", ".join(names[:3])
            raise ConfigError(f"frozen pattern {pattern!r} matches no parameter; parameter names look like {some}")
    return [name for name in names if not matches(name, config.frozen)]


def zero_velocity(params: Mapping[str, np.ndarray], config: Config) -> Params:
    """Return the optimiser's state before the first step: zeros for every tensor that is trained."""
    return {name: np.zeros_like(params[name]) for name in trained_names(params, config)}


def learning_rate_at(step: int, config: Config) -> float:
    r"""Return the learning rate of one step: linear warm-up, times a staircase or half a cosine.

    .. math::

        \eta_s = \eta \cdot \bigl(f + (1 - f) \min(1, s / W)\bigr) \cdot
        \begin{cases} d^{\,\#\{i : s \ge t_i\}} & \text{stairs} \\
        \tfrac12 (1 + \cos(\pi s / S)) & \text{cosine} \end{cases}

    with warm-up factor f over W steps, decay factor d, the decay steps :math:`t_i` = ``decay_at[i] * steps``, and S
    steps in all.

    Parameters
    ----------
    step : int
        Steps done so far: 0 for the first step.
    config : Config

    Returns
    -------
    float

    Notes
    -----
    Momentum makes the first steps of a fresh network the dangerous ones: RPN and heads see noise, and the gradients
    agree with each other. Warm-up keeps these steps small (Goyal et al. 2017, section 2.2). The cosine is that of
    Loshchilov and Hutter 2017, equation 5, without restarts.
    """
    rate = config.learning_rate
    if step < config.warmup_steps:
        rate *= config.warmup_factor + (1.0 - config.warmup_factor) * step / config.warmup_steps
    if config.decay == "cosine":
        return rate * 0.5 * (1.0 + math.cos(math.pi * min(step / max(config.steps, 1), 1.0)))
    # round: 0.29 * 100 is 28.999999999999996, and a step is a whole number
    return rate * config.decay_factor ** sum(step >= round(fraction * config.steps) for fraction in config.decay_at)


@accelerated
def global_norm(grads: Mapping[str, np.ndarray]) -> float:
    """Return the L2 norm of all gradients taken as one long vector.

    The sum runs in float64 (a float32 square overflows at 1.8e19) and in the dictionary's order.
    """
    return math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in grads.values()))


@accelerated
def clip_gradients(grads: Mapping[str, np.ndarray], max_norm: float | None) -> float:
    """Scale all gradients down, **in place**, so that their global norm is at most ``max_norm``.

    Parameters
    ----------
    grads : dict of str to ndarray
    max_norm : float or None
        ``None`` only measures.

    Returns
    -------
    float
        The norm before clipping.

    Notes
    -----
    One factor for all tensors keeps the direction of the step; clipping tensor by tensor would not.
    """
    norm = global_norm(grads)
    if max_norm is not None and norm > max_norm:
        for g in grads.values():
            g *= max_norm / norm
    return norm


def update(
    params: Params, grads: Mapping[str, np.ndarray], velocity: Params, *, learning_rate: float, config: Config
) -> None:
    r"""Do ``sgd_step`` with the weight decay that ``config.weight_decay_on`` asks for, **in place**.

    "sum" is ``sgd_step`` itself: the penalty :math:`\frac{\lambda}{2} \sum p^2` has the gradient :math:`\lambda p`.
    "mean" is the penalty :math:`\lambda\,\mathrm{mean}(p^2)` of each tensor, gradient :math:`2 \lambda p / n` for n
    numbers.

    Parameters
    ----------
    params, grads, velocity, learning_rate, config
        As in ``sgd_step``.
    """
    decay = _weight_decays(velocity, config)
    if config.weight_decay_on == "mean":
        decay = {name: 2 * rate / max(1, velocity[name].size) for name, rate in decay.items()}
    momentum_step(params, grads, velocity, learning_rate=learning_rate, momentum=config.momentum, weight_decay=decay)


def sgd_step(
    params: Params, grads: Mapping[str, np.ndarray], velocity: Params, *, learning_rate: float, config: Config
) -> None:
    """Do ``momentum_step`` as a configuration says, **in place**.

    Parameters
    ----------
    params, grads, velocity, learning_rate
        As in ``momentum_step``.
    config : Config
        ``momentum`` and ``weight_decay`` (0 for names that match ``no_decay``).
    """
    decay = _weight_decays(velocity, config)
    momentum_step(params, grads, velocity, learning_rate=learning_rate, momentum=config.momentum, weight_decay=decay)


def _weight_decays(names: Iterable[str], config: Config) -> dict[str, float]:
    """Return ``config.weight_decay`` for each name, or 0 for those that ``config.no_decay`` matches."""
    return {name: 0.0 if matches(name, config.no_decay) else config.weight_decay for name in names}


@accelerated
def momentum_step(
    params: Params,
    grads: Mapping[str, np.ndarray],
    velocity: Params,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: Mapping[str, float],
) -> None:
    r"""Move the parameters one step downhill, **in place**.

    .. math:: v \leftarrow \mu v + (g + \lambda p), \qquad p \leftarrow p - \eta v

    Parameters
    ----------
    params : dict of str to ndarray
        Changed in place for the names in ``velocity``; all others (frozen tensors, running statistics) stay.
    grads : dict of str to ndarray
        dL/dp; must hold every name in ``velocity``.
    velocity : dict of str to ndarray
        v of the last step, from ``zero_velocity`` at the start; changed in place.
    learning_rate : float
        :math:`\eta`.
    momentum : float
        :math:`\mu`.
    weight_decay : dict of str to float
        :math:`\lambda` for every name in ``velocity``.

    Notes
    -----
    This is PyTorch's form. Sutskever et al. 2013 and Caffe put the rate inside the velocity,
    :math:`v \leftarrow \mu v + \eta g`: the same path while the rate is constant; when the rate drops, this form
    shrinks the momentum gathered so far along with it (Goyal et al. 2017, section 3).
    """
    for name, v in velocity.items():
        p = params[name]
        v *= momentum
        v += grads[name]
        if weight_decay[name]:
            v += weight_decay[name] * p
        p -= learning_rate * v
