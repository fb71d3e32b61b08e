"""Renaming and permuting torchvision's tensors; ``tests/compare`` runs both networks with the converted weights."""

import numpy as np
import pytest

from mrcnn_np.errors import CheckpointError
from mrcnn_np.weights.torchvision import from_torchvision, to_torchvision


def test_names_old_and_new():
    renamed = {
        "backbone.body.conv1.weight": "backbone.stem.conv.w",
        "backbone.body.layer1.0.bn2.running_var": "backbone.c2.0.bn2.var",
        "backbone.body.layer4.0.downsample.0.weight": "backbone.c5.0.shortcut.conv.w",
        "backbone.body.layer4.0.downsample.1.bias": "backbone.c5.0.shortcut.bn.beta",
        "backbone.fpn.inner_blocks.0.0.bias": "fpn.lateral2.b",
        "backbone.fpn.inner_blocks.3.bias": "fpn.lateral5.b",
        "backbone.fpn.layer_blocks.2.0.weight": "fpn.output4.w",
        "rpn.head.conv.0.0.bias": "rpn.conv.b",
        "rpn.head.conv.weight": "rpn.conv.w",
        "roi_heads.mask_head.mask_fcn1.bias": "mask_head.conv1.b",
        "roi_heads.mask_head.3.0.weight": "mask_head.conv4.w",
        # the second version
        "backbone.fpn.inner_blocks.0.1.weight": "fpn.lateral2.bn.gamma",
        "backbone.fpn.layer_blocks.3.1.running_mean": "fpn.output5.bn.mean",
        "rpn.head.conv.1.0.weight": "rpn.conv2.w",
        "roi_heads.box_head.0.0.weight": "box_head.conv1.w",
        "roi_heads.box_head.3.1.running_var": "box_head.bn4.var",
        "roi_heads.box_head.5.bias": "box_head.fc1.b",
        "roi_heads.mask_head.1.1.bias": "mask_head.bn2.beta",
    }
    for old, new in renamed.items():
        shape = (2, 3, 1, 1) if new.endswith(".w") else (2,)
        assert list(from_torchvision({old: np.zeros(shape)})) == [new]


def test_layouts():
    conv = np.arange(24.0).reshape(2, 3, 2, 2)  # (out, in, kh, kw)
    (w,) = from_torchvision({"rpn.head.cls_logits.weight": conv}).values()
    assert w.shape == (2, 2, 3, 2) and w[0, 1, 2, 1] == conv[1, 2, 0, 1]
    (w,) = from_torchvision({"roi_heads.mask_predictor.conv5_mask.weight": conv}).values()  # (in, out, kh, kw)
    assert w.shape == (2, 2, 2, 3) and w[0, 1, 1, 2] == conv[1, 2, 0, 1]
    fc = np.arange(36.0).reshape(2, 18)  # (out, channels rows columns): 2 channels of 3 x 3
    (w,) = from_torchvision({"roi_heads.box_head.fc6.weight": fc}, channels=2).values()
    assert w.shape == (18, 2) and w[(1 * 3 + 2) * 2 + 1, 0] == fc[0, 1 * 9 + 1 * 3 + 2]
    (b,) = from_torchvision({"roi_heads.box_predictor.bbox_pred.bias": np.arange(8)}).values()
    assert b.tolist() == [1, 0, 3, 2, 5, 4, 7, 6]


def test_there_and_back():
    rng = np.random.default_rng(0)
    shapes = {
        "backbone.body.bn1.num_batches_tracked": (),
        "backbone.body.bn1.weight": (5,),
        "rpn.head.bbox_pred.weight": (12, 4, 1, 1),
        "roi_heads.box_head.fc6.weight": (3, 18),
        "roi_heads.mask_predictor.conv5_mask.weight": (4, 3, 2, 2),
    }
    state = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    back = to_torchvision(from_torchvision(state, channels=2), shapes, channels=2)
    assert back.pop("backbone.body.bn1.num_batches_tracked") == 0
    for name, a in back.items():
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, state[name])


def test_two_tensors_for_one_place():
    """A box head with two fully connected layers, and old names beside new ones."""
    for first, second in (
        ("roi_heads.box_head.5.bias", "roi_heads.box_head.7.bias"),
        ("rpn.head.conv.bias", "rpn.head.conv.0.0.bias"),
    ):
        with pytest.raises(CheckpointError, match=f"{second}' is the second tensor for"):
            from_torchvision({first: np.zeros(3), second: np.zeros(3)})


@pytest.mark.parametrize(
    "name",
    [
        "roi_heads.box_head.0.2.weight",
        "classifier.weight",
        "backbone.body.bn1.scale",
        "weight",
    ],
)
def test_a_foreign_tensor_is_named(name):
    with pytest.raises(CheckpointError, match=name):
        from_torchvision({name: np.zeros(3)})
