"""Weights of networks that read one map: detectron2's C4, torchvision's VGG-16 and ResNets."""

import numpy as np
import pytest
import safetensors.numpy
from detectron2_layout import backbone_shapes

from mrcnn_np import presets
from mrcnn_np.errors import WeightFileError
from mrcnn_np.network import spec
from mrcnn_np.params import shapes
from mrcnn_np.weights import load_weights
from mrcnn_np.weights.detectron2 import from_detectron2
from mrcnn_np.weights.imagenet import from_imagenet
from mrcnn_np.weights.torchvision import VGG16
from mrcnn_np.weights.transfer import transfer


def c4_shapes(classes=80, *, masks=True):
    """mask_rcnn_R_50_C4 and faster_rcnn_R_50_C4, written down from their structure; classes without the background."""
    found = {}
    for name, shape in backbone_shapes(50, prefix="backbone.").items():
        found[name.replace("backbone.res5.", "roi_heads.res5.")] = shape
    layers = {
        "proposal_generator.rpn_head.conv": (1024, 1024, 3, 3),
        "proposal_generator.rpn_head.objectness_logits": (15, 1024, 1, 1),
        "proposal_generator.rpn_head.anchor_deltas": (60, 1024, 1, 1),
        "roi_heads.box_predictor.cls_score": (classes + 1, 2048),
        "roi_heads.box_predictor.bbox_pred": (4 * classes, 2048),
    }
    if masks:
        layers |= {
            "roi_heads.mask_head.deconv": (2048, 256, 2, 2),
            "roi_heads.mask_head.predictor": (classes, 256, 1, 1),
        }
    for name, shape in layers.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": (shape[1 if name.endswith("deconv") else 0],)}
    return found


@pytest.mark.parametrize("masks", [True, False])
def test_every_tensor_of_detectron2s_c4_finds_its_place(masks):
    hollow = {name: np.broadcast_to(np.float16(1), shape) for name, shape in c4_shapes(masks=masks).items()}
    params, manifest, aside = from_detectron2(hollow)
    config = presets.detectron2_c4(mask_branch=masks)
    assert shapes(params) == shapes(spec(config))
    assert manifest.config() == config and aside == []
    kind = "Mask" if masks else "Faster"
    assert manifest.architecture == f"{kind} R-CNN, resnet50 without pyramid, 81 classes with background"


def test_detectron2_has_the_sizes_of_a_cell_before_its_ratios():
    """Anchor (size s, ratio r) is number 3 s + r there and 5 r + s here."""
    there = np.arange(15, dtype=np.float32)
    full = {name: np.broadcast_to(np.float16(1), shape) for name, shape in c4_shapes().items()}
    full["proposal_generator.rpn_head.objectness_logits.bias"] = there
    deltas = np.repeat(there, 4) + np.tile(np.float32([0, 0.25, 0.5, 0.75]), 15)
    full["proposal_generator.rpn_head.anchor_deltas.bias"] = deltas
    params, *_ = from_detectron2(full)
    here = params["rpn.objectness.b"].reshape(3, 5)
    assert all(here[r, s] == 3 * s + r for r in range(3) for s in range(5))
    deltas = params["rpn.deltas.b"].reshape(3, 5, 4)
    assert deltas[2, 1].tolist() == [5.25, 5.0, 5.75, 5.5]  # dx dy dw dh become dy dx dh dw
    full["proposal_generator.rpn_head.objectness_logits.bias"] = np.ones(16, np.float32)
    with pytest.raises(WeightFileError, match="16 outputs; expected those of 3 ratios"):
        from_detectron2(full)


def vgg_shapes():
    """torchvision's vgg16-397923af.pth."""
    widths = dict(zip(VGG16, [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6))
    found, c_in = {}, 3
    for place, width in widths.items():
        found |= {f"features.{place}.weight": (width, c_in, 3, 3), f"features.{place}.bias": (width,)}
        c_in = width
    for place, (out, there) in {0: (4096, 25088), 3: (4096, 4096), 6: (1000, 4096)}.items():
        found |= {f"classifier.{place}.weight": (out, there), f"classifier.{place}.bias": (out,)}
    return found


def test_vggs_classifier_becomes_the_box_head():
    tensors = {
        n: np.broadcast_to(np.float16(0), s) for n, s in vgg_shapes().items() if not n.startswith("classifier.0")
    }
    # few outputs, to save memory: channel c, row y, column x is number 49 c + 7 y + x there, 512 (7 y + x) + c here
    numbers = np.broadcast_to(np.arange(25088, dtype=np.float32), (2, 25088))
    params, manifest, aside = from_imagenet(tensors | {"classifier.0.weight": numbers})
    assert params["box_head.fc1.w"].shape == (25088, 2)
    for c, y, x in ((0, 0, 0), (5, 2, 3), (511, 6, 6)):
        assert params["box_head.fc1.w"][512 * (7 * y + x) + c, 1] == 49 * c + 7 * y + x
    assert sorted(aside) == ["classifier.6.bias", "classifier.6.weight"]
    config = manifest.config()
    assert (config.backbone, config.channel_order, config.pixel_scale) == ("vgg16", "rgb", 255.0)
    full = {name: s.shape for name, s in manifest.spec(config).items()}
    assert {n: s for n, s in shapes(params).items() if n != "box_head.fc1.w"}.items() <= full.items()
    assert full["box_head.fc1.w"] == (25088, 4096)


def test_a_smaller_head_takes_the_features_alone(tmp_path):
    path, rng = tmp_path / "vgg.safetensors", np.random.default_rng(0)
    tensors = {name: np.zeros(s, np.float32) for name, s in vgg_shapes().items() if name.startswith("features.")}
    tensors["features.0.bias"] += 3
    safetensors.numpy.save_file(tensors, path)
    config = presets.vgg16(box_head_channels=8, num_classes=3, channel_order="rgb")
    weights = load_weights(path, config, trust_config=True)
    start = transfer(weights, config, ("background", "a", "b"), rng, path)
    assert "backbone.conv1_1.b" in start.taken and "box_head.fc1.w" in start.drawn
    assert (start.params["backbone.conv1_1.b"] == 3).all()
