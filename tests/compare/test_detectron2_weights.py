"""A detectron2 file through ``load_weights``, against the same tensors used by PyTorch as detectron2 uses them.

detectron2 itself is not needed: its layers are assembled here from the functions it calls, under its own names.
"""

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")

from agrees_with_torch import nhwc  # noqa: E402
from detectron2_layout import BLOCKS, backbone_shapes, draw, rcnn_shapes  # noqa: E402
from torch.nn import functional  # noqa: E402

import kernels  # noqa: E402
from mrcnn_np import MaskRCNN, presets  # noqa: E402
from mrcnn_np.backbone import backbone  # noqa: E402
from mrcnn_np.fpn import fpn  # noqa: E402
from mrcnn_np.heads import box_head, mask_head  # noqa: E402
from mrcnn_np.rpn import rpn_head  # noqa: E402
from mrcnn_np.weights import load_weights  # noqa: E402
from mrcnn_np.weights.detectron2 import from_detectron2  # noqa: E402

BOUND = 1e-13  # relative, in float64; measured: 7e-16 (C2) to 5e-15 (deltas)


class Theirs:
    """The forward pass of detectron2's R-CNN with FPN on tensors (N, C, H, W)."""

    def __init__(self, tensors, *, depth, groups=1, stride_in_1x1):
        self.tensors = {name: torch.from_numpy(a) for name, a in tensors.items()}
        self.depth, self.groups, self.stride_in_1x1 = depth, groups, stride_in_1x1

    def conv(self, x, name, **options):
        """Conv2d; with FrozenBatchNorm2d where there is one: x * scale + shift, folded beforehand."""
        t = self.tensors
        y = functional.conv2d(x, t[f"{name}.weight"], t.get(f"{name}.bias"), **options)
        if f"{name}.norm.weight" in t:
            weight, bias, mean, var = (
                t[f"{name}.norm.{s}"][:, None, None] for s in ("weight", "bias", "running_mean", "running_var")
            )
            scale = weight * (var + 1e-5).rsqrt()
            y = y * scale + (bias - mean * scale)
        return y

    def linear(self, x, name):
        return functional.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def bottleneck(self, x, name, stride):
        s1, s3 = (stride, 1) if self.stride_in_1x1 else (1, stride)
        y = self.conv(x, f"{name}.conv1", stride=s1).relu()
        y = self.conv(y, f"{name}.conv2", stride=s3, padding=1, groups=self.groups).relu()
        y = self.conv(y, f"{name}.conv3")
        return (
            y + (self.conv(x, f"{name}.shortcut", stride=stride) if f"{name}.shortcut.weight" in self.tensors else x)
        ).relu()

    def bottom_up(self, x, prefix="backbone.bottom_up."):
        x = self.conv(x, f"{prefix}stem.conv1", stride=2, padding=3).relu()
        x = functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        features = []
        for stage, blocks in zip((2, 3, 4, 5), BLOCKS[self.depth]):
            for i in range(blocks):
                x = self.bottleneck(x, f"{prefix}res{stage}.{i}", 2 if i == 0 and stage > 2 else 1)
            features.append(x)
        return features

    def pyramid(self, features):
        merged, levels = None, []
        for stage, c in zip((5, 4, 3, 2), features[::-1]):
            lateral = self.conv(c, f"backbone.fpn_lateral{stage}")
            merged = lateral if merged is None else lateral + functional.interpolate(merged, scale_factor=2.0)
            levels.insert(0, self.conv(merged, f"backbone.fpn_output{stage}", padding=1))
        return [*levels, functional.max_pool2d(levels[-1], kernel_size=1, stride=2)]

    def rpn(self, pyramid):
        """Logits (N, A) and deltas (N, A, 4), dx dy dw dh, over all levels."""
        head, logits, deltas = "proposal_generator.rpn_head", [], []
        for p in pyramid:
            t = self.conv(p, f"{head}.conv", padding=1).relu()
            logits.append(self.conv(t, f"{head}.objectness_logits").permute(0, 2, 3, 1).flatten(1))
            d = self.conv(t, f"{head}.anchor_deltas")
            deltas.append(d.view(d.shape[0], -1, 4, *d.shape[-2:]).permute(0, 3, 4, 1, 2).flatten(1, -2))
        return torch.cat(logits, 1), torch.cat(deltas, 1)

    def box(self, x):
        x = self.linear(x.flatten(1), "roi_heads.box_head.fc1").relu()
        x = self.linear(x, "roi_heads.box_head.fc2").relu()
        return self.linear(x, "roi_heads.box_predictor.cls_score"), self.linear(x, "roi_heads.box_predictor.bbox_pred")

    def mask(self, x):
        for i in (1, 2, 3, 4):
            x = self.conv(x, f"roi_heads.mask_head.mask_fcn{i}", padding=1).relu()
        deconv = "roi_heads.mask_head.deconv"
        x = functional.conv_transpose2d(x, self.tensors[f"{deconv}.weight"], self.tensors[f"{deconv}.bias"], stride=2)
        return self.conv(x.relu(), "roi_heads.mask_head.predictor")


