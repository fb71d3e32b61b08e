"""Mask R-CNN, whole, with every forward and every backward pass written out in NumPy."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .installation import foreign_kernels, started_as_program

# OpenBLAS's threads spin for a tenth of a second after every product, on the cores that the next kernel needs. This is
# read when NumPy is first imported; 4 is the least it accepts.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

if (_problem := foreign_kernels()) and not started_as_program():  # the program says it in one line
    raise ImportError(_problem)

if TYPE_CHECKING:
    from .config import presets
    from .model import MaskRCNN

__all__ = ["MaskRCNN", "presets"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: the command line answers --help and Ctrl-C before it imports NumPy."""
    if name == "presets":
        return import_module(".config.presets", __package__)
    if name == "MaskRCNN":
        return import_module(".model", __package__).MaskRCNN
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
