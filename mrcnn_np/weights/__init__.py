"""Weights of other implementations, and ours: read safely, with the conventions that belong to them; written back.

- ``load``: any file to parameters, and back; ``network``: any file to the network that it belongs to
- ``place``: the file for a path, which may be the folder of a run
- ``manifest``: the conventions that belong to weights, and the tables that say what does not fit
- ``torchvision``, ``detectron2``, ``matterport``, ``imagenet``: their names and layouts, and ours
- ``architecture``: which network tensors of these shapes belong to
- ``class_names``: COCO's names, and which classes of two lists are one
- ``transfer``: which tensors a new network takes over from weights
- ``download``: published files
- ``formats``: what bytes mean: ``torch.save``, pickles, HDF5, safetensors, npz
"""

from ..errors import WeightFileError, WeightMismatchError
from .load import Weights, load_weights, save_weights
from .manifest import Manifest

__all__ = ["Manifest", "WeightFileError", "WeightMismatchError", "Weights", "load_weights", "save_weights"]
