"""What ranks that train one network have to agree on: how a batch is divided, and what the parameters are."""

from __future__ import annotations

import numpy as np

from kernels import to_host

from ..config import Config
from ..errors import UserError
from ..parallel.ranks import Ranks
from ..params import Params
from .checkpoint import checksum


def require_shares(config: Config, ranks: Ranks) -> None:
    """Raise ``UserError`` unless every rank has an image of each batch."""
    if ranks.size > config.batch_size:
        raise UserError(
            f"a batch has {config.batch_size} images, too few for {ranks.size} ranks; expected at least one for each: "
            "fewer processes, or a larger --batch-size (it counts the images of all ranks)"
        )


def alike(params: Params, velocity: Params, ranks: Ranks) -> None:
    """Let all ranks have the first one's parameters and velocity, **in place**.

    Parameters
    ----------
    params, velocity : dict of str to ndarray
    ranks : Ranks

    Notes
    -----
    On machines of one kind they are the same to the last bit anyway: the same sums of gradients have arrived at every
    rank, and the rest is the same arithmetic. On processors of different kinds the last digits may drift apart. What is
    written is what the first rank has, so when it is written the others take it over, and a run that is continued from
    a checkpoint has the bits of one that never stopped.
    """
    if not ranks.several:
        return
    everything = (params, velocity)
    own = [checksum(to_host(tensor)) for tensors in everything for tensor in tensors.values()]
    if len({tuple(sums) for sums in ranks.gather(own)}) == 1:
        return
    for tensors, firsts in zip(everything, ranks.of_first(lambda: to_host(everything))):
        for name, value in firsts.items():
            tensors[name][...] = np.array(value, like=tensors[name])
