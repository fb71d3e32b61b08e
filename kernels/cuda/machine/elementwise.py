"""Kernels that treat all elements alike: a function of one to three numbers, over whole arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .device import SIMULATED, Kernel, aligned, blocks_for, cuda, device_function, empty, kernel, launch
from .vectors import load4, store4

THREADS = 8 if SIMULATED else 256  # of a block


def elementwise(function: Callable[..., Any], inputs: int) -> Kernel:
    """Return the kernel that computes ``function`` of each element.

    **Owns:** a thread, four neighbouring elements of the result; the last one takes what is left, one by one.
    **Shared:** nothing. **No race:** each writes its own. **Floor:** every array read, the result written once, 4 bytes
    an element and array.
    """
    return (_of_one, _of_two, _of_three)[inputs - 1](device_function(function), function.__name__.strip("_"))


def _of_one(compute: Any, name: str) -> Kernel:
    @kernel("f4[::1]", "f4[::1]", name=name)
    def body(x, y):
        """See ``elementwise``."""
        first = 4 * cuda.grid(1)
        if first + 4 <= y.size:
            a, b, c, d = load4(x, first)
            store4(y, first, compute(a), compute(b), compute(c), compute(d))
        else:
            for i in range(first, y.size):
                y[i] = compute(x[i])

    return body


def _of_two(compute: Any, name: str) -> Kernel:
    @kernel("f4[::1]", "f4[::1]", "f4[::1]", name=name)
    def body(x, z, y):
        """See ``elementwise``."""
        first = 4 * cuda.grid(1)
        if first + 4 <= y.size:
            a, b, c, d = load4(x, first)
            e, f, g, h = load4(z, first)
            store4(y, first, compute(a, e), compute(b, f), compute(c, g), compute(d, h))
        else:
            for i in range(first, y.size):
                y[i] = compute(x[i], z[i])

    return body


def _of_three(compute: Any, name: str) -> Kernel:
    @kernel("f4[::1]", "f4[::1]", "f4[::1]", "f4[::1]", name=name)
    def body(x, z, w, y):
        """See ``elementwise``."""
        first = 4 * cuda.grid(1)
        if first + 4 <= y.size:
            a, b, c, d = load4(x, first)
            e, f, g, h = load4(z, first)
            k, m, n, o = load4(w, first)
            store4(y, first, compute(a, e, k), compute(b, f, m), compute(c, g, n), compute(d, h, o))
        else:
            for i in range(first, y.size):
                y[i] = compute(x[i], z[i], w[i])

    return body


def apply(body: Kernel, *arrays: Any) -> Any:
    """Run such a kernel over arrays of one shape; return the result."""
    result = empty(arrays[0].shape)
    flat = [aligned(array).reshape(-1) for array in arrays]
    launch(body, blocks_for(blocks_for(result.size, 4), THREADS), THREADS, *flat, result.reshape(-1))
    return result
