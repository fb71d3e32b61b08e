"""Mask R-CNN, whole, with every forward and every backward pass written out in NumPy."""

from . import presets
from .model import MaskRCNN

__all__ = ["MaskRCNN", "presets"]
__version__ = "0.1.0"
