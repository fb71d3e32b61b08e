"""Where the files of a data set in VOC layout are, as several tools write it, and what its classes are called."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .images import SUFFIXES
from .notes import Notes

IMAGES, ANNOTATIONS, SPLITS = "JPEGImages", "Annotations", "ImageSets"

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Class names by class id: background, then VOC's 20 classes in alphabetical order."""

CLASSES = "classes.txt"
"""A file beside ``JPEGImages`` with the class names of a data set that is not VOC itself."""

BACKGROUND = ("background", "_background_")
"""What tools call class 0."""

UNLABELLED = "an image without SegmentationObject is left out, as no list in ImageSets names it"

#: splits that a folder without lists, or with one list of another name, has
_LISTS = ("Segmentation", "Main")
_WHOLE = ("train", "trainval", "default", "all")


@dataclass(frozen=True)
class Layout:
    """The files of a data set in VOC layout.

    Attributes
    ----------
    folder : Path
        Holds ``JPEGImages``.
    images : dict of str to str
        File names in ``JPEGImages`` by their names without suffix.
    class_names : tuple of str
    colours : dict of (int, int, int) to int
        The class of each colour in class images, where ``labelmap.txt`` says so.
    """

    folder: Path
    images: dict[str, str]
    class_names: tuple[str, ...]
    colours: dict[tuple[int, int, int], int]

    @classmethod
    def find(cls, root: Path, year: str, class_names: tuple[str, ...] | None) -> Layout:
        """Look at a folder; a ``DataError`` says what was expected.

        Parameters
        ----------
        root : Path
            Holds ``VOC<year>`` or ``JPEGImages``.
        year : str
        class_names : tuple of str, or None
            In the place of those that a file in the folder lists.
        """
        folder = _voc_folder(root, year)
        names, colours = (tuple(class_names), {}) if class_names else read_classes(folder)
        return cls(folder, _images(folder / IMAGES), names, colours)

    def image(self, image_id: str) -> Path:
        """Return the image file of an id, with whatever suffix; ``ID.jpg`` if there is none."""
        name = self.images.get(image_id) or self.images.get(Path(image_id).stem)
        if name is None:
            for suffix in SUFFIXES:  # below a folder of its own
                if (self.folder / IMAGES / f"{image_id}{suffix}").is_file():
                    name = f"{image_id}{suffix}"
        return self.folder / IMAGES / (name or f"{image_id}.jpg")

    def annotation(self, image_id: str) -> Path:
        """Return where the XML file of an image is, or would be."""
        return self.folder / ANNOTATIONS / f"{self._stem(image_id)}.xml"

    def labels(self, image_id: str, kind: str) -> Path:
        """Return where the image of object numbers ("Object") or class numbers ("Class") is, or would be.

        labelme writes PNG and NumPy files, in folders whose names depend on its version.
        """
        stem, folder = self._stem(image_id), f"Segmentation{kind}"
        places = [f"{folder}/{stem}.png", f"{folder}PNG/{stem}.png", f"{folder}/{stem}.npy", f"{folder}Npy/{stem}.npy"]
        found = (self.folder / place for place in places if (self.folder / place).is_file())
        return next(found, self.folder / places[0])

    def _stem(self, image_id: str) -> str:
        known = image_id in self.images or not image_id.lower().endswith(SUFFIXES)
        return image_id if known else str(Path(image_id).with_suffix(""))

    def ids(self, split: str, notes: Notes | None = None) -> list[str]:
        """Return the image ids of a split, each once.

        ``ImageSets/Segmentation/SPLIT.txt`` lists them, or ``ImageSets/Main/SPLIT.txt``. Where there is no list at
        all, "train" is every image with object numbers; where there is one, "default", it is that.

        Parameters
        ----------
        split : str
        notes : Notes, optional
            Is told of images that have no object numbers and are in no list.
        """
        for folder in _LISTS:
            path = self.folder / SPLITS / folder / f"{split}.txt"
            if path.is_file():
                return _read_split(path, split)
        lists = sorted((self.folder / SPLITS / "Segmentation").glob("*.txt"))
        if split in _WHOLE and [path.stem for path in lists] == ["default"]:
            return _read_split(lists[0], split)
        if not any((self.folder / SPLITS).rglob("*.txt")):
            return self._without_lists(split, notes)
        known = ", ".join(path.stem for path in lists) or "none"
        path = self.folder / SPLITS / "Segmentation" / f"{split}.txt"
        raise DataError(f"cannot be read; expected the list of split {split!r} (found: {known})", path=path)

    def _no_lists(self) -> str:
        return f"no list in {SPLITS}" if (self.folder / SPLITS).is_dir() else f"no {SPLITS}"

    def _without_lists(self, split: str, notes: Notes | None) -> list[str]:
        if split not in _WHOLE:
            raise DataError(
                f"has {self._no_lists()}, so that all images are in split 'train'; expected a list of split {split!r}, "
                f"one image name on each line, in {SPLITS}/Segmentation/{split}.txt",
                path=self.folder,
            )
        ids = sorted(name for name in self.images if self.labels(name, "Object").is_file())
        if not ids:
            raise DataError(
                f"has {self._no_lists()} and no image of object numbers; expected SegmentationObject/NAME.png for each "
                f"of the {len(self.images)} images in {IMAGES}",
                path=self.folder,
            )
        notes = Notes(quiet=True) if notes is None else notes
        for name in sorted(self.images.keys() - set(ids)):
            notes.add(UNLABELLED, self.folder / IMAGES / self.images[name])
        return ids


