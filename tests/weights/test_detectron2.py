"""detectron2's names, layouts and conventions; ``tests/compare`` computes with them."""

import io
import pickle

import numpy as np
import pytest
from detectron2_layout import backbone_shapes, caffe2_name, draw, norm, rcnn_shapes

from mrcnn_np import presets
from mrcnn_np.errors import UserError, WeightFileError, WeightMismatchError
from mrcnn_np.network import spec
from mrcnn_np.params import count
from mrcnn_np.weights import load_weights
from mrcnn_np.weights.detectron2 import from_detectron2, recognise


def hollow(shapes, dtype=np.float16):
    """Tensors of these shapes that take no memory."""
    return {name: np.broadcast_to(dtype(1), shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("network", "conventions"),
    [
        ({"depth": 50}, {"backbone": "resnet50"}),
        ({"depth": 101, "classes": 8}, {"backbone": "resnet101", "num_classes": 9}),
        (
            {"depth": 101, "groups": 32, "width": 256},
            {"backbone": "resnext101_32x8d", "stride_in_1x1": False, "pixel_std": (57.375, 57.12, 58.395)},
        ),
        (
            {"depth": 50, "classes": 1, "keypoints": 17},
            {"backbone": "resnet50", "num_classes": 2, "keypoints": 17, "mask_branch": False},
        ),
    ],
    ids=["R50", "R101", "X101-32x8d", "keypoints"],
)
def test_every_tensor_of_the_model_zoo_finds_its_place(network, conventions):
    params, manifest, aside = from_detectron2(hollow(rcnn_shapes(**network)))
    config = presets.detectron2(**conventions)
    assert {name: p.shape for name, p in params.items()} == {name: s.shape for name, s in spec(config).items()}
    assert manifest.config() == config and aside == []
    assert (manifest.background, manifest.flatten_order, manifest.delta_order) == ("last", "C H W", "dx dy dw dh")
    assert (len(manifest.class_names) == 81) == (config.num_classes == 81)


def test_number_of_parameters():
    """44.4 million, as model-zoo logs say; the zeros for the background are not theirs."""
    shapes = rcnn_shapes(50)
    theirs = sum(int(np.prod(s)) for name, s in shapes.items() if "running" not in name)
    ours = count(spec(presets.detectron2()))
    assert ours - theirs == 4 * 1025 + 257 and round(theirs / 1e6, 1) == 44.4


def test_layouts_and_the_background():
    tensors = {
        "roi_heads.box_predictor.cls_score.bias": np.array([1.0, 2, 3]),  # two classes, then the background
        "roi_heads.box_predictor.cls_score.weight": np.arange(6.0).reshape(3, 2),
        "roi_heads.box_predictor.bbox_pred.bias": np.arange(8.0),  # dx dy dw dh of two classes
        "roi_heads.mask_head.predictor.weight": np.arange(6.0).reshape(2, 3, 1, 1),
        "proposal_generator.rpn_head.anchor_deltas.bias": np.arange(4.0),
        "roi_heads.mask_head.deconv.weight": np.arange(24.0).reshape(2, 3, 2, 2),
        "backbone.fpn_lateral2.bias": np.zeros(2),
        "roi_heads.box_head.fc1.weight": np.arange(36.0).reshape(2, 18),  # 2 channels of 3 x 3
    } | hollow(backbone_shapes())
    params, manifest, _ = from_detectron2(tensors)
    assert params["box_head.class.b"].tolist() == [3, 1, 2] and manifest.num_classes == 3
    assert params["box_head.class.w"].tolist() == [[4, 0, 2], [5, 1, 3]]
    assert params["box_head.deltas.b"].tolist() == [0, 0, 0, 0, 1, 0, 3, 2, 5, 4, 7, 6]
    assert params["mask_head.logits.w"][0, 0].tolist() == [[0, 0, 3], [0, 1, 4], [0, 2, 5]]
    assert params["rpn.deltas.b"].tolist() == [1, 0, 3, 2]
    assert params["mask_head.deconv.w"][0, 1, 1, 2] == tensors["roi_heads.mask_head.deconv.weight"][1, 2, 0, 1]
    assert params["box_head.fc1.w"][(1 * 3 + 2) * 2 + 1, 0] == tensors["roi_heads.box_head.fc1.weight"][0, 9 + 3 + 2]


def test_conventions_that_stand_in_the_file_are_believed():
    """Training runs of 2019 and 2020 kept mean and deviation, and the anchors, with the weights."""
    shapes = rcnn_shapes(50)
    extra = {
        "pixel_mean": np.array([123.675, 116.28, 103.53], np.float32).reshape(3, 1, 1),
        "pixel_std": np.array([58.395, 57.12, 57.375], np.float32).reshape(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": np.zeros((3, 4)),
    }
    _, manifest, aside = from_detectron2(hollow(shapes) | extra)
    assert (manifest.channel_order, manifest.pixel_mean) == ("rgb", (123.675, 116.28, 103.53))
    assert manifest.pixel_std == (58.395, 57.12, 57.375) and "pixel_std" not in manifest.presumed
    assert set(aside) == set(extra)


def pickled(tmp_path, content, protocol=4):
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.fixture(scope="module")
def backbone():
    return draw(backbone_shapes(prefix=""))


def heads(params):
    return {name for name in params if not name.startswith("backbone.")}


def test_a_backbone_in_caffe2s_names(tmp_path, backbone):
    """MSRA's: with a classifier and a useless bias, which detectron2 leaves aside too."""
    blobs = {caffe2_name(name): a for name, a in backbone.items()}
    blobs |= {"fc1000_w": np.zeros((1000, 2048), "f4"), "fc1000_b": np.zeros(1000, "f4"), "conv1_b": np.zeros(64, "f4")}
    assert {"res_conv1_bn_s", "conv1_w", "res2_0_branch1_bn_riv", "res5_2_branch2c_w"} <= set(blobs)
    weights = load_weights(pickled(tmp_path, {"blobs": blobs}, protocol=2))
    assert weights.aside == ("fc1000_w", "fc1000_b", "conv1_b")
    assert weights.manifest.config() == presets.detectron2() and weights.manifest.num_classes is None
    assert set(weights.drawn) == heads(weights.params)
    w = backbone["res3.0.conv2.weight"]
    np.testing.assert_array_equal(weights.params["backbone.c3.0.conv2.w"], w.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(weights.params["backbone.c3.0.bn2.var"], backbone["res3.0.conv2.norm.running_var"])
    np.testing.assert_array_equal(weights.params["backbone.stem.bn.beta"], backbone["stem.conv1.norm.bias"])


def test_a_backbone_converted_from_torchvision(tmp_path, backbone):
    classifier = {"stem.fc.weight": np.zeros((1000, 2048), "f4"), "stem.fc.bias": np.zeros(1000, "f4")}
    content = {"model": backbone | classifier, "__author__": "torchvision", "matching_heuristics": True}
    _, manifest, aside, _ = load_weights(pickled(tmp_path, content))
    assert aside == tuple(classifier)
    assert (manifest.channel_order, manifest.stride_in_1x1) == ("rgb", False)
    assert manifest.pixel_mean == (123.675, 116.28, 103.53) and manifest.pixel_std == (58.395, 57.12, 57.375)
    with pytest.raises(WeightMismatchError, match=r"channel_order +rgb \(presumed\) +bgr"):
        load_weights(tmp_path / "model_final.pkl", presets.detectron2())


def test_batch_norm_folded_into_an_affine_layer(tmp_path, backbone):
    """Detectron's: scale and shift only. With mean 0 and variance 1 - eps, batch norm does just that."""
    affine = {caffe2_name(name): a for name, a in backbone.items() if "running" not in name}
    weights = load_weights(pickled(tmp_path, affine))
    eps = weights.manifest.bn_eps
    mean, var = (weights.params[f"backbone.c4.1.bn1.{s}"] for s in ("mean", "var"))
    assert not mean.any()
    np.testing.assert_array_equal(np.sqrt(var + np.float32(eps)), np.ones(256, np.float32))


def test_a_checkpoint_of_a_training_run(tmp_path, backbone):
    """model_0004999.pth: what training needs stands beside the weights."""
    torch = pytest.importorskip("torch", reason="writes the file of this test")
    out = io.BytesIO()
    model = {name: torch.from_numpy(a) for name, a in backbone.items()}
    torch.save(
        {"model": model, "optimizer": {"state": {0: {}}}, "scheduler": {"last_epoch": 3}, "iteration": 4999}, out
    )
    path = tmp_path / "model_0004999.pth"
    path.write_bytes(out.getvalue())
    assert load_weights(path).manifest.source == "detectron2 backbone"


def test_other_models_of_detectron2(tmp_path):
    shapes = backbone_shapes() | norm("roi_heads.keypoint_head.conv1", 256)
    assert recognise(shapes)
    with pytest.raises(WeightFileError, match=r"keypoint_head\.conv1\.norm\.weight' is not a tensor"):
        from_detectron2(hollow(shapes))
    cut = {name: s for name, s in rcnn_shapes().items() if "mask" not in name}
    with pytest.raises(WeightMismatchError, match=r"12 missing(?s:.*)mask_head\.conv1\.w +\(3, 3, 256, 256\) +missing"):
        load_weights(pickled(tmp_path, {"model": {n: np.zeros(s, np.float16) for n, s in cut.items()}}))
    with pytest.raises(WeightFileError, match=r"bbox_pred\.weight' has shape \(13, 4\), which no such layer has"):
        from_detectron2({"roi_heads.box_predictor.bbox_pred.weight": np.zeros((13, 4))})


@pytest.mark.parametrize("name", ["backbone.fpn_lateral2.bias", "roi_heads.box_predictor.bbox_pred.bias"])
def test_numbers_where_rows_are_expected(tmp_path, name):
    with pytest.raises(UserError):
        load_weights(pickled(tmp_path, {"model": {"stem.conv1.weight": np.zeros((1, 1, 1, 1)), name: np.array(1.0)}}))
