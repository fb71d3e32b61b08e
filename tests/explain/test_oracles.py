"""Each oracle mends the part that a staged network does badly, and that one alone."""

import numpy as np
import pytest
from nets import make_sample, small_config
from scenes import sample_of
from staged import NAMES, Stage

from mrcnn_np import presets
from mrcnn_np.evaluate import evaluate_detections
from mrcnn_np.evaluate.matching import mask_iou
from mrcnn_np.explain import oracles
from mrcnn_np.explain.oracles import ORACLES, encoded_masks, oracle_detections
from mrcnn_np.explain.trail import follow
from mrcnn_np.model import MaskRCNN
from mrcnn_np.synthetic import params_that_detect

A, B = (20, 20, 60, 60), (70, 70, 110, 110)
SECOND = {"perfect boxes", "perfect classes", "perfect masks"}


@pytest.fixture
def reached(monkeypatch):
    """Return the oracles under which every object is found, by mask."""

    def run(stage):
        for head in ("box_head", "mask_head"):
            monkeypatch.setattr(oracles, head, getattr(stage.model, head))
        return full_ap(stage)

    return run


def full_ap(stage):
    trail = follow(stage.model, stage.sample.image)
    found = {"as it is": trail.detections, **oracle_detections(stage.model, trail, stage.sample)}
    assert set(found) == {"as it is", *ORACLES}
    ap = {n: evaluate_detections([f], [stage.sample], class_names=NAMES).mean_ap for n, f in found.items()}
    return {name for name, value in ap.items() if value == 1}


def grids():
    return {name for name in ORACLES if name.startswith("masks of")}


def test_a_network_without_mistakes_needs_no_oracle(reached):
    assert reached(Stage([A, B], [1, 2])) >= {"as it is", *SECOND, *grids()}


def test_bad_masks_are_mended_by_masks_of_any_grid(reached):
    stage = Stage([A, B], [1, 2])
    stage.masked[1] = False
    assert reached(stage) & ({"as it is", *SECOND} | grids()) == {"perfect masks", *grids()}


def test_bad_boxes_are_mended_by_boxes(reached):
    stage = Stage([A, B], [1, 2])
    stage.moved[1] = (70, 70, 110, 85)
    assert reached(stage) & ({"as it is", *SECOND} | grids()) == {"perfect boxes"}


def test_wrong_classes_are_mended_by_classes(reached):
    stage = Stage([A, B], [1, 2])
    stage.named[1] = 3
    assert reached(stage) & ({"as it is", *SECOND} | grids()) == {"perfect classes"}


def test_missing_proposals_are_mended_by_proposals(reached):
    stage = Stage([A, B], [1, 2], proposals_post_nms_test=1)
    assert reached(stage) & {"as it is", *ORACLES} == {"perfect proposals"}


@pytest.mark.parametrize("preset", ["tiny", "matterport", "torchvision", "detectron2"])
def test_finer_grids_lose_less(preset):
    y, x = np.mgrid[:160, :160] + 0.5
    masks = np.stack([(y - 80) ** 2 + (x - 80) ** 2 < 70**2, (np.abs(y - x) < 6) & (y < 120)])
    boxes = np.array([[10, 10, 150, 150], [0, 0, 120, 126]])
    sample = sample_of(boxes, shape=(160, 160), masks=masks)
    config = presets.__dict__[preset]()
    first = before = np.zeros(2)
    for size in (14, 28, 56):
        got = encoded_masks(boxes.astype(np.float64), np.arange(2), sample, config, size)
        overlaps = mask_iou(got, masks).diagonal()
        assert (overlaps > before - 0.002).all()  # torchvision paints the box's last pixel, whatever the grid
        first, before = overlaps if size == 14 else first, overlaps
    assert before.min() > 0.9 and before[1] > first[1]


def test_encoding_of_nothing():
    sample = sample_of([A], shape=(128, 128))
    none = encoded_masks(np.zeros((0, 4)), np.zeros(0, int), sample, presets.tiny(), 28)
    assert none.shape == (0, 128, 128)
    flat = encoded_masks(np.array([[5.0, 5, 5, 9]]), np.zeros(1, int), sample, presets.tiny(), 28)
    assert flat.shape == (1, 128, 128) and flat.areas.tolist() == [0]


@pytest.mark.parametrize("objects", [0, 2])
@pytest.mark.parametrize("frame", ["edges", "centres"])
@pytest.mark.parametrize("threshold", [0.05, 1.0])
def test_any_network_has_oracles(objects, frame, threshold):
    config = small_config(box_frame=frame, detection_score_threshold=threshold)
    model = MaskRCNN(config, params_that_detect(config, seed=1))
    sample = make_sample(np.random.default_rng(1), size=(64, 80), objects=objects)
    for name, found in oracle_detections(model, follow(model, sample.image), sample).items():
        assert found.masks.shape == (len(found.scores), 64, 80), name
        assert np.isfinite(found.boxes).all()
