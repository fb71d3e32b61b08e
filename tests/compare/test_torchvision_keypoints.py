"""``keypointrcnn_resnet50_fpn``: its weights there and back, every tensor of a detection, twenty steps of training."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
torchvision = pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

import torch.nn.functional as F  # noqa: E402
from torchvision.models.detection import keypointrcnn_resnet50_fpn, roi_heads  # noqa: E402

from mrcnn_np import MaskRCNN, presets  # noqa: E402
from mrcnn_np.compare.fixed_relus import params_with_fixed_relus  # noqa: E402
from mrcnn_np.compare.run import compare_with  # noqa: E402
from mrcnn_np.compare.torchvision import training_steps  # noqa: E402
from mrcnn_np.compare.torchvision.model import build  # noqa: E402
from mrcnn_np.errors import ConfigError, WeightMismatchError  # noqa: E402
from mrcnn_np.keypoints.labels import heatmap_labels  # noqa: E402
from mrcnn_np.keypoints.peaks import cubic_weights, heatmap_peaks  # noqa: E402
from mrcnn_np.keypoints.pose import COCO_PERSON  # noqa: E402
from mrcnn_np.molding import make_batch  # noqa: E402
from mrcnn_np.network import initialise  # noqa: E402
from mrcnn_np.params import trainable  # noqa: E402
from mrcnn_np.synthetic import params_that_detect, picture, sample_from  # noqa: E402
from mrcnn_np.weights.load import load_weights, save_weights  # noqa: E402
from mrcnn_np.weights.torchvision import state_shapes  # noqa: E402

torch.set_num_threads(1)
PERSONS = presets.torchvision(num_classes=2, keypoints=17, mask_branch=False)
CONFIG = PERSONS.replace(
    backbone="resnet18", fpn_channels=32, rpn_channels=32, image_min_size=96, image_max_size=128,
    keypoint_head_channels=16, proposals_pre_nms_test=200, proposals_post_nms_test=60, detections_per_image=8,
    proposals_pre_nms_train=200, proposals_post_nms_train=60, rois_per_image=8,
    learning_rate=2e-4, warmup_steps=0, weight_decay=1e-2,
)  # fmt: skip


# --- the operations ---


def test_labels():
    """theirs: x before y, float32."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (40, 2))
    rois = np.concatenate([corners, corners + rng.uniform(2, 60, (40, 2))], axis=1).astype(np.float32)
    points = rng.uniform(0, 100, (40, 17, 3)).astype(np.float32)
    points[..., 2] = rng.integers(0, 3, (40, 17))
    points[:, 0, :2] = rois[:, 2:]  # on the last edge
    theirs, valid = roi_heads.keypoints_to_heatmap(
        torch.from_numpy(points[..., [1, 0, 2]]), torch.from_numpy(rois[:, [1, 0, 3, 2]]), 56
    )
    expected = np.where(valid.numpy() > 0, theirs.numpy(), -1)
    assert (expected >= 0).sum() > 50
    np.testing.assert_array_equal(heatmap_labels(points, rois, 56), expected)


@pytest.mark.parametrize("rows, columns", [(3, 56), (56, 56), (131, 77)])
def test_cubic_interpolation(rows, columns):
    maps = np.random.default_rng(0).standard_normal((56, 56))
    theirs = F.interpolate(torch.from_numpy(maps)[None, None], (rows, columns), mode="bicubic", align_corners=False)
    ours = cubic_weights(56, rows) @ maps @ cubic_weights(56, columns).T
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), rtol=0, atol=1e-13)


def test_peaks():
    rng = np.random.default_rng(1)
    maps = rng.standard_normal((5, 56, 56, 3))
    boxes = np.array([[3.3, 4.4, 120.7, 60.2], [0, 0, 0.5, 0.2], [10, 10, 66, 66], [0, 0, 20.5, 200], [1, 2, 3, 4.0]])
    points, scores = roi_heads.heatmaps_to_keypoints(
        torch.from_numpy(maps.transpose(0, 3, 1, 2).copy()), torch.from_numpy(boxes[:, [1, 0, 3, 2]])
    )
    ours, heights = heatmap_peaks(maps, boxes)
    np.testing.assert_allclose(ours, points[..., [1, 0]].numpy(), rtol=0, atol=1e-5)  # theirs are float32
    np.testing.assert_allclose(heights, scores.numpy(), rtol=0, atol=1e-6)


# --- weights ---


def test_names_and_shapes_are_those_of_its_model():
    with torch.device("meta"):
        model = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    theirs = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    ours = state_shapes(PERSONS)
    assert {n: s for n, s in ours.items() if not n.endswith("num_batches_tracked")} == {
        n: s for n, s in theirs.items() if not n.endswith("num_batches_tracked")
    }


