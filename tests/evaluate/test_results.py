"""COCO's results JSON: written, read, refused; and the numbers of a pair of files by hand."""

import json

import numpy as np
import pytest
from coco_tree import CocoTree
from scenes import detections_of, sample_of

from mrcnn_np.data.coco_json import Instances, dump_json, instances_of
from mrcnn_np.data.coco_results import read_results, result_records
from mrcnn_np.data.rle import decode
from mrcnn_np.errors import DataError
from mrcnn_np.evaluate import evaluate_coco
from mrcnn_np.evaluate.results import evaluate_results

NAMES, CATEGORIES = ("background", "cat", "dog"), (-1, 3, 7)


@pytest.fixture
def truth(tmp_path):
    """Image 1 with a cat of 10 x 10 and a dog of 20 x 8; image 2 without anything."""
    tree = CocoTree(tmp_path / "coco").image(1).image(2)
    tree.rectangle(1, 2, 3, 10, 10).rectangle(1, 15, 4, 20, 8, category=7)
    tree.save()
    return Instances(tree.json)


def written(folder, records):
    path = folder / "results.json"
    path.write_text(json.dumps(records))
    return path


def test_what_is_written_is_read(truth, tmp_path):
    found = detections_of([(3.25, 2, 13, 12.5), (0, 0, 5, 5)], [0.9, 0.1], [1, 2], shape=(30, 40))
    records = result_records(found, 1, CATEGORIES)
    assert records[0]["bbox"] == [2, 3.25, 10.5, 9.75] and records[0]["category_id"] == 3
    # columns 0 .. 4 of rows 0 .. 4, 30 rows: 0 5 25 5 25 5 25 5 25 5 1075
    assert records[1] == {
        "image_id": 1,
        "category_id": 7,
        "bbox": [0, 0, 5, 5],
        "score": float(np.float32(0.1)),
        "segmentation": {"size": [30, 40], "counts": "05i00000000jP1"},
    }
    path = tmp_path / "results.json"
    path.write_bytes(dump_json(records))
    for result, box, class_id, score, mask in zip(
        read_results(path, truth), found.boxes, found.class_ids, found.scores, found.masks, strict=True
    ):
        x, y, w, h = result.box
        np.testing.assert_array_equal([y, x, y + h, x + w], box)
        assert (result.image_id, result.class_id, result.score) == (1, class_id, score)
        np.testing.assert_array_equal(decode(result.mask), mask)


def test_numbers_by_hand(truth, tmp_path):
    cat = {"image_id": 1, "category_id": 3, "bbox": [2, 3, 10, 10], "score": 0.5}
    dog = {"image_id": 1, "category_id": 7, "bbox": [15, 4, 20, 6], "score": 0.5}  # IoU 3/4
    alarm = {"image_id": 2, "category_id": 3, "bbox": [2, 3, 10, 10], "score": 0.9}
    results = read_results(written(tmp_path, [cat, dog, alarm]), truth)
    found = evaluate_results(truth, results, iou_type="box")
    # cat: wrong, right: precision 1/2 at every threshold; dog: right at the thresholds 0.5 .. 0.75, that is 6 of 10
    assert found.ap[1:] == pytest.approx([0.5, 0.6])
    expected = {"AP": 0.55, "AP50": 0.75, "AP75": 0.75, "APs": 0.55, "APm": -1, "APl": -1}
    expected |= {"AR1": 0.8, "AR10": 0.8, "AR100": 0.8, "ARs": 0.8, "ARm": -1, "ARl": -1}
    assert found.numbers == pytest.approx(expected) and found.images == 2


def test_files_and_arrays_give_the_same_numbers(tmp_path):
    rng = np.random.default_rng(0)
    samples, found = [], []
    for name in ("a", "b", "c"):  # no numbers: they become 1, 2, 3
        corners = np.sort(rng.integers(0, 40, (5, 2, 2)), axis=1) + np.array([[0], [1]])
        boxes = np.concatenate([corners[:, 0], corners[:, 1]], axis=1)
        samples.append(sample_of(boxes, rng.integers(1, 3, 5), shape=(48, 48), name=name, crowd=rng.random(5) < 0.2))
        moved = np.clip(boxes + rng.integers(-1, 2, (5, 4)), 0, 48)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        found.append(detections_of(moved, rng.random(5), rng.integers(1, 3, 5), shape=(48, 48)))
    content = instances_of(samples, ids="abc", class_names=NAMES, category_ids=CATEGORIES)
    (tmp_path / "truth.json").write_bytes(dump_json(content))
    instances = Instances(tmp_path / "truth.json")
    records = [r for n, d in enumerate(found, start=1) for r in result_records(d, n, CATEGORIES)]
    results = read_results(written(tmp_path, records), instances)
    for kind in ("box", "mask"):
        files = evaluate_results(instances, results, iou_type=kind)
        arrays = evaluate_coco(found, samples, class_names=NAMES, iou_type=kind)
        assert files.numbers == pytest.approx(arrays.numbers, abs=1e-12)
        assert 0 < files.numbers["AP"] < 1


def test_the_area_of_a_detection_is_that_of_its_mask_or_of_its_box(truth, tmp_path):
    # A false alarm whose box is large and whose mask is small: among small objects it counts, or not.
    alarm = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 40, 30], "score": 0.9}
    alarm |= {"segmentation": {"size": [30, 40], "counts": [1190, 10]}}
    right = {"image_id": 1, "category_id": 3, "bbox": [2, 3, 10, 10], "score": 0.5}
    right |= {"segmentation": [[2, 3, 12, 3, 12, 13, 2, 13]]}
    results = read_results(written(tmp_path, [alarm, right]), truth)
    assert evaluate_results(truth, results).numbers["APs"] == pytest.approx(0.25)  # cat 1/2, dog 0
    assert evaluate_results(truth, results, area="box").numbers["APs"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="area is 'pixels'; expected one of mask, box"):
        evaluate_results(truth, results, area="pixels")


GOOD = {"image_id": 1, "category_id": 3, "bbox": [2, 3, 10, 10], "score": 0.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": []}, "is no list; expected a list of detections"),
        ([GOOD, 7], "detection 1: is 7; expected an object with image_id"),
        ([GOOD | {"image_id": 3}], "detection 0: image_id is 3; expected an image of instances_train.json"),
        ([GOOD | {"image_id": "1"}], "image_id is '1'"),
        ([GOOD | {"category_id": 1}], "category_id is 1; expected a category of instances_train.json"),
        ([GOOD | {"score": "high"}], "score is 'high'; expected a number"),
        ([GOOD | {"score": float("nan")}], "score is nan; expected a number"),
        ([GOOD | {"bbox": [1, 2]}], r"bbox is \[1, 2\]; expected \[x, y, width, height\]"),
        ([GOOD | {"bbox": None}], "has neither bbox nor segmentation"),
        ([GOOD | {"segmentation": {"size": [40, 30], "counts": [1200]}}], r"RLE has the size \[40, 30\]"),
        ([GOOD | {"segmentation": {"size": [30, 40], "counts": "zz"}}], "character 0 of the run lengths is 'z'"),
    ],
)
def test_broken_results_are_named(truth, tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        read_results(path, truth)
    assert str(caught.value).startswith(str(path))


def test_a_file_that_is_none(truth, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_results(tmp_path / "none.json", truth)
    (tmp_path / "cut.json").write_text('[{"image_id": 1,')
    with pytest.raises(DataError, match="is not JSON"):
        read_results(tmp_path / "cut.json", truth)
