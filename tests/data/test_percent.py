"""Coordinates in percent are found out where nothing else explains them, and nowhere else."""

import json
from dataclasses import replace

import numpy as np
import pytest
from all_named import all_named
from PIL import Image
from scenes import sample_of

from mrcnn_np.cli.main import main
from mrcnn_np.data.percent import LEAST_OBJECTS, Percent


def looked_at(boxes, shape=(300, 400)):
    percent = Percent()
    for start in range(0, len(boxes), 10):
        sample = sample_of([[1, 1, 9, 9]] * len(boxes[start : start + 10]), shape=shape)
        percent.add(replace(sample, gt_boxes=np.asarray(boxes[start : start + 10], np.float32)))
    return all_named(percent.findings())


def in_percent(count=LEAST_OBJECTS):
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 60, (count, 2))
    return np.concatenate([start, start + rng.uniform(5, 40, (count, 2))], axis=1)


def test_percent_is_found():
    (finding,) = looked_at(in_percent(30))
    assert (finding.count, finding.of) == (30, 30) and "percent" in finding.text and "width / 100" in finding.text
    assert "of 400 x 300" in finding.example


@pytest.mark.parametrize("boxes, shape", [
    (in_percent(LEAST_OBJECTS - 1), (300, 400)),  # too few to tell
    (in_percent(), (200, 400)),  # the images are no larger
    (np.round(in_percent()), (300, 400)),  # whole pixels
    (np.vstack([in_percent(), [[10, 10, 20, 101.5]]]), (300, 400)),  # one is further out
    (in_percent() * [3, 4, 3, 4], (300, 400)),  # pixels
    (in_percent()[:0], (300, 400)),
])  # fmt: skip
def test_what_is_not_percent(boxes, shape):
    assert looked_at(boxes, shape) == []


def test_data_check_says_it(tmp_path, capsys):
    images, annotations = [], []
    for k in range(4):
        Image.fromarray(np.full((210, 300, 3), 40 * k + 9, np.uint8)).save(tmp_path / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "width": 300, "height": 210})
    for n, (y1, x1, y2, x2) in enumerate(in_percent(24).tolist()):
        box = [x1, y1, x2 - x1, y2 - y1]
        outline = [[x1, y1, x2, y1, x2, y2, x1, y2]]
        annotations.append({"id": n + 1, "image_id": n % 4, "category_id": 1, "bbox": box, "segmentation": outline,
                            "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "result.json").write_text(json.dumps(document))
    assert main(["data", "check", "--data", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "24 of 24 objects: lie within 0 .. 100 pixels, at the top left of images that are larger" in said
