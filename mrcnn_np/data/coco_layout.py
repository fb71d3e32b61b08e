"""Where the JSON and the images of a data set in COCO's format are, as several tools write them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError

#: a split by the other names that tools give it
_ALIASES = {"val": ("valid", "validation"), "valid": ("val",), "train": ("training",), "test": ("testing",)}
#: splits that a file which is not one of several may stand for
_WHOLE = ("train", "default", "all")
#: names of single files: Label Studio's, FiftyOne's, Roboflow's and labelme2coco's among them come first
_SINGLE = ("result.json", "labels.json", "_annotations.coco.json", "annotations.json", "instances_default.json")
#: files of COCO's own that hold something else
_PERSONS = "person_keypoints_"  # the same images with persons alone, their keypoints too: taken if it is all there is
_OTHERS = ("captions_", _PERSONS, "image_info_", "stuff_", "panoptic_")
#: how many names are looked for where they would be by a less obvious rule
_TRIED = 200


def find_instances(root: Path, split: str) -> Path:
    """Return the instances JSON of a split.

    Parameters
    ----------
    root : Path
        A folder, or the file itself.
    split : str

    Returns
    -------
    path : Path
        Of ``annotations/instances_SPLIT.json`` (also with a year), ``annotations/SPLIT.json``, the same without
        ``annotations/``, ``SPLIT/_annotations.coco.json``, ``SPLIT/labels.json``, and at last
        ``annotations/person_keypoints_SPLIT.json`` the first that exists. If there is no file of any split, but one of
        all images, that is "train".

    Raises
    ------
    DataError
        Says what there is instead.
    """
    if root.is_file():
        if split not in _WHOLE:
            raise DataError(
                f"is one file, taken for the split 'train'; expected a folder with a file of its own for {split!r}",
                path=root,
            )
        return root
    if not root.is_dir():
        raise DataError("does not exist; expected the folder that holds annotations/ and the images", path=root)
    folder = root / "annotations"
    for name in (split, *_ALIASES.get(split, ())):
        for place in _places(folder, root, name):
            if place.is_file():
                return place
    known = sorted(p.stem.removeprefix("instances_") for p in folder.glob("instances_*.json"))
    years = [name for name in known if name.startswith(split) and name[len(split) :].isdigit()]
    if len(years) == 1:
        return folder / f"instances_{years[0]}.json"
    single = _single(root, folder) if split in _WHOLE and not years else None
    if single is not None:
        return single
    found = f"found: {', '.join(known)}" if known else _instead(root, folder)
    count = "several" if years else "no"
    raise DataError(
        f"has {count} annotations/instances_{split}*.json; expected one, or its whole name ({found}). "
        "--root may also name the JSON file itself",
        path=root,
    )


def recognise(root: Path) -> str | None:
    """Say on what ground a folder or JSON is taken for COCO's format; None if it is not."""
    paths = [root] if root.is_file() else []
    for split in ("train", "val", "test") if root.is_dir() else ():
        with contextlib.suppress(DataError):
            paths.append(find_instances(root, split))
    for path in paths:
        if path.suffix.lower() == ".json" and _lists_images(path):
            name = path.relative_to(root) if path != root else path.name
            return f"{name} lists images, annotations and categories"
    return None


def _lists_images(path: Path) -> bool:
    """Say whether a JSON has the lists of COCO's format, without parsing it."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return all(re.search(rb'"%b"\s*:\s*[\[n]' % key, content) for key in (b"images", b"annotations", b"categories"))


def has_split(root: Path, split: str) -> bool:
    """Say whether there is a file of a split; one that stands for all images is the split "train" alone."""
    if root.is_dir() and any((root / "annotations").glob(f"instances_{split}[0-9]*.json")):
        return True  # where there are several, whoever opens it hears of it
    try:
        find_instances(root, split)
    except DataError:
        return False
    return True


def _places(folder: Path, root: Path, split: str) -> list[Path]:
    return [
        folder / f"instances_{split}.json",
        folder / f"instances_{split}2017.json",
        folder / f"{split}.json",
        root / split / "_annotations.coco.json",
        root / f"instances_{split}.json",
        root / f"{split}.json",
        root / split / "labels.json",
        root / split / "annotations.json",
        root / split / "result.json",
        folder / f"{_PERSONS}{split}.json",
        folder / f"{_PERSONS}{split}2017.json",
    ]


def _single(root: Path, folder: Path) -> Path | None:
    """Return the one file of all images, if there is one and none of a split."""
    files = [p for place in (root, folder) if place.is_dir() for p in sorted(place.glob("*.json"))]
    files = [p for p in files if not p.name.startswith(_OTHERS)]
    for name in _SINGLE:
        named = [p for p in files if p.name == name]
        if len(named) == 1:
            return named[0]
    return files[0] if len(files) == 1 and not _is_split(files[0].stem) else None


def _is_split(stem: str) -> bool:
    return re.match(r"(instances_)?(train|val|valid|validation|test|minival)(\d|$|[-_.])", stem) is not None


def _instead(root: Path, folder: Path) -> str:
    files = [str(p.relative_to(root)) for place in (root, folder) for p in sorted(place.glob("*.json"))]
    return "there is no annotations/instances_*.json" + (f", but {', '.join(files[:5])}" if files else "")


class ImageFolder:
    r"""Where the images of a JSON are.

    Parameters
    ----------
    root : Path
        The folder of the data set, or the JSON itself.
    path : Path
        The JSON.
    names : sequence of str
        Of the image files, as the JSON has them.

    Attributes
    ----------
    folder : Path

    Notes
    -----
    Names may have folders, with Windows' separators too. They are looked for as they stand; where none is there,
    without their first folders, as many for all. So a name such as ``C:\data\a.png`` or ``../a.png`` can only lead to
    a file ``a.png`` in one of the folders of the data set, never outside of it.
    """

    def __init__(self, root: Path, path: Path, names: Sequence[str]) -> None:
        if root.is_file():
            root = path.parent.parent if path.parent.name in ("annotations", "labels") else path.parent
        split = path.stem.removeprefix("instances_").removeprefix(_PERSONS)
        folders = [root / "images" / split, root / split, root / "images", path.parent, root]
        folders += [root / "data", root / "JPEGImages", path.parent / "images", path.parent / "data", root / "train"]
        parts = [name_parts(name) for name in names]
        for keep in range(max(map(len, parts)), 0, -1):
            short = {tuple(p[-keep:]) for p in parts}
            if len(short) < len({tuple(p) for p in parts}):
                break  # different images would get one name
            tried = list(short) if keep == max(map(len, parts)) else sorted(short)[:: max(1, len(short) // _TRIED)]
            for folder in dict.fromkeys(folders):
                if folder.is_dir() and any(_is_file(folder.joinpath(*p)) for p in tried):
                    self.folder, self._keep = folder, keep
                    return
        shown = dict.fromkeys(str(f.relative_to(root)) for f in folders[:-1] if f != root and f.is_relative_to(root))
        raise DataError(
            f"holds none of the images that {path.name} lists, such as {names[0]}; looked in {', '.join(shown)}; put "
            "them into one of these",
            path=root,
        )

    def path(self, name: str) -> Path:
        """Return the file of an image."""
        return self.folder.joinpath(*name_parts(name)[-self._keep :])


def name_parts(name: str) -> list[str]:
    """Return the folders and the name of a file, without those that lead elsewhere."""
    return [part for part in re.split(r"[\\/]+", name) if part not in ("", ".", "..") and part[1:] != ":"] or ["_"]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long
        return False
