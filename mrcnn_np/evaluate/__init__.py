"""How good are the detections: average precision by the rules of Pascal VOC and COCO.

1. In every image, each detection is right, wrong or ignored (``matching.py``).
2. Per class, the detections of all images are ranked by score (``ranking.py``).
3. Average precision sums up the ranking; its mean over the classes is the mAP (``voc.py``, ``coco.py``).

``results.py`` does the same for files, ``split.py`` for a model and the images of a data set.
"""

from __future__ import annotations

from .coco import CocoEvaluation, CocoEvaluator, evaluate_coco
from .matching import match_detections
from .matterport import matterport_map
from .ranking import average_precision
from .voc import Evaluation, Evaluator, evaluate_detections

__all__ = [
    "CocoEvaluation",
    "CocoEvaluator",
    "Evaluation",
    "Evaluator",
    "average_precision",
    "evaluate_coco",
    "evaluate_detections",
    "match_detections",
    "matterport_map",
]
