"""Which detection found which object: overlaps of one image, and the matching rules of Pascal VOC and COCO.

Everything here looks at one image and one class. ``voc.py`` and ``coco.py`` pool the outcomes over the data set.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kernels import host_work

from ..boxes import box_area, intersection_over_area, iou
from ..data.masks import Masks, in_runs
from ..data.rle import mask_overlaps
from ..data.sample import Sample
from ..detections import Detections

TRUE_POSITIVE, FALSE_POSITIVE, IGNORED = 1, 0, -1

_END = object()


def mask_iou(
    a: np.ndarray | Masks,
    b: np.ndarray | Masks,
    *,
    crowd: np.ndarray | None = None,
    void: np.ndarray | None = None,
) -> np.ndarray:
    """Return the overlap of every mask of ``a`` (detections) with every mask of ``b`` (ground truth).

    ``|a & b| / |a | b|``, or ``|a & b| / |a|`` where ``b`` is a crowd: a detection inside the group is not to be
    punished for being smaller than the group.

    Parameters
    ----------
    a : Masks, or ndarray of shape (D, H, W), bool
    b : Masks, or ndarray of shape (G, H, W), bool
    crowd : ndarray of shape (G,), bool, optional
        Which of ``b`` are crowds; default none.
    void : ndarray of shape (H, W), bool, optional
        Pixels taken out of both masks before anything is counted.

    Returns
    -------
    ndarray of shape (D, G), float64
        In [0, 1], computed from exact pixel counts; 0 where the denominator is 0 (two empty masks).

    Raises
    ------
    ValueError
        A mask is not bool, or the shapes do not fit together.

    Notes
    -----
    Pixels are counted from run lengths (``data.rle.mask_overlaps``): the time goes with the outlines of the masks, not
    with the image, and memory holds one decoded mask at a time.
    """
    for name, masks in (("a", a), ("b", b)):
        if masks.ndim != 3 or masks.dtype != bool:
            raise ValueError(f"{name} has shape {masks.shape} and dtype {masks.dtype}; expected (N, H, W) of bool")
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(f"a has masks of shape {a.shape[1:]} and b of shape {b.shape[1:]}; expected the same")
    if void is not None and void.shape != a.shape[1:]:
        raise ValueError(f"void has shape {void.shape}; expected {a.shape[1:]}, the shape of the masks")
    return mask_overlaps(_without(in_runs(a), void).rles, _without(in_runs(b), void).rles, crowd=crowd)


def _without(masks: Masks, void: np.ndarray | None) -> Masks:
    return masks if void is None else masks.without(void)


@host_work
def box_iou(a: np.ndarray, b: np.ndarray, *, crowd: np.ndarray | None = None) -> np.ndarray:
    """Return the overlap of every box of ``a`` (detections) with every box of ``b``, with ``mask_iou``'s crowd rule.

    Parameters
    ----------
    a : ndarray of shape (D, 4)
        ``(y1, x1, y2, x2)`` in pixels, half-open.
    b : ndarray of shape (G, 4)
    crowd : ndarray of shape (G,), bool, optional

    Returns
    -------
    ndarray of shape (D, G), float64
    """
    # float64, because a threshold such as 0.6 decides on the last bit and both reference evaluators use doubles
    a, b = a.astype(np.float64), b.astype(np.float64)
    overlap = iou(a, b)
    return overlap if crowd is None else np.where(crowd[None, :], intersection_over_area(a, b), overlap)


def match_detections(
    ious: np.ndarray,
    *,
    iou_threshold: float,
    rule: str = "voc",
    ignored: np.ndarray | None = None,
    crowd: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Decide for each detection of one image and class whether it is right, wrong, or not counted.

    Parameters
    ----------
    ious : ndarray of shape (D, G)
        Overlaps; detections in order of falling score.
    iou_threshold : float
        A match needs an overlap of at least this.
    rule : {"voc", "coco"}
        See Notes.
    ignored : ndarray of shape (G,), bool, optional
        Objects that evaluation neither demands nor punishes (VOC: difficult; COCO: out of the area range).
    crowd : ndarray of shape (G,), bool, optional
        Groups: like ``ignored``, and any number of detections may match one.

    Returns
    -------
    outcome : ndarray of shape (D,), int8
        ``TRUE_POSITIVE`` (1), ``FALSE_POSITIVE`` (0) or ``IGNORED`` (-1).
    matched : ndarray of shape (D,), int64
        Column of the object the detection was matched with, -1 for none. No column that is neither ignored nor
        crowd appears twice: no object is counted twice.

    Notes
    -----
    VOC: a detection looks only at the object it overlaps *most*. If that object is taken already, the detection is a
    duplicate and wrong, even if another object would have been free. VOC has no crowds; here one absorbs a
    detection that reaches no other object.

    COCO: a detection takes the best object that is *still free*; ignored ones and crowds only if no other qualifies.
    Of equally good objects the last in order wins. An ignored object that is no crowd absorbs one detection.

    References
    ----------
    Everingham et al., "The Pascal Visual Object Classes Challenge", section 4.4 (devkit ``VOCevaldet.m``);
    Lin et al., "Microsoft COCO", and the evaluation page of the data set.
    """
    objects = ious.shape[1]
    ignored = np.zeros(objects, bool) if ignored is None else ignored
    crowd = np.zeros(objects, bool) if crowd is None else crowd
    if ignored.shape != (objects,) or crowd.shape != (objects,):
        raise ValueError(f"ignored has shape {ignored.shape} and crowd {crowd.shape}; expected {(objects,)}")
    if rule == "voc":
        return _match_voc(ious, iou_threshold, ignored, crowd)
    if rule == "coco":
        return _match_coco(ious, iou_threshold, ignored | crowd, crowd)
    raise ValueError(f"rule is {rule!r}; expected 'voc' or 'coco'")


