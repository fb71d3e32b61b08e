"""What the tests of the compiled kernels share: both backends on the same numbers, in both precisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np

EPS = float(np.finfo(np.float32).eps)
INTERPRETED = bool(numba.config.DISABLE_JIT)  # kernels run as Python: a thousand times slower, every line is seen


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = numba.get_num_threads()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def scattered(x: np.ndarray) -> np.ndarray:
    """Return the same numbers, not contiguous."""
    wide = np.zeros((*x.shape, 2), x.dtype)
    wide[..., 0] = x
    return wide[..., 0]


def arrays(result: Any) -> list[np.ndarray]:
    """Return the arrays of a result: one, or those of a tuple."""
    return [a for a in (result if isinstance(result, tuple) else (result,)) if isinstance(a, np.ndarray)]


def to_float64(value: Any) -> Any:
    """Return arguments or a cache in float64."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype == np.float32 else value.copy()
    if isinstance(value, np.dtype):
        return np.dtype(np.float64) if value == np.float32 else value
    if isinstance(value, tuple):
        converted = [to_float64(v) for v in value]
        return type(value)(*converted) if hasattr(value, "_fields") else tuple(converted)
    return value


def error(found: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference, relative to the largest magnitude."""
    assert found.shape == exact.shape
    if exact.size == 0:
        return 0.0
    return float(np.abs(found.astype(np.float64) - exact).max() / max(np.abs(exact).max(), 1e-30))


def distance(found: np.ndarray, exact: np.ndarray) -> float:
    """Root mean square of the difference, relative to that of the exact numbers."""
    return float(np.linalg.norm(found.astype(np.float64) - exact) / np.linalg.norm(exact))


def check_pair(
    forward: Any,
    backward: Any,
    kernels: tuple[Callable[..., Any], Callable[..., Any]],
    args: tuple[Any, ...],
    options: dict[str, Any],
    rng: np.random.Generator,
    factor: float = 4.0,
    slack: float = 8 * EPS,
    error: Callable[[np.ndarray, np.ndarray], float] = error,
) -> None:
    """Hold both kernels against the NumPy bodies.

    Results, and gradients from either backend's cache, are off from float64 by at most ``factor`` times what the NumPy
    body is off in float32, plus a few units in the last place; inputs may be non-contiguous and stay as they are; the
    bits do not depend on the run or on the number of threads.
    """
    before = [np.copy(a) for a in args if isinstance(a, np.ndarray)]
    exact, exact_cache = forward.reference(*to_float64(args), **options)
    body, body_cache = forward.reference(*args, **options)
    y, cache = kernels[0](*args, **options)
    assert y.dtype == np.float32
    assert error(y, exact) <= factor * error(body, exact) + slack
    dy = draw(rng, *y.shape)
    exact_gradients = arrays(backward.reference(dy.astype(np.float64), exact_cache))
    body_gradients = arrays(backward.reference(dy, body_cache))
    crossed = arrays(backward.reference(dy, cache))  # forward on one backend, backward on the other
    for got in (kernels[1](dy, cache), kernels[1](dy, body_cache), kernels[1](scattered(dy), cache)):
        got = arrays(got)
        assert len(got) == len(exact_gradients)
        for mine, its, other, true in zip(got, body_gradients, crossed, exact_gradients):
            assert mine.dtype == np.float32
            assert error(mine, true) <= factor * error(its, true) + slack, (error(mine, true), error(its, true))
            assert error(other, true) <= factor * error(its, true) + slack
    for a, b in zip((a for a in args if isinstance(a, np.ndarray)), before):
        np.testing.assert_array_equal(a, b)
    first = arrays(kernels[1](dy, cache))
    spread = tuple(scattered(a) if isinstance(a, np.ndarray) else a for a in args)
    np.testing.assert_array_equal(kernels[0](*spread, **options)[0], y)
    for count in (1, 2):
        with threads(count):
            again, again_cache = kernels[0](*args, **options)
            np.testing.assert_array_equal(again, y)
            for a, b in zip(arrays(kernels[1](dy, again_cache)), first):
                np.testing.assert_array_equal(a, b)
    # float64 is never rounded
    assert kernels[0](*to_float64(args), **options) is NotImplemented
    assert kernels[1](dy.astype(np.float64), exact_cache) is NotImplemented
