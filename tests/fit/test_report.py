"""The whole report, on data sets made here and on real ones where these are."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from scenes import Samples, sample_of

from mrcnn_np import presets
from mrcnn_np.data import open_dataset
from mrcnn_np.errors import DataError
from mrcnn_np.fit import FitReport, measure
from mrcnn_np.pictures.fit import save_fit


def tall(count=6):
    boxes = [[[2 + k, 5, 50 + k, 15], [10, 30 + k, 58, 40 + k]] for k in range(count)]
    return Samples([sample_of(b, shape=(64, 64)) for b in boxes])


CONFIG = presets.tiny(num_classes=2, image_min_size=64, image_max_size=64)


def test_a_report_by_hand(tmp_path):
    report = measure(tall(), CONFIG)
    assert isinstance(report, FitReport) and (report.images, report.looked_at, report.crowds) == (6, 6, 0)
    assert report.boxes.shape == (12, 4) and report.better is not None
    assert report.better.best.mean() > report.now.best.mean() and report.better.saved < report.now.saved
    # before and after: each object has a positive anchor at least, by the best-anchor rule
    assert report.now.positives.sum() >= 2 and report.better.positives.sum() > report.now.positives.sum()
    assert report.now.recall["decoded"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(report.masks[:, 0], 1, atol=0.02)  # boxes are their own masks
    table = report.table()
    assert "12 objects in 6 images; preset tiny" in table and "suggested" in table and "m = 28 (this conf" in table
    assert "outline lost: edge pixels of the annotated mask" in table and "a little above it" in table
    assert "these fit better (from 12 objects only):\n  --config 'anchor_sizes=[" in table and repr(report) == table
    numbers = json.loads(json.dumps(report.as_dict()))
    assert numbers["suggested"]["mean_best_iou"] > numbers["now"]["mean_best_iou"]
    assert numbers["options"] == report.options and set(numbers["masks"]) == {"training size", "14", "28", "56"}
    picture = np.asarray(Image.open(save_fit(tmp_path / "a.png", report)))
    assert picture.shape[:2] == (560, 1180) and (picture != 255).any()


def test_a_larger_size_where_pictures_are_shrunk_too_far():
    """Disks of which a quarter of the size leaves stairs of 4 pixels; at the size of the pictures nothing is lost."""
    y, x = np.mgrid[:256, :256] + 0.5
    centres = [(40 + 60 * i, 41 + 57 * j) for i in range(4) for j in range(4)]
    disks = np.stack([(y - a) ** 2 + (x - b) ** 2 < 14**2 for a, b in centres])
    sample = sample_of([[a - 14, b - 14, a + 14, b + 14] for a, b in centres], shape=(256, 256), masks=disks)
    report = measure(Samples([sample]), CONFIG)
    assert report.larger[0] > report.masks[0, 0] + 0.03 and "--size 128 would leave a mean IoU of 0.9" in report.table()
    assert report.as_dict()["twice_the_size"]["iou"] == report.larger[0]
    config = presets.tiny(num_classes=2, image_min_size=256, image_max_size=256)
    report = measure(Samples([sample]), config)
    np.testing.assert_array_equal(report.larger, report.masks[0])  # nothing is shrunk
    assert "would leave" not in report.table()


def test_what_is_suggested_stands_by_itself():
    report = measure(tall(), CONFIG)
    again = measure(tall(), CONFIG.replace(**report.changes))
    np.testing.assert_array_equal(again.now.best, report.better.best)
    np.testing.assert_array_equal(again.now.positives, report.better.positives)


def test_crowds_and_images_without_objects(tmp_path):
    crowd = sample_of([[2, 2, 40, 40], [1, 1, 60, 60]], shape=(64, 64), crowd=[False, True])
    report = measure(Samples([crowd, sample_of([], shape=(64, 64))]), CONFIG)
    assert (len(report.boxes), report.crowds) == (1, 1) and "and 1 crowd, which is no target" in report.table()
    nothing = measure(Samples([sample_of([], shape=(64, 64))]), CONFIG)
    assert "there is no object to fit anchors to" in nothing.table() and nothing.options == ""
    assert save_fit(tmp_path / "a.png", nothing).is_file()
    with pytest.raises(DataError, match="has no image"):
        measure(Samples([]), CONFIG)


def test_without_the_best_anchor_rule_objects_are_lost():
    table = measure(tall(1), CONFIG.replace(rpn_match_best=False)).table()
    assert "no positive anchor at all" in table and "best-anchor rule saves" not in table


@pytest.mark.parametrize("kind, preset", [("voc", "small"), ("coco", "small")])
def test_on_photographs(kind, preset, tmp_path):
    variable = f"{kind.upper()}_ROOT"
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set")
    dataset = open_dataset(kind, None, "train", subset=12)
    report = measure(dataset, presets.by_name(preset, num_classes=len(dataset.class_names)))
    assert report.images == 12 and (report.now.best > 0).any()
    losses = report.masks[1:, 0]
    assert (np.diff(losses) > -0.01).all() and 0.5 < losses[0] < 1
    if report.better:
        assert report.better.best.mean() > report.now.best.mean()
    assert save_fit(tmp_path / "a.png", report).is_file()
