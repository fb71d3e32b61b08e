"""What annotations teach: whether anything can be learned from them, and whether boxes and masks say the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..boxes import clip_boxes
from ..errors import DataError, printable, some_of
from .fractions import REMEDY, are_fractions
from .masks import Masks
from .sample import Dataset, Sample, not_read

#: images that are looked at before a training; `check_dataset` looks at all
LOOKED_AT = 64
#: a box fits its mask if they overlap by this or no side is further away than some pixels
_FITS, _SLACK = 0.5, 4.0
#: ... and fits it closely if they overlap by this
_FITS_CLOSELY = 0.8
#: objects that are named where coordinates are fractions, or classes without objects
_NAMED = 3
#: crowds from which on that are said to be many: of COCO's own objects 1 in 80 is one
_CROWDS, _CROWD_SHARE = 3, 0.04
#: what a tool that paints masks does to single objects, and what to do
_PAINTED = (
    "Some tools mark every painted mask so, CVAT among them: look with `mrcnn-np data show`; where they are single "
    "objects, `mrcnn-np data import PATH --out FOLDER --crowds-as-objects` makes a set in which they count"
)

_WRITE_IT_SO = (
    "expected x y width height: the masks say so. Write it so, or leave bbox out, or train with --config "
    "gt_boxes_from_masks=true"
)
#: what a bbox may hold in the place of x y width height, and how it is said
_MISREAD = {
    "fraction_box": f"bbox is a fraction of the image; {_WRITE_IT_SO}",
    "swapped": f"bbox is x1 y1 x2 y2; {_WRITE_IT_SO}",
    "centred": f"bbox is the centre's x and y, width, height; {_WRITE_IT_SO}",
    "rows_first": f"bbox is y1 x1 y2 x2; {_WRITE_IT_SO}",
    "exchanged": "x and y are exchanged, in bbox or in segmentation; expected x before y in both",
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a data set, or that one should know of it.

    Attributes
    ----------
    text : str
        What, and what to do.
    count, of : int
        How many objects (or what ``unit`` says) it concerns, and of how many.
    example : str
        The first of them; empty if there is none.
    fatal : bool
        Training would learn nothing, or the wrong thing; it is refused.
    unit : str
        What is counted.
    concerns : tuple of str
        All that it concerns, in words like those of ``example``; empty where there is nothing to list, as if nothing
        can be learned.
    """

    text: str
    count: int
    of: int
    example: str
    fatal: bool = False
    unit: str = "objects"
    concerns: tuple[str, ...] = ()

    @property
    def names_all(self) -> bool:
        """Say whether the example names all that it concerns."""
        return not self.concerns or self.example in (", ".join(self.concerns), "; ".join(self.concerns))

    def as_dict(self) -> dict[str, Any]:
        """Return all but the example, which ``concerns`` has, as JSON can hold it."""
        kept = ("text", "count", "of", "unit", "fatal")
        return {key: getattr(self, key) for key in kept} | {"concerns": list(self.concerns)}

    def __str__(self) -> str:
        """Return one line."""
        such = f" (such as {printable(self.example)})" if self.example else ""
        return f"{self.count} of {self.of} {self.unit}: {self.text}{such}"