def check(name, ours, theirs):
    theirs = theirs.numpy()
    assert ours.shape == theirs.shape, name
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert error < BOUND, f"{name}: {error}"


@pytest.fixture(scope="module")
def tensors():
    return draw(rcnn_shapes(50, classes=3), np.float64)


@pytest.fixture(scope="module")
def loaded(tensors, tmp_path_factory):
    """What ``load_weights`` makes of a .pkl of the model zoo's kind."""
    path = tmp_path_factory.mktemp("detectron2") / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": tensors, "__author__": "test"}))
    return load_weights(path)


@pytest.fixture
def image():
    return np.random.default_rng(1).standard_normal((1, 64, 96, 3))


def test_backbone_pyramid_and_proposal_head(tensors, loaded, image):
    config, params = loaded.manifest.config(), loaded.params
    assert config == presets.detectron2(num_classes=4) and config.stride_in_1x1
    theirs = Theirs(tensors, depth=50, stride_in_1x1=True)
    x = torch.from_numpy(image).permute(0, 3, 1, 2)
    with torch.no_grad(), kernels.use("numpy"):
        features, their_features = backbone(image, params, config)[0], theirs.bottom_up(x)
        pyramid, their_pyramid = fpn(features, params, config)[0], theirs.pyramid(their_features)
        logits, deltas, _ = rpn_head(pyramid, params, config)
        their_logits, their_deltas = theirs.rpn(their_pyramid)
    for level, (c, theirs_c) in enumerate(zip(features, their_features), start=2):
        check(f"C{level}", c, nhwc(theirs_c))
    for level, (p, theirs_p) in enumerate(zip(pyramid, their_pyramid), start=2):
        check(f"P{level}", p, nhwc(theirs_p))
    check("logits", logits, their_logits)
    check("deltas", deltas, their_deltas[..., [1, 0, 3, 2]])
    # The stride matters: on the other convolution C3 is another
    with kernels.use("numpy"):
        c3 = backbone(image, params, config.replace(stride_in_1x1=False))[0][1]
    assert np.abs(c3 - features[1]).max() > 0.1 * np.abs(c3).max()


def test_heads(tensors, loaded):
    """Their background is the last class, ours the first; it has no deltas and no mask there."""
    config, params = loaded.manifest.config(), loaded.params
    theirs, rng = Theirs(tensors, depth=50, stride_in_1x1=True), np.random.default_rng(2)
    rois, mask_rois = rng.standard_normal((5, 7, 7, 256)), rng.standard_normal((2, 14, 14, 256))
    with torch.no_grad(), kernels.use("numpy"):
        scores, their_deltas = theirs.box(torch.from_numpy(rois).permute(0, 3, 1, 2).contiguous())
        masks = theirs.mask(torch.from_numpy(mask_rois).permute(0, 3, 1, 2))
        class_logits, deltas, _ = box_head(rois, params, config)
        mask_logits, _ = mask_head(mask_rois, params, config)
    check("scores", class_logits, scores[:, [3, 0, 1, 2]])
    check("deltas", deltas[:, 1:], their_deltas.view(5, 3, 4)[..., [1, 0, 3, 2]])
    check("masks", mask_logits[..., 1:], nhwc(masks))
    assert not deltas[:, 0].any() and not mask_logits[..., 0].any()


def test_a_resnext_strides_its_3x3(image):
    """The groups of X101-32x8d on a network with as many blocks as R50 has: 32 groups of 4."""
    tensors = draw(backbone_shapes(50, groups=32, width=128, prefix=""), np.float64)
    params, manifest, _ = from_detectron2(tensors)
    config = manifest.config()
    assert (config.backbone, config.stride_in_1x1) == ("resnext50_32x4d", False)
    theirs = Theirs(tensors, depth=50, groups=32, stride_in_1x1=False)
    with torch.no_grad(), kernels.use("numpy"):
        features = backbone(image, params, config)[0]
        expected = theirs.bottom_up(torch.from_numpy(image).permute(0, 3, 1, 2), prefix="")
    for level, (c, theirs_c) in enumerate(zip(features, expected), start=2):
        check(f"C{level}", c, nhwc(theirs_c))


def test_a_network_from_a_file_detects(loaded):
    config = loaded.manifest.config(image_min_size=64, image_max_size=96, proposals_post_nms_test=20)
    picture = np.random.default_rng(3).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    with kernels.use("numpy"):
        (found,) = MaskRCNN(config, loaded.params).detect([picture])
    assert len(found.boxes) > 0 and set(found.class_ids) <= {1, 2, 3}
