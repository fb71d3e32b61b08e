"""Compile every kernel once, however many processes want it.

A kernel that is not on disk yet takes a second or several. Two processes that start together (ranks, tests, one that
compiles ahead for another) would both compile all of them. So whoever compiles a kernel holds a lock on a file beside
it; the others wait, and read what it wrote. A kernel takes its helpers' locks while it holds its own, never the other
way round, so nobody waits in a circle. The system opens the lock of a process that dies.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from numba.core import event
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

try:
    import fcntl
except ImportError:  # Windows: everybody compiles
    fcntl = None  # type: ignore[assignment]

PATIENCE = 120.0  # seconds to wait for a kernel of somebody else's; then compile it, too
LOOK = 0.02  # seconds between two tries

#: the locks that this process holds, innermost last
_held: dict[Path, BinaryIO] = {}
_busy_is_an_error = False


class Busy(Exception):
    """Another process compiles this kernel."""


class CompiledOnce(FunctionCache):
    """Numba's cache of one function, which locks the function from a miss until it is saved."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load a compiled function; if there is none, return None with the lock held, so that the caller compiles."""
        found = super().load_overload(sig, target_context)
        if found is None and not self._lock(wait=False):
            if _busy_is_an_error and not _held:
                raise Busy(self._name)
            # for whoever listens, waiting for a kernel is the same as compiling it
            with event.trigger_event("numba:compile", data={"dispatcher": self, "args": sig, "return_type": None}):
                self._lock(wait=True)
        if found is None:  # somebody may have saved it between the look and the lock
            found = super().load_overload(sig, target_context)
            if found is not None:
                self._unlock()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save a compiled function and give the lock back."""
        try:
            super().save_overload(sig, data)
        finally:
            self._unlock()

    @property
    def py_func(self) -> Any:
        """The function in Python, under the name that a dispatcher has for it."""
        return self._py_func

    def _path(self) -> Path:
        return Path(self._cache_file._index_path).with_suffix(".lock")

    def _lock(self, *, wait: bool) -> bool:
        """Take the lock, or say that another process has it; after ``PATIENCE``, do without."""
        path = self._path()
        if fcntl is None or path in _held:  # held since a compilation that failed, which numba repeats
            return True
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "wb")  # noqa: SIM115  (open as long as it is locked)
        except OSError:
            return True  # nothing can be kept there anyway
        until = time.monotonic() + (PATIENCE if wait else 0)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(LOOK)
                    continue
                file.close()
                return wait
            except OSError:  # a file system without locks
                file.close()
                return True
            _held[path] = file
            return True

    def _unlock(self) -> None:
        file = _held.pop(self._path(), None)
        if file is not None:
            file.close()


@contextmanager
def without_waiting() -> Iterator[None]:
    """Raise ``Busy`` within the block, where a kernel is wanted that another process is compiling."""
    global _busy_is_an_error
    _busy_is_an_error = True
    try:
        yield
    finally:
        _busy_is_an_error = False


def compile_once(modules: Mapping[str, Any], package: str) -> int:
    """Let the kernels of a package be compiled by one process at a time; return how many there are.

    Parameters
    ----------
    modules : mapping of str to module
        ``sys.modules``.
    package : str
        Whose modules' functions are meant.
    """
    found: dict[int, Any] = {
        id(function): function
        for name, module in modules.items()
        if name.startswith(package)
        for function in vars(module).values()
        if isinstance(function, Dispatcher) and isinstance(getattr(function, "_cache", None), FunctionCache)
    }
    for function in found.values():
        function._cache = CompiledOnce(function.py_func)
    return len(found)
