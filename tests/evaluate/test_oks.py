"""OKS and COCO's ten numbers for keypoints: by hand, by loops, beside pycocotools."""

import contextlib
import io
import json
import os

import naive_keypoints as naive
import numpy as np
import pytest
from scenes import detections_of, sample_of

from mrcnn_np.data.coco import COCODataset
from mrcnn_np.data.coco_json import Instances
from mrcnn_np.data.coco_results import read_results
from mrcnn_np.errors import DataError
from mrcnn_np.evaluate.oks import OksEvaluator, extents, oks
from mrcnn_np.evaluate.results import evaluate_results
from mrcnn_np.keypoints.pose import COCO_PERSON, Pose

NAMES = ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]
EXACT = 1e-12


def test_oks_by_hand():
    """One keypoint of sigma 1/2, an object of 100 pixels: exp(-d^2 / 2 / 100)."""
    truth, box = np.array([[[10.0, 20.0, 2.0]]]), np.array([[0.0, 0, 10, 10]])
    found = np.array([[[10.0, 20.0]], [[16.0, 28.0]]])
    np.testing.assert_allclose(
        oks(found, truth, box, np.array([100.0]), np.array([0.5]))[:, 0], [1, np.exp(-0.5)], rtol=1e-12
    )


def test_oks_by_loops():
    rng = np.random.default_rng(0)
    found, truth = rng.uniform(0, 100, (6, 17, 2)), rng.uniform(0, 100, (5, 17, 3))
    truth[..., 2] = rng.integers(0, 3, (5, 17))
    truth[3, :, 2] = 0
    found[0] = truth[0, :, :2] + rng.normal(0, 2, (17, 2))
    boxes, areas = rng.uniform(5, 40, (5, 4)), rng.uniform(100, 9000, 5)
    ours = oks(found, truth, boxes, areas, COCO_PERSON.sigmas)
    for d in range(6):
        for g in range(5):
            expected = naive.oks(found[d].tolist(), truth[g].tolist(), boxes[g], areas[g], COCO_PERSON.sigmas)
            np.testing.assert_allclose(ours[d, g], expected, rtol=1e-12, atol=1e-300)
    assert ours[0, 0] > 0.5


@pytest.mark.parametrize("d, g, k", [(0, 3, 17), (3, 0, 17), (0, 0, 0), (2, 2, 0)])
def test_nothing(d, g, k):
    shape = oks(np.zeros((d, k, 2)), np.zeros((g, k, 3)), np.zeros((g, 4)), np.zeros(g), np.ones(k)).shape
    assert shape == (d, g) and extents(np.zeros((d, k, 2))).shape == (d,)


POSE = Pose(("a", "b"))


def pair(**changes):
    """A perfect detection and one that is far off, of one object of two keypoints."""
    sample = sample_of([(0, 0, 100, 100)], shape=(120, 120)).replace(
        gt_keypoints=np.array([[[10.0, 10, 2], [90, 90, 1]]]), pose=POSE, gt_areas=np.array([10000.0])
    )
    found = detections_of([(0, 0, 100, 100)] * 2, [0.5, 0.9], shape=(120, 120))
    points = np.array([[[10.0, 10], [90, 90]], [[119, 119], [0, 0]]])
    settings = {"keypoints": points, "keypoint_scores": np.zeros((2, 2)), "pose": POSE} | changes
    for name, value in settings.items():
        object.__setattr__(found, name, value)
    return found, sample


def test_numbers_by_hand():
    """The better score is the wrong one: precision 1/2 at recall 1."""
    evaluator = OksEvaluator(("background", "thing"), POSE)
    evaluator.add(*pair())
    result = evaluator.result()
    assert list(result.numbers) == NAMES and result.iou_type == "keypoints"
    assert result.numbers["AP50"] == 0.5 and result.numbers["AR"] == 1 and result.numbers["APm"] == -1
    assert "AP50" in result.table() and "no medium objects" in result.table()


def test_an_object_without_annotated_keypoints_is_ignored():
    found, sample = pair()
    sample = sample.replace(gt_keypoints=sample.gt_keypoints * [1, 1, 0])
    evaluator = OksEvaluator(("background", "thing"), POSE)
    evaluator.add(found, sample)
    assert evaluator.result().numbers["AP"] == -1


@pytest.mark.parametrize("keypoints", [None, np.zeros((2, 3, 2))])
def test_what_does_not_fit_is_named(keypoints):
    with pytest.raises(ValueError, match=r"image 1 has keypoints of shape .*, expected \(2, 2, 2\)"):
        OksEvaluator(("background", "thing"), POSE).add(*pair(keypoints=keypoints))


# --- beside pycocotools ---


def theirs(truth, records):
    coco_api = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    cocoeval = pytest.importorskip("pycocotools.cocoeval", reason="pycocotools is not installed")
    with contextlib.redirect_stdout(io.StringIO()):
        api = coco_api.COCO()
        api.dataset = json.loads(json.dumps(truth))
        api.createIndex()
        evaluation = cocoeval.COCOeval(api, api.loadRes(json.loads(json.dumps(records))), "keypoints")
        for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
            step()
    return evaluation.stats


