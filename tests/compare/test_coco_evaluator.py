"""Our evaluator against pycocotools: all twelve numbers and the AP of every class, for boxes and for masks.

Three evaluations of the same detections must agree: pycocotools on the two JSON files, ours on the files
(`evaluate_results`), and ours on arrays (`evaluate_coco`). Precision differs in the last bit, because pycocotools adds
2e-16 to the denominator, and means are summed in another order. Measured: at most 7e-15.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.data import open_dataset
from mrcnn_np.data.coco_json import Instances
from mrcnn_np.data.coco_results import read_results, result_records
from mrcnn_np.data.rle import encode
from mrcnn_np.data.segmentation import to_coco
from mrcnn_np.detections import Detections
from mrcnn_np.evaluate import evaluate_coco
from mrcnn_np.evaluate.coco import CocoEvaluation, CocoEvaluator
from mrcnn_np.evaluate.results import bbox_overlaps, evaluate_results
from mrcnn_np.synthetic import params_that_detect

reason = "pycocotools is not installed"
coco_api = pytest.importorskip("pycocotools.coco", reason=reason)
cocoeval = pytest.importorskip("pycocotools.cocoeval", reason=reason)
coco_mask = pytest.importorskip("pycocotools.mask", reason=reason)

EXACT = 1e-12
KINDS = {"box": "bbox", "mask": "segm"}
needs_coco = pytest.mark.skipif("COCO_ROOT" not in os.environ, reason="COCO_ROOT is not set")


def theirs(ground_truth, records, kind):
    """pycocotools' twelve numbers, and the AP of each category (NaN for those without objects)."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_api.COCO()
        truth.dataset = json.loads(json.dumps(ground_truth))
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(json.loads(json.dumps(records))), KINDS[kind])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # (thresholds, recalls, classes)
    precision = np.where(precision < 0, np.nan, precision)
    return evaluation.stats, precision.mean(axis=(0, 1))


def check(ours: CocoEvaluation, expected):
    stats, ap = expected
    np.testing.assert_allclose(list(ours.numbers.values()), stats, rtol=0, atol=EXACT)
    np.testing.assert_allclose(ours.ap[1:], ap, rtol=0, atol=EXACT, equal_nan=True)


def save(folder, name, content):
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def without_box(records):
    return [{k: v for k, v in r.items() if k != "bbox"} for r in records]


def compare_files(folder, ground_truth, records):
    """Both kinds; masks with pycocotools' own rule for areas and with detectron2's, which removes the boxes first."""
    instances = Instances(save(folder, "truth.json", ground_truth))
    results = read_results(save(folder, "results.json", records), instances)
    box = evaluate_results(instances, results, iou_type="box")
    check(box, theirs(ground_truth, records, "box"))
    check(evaluate_results(instances, results, area="box"), theirs(ground_truth, records, "mask"))
    mask = evaluate_results(instances, results)
    check(mask, theirs(ground_truth, without_box(records), "mask"))
    return {"box": box, "mask": mask}


# --- perturbed ground truth of real images ---


def perturbed(sample, rng, classes):
    """Detections near the objects: jittered, of a wrong class, several for one, none for some; and false alarms."""
    height, width = sample.image.shape[:2]
    boxes, ids, masks = [], [], []

    def add(box, class_id, mask):
        boxes.append(np.clip(box, 0, [height, width, height, width]))
        ids.append(class_id)
        masks.append(mask)

    for box, class_id, mask, crowd in zip(sample.gt_boxes, sample.gt_class_ids, sample.gt_masks, sample.gt_crowd):
        for _ in range(rng.integers(4, 9) if crowd else rng.choice(4, p=[0.2, 0.5, 0.2, 0.1])):
            strength = rng.choice([0, 0.02, 0.05, 0.15])
            sides = np.tile(box[2:] - box[:2], 2)
            shift = rng.integers(-2, 3, 2) if strength else (0, 0)
            moved = np.roll(mask, shift, axis=(0, 1))
            if rng.random() < 0.4:  # a part of it
                y, x = np.argwhere(mask)[rng.integers(mask.sum())] if mask.any() else (0, 0)
                moved = moved & (rng.random() < 0.5) | np.roll(moved, (y % 7, x % 7), axis=(0, 1)) & moved
            wrong = rng.random() < 0.15
            add(box + strength * sides * rng.standard_normal(4), rng.choice(classes) if wrong else class_id, moved)
    for _ in range(rng.integers(6)):
        y, x = np.sort(rng.uniform(0, height, 2)), np.sort(rng.uniform(0, width, 2))
        mask = np.zeros((height, width), bool)
        mask[int(y[0]) : int(y[1]), int(x[0]) : int(x[1])] = True
        add(np.array([y[0], x[0], y[1], x[1]]), rng.choice(classes), mask)
    return boxes, ids, masks


