"""The convention switchboard: one image, one set of weights, one convention changed at a time.

::

    board = switchboard(model, sample)
    print(switchboard_report.text(board, class_names, "title"))

Each row says how far the detections move when one field of the configuration takes the value that another framework
has there. Detections are paired with those of the unchanged network by class and box IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from ..boxes import iou
from ..compare.trace import Trace, trace_ours
from ..config import Config
from ..data.sample import Sample, without_objects
from ..detections import Detections
from ..errors import CheckpointError, ConfigError, NonFiniteError
from ..model import MaskRCNN
from ..molding import make_batch
from ..objective import LOSSES
from ..synthetic import with_keypoints
from .convert import convert
from .table import Flip, flips, own_sizes

#: two detections of one class are the same object from this IoU on
SAME_OBJECT = 0.5
#: after a conversion, tensors differ by rounding: what changes by less, relative to the largest number, is the same
ROUNDING = 1e-4

MOVES, TRAINING, NOTHING, IMPOSSIBLE = "detections", "training", "nothing here", "not possible"


@dataclass(frozen=True)
class Pair:
    """A detection before and after.

    Attributes
    ----------
    class_id : int
    boxes : tuple of 2 ndarrays of shape (4,)
        ``(y1, x1, y2, x2)`` in pixels of the image.
    scores : tuple of 2 floats
    """

    class_id: int
    boxes: tuple[np.ndarray, np.ndarray]
    scores: tuple[float, float]


@dataclass(frozen=True)
class Row:
    """What one changed convention does.

    Attributes
    ----------
    flip : Flip
    effect : str
        "detections": tensors of ``detect`` change. "training": only targets or losses do. "nothing here": neither on
        this image with this network. "not possible": it needs parameters of other shapes, without an exact conversion,
        contradicts another field, or lets numbers overflow; ``note`` says which.
    first : str
        Name of the first tensor that changes, in the order of the data flow.
    kept, lost, new : int
        Detections that found their partner, those without one, and those that are no one's partner.
    mean_shift, max_shift : float
        Of the kept boxes: the largest difference among the four coordinates, in pixels of the image.
    max_score : float
        Largest change of a kept score.
    mean_mask_iou : float
        Of the kept masks with their partners.
    losses : dict of str to (float, float)
        The five losses before and after, if only training changes.
    worst : Pair or None
        The one that moved most.
    converted : bool
        The parameters were rewritten exactly (``conventions.convert.convert``), so that all changes are rounding.
    note : str
    """

    flip: Flip
    effect: str
    first: str = ""
    kept: int = 0
    lost: int = 0
    new: int = 0
    mean_shift: float = 0.0
    max_shift: float = 0.0
    max_score: float = 0.0
    mean_mask_iou: float = 1.0
    losses: dict[str, tuple[float, float]] = field(default_factory=dict)
    worst: Pair | None = None
    converted: bool = False
    note: str = ""


@dataclass(frozen=True)
class Switchboard:
    """All rows, and what they were measured on.

    Attributes
    ----------
    config : Config
        The unchanged configuration.
    sample : Sample
    baseline : Detections
        Of the unchanged network; those below ``score`` are left out.
    score : float
    rows : list of Row
    sizes : list of str
        Fields that were left alone because they are sizes of this network (``conventions.table.own_sizes``).
    """

    config: Config
    sample: Sample
    baseline: Detections
    score: float
    rows: list[Row]
    sizes: list[str]


def switchboard(
    model: MaskRCNN,
    image: np.ndarray | Sample,
    fields: Sequence[str] | None = None,
    *,
    score: float = 0.3,
    progress: bool = False,
) -> Switchboard:
    """Change one convention at a time and measure what moves.

    Parameters
    ----------
    model : MaskRCNN
        The network as it was trained; its ``config`` is what is changed.
    image : ndarray of shape (H, W, 3), uint8, or Sample
        With a sample that holds objects, conventions of training are measured by their losses, too.
    fields : sequence of str, optional
        Fields of the configuration; by default every convention on which the frameworks differ.
    score : float
        Pairs of detections both below this score are not looked at.
    progress : bool
        Show a bar.

    Returns
    -------
    Switchboard

    Raises
    ------
    ConfigError
        A name in ``fields`` is no field, or no convention.
    """
    sample = image if isinstance(image, Sample) else without_objects(image)
    base = trace_ours(model, sample.image)
    losses = _training_trace(model, sample)
    changes = tqdm(flips(model.config, fields), unit="convention", disable=not progress, leave=False)
    rows = [_measure(model, sample, flip, base, losses, score) for flip in changes]
    sizes = own_sizes(model.config) if fields is None else []
    return Switchboard(model.config, sample, detections_of(base).above(score), score, rows, sizes)


def detections_of(trace: Trace) -> Detections:
    """Return what a trace ends in."""
    return Detections(trace["boxes"], trace["detection_classes"], trace["detection_scores"], trace["masks"])


# --- one row --------------------------------------------------------------------------------------------------------


def _measure(model: MaskRCNN, sample: Sample, flip: Flip, base: Trace, base_losses: Trace, score: float) -> Row:
    """Change one convention and compare.

    Parameters
    ----------
    model : MaskRCNN
        The network as it was trained.
    sample : Sample
    flip : Flip
        What is changed.
    base, base_losses : dict of str to ndarray
        What the network computes in detection and in training before.
    score : float
        Pairs of detections both below it are not looked at.
    """
    try:
        config = model.config.replace(**flip.changes)
        params = convert(model.params, model.config, config)
    except ConfigError as error:
        return Row(flip, IMPOSSIBLE, note=str(error))
    except CheckpointError as error:
        return Row(flip, IMPOSSIBLE, note=_first_mismatch(str(error)))
    converted = any(params[name] is not model.params.get(name) for name in params)
    flipped = MaskRCNN(config, params)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # found by name
            trace = trace_ours(flipped, sample.image)
    except NonFiniteError as error:  # numbers far from those that the weights were made for
        return Row(flip, IMPOSSIBLE, note=str(error))
    first = first_change(base, trace, ROUNDING if converted else 0.0)
    if first or converted:
        return _moved(flip, first, detections_of(base), detections_of(trace), score, converted)
    if len(sample.gt_boxes) == 0:
        return Row(flip, NOTHING, note="there are no objects to train on")
    losses = _training_trace(flipped, sample)
    first = first_change(base_losses, losses, 0.0)
    if not first:
        return Row(flip, NOTHING)
    pairs = {name: (float(base_losses[name]), float(losses[name])) for name in LOSSES}
    return Row(flip, TRAINING, first=first, losses=pairs)


def _first_mismatch(message: str) -> str:
    """Shorten a table of names and shapes to its first row."""
    rows = message.splitlines()[1:]
    return " ".join(rows[0].split()) + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")


def first_change(a: Trace, b: Trace, tolerance: float) -> str:
    """Return the name of the first tensor of ``a`` that ``b`` has otherwise, or an empty string.

    Parameters
    ----------
    a, b : dict of str to ndarray
    tolerance : float
        Of the largest number of a tensor; 0 asks for the same bits.
    """
    for name, x in a.items():
        y = b.get(name)
        if y is None or np.shape(x) != np.shape(y):
            return name
        if tolerance == 0:
            if not np.array_equal(x, y):
                return name
        elif np.size(x) and np.abs(np.subtract(x, y, dtype=np.float64)).max() > tolerance * np.abs(x).max():
            return name
    return ""


def _training_trace(model: MaskRCNN, sample: Sample) -> Trace:
    """Return ground truth, targets and losses by name, in the order in which they are made; nothing without objects."""
    if len(sample.gt_boxes) == 0:
        return {}
    # A copy, because losses() moves running statistics
    model = MaskRCNN(model.config, {name: p.copy() for name, p in model.params.items()})
    if sample.gt_keypoints is None:
        sample = with_keypoints(sample, model.config)
    batch = make_batch([sample], model.config, model.dtype)
    losses, cache = model.losses(batch, np.random.default_rng(0))  # the same anchors and RoIs are sampled every time
    t = cache.targets
    trace: Trace = {"gt_boxes": batch.gt_boxes[0], "gt_masks": np.asarray(batch.gt_masks[0])}
    trace |= {"rpn_labels": t.rpn_labels, "rpn_target_deltas": t.rpn_deltas, "rois": t.rois}
    trace |= {"roi_classes": t.class_ids, "roi_target_deltas": t.deltas, "mask_targets": t.masks}
    return trace | {name: np.asarray(losses[name]) for name in LOSSES}


# --- pairs of detections --------------------------------------------------------------------------------------------


def pair_detections(a: Detections, b: Detections) -> list[tuple[int, int]]:
    """Pair detections of one class so that the sum of their IoUs is largest; pairs below ``SAME_OBJECT`` are none."""
    pairs: list[tuple[int, int]] = []
    for class_id in np.intersect1d(a.class_ids, b.class_ids):
        ours, theirs = np.flatnonzero(a.class_ids == class_id), np.flatnonzero(b.class_ids == class_id)
        overlaps = iou(a.boxes[ours], b.boxes[theirs])
        for i, j in zip(*linear_sum_assignment(-overlaps)):
            if overlaps[i, j] >= SAME_OBJECT:
                pairs.append((int(ours[i]), int(theirs[j])))
    return sorted(pairs)


def _moved(flip: Flip, first: str, a: Detections, b: Detections, score: float, converted: bool) -> Row:
    """Say how far detections moved.

    Parameters
    ----------
    flip : Flip
    first : str
        The first tensor that changed.
    a, b : Detections
        Before and after.
    score : float
        Pairs of detections both below it are not looked at.
    converted : bool
        Parameters were rewritten.
    """
    pairs = [(i, j) for i, j in pair_detections(a, b) if max(a.scores[i], b.scores[j]) >= score]
    paired = [{i for i, _ in pairs}, {j for _, j in pairs}]
    alone = [sum(k not in known for k in np.flatnonzero(found.scores >= score)) for found, known in zip((a, b), paired)]
    row = Row(flip, MOVES, first, len(pairs), alone[0], alone[1], converted=converted)
    if not pairs:
        return row
    i, j = (np.array(side) for side in zip(*pairs))
    shifts = np.abs(a.boxes[i] - b.boxes[j]).max(axis=1)
    most = int(shifts.argmax())
    m, n = pairs[most]
    return replace(
        row,
        mean_shift=float(shifts.mean()),
        max_shift=float(shifts[most]),
        max_score=float(np.abs(a.scores[i] - b.scores[j]).max()),
        mean_mask_iou=float(np.mean([_mask_iou(a.masks[k], b.masks[q]) for k, q in pairs])),
        worst=Pair(int(a.class_ids[m]), (a.boxes[m], b.boxes[n]), (float(a.scores[m]), float(b.scores[n]))),
    )


def _mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else 1.0
