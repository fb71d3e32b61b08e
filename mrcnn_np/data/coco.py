"""COCO and data sets in its format: an instances JSON and a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from .choice import choose_ids
from .coco_json import CocoObject, ImageEntry, Instances
from .images import exif_orientation, read_image
from .masks import Masks
from .sample import Sample

COCO_CATEGORIES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip
"""Names of COCO's 80 categories by category id; ten numbers between 1 and 90 are not used."""


def category_ids_of(class_names: Sequence[str]) -> tuple[int, ...]:
    """Return COCO's category ids if the classes are COCO's 80, else the class ids themselves; entry 0 is -1."""
    if tuple(class_names[1:]) == tuple(COCO_CATEGORIES.values()):
        return (-1, *COCO_CATEGORIES)
    return (-1, *range(1, len(class_names)))


class COCODataset:
    """The images of one split of a data set in COCO format.

    Parameters
    ----------
    root : path
        Holds the JSON as ``annotations/instances_SPLIT.json`` (or ``instances_SPLIT2017.json`` or another such year),
        ``annotations/SPLIT.json``, or ``SPLIT/_annotations.coco.json``; and the images in ``images/SPLIT2017/``,
        ``SPLIT2017/``, ``images/``, beside the JSON, or directly.
    split : str
        ``"train"``, ``"val"``, ``"train2017"``, ...
    subset : int, optional
        Take the first ``subset`` images only.
    ids : sequence of str, optional
        Take these images of the split (numbers as in the JSON), in this order.

    Attributes
    ----------
    class_names : tuple of str
        Background, then the categories in the order of their ids.
    category_ids : tuple of int
        The category id of each class id; entry 0 is -1.
    ids : tuple of str
        In rising order of the image ids, as COCO's evaluation has it.
    instances : Instances
    image_folder : Path

    Raises
    ------
    DataError
        A file or folder is missing, or see `Instances`.

    Notes
    -----
    Images without annotations are background. Crowds are in the samples; training leaves them out, evaluation does not.
    """

    def __init__(
        self, root: str | Path, split: str = "train", *, subset: int | None = None, ids: Sequence[str] | None = None
    ) -> None:
        path = find_instances(Path(root), split)
        self.split, self.instances = split, Instances(path)
        if not self.instances.images:
            raise DataError("lists no image; expected at least one", path=path)
        self.class_names, self.category_ids = self.instances.class_names, self.instances.category_ids
        self.ids = choose_ids([str(n) for n in self.instances.images], path, split, subset, ids)
        self.image_folder = _image_folder(Path(root), path, [e.file_name for e in self.instances.images.values()])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def load(self, index: int) -> Sample:
        """Read one image with its instances; anything wrong with its files is a ``DataError`` that names them."""
        image_id = self.ids[index]
        entry = self.instances.images[int(image_id)]
        path = self.image_folder / entry.file_name
        image = read_image(path, image_id=image_id)
        if image.shape[:2] != (entry.height, entry.width):
            message = (
                f"is {image.shape[1]} x {image.shape[0]} pixels; expected {entry.width} x {entry.height}, "
                f"its size in {self.instances.path.name}"
            )
            orientation = exif_orientation(path)
            if orientation != 1:
                message += f" (its EXIF orientation, {orientation}, has been applied)"
            raise DataError(message, path=path, image_id=image_id)
        objects = self.instances.objects(int(image_id))
        for o in objects:
            self._check_place(o, entry)
        x, y, width, height = np.array([o.box for o in objects], np.float64).reshape(-1, 4).T
        return Sample(
            image_id=image_id,
            image=image,
            # float64: evaluation decides on the last digits of what the file says
            gt_boxes=np.stack([y, x, y + height, x + width], axis=1),
            gt_class_ids=np.array([o.class_id for o in objects], np.int64),
            gt_masks=Masks((o.mask for o in objects if o.mask is not None), (entry.height, entry.width)),
            gt_crowd=np.array([o.crowd for o in objects], bool),
            gt_difficult=np.zeros(len(objects), bool),
            void=np.zeros((entry.height, entry.width), bool),
            path=str(path),
            gt_areas=np.array([o.area for o in objects], np.float64),
        )

    def _check_place(self, o: CocoObject, entry: ImageEntry) -> None:
        """Demand that a box meets the image; a fraction of a pixel beyond its edge is usual."""
        x, y, width, height = o.box
        if x > entry.width or y > entry.height or x + width < 0 or y + height < 0:
            raise DataError(
                f"annotation {o.id} of image {entry.id}: bbox {[*o.box]} lies outside the image; expected x, y, width, "
                f"height within {entry.width} x {entry.height}",
                path=self.instances.path,
                image_id=str(entry.id),
            )


def find_instances(root: Path, split: str) -> Path:
    """Return the instances JSON of a split below ``root``; a ``DataError`` says what there is instead."""
    folder = root / "annotations"
    known = sorted(p.stem.removeprefix("instances_") for p in folder.glob("instances_*.json"))
    candidates = [folder / f"instances_{split}.json", folder / f"instances_{split}2017.json", folder / f"{split}.json"]
    candidates.append(root / split / "_annotations.coco.json")
    for path in candidates:
        if path.is_file():
            return path
    years = [name for name in known if name.startswith(split) and name[len(split) :].isdigit()]
    if len(years) == 1:
        return folder / f"instances_{years[0]}.json"
    if not root.is_dir():
        raise DataError("does not exist; expected the folder that holds annotations/ and the images", path=root)
    found = f"found: {', '.join(known)}" if known else "there is no annotations/instances_*.json"
    count = "several" if years else "no"
    raise DataError(
        f"has {count} annotations/instances_{split}*.json; expected one, or its whole name ({found})", path=root
    )


def _image_folder(root: Path, path: Path, names: list[str]) -> Path:
    """Return the first folder that holds one of the images."""
    split = path.stem.removeprefix("instances_")
    folders = [root / "images" / split, root / split, root / "images", path.parent, root]
    for folder in folders:
        if folder.is_dir() and any((folder / name).is_file() for name in names):
            return folder
    tried = ", ".join(str(f.relative_to(root)) for f in folders if f != root)
    raise DataError(
        f"holds none of the images that {path.name} lists, such as {names[0]}; looked in {tried}", path=root
    )
