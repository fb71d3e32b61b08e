"""Names and shapes of detectron2's model-zoo files, written down from their structure and not from our reader."""

import numpy as np

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def norm(name, c):
    return {f"{name}.norm.{s}": (c,) for s in ("weight", "bias", "running_mean", "running_var")}


def backbone_shapes(depth=50, *, groups=1, width=64, prefix="backbone.bottom_up."):
    """``width`` is that of C2's inner convolutions: 64, and 256 for 32x8d."""
    shapes = {f"{prefix}stem.conv1.weight": (64, 3, 7, 7), **norm(f"{prefix}stem.conv1", 64)}
    c_in = 64
    for stage, blocks in zip((2, 3, 4, 5), BLOCKS[depth]):
        inner, c_out = width * 2 ** (stage - 2), 256 * 2 ** (stage - 2)
        for i in range(blocks):
            name = f"{prefix}res{stage}.{i}"
            if i == 0:
                shapes |= {f"{name}.shortcut.weight": (c_out, c_in, 1, 1), **norm(f"{name}.shortcut", c_out)}
            shapes |= {f"{name}.conv1.weight": (inner, c_in, 1, 1), **norm(f"{name}.conv1", inner)}
            shapes |= {f"{name}.conv2.weight": (inner, inner // groups, 3, 3), **norm(f"{name}.conv2", inner)}
            shapes |= {f"{name}.conv3.weight": (c_out, inner, 1, 1), **norm(f"{name}.conv3", c_out)}
            c_in = c_out
    return shapes


def rcnn_shapes(depth=50, *, classes=80, groups=1, width=64, keypoints=0):
    """mask_rcnn_R_50_FPN and its relatives; ``classes`` without the background; keypoint_rcnn_R_50_FPN has no masks."""
    shapes = backbone_shapes(depth, groups=groups, width=width)

    def layer(name, *shape, bias=None):
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = (shape[0] if bias is None else bias,)

    for stage in (2, 3, 4, 5):
        layer(f"backbone.fpn_lateral{stage}", 256, 64 * 2**stage, 1, 1)
        layer(f"backbone.fpn_output{stage}", 256, 256, 3, 3)
    layer("proposal_generator.rpn_head.conv", 256, 256, 3, 3)
    layer("proposal_generator.rpn_head.objectness_logits", 3, 256, 1, 1)
    layer("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1, 1)
    layer("roi_heads.box_head.fc1", 1024, 12544)
    layer("roi_heads.box_head.fc2", 1024, 1024)
    layer("roi_heads.box_predictor.cls_score", classes + 1, 1024)
    layer("roi_heads.box_predictor.bbox_pred", 4 * classes, 1024)
    if keypoints:
        for i in range(1, 9):
            layer(f"roi_heads.keypoint_head.conv_fcn{i}", 512, 256 if i == 1 else 512, 3, 3)
        layer("roi_heads.keypoint_head.score_lowres", 512, keypoints, 4, 4, bias=keypoints)
        return shapes
    for i in (1, 2, 3, 4):
        layer(f"roi_heads.mask_head.mask_fcn{i}", 256, 256, 3, 3)
    layer("roi_heads.mask_head.deconv", 256, 256, 2, 2)
    layer("roi_heads.mask_head.predictor", classes, 256, 1, 1)
    return shapes


def with_norms(shapes, kind="GN", convs=4):
    """mask_rcnn_R_50_FPN_3x_gn: norms for biases in pyramid and mask head; ``convs`` and one fully connected layer."""
    head, found = "roi_heads.box_head", {}
    shapes = shapes | {f"{head}.conv{i}.weight": (256, 256, 3, 3) for i in range(1, convs + 1)}
    for name, shape in shapes.items():
        layer, _, suffix = name.rpartition(".")
        normed = "fpn_" in layer or "mask_fcn" in layer or layer.startswith(f"{head}.conv")
        if layer == f"{head}.fc2" or (normed and suffix == "bias"):
            continue
        found[name] = shape
        if normed:
            found |= norm(layer, shape[0])
    return {name: s for name, s in found.items() if kind == "BN" or "running" not in name}


def draw(shapes, dtype=np.float32, seed=0):
    """Numbers with which features keep their size from layer to layer."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("running_var"):
            a = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            a = rng.normal(1 if name.endswith("norm.weight") else 0, 0.2, shape)
        else:
            a = rng.standard_normal(shape, np.float32) * np.sqrt(1 / np.prod(shape[1:]))
        tensors[name] = a.astype(dtype)
    return tensors


def caffe2_name(name):
    """``res2.0.conv1.norm.running_var`` as a Caffe2 blob, ``res2_0_branch2a_bn_riv``."""
    layer, _, kind = name.rpartition(".")
    kind = {"weight": "w", "running_mean": "rm", "running_var": "riv", "bias": "b"}[kind]
    if layer.endswith(".norm"):
        layer, kind = layer.removesuffix(".norm"), "bn_" + kind.replace("w", "s")
    if layer == "stem.conv1":
        return f"res_conv1_{kind}" if kind.startswith("bn") else f"conv1_{kind}"
    stage, block, conv = layer.split(".")
    branch = "branch1" if conv == "shortcut" else f"branch2{'abc'[int(conv[-1]) - 1]}"
    return f"{stage}_{block}_{branch}_{kind}"
