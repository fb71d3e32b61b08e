"""Regions, boxes and the optimiser beside PyTorch's and torchvision's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torchvision import ops
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes

from ... import boxes as codec
from ...config import presets
from ...detections import paste_masks
from ...nms import batched_nms, nms
from ...ops import crop_and_resize, roi_align, roi_pool
from ...targets import crop_masks, label_anchors
from ...training.optim import global_norm, sgd_step, zero_velocity
from .case import Case, nchw, nhwc, normal, only_forward, xyxy


def _rois(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes of all sizes around images of 52 x 68 pixels, some far outside, and the image of each."""
    rng = np.random.default_rng(0)
    centres, sides = rng.uniform(-5, [57, 73], (count, 2)), rng.uniform(0.5, 50, (count, 2))
    rois = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    rois[:3] = [[0, 0, 52, 68], [-60, -80, -20, -30], [8, 8, 8, 8]]
    return rois.astype(np.float32), rng.integers(0, 3, count)


def regions() -> Iterator[Case]:
    """Features of regions of interest."""
    features, (rois, index) = normal(1, 3, 13, 17, 8), _rois()
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("2x2 samples", {"sampling_ratio": 2, "aligned": False}),
        ("2x2 samples, aligned", {"sampling_ratio": 2, "aligned": True}),
        ("adaptive, aligned", {"sampling_ratio": 0, "aligned": True}),
    )
    for name, how in kinds:
        how = {"output_size": 7, "spatial_scale": 0.25, **how}

        def ours(x: Any, *, how: Any = how) -> Any:
            y, cache = roi_align.roi_align(x, rois.astype(x.dtype), index, **how)
            return y, lambda dy: roi_align.roi_align_backward(dy, cache)

        yield Case(
            "roi_align", name, (features,), ours,
            lambda x, how=how: nhwc(ops.roi_align(nchw(x), _with_index(rois, index, x.dtype), **how)),
        )  # fmt: skip

    def ours_pool(x: Any) -> Any:
        y, cache = roi_pool.roi_pool(x, rois.astype(x.dtype), index, output_size=7, spatial_scale=0.25, split="caffe")
        return y, lambda dy: roi_pool.roi_pool_backward(dy, cache)

    yield Case(
        "roi_pool", "7x7", (features,), ours_pool,
        lambda x: nhwc(ops.roi_pool(nchw(x), _with_index(rois, index, x.dtype), 7, 0.25)),
    )  # fmt: skip
    yield from _sampling(features)
    yield from _pasting()


def _with_index(rois: np.ndarray, index: np.ndarray, dtype: Any) -> torch.Tensor:
    return torch.cat([torch.from_numpy(index)[:, None], xyxy(torch.from_numpy(rois))], dim=1).to(dtype)


def _sampling(features: np.ndarray) -> Iterator[Case]:
    """Yield what ``grid_sample`` computes too: with aligned corners, -1 and 1 are the centres of the border pixels."""
    rng = np.random.default_rng(2)
    corners = np.sort(rng.uniform(0.02, 0.98, (20, 2, 2)), axis=1).astype(np.float32)
    boxes = corners.reshape(20, 4)
    index = rng.integers(0, len(features), 20)

    def ours(x: Any) -> Any:
        y, cache = crop_and_resize.crop_and_resize(x, boxes.astype(x.dtype), index, output_size=7)
        return y, lambda dy: crop_and_resize.crop_and_resize_backward(dy, cache)

    def theirs(x: Any) -> Any:
        steps, b = torch.linspace(0, 1, 7, dtype=x.dtype), torch.from_numpy(boxes).to(x.dtype)
        y, x_ = (b[:, i, None] + steps * (b[:, i + 2] - b[:, i])[:, None] for i in (0, 1))
        grid = torch.stack([x_[:, None, :].expand(-1, 7, -1), y[:, :, None].expand(-1, -1, 7)], dim=-1)
        return nhwc(F.grid_sample(nchw(x)[index], 2 * grid - 1, align_corners=True))

    yield Case("crop_and_resize", "7x7", (features,), ours, theirs)
    y, x = rng.uniform(0, 1, (2, 50)).astype(np.float32)
    _, height, width, _ = features.shape

    def interpolate(f: Any) -> Any:
        # The products of float32 numbers with the sides are rounded before, for both
        return roi_align.bilinear_interpolate(f[0], y.astype(f.dtype) * (height - 1), x.astype(f.dtype) * (width - 1))

    def grid_sample(f: Any) -> Any:
        grid = torch.from_numpy(np.stack([x, y], axis=1)).to(f.dtype)[None, None]
        return nhwc(F.grid_sample(nchw(f[:1]), 2 * grid - 1, align_corners=True))[0, 0]

    yield Case("bilinear_interpolate", "50 points", (features,), only_forward(interpolate), grid_sample)


