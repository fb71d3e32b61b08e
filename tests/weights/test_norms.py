"""Weights of networks with group norm: told from batch norm in every format, and never loaded into the other."""

import pickle

import numpy as np
import pytest
import safetensors.numpy
from detectron2_layout import backbone_shapes, caffe2_name, draw, rcnn_shapes, with_norms

from mrcnn_np import presets
from mrcnn_np.errors import WeightFileError, WeightMismatchError
from mrcnn_np.network import spec
from mrcnn_np.params import shapes
from mrcnn_np.training.checkpoint import Checkpoint, save_checkpoint
from mrcnn_np.weights import load_weights, save_weights
from mrcnn_np.weights.architecture import norm_kind
from mrcnn_np.weights.detectron2 import from_detectron2
from mrcnn_np.weights.network import open_weights
from mrcnn_np.weights.torchvision import read_torchvision, state_shapes, to_torchvision
from mrcnn_np.weights.transfer import read_start, start_config, transfer

GN = {"norm": "group", "stride_in_1x1": False, "fpn_norm": True, "box_head": "conv_fc", "mask_head_norm": True}
SMALL = {
    "num_classes": 4, "backbone": "tiny", "fpn_channels": 8, "rpn_channels": 8, "box_head_channels": 16,
    "mask_head_channels": 8,
}  # fmt: skip
OF_GROUPS = presets.torchvision_v2(norm="group", norm_groups=4, **SMALL)
OF_BATCH = presets.torchvision_v2(**SMALL)
NAMES = ("background", "cat", "dog", "tv")


def hollow(shapes):
    """Tensors of these shapes that take no memory."""
    return {name: np.broadcast_to(np.float16(1), shape) for name, shape in shapes.items()}


def params_of(config, dtype=np.float32):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(s.shape).astype(dtype) for name, s in spec(config).items()}


def saved(tmp_path, config, **how):
    path = tmp_path / f"{config.norm}.safetensors"
    save_weights(path, params_of(config), config, **how)
    return path


# --- detectron2 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth, convs", [(50, 4), (101, 2)])
def test_every_tensor_of_detectron2s_models_finds_its_place(depth, convs):
    found = with_norms(rcnn_shapes(depth, classes=8), convs=convs)
    assert {"backbone.fpn_lateral2.norm.weight", "roi_heads.box_head.conv1.norm.bias"} <= set(found)
    params, manifest, aside = from_detectron2(hollow(found))
    config = presets.detectron2(num_classes=9, backbone=f"resnet{depth}", box_head_convs=convs, **GN)
    assert shapes(params) == shapes(spec(config)) and aside == []
    assert manifest.config() == config
    assert (config.channel_order, config.pixel_std, config.norm_groups) == ("bgr", (1, 1, 1), 32)
    assert {"norm_groups", "stride_in_1x1"} <= set(manifest.presumed)


def test_batch_norm_everywhere_is_read_too():
    """SyncBN in all parts: the same layers, with running statistics."""
    params, manifest, _ = from_detectron2(hollow(with_norms(rcnn_shapes(50), "BN")))
    config = presets.detectron2(**GN | {"norm": "batch", "stride_in_1x1": True})
    assert shapes(params) == shapes(spec(config)) and manifest.config() == config


def test_norms_of_two_kinds_are_refused():
    """FPN.NORM = "GN" and its heads above a frozen batch norm."""
    frozen = hollow(backbone_shapes(50)) | hollow(with_norms(rcnn_shapes(50)))
    message = r"norms of its backbone have running statistics.*of its fpn, (mask|box)_head, \w+ have none.*one kind"
    with pytest.raises(WeightFileError, match=message):
        from_detectron2(frozen)


def test_nothing_tells_the_norms_of_a_whole_models_backbone():
    found = {name: s for name, s in rcnn_shapes(50).items() if "running" not in name}
    with pytest.raises(WeightFileError, match="nothing tells group norm from a batch norm folded into scale and shift"):
        from_detectron2(hollow(found))


def group_backbone(rename=caffe2_name):
    shapes = {name: s for name, s in backbone_shapes(prefix="").items() if "running" not in name}
    return {rename(name): a for name, a in draw(shapes).items()}


