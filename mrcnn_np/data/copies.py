"""Pictures that a split holds more than once: they count that often, and their objects may contradict each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..boxes import iou
from ..errors import some_of
from ..tables import of_each_class
from .findings import Finding
from .near import Thumbnail, earlier, thumbnail
from .photographs import is_plain, name_of
from .sample import Sample

#: pairs, and classes of a picture, that are named
_NAMED = 3
#: an object of one picture is one of the other if they are of one class and their boxes overlap by this
_SAME_OBJECT = 0.5

Pair = tuple[int, int]


class Annotation(NamedTuple):
    """What is drawn on a picture.

    Attributes
    ----------
    class_ids : ndarray of shape (G,), int64
        Negative for a crowd.
    boxes : ndarray of shape (G, 4), float32
        ``(y1, x1, y2, x2)`` as fractions of the picture: a copy may have another size.
    """

    class_ids: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, sample: Sample) -> Annotation:
        """Return that of a sample."""
        sides = np.tile(np.array(sample.image.shape[:2], np.float32), 2)
        boxes = np.asarray(sample.gt_boxes, np.float32).reshape(-1, 4) / sides
        return cls(np.where(sample.gt_crowd, -sample.gt_class_ids, sample.gt_class_ids), boxes)

    def agrees(self, other: Annotation) -> bool:
        """Say whether they have as many objects, and each object of the one is also one of the other."""
        if len(self.class_ids) != len(other.class_ids):
            return False
        same = iou(self.boxes, other.boxes) >= _SAME_OBJECT
        same |= (self.boxes[:, None] == other.boxes).all(axis=2)  # a box without area overlaps nothing
        same &= self.class_ids[:, None] == other.class_ids
        return bool(same.any(axis=0).all() and same.any(axis=1).all())


@dataclass(frozen=True, slots=True)
class Picture:
    """What of a picture is compared with others.

    Attributes
    ----------
    name : str
        For messages.
    digest : str
        Of its pixels; empty for a picture of one colour, of which there may be many.
    photograph : str
        What Roboflow made this version of (``NAME.rf.HASH``); empty if it is none.
    thumbnail : Thumbnail or None
        None if it shows too little.
    annotation : Annotation
    """

    name: str
    digest: str
    photograph: str
    thumbnail: Thumbnail | None
    annotation: Annotation

    @classmethod
    def of(cls, sample: Sample) -> Picture:
        """Return what of a sample is compared."""
        digest = ""
        if not is_plain(sample.image):
            digest = f"{hashlib.blake2b(sample.image.tobytes(), digest_size=16).hexdigest()} {sample.image.shape}"
        version = re.match(r"(.+)\.rf\.\w+", Path(sample.path).name)
        photograph = version[1] if version else ""
        return cls(name_of(sample), digest, photograph, thumbnail(sample.image), Annotation.of(sample))


class Copies:
    """The pictures of a split that are there before, or look like one that is.

    Parameters
    ----------
    pictures : sequence of Picture
        In the order of the split.
    class_names : tuple of str
        Background first.

    Attributes
    ----------
    wrong : list of Finding
        The same pixels, and other objects.
    advice : list of Finding
        The same pixels and objects; pictures that look the same, but for versions of one photograph.
    spare : list of int
        Places of the pictures that are an earlier one with the same objects, and can be left out.
    """

    def __init__(self, pictures: Sequence[Picture], class_names: Sequence[str]) -> None:
        self._pictures, self._class_names = pictures, class_names
        copies = self._copies()
        contradicting, equal = self._by_objects(copies)
        differing, agreeing = self._by_objects(self._alike({later for later, _ in copies}))
        self.spare = [later for later, _ in equal]
        self.wrong, self.advice = [], []
        if contradicting:
            text = (
                "are another image of this split, pixel for pixel, but have other objects: what only one of the two "
                "has is taught as an object and as background, and what has two classes as both; put all that is "
                "right into one of them, and remove the other"
            )
            self.wrong.append(self._finding(text, self._compared(contradicting)))
        if equal:
            text = (
                "are another image of this split, pixel for pixel, with the same objects: these count twice, and where "
                "a share is held out by a draw (--val-fraction), what is measured may have been trained on; remove "
                "the copies, or --good-ids FILE writes the ids without them, for `train --ids FILE`"
            )
            self.advice.append(self._finding(text, self._named(equal, "is")))
        if differing or agreeing:
            text = (
                f"look like another image of this split ({len(differing) or 'none'} of them with other objects), as if "
                "it were stored again, resized or brightened; of one photograph, keep one and all its objects; of one "
                "film, keep all in one split, as a draw (--val-fraction) would measure what was nearly trained on"
            )
            compared, named = self._compared(differing), self._named(agreeing, "looks like")
            self.advice.append(self._finding(text, compared or named, named if compared else ()))

    def _copies(self) -> list[Pair]:
        """Return each picture whose pixels there were before, with the first that has them."""
        first: dict[str, int] = {}
        pairs = [(k, first.setdefault(one.digest, k)) for k, one in enumerate(self._pictures) if one.digest]
        return [(later, before) for later, before in pairs if later != before]

    def _alike(self, copies: set[int]) -> list[Pair]:
        """Return each picture but the ``copies`` that looks like an earlier one, with that."""
        chosen = [k for k, one in enumerate(self._pictures) if one.thumbnail is not None and k not in copies]
        found = earlier([small for k in chosen if (small := self._pictures[k].thumbnail) is not None])
        pairs = [(chosen[later], chosen[before]) for later, before in found]
        photographs = [one.photograph for one in self._pictures]
        return [(a, b) for a, b in pairs if not photographs[a] or photographs[a] != photographs[b]]

    def _by_objects(self, pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
        """Return those with other objects, and those with the same."""
        agree = [self._pictures[a].annotation.agrees(self._pictures[b].annotation) for a, b in pairs]
        return [p for p, same in zip(pairs, agree) if not same], [p for p, same in zip(pairs, agree) if same]

    def _finding(self, text: str, places: Sequence[str], others: Sequence[str] = ()) -> Finding:
        """Return one that concerns ``places`` and ``others``, of which the former alone are examples."""
        example, concerns = "; ".join(places[:_NAMED]), (*places, *others)
        return Finding(text, len(concerns), len(self._pictures), example, unit="images", concerns=concerns)

    def _named(self, pairs: Sequence[Pair], verb: str) -> list[str]:
        return [f"{self._pictures[a].name}, which {verb} {self._pictures[b].name}" for a, b in pairs]

    def _compared(self, pairs: Sequence[Pair]) -> list[str]:
        """Return of each pair the names, and how many objects each has of each class."""
        said = []
        for a, b in pairs:
            one, other = self._counted(a), self._counted(b)
            names = self._pictures[a].name, self._pictures[b].name
            if one == other:
                said.append(f"{names[0]} and {names[1]}, which have {one} each, in other places")
            else:
                said.append(f"{names[0]} has {one}, and {names[1]} has {other}")
        return said

    def _counted(self, place: int) -> str:
        ids = (abs(int(k)) for k in self._pictures[place].annotation.class_ids)
        return some_of(of_each_class(ids, self._class_names), _NAMED) or "nothing"
