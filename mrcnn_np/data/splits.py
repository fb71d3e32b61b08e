"""What the splits of a data set say of each other: pictures that are in two of them, and classes that differ."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from ..errors import DataError, DataWarning, some_of
from ..tables import counted
from .copies import Picture
from .findings import Finding
from .near import Thumbnail, nearest
from .sample import Dataset, Sample
from .spelling import spelt_twice

#: images of another split that are looked at, evenly chosen
LOOKED_AT = 5000
_NAMED = 5


@dataclass
class Overview:
    """What of a split is compared with others.

    Attributes
    ----------
    split : str
    numbers : dict of str to int
        The number that the files give to each class.
    objects : dict of str to int
        How many objects of each class there are in the images that were looked at.
    shown_in : dict of str to list of str
        The names of the images that have objects of each class.
    pictures : dict of str to str
        For each picture a digest of its pixels, and its name; pictures of one colour are left out.
    photographs : dict of str to str
        For each photograph of which Roboflow wrote versions (``NAME.rf.HASH``) its name, and that of one version.
    thumbnails : dict of str to Thumbnail
        Of each picture that shows enough, by its name.
    seen : list of Picture
        Each that was looked at.
    images, looked_at : int
    """

    split: str = ""
    numbers: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    shown_in: dict[str, list[str]] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)
    photographs: dict[str, str] = field(default_factory=dict)
    thumbnails: dict[str, Thumbnail] = field(default_factory=dict)
    seen: list[Picture] = field(default_factory=list)
    images: int = 0
    looked_at: int = 0
    _names: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: Dataset, split: str) -> Overview:
        """Return one of a data set of which nothing has been looked at yet."""
        names = tuple(dataset.class_names)
        numbers = getattr(dataset, "category_ids", range(len(names)))
        known = dict(list(zip(names, map(int, numbers)))[1:])
        return cls(split, known, dict.fromkeys(names[1:], 0), images=len(dataset), _names=names)

    def add(self, sample: Sample) -> None:
        """Look at a sample."""
        self.looked_at += 1
        one = Picture.of(sample)
        for k in sample.gt_class_ids:
            self.objects[self._names[k]] += 1
        for k in np.unique(sample.gt_class_ids):
            self.shown_in.setdefault(self._names[k], []).append(one.name)
        self.seen.append(one)
        if one.digest:
            self.pictures.setdefault(one.digest, one.name)
        if one.thumbnail is not None:
            self.thumbnails.setdefault(one.name, one.thumbnail)
        if one.photograph:
            self.photographs.setdefault(one.photograph, one.name)

    @property
    def where(self) -> str:
        """The split, and how much of it was looked at if that is not all."""
        some = f" ({self.looked_at} of {self.images} images looked at)" if self.looked_at < self.images else ""
        return f"split {self.split!r}{some}"


def look_at(
    dataset: Dataset, split: str, *, progress: Callable[[Sequence[int]], Iterable[int]] = lambda indices: indices
) -> Overview:
    """Look at a split that another is compared with; images that cannot be read are passed over.

    Parameters
    ----------
    dataset : Dataset
    split : str
        Its name.
    progress : callable, optional
        Wraps the sequence of indices, as tqdm does.
    """
    overview = Overview.of(dataset, split)
    for index in progress(np.linspace(0, len(dataset) - 1, min(len(dataset), LOOKED_AT)).astype(int).tolist()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)
                overview.add(dataset.load(index))
        except DataError:
            continue
    return overview


def compare_splits(one: Overview, others: Sequence[Overview]) -> tuple[list[Finding], list[Finding]]:
    """Compare a split with others.

    Parameters
    ----------
    one : Overview
    others : sequence of Overview

    Returns
    -------
    wrong : list of Finding
        Pictures that are in two splits; classes that are numbered differently.
    advice : list of Finding
        Pictures that look like one of another split; classes that have objects in one of two splits only, or names that
        differ by their spelling only.
    """
    wrong, advice = [], []
    for other in others:
        wrong += _shared(one, other) + _numbered_differently(one, other)
        advice += _alike(one, other) + _missing(one, other) + _missing(other, one)
    return wrong, advice + _spelt_twice([one, *others])


def _shared(one: Overview, other: Overview) -> list[Finding]:
    same = [(name, other.pictures[digest]) for digest, name in one.pictures.items() if digest in other.pictures]
    copies = {name for name, _ in same}
    versions = [
        (name, other.photographs[photograph])
        for photograph, name in one.photographs.items()
        if photograph in other.photographs and name not in copies
    ]
    found = []
    for pairs, what in (
        (same, f"are in {other.where}, too, pixel for pixel"),
        (versions, f"have another version of the same photograph in {other.where}"),
    ):
        if pairs:
            text = f"{what}, so that AP there says nothing of new pictures; leave them out of one of the two"
            found.append(_of_images(one, text, [f"{ours}, which is {theirs} there" for ours, theirs in pairs]))
    return found


def _alike(one: Overview, other: Overview) -> list[Finding]:
    """Find pictures of which the other split has one that looks the same, but those that are there for certain."""
    names, theirs = list(one.thumbnails), list(other.thumbnails)
    found = nearest(list(one.thumbnails.values()), list(other.thumbnails.values()))
    versions = {one.photographs[name] for name in one.photographs.keys() & other.photographs.keys()}
    sure = versions | {name for digest, name in one.pictures.items() if digest in other.pictures}
    pairs = [(names[a], theirs[b]) for a, b in found if names[a] not in sure]
    if not pairs:
        return []
    text = (
        f"look like a picture in {other.where}, as if it were stored again, resized or brightened; if they are of one "
        "photograph or one film, AP there says little of new pictures: look at both, and leave them out of one split"
    )
    return [_of_images(one, text, [f"{ours}, which looks like {theirs} there" for ours, theirs in pairs])]


def _of_images(one: Overview, text: str, places: Sequence[str]) -> Finding:
    """Return a finding that concerns images of a split, of which the first is the example."""
    unit = f"images of split {one.split!r}"
    return Finding(text, len(places), one.looked_at, places[0], unit=unit, concerns=tuple(places))


def _numbered_differently(one: Overview, other: Overview) -> list[Finding]:
    names = {number: name for name, number in other.numbers.items()}
    moved = [
        f"{name} is {number} in {one.split!r} and {other.numbers[name]} in {other.split!r}"
        if name in other.numbers
        else f"{number} is {name} in {one.split!r} and {names[number]} in {other.split!r}"
        for name, number in one.numbers.items()
        if other.numbers.get(name, number) != number
        or (name not in other.numbers and number in names and names[number] not in one.numbers)
    ]
    if not moved:
        return []
    text = (
        f"are numbered or named differently in splits {one.split!r} and {other.split!r}; classes are paired by name "
        "here, but other programs go by number, so give each class one number and one name in all files"
    )
    example = some_of(moved, _NAMED)
    return [Finding(text, len(moved), len(one.numbers), example, unit="classes", concerns=tuple(moved))]


def _missing(there: Overview, here: Overview) -> list[Finding]:
    names = [f"{name}: {count}" for name, count in there.objects.items() if count and not here.objects.get(name)]
    if not names or not here.looked_at:
        return []
    used = sum(count > 0 for count in there.objects.values())
    text = (
        f"have objects in {there.where} and none in {here.where}: what is not trained on is never found, and what "
        "is not held out is not measured; move some images from one to the other"
    )
    return [Finding(text, len(names), used, some_of(names, _NAMED), unit="classes", concerns=tuple(names))]


def _spelt_twice(overviews: Sequence[Overview]) -> list[Finding]:
    """Find classes that may be one; the objects of all splits count."""
    objects: Counter[str] = Counter(dict.fromkeys((name for one in overviews for name in one.numbers), 0))
    places: dict[str, list[str]] = {}
    for one in overviews:
        objects.update(one.objects)
        for name, images in one.shown_in.items():
            places.setdefault(name, []).append(f"{_images(images)} of split {one.split!r}")
    found: dict[str, list[str]] = {}
    concerns: dict[str, list[str]] = {}

    def said(names: Sequence[str]) -> str:
        counts = [f"{name!r} ({counted(objects[name], 'object')})" for name in names]
        where = f", the latter in {' and '.join(places[names[-1]])}" if names[-1] in places else ""
        return f"{' and '.join(counts)}{where}"

    for how, names in spelt_twice(objects):
        found.setdefault(how, []).append(said(names))
        concerns.setdefault(how, []).extend(said((names[0], name)) for name in names[1:])
    return [
        Finding(
            f"have a name that differs from another class's by {how} only; if they are one class, spell it one way in "
            "all files (labelme's label, VIA's attribute, VOC's name; in COCO's JSON give the objects the category_id "
            "of the other), as else each learns from its own objects, and those of the other are background to it",
            len(concerns[how]),
            len(objects),
            "; ".join(examples[:_NAMED]),
            unit="classes",
            concerns=tuple(concerns[how]),
        )
        for how, examples in found.items()
    ]


def _images(names: Sequence[str]) -> str:
    """Name images, of many the first and how many there are."""
    if len(names) == 1:
        return f"image {names[0]}"
    return f"{len(names)} images ({some_of(names, _NAMED)})"


def names_alike(dataset: Dataset) -> list[str]:
    """Say which classes may be one, spelt in two ways, without reading pixels.

    Parameters
    ----------
    dataset : Dataset
        Of one without a method ``classes_in(index)`` nothing is said; of a large one ``LOOKED_AT`` are looked at.

    Returns
    -------
    list of str
        A sentence for each class that has another's name but for the spelling; images are counted, not objects.
    """
    if not hasattr(dataset, "classes_in"):
        return []
    names, seen, shown_in = dataset.class_names, Counter[str](), dict[str, list[str]]()
    for index in np.linspace(0, len(dataset) - 1, min(len(dataset), LOOKED_AT)).astype(int).tolist():
        with suppress(DataError):  # training says which cannot be read
            for k in dataset.classes_in(index) or ():
                seen[names[k]] += 1
                shown_in.setdefault(names[k], []).append(dataset.ids[index])
    alike = spelt_twice({name: seen[name] for name in names[1:] if seen[name]})
    in_words = {name: f"{name!r} (in {counted(count, 'image')})" for name, count in seen.items()}
    return [
        f"classes {' and '.join(in_words[name] for name in spelt)} differ by {how} only, the last seen in "
        f"{_images(shown_in[spelt[-1]])}; if they are one class, spell it one way in all files, as else each learns "
        "from its own objects, and those of the other are background to it"
        for how, spelt in alike
    ]
