"""One row of the table of operations: its numbers, how we compute it, how the framework does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernels.cpu.machine.memory import empty

Runs = dict[str, Callable[[], Any]]


class Op:
    """An operation at one size.

    Attributes
    ----------
    group, case : str
        What it is, and the size, for the table.
    directions : tuple of str
        ``("forward", "backward")``, or one name.
    targets : dict of str to float
        Ratios to reach, by direction.
    gflop : dict of str to float
        10^9 float32 operations by the definition, where arithmetic is the limit.
    gbytes : dict of str to float
        10^9 bytes that have to move at least, where memory is.
    variants : tuple of str
        Ways to run the framework; the ratio uses the fastest.
    """

    group: str
    case: str
    directions: tuple[str, ...] = ("forward", "backward")
    variants: tuple[str, ...] = ("",)

    def __init__(self) -> None:
        self.targets: dict[str, float] = {}
        self.gflop: dict[str, float] = {}
        self.gbytes: dict[str, float] = {}

    def prepare(self, rng: np.random.Generator) -> None:
        """Draw the inputs, float32."""
        raise NotImplementedError

    def ours(self, dtype: type) -> Runs:
        """Return our functions by direction; called and run on one backend."""
        raise NotImplementedError

    def theirs(self, variant: str) -> Runs:
        """Return the framework's functions by direction."""
        raise NotImplementedError

    def translate(self, direction: str, result: Any) -> list[np.ndarray]:
        """Return the framework's result as arrays laid out like ours."""
        return [as_array(t) for t in result]


def normal(rng: np.random.Generator, shape: Sequence[int], scale: float = 1.0) -> np.ndarray:
    """Return normally distributed float32 numbers, which begin at a cache line as every map inside a network does.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : sequence of int
    scale : float
        Their deviation.
    """
    x = empty(tuple(shape))
    rng.standard_normal(out=x, dtype=np.float32)
    x *= np.float32(scale)
    return x


def maps(x: np.ndarray, variant: str = "") -> Any:
    """Return (N, H, W, C) as a tensor (N, C, H, W) in the memory format ``variant``: NCHW, or as it lies."""
    import torch

    tensor = torch.from_numpy(x).permute(0, 3, 1, 2)
    layout = torch.channels_last if variant == "channels_last" else torch.contiguous_format
    return tensor.contiguous(memory_format=layout)


def kernel(w: np.ndarray, variant: str, order: tuple[int, ...] = (3, 2, 0, 1)) -> Any:
    """Return (kh, kw, C_in, C_out) as a tensor (C_out, C_in, kh, kw), or in another order.

    Parameters
    ----------
    w : ndarray of shape (kh, kw, C_in, C_out)
    variant : str
        Memory format.
    order : tuple of int
        Which axis goes where.
    """
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(w.transpose(order)))
    return tensor.contiguous(memory_format=torch.channels_last) if variant == "channels_last" else tensor


def in_dtype(dtype: type, *arrays: np.ndarray) -> list[np.ndarray]:
    """Return arrays in another dtype, themselves if they have it already."""
    return [a.astype(dtype, copy=False) for a in arrays]


def as_array(tensor: Any) -> np.ndarray:
    """Return a tensor as an array; four axes are (N, C, H, W) and become (N, H, W, C)."""
    tensor = tensor.detach()
    array: np.ndarray = (tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor).numpy()
    return array


def in_torch(function: Callable[..., Any], inputs: Sequence[Any], dy: Any) -> Runs:
    """Return forward, without a graph, and backward, the gradients of all inputs on a graph made once.

    Parameters
    ----------
    function : callable
    inputs : sequence of Tensor
    dy : Tensor
        Gradient of what the function returns.
    """
    import torch

    def forward() -> Any:
        with torch.inference_mode():
            return [function(*inputs)]

    leaves = [x.detach().requires_grad_() for x in inputs]
    y = function(*leaves)
    return {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True),
    }


def gbytes(*arrays: np.ndarray) -> float:
    """Return the size of arrays together, in 10^9 bytes."""
    return sum(a.nbytes for a in arrays) / 1e9
