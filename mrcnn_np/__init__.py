"""Mask R-CNN, whole, with every forward and every backward pass written out in NumPy."""

import os

# OpenBLAS's threads spin for a tenth of a second after every product, on the cores that the next kernel needs. This is
# read when NumPy is first imported; 4 is the least it accepts.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

from . import presets
from .model import MaskRCNN

__all__ = ["MaskRCNN", "presets"]
__version__ = "0.1.0"
