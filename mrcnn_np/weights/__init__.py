"""Weights of other implementations, and ours: read safely, with the conventions that belong to them; written back."""

from ..errors import WeightFileError, WeightMismatchError
from .load import Weights, load_weights, save_weights
from .manifest import Manifest

__all__ = ["Manifest", "WeightFileError", "WeightMismatchError", "Weights", "load_weights", "save_weights"]