def fairs_name(name):
    """R-50-GN.pkl: conv1_gn_s, res2_0_branch1_gn_b."""
    return caffe2_name(name).replace("res_conv1_bn_", "conv1_gn_").replace("_bn_", "_gn_")


@pytest.fixture(scope="module")
def fairs(tmp_path_factory):
    """R-50-GN.pkl, and what is in it."""
    path = tmp_path_factory.mktemp("fair") / "R-50-GN.pkl"
    blobs = group_backbone(fairs_name)
    assert {"conv1_w", "conv1_gn_s", "res2_0_branch2a_gn_b", "res2_0_branch1_gn_s"} <= set(blobs)
    path.write_bytes(pickle.dumps({"blobs": blobs | {"pred_b": np.zeros(1000, "f4")}}, protocol=2))
    return path, blobs


def test_fairs_backbone(fairs):
    path, blobs = fairs
    weights = load_weights(path)
    assert weights.aside == ("pred_b",) and weights.manifest.num_classes is None
    assert weights.manifest.config() == presets.detectron2(**GN)
    np.testing.assert_array_equal(weights.params["backbone.stem.bn.gamma"], blobs["conv1_gn_s"])
    np.testing.assert_array_equal(weights.params["backbone.c3.0.shortcut.bn.beta"], blobs["res3_0_branch1_gn_b"])
    assert not any(name.endswith((".mean", ".var")) for name in weights.params)


def test_other_backbones_without_statistics_stay_folded_batch_norms():
    for rename in (caffe2_name, str):
        params, manifest, _ = from_detectron2(group_backbone(rename))
        assert manifest.config() == presets.detectron2() and "backbone.stem.bn.mean" in params
    both = group_backbone() | {"res2_0_branch1_gn_s": np.zeros(256, "f4")}
    with pytest.raises(WeightFileError, match="both _bn_ and _gn_"):
        from_detectron2(both)


def test_fairs_backbone_in_other_networks(fairs):
    path, blobs = fairs
    weights = read_start(path, "small")
    config = start_config(weights, "small", 4)
    assert config.norm == "group" and config.norm_groups == 32 and not config.fpn_norm and not config.stride_in_1x1
    start = transfer(weights, config, NAMES, np.random.default_rng(0), path)
    assert set(start.taken) == {name for name in start.params if name.startswith("backbone.")}
    assert shapes(start.params) == shapes(spec(config))
    np.testing.assert_array_equal(start.params["backbone.c5.2.bn3.gamma"], blobs["res5_2_branch2c_gn_s"])
    with pytest.raises(WeightMismatchError, match=r"norm +group +batch"):
        load_weights(path, presets.detectron2(stride_in_1x1=False))
    with pytest.raises(WeightMismatchError, match=r"106 missing(?s:.*)the network has batch norm"):
        transfer(weights, config.replace(norm="batch"), NAMES, np.random.default_rng(0), path)


# --- our own --------------------------------------------------------------------------------------------------------


def test_own_files_keep_the_norm(tmp_path):
    weights = load_weights(saved(tmp_path, OF_GROUPS))
    assert weights.manifest.config() == OF_GROUPS
    for name, p in params_of(OF_GROUPS).items():
        assert weights.params[name].tobytes() == p.tobytes()
    instance = OF_GROUPS.replace(norm="instance")
    assert load_weights(saved(tmp_path, instance)).manifest.config() == instance
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, Checkpoint(3, 0, OF_GROUPS, NAMES, params_of(OF_GROUPS), {}))
    assert load_weights(path).manifest.config() == OF_GROUPS


@pytest.mark.parametrize("file, network, says", [
    (OF_BATCH, OF_GROUPS, "these weights have batch norm"), (OF_GROUPS, OF_BATCH, "the network has batch norm"),
])  # fmt: skip
def test_one_norm_does_not_enter_the_other(tmp_path, file, network, says):
    path = saved(tmp_path, file)
    with pytest.raises(WeightMismatchError, match=rf"norm +{file.norm} +{network.norm}"):
        load_weights(path, network)
    with pytest.raises(WeightMismatchError, match=says):
        load_weights(path, network, trust_config=True)
    with pytest.raises(WeightMismatchError, match=says):
        open_weights(path, None, [f"norm={network.norm}", "norm_groups=4"])
    weights = load_weights(path)
    with pytest.raises(WeightMismatchError, match=says):
        transfer(weights, network, NAMES, np.random.default_rng(0), path)


