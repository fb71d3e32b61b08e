"""Why did it miss that: the stage at which each missed object was lost, the kind of each false detection, their cost.

1. ``trail.py``: what became of every anchor and every class of every proposal in one image.
2. ``judge.py``: which detection is right; of what kind a wrong one is. ``mistakes.py`` says it of each.
3. ``deaths.py``: the stage at which a missed object was lost, with its numbers.
4. ``costs.py``: how much average precision each mistake costs, and each kind of them.
5. ``oracles.py``: what perfect boxes, classes or masks would give.
6. ``outlines.py``: whether masks are as large as they were drawn, in every image.
7. ``report.py``: all of it for the images of a data set; ``advice.py`` and ``seen.py``: what to try; ``page.py``:
   pictures, the dearest first.
"""

from __future__ import annotations

from .judge import Rules
from .report import Explanation, explain_image, explain_split

__all__ = ["Explanation", "Rules", "explain_image", "explain_split"]
