"""torchvision's side of training: its losses for anchors and RoIs that are given, its optimiser, one step of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from ...backbone import map_channels
from ...config import Config
from ...data.sample import Sample
from ...targets import Targets
from ...training.optim import matches
from ...weights.torchvision import ORDER, from_torchvision
from .model import as_tensor, in_precision, replaced


def optimiser(model: Any, config: Config) -> Any:
    """Return SGD over its parameters; those that match ``config.no_decay`` do not decay."""
    import torch

    decayed: list[Any] = []
    free: list[Any] = []
    for name, p in model.named_parameters():
        (ours,) = from_torchvision({name: np.broadcast_to(np.float32(0), p.shape)}, channels=map_channels(config))
        (free if matches(ours, config.no_decay) else decayed).append(p)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.SGD([g for g in groups if g["params"]], lr=1.0, momentum=config.momentum)


def step(model: Any, optimiser: Any, config: Config, rate: float) -> None:
    """Clip the gradients, if the config says so, and let the optimiser move the parameters.

    Parameters
    ----------
    model : torchvision.models.detection.MaskRCNN
        With gradients.
    optimiser : torch.optim.SGD
    config : Config
    rate : float
        Learning rate of this step.
    """
    import torch

    if config.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()


def losses(model: Any, samples: Sequence[Sample], targets: Targets) -> dict[str, Any]:
    """Run torchvision forward on the anchors and RoIs that were drawn; return its losses by its names.

    Parameters
    ----------
    model : torchvision.models.detection.MaskRCNN
    samples : sequence of Sample
    targets : Targets
        Ours: the anchors that count and the RoIs that are read.
    """
    import torch

    dtype = next(model.parameters()).dtype
    truth = [
        {
            "boxes": torch.from_numpy(np.ascontiguousarray(s.gt_boxes[:, ORDER])).to(dtype),
            "labels": torch.from_numpy(s.gt_class_ids),
            "masks": torch.from_numpy(np.asarray(s.gt_masks).astype(np.uint8)),
        }
        for s in samples
    ]
    for wanted, s in zip(truth, samples):
        if model.roi_heads.keypoint_head is not None and s.gt_keypoints is not None:
            wanted["keypoints"] = torch.from_numpy(s.gt_keypoints[..., [1, 0, 2]]).to(dtype)
    rpn, heads = model.rpn, model.roi_heads
    labels = torch.from_numpy(targets.rpn_labels)
    rois = [
        torch.from_numpy(np.ascontiguousarray(targets.rois[targets.image_index == n][:, ORDER]))
        for n in range(len(samples))
    ]
    assign = rpn.assign_targets_to_anchors

    def assign_in_precision(*args: Any) -> Any:
        wanted, boxes = assign(*args)
        return [x.to(dtype) for x in wanted], boxes

    with ExitStack() as stack:
        for owner, name, value in (
            (rpn, "fg_bg_sampler", lambda _: (list(labels == 1), list(labels == -1))),
            (rpn, "assign_targets_to_anchors", assign_in_precision),
            (rpn, "filter_proposals", lambda *_: (rois, None)),
            (heads, "add_gt_proposals", lambda proposals, _: list(proposals)),  # they are among our RoIs already
            (heads, "subsample", lambda wanted: [torch.arange(len(w)) for w in wanted]),
        ):
            stack.enter_context(replaced(owner, name, value))
        stack.enter_context(in_precision(dtype))
        losses: dict[str, Any] = model([as_tensor(s.image, dtype) for s in samples], truth)
    return losses
