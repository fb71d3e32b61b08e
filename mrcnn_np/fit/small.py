"""Objects that are too small at the training size: for the smallest anchor, or for the map that masks are told from."""

from __future__ import annotations

import numpy as np

from ..config import Config
from ..data.check import Report
from ..data.findings import Finding
from ..molding import plan


def small_objects(report: Report, config: Config) -> list[Finding]:
    """Say which objects of a checked data set are too small for a configuration.

    An object of the side s (square root of its box's area) has at most the IoU s² / a² with an anchor of the side
    a > s. If that is below ``rpn_negative_iou`` for the smallest anchor, even an anchor of its shape at its place would
    count as background. And an object that is narrower than one cell of the finest map, P2, has less than one number in
    each channel there, from which its mask would be told.

    Parameters
    ----------
    report : Report
        From ``check_dataset``.
    config : Config

    Returns
    -------
    advice : list of Finding
        Empty if no object is too small.
    """
    if not len(report.box_sizes):
        return []
    scales = np.array([plan((h, w), config).scale for h, w in report.image_sizes.tolist()])  # (images, 2)
    sides = np.maximum(report.box_sizes, 0) * scales[report.image_of]
    there = sides.min(axis=1) > 0  # a box without area is wrong, and said elsewhere
    roots, least = np.sqrt(sides.prod(axis=1)), min(config.anchor_sizes)
    for_anchor = least * np.sqrt(config.rpn_negative_iou)
    cell, where = config.cells[0], "P2" if config.neck == "fpn" else "the one map"
    at = f"at the training size (preset {config.name}, {config.image_min_size} pixels)"
    kinds = (
        (
            there & (roots < for_anchor),
            f"are too small for the smallest anchor: {at} the root of their area is below {for_anchor:.3g} pixels, and "
            f"the anchor of {least:g} pixels counts as background beside them; smaller anchors help, which `mrcnn-np "
            "data anchors` suggests with the same --preset and --size, or a larger --size, or tiles of the pictures",
        ),
        (
            there & (sides.min(axis=1) < cell) & config.mask_branch,
            f"are too small for the mask head: {at} they are narrower than {cell} pixels, one cell of {where}, from "
            "which their masks are told; a larger --size helps, or tiles of the pictures",
        ),
    )
    return [_finding(report, np.flatnonzero(flags), sides, text) for flags, text in kinds if flags.any()]


def _finding(report: Report, which: np.ndarray, sides: np.ndarray, text: str) -> Finding:
    """Name the objects, the smallest first."""
    places = []
    for g in which[np.sqrt(sides[which].prod(axis=1)).argsort(kind="stable")]:
        (height, width), (h, w), name = report.box_sizes[g], sides[g], report.names[report.image_of[g]]
        places.append(f"one of image {name}: {width:.3g} x {height:.3g} pixels, {w:.3g} x {h:.3g} then")
    return Finding(text, len(places), len(sides), places[0], concerns=tuple(places))
