"""Two traces, tensor by tensor: how far they are apart, and which is the first that is too far.

Rounding alone changes an order: two proposals whose scores agree in six digits may trade places, and a box at the edge
of the suppression threshold may stay on one side only. Rows of proposals and of detections are therefore paired by
overlap and score first; what found no partner is counted, and said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..tables import text_table
from .report import Report, Table
from .rounding import pair_boxes, rounded_otherwise
from .rows import HEAD, Row, cells, errors
from .trace import PER_DETECTION, PER_KEYPOINTS, PER_PROPOSAL, Trace

#: largest relative error that rounding explains, by precision of the run
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}
#: 1 - IoU by which masks may differ in the pixels that rounding does not decide
MASKS = {"float32": 1e-3, "float64": 0.0}
#: share of the proposals that may have no partner: each is the outcome of hundreds of yes-or-no decisions
LOST_PROPOSALS = {"float32": 0.01, "float64": 0.0}
#: what settles a tensor, given all tensors before it: where to look when it is the first to differ
SETTLED_BY = {
    "molded": "image_*, resize_*, pad_*, channel_order, pixel_*",
    "c1": "the stem's convolution, bn_eps, bn_mode, conv_bias",
    "c2": "stem_pool_padding, blocks of the backbone",
    "c": "stride_in_1x1, backbone (blocks, groups)",
    "p": "lateral and output convolutions, upsampling, P6",
    "rpn_logits": "rpn_channels, rpn_objectness, order of the anchors of a cell",
    "rpn_deltas": "order of the deltas and of the anchors of a cell",
    "anchors": "anchor_*",
    "proposals": "rpn_box_std, max_log_scale, proposals_*",
    "proposal_scores": "rpn_objectness",
    "box_features": "roi_*, box_pool_size",
    "class_logits": "box_head, order of height, width and channels before the first layer",
    "box_deltas": "order of the deltas and of the classes",
    "detection": "head_box_std, max_log_scale, detection_*",
    "mask_features": "roi_*, mask_pool_size",
    "mask_logits": "mask_head_*, order of the classes",
    "mask_probabilities": "which class's mask is taken",
    "keypoint_features": "roi_*, keypoint_pool_size",
    "keypoint_logits": "keypoint_head_*, the enlargement",
    "keypoints": "keypoint_decode, keypoint_offset",
    "keypoint_scores": "keypoint_decode",
    "boxes": "the scale on the way back to the original image",
    "masks": "mask_paste, mask_threshold",
}


@dataclass
class Comparison:
    """The outcome: a row for every tensor. Printed it is a table; a notebook shows it with its pictures.

    Attributes
    ----------
    rows : list of Row
        In the order of the data flow.
    tolerance : float
        For relative errors.
    names : tuple of str
        Of the two sides.
    info : dict of str to str
        What was compared, on what.
    ours, theirs : dict of str to ndarray
        The traces.
    image : ndarray of shape (H, W, 3), uint8, or None
    """

    rows: list[Row]
    tolerance: float
    names: tuple[str, str] = ("mrcnn-np", "the other")
    info: dict[str, str] = field(default_factory=dict)
    ours: Trace = field(default_factory=dict, repr=False)
    theirs: Trace = field(default_factory=dict, repr=False)
    image: np.ndarray | None = field(default=None, repr=False)

    @property
    def first(self) -> Row | None:
        """The first row that exceeds the tolerance, None if none does."""
        return next((row for row in self.rows if row.within is False), None)

    @property
    def agree(self) -> bool:
        """Whether no row exceeds the tolerance."""
        return self.first is None

    @property
    def verdict(self) -> str:
        """One sentence: do they agree, and if not, which tensor is the first that differs and what settles it."""
        compared = sum(row.within is not None for row in self.rows)
        first = self.first
        if first is None:
            masks = ", ".join(f"; {row.name}: {row.note}" for row in self.rows if row.name == "masks" and row.max_abs)
            return f"all {compared} tensors agree within {self.tolerance:.0e}{masks}"
        before = [row.name for row in self.rows[: self.rows.index(first)] if row.within]
        after = f"; {before[-1]} before it agrees" if before else ""
        exceeds = np.isfinite(first.relative) and first.relative > self.tolerance
        how_far = f"relative error {first.relative:.1e}" if exceeds else first.note
        lost = next((row.note for row in self.rows if row.name == "proposals" and "paired" in row.note), "")
        maybe = (
            f", or by the proposals that stand on one side only ({lost})"
            if first.name in PER_DETECTION + PER_KEYPOINTS
            else ""
        )
        return (
            f"first to differ: {first.name}, {how_far}, tolerance {self.tolerance:.0e}{after}. "
            f"It is settled by: {settled_by(first.name)}{maybe if lost else ''}"
        )

    def __str__(self) -> str:
        facts = [f"{key}: {value}" for key, value in self.info.items()]
        lines = text_table(HEAD, [cells(row) for row in self.rows])
        return "\n".join([self._title, *facts, "", lines, "", self.verdict])

    def _repr_html_(self) -> str:
        return self.report().html(whole=False)

    @property
    def _title(self) -> str:
        return f"{self.names[0]} beside {self.names[1]}"

    def report(self) -> Report:
        """Return the outcome as a document, with the results of both sides drawn (if there is an image)."""
        from .pictures import error_profile, png, side_by_side  # slow to import: Matplotlib

        drawn = {}
        if self.image is not None and "masks" in self.ours and "masks" in self.theirs:
            sides = dict(zip(self.names, (self.ours, self.theirs)))
            drawn["side_by_side.png"] = png(side_by_side(self.image, sides))
        drawn["errors.png"] = png(error_profile(self.rows, self.tolerance))
        classes = {True: "", False: "bad", None: "none"}
        kinds = ["first" if row is self.first else classes[row.within] for row in self.rows]
        table = Table(HEAD, [cells(row) for row in self.rows], kinds)
        worst = max((row for row in self.rows if np.isfinite(row.relative)), key=lambda row: row.relative, default=None)
        largest = {} if worst is None else {"largest relative error": f"{worst.relative:.1e} ({worst.name})"}
        return Report(self._title, {**self.info, **largest}, self.verdict, [table], drawn)


def compare(
    ours: Mapping[str, np.ndarray],
    theirs: Mapping[str, np.ndarray],
    tolerance: float | None = None,
    *,
    teacher_forced: bool = False,
    names: tuple[str, str] = ("mrcnn-np", "the other"),
    left_to_rounding: Mapping[str, np.ndarray] | None = None,
) -> Comparison:
    """Compare two traces with the names of ``trace.py``.

    Parameters
    ----------
    ours, theirs : mapping of str to ndarray
    tolerance : float, optional
        Largest relative error; by default that of ``TOLERANCE`` for the precision of our molded image.
    teacher_forced : bool
        Our second stage was given their proposals and our mask head their detections (``trace_ours(given=...)``), so
        that its rows are theirs one by one.
    names : tuple of str
        Of the two sides.
    left_to_rounding : mapping of str to ndarray of bool, optional
        Rows of their tensors that rounding decides, by name. Those that differ are left out and counted, unless they
        are more than ``rounding.SHARE``. Of masks: pixels, which are counted; see ``mask_rounding.py``.

    Returns
    -------
    Comparison
    """
    dtype = str(next(iter(ours.values())).dtype)
    tolerance = TOLERANCE.get(dtype, 1e-4) if tolerance is None else tolerance
    proposals = pair_boxes(ours, theirs, "proposals", "proposal_scores", None)
    detections = pair_boxes(ours, theirs, "detection_boxes", "detection_scores", "detection_classes")
    rows = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        if name not in ours or name not in theirs:
            a = ours[name] if name in ours else theirs[name]
            rows.append(Row(name, a.shape, np.nan, np.nan, None, f"not traced by {names[name in ours]}"))
            continue
        a, b, note, lost = ours[name], theirs[name], "", 0.0
        open_rows = (left_to_rounding or {}).get(name)
        decided_before = name in ("proposals", "proposal_scores") or name.startswith("detection_")
        if name in PER_PROPOSAL + PER_DETECTION + PER_KEYPOINTS and (decided_before or not teacher_forced):
            pairs = proposals if name in PER_PROPOSAL else detections
            a, b, note, lost = _paired(a, b, pairs)
            open_rows = None if open_rows is None else open_rows[pairs[1]]
            if len(a) == 0 and lost:
                # what comes of rows that have no partner says nothing about the layer
                within = False if name in ("proposals", "detection_boxes") else None
                rows.append(Row(name, ours[name].shape, np.nan, np.nan, within, note))
                continue
        is_mask = a.dtype == b.dtype == bool and a.shape == b.shape
        if open_rows is not None and a.shape == b.shape and not is_mask:
            a, b, note = _without_those_rounded_otherwise(a, b, open_rows, tolerance, note)
        allowed = LOST_PROPOSALS.get(dtype, 0.0) if name in PER_PROPOSAL else 0.0
        if is_mask:
            row = _mask_row(name, a, b, open_rows, max(tolerance, MASKS.get(dtype, 0.0)), note)
        else:
            row = _row(name, a, b, tolerance, note)
        if lost > allowed and name in ("proposals", "detection_boxes"):
            row = Row(name, row.shape, row.max_abs, row.relative, False, row.note)
        rows.append(Row(name, ours[name].shape, row.max_abs, row.relative, row.within, row.note))
    return Comparison(rows, tolerance, names, ours=dict(ours), theirs=dict(theirs))


def _paired(
    a: np.ndarray, b: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, str, float]:
    """Return the rows that have a partner, a note on those that have none or stand elsewhere, and the share lost.

    Parameters
    ----------
    a, b : ndarray
        The tensor of both sides.
    pairs : tuple of ndarray
        Indices of the pairs, ours and theirs.
    """
    mine, their = pairs
    most = max(len(a), len(b))
    notes = []
    if len(mine) < most:
        notes.append(f"{len(mine)} of {len(a)} and {len(b)} paired")
    moved = int((np.argsort(np.argsort(mine)) != np.arange(len(mine))).sum())
    if moved:
        notes.append(f"{moved} in another order")
    return a[mine], b[their], ", ".join(notes), 1 - len(mine) / most if most else 0.0


def _without_those_rounded_otherwise(
    a: np.ndarray, b: np.ndarray, open_rows: np.ndarray, tolerance: float, note: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """Leave out the rows that rounding decides and that it decided differently, if they are few.

    Parameters
    ----------
    a, b : ndarray
        The same rows of both sides.
    open_rows : ndarray of bool
        Rows that rounding decides.
    tolerance : float
    note : str
        What is said of the tensor so far.
    """
    rows = rounded_otherwise(a, b, open_rows, tolerance)
    if not rows.any():
        return a, b, note
    said = f"without {rows.sum()} of {open_rows.sum()} rows that rounding decides"
    return a[~rows], b[~rows], ", ".join(filter(None, (note, said)))


def _row(name: str, a: np.ndarray, b: np.ndarray, tolerance: float, note: str) -> Row:
    """Judge one tensor.

    Parameters
    ----------
    name : str
    a, b : ndarray
        Of both sides.
    tolerance : float
        For the relative error; classes have to be equal.
    note : str
    """
    if a.shape != b.shape:
        return Row(name, a.shape, np.nan, np.inf, False, f"shape {a.shape} against {b.shape}")
    if a.size == 0:
        return Row(name, a.shape, 0.0, 0.0, True, note or "empty")
    if a.dtype.kind in "iu":
        count = int((a != b).sum())
        return Row(name, a.shape, count, count / a.size, count == 0, note)
    max_abs, relative = errors(a, b)
    return Row(name, a.shape, max_abs, relative, bool(relative <= tolerance), note)


def _mask_row(
    name: str, a: np.ndarray, b: np.ndarray, left_to_rounding: np.ndarray | None, limit: float, note: str
) -> Row:
    """Judge masks (D, H, W) by the worst IoU of a pair, apart from the pixels that rounding decides.

    Parameters
    ----------
    name : str
    a, b : ndarray of shape (D, H, W), bool
        Of both sides.
    left_to_rounding : ndarray of shape (D, H, W), bool, or None
        Pixels that rounding decides.
    limit : float
        Largest 1 - IoU in the other pixels.
    note : str
    """
    differ = a ^ b
    decided = differ if left_to_rounding is None else differ & ~left_to_rounding
    either = np.maximum((a | b).sum(axis=(1, 2)), 1)
    worst, judged = (float((x.sum(axis=(1, 2)) / either).max(initial=0.0)) for x in (differ, decided))
    if differ.any():
        said = f"{differ.sum()} pixels of {differ.any(axis=(1, 2)).sum()} of {len(a)} masks differ"
        if left_to_rounding is not None:
            said += f", {differ.sum() - decided.sum()} of them by rounding"
        note = ", ".join(filter(None, (note, said)))
    elif not len(a):
        note = note or "empty"
    return Row(name, a.shape, worst, worst, judged <= limit, note)


def settled_by(name: str) -> str:
    """Return the config fields and steps that decide a tensor, given the tensors before it."""
    kind = name.partition(".")[0]
    for key in (kind, kind.rstrip("23456"), kind.partition("_")[0]):
        if key in SETTLED_BY:
            return SETTLED_BY[key]
    return "the step before it"
