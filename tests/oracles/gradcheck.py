"""Two checks that catch a wrong backward pass: finite differences along random directions, and the adjoint identity.

A backward pass ``dx = backward(dy)`` claims that for every small step ``v``::

    <f(x + v) - f(x), dy>  ~  <v, dx>        (<a, b> = sum of a * b over all elements)

``check_gradients`` draws ``dy`` and ``v`` at random and compares both sides. One direction costs two evaluations of
``f`` whatever the size of ``x``, where a check element by element costs two per element; and because a random
direction touches every element, one wrong element shows with probability one.

``adjoint_error`` is for *linear* operations, where the identity holds exactly and no step size is needed.

Use in a test (pytest puts this folder on the import path)::

    from gradcheck import adjoint_error, check_gradients

    def test_linear_gradients():
        rng = np.random.default_rng(0)

        def f(x, w, b):
            y, cache = linear(x, w, b)
            return y, lambda dy: linear_backward(dy, cache)

        check_gradients(f, rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), rng.normal(size=2), rng=rng)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MACHINE_EPS = float(np.finfo(np.float64).eps)  # 2.2e-16


def check_gradients(
    f: Callable[..., tuple[Any, Callable[..., Any]]],
    *args: Any,
    rng: np.random.Generator,
    eps: float = 1e-6,
    directions: int = 2,
    tol: float = 1e-6,
) -> None:
    """Compare ``backward`` with the central difference of ``f`` along random directions, one argument at a time.

    For argument ``i`` with gradient ``g`` and direction ``v`` (standard normal) the two numbers are::

        numeric  = <f(.., x_i + eps v, ..) - f(.., x_i - eps v, ..), dy> / (2 eps)
        analytic = <g, v>

    Parameters
    ----------
    f : callable
        ``y, backward = f(*args)``, where ``backward(dy)`` returns one gradient per argument; ``None`` marks an
        argument that has none (labels, RoIs). ``y`` is an array, or a list or tuple of arrays (the levels of a
        pyramid), and then ``dy`` is a list of arrays of the same shapes. A single argument may return a bare array.
    *args : ndarray
        Float64 wherever there is a gradient: in float32 the difference quotient has no digits left. Keep them away
        from kinks and ties (relu at 0, two equal maxima), where the derivative does not exist.
    rng : numpy.random.Generator
        Where ``dy`` and the directions come from.
    eps : float
        Step. The error of the central difference is about ``eps**2`` (truncation) plus ``1e-16 / eps`` (round-off).
    directions : int
        Random directions per argument.
    tol : float
        Largest relative error.

    Raises
    ------
    AssertionError
        Naming the argument's index and both numbers. Also when a gradient has another shape or dtype than its
        argument, or when ``f`` or ``backward`` modified an argument.

    Notes
    -----
    The relative error is taken against the larger of the two numbers. A derivative that is exactly zero (a bias
    in front of batch norm) comes out as round-off on both sides, so an absolute allowance is added for what the
    quotient cannot resolve: ten times ``machine epsilon * |y * dy| / eps``.
    """
    originals = [np.array(a, copy=True) for a in args]
    y, backward = f(*args)
    dy = [rng.normal(size=np.shape(part)) for part in _parts(y)]
    gradients = backward(dy if isinstance(y, (list, tuple)) else dy[0])
    if not isinstance(gradients, (list, tuple)):
        gradients = (gradients,)
    assert len(gradients) == len(args), f"backward returned {len(gradients)} gradients for {len(args)} arguments"
    for i, (arg, original) in enumerate(zip(args, originals)):
        assert np.array_equal(arg, original), f"argument {i} was modified in place"

    noise = MACHINE_EPS * np.sqrt(sum(np.sum((p * d) ** 2) for p, d in zip(_parts(y), dy))) / eps
    for i, (x, gradient) in enumerate(zip(args, gradients)):
        if gradient is None:
            continue
        assert x.dtype == np.float64, f"argument {i} is {x.dtype}; gradients are checked in float64"
        assert gradient.dtype == np.float64, f"gradient {i} is {gradient.dtype}, its argument float64"
        assert gradient.shape == x.shape, f"gradient {i} has shape {gradient.shape}, its argument {x.shape}"
        for _ in range(directions):
            v = rng.normal(size=x.shape)
            ahead, _ = f(*args[:i], x + eps * v, *args[i + 1 :])
            behind, _ = f(*args[:i], x - eps * v, *args[i + 1 :])
            # Subtract before summing: the sums are large and nearly equal.
            numeric = sum(np.sum((a - b) * d) for a, b, d in zip(_parts(ahead), _parts(behind), dy)) / (2 * eps)
            analytic = np.sum(gradient * v)
            allowed = tol * max(abs(numeric), abs(analytic)) + 10 * noise
            # "not <=" rather than ">": NaN must fail.
            if not abs(numeric - analytic) <= allowed:
                raise AssertionError(
                    f"gradient of argument {i} (shape {x.shape}): "
                    f"numeric {numeric:.12g}, analytic {analytic:.12g}, "
                    f"difference {abs(numeric - analytic):.3g}, allowed {allowed:.3g}"
                )


def adjoint_error(
    forward: Callable[[np.ndarray], np.ndarray],
    transpose: Callable[[np.ndarray], np.ndarray],
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    rng: np.random.Generator,
) -> float:
    """Return how far ``transpose`` is from the adjoint of the linear map ``forward``: 0 up to round-off if it is.

    ``transpose`` is the adjoint if ``<forward(x), y> = <x, transpose(y)>`` for all ``x`` and ``y``. The result is
    the difference of both sides for one random float64 pair, divided by ``|forward(x)| |y|`` (by 1 if that is 0).
    """
    x, y = rng.normal(size=x_shape), rng.normal(size=y_shape)
    fx, ty = forward(x), transpose(y)
    assert fx.shape == y.shape, f"forward gives shape {fx.shape}, y has {y.shape}"
    assert ty.shape == x.shape, f"transpose gives shape {ty.shape}, x has {x.shape}"
    scale = np.linalg.norm(fx) * np.linalg.norm(y)
    return float(abs(np.sum(fx * y) - np.sum(x * ty)) / (scale if scale > 0 else 1.0))


def _parts(y: Any) -> Sequence[np.ndarray]:
    """Return the outputs as a sequence: a single array is a sequence of one."""
    return y if isinstance(y, (list, tuple)) else [y]
