"""One operation at one size beside PyTorch's: inputs that float32 can hold, our function, theirs.

Tensors keep our layout (NHWC, HWIO, y1 x1 y2 x2); permutations stand inside PyTorch's function, so its gradients come
back in our layout too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

ORDER = [1, 0, 3, 2]
Ours = Callable[..., tuple[np.ndarray, Callable[[np.ndarray], Any] | None]]


@dataclass(frozen=True)
class Case:
    """One operation at one size.

    Attributes
    ----------
    op, case : str
    inputs : tuple of ndarray
        Cast to each precision; what is not floating point stays.
    ours : callable
        ``ours(*arrays)`` returns ``(y, backward)``; ``backward(dy)`` one gradient per differentiable input, None if
        there is no backward pass.
    theirs : callable
        ``theirs(*tensors)`` returns ``y``.
    winograd : bool
        Our compiled kernel may be off by ten times what a direct convolution is.
    decision : bool
        The results are choices (indices, pixels): the error is the share that differs from PyTorch's.
    """

    op: str
    case: str
    inputs: tuple[np.ndarray, ...]
    ours: Ours
    theirs: Callable[..., torch.Tensor]
    winograd: bool = False
    decision: bool = False


def nchw(x: torch.Tensor) -> torch.Tensor:
    """Return maps in PyTorch's layout."""
    return x.permute(0, 3, 1, 2).contiguous()


def nhwc(x: torch.Tensor) -> torch.Tensor:
    """Return maps in our layout."""
    return x.permute(0, 2, 3, 1)


def oihw(w: torch.Tensor) -> torch.Tensor:
    """Return a kernel in PyTorch's layout."""
    return w.permute(3, 2, 0, 1).contiguous()


def xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """Return boxes, or deltas, in the other order."""
    return boxes[..., ORDER]


def with_gradients(forward: Any, backward: Any, count: int = 1, **options: Any) -> Ours:
    """Return our function as a case wants it: the first ``count`` gradients count.

    Parameters
    ----------
    forward, backward : callable
        ``y, cache = forward(*inputs, **options)``; ``backward(dy, cache)`` returns a gradient or several.
    count : int
    **options
        Of ``forward``.
    """

    def ours(*inputs: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], Any]]:
        y, cache = forward(*inputs, **options)

        def gradients(dy: np.ndarray) -> Any:
            result = backward(dy, cache)
            return result[:count] if isinstance(result, tuple) else (result,)

        return y, gradients

    return ours


def only_forward(function: Any, **options: Any) -> Ours:
    """Return a function without a backward pass as a case wants it."""
    return lambda *inputs: (function(*inputs, **options), None)


def normal(seed: int, *shape: int) -> np.ndarray:
    """Return float32 numbers of deviation 1."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
