"""Networks without pyramid beside those that torchvision's parts make: VGG-16 and ResNet C4, with and without masks."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

import torchvision  # noqa: E402
from torchvision_case import IMAGE, SMALL, spoil  # noqa: E402

from mrcnn_np import presets  # noqa: E402
from mrcnn_np.backbone import backbone  # noqa: E402
from mrcnn_np.compare.run import compare_with  # noqa: E402
from mrcnn_np.compare.torchvision import training_steps  # noqa: E402
from mrcnn_np.compare.torchvision.model import build  # noqa: E402
from mrcnn_np.errors import ConfigError  # noqa: E402
from mrcnn_np.network import spec  # noqa: E402
from mrcnn_np.params import trainable  # noqa: E402
from mrcnn_np.synthetic import params_that_detect, picture, sample_from  # noqa: E402
from mrcnn_np.vgg import VGGS, vgg  # noqa: E402
from mrcnn_np.weights.torchvision import VGG16, from_torchvision  # noqa: E402

torch.set_num_threads(1)
ONE_MAP = {
    "neck": "none", "anchor_sizes": (16.0, 32.0, 64.0), "anchor_strides": (16,), "mask_head_channels": 32,
    # C5 runs on each region, which costs as much as the backbone on an image
    "image_min_size": 64, "image_max_size": 96, "proposals_post_nms_test": 24, "detections_per_image": 12,
}  # fmt: skip
VGG = ONE_MAP | {"backbone": "vgg16", "rpn_channels": 512, "box_head_channels": 64}
C4 = ONE_MAP | {
    "backbone": "resnet18", "rpn_channels": 256, "box_head": "c5", "box_pool_size": 14, "mask_pool_size": 7,
    "mask_head_convs": 0,
}  # fmt: skip
NETWORKS = {
    "VGG-16, RoIPool, no masks": VGG | {"roi_method": "roi_pool", "mask_branch": False},
    "VGG-16, RoIAlign, masks": VGG | {"mask_head_convs": 1},
    "C4, masks": C4,
    "C4, no masks": C4 | {"mask_branch": False},
}


@pytest.fixture(scope="module")
def params():
    """Random weights that detect, of each network, made once."""
    made = {}

    def get(name, **changes):
        config = presets.torchvision(**SMALL | NETWORKS[name] | changes)
        if name not in made:
            made[name] = params_that_detect(config)
        return config, made[name]

    return get


def test_vgg_features_layer_by_layer():
    """Random weights of theirs, every convolution behind its ReLU. Measured: 1e-14."""
    torch.manual_seed(0)
    features = torchvision.models.vgg16(weights=None).features[:-1].double()
    assert sum(p.numel() for p in features.parameters()) == 14_714_688
    state = {f"backbone.{name}": t.numpy() for name, t in features.state_dict().items()}
    params = from_torchvision(state)
    config = presets.vgg16()
    expected = {name: s.shape for name, s in spec(config).items() if name.startswith("backbone.")}
    assert {name: p.shape for name, p in params.items()} == expected
    image = np.random.default_rng(0).standard_normal((1, 48, 64, 3))
    seen = {}
    found, _ = vgg(image, params, config, observe=lambda name, x: seen.update({name: x}))
    x = torch.from_numpy(image).permute(0, 3, 1, 2)
    with torch.no_grad():
        for place, layer in enumerate(features):
            x = layer(x)
            if place - 1 in VGG16:
                theirs = x.permute(0, 2, 3, 1).numpy()
                worst = np.abs(seen.pop(VGG16[place - 1]) - theirs).max()
                assert worst <= 1e-12 * np.abs(theirs).max(), VGG16[place - 1]
    assert not seen and found.shape == (1, 3, 4, VGGS["vgg16"].width[-1])
    np.testing.assert_array_equal(found, backbone(image, params, config)[0][-1])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_of_a_detection_agrees(params, name):
    """From the image to boxes, scores and pasted masks, in float64."""
    config, weights = params(name)
    result = compare_with("torchvision", IMAGE, config=config, params=weights, dtype="float64")
    assert result.agree and all(row.within for row in result.rows if row.name in result.theirs), result
    rows = {row.name: row for row in result.rows}
    assert rows["boxes"].max_abs <= 1e-8 and rows["detection_scores"].max_abs <= 1e-10
    assert rows["detection_classes"].max_abs == 0 and len(result.ours["boxes"]) >= 10
    if config.mask_branch:
        assert rows["masks"].max_abs == 0 and 0 < result.ours["masks"].mean() < 0.5
    else:
        assert "masks" not in result.theirs


@pytest.mark.parametrize("network, name, first", [
    ("C4, masks", "backbone.c5.1.conv2.w", "box_features"), ("C4, masks", "rpn.objectness.w", "rpn_logits.c4"),
    ("VGG-16, RoIPool, no masks", "box_head.fc1.w", "class_logits"),
    ("VGG-16, RoIPool, no masks", "backbone.conv5_3.b", "conv5_3"),
])  # fmt: skip
def test_a_broken_weight_is_named_where_it_is_used(params, network, name, first, monkeypatch):
    spoil(monkeypatch, name, slice(None))
    config, weights = params(network)
    assert compare_with("torchvision", IMAGE, config=config, params=weights).first.name == first


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_step_agrees(params, name):
    """Losses, all gradients, and the parameters after the step, in float64."""
    small = {
        "rois_per_image": 8, "proposals_pre_nms_train": 200,
        "proposals_post_nms_train": 50, "learning_rate": 1e-4, "warmup_steps": 0, "num_classes": 5,
    }  # fmt: skip
    config, weights = params(name, **small)
    weights = {n: p.astype(np.float64) for n, p in weights.items()}
    samples = [sample_from(picture((64, 80)), config)]
    result = training_steps.compare_training(weights, config, samples, steps=1)
    assert {row.name for row in result.gradients} == {n for n in weights if trainable(n)}
    assert all(row.within is not False for row in result.gradients), result
    assert result.worst_loss[0] <= 1e-10 and result.worst_gradient.relative <= 1e-9, result
    assert result.worst_parameter.relative <= 1e-10
    assert (result.ours[0]["head_mask"] > 0) == config.mask_branch


def test_what_torchvisions_parts_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="box_head is 'fc'; over one map of resnet18 it is 'c5' there"):
        build({}, presets.torchvision(**SMALL | C4 | {"box_head": "fc"}))
    with pytest.raises(ConfigError, match="backbone is 'tiny_vgg'; torchvision has vgg16"):
        build({}, presets.torchvision(**SMALL | VGG | {"backbone": "tiny_vgg"}))
