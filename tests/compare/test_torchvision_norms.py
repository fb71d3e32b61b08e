"""Group norm and instance norm against torchvision's parts with ``norm_layer``: detections and steps of training."""

import re
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
torchvision = pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

from agrees_with_torch import error, nhwc  # noqa: E402
from detectron2_layout import draw, rcnn_shapes, with_norms  # noqa: E402
from torch import nn  # noqa: E402
from torchvision.models.detection import MaskRCNN as TheirMaskRCNN  # noqa: E402
from torchvision.models.detection.backbone_utils import BackboneWithFPN  # noqa: E402
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead  # noqa: E402
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads  # noqa: E402
from torchvision_case import IMAGE, SMALL, spoil  # noqa: E402

import kernels  # noqa: E402
from mrcnn_np import MaskRCNN, presets  # noqa: E402
from mrcnn_np.backbone import backbone  # noqa: E402
from mrcnn_np.cli.main import main  # noqa: E402
from mrcnn_np.compare.fixed_relus import params_with_fixed_relus  # noqa: E402
from mrcnn_np.compare.run import compare_with  # noqa: E402
from mrcnn_np.compare.torchvision import training_steps  # noqa: E402
from mrcnn_np.compare.torchvision.model import build, trace  # noqa: E402
from mrcnn_np.compare.trace import trace_ours  # noqa: E402
from mrcnn_np.fpn import fpn  # noqa: E402
from mrcnn_np.heads import box_head, mask_head  # noqa: E402
from mrcnn_np.molding import make_batch  # noqa: E402
from mrcnn_np.params import trainable  # noqa: E402
from mrcnn_np.synthetic import params_that_detect, picture, sample_from  # noqa: E402
from mrcnn_np.weights import load_weights  # noqa: E402
from mrcnn_np.weights.detectron2 import from_detectron2  # noqa: E402
from mrcnn_np.weights.torchvision import to_torchvision  # noqa: E402

torch.set_num_threads(1)
CONFIG = presets.torchvision_v2(norm="group", **SMALL)
FAST = CONFIG.replace(backbone="resnet18")


