"""Builds small data sets in VOC layout for tests. Boxes are given as the XML has them: 1-based, inclusive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mrcnn_np.data.voc import colour_map

# The table of the VOC development kit, entries 0 .. 20.
VOC_COLOURS = [
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
    (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128), (64, 128, 128), (192, 128, 128),
    (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
]  # fmt: skip


def xml_text(objects, *, size=(40, 30)):
    """objects: (name, xmin, ymin, xmax, ymax[, extra XML])."""
    parts = [f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"]
    for name, x1, y1, x2, y2, *extra in objects:
        box = f"<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
        parts.append(f"<object><name>{name}</name>{''.join(extra)}{box}</object>")
    return "".join(parts) + "</annotation>"


def save_palette(indices, path):
    picture = Image.fromarray(np.asarray(indices, dtype=np.uint8))
    picture.putpalette(colour_map().tobytes())
    picture.save(path)


class Tree:
    """A VOCdevkit folder under construction; `add` one image, then `split` writes the list."""

    def __init__(self, root):
        self.root = Path(root) / "VOCdevkit"
        self.voc = self.root / "VOC2012"
        for name in ("JPEGImages", "Annotations", "SegmentationObject", "SegmentationClass", "ImageSets/Segmentation"):
            (self.voc / name).mkdir(parents=True)
        self.ids = []

    def jpeg(self, image_id):
        return self.voc / "JPEGImages" / f"{image_id}.jpg"

    def xml(self, image_id):
        return self.voc / "Annotations" / f"{image_id}.xml"

    def mask(self, image_id, kind="Object"):
        return self.voc / f"Segmentation{kind}" / f"{image_id}.png"

    def add(self, image_id="a", objects=None, indices=None, *, height=30, width=40, exif=None):
        """Default: a cat at rows 4..13, columns 10..29 (0-based) with one void row above, and a dog in the corner."""
        if indices is None:
            indices = np.zeros((height, width), dtype=np.uint8)
            if objects is None:
                objects = [("cat", 11, 5, 30, 14), ("dog", 1, 21, 5, 30)]
                indices[4:14, 10:30] = 1
                indices[3, 10:30] = 255
                indices[20:30, 0:5] = 2
        rng = np.random.default_rng(len(self.ids))
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        options = {}
        if exif is not None:
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = exif
        Image.fromarray(image).save(self.jpeg(image_id), quality=90, **options)
        self.xml(image_id).write_text(xml_text(objects or [], size=(width, height)))
        save_palette(indices, self.mask(image_id))
        self.ids.append(image_id)
        return self

    def split(self, name="train", ids=None):
        text = "".join(f"{i}\n" for i in (self.ids if ids is None else ids))
        (self.voc / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(text)
        return self.root
