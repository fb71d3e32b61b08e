"""The whole network in onnxruntime beside ``MaskRCNN.detect``, under every preset and every field that it follows.

The networks are small and random, and find something in every picture. Each field has in some case another value than
in ``BASE``, and each such value changes the graph.
"""

import json

import numpy as np
import pytest
from nets import small_config
from onnx_run import REASON, Exported, session

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.backbone import ARCHITECTURES, Architecture
from mrcnn_np.errors import UserError
from mrcnn_np.heads import box_head, c5_head, mask_head
from mrcnn_np.keypoints.head import keypoint_head
from mrcnn_np.network import initialise, spec
from mrcnn_np.onnx.export import detector, onnx_file, write_onnx
from mrcnn_np.onnx.graph import Graph
from mrcnn_np.onnx.support import FOLLOWED
from mrcnn_np.synthetic import params_that_detect, picture

pytest.importorskip("onnx", reason=REASON)
onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)

BASE = small_config(image_min_size=64, image_max_size=96)
SIZES = [(64, 64), (50, 77), (131, 40)]
SMALL = {
    "backbone": "tiny", "fpn_channels": 8, "rpn_channels": 8, "box_head_channels": 16, "mask_head_channels": 8,
    "num_classes": 4, "image_min_size": 64, "image_max_size": 96, "roi_canonical_size": 56.0,
    "anchor_sizes": (12.0, 20.0, 32.0, 52.0, 84.0), "detection_score_threshold": 0.3, "detections_per_image": 20,
    "proposals_post_nms_test": 40,
}  # fmt: skip

KEYPOINTS = {"keypoints": 3, "keypoint_head_convs": 1, "keypoint_head_channels": 8}
ONE_MAP = {"neck": "none", "anchor_strides": (16,), "anchor_sizes": (16.0, 40.0)}

# Of each group what is changed together
CHANGES = {
    "image": {"resize_mode": "shortest_edge", "pad_multiple": 64, "resize_rounding": "floor", "image_min_size": 80,
              "resize_border": "zero", "channel_order": "bgr", "pixel_scale": 200.0, "pixel_mean": (0.4, 0.5, 0.6),
              "pixel_std": (0.2, 0.25, 0.3)},
    "image, otherwise": {"image_max_size": 64, "pad_position": "centre", "pad_before_normalise": True,
                         "resize_truncated": True, "proposals_window": "canvas"},
    "image, by Pillow": {"resize_filter": "pil", "bn_eps": 1e-3, "stem_pool_padding": "same"},
    "anchors": {"anchor_sizes": (10.0, 18.0, 30.0, 50.0, 80.0), "anchor_strides": (4, 8, 16, 32, 48),
                "anchor_ratios": (0.4, 1.0, 2.5), "anchor_ratio_meaning": "width_over_height", "anchor_offset": 0.0,
                "anchor_rounding": True},
    "anchors, otherwise": {"anchor_stride_from_grid": True, "box_frame": "centres", "rpn_box_std": (1.0, 1.0, 0.5, 0.5),
                           "max_log_scale": 0.1, "detection_rounded": True},
    "proposals": {"proposals_pre_nms_test": 30, "proposals_post_nms_test": 15, "proposals_nms_iou": 0.4,
                  "proposals_min_size": 12.0},
    "one pool of levels": {"proposals_per_level": False, "proposals_min_size": None, "detection_min_size": None,
                           "max_log_scale": None},
    "regions": {"roi_level_rounding": "round", "roi_canonical_size": 40.0, "roi_canonical_level": 3,
                "roi_sampling_ratio": 0, "roi_aligned": False, "mask_pool_size": 7},
    "largest sample": {"roi_reduce": "max"},
    "crops": {"roi_method": "crop_and_resize"},
    "detections": {"head_box_std": (0.2, 0.1, 0.2, 0.2), "detection_classes": "argmax", "detection_nms_iou": 0.2,
                   "detection_score_threshold": 0.1, "detection_score_inclusive": True, "detections_per_image": 5,
                   "detection_min_size": 8.0, "mask_paste": "resize", "mask_threshold": 0.3},
    "one name each": {"detection_nms_per_class": False, "detection_nms_iou": 0.3, "detection_score_threshold": 0.1},
    "layers": {"conv_bias": True, "fpn_norm": True, "rpn_convs": 2, "rpn_objectness": "softmax", "box_head": "conv_fc",
               "box_head_convs": 2, "mask_head_convs": 2, "mask_head_norm": True, "box_pool_size": 5},
    "group norm": {"norm": "group", "norm_groups": 4, "fpn_norm": True, "mask_head_norm": True, "box_head": "conv"},
    "instance norm": {"norm": "instance", "fpn_norm": True, "mask_head_norm": True},
    "widths": {"fpn_channels": 12, "rpn_channels": 12, "box_head": "conv", "box_head_channels": 24,
               "mask_head_channels": 12, "num_classes": 6, "mask_head_convs": 0},
    "keypoints": {**KEYPOINTS, "keypoint_decode": "quarter", "keypoint_offset": 0.0, "keypoint_pool_size": 5},
    "keypoints alone": {**KEYPOINTS, "mask_branch": False, "keypoint_decode": "argmax"},
}  # fmt: skip
SHORTEST = {"resize_mode": "shortest_edge"}
#: test_bottlenecks_in_groups, test_one_map, test_what_is_in_the_file
ELSEWHERE = {"backbone", "stride_in_1x1", "neck", "keypoint_names", "keypoint_skeleton"}


