"""torchvision's Mask R-CNN with our parameters, and every tensor of one of its runs under our names, in our layout.

What torchvision takes as an argument (sizes, thresholds, how many proposals) follows the config; everything else is as
torchvision does it. So a config that says otherwise, or a mistake of ours, shows as a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from ...backbone import map_channels, stages_on_the_image
from ...config import Config, presets
from ...errors import ConfigError
from ...weights.torchvision import ORDER, VGG16, to_torchvision
from ..trace import Trace
from . import norms
from .one_map import one_map_parts, use_roi_pool

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d")
BOX_HEADS = ("fc", "conv_fc")
#: what a network without pyramid can be put together from: VGG's features and fully connected layers, or a ResNet cut
#: behind C4 with C5 as the head
ONE_MAP = {"vgg16": "fc"} | dict.fromkeys(BACKBONES, "c5")
KEYPOINT_BINS = 14
#: what its model is made of, whatever its arguments; its parts can be put together over a narrower pyramid
STRUCTURE = {
    field: only
    for field, only in presets.built_in("torchvision").items()
    if field not in ("fpn_channels", "rpn_channels")
}


def check(config: Config) -> None:
    """Refuse a network that torchvision's Mask R-CNN, or one of its parts, cannot be: ``ConfigError``."""
    if config.neck == "none":
        _check_one_map(config)
        return
    if not config.mask_branch and not config.keypoints:
        raise ConfigError("mask_branch is False; with a pyramid torchvision's Mask R-CNN is compared, which has masks")
    if config.backbone not in BACKBONES:
        raise ConfigError(f"backbone is {config.backbone!r}; torchvision's Mask R-CNN has {', '.join(BACKBONES)}")
    if config.box_head not in BOX_HEADS:
        raise ConfigError(f"box_head is {config.box_head!r}; torchvision's Mask R-CNN has {' or '.join(BOX_HEADS)}")
    if config.rpn_channels != config.fpn_channels:
        raise ConfigError(
            f"rpn_channels is {config.rpn_channels} and fpn_channels {config.fpn_channels}; torchvision has one width"
        )
    if bool(config.keypoints) == config.mask_branch:
        raise ConfigError(
            f"keypoints is {config.keypoints} and mask_branch {config.mask_branch}; torchvision's models have either"
        )
    if config.keypoints and config.keypoint_pool_size != KEYPOINT_BINS:
        raise ConfigError(f"keypoint_pool_size is {config.keypoint_pool_size}; torchvision has {KEYPOINT_BINS} only")
    for field, only in STRUCTURE.items():
        if getattr(config, field) != only:
            raise ConfigError(f"{field} is {getattr(config, field)!r}; torchvision's Mask R-CNN has {only!r} only")


def _check_one_map(config: Config) -> None:
    head = ONE_MAP.get(config.backbone)
    if head is None:
        raise ConfigError(f"backbone is {config.backbone!r}; torchvision has {', '.join(ONE_MAP)}")
    if config.box_head != head:
        raise ConfigError(f"box_head is {config.box_head!r}; over one map of {config.backbone} it is {head!r} there")
    channels = map_channels(config)
    only: dict[str, Any] = {field: STRUCTURE[field] for field in ("rpn_objectness", "conv_bias")}
    only |= {"mask_head_norm": False, "rpn_channels": channels} | {"anchor_strides": (16,), "keypoints": 0}
    for field, value in only.items():
        if getattr(config, field) != value:
            raise ConfigError(f"{field} is {getattr(config, field)!r}; here torchvision's parts have {value!r} only")


