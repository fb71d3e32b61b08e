"""``load_weights`` and ``save_weights``: what each layout becomes, round trips, and what does not fit."""

import pickle
import re
import sys

import numpy as np
import pytest
import safetensors.numpy
from weight_files import save_like_torch

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.errors import UserError, WeightFileError, WeightMismatchError
from mrcnn_np.network import initialise, spec
from mrcnn_np.training.checkpoint import Checkpoint, save_checkpoint
from mrcnn_np.weights import Manifest, load_weights, save_weights
from mrcnn_np.weights.formats.files import read
from mrcnn_np.weights.torchvision import state_shapes, to_torchvision

SMALL = {
    "backbone": "tiny", "fpn_channels": 8, "rpn_channels": 12, "box_head_channels": 16, "mask_head_channels": 6,
    "num_classes": 5,
}  # fmt: skip
CONFIG = presets.torchvision(**SMALL)
V2 = presets.torchvision_v2(**SMALL, rpn_convs=3, box_head_convs=2, mask_head_convs=3)


def params_of(config=CONFIG, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(s.shape).astype(dtype) for name, s in spec(config).items()}


def equal(a, b):
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes(), name


def state_of(params, config=CONFIG):
    """What torchvision's model would save."""
    return to_torchvision(params, state_shapes(config), channels=config.fpn_channels)


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


# --- round trips ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "config",
    [CONFIG, V2, presets.tiny(), presets.detectron2(**SMALL), presets.matterport(backbone="tiny", num_classes=3)],
    ids=lambda config: config.name,
)
def test_safetensors_there_and_back(tmp_path, config, dtype):
    params, path = params_of(config, dtype), tmp_path / "w.safetensors"
    save_weights(path, params, config)
    weights = load_weights(path)
    equal(weights.params, params)
    assert weights.manifest.config() == config
    assert weights.aside == weights.drawn == ()
    weights.params["rpn.conv.b"] += 1  # training changes parameters in place
    first = path.read_bytes()
    save_weights(path, params, config)
    assert path.read_bytes() == first


