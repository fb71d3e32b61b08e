"""A Faster or Mask R-CNN over one map, put together from torchvision's parts: it has no such model of its own.

Either VGG-16's features without their last pool, and two fully connected layers; or a ResNet cut behind its third
layer, whose fourth layer runs on each RoI and is what both heads read.
"""

from __future__ import annotations

from typing import Any

from ...backbone import architecture, map_channels
from ...config import Config
from .norms import norm_layer


def one_map_parts(config: Config, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``FasterRCNN`` or ``MaskRCNN`` that are modules.

    Parameters
    ----------
    config : Config
    arguments : dict of str to object
        The others; ``num_classes`` is taken out where a predictor is given, which knows it.

    Returns
    -------
    dict of str to object
    """
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.models.detection.rpn import RPNHead

    channels, classes = map_channels(config), arguments.pop("num_classes")
    shared = config.box_head == "c5"
    backbone, layer4 = _resnet(config) if shared else (_vgg(), None)
    backbone.out_channels = channels
    wide = architecture(config).out_channels[3] if shared else channels
    hidden = wide if shared else config.box_head_channels
    parts = {
        "backbone": backbone,
        "rpn_head": RPNHead(channels, config.anchors_per_cell, conv_depth=config.rpn_convs),
        "box_roi_pool": _pooling(config, config.box_pool_size),
        "box_head": _c5_box_head(layer4) if shared else TwoMLPHead(channels * config.box_pool_size**2, hidden),
        "box_predictor": FastRCNNPredictor(hidden, classes),
    }
    if config.mask_branch:
        before = config.mask_head_channels if config.mask_head_convs else wide
        convs = MaskRCNNHeads(wide, [config.mask_head_channels] * config.mask_head_convs, 1)
        parts["mask_roi_pool"] = _pooling(config, config.box_pool_size if shared else config.mask_pool_size)
        parts["mask_head"] = _c5_mask_head(layer4) if shared else convs
        parts["mask_predictor"] = MaskRCNNPredictor(before, config.mask_head_channels, classes)
    return parts


def _vgg() -> Any:
    import torchvision.models

    return torchvision.models.vgg16(weights=None).features[:-1]


def _resnet(config: Config) -> tuple[Any, Any]:
    import torchvision.models
    from torch import nn
    from torchvision.models._utils import IntermediateLayerGetter

    class Body(nn.Module):
        def __init__(self, net: Any) -> None:
            super().__init__()
            self.body = IntermediateLayerGetter(net, {"layer3": "0"})

        def forward(self, x: Any) -> Any:
            return self.body(x)

    net = torchvision.models.get_model(config.backbone, weights=None, norm_layer=norm_layer(config))
    layer4 = net.layer4
    return Body(net), layer4


def _c5_box_head(layer4: Any) -> Any:
    from torch import nn

    class BoxHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer4, self.maps = layer4, nn.Identity()

        def forward(self, x: Any) -> Any:
            return self.maps(self.layer4(x)).mean(dim=(2, 3))

    return BoxHead()


def _c5_mask_head(layer4: Any) -> Any:
    from torch import nn

    class MaskHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer4 = layer4

        def forward(self, x: Any) -> Any:
            return self.layer4(x)

    return MaskHead()


def _pooling(config: Config, size: int) -> Any:
    from torchvision.ops import MultiScaleRoIAlign

    return MultiScaleRoIAlign(["0"], size, config.roi_sampling_ratio)


def use_roi_pool(heads: Any) -> None:
    """Let the heads of a model read RoIs by RoIPool: the model takes only MultiScaleRoIAlign when it is made.

    Parameters
    ----------
    heads : torchvision.models.detection.roi_heads.RoIHeads
        Changed.
    """
    from torch import nn
    from torchvision.ops import RoIPool

    class OneMapRoIPool(nn.Module):
        def __init__(self, output_size: tuple[int, int]) -> None:
            super().__init__()
            self.pool = RoIPool(output_size, 1 / 16)

        def forward(self, features: Any, boxes: Any, image_shapes: Any) -> Any:
            return self.pool(next(iter(features.values())), boxes)

    for name in ("box_roi_pool", "mask_roi_pool"):
        pool = getattr(heads, name, None)
        if pool is not None:
            setattr(heads, name, OneMapRoIPool(pool.output_size))