def build(params: Mapping[str, np.ndarray], config: Config) -> Any:
    """Return torchvision's model in evaluation mode with these parameters, in their precision.

    Without a pyramid it is put together from its parts: ``FasterRCNN`` or ``MaskRCNN`` over one map, which
    ``MultiScaleRoIAlign(["0"])`` or ``RoIPool`` reads.

    Parameters
    ----------
    params : mapping of str to ndarray
        Ours; they are copied.
    config : Config

    Returns
    -------
    torchvision.models.detection.MaskRCNN, or KeypointRCNN

    Raises
    ------
    ConfigError
        The network is one that torchvision does not have.
    """
    import torch
    from torchvision.models import detection
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    check(config)
    arguments: dict[str, Any] = {
        "num_classes": config.num_classes,
        "min_size": config.image_min_size,
        "max_size": config.image_max_size,
        # it divides pixels by 255 before anything else
        "image_mean": [v * (config.pixel_scale / 255) for v in config.pixel_mean],
        "image_std": [v * (config.pixel_scale / 255) for v in config.pixel_std],
        "rpn_anchor_generator": AnchorGenerator(
            config.sizes_by_level, (config.anchor_ratios,) * len(config.sizes_by_level)
        ),
        "rpn_pre_nms_top_n_train": config.proposals_pre_nms_train,
        "rpn_pre_nms_top_n_test": config.proposals_pre_nms_test,
        "rpn_post_nms_top_n_train": config.proposals_post_nms_train,
        "rpn_post_nms_top_n_test": config.proposals_post_nms_test,
        "rpn_nms_thresh": config.proposals_nms_iou,
        "rpn_fg_iou_thresh": config.rpn_positive_iou,
        "rpn_bg_iou_thresh": config.rpn_negative_iou,
        "rpn_batch_size_per_image": config.rpn_anchors_per_image,
        "rpn_positive_fraction": config.rpn_positive_fraction,
        "box_score_thresh": config.detection_score_threshold,
        "box_nms_thresh": config.detection_nms_iou,
        "box_detections_per_img": config.detections_per_image,
        "box_fg_iou_thresh": config.roi_positive_iou,
        "box_bg_iou_thresh": config.roi_positive_iou,
        "box_batch_size_per_image": config.rois_per_image,
        "box_positive_fraction": config.roi_positive_fraction,
        "bbox_reg_weights": tuple(1 / std for std in config.head_box_std),
    }
    with torch.device("meta"):  # without numbers, which would only be replaced
        kind = detection.MaskRCNN if config.mask_branch else detection.FasterRCNN
        kind = detection.KeypointRCNN if config.keypoints else kind
        model = kind(**(_parts(config) if config.neck == "fpn" else one_map_parts(config, arguments)), **arguments)
    if config.neck == "none" and config.roi_method == "roi_pool":
        use_roi_pool(model.roi_heads)
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    state = to_torchvision(params, shapes, channels=map_channels(config))
    model.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()}, assign=True)
    norms.set_constants(model, config)
    return model.eval()


def _parts(config: Config) -> dict[str, Any]:
    """Assemble what ``maskrcnn_resnet50_fpn`` or its ``_v2`` puts together, over any backbone."""
    import torchvision.models
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
    from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
    from torchvision.models.detection.rpn import RPNHead
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

    norm = norms.norm_layer(config)
    body = torchvision.models.get_model(config.backbone, weights=None, norm_layer=norm)
    channels, side = config.fpn_channels, config.box_pool_size
    pyramid_norm = norm if config.fpn_norm else None
    backbone = _resnet_fpn_extractor(body, 5, norm_layer=pyramid_norm)
    if channels != backbone.out_channels:  # which is no argument
        inputs = [block[0].in_channels for block in backbone.fpn.inner_blocks]
        backbone.fpn = FeaturePyramidNetwork(inputs, channels, LastLevelMaxPool(), pyramid_norm)
        backbone.out_channels = channels
    parts = {
        "backbone": backbone,
        "rpn_head": RPNHead(channels, len(config.anchor_ratios), conv_depth=config.rpn_convs),
    }
    if config.keypoints:
        parts["keypoint_head"] = KeypointRCNNHeads(
            channels, [config.keypoint_head_channels] * config.keypoint_head_convs
        )
        parts["keypoint_predictor"] = KeypointRCNNPredictor(config.keypoint_head_channels, config.keypoints)
    else:
        mask_layers = [config.mask_head_channels] * config.mask_head_convs
        parts["mask_head"] = MaskRCNNHeads(channels, mask_layers, 1, norm_layer=norm if config.mask_head_norm else None)
    if config.box_head == "conv_fc":
        box_layers = [channels] * config.box_head_convs
        parts["box_head"] = FastRCNNConvFCHead(
            (channels, side, side), box_layers, [config.box_head_channels], norm_layer=norm
        )
    return parts