@pytest.mark.parametrize("config", [CONFIG, V2], ids=lambda config: config.name)
@pytest.mark.parametrize("torch", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torchvision_there_and_back(tmp_path, monkeypatch, torch, dtype, config):
    if torch:
        pytest.importorskip("torch", reason="the other half of this test needs PyTorch")
    else:
        monkeypatch.setitem(sys.modules, "torch", None)
    params, path = params_of(config, dtype), tmp_path / "w.pth"
    save_weights(path, params, config, format="torchvision")
    assert read(path).kind == ("torch" if torch else "safetensors")
    state = read(path).tensors
    weights = load_weights(path)
    equal(weights.params, params)
    assert weights.manifest.config() == config
    assert weights.manifest.delta_order == "dx dy dw dh" and weights.manifest.source == "torchvision"
    again = to_torchvision(weights.params, {name: a.shape for name, a in state.items()}, channels=8)
    for name, a in state.items():
        assert again[name].tobytes() == a.tobytes(), name


def test_a_training_checkpoint(tmp_path):
    config = presets.tiny()
    params, path = initialise(config, np.random.default_rng(0)), tmp_path / "checkpoint.safetensors"
    names = ("background", "circle", "square", "triangle")
    save_checkpoint(path, Checkpoint(3, 0, config, names, params, {}))
    weights = load_weights(path)
    equal(weights.params, params)
    assert weights.manifest.class_names == names and weights.manifest.config() == config


def test_arrays_without_a_manifest_need_a_config(tmp_path):
    params, path = params_of(), tmp_path / "w.npz"
    np.savez(path, **params)
    with pytest.raises(WeightFileError, match=r"w\.npz: it has no manifest; say which configuration"):
        load_weights(path)
    equal(load_weights(path, CONFIG).params, params)


# --- torchvision ----------------------------------------------------------------------------------------------------


def test_a_wrapped_and_prefixed_state_dict(tmp_path, no_torch):
    params = params_of()
    state = {f"module.{name}": a for name, a in state_of(params).items()}
    path = tmp_path / "x"
    path.write_bytes(pickle.dumps({"model": state, "epoch": 25}))
    equal(load_weights(path).params, params)


def test_the_published_file_is_recognised_by_its_names(tmp_path, no_torch):
    """It has the names before torchvision 0.13 and no counters, and goes with bn_eps = 0."""
    old = {}
    for name, a in state_of(params_of()).items():
        name = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", name).replace("conv.0.0.", "conv.")
        name = re.sub(r"mask_head\.(\d)\.0", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}", name)
        if not name.endswith("num_batches_tracked"):
            old[name] = a
    path = tmp_path / "x.pth"
    save_like_torch(path, old)
    weights = load_weights(path)
    equal(weights.params, params_of())
    assert weights.manifest.bn_eps == 0.0 and "bn_eps" in weights.manifest.presumed
    assert load_weights(path).manifest.config() == CONFIG.replace(bn_eps=0.0)
    with pytest.raises(WeightMismatchError, match=r"bn_eps +0 \(presumed\) +1e-05"):
        load_weights(path, CONFIG)
    assert load_weights(path, CONFIG, trust_config=True).manifest.config() == CONFIG


def test_half_precision_becomes_float32(tmp_path, no_torch):
    params, path = params_of(dtype=np.float16), tmp_path / "x.pth"
    save_like_torch(path, state_of(params))
    equal(load_weights(path).params, {name: a.astype(np.float32) for name, a in params.items()})


def test_integers_are_no_weights(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save({name: a.astype(np.int32) for name, a in state_of(params_of()).items()}))
    with pytest.raises(WeightFileError, match="int32; expected floats"):
        load_weights(path)


@pytest.mark.parametrize(
    ("classes", "names"), [(91, {1: "person", 12: "unused", 13: "stop sign", 90: "toothbrush"}), (5, {})]
)
def test_class_names(tmp_path, no_torch, classes, names):
    config, path = CONFIG.replace(num_classes=classes), tmp_path / "x"
    save_weights(path, params_of(config), config, format="torchvision")
    found = load_weights(path).manifest.class_names
    assert len(found) == (91 if names else 0)
    assert {i: found[i] for i in names} == names


def test_what_torchvision_cannot_hold_is_a_table(tmp_path):
    config = presets.detectron2(**SMALL)
    with pytest.raises(WeightMismatchError, match=r"torchvision's model belongs(?s:.*)channel_order +bgr +rgb"):
        save_weights(tmp_path / "x", params_of(config), config, format="torchvision")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="expected safetensors or torchvision"):
        save_weights(tmp_path / "x", params_of(), CONFIG, format="onnx")
    with pytest.raises(WeightMismatchError, match=r"1 missing(?s:.*)rpn\.conv\.b +\(12\) +missing"):
        save_weights(tmp_path / "x", {n: a for n, a in params_of().items() if n != "rpn.conv.b"}, CONFIG)


# --- what does not fit ----------------------------------------------------------------------------------------------


def saved_state(tmp_path, change):
    state = state_of(params_of())
    change(state)
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save(state))
    return path


def test_missing_unexpected_and_misshapen_tensors_are_a_table(tmp_path):
    def change(state):
        for i in range(4):
            del state[f"roi_heads.mask_head.{i}.0.weight"], state[f"roi_heads.mask_head.{i}.0.bias"]
        state["rpn.head.cls_logits.bias"] = np.zeros(7, np.float32)
        state["backbone.body.layer1.0.conv9.weight"] = np.zeros((1, 1, 1, 1), np.float32)

    with pytest.raises(WeightMismatchError) as caught:
        load_weights(saved_state(tmp_path, change))
    text = str(caught.value)
    assert "x.safetensors does not fit the network" in text
    assert "8 missing, 1 not expected, 1 of another shape" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["mask_head.conv1.b", "(6)", "missing"] in rows
    assert ["rpn.objectness.b", "(3)", "(7)"] in rows
    assert ["backbone.c2.0.conv9.w", "not", "expected", "(1,", "1,", "1,", "1)"] in rows


