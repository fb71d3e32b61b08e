"""Before training: how anchors, proposals and mask size of a configuration fit the objects of a data set.

``measure`` (``report.py``) does all of it; ``mrcnn-np data anchors`` is the same on the command line.

- ``truth``: an image's objects as training sees them
- ``anchors``: the best anchor of each object, positives of each level, recall of perfect proposals
- ``masks``: what m x m cells lose of a mask
- ``suggest``: sizes and ratios that fit better, found by clustering and climbing
- ``anchor_fit``: all numbers of one set of anchors, and which of them others raise or lower
- ``report``: all numbers, as a table and as JSON
"""

from .report import FitReport, measure
from .suggest import suggest

__all__ = ["FitReport", "measure", "suggest"]
