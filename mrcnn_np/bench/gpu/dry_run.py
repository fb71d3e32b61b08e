"""Which kernels an operation launches, in which grids, on a card that is not there: nothing is computed.

The tiles, plans and grids are the card's, not the simulator's: ``numba-cuda`` has to be installed, because kernels are
declared with its types. Arrays are stand-ins for CuPy's that hold memory of the right size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np


class Launch(NamedTuple):
    """One launch of a kernel.

    Attributes
    ----------
    kernel : str
    blocks, threads : int
        In all, and of a block.
    nbytes : int
        Of the arrays that it is given: what it reads and writes at least, if it needs all of them once.
    microseconds : float or None
        What the model that chooses tiles says of a matrix product; None for other kernels.
    """

    kernel: str
    blocks: int
    threads: int
    nbytes: int
    microseconds: float | None


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Let kernels be launched into a list. Only to be used in a process that has not imported the kernels before."""
    from kernels.cuda.machine import device, require, simulated

    def array(values: Any, dtype: Any = None, **_: Any) -> Any:
        held = values._array if isinstance(values, simulated.SimulatedArray) else values
        return simulated.SimulatedArray(np.array(held, dtype, order="C"))

    def host(values: Any) -> np.ndarray:
        return values.get() if isinstance(values, simulated.SimulatedArray) else values

    found: list[Launch] = []
    modelled: list[float] = []

    def launch(body: Any, blocks: Any, threads: Any, *args: Any) -> None:
        size, block = (math.prod(n) if isinstance(n, tuple) else n for n in (blocks, threads))
        arrays = {id(a): a.nbytes for a in args if isinstance(a, simulated.SimulatedArray)}
        found.append(Launch(body.name, size, block, sum(arrays.values()), modelled.pop() if modelled else None))

    def made(fill: Callable[..., np.ndarray]) -> Callable[..., Any]:
        return lambda shape, dtype=np.float32: simulated.SimulatedArray(fill(shape, dtype))

    device.cupy = SimpleNamespace(
        array=array, asnumpy=host, empty=made(np.zeros), zeros=made(np.zeros), ndarray=made(np.zeros)
    )
    device.Array, device.launch = simulated.SimulatedArray, launch
    module: Any = device
    module.aligned = lambda x: x if x.flags.c_contiguous else x.copy()
    require.simulated = lambda: True
    import kernels.cuda
    from kernels.cuda.machine import groups, product, tensors, tiles, turned_product

    assert kernels.cuda.KERNELS
    for module in (groups, tensors):
        if hasattr(module, "address_of"):
            module.address_of = lambda array: 0  # nobody reads there
    plan = tiles.plan

    def modelled_plan(rows: int, columns: int, slabs: int, products: int = 1) -> Any:
        chosen = plan(rows, columns, slabs, products)
        modelled.append(tiles._time(*chosen, rows, columns, slabs, products))
        return chosen

    for module in (product, turned_product):
        module.plan = modelled_plan
    yield found