def test_the_second_version_is_told_by_its_layers(tmp_path):
    """Whatever of it a file lacks is missing then: it is not taken for the first version with tensors too many."""
    path, state = tmp_path / "x.safetensors", state_of(params_of(V2), V2)
    path.write_bytes(safetensors.numpy.save(state))
    assert load_weights(path).manifest.preset == "torchvision_v2"
    with pytest.raises(WeightMismatchError) as caught:
        load_weights(path, CONFIG)
    for row in (r"fpn_norm +yes +no", r"rpn_convs +3 +1", r"box_head +conv_fc +fc", r"mask_head_norm +yes +no"):
        assert re.search(row, str(caught.value)), row
    with pytest.raises(WeightMismatchError, match=r"fpn_norm +yes +no"):
        load_weights(path, preset="torchvision")
    assert load_weights(path, preset="torchvision_v2").manifest.config() == V2
    less = {name: a for name, a in state.items() if not name.startswith("backbone.fpn.inner_blocks.0.1.")}
    path.write_bytes(safetensors.numpy.save(less))
    with pytest.raises(WeightMismatchError, match=r"of \d+ tensors 4 missing\n(.*\n)+.*fpn\.lateral2\.bn\.gamma"):
        load_weights(path)


def test_what_neither_version_computes_is_not_written_for_torchvision(tmp_path):
    path = tmp_path / "w.pth"
    for config, row in (
        (CONFIG.replace(fpn_norm=True), r"fpn_norm +yes +no"),
        (V2.replace(conv_bias=True), r"conv_bias +yes +no"),
        (V2.replace(mask_head_norm=False), r"mask_head_norm +no +yes"),
        (CONFIG.replace(box_head="conv"), r"box_head +conv +fc"),
    ):
        with pytest.raises(WeightMismatchError, match=row):
            save_weights(path, params_of(config), config, format="torchvision")
    deeper = CONFIG.replace(rpn_convs=2)  # which its constructor allows
    save_weights(path, params_of(deeper), deeper, format="torchvision")
    assert load_weights(path).manifest.config() == deeper


def test_a_foreign_tensor_among_torchvisions(tmp_path):
    path = saved_state(tmp_path, lambda state: state.update({"roi_heads.depth_head.0.weight": np.zeros(3)}))
    with pytest.raises(WeightMismatchError, match=r"x\.safetensors: 'roi_heads\.depth_head"):
        load_weights(path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("rpn.head.bbox_pred.bias", (13,)),
        ("rpn.head.bbox_pred.weight", ()),
        ("roi_heads.box_head.fc6.weight", (16, 391)),
        ("roi_heads.mask_predictor.conv5_mask.weight", (6, 6)),
        ("backbone.fpn.inner_blocks.0.0.bias", ()),
        ("backbone.fpn.inner_blocks.0.0.weight", ()),
        ("backbone.body.layer1.0.conv2.weight", (3,)),
        ("backbone.body.conv1.weight", (2, 2, 2, 2, 2)),
    ],
)
def test_shapes_that_no_such_layer_has(tmp_path, name, shape):
    path = saved_state(tmp_path, lambda state: state.update({name: np.zeros(shape, np.float32)}))
    with pytest.raises(WeightFileError, match=r"x\.safetensors"):
        load_weights(path)


def test_a_config_of_other_conventions_is_a_table(tmp_path):
    path = saved_state(tmp_path, lambda state: None)
    with pytest.raises(WeightMismatchError) as caught:
        load_weights(path, presets.detectron2(**SMALL | {"num_classes": 7}))
    text = str(caught.value)
    assert "belongs to another configuration" in text
    for row in (r"channel_order +rgb \(presumed\) +bgr", r"stride_in_1x1 +no \(presumed\) +yes", r"num_classes +5 +7"):
        assert re.search(row, text), row
    sizes = CONFIG.replace(image_min_size=64, detection_score_threshold=0.9)
    equal(load_weights(path, sizes).params, params_of())  # these may be chosen


