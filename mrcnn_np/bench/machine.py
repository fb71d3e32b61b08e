"""What the numbers were measured on and with."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import time
from pathlib import Path
from typing import Any

from .. import __version__


def cpu_count() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def frameworks_installed() -> bool:
    """Tell whether PyTorch and torchvision can be imported, without doing so."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "torchvision"))


def info(threads: int) -> dict[str, Any]:
    """Return processor, versions and threads."""
    versions = {"mrcnn-np": __version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "numba", "llvmlite", "torch", "torchvision"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "processor": _processor(),
        "vectors": "AVX-512" if _has_avx512() else "at most AVX2",
        "cores": cpu_count(),
        "threads": threads,
        "system": platform.platform(terse=True),
        "versions": versions,
    }


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _processor() -> str:
    family, model = _cpuinfo("cpu family"), _cpuinfo("model\t")
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    return f"{name} (family {family}, model {model})" if family else name


def _has_avx512() -> bool:
    return "avx512f" in _cpuinfo("flags").split()
