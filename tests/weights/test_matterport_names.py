"""Our names of layers and matterport's, and the one tensor whose layout differs."""

import numpy as np
import pytest

from mrcnn_np.config import presets
from mrcnn_np.network import initialise, spec
from mrcnn_np.weights.matterport import from_matterport, layer_name, our_layer, to_matterport

# from the summary that matterport's model prints
NAMES = [
    ("backbone.stem.conv", "conv1"),
    ("backbone.stem.bn", "bn_conv1"),
    ("backbone.c2.0.conv1", "res2a_branch2a"),
    ("backbone.c2.0.bn1", "bn2a_branch2a"),
    ("backbone.c2.0.shortcut.conv", "res2a_branch1"),
    ("backbone.c2.0.shortcut.bn", "bn2a_branch1"),
    ("backbone.c4.22.conv3", "res4w_branch2c"),
    ("backbone.c5.2.bn2", "bn5c_branch2b"),
    ("fpn.lateral5", "fpn_c5p5"),
    ("fpn.lateral2", "fpn_c2p2"),
    ("fpn.output5", "fpn_p5"),
    ("rpn.conv", "rpn_conv_shared"),
    ("rpn.objectness", "rpn_class_raw"),
    ("rpn.deltas", "rpn_bbox_pred"),
    ("box_head.conv1", "mrcnn_class_conv1"),
    ("box_head.bn2", "mrcnn_class_bn2"),
    ("box_head.class", "mrcnn_class_logits"),
    ("box_head.deltas", "mrcnn_bbox_fc"),
    ("mask_head.conv4", "mrcnn_mask_conv4"),
    ("mask_head.bn1", "mrcnn_mask_bn1"),
    ("mask_head.deconv", "mrcnn_mask_deconv"),
    ("mask_head.logits", "mrcnn_mask"),
]


@pytest.mark.parametrize("ours, theirs", NAMES)
def test_names(ours, theirs):
    assert layer_name(ours) == theirs and our_layer(theirs) == ours


def test_every_layer_has_a_name_of_its_own():
    for backbone in ("resnet50", "resnet101"):
        layers = {name.rpartition(".")[0] for name in spec(presets.matterport(backbone=backbone))}
        theirs = {layer: layer_name(layer) for layer in layers}
        assert len(set(theirs.values())) == len(layers)
        assert {layer: our_layer(name) for layer, name in theirs.items()} == {layer: layer for layer in layers}
    with pytest.raises(ValueError, match=r"no layer 'box_head.fc1'"):
        layer_name("box_head.fc1")
    assert our_layer("activation_3") is None


def test_newer_names_of_the_backbone():
    """keras-applications counts blocks and calls the shortcut 0."""
    pairs = {"conv1_conv": "backbone.stem.conv", "conv2_block1_0_conv": "backbone.c2.0.shortcut.conv"}
    pairs |= {"conv4_block23_3_bn": "backbone.c4.22.bn3", "conv1_bn": "backbone.stem.bn"}
    assert {theirs: our_layer(theirs) for theirs in pairs} == pairs


def test_conversion_is_a_renaming_but_for_the_transposed_convolution():
    config = presets.matterport(num_classes=5, fpn_channels=16, rpn_channels=24, mask_head_channels=8)
    params = {name: p for name, p in initialise(config, np.random.default_rng(0)).items() if "backbone.c" not in name}
    theirs = to_matterport(params)
    kernel = theirs["mrcnn_mask_deconv/kernel"]
    for a, b, i, o in [(0, 1, 3, 5), (1, 0, 0, 7)]:
        assert kernel[a, b, o, i] == params["mask_head.deconv.w"][a, b, i, o]
    np.testing.assert_array_equal(theirs["mrcnn_class_conv1/kernel"], params["box_head.conv1.w"])
    assert theirs["bn_conv1/moving_variance"][3] == params["backbone.stem.bn.var"][3]
    back = from_matterport(theirs)
    assert set(back) == set(params)
    for name, p in params.items():
        np.testing.assert_array_equal(back[name], p)