def same(model, sizes=SIZES, *, least=1, pixels=3, ties=2):
    """Hold the exported network to ours; return how many objects there were.

    Of some 100,000 pixels of masks, rounding takes 1 across the threshold. Keypoints whose map is as high at another
    place may be there, ``ties`` of them in a picture; none is.
    """
    exported, config, count = Exported(model), model.config, 0
    for size in sizes:
        image = picture(size)
        (expected,) = model.detect([image])
        found = exported(image)
        names = ["boxes", "class_ids", "scores"] + ["masks", "mask_probabilities"] * config.mask_branch
        assert list(found) == names + ["keypoints", "keypoint_scores"] * (config.keypoints > 0)
        np.testing.assert_array_equal(found["class_ids"], expected.class_ids)
        np.testing.assert_allclose(found["boxes"], expected.boxes, atol=1e-2)
        np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-4)
        if config.mask_branch:
            probabilities = model.trace(image)["mask_probabilities"]
            np.testing.assert_allclose(found["mask_probabilities"], probabilities, atol=1e-4)
            assert found["masks"].shape == expected.masks.shape
            assert (found["masks"] != expected.masks).sum() <= pixels
        if config.keypoints:
            np.testing.assert_allclose(found["keypoint_scores"], expected.keypoint_scores, atol=1e-3)
            far = np.abs(found["keypoints"] - expected.keypoints).max(axis=2) > 1e-2
            assert far.sum() <= ties and far.shape == expected.keypoint_scores.shape
        count += len(expected)
    assert count >= least
    return count


@pytest.fixture(scope="module")
def params():
    return params_that_detect(BASE)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets(name):
    config = presets.PRESETS[name](**SMALL | ({"backbone": "tiny_vgg"} if name == "vgg16" else {}))
    same(MaskRCNN(config, params_that_detect(config)), least=5)


def test_keypoints_of_persons():
    config = presets.torchvision(**SMALL | KEYPOINTS | {"keypoints": 17, "mask_branch": False, "image_min_size": 96})
    same(MaskRCNN(config, params_that_detect(config)), [(96, 80), (50, 77), (7, 90)], least=20)


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "tiny_vgg", "roi_method": "roi_pool", "proposals_per_level": False},
        {"backbone": "tiny_vgg", "box_head": "conv_fc", "roi_method": "crop_and_resize", "roi_reduce": "max"},
        {"roi_sampling_ratio": 0, **KEYPOINTS, "fpn_channels": 64},  # the channels of C4
        {"box_head": "c5", "box_pool_size": 9, "mask_pool_size": 5, "anchor_stride_from_grid": True},
        {"box_head": "c5", "box_pool_size": 14, "mask_branch": False, "roi_reduce": "max"},
    ],
    ids=["vgg", "vgg by crops", "c4", "c5", "c5 without masks"],
)
def test_one_map(changes):
    config = BASE.replace(**ONE_MAP | changes)
    model = MaskRCNN(config, params_that_detect(config))
    same(model, [*SIZES[1:], (1, 1), (1, 200), (7, 3), (96, 95)], least=5)


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_fields(changes, params):
    config = BASE.replace(**changes)
    own = params if spec(config) == spec(BASE) else params_that_detect(config)
    same(MaskRCNN(config, own), SIZES[1:], least=1)


def nodes(config, params):
    g = Graph(params)
    detector(g, config)
    weights = {name: tensor.SerializeToString() for name, tensor in g.initializers.items() if name not in params}
    return [node.SerializeToString() for node in g.nodes], weights


