"""The table of data sets that can be read: a format is one line here and one file beside.

The command line takes the names of ``--data`` and the environment variables from it; ``opening.py`` imports a reader
when it is asked for.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import DataError, did_you_mean


class Format(NamedTuple):
    """One kind of data set.

    Attributes
    ----------
    name : str
        What ``--data`` calls it. Where it is, if no folder is given, the environment variable NAME_ROOT says.
    reader : str
        ``module.Class`` in this folder. ``Class(root, split, subset=..., ids=..., skip_bad=...)`` gives a `Dataset`;
        ``Class.recognise(path)`` says on what ground a path is of this format, or None; and
        ``Class.has_split(path, split)`` whether it has a split.
    what : str
        In a few words.
    advice : str
        What to say when there is none.
    layout : str
        What lies in it.
    """

    name: str
    reader: str
    what: str
    advice: str
    layout: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that says where it is."""
        return f"{self.name.upper()}_ROOT"


FORMATS = (
    Format("shapes", "voc.VOCDataset", "generated shapes", "run `mrcnn-np data shapes` to generate it"),
    Format("voc", "voc.VOCDataset", "Pascal VOC's folders",
           "set VOC_ROOT to the VOCdevkit folder, or run `mrcnn-np data voc --download`",
           "JPEGImages/NAME.jpg, Annotations/NAME.xml, SegmentationObject/NAME.png"),
    Format("coco", "coco.COCODataset", "COCO's instances JSON",
           "set COCO_ROOT to the folder that holds annotations/ and the images",
           "a JSON with images, annotations and categories, and the pictures"),
    Format("dsb", "mask_folders.MaskFolders", "mask folders, as of the Data Science Bowl 2018",
           "set DSB_ROOT to the folder, or the zip, that holds ID/images/ and ID/masks/ for each image",
           "ID/images/ID.png and, one for each object, ID/masks/*.png"),
    Format("labels", "label_images.LabelImages", "label images, as of PennFudan and Cityscapes",
           "set LABELS_ROOT to the folder that holds the pictures and their images of numbers",
           "images/NAME.png and masks/NAME.png, or NAME.png and NAME_masks.png"),
    Format("labelme", "labelme.Labelme", "labelme's JSON files",
           "set LABELME_ROOT to the folder that holds the JSON files and the pictures",
           "NAME.json beside NAME.jpg"),
    Format("via", "via.VIA", "VIA's JSON, as of matterport's balloons",
           "set VIA_ROOT to the folder that holds the JSON and the pictures",
           "a JSON of regions beside the pictures"),
)  # fmt: skip

#: a zip of these is unpacked, as their readers open files by their path; the others read inside it
UNPACKED = ("voc", "coco")

#: found by what lies in them; generated shapes are in VOC's layout
RECOGNISED = tuple(form for form in FORMATS if form.name != "shapes")


def in_words() -> str:
    """Return all formats as a text: name and what it is."""
    return "; ".join(f"{form.name}, {form.what}" for form in FORMATS)


def names() -> tuple[str, ...]:
    """Return the names of all formats."""
    return tuple(form.name for form in FORMATS)


def by_name(name: str) -> Format:
    """Return the line of a format; a ``DataError`` lists the names if it has none."""
    for form in FORMATS:
        if form.name == name:
            return form
    raise DataError(f"unknown data set {name!r}; expected {', '.join(names())}{did_you_mean(name, names())}")
