"""Which values advice names: ``field=value`` to paste after ``--config``, with the present value beside it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..config import Config
from ..errors import ConfigError
from .deaths import RANKED, RPN_NMS, SUPPRESSED
from .report import Explanation

_SLOT = re.compile(r"\{(more|less|now) (\w+)\}")
#: thresholds of an overlap are moved by these steps, and not beyond this
_STEP, _MOST_IOU = 0.05, 0.95


def fill_in(advice: str, report: Explanation) -> str:
    """Return a piece of advice with the values to try in the places that it marks.

    ``{more FIELD}`` and ``{less FIELD}`` become ``FIELD=VALUE (PRESENT now)``, ``{now FIELD}`` becomes ``FIELD (PRESENT
    now)``. Without a configuration, or if no such value is allowed, it says the direction alone.

    Parameters
    ----------
    advice : str
    report : Explanation
        Its configuration says what is now; of its misses is known how much is needed.
    """

    def fill(slot: re.Match[str]) -> str:
        way, name = slot.groups()
        if report.config is None:
            return name if way == "now" else f"{name}=... ({way})"
        if name == "size":
            return _size(report.config)
        if name == "score":
            return _score(report.config, way)
        present = getattr(report.config, name)
        if way == "now" or present is None:
            return f"{name} ({_written(present)} now)"
        changes = _changes(report, name, way)
        if changes is None:
            return f"{name} ({way} than {_written(present)})"
        return f"{_pasted(changes)} ({_written(present)} now)"

    return _SLOT.sub(fill, advice)


def _changes(report: Explanation, name: str, way: str) -> dict[str, Any] | None:
    """Return the fields to change; None if there is no such value."""
    config = report.config
    assert config is not None
    value = VALUES[way, name](report, getattr(config, name))
    changes = {name: value}
    if name == "mask_pool_size" and config.box_head == "c5":  # it is what C5 leaves of the box head's bins
        changes = {"box_pool_size": 2 * value, name: value}
    present = getattr(config, name)
    try:
        config.replace(**changes)
    except ConfigError:
        return None
    return changes if value != present else None


def _place(report: Explanation, now: int) -> int:
    """Return how many anchors have to go on so that those of the missed objects do, rounded up to two digits."""
    places = _numbers(report, RANKED, "place")
    return _rounded_up(max(*places, now + 1)) if places else 3 * now


def _double(report: Explanation, now: int) -> int:
    return 2 * now


def _nothing(report: Explanation, now: float | None) -> float:
    return 0.0


def _overlap(stage: str) -> Callable[[Explanation, float], float]:
    """Return what gives the threshold at which half of the suppressed would be kept: steps of 0.05, 1 to 6 of them."""

    def threshold(report: Explanation, now: float) -> float:
        by = _numbers(report, stage, "by_iou")
        needed = math.ceil(float(np.median(by)) / _STEP - 1e-9) * _STEP if by else now + 2 * _STEP
        return round(max(now, min(max(needed, now + _STEP), now + 6 * _STEP, _MOST_IOU)), 4)

    return threshold


def _lower(report: Explanation, now: float) -> float:
    """Return a threshold two steps lower, or half of a low one."""
    return round(max(now - 2 * _STEP, now / 2), 4)


#: what to try, by the way to go and the field
VALUES: dict[tuple[str, str], Callable[[Explanation, Any], Any]] = {
    ("more", "proposals_pre_nms_test"): _place,
    ("more", "proposals_post_nms_test"): _double,
    ("more", "proposals_nms_iou"): _overlap(RPN_NMS),
    ("less", "proposals_min_size"): _nothing,
    ("more", "detection_nms_iou"): _overlap(SUPPRESSED),
    ("less", "detection_nms_iou"): _lower,
    ("less", "detection_min_size"): _nothing,
    ("more", "detections_per_image"): _double,
    ("more", "mask_pool_size"): _double,
}


def _numbers(report: Explanation, stage: str, name: str) -> list[float]:
    return [miss.numbers[name] for miss in report.misses if miss.stage == stage]


def _rounded_up(number: float) -> int:
    """Return a whole number of at most two digits and zeros that is not smaller."""
    unit = 10 ** max(len(str(math.ceil(number))) - 2, 0)
    return math.ceil(number / unit) * unit


def _size(config: Config) -> str:
    """Return images of twice the size, as an option of ``train``."""
    short, long = config.image_min_size, config.image_max_size
    if short == long:
        return f"--size {2 * long} ({long} now)"
    return f"{_pasted({'image_min_size': 2 * short, 'image_max_size': 2 * long})} ({short} and {long} now)"


def _score(config: Config, way: str) -> str:
    """Return the option for another score: a lower one as a number, for a higher one where numbers stand."""
    now = config.detection_score_threshold
    if way == "less":
        return f"--score {round(now / 2, 4):g} ({now:g} now)" if now else "--score (0 now, so there is no lower one)"
    return f"--score ({now:g} now; `mrcnn-np eval` says which does best)"


def _pasted(changes: dict[str, Any]) -> str:
    """Return fields as options; their values are numbers, so that no shell takes them apart."""
    return " ".join(f"--config {name}={_written(value)}" for name, value in changes.items())


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_written, value))
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