def test_each_field_changes_the_graph(params):
    followed = {name for names in FOLLOWED.values() for name in names} - ELSEWHERE
    changed = {(name, value) for group in CHANGES.values() for name, value in group.items()}
    assert {name for name, _ in changed} == followed
    needed = {
        "pad_multiple": SHORTEST,
        "resize_rounding": SHORTEST,
        "box_head_convs": {"box_head": "conv_fc"},
        "norm_groups": {"norm": "group", "norm_groups": 2},
    }
    needed |= {name: {"keypoints": 3} for name in ("keypoint_head_convs", "keypoint_head_channels")}
    needed["norm"] = {"norm_groups": 4}
    needed |= dict.fromkeys(("keypoint_decode", "keypoint_offset", "keypoint_pool_size"), KEYPOINTS)
    for name, value in sorted(changed, key=str):
        before = BASE.replace(**needed.get(name, {}))
        after = before.replace(**{name: value})
        if spec(before) == spec(after):  # else there are other layers, or layers of another size
            own = params if spec(before) == spec(BASE) else initialise(before, np.random.default_rng(0))
            assert nodes(after, own) != nodes(before, own), name


def test_bottlenecks_in_groups(monkeypatch):
    """Blocks of ResNet-50 and ResNeXt with few channels, the stride on either convolution."""
    arch = Architecture("bottleneck", (1, 2, 1, 1), (8, 8, 8, 8), stem=8, groups=4)
    monkeypatch.setitem(ARCHITECTURES, "small", arch)
    for stride_in_1x1 in (False, True):
        config = BASE.replace(backbone="small", stride_in_1x1=stride_in_1x1)
        same(MaskRCNN(config, params_that_detect(config)), SIZES[1:2])


def test_odd_pictures(params):
    same(MaskRCNN(BASE, params), [(1, 1), (1, 300), (7, 3), (96, 95)], least=0)


def test_nothing_is_found(params):
    for changes in ({"detection_score_threshold": 1.0}, {"proposals_min_size": 1e4}):
        found = Exported(MaskRCNN(BASE.replace(**changes), params))(picture((40, 60)))
        assert found["boxes"].shape == (0, 4) and found["masks"].shape == (0, 40, 60) and len(found["scores"]) == 0
        assert found["mask_probabilities"].shape[0] == 0 and found["class_ids"].dtype == np.int64
        of_each = {"norm_groups": 4, "mask_head_norm": True, "box_head": "conv_fc"}
        for norm in ("group", "instance"):
            found = Exported(MaskRCNN(BASE.replace(**changes | of_each, norm=norm)))(picture((40, 60)))
            assert found["boxes"].shape == (0, 4) and found["masks"].shape == (0, 40, 60)
        for others in (KEYPOINTS, KEYPOINTS | {"keypoint_decode": "quarter"}):
            found = Exported(MaskRCNN(BASE.replace(**changes | others)))(picture((40, 60)))
            assert found["keypoints"].shape == (0, 3, 2) and found["keypoint_scores"].shape == (0, 3)
        for others in ({"backbone": "tiny_vgg", "roi_method": "roi_pool"}, {"box_head": "c5", "mask_pool_size": 4}):
            found = Exported(MaskRCNN(BASE.replace(**changes | ONE_MAP | others)))(picture((40, 60)))
            assert found["boxes"].shape == (0, 4) and found["masks"].shape == (0, 40, 60)


def test_parts(params):
    model, rng = MaskRCNN(BASE, params), np.random.default_rng(0)
    molded = rng.standard_normal((2, 64, 96, 3)).astype(np.float32)
    pyramid, logits, deltas, _ = model.first_stage(molded)
    *maps, found_logits, found_deltas = session(onnx_file(model, part="first_stage")).run(None, {"molded": molded})
    for mine, theirs in zip(pyramid, maps):
        np.testing.assert_allclose(theirs.transpose(0, 2, 3, 1), mine, atol=1e-4)
    np.testing.assert_allclose(found_logits, logits, atol=1e-4)
    np.testing.assert_allclose(found_deltas, deltas, atol=1e-4)
    run_box, run_mask = (session(onnx_file(model, part=part)).run for part in ("box_head", "mask_head"))
    for count in (3, 0):
        features = rng.standard_normal((count, BASE.box_pool_size, BASE.box_pool_size, 8)).astype(np.float32)
        expected = box_head(features, params, BASE)[:2]
        for mine, theirs in zip(expected, run_box(None, {"box_features": features.transpose(0, 3, 1, 2)})):
            np.testing.assert_allclose(theirs, mine, atol=1e-4)
        features = rng.standard_normal((count, BASE.mask_pool_size, BASE.mask_pool_size, 8)).astype(np.float32)
        (masks,) = run_mask(None, {"mask_features": features.transpose(0, 3, 1, 2)})
        np.testing.assert_allclose(masks, mask_head(features, params, BASE)[0], atol=1e-4)