def test_the_config_can_be_trusted_but_shapes_cannot(tmp_path):
    path = saved_state(tmp_path, lambda state: None)
    config = CONFIG.replace(channel_order="bgr", stride_in_1x1=True)
    manifest = load_weights(path, config, trust_config=True).manifest
    assert manifest.config() == config and manifest.source == "torchvision"
    with pytest.raises(WeightMismatchError, match=r"box_head\.class\.b +\(6\) +\(5\)"):
        load_weights(path, config.replace(num_classes=6), trust_config=True)


def test_other_networks_are_named(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save({"encoder.weight": np.zeros(3, np.float32)}))
    with pytest.raises(WeightFileError, match=r"its tensors \(encoder\.weight \.\.\.\) are those of no network"):
        load_weights(path)
    path = saved_state(
        tmp_path, lambda state: state.update({"backbone.body.layer3.5.conv1.weight": np.zeros((1,) * 4)})
    )
    with pytest.raises(WeightMismatchError, match=r"has 2-2-3-1 basic blocks.*expected one of tiny"):
        load_weights(path)
    path = saved_state(tmp_path, lambda state: None)
    with pytest.raises(WeightFileError, match="it holds weights of torchvision, not of detectron2"):
        load_weights(path, format="detectron2")
    with pytest.raises(UserError, match="unknown format of weights 'caffe'"):
        load_weights(path, format="caffe")


def test_a_manifest_that_is_wrong(tmp_path):
    path, params = tmp_path / "x.safetensors", params_of()
    manifest = Manifest.from_config(CONFIG.replace(num_classes=9), source="test")
    with pytest.raises(WeightMismatchError, match="num_classes"):
        save_weights(path, params, CONFIG, manifest=manifest)
    path.write_bytes(safetensors.numpy.save(params, {"mrcnn_np_manifest": manifest.to_json()}))
    with pytest.raises(WeightMismatchError, match=r"box_head\.class\.b +\(9\) +\(5\)"):
        load_weights(path)
    path.write_bytes(safetensors.numpy.save(params, {"mrcnn_np_manifest": "no JSON"}))
    with pytest.raises(WeightFileError, match=r"x\.safetensors: .*its manifest cannot be used"):
        load_weights(path)


# --- ImageNet backbones ---------------------------------------------------------------------------------------------


def test_an_imagenet_backbone_and_fresh_heads(tmp_path, no_torch):
    params, path = params_of(), tmp_path / "resnet.pth"
    body = {n.removeprefix("backbone.body."): a for n, a in state_of(params).items() if n.startswith("backbone.body.")}
    save_like_torch(path, body | {"fc.weight": np.zeros((1000, 96), "f4"), "fc.bias": np.zeros(1000, "f4")})
    weights = load_weights(path)
    assert weights.manifest.num_classes is None and weights.aside == ("fc.weight", "fc.bias")
    assert weights.manifest.architecture == "tiny, backbone only"
    config = presets.torchvision(**SMALL | {"num_classes": 3})
    weights = load_weights(path, config, rng=np.random.default_rng(1))
    assert list(weights.params) == list(spec(config))
    assert set(weights.drawn) == {name for name in spec(config) if not name.startswith("backbone.")}
    equal(
        {n: a for n, a in weights.params.items() if n.startswith("backbone.")},
        {n: a for n, a in params.items() if n.startswith("backbone.")},
    )
    assert weights.params["rpn.conv.w"].std() > 0
    again = load_weights(path, config, rng=np.random.default_rng(1))
    equal(again.params, weights.params)
    MaskRCNN(config, weights.params)
    with pytest.raises(WeightMismatchError, match=r"backbone +tiny +resnet50"):
        load_weights(path, presets.torchvision())