def trace(params: Mapping[str, np.ndarray], config: Config, image: np.ndarray, *, model: Any = None) -> Trace:
    """Detect in one image and keep every tensor; the names are those of ``trace.py``.

    Parameters
    ----------
    params : mapping of str to ndarray
        Their precision is that of the run.
    config : Config
    image : ndarray of shape (H, W, 3), uint8
        RGB.
    model : torchvision.models.detection.MaskRCNN, optional
        What ``build`` returned, if it is at hand.

    Returns
    -------
    dict of str to ndarray
    """
    import torch

    model = build(params, config) if model is None else model
    dtype = next(model.parameters()).dtype
    rpn, heads = model.rpn, model.roi_heads
    features = _feature_modules(model, config)
    modules = features | {
        "molded": model.transform, "rpn_head": rpn.head, "anchors": rpn.anchor_generator,
        "box_features": heads.box_roi_pool, "box": heads.box_predictor, "heads": heads,
    }  # fmt: skip
    if config.neck == "fpn":
        modules["fpn"] = model.backbone
    for branch in [*(["mask"] if config.mask_branch else []), *(["keypoint"] if config.keypoints else [])]:
        for kind, module in (("features", "roi_pool"), ("logits", "predictor")):
            modules[f"{branch}_{kind}"] = getattr(heads, f"{branch}_{module}")
    if config.box_head == "c5":  # what the heads read is what C5 puts out
        modules["box_features"] = heads.box_head.maps
        if config.mask_branch:
            modules["mask_features"] = heads.mask_head
    kept: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            # heads: torchvision replaces the boxes and masks in this dictionary by those of the original image
            kept[name] = dict(output[0][0]) if name == "heads" else output

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(keep(name)).remove)
        stack.enter_context(recorded(rpn, "filter_proposals", kept))
        stack.enter_context(in_precision(dtype))
        (result,) = model([as_tensor(image, dtype)])
    return _ours(kept, result, config, list(features))


def _feature_modules(model: Any, config: Config) -> dict[str, Any]:
    """Return the modules of the backbone whose outputs have names here."""
    if config.backbone == "vgg16":  # behind each convolution stands its ReLU
        return {name: model.backbone[place + 1] for place, name in VGG16.items()}
    body = model.backbone.body
    modules = {"c1": body.relu}
    for stage in stages_on_the_image(config):
        blocks = body[f"layer{stage - 1}"]
        names = [f"c{stage}.{i}" for i in range(len(blocks) - 1)] + [f"c{stage}"]
        modules |= dict(zip(names, blocks))
    return modules