def test_other_differences_are_not_put_down_to_the_norm(tmp_path):
    path = saved(tmp_path, OF_GROUPS)
    with pytest.raises(WeightMismatchError) as caught:
        load_weights(path, OF_BATCH.replace(rpn_convs=1), trust_config=True)
    assert "batch norm" not in str(caught.value)


# --- torchvision ----------------------------------------------------------------------------------------------------


def state_of(config):
    return to_torchvision(params_of(config), state_shapes(config), channels=config.fpn_channels)


@pytest.mark.parametrize("layers", [
    {}, {"fpn_norm": False}, {"box_head": "fc"}, {"mask_head_norm": False},
    {"fpn_norm": False, "box_head": "fc", "mask_head_norm": False, "rpn_convs": 1},
], ids=str)  # fmt: skip
def test_norms_of_torchvisions_parts(layers):
    """Any of its parts may have been given a ``norm_layer``; the backbone always has one."""
    wide = dict.fromkeys(("fpn_channels", "rpn_channels"), 32) | {"mask_head_channels": 32, "num_classes": 4}
    config = presets.torchvision_v2(backbone="resnet18", norm="group", **wide | layers)
    state = hollow(state_shapes(config))
    assert not any("num_batches_tracked" in name for name in state)
    params, manifest, aside = read_torchvision(state)
    assert shapes(params) == shapes(spec(config)) and aside == []
    assert manifest.differences(config) == [] and {"norm", "norm_groups"} <= set(manifest.presumed)


def test_an_old_file_without_counters_of_batches_is_not_the_published_one():
    """The published weights go with an epsilon of 0, and are told by names and counters; group norm has no counters."""
    config = presets.torchvision(backbone="resnet18", norm="group")
    old = {name.replace(".0.weight", ".weight") if "_blocks." in name else name: s
           for name, s in state_shapes(config).items()}  # fmt: skip
    assert "backbone.fpn.inner_blocks.0.weight" in old
    assert read_torchvision(hollow(old))[1].bn_eps == 1e-5


def test_an_imagenet_backbone_with_group_norm(tmp_path):
    """Under torchvision's names, as timm publishes ``resnet50_gn``."""
    wide = presets.torchvision(backbone="resnet18", norm="group", num_classes=4, fpn_channels=32, rpn_channels=32)
    body = {name.removeprefix("backbone.body."): np.zeros(s, np.float16)
            for name, s in state_shapes(wide).items() if name.startswith("backbone.body.")}  # fmt: skip
    path = tmp_path / "resnet18_gn.safetensors"
    path.write_bytes(safetensors.numpy.save(body))
    manifest = load_weights(path).manifest
    assert manifest.config() == presets.torchvision(backbone="resnet18", norm="group")
    assert "norm_groups" in manifest.presumed


def test_torchvisions_norms_of_two_kinds_are_refused(tmp_path):
    body = {name: a for name, a in state_of(OF_BATCH).items() if name.startswith("backbone.body.")}
    path = tmp_path / "mixed.safetensors"
    path.write_bytes(safetensors.numpy.save(state_of(OF_GROUPS) | body))
    with pytest.raises(WeightMismatchError, match=r"mixed.*its backbone have running statistics.* fpn, "):
        load_weights(path)


def test_torchvisions_model_has_batch_norm(tmp_path):
    with pytest.raises(WeightMismatchError, match=r"norm +group +batch"):
        saved(tmp_path, OF_GROUPS, format="torchvision")


def test_kinds():
    assert norm_kind([]) == norm_kind(["backbone.conv1_1.w"]) == {}
    assert norm_kind(["backbone.a.bn.gamma"]) == {"norm": "group"}
    # one layer's statistics lost on the way: still batch norm, and what is missing is reported as such
    assert norm_kind(["backbone.a.bn.gamma", "backbone.b.bn.gamma", "backbone.b.bn.var"]) == {"norm": "batch"}
