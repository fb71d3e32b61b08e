"""Run a framework's Mask R-CNN beside ours, from the same weights, and compare every named tensor.

``compare_with("torchvision")`` does it; ``mrcnn-np compare`` is the same on the command line.

- ``run``: both sides on one image; which frameworks there are
- ``trace``: the names of the tensors, and our side of them
- ``torchvision``, ``keras``: the other sides, and steps of training beside torchvision's
- ``comparison``: two traces, tensor by tensor; which is the first to differ, and what settles it
- ``rounding``, ``mask_rounding``: which rows and pixels rounding decides, and what is made of that
- ``fixed_relus``: weights under which rounding flips no ReLU
- ``rows``, ``report``, ``pictures``: what is printed, written and drawn
- ``operations``: every operation by itself beside PyTorch's
"""

from typing import Any

__all__ = ["compare_with"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: the made-up pictures of this package are used without it."""
    if name in __all__:
        from . import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