def recognise(root: Path) -> str | None:
    """Say on what ground a folder is taken for VOC's; None if it is not."""
    for folder in (*sorted(root.glob("VOC20*")), root) if root.is_dir() else ():
        for kind in ("Object", "ObjectPNG", "ObjectNpy"):
            if (folder / IMAGES).is_dir() and (folder / f"Segmentation{kind}").is_dir():
                return f"{folder.name} holds {IMAGES}/ and Segmentation{kind}/"
    return None


def has_split(root: Path, split: str) -> bool:
    """Say whether there is a list of a split."""
    folders = [folder for folder in (root / "VOC2012", root) if (folder / IMAGES).is_dir()]
    return any((folder / SPLITS / kind / f"{split}.txt").is_file() for folder in folders[:1] for kind in _LISTS)


def _voc_folder(root: Path, year: str) -> Path:
    """Find the folder that contains ``JPEGImages``."""
    for folder in (root / f"VOC{year}", root):
        if (folder / IMAGES).is_dir():
            return folder
    if not root.is_dir():
        raise DataError("does not exist; expected the VOCdevkit folder", path=root)
    found = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
    raise DataError(f"contains {found}; expected VOC{year}/JPEGImages (the VOCdevkit folder)", path=root)


def _images(folder: Path) -> dict[str, str]:
    """Return the image files of a folder by their names without suffix; of several the first kind in ``SUFFIXES``."""
    try:
        with os.scandir(folder) as entries:
            files = [(name, *os.path.splitext(name)) for name in (entry.name for entry in entries)]
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}); expected the images", path=folder) from error
    images = [(SUFFIXES.index(end.lower()), end, stem, name) for name, stem, end in files if end.lower() in SUFFIXES]
    return {stem: name for *_, stem, name in sorted(images, reverse=True)}


# --- classes --------------------------------------------------------------------------------------------------------


def read_classes(folder: Path) -> tuple[tuple[str, ...], dict[tuple[int, int, int], int]]:
    """Read the class names of a data set that is not VOC itself, and the colours of classes.

    Parameters
    ----------
    folder : Path
        Holds ``classes.txt``, one name on each line, or labelme's ``class_names.txt``, or CVAT's ``labelmap.txt``; if
        none of them, the classes are VOC's.

    Returns
    -------
    names : tuple of str
        Background first.
    colours : dict of (int, int, int) to int
        Class by colour; empty but for ``labelmap.txt``.
    """
    for name in (CLASSES, "class_names.txt"):
        if (folder / name).exists():
            return _checked_names(_read_lines(folder / name, "one class name on each line"), folder / name), {}
    path = folder / "labelmap.txt"
    if not path.exists():
        return VOC_CLASSES, {}
    names, colours = [], []
    for line in _read_lines(path, "name:red,green,blue:: on each line"):
        if not line.startswith("#"):
            name, colour, *_ = [*line.split(":"), ""]
            names.append(name.strip())
            colours.append(_colour(colour, line, path))
    ordered = _checked_names(names, path)
    place = {name: k for k, name in enumerate(ordered)} | dict.fromkeys(BACKGROUND, 0)
    return ordered, {colour: place[name] for name, colour in zip(names, colours) if colour is not None}


def listed_classes(path: Path, content: bytes) -> tuple[str, ...]:
    """Return the class names that a file lists, one on each line, background first.

    Parameters
    ----------
    path : Path
        For messages.
    content : bytes
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError("cannot be read; expected one class name on each line", path=path) from error
    return _checked_names([line.strip() for line in lines if line.strip()], path)


def _colour(text: str, line: str, path: Path) -> tuple[int, int, int] | None:
    if not text.strip():
        return None
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) < 256 for part in parts):
        raise DataError(f"has the line {line!r:.80}; expected name:red,green,blue:: with numbers 0 .. 255", path=path)
    red, green, blue = map(int, parts)
    return red, green, blue


def _checked_names(names: list[str], path: Path) -> tuple[str, ...]:
    """Put background first, without labelme's name for pixels to be ignored; refuse names that occur twice."""
    names = [name for name in names if name != "__ignore__"]
    if names and names[0] in BACKGROUND:
        names = names[1:]
    elif path.name == "labelmap.txt":  # a table, whose order is not that of numbers
        names = [name for name in names if name not in BACKGROUND]
    twice = _first_twice(names)
    if not names or twice is not None:
        what = f"names {twice} twice" if twice is not None else "is empty"
        raise DataError(f"{what}; expected every class once, the background at most as the first", path=path)
    return ("background", *names)


def _first_twice(names: Iterable[str]) -> str | None:
    seen = set(BACKGROUND)
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


# --- lists ----------------------------------------------------------------------------------------------------------


def _read_lines(path: Path, expected: str) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # -sig: some editors begin a file with a mark
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read; expected {expected}", path=path) from error
    return [line.strip() for line in lines if line.strip()]


def _read_split(path: Path, split: str) -> list[str]:
    """Read a list of image ids."""
    ids = [line.replace("\\", "/") for line in _read_lines(path, f"the list of split {split!r}")]
    if not ids:
        raise DataError(f"split {split!r} is empty; expected one image id per line", path=path)
    seen: set[str] = set()
    for image_id in ids:
        if image_id in seen:
            raise DataError(f"names image {image_id} twice; expected every id once", path=path, image_id=image_id)
        if Path(image_id).is_absolute() or ".." in Path(image_id).parts or "\0" in image_id:
            raise DataError(f"names image {image_id!r:.80}; expected a name inside {IMAGES}", path=path)
        seen.add(image_id)
    return ids