def by_hand(name, num_classes):
    """torchvision's parts with group norm everywhere, as a user puts them together."""
    norm = partial(nn.GroupNorm, 32)
    body = torchvision.models.get_model(name, weights=None, norm_layer=norm)
    widths = [body.inplanes // 2**i for i in (3, 2, 1, 0)]
    levels = {f"layer{i + 1}": str(i) for i in range(4)}
    return TheirMaskRCNN(
        BackboneWithFPN(body, levels, widths, 256, norm_layer=norm), num_classes,
        box_head=FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=norm),
        mask_head=MaskRCNNHeads(256, [256] * 4, 1, norm_layer=norm),
        min_size=SMALL["image_min_size"], max_size=SMALL["image_max_size"],
        rpn_pre_nms_top_n_test=SMALL["proposals_pre_nms_test"],
        rpn_post_nms_top_n_test=SMALL["proposals_post_nms_test"],
        box_detections_per_img=SMALL["detections_per_image"],
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def params():
    return params_that_detect(CONFIG)


def test_a_file_of_a_model_put_together_by_hand(tmp_path):
    """What ``torch.save`` wrote of it, through ``load_weights``: our network finds what the model found.

    Measured in float64: boxes 7e-14 pixels, scores 4e-15.
    """
    theirs = by_hand("resnet18", CONFIG.num_classes).double()
    config = FAST.replace(rpn_convs=1)  # its default head
    shapes = {name: tuple(t.shape) for name, t in theirs.state_dict().items()}
    state = to_torchvision(params_that_detect(config), shapes)
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
    torch.save(theirs.state_dict(), tmp_path / "model.pth")
    weights = load_weights(tmp_path / "model.pth")
    read = weights.manifest.config(**{name: SMALL[name] for name in SMALL if name != "num_classes"})
    assert weights.manifest.differences(config) == [] and weights.params["rpn.conv.w"].dtype == np.float64
    assert str(build(weights.params, read)) == str(theirs)
    ours, expected = trace_ours(MaskRCNN(read, weights.params), IMAGE), trace(weights.params, read, IMAGE, model=theirs)
    assert len(ours["boxes"]) == len(expected["boxes"]) >= 10
    assert np.abs(ours["boxes"] - expected["boxes"]).max() <= 1e-8
    assert np.abs(ours["detection_scores"] - expected["detection_scores"]).max() <= 1e-10
    for name in ("detection_classes", "masks"):
        np.testing.assert_array_equal(ours[name], expected[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_tensor_agrees(params, dtype):
    """From the image to the pasted masks. Measured: 8e-6 in float32, 1e-14 in float64."""
    result = compare_with("torchvision", IMAGE, config=CONFIG, params=params, dtype=dtype)
    assert result.agree and all(row.within for row in result.rows), result
    assert len(result.ours["boxes"]) == len(result.theirs["boxes"]) == 30
    if dtype == "float64":
        rows = {row.name: row for row in result.rows}
        assert rows["boxes"].max_abs <= 1e-8 and rows["detection_scores"].max_abs <= 1e-10
        assert rows["masks"].max_abs == rows["detection_classes"].max_abs == 0


@pytest.mark.parametrize("changes", [
    {"norm": "instance"}, {"norm_groups": 8, "bn_eps": 1e-3}, {"fpn_norm": False, "box_head": "fc"},
    {"neck": "none", "box_head": "c5", "anchor_strides": (16,), "rpn_channels": 256, "box_pool_size": 14,
     "mask_pool_size": 7, "mask_head_convs": 0, "mask_head_norm": False, "fpn_norm": False},
], ids=lambda changes: " ".join(list(changes)[:2]))  # fmt: skip
def test_other_norms_and_places(changes):
    """In float64. Measured: 8e-15 to 3e-14, with instance norm 1e-13."""
    config = FAST.replace(**changes)
    result = compare_with("torchvision", IMAGE, config=config, params=params_that_detect(config), dtype="float64")
    assert result.agree and all(row.within for row in result.rows) and len(result.ours["boxes"]) >= 5, result


@pytest.mark.parametrize("name, first", [
    ("backbone.c3.0.shortcut.bn.gamma", "c3.0"), ("fpn.output4.bn.beta", "p4"), ("box_head.bn3.gamma", "class_logits"),
    ("mask_head.bn2.gamma", "mask_logits"),
])  # fmt: skip
def test_a_broken_weight_is_named_where_it_is_used(name, first, monkeypatch):
    spoil(monkeypatch, name, slice(None))
    result = compare_with("torchvision", IMAGE, config=FAST, params=params_that_detect(FAST))
    assert result.first.name == first, result


def test_the_command(tmp_path, capsys):
    words = ["norm=group", "backbone=resnet18", "num_classes=4", "detections_per_image=20", "rois_per_image=8"]
    config = [word for each in words for word in ("--config", each)]
    assert (
        main(["compare", "--quiet", "--out", str(tmp_path / "out"), "--random", "70x90", "--size", "64", *config]) == 0
    )
    assert "tensors agree within" in capsys.readouterr().out


# --- training -------------------------------------------------------------------------------------------------------

TRAINED = presets.torchvision_v2(
    norm="group", num_classes=4, image_min_size=64, image_max_size=96, rois_per_image=8, proposals_pre_nms_train=200,
    proposals_post_nms_train=100, learning_rate=2e-4, warmup_steps=0, weight_decay=1e-2,
)  # fmt: skip


@pytest.fixture(scope="module")
def samples():
    """One wide and one tall: both are padded to a common canvas."""
    return [sample_from(picture(size, i), TRAINED, seed=i) for i, size in enumerate(((64, 90), (90, 64)))]


@pytest.mark.parametrize("changes", [{}, {"backbone": "resnet18", "norm": "instance"}], ids=["group", "instance"])
def test_a_step_in_float64(samples, changes):
    """Losses, all gradients, and the parameters after the step.

    Measured: losses 3e-16 (instance 2e-14), gradients 7e-15 (4e-13), parameters 1e-16 (9e-16).
    """
    config = TRAINED.replace(**changes)
    params = {name: p.astype(np.float64) for name, p in params_that_detect(config).items()}
    result = training_steps.compare_training(params, config, samples, steps=1)
    assert {row.name for row in result.gradients} == set(params) and all(trainable(name) for name in params)
    assert all(row.within is not False for row in result.gradients)
    assert all(value > 1e-2 for value in result.ours[0].values())
    assert result.worst_loss[0] <= 1e-12 and result.worst_gradient.relative <= 1e-9, result
    assert result.worst_parameter.relative <= 1e-11
    assert f"{config.norm} norm," in result.info["network"]


@pytest.mark.parametrize("norm, counted", [("group", 60), ("instance", 100)])
def test_five_steps_in_float32(samples, norm, counted):
    """With ResNet-18, to save time. Measured: losses 5e-7, gradients 7e-6 and 1e-4.

    Under weights that keep every ReLU on its side, channels differ much and places little. Group norm, which looks at
    several channels at once, lets little of that through to the stem: many gradients are zero up to rounding.
    """
    config = TRAINED.replace(backbone="resnet18", norm=norm)
    params = params_with_fixed_relus(config, make_batch(samples, config).images)
    result = training_steps.compare_training(params, config, samples, steps=5)
    assert result.agree and result.worst_loss[0] <= 1e-4, result
    assert sum(row.within is not None for row in result.gradients) >= counted


def test_a_step_in_float32(samples):
    """With ordinary weights every gradient counts. Measured: losses 3e-7, gradients 1e-5."""
    config = TRAINED.replace(backbone="resnet18")
    result = training_steps.compare_training(params_that_detect(config), config, samples, steps=1)
    assert result.agree and all(row.within for row in result.gradients), result


# --- detectron2 -----------------------------------------------------------------------------------------------------

#: detectron2's names of the parts that have norms, as torchvision calls them
TORCHVISION = [
    ("backbone.bottom_up.stem.conv1.norm.", "backbone.body.bn1."), ("backbone.bottom_up.stem.", "backbone.body."),
    *((f"backbone.bottom_up.res{i + 1}.", f"backbone.body.layer{i}.") for i in (1, 2, 3, 4)),
    *((f"conv{i}.norm.", f"bn{i}.") for i in (1, 2, 3)),
    ("shortcut.norm.", "downsample.1."), ("shortcut.", "downsample.0."),
    *((f"backbone.fpn_lateral{i + 2}.norm.", f"backbone.fpn.inner_blocks.{i}.1.") for i in range(4)),
    *((f"backbone.fpn_lateral{i + 2}.", f"backbone.fpn.inner_blocks.{i}.0.") for i in range(4)),
    *((f"backbone.fpn_output{i + 2}.norm.", f"backbone.fpn.layer_blocks.{i}.1.") for i in range(4)),
    *((f"backbone.fpn_output{i + 2}.", f"backbone.fpn.layer_blocks.{i}.0.") for i in range(4)),
]  # fmt: skip
HEADS = [
    *((f"roi_heads.box_head.conv{i + 1}.norm.", f"roi_heads.box_head.{i}.1.") for i in range(4)),
    *((f"roi_heads.box_head.conv{i + 1}.", f"roi_heads.box_head.{i}.0.") for i in range(4)),
    ("roi_heads.box_head.fc1.", "roi_heads.box_head.5."),
    *((f"roi_heads.mask_head.mask_fcn{i + 1}.norm.", f"roi_heads.mask_head.{i}.1.") for i in range(4)),
    *((f"roi_heads.mask_head.mask_fcn{i + 1}.", f"roi_heads.mask_head.{i}.0.") for i in range(4)),
]


def test_a_detectron2_model_with_group_norm():
    """The same numbers under detectron2's names here, and in torchvision's parts: pyramid and heads agree.

    Measured, relative, in float64: 7e-15 (P4) to 1e-15 (masks).
    """
    tensors = draw(with_norms(rcnn_shapes(50, classes=3)), np.float64)
    params, manifest, _ = from_detectron2(tensors)
    config = manifest.config()
    theirs = by_hand("resnet50", 4).double()
    state = {}
    for name, a in tensors.items():
        for old, new in HEADS if name.startswith("roi_heads.") else TORCHVISION:
            name = name.replace(old, new)
        state[name] = torch.from_numpy(a)
    # what has no norm is compared elsewhere, and has other shapes: there the background has no deltas and no mask
    left = re.compile(r"^(rpn|proposal_generator)\.|_predictor\.|mask_head\.(deconv|predictor)\.")
    unfilled = theirs.load_state_dict({name: a for name, a in state.items() if not left.search(name)}, strict=False)
    assert unfilled.unexpected_keys == [] and all(map(left.search, unfilled.missing_keys)), unfilled
    rng = np.random.default_rng(0)
    image, rois = rng.standard_normal((1, 64, 96, 3)), rng.standard_normal((5, 7, 7, 256))
    mask_rois = rng.standard_normal((3, 14, 14, 256))
    errors = {}
    with torch.no_grad(), kernels.use("numpy"):
        pyramid = fpn(backbone(image, params, config)[0], params, config)[0]
        their_pyramid = theirs.backbone(_nchw(image))
        for i, (p, their_p) in enumerate(zip(pyramid, their_pyramid.values())):
            errors[f"P{i + 2}"] = error(p, nhwc(their_p).numpy())
        hidden = theirs.roi_heads.box_head(_nchw(rois))
        predict = {part: torch.from_numpy(tensors[f"roi_heads.box_predictor.cls_score.{part}"])
                   for part in ("weight", "bias")}  # fmt: skip
        scores = nn.functional.linear(hidden, **predict).numpy()
        errors["scores"] = error(box_head(rois, params, config)[0], scores[:, [3, 0, 1, 2]])
        x = theirs.roi_heads.mask_head(_nchw(mask_rois))
        for layer, how in (("deconv", nn.functional.conv_transpose2d), ("predictor", nn.functional.conv2d)):
            weight, bias = (torch.from_numpy(tensors[f"roi_heads.mask_head.{layer}.{s}"]) for s in ("weight", "bias"))
            x = how(x, weight, bias, stride=2).relu() if layer == "deconv" else how(x, weight, bias)
        errors["masks"] = error(mask_head(mask_rois, params, config)[0][..., 1:], nhwc(x).numpy())
    assert max(errors.values()) <= 1e-12, errors


def _nchw(x):
    return torch.from_numpy(x).permute(0, 3, 1, 2)
