"""The preset ``torchvision_v2`` against torchvision's maskrcnn_resnet50_fpn_v2: its layers, detections, training."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

from torchvision.models import detection  # noqa: E402
from torchvision_case import IMAGE, SMALL, spoil  # noqa: E402

from mrcnn_np import presets  # noqa: E402
from mrcnn_np.compare.fixed_relus import params_with_fixed_relus  # noqa: E402
from mrcnn_np.compare.run import compare_with  # noqa: E402
from mrcnn_np.compare.torchvision import training_steps  # noqa: E402
from mrcnn_np.compare.torchvision.model import build  # noqa: E402
from mrcnn_np.molding import make_batch  # noqa: E402
from mrcnn_np.network import spec  # noqa: E402
from mrcnn_np.params import trainable  # noqa: E402
from mrcnn_np.synthetic import params_that_detect, picture, sample_from  # noqa: E402

torch.set_num_threads(1)
CONFIG = presets.torchvision_v2(**SMALL)


@pytest.fixture(scope="module")
def params():
    return params_that_detect(CONFIG)


@pytest.mark.parametrize("preset, theirs", [
    (presets.torchvision, detection.maskrcnn_resnet50_fpn), (presets.torchvision_v2, detection.maskrcnn_resnet50_fpn_v2)
])  # fmt: skip
def test_the_comparison_runs_the_model_that_torchvision_builds(preset, theirs):
    """Layer by layer, with kernel sizes, paddings, epsilons and momenta."""
    weights = {name: np.broadcast_to(np.float32(0), s.shape) for name, s in spec(preset()).items()}
    with torch.device("meta"):
        expected = theirs(weights=None, weights_backbone=None)
    assert str(build(weights, preset())) == str(expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_tensor_agrees(params, dtype):
    """From the image to the pasted masks. Measured: 2e-5 in float32, 4e-14 in float64."""
    result = compare_with("torchvision", IMAGE, config=CONFIG, params=params, dtype=dtype)
    assert result.agree and all(row.within for row in result.rows), result
    assert len(result.ours["boxes"]) == len(result.theirs["boxes"]) == 30
    assert len(set(result.ours["detection_classes"])) >= 3 and 0 < result.ours["masks"].mean() < 0.5
    if dtype == "float64":
        rows = {row.name: row for row in result.rows}
        assert rows["boxes"].max_abs <= 1e-8 and rows["detection_scores"].max_abs <= 1e-10
        assert rows["masks"].max_abs == rows["detection_classes"].max_abs == 0


@pytest.mark.parametrize("name, first", [
    ("fpn.lateral5.bn.beta", "p2"), ("fpn.output4.bn.var", "p4"), ("rpn.conv2.w", "rpn_logits.p2"),
    ("box_head.bn3.gamma", "class_logits"), ("box_head.conv4.w", "class_logits"), ("mask_head.bn2.mean", "mask_logits"),
])  # fmt: skip
def test_a_broken_weight_is_named_where_it_is_used(params, name, first, monkeypatch):
    """No layer that is new is left out, on either side."""
    spoil(monkeypatch, name, slice(None))
    result = compare_with("torchvision", IMAGE, config=CONFIG, params=params)
    assert result.first.name == first, result


TRAINED = presets.torchvision_v2(
    num_classes=4, image_min_size=48, image_max_size=64, rois_per_image=8, proposals_pre_nms_train=200,
    proposals_post_nms_train=100, learning_rate=2e-4, warmup_steps=0, weight_decay=1e-2,
)  # fmt: skip


@pytest.fixture(scope="module")
def samples():
    """One wide and one tall: both are padded to a common canvas."""
    return [sample_from(picture(size, i), TRAINED, seed=i) for i, size in enumerate(((48, 60), (60, 48)))]


@pytest.mark.parametrize("mode", ["train", "frozen"])
def test_a_step_in_float64(samples, mode):
    """Losses, all gradients, and the parameters and running statistics after the step.

    Measured: losses 7e-15, gradients 2e-13, parameters 1e-14.
    """
    config = TRAINED.replace(bn_mode=mode)
    params = {name: p.astype(np.float64) for name, p in params_that_detect(config).items()}
    result = training_steps.compare_training(params, config, samples, steps=1)
    assert {row.name for row in result.gradients} == {name for name in params if trainable(name)}
    assert all(row.within for row in result.gradients) and all(value > 1e-2 for value in result.ours[0].values())
    assert result.worst_loss[0] <= 1e-12 and result.worst_gradient.relative <= 1e-11, result
    assert result.worst_parameter.relative <= 1e-12
    assert {row.name for row in result.parameters} == set(params)


def test_five_steps_in_float32(samples):
    """With ResNet-18, to save time. Measured: losses 2e-7, gradients 1e-4."""
    config = TRAINED.replace(backbone="resnet18")
    params = params_with_fixed_relus(config, make_batch(samples, config).images)
    result = training_steps.compare_training(params, config, samples, steps=5)
    assert result.agree and result.worst_loss[0] <= 1e-4, result
    assert sum(row.within is not None for row in result.gradients) >= 100  # others are zero: a norm takes them away