def detections_of(sample, rng, classes, *, crowded=False):
    boxes, ids, masks = perturbed(sample, rng, classes)
    if crowded and boxes:  # more than 100 detections of one class
        chosen = rng.integers(len(boxes), size=150)
        boxes += [boxes[i] + rng.uniform(-3, 3, 4) * [0, 0, 1, 1] for i in chosen]
        boxes = [np.concatenate([b[:2], np.maximum(b[2:], b[:2])]) for b in boxes]
        ids += [ids[0]] * len(chosen)
        masks += [masks[i] for i in chosen]
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    scores = rng.random(len(boxes)).astype(np.float32)
    if rng.random() < 0.5:
        scores = np.round(scores, 1)  # ties within an image and between images
    return Detections(
        boxes,
        np.array(ids, np.int64).reshape(-1),
        scores,
        np.array(masks, bool).reshape(-1, *sample.image.shape[:2]),
    )


@needs_coco
@pytest.mark.parametrize("seed", range(4))
def test_perturbed_ground_truth(tmp_path, seed):
    """Of a large copy of COCO the first 32 images."""
    rng = np.random.default_rng(seed)
    dataset = open_dataset("coco", None, "train", subset=32)
    ground_truth = json.loads(dataset.instances.path.read_text())
    chosen = set(map(int, dataset.ids))
    ground_truth["images"] = [i for i in ground_truth["images"] if i["id"] in chosen]
    ground_truth["annotations"] = [a for a in ground_truth["annotations"] if a["image_id"] in chosen]
    # classes of which there are objects, and some of which there are none
    classes = np.array([1, 1, 1, 2, 3, 4, 17, 20, 62, 79, 80])
    samples = [dataset.load(i) for i in range(len(dataset))]
    found = [detections_of(s, rng, classes, crowded=n % 8 == 0) for n, s in enumerate(samples)]
    silent = next(n for n, s in enumerate(samples) if not len(s.gt_boxes))
    found[silent] = found[silent][:0]  # no object and no detection
    records = [r for i, d in zip(dataset.ids, found) for r in result_records(d, int(i), dataset.category_ids)]
    assert len(records) > 500 and max(len(d.scores) for d in found) > 150
    assert any(s.gt_crowd.any() for s in samples)
    files = compare_files(tmp_path, ground_truth, records)
    for kind, by_files in files.items():
        arrays = evaluate_coco(found, samples, class_names=dataset.class_names, iou_type=kind)
        assert arrays.numbers == pytest.approx(by_files.numbers, abs=EXACT)
        np.testing.assert_allclose(arrays.ap, by_files.ap, rtol=0, atol=EXACT, equal_nan=True)
        assert all(0.02 < v < 0.98 for v in arrays.numbers.values()), "the case decides too little"


@needs_coco
def test_detections_of_a_network(tmp_path):
    """The tiny preset with random weights that make every head fire."""
    dataset = open_dataset("coco", None, "train", subset=12)
    config = presets.tiny(num_classes=81).replace(
        detection_score_threshold=0.0, detections_per_image=100, detection_nms_iou=0.9
    )
    params = params_that_detect(config)
    params["mask_head.logits.b"] += 2  # masks that fill most of their boxes: noise would match no object
    model = MaskRCNN(config, params)
    ground_truth = json.loads(dataset.instances.path.read_text())
    chosen = set(map(int, dataset.ids))
    ground_truth["images"] = [i for i in ground_truth["images"] if i["id"] in chosen]
    ground_truth["annotations"] = [a for a in ground_truth["annotations"] if a["image_id"] in chosen]
    samples = [dataset.load(i) for i in range(len(dataset))]
    found = [model.detect([s.image])[0] for s in samples]
    # a random network seldom names the right class: the detections of every other image take the classes of its objects
    rng = np.random.default_rng(0)
    for n in range(0, len(found), 2):
        if len(samples[n].gt_boxes):
            classes = rng.choice(samples[n].gt_class_ids, len(found[n].scores))
            found[n] = Detections(found[n].boxes, classes, found[n].scores, found[n].masks)
    records = [r for i, d in zip(dataset.ids, found) for r in result_records(d, int(i), dataset.category_ids)]
    assert len(records) > 300
    files = compare_files(tmp_path, ground_truth, records)
    for kind, by_files in files.items():
        arrays = evaluate_coco(found, samples, class_names=dataset.class_names, iou_type=kind)
        assert arrays.numbers == pytest.approx(by_files.numbers, abs=EXACT)
        assert arrays.numbers["AR100"] > 0


