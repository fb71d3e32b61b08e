"""Builds small data sets in COCO format for tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


class CocoTree:
    """A folder with annotations/instances_train.json and images/train/; change ``content``, then ``save``."""

    def __init__(self, root):
        self.root = Path(root)
        self.images = self.root / "images" / "train"
        self.json = self.root / "annotations" / "instances_train.json"
        for folder in (self.images, self.json.parent):
            folder.mkdir(parents=True)
        self.content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat", "supercategory": "animal"}],
        }

    def image(self, number, *, height=30, width=40, **changes):
        name = f"{number:012d}.png"
        Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(self.images / name)
        entry = {"id": number, "file_name": name, "height": height, "width": width} | changes
        self.content["images"].append(entry)
        return self

    def rectangle(self, image_id, x, y, w, h, *, category=3, **changes):
        """Add an annotation: the rectangle as a polygon."""
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotation = {
            "id": len(self.content["annotations"]) + 1,
            "image_id": image_id,
            "category_id": category,
            "bbox": [x, y, w, h],
            "area": w * h,
            "iscrowd": 0,
            "segmentation": [corners],
        } | changes
        self.content["annotations"].append({k: v for k, v in annotation.items() if v is not ...})
        return self

    def save(self):
        self.json.write_text(json.dumps(self.content))
        return self.root
