"""torchvision's Mask R-CNN with random weights under which every head fires; ours: ``synthetic.params_that_detect``."""

from __future__ import annotations

import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn


def torchvision_that_detects(image: torch.Tensor, *, num_classes: int = 5, **settings: int) -> torch.nn.Module:
    """Build maskrcnn_resnet50_fpn in float64 with frozen batch norm and weights that make every head decide something.

    As initialised, all scores are alike and all deltas near 0. Here every bias is random, batch norm has random scales
    and statistics (around those of ``image``), and each predictor is shifted and scaled so that its outputs spread
    about 0 on ``image``.
    """
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=num_classes, **settings).double()
    norms = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.normal_(0, 0.1)
        for name, norm in norms.items():
            # Small steps at the end of each block, as in trained networks: large ones would multiply rounding errors
            norm.weight.uniform_(*((0.1, 0.4) if name.endswith("bn3") else (0.5, 1.5)))
            norm.momentum = 1.0  # the running statistics become those of one pass
        model.train()
        images, _ = model.transform([image])
        model.backbone(images.tensors)
        model.eval()
        for norm in norms.values():
            norm.momentum = 0.1
            norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
            norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.4)
        heads = model.roi_heads
        _spread(model, image, [(model.rpn.head.cls_logits, 2.0), (model.rpn.head.bbox_pred, 0.3)])
        _spread(model, image, [(heads.box_predictor.cls_score, 2.0), (heads.box_predictor.bbox_pred, 0.7)])
        _spread(model, image, [(heads.mask_predictor.mask_fcn_logits, 2.0)])
    return model.float().double()  # weights that float32 can hold, so that both precisions compute the same function


def _spread(model: torch.nn.Module, image: torch.Tensor, layers: list[tuple[torch.nn.Module, float]]) -> None:
    """Change each layer so that its outputs have mean 0 in every channel and the given standard deviation over all."""
    outputs: dict[torch.nn.Module, list[torch.Tensor]] = {layer: [] for layer, _ in layers}
    hooks = [layer.register_forward_hook(lambda m, _, y: outputs[m].append(y)) for layer, _ in layers]
    model([image])
    for hook in hooks:
        hook.remove()
    for layer, spread in layers:
        rows = torch.cat([y.movedim(1, -1).flatten(0, -2) for y in outputs[layer]])
        scale = spread / rows.std()
        layer.weight *= scale
        layer.bias -= rows.mean(dim=0)
        layer.bias *= scale