def _ours(kept: dict[str, Any], result: dict[str, Any], config: Config, features: list[str]) -> Trace:
    """Bring what the hooks kept into our order, layout and names.

    Parameters
    ----------
    kept : dict of str to object
        Outputs of modules.
    result : dict of str to tensor
        What the model returned for the image.
    config : Config
    features : list of str
        Names of the backbone's outputs among ``kept``.
    """
    logits, deltas = kept["rpn_head"]
    anchors = kept["anchors"][0].split([x[0].numel() for x in logits])
    ((proposals,), (proposal_scores,)) = kept["filter_proposals"]
    class_logits, box_deltas = kept["box"]
    found = kept["heads"]
    levels = config.levels
    tensors = {"molded": _nhwc(kept["molded"][0].tensors)}
    tensors |= {name: _nhwc(kept[name]) for name in features}
    if config.neck == "fpn":
        tensors |= {level: _nhwc(p) for level, p in zip(levels, kept["fpn"].values())}
    tensors |= {f"rpn_logits.{level}": _nhwc(x).flatten() for level, x in zip(levels, logits)}
    tensors |= {f"rpn_deltas.{level}": _nhwc(x).reshape(-1, 4)[:, ORDER] for level, x in zip(levels, deltas)}
    tensors |= {f"anchors.{level}": a[:, ORDER] for level, a in zip(levels, anchors)}
    tensors |= {"proposals": proposals[:, ORDER], "proposal_scores": proposal_scores}
    tensors |= {"box_features": _nhwc(kept["box_features"]), "class_logits": class_logits}
    tensors["box_deltas"] = box_deltas.reshape(len(box_deltas), -1, 4)[..., ORDER]
    tensors |= {"detection_boxes": found["boxes"][:, ORDER], "detection_classes": found["labels"]}
    tensors["detection_scores"] = found["scores"]
    for name in ("mask_features", "mask_logits", "keypoint_features", "keypoint_logits"):
        tensors |= {name: _nhwc(kept[name])} if name in kept else {}
    if config.keypoints:
        tensors |= {"keypoints": result["keypoints"][..., [1, 0]], "keypoint_scores": result["keypoints_scores"]}
    if config.mask_branch:
        tensors["mask_probabilities"] = found["masks"][:, 0]
    tensors["boxes"] = result["boxes"][:, ORDER]
    if config.mask_branch:
        tensors["masks"] = result["masks"][:, 0] >= config.mask_threshold
    return {name: np.ascontiguousarray(t.numpy()) for name, t in tensors.items()}


def as_tensor(image: np.ndarray, dtype: Any) -> Any:
    """Return an image (H, W, 3) of uint8 as torchvision wants it: (3, H, W) in [0, 1]."""
    import torch

    return torch.tensor(image).permute(2, 0, 1).to(dtype) / 255


def _nhwc(x: Any) -> Any:
    return x.permute(0, 2, 3, 1)


@contextmanager
def recorded(owner: Any, name: str, kept: dict[str, Any]) -> Iterator[None]:
    """Keep what a method of one object returns; hooks see only whole modules.

    Parameters
    ----------
    owner : object
    name : str
        Of its method, and in ``kept``.
    kept : dict of str to object
        Where it is kept.
    """
    method = getattr(owner, name)

    def watched(*args: Any) -> Any:
        kept[name] = method(*args)
        return kept[name]

    with replaced(owner, name, watched):
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let an attribute of a module or an object be another for a while.

    Parameters
    ----------
    owner : object
    name : str
    value : object
        What the attribute is until the end of the ``with`` block.
    """
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextmanager
def in_precision(dtype: Any) -> Iterator[None]:
    """Scale boxes and keypoints, and keep keypoints, in the model's precision.

    torchvision takes the ratio of two image sizes in float32, also in a float64 model. That alone would put boxes
    1e-5 pixels apart, and hide whatever is smaller. Keypoints it writes into a float32 array, and asks for as one. In
    float32 nothing changes.
    """
    import torch
    from torchvision.models.detection import roi_heads, transform

    def resize_boxes(boxes: Any, original_size: Any, new_size: Any) -> Any:
        height, width = (new / old for new, old in zip(new_size, original_size))
        return boxes * boxes.new_tensor([width, height, width, height])

    def resize_keypoints(keypoints: Any, original_size: Any, new_size: Any) -> Any:
        height, width = (new / old for new, old in zip(new_size, original_size))
        return keypoints * keypoints.new_tensor([width, height, 1])

    if dtype == torch.float32:
        yield
        return
    with (
        replaced(transform, "resize_boxes", resize_boxes),
        replaced(transform, "resize_keypoints", resize_keypoints),
        replaced(roi_heads, "torch", _Float64(torch)),
        replaced(torch.Tensor, "float", torch.Tensor.double),
    ):
        yield


class _Float64:
    """PyTorch, but what it calls float32 is float64."""

    def __init__(self, torch: Any) -> None:
        self._torch, self.float32 = torch, torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)
