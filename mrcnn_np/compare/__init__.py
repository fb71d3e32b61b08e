"""Run a framework's Mask R-CNN beside ours, from the same weights, and compare every named tensor.

``compare_with("torchvision")`` does it; ``mrcnn-np compare`` is the same on the command line.
"""

from typing import Any

__all__ = ["compare_with"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: the made-up pictures of this package are used without it."""
    if name in __all__:
        from . import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