def _match_voc(
    ious: np.ndarray, threshold: float, difficult: np.ndarray, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    outcome = np.full(len(ious), FALSE_POSITIVE, np.int8)
    matched = np.full(len(ious), -1, np.int64)
    taken = np.zeros(ious.shape[1], bool)
    single = np.where(crowd, -1.0, ious)  # overlaps with everything that is not a crowd
    for d in np.flatnonzero((ious >= threshold).any(axis=1)):
        best = int(single[d].argmax())
        if single[d, best] < threshold:
            outcome[d], matched[d] = IGNORED, int(np.where(crowd, ious[d], -1.0).argmax())
        elif difficult[best]:
            outcome[d], matched[d] = IGNORED, best
        elif not taken[best]:
            outcome[d], matched[d], taken[best] = TRUE_POSITIVE, best, True
    return outcome, matched


def _match_coco(
    ious: np.ndarray, threshold: float, ignored: np.ndarray, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    outcome = np.full(len(ious), FALSE_POSITIVE, np.int8)
    matched = np.full(len(ious), -1, np.int64)
    free = np.ones(ious.shape[1], bool)
    reaches = ious >= min(threshold, 1 - 1e-10)  # at threshold 1 a perfect overlap may lack its last bits
    for d in np.flatnonzero(reaches.any(axis=1)):
        candidates = np.flatnonzero(reaches[d] & (free | crowd))
        demanded = candidates[~ignored[candidates]]
        candidates = demanded if len(demanded) else candidates
        if len(candidates):
            best = candidates[::-1][ious[d, candidates[::-1]].argmax()]
            outcome[d] = IGNORED if ignored[best] else TRUE_POSITIVE
            matched[d], free[best] = best, False
    return outcome, matched


@dataclass(frozen=True)
class ClassOverlaps:
    """One class in one image: detections in order of falling score, against the objects of that class."""

    class_id: int
    scores: np.ndarray  # (D,)
    ious: np.ndarray  # (D, G)
    areas: np.ndarray  # (D,) pixels, of the mask or of the box
    gt_areas: np.ndarray  # (G,) pixels
    difficult: np.ndarray  # (G,)
    crowd: np.ndarray  # (G,)


def class_overlaps(
    detections: Detections,
    sample: Sample,
    num_classes: int,
    *,
    iou_type: str,
    ignore_void: bool = True,
    gt_areas: np.ndarray | None = None,
    limit: int | None = None,
) -> Iterator[ClassOverlaps]:
    """Yield the overlaps of every class that occurs in the image, as an object or as a detection.

    Parameters
    ----------
    detections : Detections
        In any order; equal scores keep it.
    sample : Sample
    num_classes : int
        With background.
    iou_type : {"mask", "box"}
    ignore_void : bool
        Take ``sample.void`` out of all masks (boxes are compared whole).
    gt_areas : ndarray of shape (G,), optional
        Areas as annotated; default: pixels of the masks, for boxes too, as COCO does.
    limit : int, optional
        Keep this many best detections per class.

    Raises
    ------
    ValueError
        The detections do not fit the image or are not finite; the message names the image.
    """
    check_detections(detections, sample, num_classes, iou_type=iou_type)
    if gt_areas is not None and np.shape(gt_areas) != (len(sample.gt_boxes),):
        count = len(sample.gt_boxes)
        raise ValueError(f"gt_areas of image {sample.image_id} has shape {np.shape(gt_areas)}; expected ({count},)")
    for class_id in np.union1d(detections.class_ids, sample.gt_class_ids):
        of_class = np.flatnonzero(detections.class_ids == class_id)
        order = of_class[np.argsort(-detections.scores[of_class].astype(np.float64), kind="stable")][:limit]
        gt = np.flatnonzero(sample.gt_class_ids == class_id)
        crowd = sample.gt_crowd[gt]
        if iou_type == "mask":
            void = sample.void if ignore_void and sample.void.any() else None
            masks = _chosen(detections.masks, order, void)
            ious = mask_overlaps(masks.rles, _chosen(sample.gt_masks, gt, void).rles, crowd=crowd)
            areas = masks.areas
        else:
            ious = box_iou(detections.boxes[order], sample.gt_boxes[gt], crowd=crowd)
            areas = box_area(detections.boxes[order].astype(np.float64))
        yield ClassOverlaps(
            class_id=int(class_id),
            scores=detections.scores[order].astype(np.float64),
            ious=ious,
            areas=areas,
            gt_areas=_chosen(sample.gt_masks, gt).areas if gt_areas is None else np.asarray(gt_areas)[gt],
            difficult=sample.gt_difficult[gt],
            crowd=crowd,
        )


def _chosen(masks: np.ndarray | Masks, rows: np.ndarray, void: np.ndarray | None = None) -> Masks:
    """Return some of the masks as run lengths; of an array each is read where it lies, none is copied."""
    if isinstance(masks, Masks):
        return _without(masks[rows], void)
    parts = (Masks.of_array(masks[k : k + 1]).rles[0] for k in rows)
    return _without(Masks(parts, (masks.shape[1], masks.shape[2])), void)


def check_detections(detections: Detections, sample: Sample, num_classes: int, *, iou_type: str = "mask") -> None:
    """Raise a ``ValueError`` that names the image unless the detections can be compared with the sample.

    Parameters
    ----------
    detections : Detections
    sample : Sample
    num_classes : int
        With the background.
    iou_type : {"mask", "box"}
        Masks are looked at only where they are compared.
    """
    name, count, size = sample.image_id, len(detections.scores), sample.image.shape[:2]
    shapes = {"boxes": (count, 4), "class_ids": (count,), "scores": (count,)}
    shapes |= {"masks": (count, *size)} if iou_type == "mask" else {}
    for field, expected in shapes.items():
        came = getattr(detections, field).shape
        if came != expected:
            raise ValueError(f"detections of image {name} have {field} of shape {came}, expected {expected}")
    if iou_type == "mask" and detections.masks.dtype != bool:
        raise ValueError(f"detections of image {name} have masks of dtype {detections.masks.dtype}, expected bool")
    if sample.gt_masks.shape != (len(sample.gt_boxes), *size):
        expected = (len(sample.gt_boxes), *size)
        raise ValueError(f"image {name} has gt_masks of shape {sample.gt_masks.shape}, expected {expected}")
    for field in ("scores", "boxes"):
        values = getattr(detections, field)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            d = bad[0, 0]
            raise ValueError(f"detection {d} of image {name} has {field} {values[d]}, expected finite numbers")
    for who, class_ids in (("detection", detections.class_ids), ("object", sample.gt_class_ids)):
        unknown = np.flatnonzero((class_ids < 1) | (class_ids >= num_classes))
        if len(unknown):
            i, top = unknown[0], num_classes - 1
            raise ValueError(f"{who} {i} of image {name} has class id {class_ids[i]}, expected 1 .. {top}")


def pairs(detections: Iterable[Detections], samples: Iterable[Sample]) -> Iterator[tuple[Detections, Sample]]:
    """Go through two sequences together; a ``ValueError`` says which of them ends before the other."""
    for i, (found, sample) in enumerate(itertools.zip_longest(detections, samples, fillvalue=_END)):
        if found is _END or sample is _END:
            short, long = ("detections", "samples") if found is _END else ("samples", "detections")
            raise ValueError(f"{short} ends after {i} images but {long} goes on; expected one Detections per Sample")
        yield found, sample  # type: ignore[misc]


def check_options(class_names: Sequence[str], iou_type: str) -> None:
    """Raise a ``ValueError`` for an unknown kind of overlap or class names that cannot label a result."""
    if iou_type not in ("mask", "box", "keypoints"):
        raise ValueError(f"iou_type is {iou_type!r}; expected 'mask' or 'box'")
    if not len(class_names) or len(set(class_names)) != len(class_names):
        raise ValueError(f"class_names is {tuple(class_names)}; expected background and then each class once")