@needs_coco
def test_five_thousand_detections_take_seconds(tmp_path):
    """Measured with one thread: 0.6 s from files, 1.6 s from arrays; pycocotools 0.4 s."""
    rng = np.random.default_rng(0)
    dataset = open_dataset("coco", None, "train", subset=32)
    evaluator, records, from_arrays = CocoEvaluator(dataset.class_names), [], 0.0
    for index in (n for n in range(32) if dataset.instances.objects(int(dataset.ids[n]), masks=False)):
        sample = dataset.load(index)
        boxes, ids, masks = perturbed(sample, rng, np.arange(1, 81))
        pick = rng.integers(len(boxes), size=167)
        ids = np.where(rng.random(167) < 0.5, np.array(ids)[pick], rng.integers(1, 81, 167))
        found = Detections(np.array(boxes)[pick], ids, rng.random(167), np.array(masks)[pick])
        records += result_records(found, int(sample.image_id), dataset.category_ids)
        began = time.process_time()
        evaluator.add(found, sample)
        from_arrays += time.process_time() - began
    began = time.process_time()
    evaluator.result()
    from_arrays += time.process_time() - began
    assert len(records) > 5000
    path = save(tmp_path, "results.json", records)
    began = time.process_time()
    evaluate_results(dataset.instances, read_results(path, dataset.instances))
    from_files = time.process_time() - began
    assert max(from_arrays, from_files) < 20, (from_arrays, from_files)


# --- small random cases ---

# whole coordinates: overlaps that are equal, or just a threshold; sides whose areas are just 32^2 and 96^2
SIDES = st.sampled_from([0, 1, 2, 4, 5, 8, 10, 16, 32, 48, 64, 96, 100])
BOX = st.tuples(st.integers(0, 12), st.integers(0, 12), SIDES, SIDES)
IMAGE = st.integers(1, 3)
CATEGORY = st.sampled_from([2, 5, 9])
OBJECT = st.tuples(IMAGE, CATEGORY, BOX, st.booleans(), st.sampled_from([None, 0.0, 1024.0, 1024.5, 9216.0, 20000.0]))
DETECTION = st.tuples(IMAGE, CATEGORY, BOX, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
SIZE = (112, 112)


def rectangle(box):
    x, y, w, h = box
    mask = np.zeros(SIZE, bool)
    mask[y : y + h, x : x + w] = True
    return to_coco(encode(mask))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(objects=st.lists(OBJECT, max_size=10), detections=st.lists(DETECTION, min_size=1, max_size=14))
def test_small_cases(tmp_path, objects, detections):
    # detections near objects, too, or hardly any would match
    detections = detections + [(i, c, b, 0.5) for i, c, b, _, _ in objects[::2]]
    ground_truth = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in (3, 1, 2)],
        "categories": [{"id": n, "name": str(n)} for n in (5, 2, 9)],
        "annotations": [
            {
                "id": n,
                "image_id": image,
                "category_id": category,
                "bbox": list(box),
                "iscrowd": int(crowd),
                "area": box[2] * box[3] if area is None else area,
                "segmentation": rectangle(box),
            }
            for n, (image, category, box, crowd, area) in enumerate(objects, start=1)
        ],
    }
    records = [
        {"image_id": i, "category_id": c, "bbox": list(b), "score": s, "segmentation": rectangle(b)}
        for i, c, b, s in detections
    ]
    compare_files(tmp_path, ground_truth, records)


@pytest.mark.parametrize("seed", range(3))
def test_overlaps_of_boxes_are_the_same_bits(seed):
    """Boxes of two decimals that overlap by just 1/2, 3/4, ...: the last bit decides whether they match."""
    rng = np.random.default_rng(seed)
    b = np.round(rng.uniform(0, 90, (40, 4)), 2)
    a = np.repeat(b, 4, axis=0)
    a[:, 3] *= np.tile([0.5, 0.55, 0.75, 1], 40)
    a, crowd = np.concatenate([a, np.round(rng.uniform(-5, 90, (40, 4)), 2)]), rng.random(40) < 0.3
    a[-5:, 2:] = 0
    a[:, 2:] = np.abs(a[:, 2:])
    np.testing.assert_array_equal(bbox_overlaps(a, b, crowd=crowd), coco_mask.iou(a, b, crowd))


def test_results_with_only_boxes_or_only_masks(tmp_path):
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": n + 1, "image_id": 1, "category_id": 1, "bbox": list(b), "iscrowd": 0, "area": b[2] * b[3],
             "segmentation": rectangle(b)}
            for n, b in enumerate([(0, 0, 10, 10), (20, 20, 40, 40), (0, 10, 32, 32)])
        ],
    }  # fmt: skip
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [20.5, 20, 40, 39.25], "score": 0.5}]
    masks = [{"image_id": 1, "category_id": 1, "segmentation": rectangle((0, 0, 9, 10)), "score": 0.5}]
    instances = Instances(save(tmp_path, "truth.json", truth))
    only_boxes = read_results(save(tmp_path, "boxes.json", boxes), instances)
    only_masks = read_results(save(tmp_path, "masks.json", masks), instances)
    check(evaluate_results(instances, only_boxes, iou_type="box"), theirs(truth, boxes, "box"))
    for kind in ("box", "mask"):
        check(evaluate_results(instances, only_masks, iou_type=kind), theirs(truth, masks, kind))
    with pytest.raises(ValueError, match="has no segmentation"):
        evaluate_results(instances, only_boxes)
    nothing = evaluate_results(instances, [])  # pycocotools stops with an IndexError
    assert nothing.numbers["AP"] == 0 and nothing.numbers["APl"] == -1
