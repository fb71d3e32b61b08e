"""A look at, or a hand on, the tensors inside a run of the network: what forward hooks are to a framework."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: called with a tensor's name and the tensor; returns the tensor to go on with (most often the same)
Observe = Callable[[str, np.ndarray], np.ndarray]


def unobserved(name: str, x: np.ndarray) -> np.ndarray:
    """Go on with ``x``: nobody is watching."""
    return x
