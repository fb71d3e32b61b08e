"""Are outlines drawn alike? The area of each right detection's mask beside that of its object.

Annotators differ: one draws along the edge, another around the halo. A network that sees both learns the middle, and
then its masks are too small in all the pictures of one of them, each by little, and average precision at a high overlap
is lost without a single object being missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..data.masks import in_runs
from ..data.sample import Sample
from ..detections import Detections
from ..errors import some_of
from ..evaluate.matching import TRUE_POSITIVE
from .judge import Judged

#: right detections from which on the median of an image says something
LEAST = 5
#: an image is named if its median is below 1 - APART of that of all right detections, or above 1 / (1 - APART) of it
APART = 0.15
#: images that are named
NAMED = 6


def area_ratios(found: Detections, sample: Sample, judged: Judged) -> list[float]:
    """Return for each right detection the area of its mask as a share of its object's, 1 for the same.

    Parameters
    ----------
    found : Detections
    sample : Sample
    judged : Judged
        Which detections are right, and whose objects they are.
    """
    right = np.flatnonzero(judged.outcome == TRUE_POSITIVE)
    of_objects = in_runs(sample.gt_masks).areas[judged.matched[right]]
    drawn = of_objects > 0  # an object without a mask has none to compare
    ratios: list[float] = (in_runs(found.masks).areas[right][drawn] / of_objects[drawn]).tolist()
    return ratios


def drawn_otherwise(ratios: Mapping[str, Sequence[float]], names: Mapping[str, str], threshold: float) -> list[str]:
    """Return what is to be said of areas as sentences; empty where no image differs, and masks fit on the whole.

    Parameters
    ----------
    ratios : mapping of str to sequence of float
        Of ``area_ratios``, by image.
    names : mapping of str to str
        What an image is called in the message.
    threshold : float
        ``mask_threshold``, to begin advice from.
    """
    medians = {name: float(np.median(values)) for name, values in ratios.items() if len(values) >= LEAST}
    if not medians:
        return []
    usual, said = float(np.median([ratio for values in ratios.values() for ratio in values])), []
    if abs(usual - 1) >= APART:
        lower = usual < 1
        better = max(threshold / 2, threshold - 0.1) if lower else min((1 + threshold) / 2, threshold + 0.1)
        said.append(
            f"masks have {usual:.0%} of the area of their objects (median of the right ones): a "
            f"{'lower' if lower else 'higher'} threshold, --config mask_threshold={better:.2g} ({threshold:g} now); or "
            "look how outlines were drawn"
        )
    for smaller in (True, False):
        far = [
            name
            for name, median in sorted(medians.items(), key=lambda item: item[1], reverse=not smaller)
            if (median < usual * (1 - APART) if smaller else median > usual / (1 - APART))
        ]
        if not far or len(far) == len(medians):
            continue
        reached = sorted((medians[far[0]], medians[far[-1]]))
        share = f"{reached[0]:.0%}" + (f" to {reached[1]:.0%}" if len(far) > 1 else "")
        said.append(
            f"in {len(far)} of {len(medians)} images masks have {share} of the annotated area (median of an image), "
            f"{usual:.0%} on the whole: {some_of([names[name] for name in far], NAMED)}. Are outlines drawn further "
            f"{'out' if smaller else 'in'} there than elsewhere? A network that is shown two ways draws between them"
        )
    return said