def made(rng, images=12):
    """Persons, some without keypoints, some crowds, and detections of all kinds: near, far, twice, too many."""
    truth = {"images": [], "annotations": [], "categories": [
        {"id": 1, "name": "person", "keypoints": list(COCO_PERSON.names),
         "skeleton": [[a + 1, b + 1] for a, b in COCO_PERSON.skeleton]}]}  # fmt: skip
    records = []
    for i in range(1, images + 1):
        truth["images"].append({"id": i, "file_name": f"{i}.jpg", "height": 400, "width": 500})
        for _ in range(rng.integers(0, 6)):
            x, y = rng.uniform(0, 300, 2)
            w, h = rng.uniform(10, 190, 2)
            visible = rng.integers(0, 3, 17) * (rng.random() < 0.8)
            points = np.stack([x + w * rng.random(17), y + h * rng.random(17)], axis=1).round()
            annotation = {
                "id": len(truth["annotations"]) + 1, "image_id": i, "category_id": 1, "bbox": [x, y, w, h],
                "area": 0.6 * w * h, "iscrowd": int(rng.random() < 0.1), "num_keypoints": int((visible > 0).sum()),
                "segmentation": [[x, y, x + w, y, x + w, y + h]],
                "keypoints": np.c_[points * (visible > 0)[:, None], visible].reshape(-1).tolist(),
            }  # fmt: skip
            truth["annotations"].append(annotation)
            for _ in range(rng.integers(0, 8)):
                off = points + rng.normal(0, rng.choice([1, 5, 20, 60]), (17, 2))
                records.append({"image_id": i, "category_id": 1, "score": float(rng.choice([0.1, 0.5, rng.random()])),
                                "keypoints": np.c_[off, np.ones(17)].reshape(-1).tolist()})  # fmt: skip
    return truth, records


def ours(tmp_path, truth, records, **options):
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(records))
    instances = Instances(tmp_path / "truth.json")
    results = read_results(tmp_path / "found.json", instances)
    return evaluate_results(instances, results, iou_type="keypoints", **options)


@pytest.mark.parametrize("seed", range(6))
def test_pycocotools_agrees(tmp_path, seed):
    truth, records = made(np.random.default_rng(seed))
    result = ours(tmp_path, truth, records)
    np.testing.assert_allclose(list(result.numbers.values()), theirs(truth, records), rtol=0, atol=EXACT)
    assert 0 < result.numbers["AP"] < 1
    for record in records:  # with a box pycocotools takes that for the size
        record["bbox"] = [0, 0, *np.random.default_rng(len(records)).uniform(5, 200, 2).tolist()]
    boxed = ours(tmp_path, truth, records, area="box")
    np.testing.assert_allclose(list(boxed.numbers.values()), theirs(truth, records), rtol=0, atol=EXACT)


@pytest.mark.skipif("COCO_POSE_ROOT" not in os.environ, reason="COCO_POSE_ROOT is not set")
def test_on_cocos_own_annotations(tmp_path):
    """The annotations moved a little are the detections; arrays, files and pycocotools give one result."""
    data = COCODataset(os.environ["COCO_POSE_ROOT"], "train")
    truth, rng = json.loads(data.instances.path.read_text()), np.random.default_rng(0)
    evaluator, records = OksEvaluator(data.class_names, COCO_PERSON), []
    for index, image_id in enumerate(data.ids):
        sample = data.load(index)
        some = np.flatnonzero(rng.random(len(sample.gt_boxes)) < 0.8)
        found = detections_of(sample.gt_boxes[some], rng.random(len(some)), shape=sample.image.shape[:2])
        noise = rng.normal(0, 0.05, (len(some), 17, 2)) * np.sqrt(sample.gt_areas[some])[:, None, None]
        for name, value in {"keypoints": sample.gt_keypoints[some, :, :2] + noise, "pose": COCO_PERSON,
                            "keypoint_scores": np.zeros((len(some), 17))}.items():  # fmt: skip
            object.__setattr__(found, name, value)
        evaluator.add(found, sample)
        records += [{k: v for k, v in r.items() if k not in ("bbox", "segmentation")}
                    for r in found.to_coco(int(image_id))]  # fmt: skip
    numbers = list(evaluator.result().numbers.values())
    np.testing.assert_allclose(numbers, list(ours(tmp_path, truth, records).numbers.values()), rtol=0, atol=EXACT)
    np.testing.assert_allclose(numbers, theirs(truth, records), rtol=0, atol=EXACT)
    assert 0.2 < numbers[0] < 1


@pytest.mark.parametrize("keypoints, message", [
    ([1, 2, 3], "keypoints has 3 numbers; expected 51"), ("1 2", "expected a list of numbers"),
])  # fmt: skip
def test_broken_results(tmp_path, keypoints, message):
    truth, _ = made(np.random.default_rng(0), 1)
    with pytest.raises(DataError, match=message):
        ours(tmp_path, truth, [{"image_id": 1, "category_id": 1, "score": 0.5, "keypoints": keypoints}])


def test_results_without_keypoints(tmp_path):
    truth, _ = made(np.random.default_rng(0), 1)
    records = [{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}]
    with pytest.raises(ValueError, match="a result has no keypoints"):
        ours(tmp_path, truth, records)
    assert ours(tmp_path, truth, []).numbers["AP"] in (0, -1)
