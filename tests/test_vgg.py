"""VGG: its size, its layers beside plain loops, the way back, and what freezing leaves out."""

import naive
import numpy as np
import pytest

from mrcnn_np import presets
from mrcnn_np.backbone import backbone, backbone_backward
from mrcnn_np.network import initialise, spec
from mrcnn_np.params import count
from mrcnn_np.training.freezing import frozen_patterns, frozen_stages
from mrcnn_np.vgg import vgg, vgg_backward, vgg_layers

TINY = presets.vgg16(backbone="tiny_vgg", box_head_channels=8, frozen=())
PAPER = presets.vgg16()


def test_the_paper_counts():
    """Simonyan and Zisserman's configuration D, and the head that Faster R-CNN makes of its fc6 and fc7."""
    shapes = spec(PAPER)
    assert count(shapes, "backbone.") == 14_714_688
    assert [len(stage) for stage in vgg_layers(PAPER)] == [2, 2, 3, 3, 3]
    assert [stage[-1][2] for stage in vgg_layers(PAPER)] == [64, 128, 256, 512, 512]
    assert shapes["box_head.fc1.w"].shape == (25088, 4096) and shapes["box_head.fc2.w"].shape == (4096, 4096)
    # nine anchors: background and object, and four deltas, for each
    assert shapes["rpn.objectness.w"].shape == (1, 1, 512, 18) and shapes["rpn.deltas.w"].shape == (1, 1, 512, 36)
    assert not any(name.startswith(("fpn.", "mask_head.")) for name in shapes)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_every_layer_is_a_convolution_and_a_relu(backend):
    import kernels

    rng = np.random.default_rng(0)
    params = initialise(TINY, rng, np.float64)
    images, seen = rng.standard_normal((1, 32, 16, 3)), {}
    with kernels.use(backend):
        found, _ = vgg(images, params, TINY, observe=lambda name, x: seen.update({name: x}))
    x = images
    for number, stage in enumerate(vgg_layers(TINY)):
        if number:
            n, rows, columns, channels = x.shape
            x = x.reshape(n, rows // 2, 2, columns // 2, 2, channels).max(axis=(2, 4))
        for name, *_ in stage:
            weight, bias = params[f"backbone.{name}.w"], params[f"backbone.{name}.b"]
            x = np.maximum(naive.conv2d(x, weight, bias, padding=((1, 1), (1, 1))), 0)
            np.testing.assert_allclose(seen[name], x, rtol=0, atol=1e-12, err_msg=name)
    assert found.shape == (1, 2, 1, 64)
    np.testing.assert_array_equal(found, seen["conv5_3"])


def test_backward_returns_the_gradient_of_the_images_and_of_every_tensor():
    rng = np.random.default_rng(1)
    params = {name: p for name, p in initialise(TINY, rng, np.float64).items() if name.startswith("backbone.")}
    for p in params.values():
        p += 0.05 * rng.standard_normal(p.shape)
    images = rng.standard_normal((2, 32, 32, 3))
    y, cache = vgg(images, params, TINY, training=True)
    dy, grads = rng.standard_normal(y.shape), {}
    tensors = {"images": images, **params}
    analytic = grads | {"images": vgg_backward(dy, cache, grads)} | grads
    assert set(analytic) == set(tensors)
    for name, p in tensors.items():
        direction = rng.standard_normal(p.shape)
        ends = []
        for step in (1e-6, -1e-6):
            p += step * direction
            ends.append((vgg(images, params, TINY)[0] * dy).sum())
            p -= step * direction
        numeric = (ends[0] - ends[1]) / 2e-6
        assert abs(numeric - (analytic[name] * direction).sum()) < 1e-6 * max(abs(numeric), 1), name


def test_the_first_two_stages_are_frozen_as_in_faster_rcnn():
    frozen = TINY.replace(frozen=frozen_patterns("conv1,conv2"))
    assert frozen.frozen == PAPER.frozen
    params = initialise(frozen, np.random.default_rng(2))
    assert [frozen_stages(params, c) for c in (TINY, frozen, TINY.replace(frozen=("backbone.*",)))] == [0, 2, 5]
    images = np.random.default_rng(3).standard_normal((1, 32, 32, 3)).astype(np.float32)
    (features,), cache = backbone(images, params, frozen, training=True)
    grads: dict[str, np.ndarray] = {}
    assert backbone_backward([np.ones_like(features)], cache, grads, need_dx=False) is None
    assert {name.split(".")[1][:5] for name in grads} == {"conv3", "conv4", "conv5"}
    np.testing.assert_array_equal(features, backbone(images, params, TINY)[0][0])


def test_without_images_there_are_no_maps():
    params = initialise(TINY, np.random.default_rng(4))
    y, cache = vgg(np.zeros((0, 32, 32, 3), np.float32), params, TINY, training=True)
    assert y.shape == (0, 2, 2, 64)
    assert vgg_backward(y, cache, {}).shape == (0, 32, 32, 3)
