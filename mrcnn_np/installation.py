"""Whether the package ``kernels`` is the one that came with this package: PyPI has another one of that name.

``pip install kernels`` writes its files over ours, or puts them where Python looks first. Then nothing here can run,
and the reason should be the first thing that one reads.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

WAY_OUT = (
    "use a virtual environment without it, or `pip uninstall kernels` and then "
    "`pip install --force-reinstall --no-deps mrcnn-np`; a folder of your own with that name needs another"
)
#: functions that only ours has
OURS = ("accelerated", "coverage")


def foreign_kernels() -> str | None:
    """Say what is wrong if ``import kernels`` brings another package than ours; None if all is well.

    Notes
    -----
    The other one is looked at, not imported: it may import a framework, or fail.
    """
    module = sys.modules.get("kernels")
    if module is not None:
        own, place = all(hasattr(module, name) for name in OURS), getattr(module, "__file__", None)
    else:
        spec = importlib.util.find_spec("kernels")
        place = None if spec is None else spec.origin
        own = place is not None and _defines(Path(place), OURS)
    if own:
        return None
    found = f"Python finds another package of that name, {place}" if place else "Python finds none, or an empty folder"
    return f"mrcnn-np needs its own package `kernels`, and {found}: {WAY_OUT}"


def _defines(source: Path, names: tuple[str, ...]) -> bool:
    """Tell whether a module's source defines functions of these names; True if there is no source to look at."""
    try:
        text = source.read_text(encoding="utf-8", errors="replace") if source.suffix == ".py" else None
    except OSError:
        return True
    return text is None or all(re.search(rf"^def {name}\(", text, re.MULTILINE) for name in names)


def started_as_program() -> bool:
    """Tell whether this is ``mrcnn-np`` or ``python -m``, which can say it without a traceback."""
    return sys.argv[:1] == ["-m"] or Path((sys.argv or [""])[0]).name.startswith("mrcnn-np")