def test_parts_with_keypoints():
    config, rng = BASE.replace(**KEYPOINTS), np.random.default_rng(0)
    model = MaskRCNN(config, params_that_detect(config))
    run = session(onnx_file(model, part="keypoint_head")).run
    for count in (3, 0):
        features = rng.standard_normal((count, config.keypoint_pool_size, config.keypoint_pool_size, 8))
        features = features.astype(np.float32)
        (logits,) = run(None, {"keypoint_features": features.transpose(0, 3, 1, 2)})
        np.testing.assert_allclose(logits, keypoint_head(features, model.params, config)[0], atol=1e-4)


@pytest.mark.parametrize("changes", [{"backbone": "tiny_vgg"}, {"box_head": "c5", "mask_pool_size": 4}], ids=str)
def test_parts_of_one_map(changes):
    config, rng = BASE.replace(**ONE_MAP | changes), np.random.default_rng(0)
    model = MaskRCNN(config, params_that_detect(config))
    molded = rng.standard_normal((2, 64, 96, 3)).astype(np.float32)
    (expected,), *_ = model.first_stage(molded)
    first = session(onnx_file(model, part="first_stage"))
    assert [output.name for output in first.get_outputs()] == [*config.levels, "rpn_logits", "rpn_deltas"]
    np.testing.assert_allclose(first.run(None, {"molded": molded})[0].transpose(0, 2, 3, 1), expected, atol=1e-4)
    sizes = (7, 7) if config.box_head == "c5" else (7, 14)  # C5 reads the same for both heads
    for part, size, head in zip(("box_head", "mask_head"), sizes, (box_head, mask_head)):
        features = rng.standard_normal((3, size, size, 64)).astype(np.float32)
        found = session(onnx_file(model, part=part)).run(
            None, {f"{part[:-5]}_features": features.transpose(0, 3, 1, 2)}
        )
        for mine, theirs in zip(head(c5_head(features, model.params, config)[0], model.params, config), found):
            np.testing.assert_allclose(theirs, mine, atol=1e-4)


def test_what_is_in_the_file(params, tmp_path):
    import onnx

    names = ("background", "square", "triangle", "ellipse")
    model = MaskRCNN(BASE, params, class_names=names)
    path = tmp_path / "network.onnx"
    path.write_bytes(b"something else")
    write_onnx(path, model)
    assert path.read_bytes() == onnx_file(model)  # the same bytes again
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    loaded = onnx.load(path)
    assert [(opset.domain, opset.version) for opset in loaded.opset_import] == [("", 17)]
    assert {node.domain for node in loaded.graph.node} == {""}
    assert {"RoiAlign", "NonMaxSuppression", "TopK", "Conv"} <= {node.op_type for node in loaded.graph.node}
    assert {tensor.name for tensor in loaded.graph.initializer} >= set(params)
    assert {"c2", "p2", "proposals", "class_logits"} <= {node.output[0] for node in loaded.graph.node}
    facts = session(path.read_bytes()).get_modelmeta().custom_metadata_map
    assert tuple(json.loads(facts["class_names"])) == names and facts["part"] == "whole"
    assert type(BASE).from_dict(json.loads(facts["config"])) == BASE and "keypoint_names" not in facts
    names = {"keypoint_names": ("nose", "tail", "ear"), "keypoint_skeleton": (1, 2, 1, 3)}
    facts = session(onnx_file(MaskRCNN(BASE.replace(**KEYPOINTS, **names)))).get_modelmeta().custom_metadata_map
    assert json.loads(facts["keypoint_names"]) == ["nose", "tail", "ear"]
    assert json.loads(facts["keypoint_skeleton"]) == [[0, 1], [0, 2]]


def test_float64_becomes_float32(params):
    model = MaskRCNN(BASE, {name: p.astype(np.float64) for name, p in params.items()})
    assert onnx_file(model) == onnx_file(MaskRCNN(BASE, params))


def test_what_is_refused(params):
    with pytest.raises(UserError, match="unknown part 'half'; expected one of whole, first_stage"):
        onnx_file(MaskRCNN(BASE, params), part="half")
    with pytest.raises(UserError, match="the network has no part 'keypoint_head': keypoints is 0"):
        onnx_file(MaskRCNN(BASE, params), part="keypoint_head")
    with pytest.raises(UserError, match="the network has no part 'mask_head': mask_branch is False"):
        onnx_file(MaskRCNN(BASE.replace(mask_branch=False)), part="mask_head")
    model = MaskRCNN(BASE, dict(params))
    model.params["keypoint_head.conv1.w"] = np.zeros(3, np.float32)
    with pytest.raises(UserError, match=r"no place in the ONNX graph: keypoint_head\.conv1\.w$"):
        onnx_file(model)
    with pytest.raises(UserError, match="roi_reduce is 'max'"):
        onnx_file(MaskRCNN(BASE.replace(roi_reduce="max", roi_sampling_ratio=0), params))
