"""The hot loops again, for speed: which function runs, the readable NumPy one or a compiled one of the same name.

``@accelerated`` stands on a NumPy function in ``mrcnn_np``. While a backend is active, the function of the same name
in ``kernels.cpu`` is called first, with the same arguments; it may decline with ``NotImplemented`` (float64, an unusual
stride ...), and then the NumPy body runs. ``f.reference`` is always that body: the oracle of the tests.

The backend is ``cpu`` unless the environment variable ``MRCNN_NP_BACKEND`` says ``numpy`` or ``cuda``;
``with use("numpy"):`` changes it for a block, in the current thread. The result has one documented layout on every
backend: forward on one, backward on another works. Under ``cuda`` arrays may lie on the device or on the host, and
results lie where the arguments did (``kernels.placement``).

``with watch(record):`` hands every outermost accelerated call of a block, in the current thread, to ``record`` with
its arguments, its result and its times; calls within calls are not reported.
"""

from __future__ import annotations

import functools
import importlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .placement import as_array, device_memory, from_anywhere, on_device, place, to_device, to_host

__all__ = [
    "BACKENDS", "accelerated", "as_array", "backend", "coverage", "device_memory", "host_work", "named", "on_device",
    "place", "to_device", "to_host", "use", "watch",
]  # fmt: skip

BACKENDS = ("numpy", "cpu", "cuda")
_default: str = os.environ.get("MRCNN_NP_BACKEND") or "cpu"
_backend: ContextVar[str] = ContextVar("backend", default=_default)
_registry: dict[str, Callable[..., Any]] = {}

#: gets the name of a call, its arguments, its result, and when it began and ended by ``time.perf_counter``
Record = Callable[[str, tuple[Any, ...], dict[str, Any], Any, float, float], None]
_watching: ContextVar[Record | None] = ContextVar("watching", default=None)


def backend() -> str:
    """Return the name of the active backend."""
    return _backend.get()


@contextmanager
def use(name: str) -> Iterator[None]:
    """Run a block on another backend: ``with use("numpy"): ...``."""
    _kernels(name)  # an unknown or missing backend shows now
    token = _backend.set(name)
    try:
        yield
    finally:
        _backend.reset(token)


def host_work(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a function on the host, where its arrays are: files, pictures, the scores of an evaluation.

    Under ``cuda`` it runs on the cpu backend; what it calls would else be copied to the device and back.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _backend.get() != "cuda":
            return function(*args, **kwargs)
        with use("cpu"):
            return function(*args, **kwargs)

    return call


def accelerated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let the active backend's function of the same name answer first."""
    name = function.__name__

    @functools.wraps(function)
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        record = _watching.get()
        if record is not None:
            return _recorded(record, name, dispatch, args, kwargs)
        kernel = _kernels(_backend.get()).get(name)
        result = NotImplemented if kernel is None else kernel(*args, **kwargs)
        return function(*args, **kwargs) if result is NotImplemented else result

    dispatch.reference = function  # type: ignore[attr-defined]
    _registry[name] = dispatch
    return dispatch


def named(name: str) -> Callable[..., Any]:
    """Return the accelerated function of a name that ``watch`` reported."""
    return _registry[name]


@contextmanager
def watch(record: Record) -> Iterator[None]:
    """Hand every outermost accelerated call of a block to ``record``: ``with watch(record): ...``.

    A call whose kernel declined is one as well, with the time of both. One that raises is not reported. What
    ``record`` calls itself is not watched.
    """
    token = _watching.set(record)
    try:
        yield
    finally:
        _watching.reset(token)


def _recorded(
    record: Record, name: str, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Do a call and report it; the calls within it, and those of ``record``, find nobody watching."""
    token = _watching.set(None)
    try:
        began = time.perf_counter()
        result = call(*args, **kwargs)
        record(name, args, kwargs, result, began, time.perf_counter())
    finally:
        _watching.reset(token)
    return result


def coverage() -> dict[str, dict[str, bool]]:
    """Return which accelerated function has a kernel where: ``{"conv2d": {"numpy": True, "cpu": True, ...}, ...}``."""
    tables = {name: _names(name) for name in BACKENDS}
    return {op: {name: name == "numpy" or op in table for name, table in tables.items()} for op in sorted(_registry)}


def _names(name: str) -> Collection[str]:
    """Name the functions of a backend; those of ``cuda`` are known on machines without a device, too."""
    return importlib.import_module("kernels.cuda").NAMES if name == "cuda" else _kernels(name)


@functools.cache
def _kernels(name: str) -> dict[str, Callable[..., Any]]:
    """Import a backend and return its functions by name."""
    if name == "numpy":
        return {}
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; expected one of {', '.join(BACKENDS)}")
    try:
        if name == "cuda":
            importlib.import_module("kernels.cuda.machine.require").require()
        table = dict(importlib.import_module(f"kernels.{name}").KERNELS)
    except (ModuleNotFoundError, OSError) as error:
        raise ValueError(f"backend {name!r} is not available: {error}") from error
    return {op: from_anywhere(op, kernel) for op, kernel in table.items()} if name == "cuda" else table
