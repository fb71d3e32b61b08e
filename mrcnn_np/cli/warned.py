"""How warnings about data look on the command line."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from ..errors import DataWarning


def show_data_warnings() -> None:
    """Show every `DataWarning` as one line on standard error, without the place in the program."""
    usual = warnings.showwarning

    def show(message: Any, category: Any, *rest: Any, **options: Any) -> None:
        if issubclass(category, DataWarning):
            print(f"warning: {message}", file=sys.stderr)
        else:
            usual(message, category, *rest, **options)

    if getattr(usual, "__qualname__", "") != show.__qualname__:
        warnings.showwarning = show