class Inspection:
    """Looks at one sample after the other.

    Parameters
    ----------
    boxes_from_masks : bool
        The boxes of the files will not be used (``config.gt_boxes_from_masks``).
    """

    def __init__(self, *, boxes_from_masks: bool = False) -> None:
        self.boxes_from_masks = boxes_from_masks
        self.images = self.objects = self.with_mask = self.teachable = 0
        self._found: dict[str, list[str]] = {}  # of each kind all objects, in words: some 100 bytes each
        self._all_fractions = 0  # images of several objects
        self.classes: set[int] = set()

    def add(self, sample: Sample) -> None:
        """Look at a sample."""
        masks = sample.gt_masks if isinstance(sample.gt_masks, Masks) else Masks.of_array(sample.gt_masks)
        boxes, tight = sample.gt_boxes.astype(np.float64), masks.boxes.astype(np.float64)
        crowd, seen = sample.gt_crowd, masks.areas > 0
        clipped = clip_boxes(boxes, (0.0, 0.0, *sample.image.shape[:2]))
        flat = ~(clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        outline, in_box = _fractions(sample)
        fraction = outline | (~seen & in_box)
        compared = ~crowd & seen & ~flat & ~fraction
        closely = _overlaps(boxes, tight)
        misread, rest = {}, compared & (closely < _FITS_CLOSELY)
        for kind, fits in _other_readings(boxes, tight, closely, in_box).items():
            misread[kind] = rest & fits
            rest = rest & ~fits
        apart = rest & far_apart(boxes, tight)
        for g in np.flatnonzero(apart) if sample.void.any() else ():
            apart[g] = not _fits_with_void(boxes[g], tight[g], sample.void)
        for kind, flags in (
            ("crowd", crowd),
            ("empty", ~crowd & ~seen & ~fraction),
            ("fraction", ~crowd & fraction),
            ("flat", ~crowd & flat & ~fraction),
            *misread.items(),
            ("apart", apart),
        ):
            self._note(kind, np.flatnonzero(flags), sample, boxes, tight)
        self.images += 1
        self.objects += len(boxes)
        self.with_mask += int(compared.sum())
        self._all_fractions += int((~crowd).sum()) > 1 and bool(fraction[~crowd].all())
        teaches = ~crowd & seen & ~fraction & (~flat | self.boxes_from_masks)
        self.teachable += int(teaches.sum())
        self.classes.update(np.unique(sample.gt_class_ids[teaches]).tolist())

    def _note(self, kind: str, which: np.ndarray, sample: Sample, boxes: np.ndarray, tight: np.ndarray) -> None:
        found = self._found.setdefault(kind, [])
        for g in which:
            name = f" ({Path(sample.path).name})" if sample.path else ""
            place = f"object {g + 1} of image {sample.image_id}{name}, box {_words(boxes[g])}"
            if kind in ("apart", *_MISREAD):
                place += f", mask {_words(tight[g])}"
            found.append(place)

    def _count(self, kind: str) -> int:
        return len(self._found.get(kind, ()))

    def _finding(self, kind: str, text: str, *, of: int | None = None, fatal: bool = False) -> Finding:
        found = self._found.get(kind, [])
        example = "; ".join(found[: _NAMED if kind.startswith("fraction") else 1])
        total = self.objects if of is None else of
        return Finding(text, len(found), total, example, fatal, concerns=tuple(found))

    def findings(self) -> list[Finding]:
        """Return what is wrong, that for which training is refused first."""
        found = []
        if self.images and not self.teachable:
            found.append(Finding(f"nothing can be learned, {self._why()}", self.objects, self.objects, "", True))
        systematic = [kind for kind in _MISREAD if 2 * self._count(kind) > self.with_mask]
        for kind in systematic:
            found.append(self._finding(kind, _MISREAD[kind], of=self.with_mask, fatal=not self.boxes_from_masks))
        if self.objects and self._count("crowd") == self.objects:
            found.append(
                self._finding(
                    "crowd",
                    "is a crowd (iscrowd 1), which is left out of training; run lengths need no iscrowd 1. " + _PAINTED,
                )
            )
        if self._count("empty"):
            found.append(
                self._finding(
                    "empty", "the mask has 0 pixels; a polygon needs three corners or more that enclose some area"
                )
            )
        if self._count("fraction"):
            most = 2 * self._count("fraction") > self.objects - self._count("crowd")
            text, fatal = f"the coordinates are fractions of the image; {REMEDY}", most or self._all_fractions > 0
            found.append(self._finding("fraction", text, fatal=fatal))
        if self._count("flat"):
            found.append(self._finding("flat", "the box has no area within the image, so it is not trained on"))
        disagree = [kind for kind in ("apart", *_MISREAD) if self._count(kind)]
        if disagree and not systematic:
            text = "box and mask disagree; expected the box around the mask"
            one = self._finding(disagree[0], text, of=self.with_mask)
            places = tuple(place for kind in disagree for place in self._found[kind])
            found.append(replace(one, count=len(places), concerns=places))
        return found

    def advice(self) -> list[Finding]:
        """Return what may be wrong."""
        crowds = self._count("crowd")
        if crowds == self.objects or crowds < max(_CROWDS, _CROWD_SHARE * self.objects):
            return []
        text = "is a crowd (iscrowd 1): nobody learns it, and where it lies is mostly taken for background. " + _PAINTED
        return [self._finding("crowd", text)]

    def _why(self) -> str:
        if not self.objects:
            return f"because there is no annotation in {self.images} images"
        words = {
            "crowd": "are crowds",
            "empty": "have a mask of 0 pixels",
            "fraction": "have fractions for coordinates",
            "flat": "have a box without area",
        }
        parts = [f"{self._count(kind)} {text}" for kind, text in words.items() if self._count(kind)]
        return f"because {', '.join(parts)}"


def _fractions(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Return of each object whether the coordinates of its outline, and of its box, are fractions, twice (G,)."""
    if sample.gt_fractions is not None:
        return sample.gt_fractions[:, 0], sample.gt_fractions[:, 1]
    size = sample.image.shape[:2]
    return np.zeros(len(sample.gt_boxes), bool), np.array([are_fractions(b, size) for b in sample.gt_boxes], bool)


def _other_readings(
    boxes: np.ndarray, tight: np.ndarray, closely: np.ndarray, in_box: np.ndarray
) -> dict[str, np.ndarray]:
    """Return for each kind of `_MISREAD` which boxes (G, 4) fit the masks' if they are read so, (G,).

    The width of a box of x1 y1 x2 y2 that is read as x y width height is x2, its height y2.
    """
    start, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    readings = {
        "swapped": np.concatenate([start, sides], axis=1),
        "centred": boxes - np.tile(sides, 2) / 2,
        "rows_first": np.concatenate([start, sides], axis=1)[:, [1, 0, 3, 2]],
        "exchanged": boxes[:, [1, 0, 3, 2]],
    }
    found = {kind: _overlaps(box, tight) >= _FITS_CLOSELY for kind, box in readings.items()}
    found["centred"] &= (closely < _FITS) & (sides.max(axis=1) > 2)  # half a side is far, but for a pixel or two
    return {"fraction_box": in_box & (closely < _FITS)} | found


def far_apart(boxes: np.ndarray, tight: np.ndarray) -> np.ndarray:
    """Say which boxes (G, 4) do not fit those around their masks (G, 4), whatever void there is; flags (G,)."""
    return (_overlaps(boxes, tight) < _FITS) & (np.abs(boxes - tight) > _SLACK).any(axis=1)


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of every box with its counterpart, (G,); 0 for boxes without area."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    whole = sum(np.clip(x[:, 2:] - x[:, :2], 0, None).prod(axis=1) for x in (a, b)) - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _fits_with_void(box: np.ndarray, tight: np.ndarray, void: np.ndarray) -> bool:
    """Say whether a box fits its mask if pixels that nobody labelled may belong to the object, too."""
    y1, x1, y2, x2 = box.clip(0).round().astype(int)
    rows, columns = np.nonzero(void[y1:y2, x1:x2])
    if not len(rows):
        return False
    low = np.minimum(tight[:2], [y1 + rows.min(), x1 + columns.min()])
    high = np.maximum(tight[2:], [y1 + rows.max() + 1, x1 + columns.max() + 1])
    return bool(_overlaps(box[None], np.concatenate([low, high])[None])[0] >= _FITS)


def _words(box: np.ndarray) -> str:
    y1, x1, y2, x2 = (f"{v:.4g}" for v in box)
    return f"x {x1} .. {x2}, y {y1} .. {y2}"


def require_teachable(
    dataset: Dataset,
    *,
    boxes_from_masks: bool = False,
    limit: int = LOOKED_AT,
    skipped: dict[str, str] | None = None,
    untaught: list[str] | None = None,
) -> list[str]:
    """Look at some images of a data set before hours of training are spent on it.

    Parameters
    ----------
    dataset : Dataset
    boxes_from_masks : bool
        ``config.gt_boxes_from_masks``.
    limit : int
        Images, spread over the data set; more only as long as none has taught anything.
    skipped : dict of str to str, or None
        Receives the ids of images that cannot be read, and why. ``None``: nothing is skipped.
    untaught : list of str, optional
        Receives the classes that nothing teaches, if all images that can be read were looked at.

    Returns
    -------
    warnings : list of str
        What is wrong, but does not keep the network from learning.

    Raises
    ------
    DataError
        Nothing can be learned, or only the wrong thing; or an image cannot be read and ``skipped`` is ``None``.
    """
    inspection = Inspection(boxes_from_masks=boxes_from_masks)
    first = list(range(0, len(dataset), max(1, -(-len(dataset) // limit))))
    chosen, broken = set(first), dict[str, str]()
    rest = (index for index in range(len(dataset)) if index not in chosen)
    for place, index in enumerate([*first, *rest]):
        if place >= len(first) and inspection.teachable:
            break
        try:
            inspection.add(dataset.load(index))
        except DataError as error:
            broken[dataset.ids[index]] = str(error)
    found, looked = inspection.findings(), inspection.images + len(broken)
    some = looked < len(dataset)
    where = f" ({looked} of {len(dataset)} images looked at; `data check` looks at all)" if some else ""
    if any(finding.fatal for finding in found):
        said = "; ".join(str(finding) for finding in found)
        first_broken = next(iter(broken.values()), "")
        why = f"; and an image that cannot be read: {first_broken}" if broken and not inspection.teachable else ""
        raise DataError(f"the data set cannot teach what is meant. {said}{where}{why}")
    if broken and skipped is None:
        raise _cannot_be_read(broken, looked)
    warnings = [f"{finding}{where}" for finding in found + inspection.advice()]
    if broken and skipped is not None:
        skipped |= broken
        places = tuple(f"{name}: {why}" for name, why in broken.items())
        text = "cannot be read, so they are left out"
        unread = Finding(text, len(places), looked, places[0], unit="images", concerns=places)
        warnings.insert(0, f"{unread}{where}")
    absent = [name for k, name in enumerate(dataset.class_names) if k and k not in inspection.classes]
    if absent and not some:
        many = f"{len(absent)} of {len(dataset.class_names) - 1} classes"
        named = printable(some_of(absent, _NAMED))
        warnings.append(f"{many}: never to be found, as nothing in these {looked} images teaches them ({named})")
        if untaught is not None:
            untaught += absent
    return warnings


def _cannot_be_read(broken: dict[str, str], looked: int) -> DataError:
    """Return the error that the training would end with, and how many more there are."""
    image_id, why = next(iter(broken.items()))
    others = len(broken) - 1
    more = f"; {others} more of the {looked} images looked at cannot be read either" if others else ""
    return DataError(f"{not_read(image_id, why)}{more}", image_id=image_id)
