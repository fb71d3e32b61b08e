"""Backbone, pyramid and heads: shapes of each part and its gradient on its own."""

import numpy as np
import pytest
from gradcheck import check_gradients
from nets import small_config

from mrcnn_np import presets
from mrcnn_np.backbone import (
    ARCHITECTURES,
    Architecture,
    architecture,
    backbone,
    backbone_backward,
    backbone_spec,
    residual_block,
    residual_block_backward,
)
from mrcnn_np.errors import ConfigError
from mrcnn_np.fpn import fpn, fpn_backward, fpn_spec
from mrcnn_np.heads import box_head, box_head_backward, box_head_spec, mask_head, mask_head_backward, mask_head_spec
from mrcnn_np.network import initialise
from mrcnn_np.params import conv_spec, norm_spec, trainable
from mrcnn_np.rpn import rpn_head, rpn_head_backward, rpn_spec


def draw(spec, rng):
    """Random float64 parameters, variances positive."""
    return {
        name: rng.uniform(0.5, 1.5, s.shape)
        if name.endswith((".var", ".gamma"))
        else 0.3 * rng.standard_normal(s.shape)
        for name, s in spec.items()
    }


def with_params(forward, backward, params, names):
    """Make a part a function of its input and the named parameters, as ``check_gradients`` wants it."""

    def f(x, *values):
        y, cache = forward(x, params | dict(zip(names, values)))

        def back(dy):
            grads = {}
            dx = backward(dy, cache, grads)
            return (dx, *(grads[name] for name in names))

        return y, back

    return f, [params[name] for name in names]


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
@pytest.mark.parametrize("stride_in_1x1", [False, True])
@pytest.mark.parametrize(("stride", "projection"), [(1, False), (1, True), (2, True)])
def test_residual_block_gradients(kind, stride, stride_in_1x1, projection):
    rng = np.random.default_rng(0)
    groups = 2 if kind == "bottleneck" else 1
    arch = Architecture(kind, (1, 1, 1, 1), groups=groups)
    config = small_config(stride_in_1x1=stride_in_1x1, bn_mode="train")
    c_in, c_out, width = (6, 8, 4) if projection else (8, 8, 4)
    shapes = (
        [(3, c_in, width), (3, width, c_out)]
        if kind == "basic"
        else [(1, c_in, width), (3, 2, width), (1, width, c_out)]
    )
    spec = {}
    for i, (k, a, b) in enumerate(shapes, start=1):
        spec |= conv_spec(f"b.conv{i}", k, a, b, bias=False) | norm_spec(f"b.bn{i}", b)
    if projection:
        spec |= conv_spec("b.shortcut.conv", 1, c_in, c_out, bias=False) | norm_spec("b.shortcut.bn", c_out)
    params = draw(spec, rng)
    names = [n for n in params if not n.endswith((".mean", ".var"))]
    x = rng.standard_normal((2, 5, 6, c_in))
    for mode in ("frozen", "train"):
        c = config.replace(bn_mode=mode)
        f, values = with_params(
            lambda x, p, c=c: residual_block(x, p, "b", arch, c, stride=stride, training=True),
            residual_block_backward,
            params,
            names,
        )
        y = f(x, *values)[0]
        assert y.shape == (2, -(-5 // stride), -(-6 // stride), c_out)
        check_gradients(f, x, *values, rng=rng)
        if mode == "frozen":  # inference is the same function, without a cache
            inference, cache = residual_block(x, params, "b", arch, c, stride=stride)
            np.testing.assert_allclose(inference, y, rtol=1e-13, atol=1e-13)
            assert cache is None


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "tiny"])
def test_backbone_shapes(name):
    """C2..C5 at 1/4 .. 1/32 with the channels of the papers."""
    config = presets.torchvision(backbone=name)
    params = {k: np.zeros(s.shape, np.float32) for k, s in backbone_spec(config).items()}
    for k in params:
        if k.endswith(".var"):
            params[k] += 1
    features, _ = backbone(np.ones((1, 64, 96, 3), np.float32), params, config)
    channels = ARCHITECTURES[name].out_channels
    assert [f.shape for f in features] == [(1, 64 // s, 96 // s, c) for s, c in zip((4, 8, 16, 32), channels)]
    assert architecture(config).out_channels[-1] in (96, 512, 2048)


def test_blocks_and_widths_of_the_papers():
    assert ARCHITECTURES["resnet101"].blocks == (3, 4, 23, 3)
    assert ARCHITECTURES["resnet152"].blocks == (3, 8, 36, 3)
    spec = backbone_spec(presets.torchvision(backbone="resnext101_32x8d"))
    assert spec["backbone.c2.0.conv2.w"].shape == (3, 3, 8, 256)
    assert spec["backbone.c5.2.conv2.w"].shape == (3, 3, 64, 2048)
    assert "backbone.c2.0.shortcut.conv.w" not in backbone_spec(presets.torchvision(backbone="resnet18"))
    with pytest.raises(ConfigError, match="expected one of"):
        backbone_spec(presets.torchvision(backbone="vgg19"))


def test_backbone_gradient_of_the_image():
    config = small_config(bn_mode="frozen")
    rng = np.random.default_rng(0)
    params = draw(backbone_spec(config), rng)

    def f(images):
        features, cache = backbone(images, params, config, training=True)
        return features, lambda dy: backbone_backward(list(dy), cache, {})

    check_gradients(f, rng.standard_normal((1, 64, 32, 3)), rng=rng)


@pytest.mark.parametrize("changes", [{}, {"fpn_norm": True, "bn_mode": "frozen"}, {"fpn_norm": True}], ids=str)
def test_fpn_gradients_and_shapes(changes):
    config = small_config(**changes)
    rng = np.random.default_rng(0)
    params = draw(fpn_spec(config), rng)
    channels = architecture(config).out_channels
    features = [rng.standard_normal((2, 16 // 2**i, 24 // 2**i, c)) for i, c in enumerate(channels)]
    pyramid, _ = fpn(features, params, config)
    assert [p.shape for p in pyramid] == [(2, 16, 24, 8), (2, 8, 12, 8), (2, 4, 6, 8), (2, 2, 3, 8), (2, 1, 2, 8)]
    assert np.array_equal(pyramid[4], pyramid[3][:, ::2, ::2])
    frozen = config.replace(bn_mode="frozen")
    for one, other in zip(pyramid, fpn(features, params, frozen, training=True)[0]):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13)
    names = [n for n in params if trainable(n)]
    assert ("fpn.output5.b" in names) != config.fpn_norm == ("fpn.output5.bn.beta" in names)

    def f(c2, c3, c4, c5, *values):
        y, cache = fpn([c2, c3, c4, c5], params | dict(zip(names, values)), config, training=True)

        def back(dy):
            grads = {}
            return (*fpn_backward(list(dy), cache, grads), *(grads[n] for n in names))

        return y, back

    check_gradients(f, *features, *(params[n] for n in names), rng=rng)


def test_norms_of_the_pyramid_stand_before_the_sum():
    """Over features that are 0 a level is the shift of its norms: the lateral one's reaches all finer levels, too."""
    config = small_config(fpn_norm=True)
    params = {n: np.zeros(s.shape) for n, s in fpn_spec(config).items()}
    for level in (2, 3, 4, 5):
        params[f"fpn.lateral{level}.bn.beta"] -= 10.0**level  # no ReLU cuts it off
        params[f"fpn.output{level}.w"][1, 1] = np.eye(8)
        params[f"fpn.output{level}.bn.gamma"] += 1
        params[f"fpn.output{level}.bn.var"] += 1 - config.bn_eps
    zeros = [np.zeros((1, 8 // 2**i, 8 // 2**i, c)) for i, c in enumerate(architecture(config).out_channels)]
    pyramid, _ = fpn(zeros, params, config)
    for p, value in zip(pyramid, (-111100, -111000, -110000, -100000, -100000)):
        np.testing.assert_allclose(p, value, rtol=1e-14)


@pytest.mark.parametrize(("objectness", "convs"), [("sigmoid", 1), ("softmax", 1), ("sigmoid", 2)])
def test_rpn_head_shares_its_weights(objectness, convs):
    config = small_config(rpn_objectness=objectness, rpn_convs=convs)
    rng = np.random.default_rng(0)
    params = draw(rpn_spec(config), rng)
    for p in params.values():
        p += 0.3 * rng.standard_normal(p.shape)
    pyramid = [rng.standard_normal((2, 8 // 2**i or 1, 4 // 2**i or 1, 8)) for i in range(5)]
    logits, deltas, _ = rpn_head(pyramid, params, config)
    anchors = 3 * sum(p.shape[1] * p.shape[2] for p in pyramid)
    assert deltas.shape == (2, anchors, 4)
    assert logits.shape == ((2, anchors) if objectness == "sigmoid" else (2, anchors, 2))

    def f(*args):
        logits, deltas, cache = rpn_head(list(args[:5]), dict(zip(params, args[5:])), config, training=True)

        def back(dy):
            grads = {}
            return (*rpn_head_backward(dy[0], dy[1], cache, grads), *(grads[n] for n in params))

        return (logits, deltas), back

    check_gradients(f, *pyramid, *params.values(), rng=rng)


def test_rpn_order_is_row_column_anchor():
    """Anchor a of cell (i, j) reads channel a of that cell."""
    config = small_config()
    params = {k: np.zeros(s) for k, s in (("rpn.conv.b", 8), ("rpn.objectness.b", 3), ("rpn.deltas.b", 12))}
    params |= {
        "rpn.conv.w": np.zeros((3, 3, 8, 8)),
        "rpn.objectness.w": np.zeros((1, 1, 8, 3)),
        "rpn.deltas.w": np.zeros((1, 1, 8, 12)),
    }
    params["rpn.conv.w"][1, 1, 0, 0] = 1
    params["rpn.objectness.w"][0, 0, 0] = [1, 10, 100]
    pyramid = [np.zeros((1, 2, 2, 8))] * 5
    pyramid[0] = np.zeros((1, 2, 2, 8))
    pyramid[0][0, :, :, 0] = [[1, 2], [3, 4]]
    logits, _, _ = rpn_head(pyramid, params, config)
    assert logits[0, :12].tolist() == [1, 10, 100, 2, 20, 200, 3, 30, 300, 4, 40, 400]


KINDS = [("fc", False), ("conv", True), ("conv", False), ("conv_fc", False)]


@pytest.mark.parametrize(("kind", "bias"), KINDS)
@pytest.mark.parametrize("rois", [3, 0])
def test_box_head_gradients(kind, bias, rois):
    config = small_config(box_head=kind, box_head_convs=2, conv_bias=bias, bn_mode="frozen")
    rng = np.random.default_rng(0)
    params = draw(box_head_spec(config), rng)
    names = [n for n in params if not n.endswith((".mean", ".var"))]
    x = rng.standard_normal((rois, 7, 7, 8))

    def f(x, *values):
        logits, deltas, cache = box_head(x, params | dict(zip(names, values)), config, training=True)

        def back(dy):
            grads = {}
            return (box_head_backward(dy[0], dy[1], cache, grads), *(grads[n] for n in names))

        return (logits, deltas), back

    (logits, deltas), back = f(x, *(params[n] for n in names))
    assert logits.shape == (rois, 4) and deltas.shape == (rois, 4, 4)
    if rois:
        check_gradients(f, x, *(params[n] for n in names), rng=rng)
    else:
        assert back((logits, deltas))[0].shape == (0, 7, 7, 8)


def test_conv_box_head_is_a_fully_connected_layer():
    """A 7x7 convolution on a 7x7 map and a fully connected layer with the same numbers agree."""
    conv = small_config(box_head="conv", conv_bias=True, bn_mode="frozen", bn_eps=0.0)
    full = small_config(box_head="fc")
    rng = np.random.default_rng(0)
    params = {k: v for k, v in initialise(conv, rng, np.float64).items() if k.startswith("box_head.")}
    same = {k: v for k, v in params.items() if k.startswith(("box_head.class", "box_head.deltas"))}
    for i in (1, 2):
        w = params[f"box_head.conv{i}.w"]
        same[f"box_head.fc{i}.w"], same[f"box_head.fc{i}.b"] = w.reshape(-1, w.shape[-1]), params[f"box_head.conv{i}.b"]
    x = rng.standard_normal((3, 7, 7, 8))
    for a, b in zip(box_head(x, params, conv)[:2], box_head(x, same, full)[:2]):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_box_head_of_convolutions_that_copy_is_a_fully_connected_layer():
    """3x3 convolutions that return what they read leave the fully connected layer; it reads rows, columns, channels."""
    config = small_config(box_head="conv_fc", box_head_convs=3, bn_eps=0.0)
    rng = np.random.default_rng(0)
    params = initialise(config, rng, np.float64)
    for i in (1, 2, 3):
        params[f"box_head.conv{i}.w"][...] = 0
        params[f"box_head.conv{i}.w"][1, 1] = np.eye(8)
    x = rng.uniform(0, 1, (3, 7, 7, 8))
    hidden = np.maximum(x.reshape(3, -1) @ params["box_head.fc1.w"], 0)
    logits, _, _ = box_head(x, params, config)
    np.testing.assert_allclose(logits, hidden @ params["box_head.class.w"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("norm", "bias"), [(False, False), (True, True), (True, False)])
@pytest.mark.parametrize("rois", [2, 0])
def test_mask_head_gradients(norm, bias, rois):
    config = small_config(mask_head_norm=norm, conv_bias=bias, mask_head_convs=2, bn_mode="frozen")
    assert ("mask_head.conv1.b" in mask_head_spec(config)) == (bias or not norm)
    rng = np.random.default_rng(0)
    # No bias is 0: where all inputs of a unit are cut off, it would sit on the kink of its ReLU
    params = draw(mask_head_spec(config), rng)
    names = [n for n in params if not n.endswith((".mean", ".var"))]
    f, values = with_params(lambda x, p: mask_head(x, p, config, training=True), mask_head_backward, params, names)
    x = rng.standard_normal((rois, 14, 14, 8))
    logits, back = f(x, *values)
    assert logits.shape == (rois, 28, 28, 4)
    if rois:
        check_gradients(f, x, *values, rng=rng)
    else:
        assert back(logits)[0].shape == (0, 14, 14, 8)
