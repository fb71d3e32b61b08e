"""Which parameters a configuration has: the lists of all parts, one after the other, in the order of the data flow."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .backbone import backbone_spec
from .config import Config
from .errors import CheckpointError, ConfigError
from .fpn import fpn_spec
from .heads import box_head_spec, mask_head_spec
from .keypoints.head import keypoint_head_spec
from .params import Params, Spec, draw
from .rpn import rpn_spec


def spec(config: Config) -> dict[str, Spec]:
    """List every tensor of the network that ``config`` describes, in the order of the data flow.

    Raises
    ------
    ConfigError
        ``norm_groups`` does not divide the channels of a layer that has a group norm, or a norm of each map would leave
        nothing of maps of one pixel.
    """
    tensors = {
        **backbone_spec(config),
        **(fpn_spec(config) if config.neck == "fpn" else {}),
        **rpn_spec(config),
        **box_head_spec(config),
        **(mask_head_spec(config) if config.mask_branch else {}),
        **keypoint_head_spec(config),
    }
    _check_norms({n.removesuffix(".gamma"): t.shape[0] for n, t in tensors.items() if n.endswith(".gamma")}, config)
    return tensors


def _check_norms(channels: Mapping[str, int], config: Config) -> None:
    """Refuse a norm of each map that cannot be, or of which nothing would be left; given the channels of each norm."""
    if config.norm == "batch":
        return
    for name, count in channels.items():
        if config.norm == "group" and count % config.norm_groups:
            common = math.gcd(*channels.values())
            raise ConfigError(
                f"norm_groups is {config.norm_groups}; expected a divisor of the {count} channels of {name}, and of "
                f"all others: {common} or a divisor of it"
            )
        single = config.norm == "instance" or config.norm_groups == count
        if single and config.box_head == "conv" and name.startswith("box_head."):
            raise ConfigError(
                f"norm takes the mean of each channel away, and the maps of {name} have one pixel, of which nothing "
                "would be left; expected norm = 'batch', fewer norm_groups, or box_head = 'fc' or 'conv_fc'"
            )


def initialise(config: Config, rng: np.random.Generator, dtype: type = np.float32) -> Params:
    """Draw fresh parameters of the whole network.

    Parameters
    ----------
    config : Config
    rng : numpy.random.Generator
        Each tensor is drawn in turn, in the order of ``spec``.
    dtype : type
        float32, or float64 for gradient checks.

    Returns
    -------
    dict of str to ndarray
    """
    return draw(spec(config), rng, dtype)


def check(params: Mapping[str, np.ndarray], config: Config) -> None:
    """Raise ``CheckpointError`` with a table if names or shapes are not those that ``config`` needs."""
    expected = spec(config)
    rows = [f"  missing     {name} {t.shape}" for name, t in expected.items() if name not in params]
    rows += [f"  unexpected  {name} {p.shape}" for name, p in params.items() if name not in expected]
    rows += [
        f"  shape       {name} is {params[name].shape}, expected {t.shape}"
        for name, t in expected.items()
        if name in params and params[name].shape != t.shape
    ]
    if rows:
        shown = rows[:20] + ([f"  ... and {len(rows) - 20} more"] if len(rows) > 20 else [])
        raise CheckpointError(f"parameters do not fit the configuration {config.name!r}:\n" + "\n".join(shown))
