"""What surrounds a command, looked at before its work begins: environment variables and the limit on memory.

Each of these would otherwise end in a traceback, or in an abort without a word, somewhere inside a library.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import kernels

from ..errors import UserError

#: MiB of address space without which a backend does not even start, and how much the kernels' compiler takes
LEAST_MEMORY = {"numpy": 256, "cpu": 1024}
#: threads that the kernels' pool may have: it is made before the first of them works, and of any number
MOST_THREADS = 4096


def check(backend: str) -> None:
    """Raise ``UserError`` if something around the program makes a command of this backend impossible.

    Parameters
    ----------
    backend : str
        The one that will be used.
    """
    # pictures are drawn in memory: it does not matter which windows pyplot would open, nor whether there are such
    os.environ["MPLBACKEND"] = "agg"
    if backend not in kernels.BACKENDS:
        raise UserError(f"MRCNN_NP_BACKEND is {backend!r}; expected {', '.join(kernels.BACKENDS)}")
    limit = address_space()
    if limit is not None and limit < LEAST_MEMORY.get(backend, 0):
        other = f"; --backend numpy needs {LEAST_MEMORY['numpy']}" if backend == "cpu" else ""
        raise UserError(
            f"the limit on memory is {limit} MiB (ulimit -v); expected at least {LEAST_MEMORY[backend]} with the "
            f"backend {backend}{other}"
        )
    if backend == "cpu":
        _check_variables()


def address_space() -> int | None:
    """Return the limit on this process' memory in MiB; None where there is none, or the system has no such thing."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft >> 20


def _check_variables() -> None:
    """Check what the kernels and Numba read from the environment, and what of it they would not survive."""
    vector = os.environ.get("MRCNN_NP_VECTOR", "")
    if vector not in ("", "8", "16"):
        raise UserError(f"MRCNN_NP_VECTOR is {vector!r}; expected 8 or 16, or nothing")
    if vector == "16":
        import llvmlite.binding

        if not llvmlite.binding.get_host_cpu_features().get("avx512f", False):
            raise UserError("MRCNN_NP_VECTOR is '16', but this processor has no AVX-512; expected 8, or nothing")
    cache = os.environ.get("MRCNN_NP_CACHE", "")
    if cache and not (cache.isdecimal() and len(cache) < 8 and int(cache) >= 64):
        raise UserError(f"MRCNN_NP_CACHE is {cache!r:.80}; expected the KiB of a second-level cache, at least 64")
    threads = os.environ.get("NUMBA_NUM_THREADS", "")
    digits = threads.strip().lstrip("0")
    if threads and not (digits.isdecimal() and len(digits) < 9 and 0 < int(digits) <= MOST_THREADS):
        raise UserError(
            f"NUMBA_NUM_THREADS is {threads!r:.80}; expected a whole number of at least 1 and at most {MOST_THREADS}"
        )
    _check_numba()


def _check_numba() -> None:
    """Load Numba; a variable whose value it cannot read, and would warn of with a traceback, is a ``UserError``."""
    for name in [name for name, value in os.environ.items() if name.startswith("NUMBA_") and not value]:
        del os.environ[name]  # set to nothing is not set
    with warnings.catch_warnings(record=True) as caught, kernels_loaded():
        warnings.simplefilter("always")
        import numba  # noqa: F401
    for warning in caught:
        found = re.match(r"Environment variable '(\w+)' .* value '(.*)' could not be", str(warning.message), re.DOTALL)
        if found:
            name, value = found.groups()
            reason = str(warning.message).strip().rpartition("\n")[2].partition(": ")[2]
            raise UserError(
                f"{name} is {value!r:.80}, which Numba cannot read ({reason:.200}); mend it or leave it out"
            )
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def require_gpu() -> None:
    """Raise ``UserError`` if the cuda backend has nothing to run on: it never falls back to another in silence."""
    try:
        from kernels.cuda.machine.require import require

        require()
    except OSError as error:
        raise UserError(f"the backend cuda cannot run here: {error} (--backend cpu does without)") from error


@contextmanager
def kernels_loaded() -> Iterator[None]:
    """Turn whatever keeps Numba from loading the kernels and starting threads into one message.

    Only to be put around that: an error of a command is not the surroundings' fault.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        if _interrupted(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the compiled kernels cannot be loaded: {reason} (--backend numpy does without)") from error


def _interrupted(error: BaseException) -> bool:
    from .interrupts import caused_by_interrupt

    return caused_by_interrupt(error)
