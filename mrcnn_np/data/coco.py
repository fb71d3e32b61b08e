"""COCO and data sets in its format: an instances JSON and a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from .choice import choose_ids
from .coco_json import CocoObject, ImageEntry, Instances
from .coco_layout import ImageFolder, has_split, recognise
from .coco_layout import find_instances as find_instances
from .findings import Finding
from .images import exif_orientation, image_size, read_image
from .masks import Masks
from .notes import Notes
from .orientation import MIRRORED, TURNED, TURNED_WITH, upright_boxes, upright_masks, upright_points
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
        ``annotations/SPLIT.json``, or ``SPLIT/_annotations.coco.json``, or one for all images, as ``result.json``; and
        the images in ``images/SPLIT2017/``, ``SPLIT2017/``, ``images/``, beside the JSON, or directly. See
        ``coco_layout``. Or the JSON itself.
    split : str
        ``"train"``, ``"val"``, ``"train2017"``, ...
    subset : int, optional
        Take the first ``subset`` images only.
    ids : sequence of str, optional
        Take these images of the split (numbers as in the JSON), in this order.
    skip_bad : bool
        Leave out annotations that are broken, with a remark, instead of raising.

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
    pose : Pose or None
        What the keypoints are called, if there are any.
    notes : Notes
        What was left out, or read otherwise than it stands in the files, so far.

    Raises
    ------
    DataError
        A file or folder is missing, or see `Instances`.

    Notes
    -----
    Images without annotations are background. Crowds are in the samples; training leaves them out, evaluation does not.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        subset: int | None = None,
        ids: Sequence[str] | None = None,
        skip_bad: bool = False,
    ) -> None:
        root = Path(root)
        path = find_instances(root, split)
        self.notes = Notes()
        if split not in path.stem and split not in path.parent.name and path != root:
            # several tools write one file always: nobody has to mend it
            self.notes.add(f"the file stands for all images, and so for split {split!r}", path, quiet=True)
        self.split, self.instances = split, Instances(path, skip_bad=skip_bad, notes=self.notes)
        if not self.instances.images:
            raise DataError("lists no image; expected at least one", path=path)
        self.class_names, self.category_ids = self.instances.class_names, self.instances.category_ids
        self.pose = self.instances.pose
        every_id = [str(n) for n in self.instances.images]
        self.ids = choose_ids(every_id, path, split, subset, ids, name_of=self.name_of)
        self._files = ImageFolder(root, path, [e.file_name for e in self.instances.images.values()])
        self.image_folder = self._files.folder

    @staticmethod
    def recognise(root: Path) -> str | None:
        """Say on what ground a folder or JSON is taken for COCO's format; None if it is not."""
        return recognise(root)

    @staticmethod
    def has_split(root: Path, split: str) -> bool:
        """Say whether there is a file of a split."""
        return has_split(root, split)

    def name_of(self, image_id: str) -> str:
        """Return the name of an image's file, as the JSON has it."""
        return self.instances.images[int(image_id)].file_name

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def classes_in(self, index: int) -> set[int]:
        """Return the classes of one image's annotations, without reading the image."""
        return self.instances.classes_in(int(self.ids[index]))

    def findings(self) -> list[Finding]:
        """Return what is wrong with the file, and no fault of an image."""
        return self.instances.unlisted

    def load(self, index: int) -> Sample:
        """Read one image with its instances; anything wrong with its files is a ``DataError`` that names them."""
        image_id = self.ids[index]
        entry = self.instances.images[int(image_id)]
        path = self._files.path(entry.file_name)
        image = read_image(path, image_id=image_id, notes=self.notes)
        size, orientation = self._size(entry, image, path)
        objects = self.instances.objects(int(image_id), size=size)
        x, y, width, height = np.array([o.box for o in objects], np.float64).reshape(-1, 4).T
        # float64: evaluation decides on the last digits of what the file says
        boxes = np.stack([y, x, y + height, x + width], axis=1)
        keypoints = self._keypoints(objects)
        masks = Masks((o.mask for o in objects if o.mask is not None), size)
        if orientation != 1:
            boxes, masks = upright_boxes(boxes, orientation, size), upright_masks(masks, orientation)
            keypoints = None if keypoints is None else upright_points(keypoints, orientation, size)
            if keypoints is not None and self.pose is not None and orientation in MIRRORED:
                keypoints = keypoints[:, self.pose.mirrored]
        return Sample(
            image_id=image_id,
            image=image,
            gt_boxes=boxes,
            gt_class_ids=np.array([o.class_id for o in objects], np.int64),
            gt_masks=masks,
            gt_crowd=np.array([o.crowd for o in objects], bool),
            gt_difficult=np.zeros(len(objects), bool),
            void=np.zeros(image.shape[:2], bool),
            path=str(path),
            gt_areas=np.array([o.area for o in objects], np.float64),
            gt_fractions=np.array([o.fractions for o in objects], bool).reshape(-1, 2),
            gt_keypoints=keypoints,
            pose=self.pose,
        )

    def _keypoints(self, objects: list[CocoObject]) -> np.ndarray | None:
        """Return the keypoints of an image's objects, (G, K, 3), if the data set has any."""
        if self.pose is None:
            return None
        found = [o.keypoints for o in objects if o.keypoints is not None]
        return np.array(found, np.float64).reshape(-1, len(self.pose), 3)

    def _size(self, entry: ImageEntry, image: np.ndarray, path: Path) -> tuple[tuple[int, int], int]:
        """Return (H, W) of the picture that was annotated, and the EXIF orientation if that is not the turned one."""

        def fits(size: tuple[int, ...]) -> bool:  # a side that the file does not say does
            return entry.height in (0, size[0]) and entry.width in (0, size[1])

        shown, orientation = (image.shape[0], image.shape[1]), exif_orientation(path)
        if fits(shown):
            if orientation != 1:
                self.notes.add(TURNED, path)
            return shown, 1
        if orientation != 1 and fits(stored := image_size(path)):
            self.notes.add(TURNED_WITH, path)
            return stored, orientation
        raise DataError(
            f"is {shown[1]} x {shown[0]} pixels; expected {entry.width or shown[1]} x {entry.height or shown[0]}, its "
            f"size in {self.instances.path.name}",
            path=path,
            image_id=str(entry.id),
        )
