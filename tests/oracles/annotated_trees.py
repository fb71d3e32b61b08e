"""Builds small data sets as annotation tools leave them; all of them show the same two pictures."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 30, 40
#: of each picture the boxes (y1, x1, y2, x2) of its objects
TRUTH = {"a": [(2, 3, 10, 12), (15, 20, 28, 36)], "b": [(5, 5, 9, 30)]}


def pixels(name):
    """Return the picture: grey with its objects in white."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for y1, x1, y2, x2 in TRUTH[name]:
        image[y1:y2, x1:x2] = 255
    return image


def save(path, array):
    """Write a PNG and the folders above it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def masks_of(name):
    masks = np.zeros((len(TRUTH[name]), HEIGHT, WIDTH), bool)
    for mask, (y1, x1, y2, x2) in zip(masks, TRUTH[name]):
        mask[y1:y2, x1:x2] = True
    return masks


def mask_folders(root, *, names="ab"):
    """The Data Science Bowl's layout."""
    for name in names:
        save(root / name / "images" / f"{name}.png", pixels(name))
        for k, mask in enumerate(masks_of(name)):
            save(root / name / "masks" / f"{k}f3c.png", mask.astype(np.uint8) * 255)
    return root


def label_images(root, *, names="ab"):
    """PennFudan's layout."""
    for name in names:
        save(root / "PNGImages" / f"{name}.png", pixels(name))
        numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
        for k, mask in enumerate(masks_of(name), start=1):
            numbers[mask] = k
        save(root / "PedMasks" / f"{name}_mask.png", numbers)
    return root


def labelme_document(name, *, embedded=False):
    """What labelme writes: a polygon, a rectangle from its last corner to its first."""
    shapes = []
    for k, (y1, x1, y2, x2) in enumerate(TRUTH[name]):
        polygon = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
        points, kind = (polygon, "polygon") if k == 0 else ([[x2, y2], [x1, y1]], "rectangle")
        shapes.append({"label": "object", "points": points, "group_id": None, "shape_type": kind, "flags": {}})
    return {
        "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png", "imageData": None,
        "imageHeight": HEIGHT, "imageWidth": WIDTH,
    }  # fmt: skip


def labelme(root, *, names="ab", embedded=False):
    for name in names:
        picture, document = save(root / f"{name}.png", pixels(name)), labelme_document(name)
        if embedded:
            document["imageData"] = base64.b64encode(picture.read_bytes()).decode()
            picture.unlink()
        (root / f"{name}.json").write_text(json.dumps(document))
    return root


def via_document(*, version=1, names="ab"):
    """What VIA writes: a polygon, then rectangles."""
    images = {}
    for name in names:
        regions = []
        for k, (y1, x1, y2, x2) in enumerate(TRUTH[name]):
            rectangle = {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
            polygon = {"name": "polygon", "all_points_x": [x1, x2, x2, x1, x1], "all_points_y": [y1, y1, y2, y2, y1]}
            regions.append({"shape_attributes": rectangle if k else polygon, "region_attributes": {}})
        both = {str(k): region for k, region in enumerate(regions)} if version == 1 else regions
        images[f"{name}.png123"] = {
            "fileref": "", "size": 123, "filename": f"{name}.png", "base64_img_data": "", "file_attributes": {},
            "regions": both,
        }  # fmt: skip
    return images if version < 3 else {"_via_settings": {}, "_via_img_metadata": images, "_via_attributes": {}}


def via(root, *, version=1, names="ab"):
    """matterport's balloons: the JSON beside the pictures; version 3 is a project file of version 2."""
    for name in names:
        save(root / f"{name}.png", pixels(name))
    (root / "via_region_data.json").write_text(json.dumps(via_document(version=version, names=names)))
    return root


#: a builder for each format, by the name that --data gives it
BUILDERS = {"dsb": mask_folders, "labels": label_images, "labelme": labelme, "via": via}
