"""What annotations teach: whether anything can be learned from them, and whether boxes and masks say the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..boxes import clip_boxes
from ..errors import DataError, printable
from .masks import Masks
from .sample import Dataset, Sample

#: images that are looked at before a training; `check_dataset` looks at all
LOOKED_AT = 64
#: a box fits its mask if they overlap by this or no side is further away than some pixels
_FITS, _SLACK = 0.5, 4.0
#: ... and fits it closely if they overlap by this
_FITS_CLOSELY = 0.8


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
    """

    text: str
    count: int
    of: int
    example: str
    fatal: bool = False
    unit: str = "objects"

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
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, sample: Sample) -> None:
        """Look at a sample."""
        masks = sample.gt_masks if isinstance(sample.gt_masks, Masks) else Masks.of_array(sample.gt_masks)
        boxes, tight = sample.gt_boxes.astype(np.float64), masks.boxes.astype(np.float64)
        crowd, seen = sample.gt_crowd, masks.areas > 0
        clipped = clip_boxes(boxes, (0.0, 0.0, *sample.image.shape[:2]))
        flat = ~(clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        fraction = ~seen & (boxes >= 0).all(axis=1) & (boxes <= 1).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
        compared = ~crowd & seen & ~flat
        # x1 y1 x2 y2 in the place of x y width height: the width is then x2, the height y2
        corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        closely, as_corners = _overlaps(boxes, tight), _overlaps(corners, tight)
        swapped = compared & (as_corners >= _FITS_CLOSELY) & (closely < _FITS_CLOSELY)
        apart = compared & ~swapped & (closely < _FITS) & (np.abs(boxes - tight) > _SLACK).any(axis=1)
        for g in np.flatnonzero(apart) if sample.void.any() else ():
            apart[g] = not _fits_with_void(boxes[g], tight[g], sample.void)
        for kind, flags in (
            ("crowd", crowd),
            ("empty", ~crowd & ~seen & ~fraction),
            ("fraction", ~crowd & fraction),
            ("flat", ~crowd & flat & ~fraction),
            ("swapped", swapped),
            ("apart", apart),
        ):
            self._note(kind, np.flatnonzero(flags), sample, boxes, tight)
        self.images += 1
        self.objects += len(boxes)
        self.with_mask += int(compared.sum())
        self.teachable += int((~crowd & seen & (~flat | self.boxes_from_masks)).sum())

    def _note(self, kind: str, which: np.ndarray, sample: Sample, boxes: np.ndarray, tight: np.ndarray) -> None:
        count, example = self._found.get(kind, (0, ""))
        if len(which) and not example:
            g = which[0]
            name = f" ({Path(sample.path).name})" if sample.path else ""
            example = f"object {g + 1} of image {sample.image_id}{name}, box {_words(boxes[g])}"
            if kind in ("swapped", "apart"):
                example += f", mask {_words(tight[g])}"
        self._found[kind] = count + len(which), example

    def _finding(self, kind: str, text: str, *, of: int | None = None, fatal: bool = False) -> Finding:
        count, example = self._found.get(kind, (0, ""))
        return Finding(text, count, self.objects if of is None else of, example, fatal)

    def findings(self) -> list[Finding]:
        """Return what is wrong, that for which training is refused first."""
        found = []
        if self.images and not self.teachable:
            found.append(Finding(f"nothing can be learned, {self._why()}", self.objects, self.objects, "", True))
        swapped, apart = self._found.get("swapped", (0, ""))[0], self._found.get("apart", (0, ""))[0]
        systematic = 2 * swapped > self.with_mask
        if systematic:
            found.append(
                self._finding(
                    "swapped",
                    "bbox is x1 y1 x2 y2; expected x y width height: the masks say so. Write it so, or leave bbox out, "
                    "or train with --config gt_boxes_from_masks=true",
                    of=self.with_mask,
                    fatal=not self.boxes_from_masks,
                )
            )
        if self.objects and self._found["crowd"][0] == self.objects:
            found.append(
                self._finding(
                    "crowd",
                    "is a crowd, which is left out of training; set iscrowd to 0 where a mask is one object (run "
                    "lengths need no iscrowd 1)",
                )
            )
        if self._found.get("empty", (0, ""))[0]:
            found.append(
                self._finding(
                    "empty", "the mask has 0 pixels; a polygon needs three corners or more that enclose some area"
                )
            )
        if self._found.get("fraction", (0, ""))[0]:
            found.append(
                self._finding(
                    "fraction", "the coordinates are fractions of the image, and the mask has 0 pixels; expected pixels"
                )
            )
        if self._found.get("flat", (0, ""))[0]:
            found.append(self._finding("flat", "the box has no area within the image, so it is not trained on"))
        if not systematic and swapped + apart:
            kind = "apart" if apart else "swapped"
            one = self._finding(kind, "box and mask disagree; expected the box around the mask", of=self.with_mask)
            found.append(Finding(one.text, swapped + apart, one.of, one.example))
        return found

    def _why(self) -> str:
        if not self.objects:
            return f"because there is no annotation in {self.images} images"
        words = {
            "crowd": "are crowds",
            "empty": "have a mask of 0 pixels",
            "fraction": "have fractions for coordinates",
            "flat": "have a box without area",
        }
        parts = [f"{self._found[kind][0]} {text}" for kind, text in words.items() if self._found[kind][0]]
        return f"because {', '.join(parts)}"


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


def require_teachable(dataset: Dataset, *, boxes_from_masks: bool = False, limit: int = LOOKED_AT) -> list[str]:
    """Look at some images of a data set before hours of training are spent on it.

    Parameters
    ----------
    dataset : Dataset
    boxes_from_masks : bool
        ``config.gt_boxes_from_masks``.
    limit : int
        Images, spread over the data set; more only as long as none has taught anything.

    Returns
    -------
    warnings : list of str
        What is wrong, but does not keep the network from learning.

    Raises
    ------
    DataError
        Nothing can be learned, or only the wrong thing. Images that cannot be read are passed over.
    """
    inspection = Inspection(boxes_from_masks=boxes_from_masks)
    first = list(range(0, len(dataset), max(1, -(-len(dataset) // limit))))
    chosen = set(first)
    rest = (index for index in range(len(dataset)) if index not in chosen)
    for place, index in enumerate([*first, *rest]):
        if place >= len(first) and inspection.teachable:
            break
        try:
            inspection.add(dataset.load(index))
        except DataError:
            continue
    found = inspection.findings()
    some = inspection.images < len(dataset)
    where = f" ({inspection.images} of {len(dataset)} images looked at; `data check` looks at all)" if some else ""
    if any(finding.fatal for finding in found):
        said = "; ".join(str(finding) for finding in found)
        raise DataError(f"the data set cannot teach what is meant. {said}{where}")
    return [f"{finding}{where}" for finding in found]