def _pasting() -> Iterator[Case]:
    rng = np.random.default_rng(5)
    masks, corners = rng.uniform(size=(30, 28, 28)), rng.uniform(0, (90, 70), (2, 30, 2))
    boxes = np.concatenate([corners.min(axis=0), corners.max(axis=0)], axis=1)
    inputs = (masks.astype(np.float32), boxes.astype(np.float32))
    config = presets.torchvision()
    whole = rng.uniform(size=(3, 90, 70)) < 0.5
    owner = rng.integers(0, 3, len(boxes))
    yield Case(
        "crop_masks", "30 of 28x28", (whole, inputs[1]),
        only_forward(lambda m, b: crop_masks(m, owner, b, output_size=28, method="roi_align", aligned=False)),
        lambda m, b: project_masks_on_boxes(m, xyxy(b), torch.from_numpy(owner), 28),
    )  # fmt: skip
    yield Case(
        "paste_masks", "30 into 90x70", inputs, only_forward(paste_masks, image_shape=(90, 70), config=config),
        lambda m, b: paste_masks_in_image(m[:, None], xyxy(b), (90, 70))[:, 0] >= 0.5, decision=True,
    )  # fmt: skip


def _label(overlaps: torch.Tensor) -> torch.Tensor:
    """Return torchvision's labels of anchors, 1, -1 or 0, from (G, A)."""
    matched = Matcher(0.7, 0.3, allow_low_quality_matches=True)(overlaps)
    return torch.where(matched >= 0, 1, torch.where(matched == Matcher.BETWEEN_THRESHOLDS, 0, -1))


def boxes() -> Iterator[Case]:
    """Overlaps, labels of anchors, the box codec, suppression."""
    rng = np.random.default_rng(6)
    centres, sides = rng.uniform(0, 200, (300, 2)), np.exp(rng.uniform(1, np.log(200), (300, 2)))
    a = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)
    scores, groups = rng.uniform(size=300).astype(np.float32), rng.integers(0, 4, 300)
    yield Case(
        "iou", "200x100", (a[:200], a[200:]), only_forward(codec.iou), lambda a, b: ops.box_iou(xyxy(a), xyxy(b))
    )
    yield Case(
        "label_anchors", "250x50", (a[:250], a[250:]),
        only_forward(
            lambda a, g: label_anchors(a, g, negative_iou=0.3, positive_iou=0.7, match_best=True)[0].astype(np.int64)
        ),
        lambda a, g: _label(ops.box_iou(xyxy(g), xyxy(a))), decision=True,
    )  # fmt: skip
    coder, std = BoxCoder((10.0, 10.0, 5.0, 5.0)), (0.1, 0.1, 0.2, 0.2)
    yield Case(
        "encode_boxes", "150", (a[:150], a[150:]), only_forward(codec.encode_boxes, std=std),
        lambda b, a: xyxy(coder.encode([xyxy(b)], [xyxy(a)])[0]),
    )  # fmt: skip
    deltas = (2 * normal(7, 300, 4)).astype(np.float32)
    yield Case(
        "decode_boxes", "300", (deltas, a), only_forward(codec.decode_boxes, std=std),
        lambda d, a: xyxy(coder.decode(xyxy(d), [xyxy(a)])[:, 0]),
    )  # fmt: skip
    yield Case(
        "clip_boxes", "300", (a,), only_forward(codec.clip_boxes, window=(0, 0, 120, 90)),
        lambda a: xyxy(ops.clip_boxes_to_image(xyxy(a), (120, 90))),
    )  # fmt: skip
    yield Case(
        "nms", "300 boxes", (a, scores), only_forward(nms, iou_threshold=0.5),
        lambda a, s: ops.nms(xyxy(a), s, 0.5), decision=True,
    )  # fmt: skip
    yield Case(
        "batched_nms", "300 boxes, 4 groups", (a, scores),
        only_forward(lambda a, s: batched_nms(a, s, groups, 0.5)),
        lambda a, s: ops.batched_nms(xyxy(a), s, torch.from_numpy(groups), 0.5), decision=True,
    )  # fmt: skip


def optimiser() -> Iterator[Case]:
    """Descend a few steps, and take the norm that gradients are clipped by."""
    config = presets.tiny(momentum=0.9, weight_decay=0.01, no_decay=())
    inputs = tuple(normal(seed, 30, 40) for seed in range(4))

    def ours(p: Any, *grads: Any) -> Any:
        params = {"a.w": p.copy()}
        velocity = zero_velocity(params, config)
        for g in grads:
            sgd_step(params, {"a.w": g}, velocity, learning_rate=0.1, config=config)
        return params["a.w"], None

    def theirs(p: Any, *grads: Any) -> Any:
        p = p.detach().clone().requires_grad_()
        sgd = torch.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.01)
        for g in grads:
            p.grad = g.detach().clone()
            sgd.step()
        return p.detach()

    yield Case("sgd_step", "3 steps", inputs, ours, theirs)
    yield Case(
        "global_norm", "2 tensors", inputs[:2], only_forward(lambda a, b: np.array([global_norm({"a": a, "b": b})])),
        lambda a, b: torch.linalg.vector_norm(torch.stack([a, b]))[None],
    )  # fmt: skip