def test_there_and_back(tmp_path):
    params = initialise(CONFIG, np.random.default_rng(0))
    save_weights(tmp_path / "weights.pth", params, CONFIG, "torchvision")
    build(params, CONFIG).load_state_dict(torch.load(tmp_path / "weights.pth"), strict=True)
    weights = load_weights(tmp_path / "weights.pth")
    assert set(weights.params) == set(params)
    for name, p in params.items():
        np.testing.assert_array_equal(weights.params[name], p, err_msg=name)
    own = weights.manifest.config()
    assert (own.keypoints, own.mask_branch, own.keypoint_head_convs, own.keypoint_head_channels) == (17, False, 8, 16)
    assert weights.manifest.class_names == ("background", "person")
    model = MaskRCNN.load(tmp_path / "weights.pth", detection_score_threshold=0.0, detections_per_image=2)
    (found,) = model.detect(picture((64, 64)))
    assert found.pose == COCO_PERSON and found.keypoints.shape == (len(found), 17, 2)


def test_a_mask_network_as_before(tmp_path):
    config = CONFIG.replace(keypoints=0, mask_branch=True, mask_head_channels=256)
    save_weights(tmp_path / "weights.pth", initialise(config, np.random.default_rng(0)), config, "torchvision")
    own = load_weights(tmp_path / "weights.pth").manifest.config()
    assert own.mask_branch and own.keypoints == 0


def test_what_it_does_not_have():
    with pytest.raises(ConfigError, match="keypoints is 17 and mask_branch True; torchvision's models have either"):
        build({}, CONFIG.replace(mask_branch=True))
    with pytest.raises(ConfigError, match="keypoint_pool_size is 7; torchvision has 14 only"):
        build({}, CONFIG.replace(keypoint_pool_size=7))
    odd = CONFIG.replace(keypoint_pool_size=7)
    with pytest.raises(WeightMismatchError, match="keypoint_pool_size"):
        save_weights("never.pth", initialise(odd, np.random.default_rng(0)), odd, "torchvision")


# --- a detection ---


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_tensor_agrees(dtype):
    result = compare_with(
        "torchvision", picture((90, 120)), config=CONFIG, params=params_that_detect(CONFIG), dtype=dtype
    )
    assert result.agree, result
    within = {row.name for row in result.rows if row.within}
    assert {"keypoint_features", "keypoint_logits", "keypoints", "keypoint_scores", "boxes", "class_logits"} <= within
    assert result.theirs["keypoints"].dtype == np.dtype(dtype) and len(result.ours["keypoints"]) >= 4


@pytest.mark.parametrize("wrong, first", [
    ({"keypoint_offset": 0.5}, "keypoints"), ({"keypoint_decode": "quarter"}, "keypoints"),
])  # fmt: skip
def test_a_difference_is_found(wrong, first):
    result = compare_with(
        "torchvision", picture((90, 120)), config=CONFIG, params=params_that_detect(CONFIG), only_ours=wrong,
        dtype="float64",
    )  # fmt: skip
    assert result.first.name == first and "keypoint_decode" in result.verdict


# --- training ---

TRAINED = CONFIG.replace(image_min_size=48, image_max_size=64, keypoint_head_convs=8)


@pytest.fixture(scope="module")
def samples():
    """Two images, keypoints all over each object, a third of them not annotated."""
    made = [sample_from(picture(size, i), TRAINED, seed=i) for i, size in enumerate(((48, 60), (60, 48)))]
    assert all((s.gt_keypoints[..., 2] == 0).any() and (s.gt_keypoints[..., 2] == 2).any() for s in made)
    return made


def run(samples, dtype, steps, config=TRAINED):
    if dtype == "float32":
        params = params_with_fixed_relus(config, make_batch(samples, config).images)
    else:
        params = params_that_detect(config)
    params = {name: p.astype(dtype) for name, p in params.items()}
    result = training_steps.compare_training(params, config, samples, steps=steps)
    assert {row.name for row in result.gradients} == {name for name in params if trainable(name)}
    assert all(set(step) == set(training_steps.THEIR_LOSSES) and step["head_mask"] == 0 for step in result.ours)
    assert all(value > 1e-3 for step in result.ours for name, value in step.items() if name != "head_mask")
    return result


def test_twenty_steps_in_float64(samples):
    result = run(samples, "float64", 20)
    assert result.worst_loss[0] <= 1e-8 and result.worst_gradient.relative <= 1e-9 and result.agree, result
    assert result.worst_parameter.relative <= 1e-8
    assert result.ours[-1]["head_keypoint"] < result.ours[0]["head_keypoint"]


def test_twenty_steps_in_float32(samples):
    result = run(samples, "float32", 20)
    assert result.worst_loss[0] <= 1e-3 and result.worst_gradient.relative <= 1e-3 and result.agree, result


@pytest.mark.parametrize("wrong", [{"keypoint_offset": 0.5}, {"keypoint_loss_denominator": "possible"}])
def test_a_broken_loss_is_found(samples, wrong):
    result = run(samples, "float64", 1, TRAINED.replace(**wrong))
    assert [name for name in result.ours[0] if result.relative(0, name) > 1e-10] == ["head_keypoint"]
