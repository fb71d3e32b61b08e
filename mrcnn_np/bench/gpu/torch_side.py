"""PyTorch and torchvision on the GPU: its clock, its tensors, its network. It is imported only where it takes part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from ...synthetic import picture, sample

SIZE = (800, 1088)


class Clock(Protocol):
    """Times calls, in milliseconds a call, after ``before`` was called once."""

    def __call__(self, run: Callable[[], Any], calls: int, before: Callable[[], None] = ...) -> float:
        """Do it."""


def nothing() -> None:
    """Do nothing before the clock starts."""


def clock_of_torch() -> Clock:
    """Return a function that times calls on PyTorch's stream; it is CuPy's, too, unless one of both was changed."""
    import torch

    def clock(run: Callable[[], Any], calls: int, before: Callable[[], None] = nothing) -> float:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before()
        start.record()
        for _ in range(calls):
            run()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) / calls

    return clock


@contextmanager
def tensors_on_the_gpu() -> Iterator[None]:
    """Let what makes PyTorch's tensors make them on the GPU."""
    import torch

    module: Any = torch
    made = torch.from_numpy
    module.from_numpy = lambda array: made(array).cuda()
    try:
        with torch.device("cuda"):
            yield
    finally:
        module.from_numpy = made


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow PyTorch's products and convolutions tensor cores that round their inputs to 11 bits, or forbid them."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def tf32_left() -> Iterator[None]:
    """Leave PyTorch's settings alone: it does not take part."""
    yield


def network_runs(config: Any, params: Any) -> dict[str, Callable[[], Any]]:
    """Return torchvision's model with the same weights, in inference (results on the CPU, as ours) and in training."""
    import torch
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    from ...weights.torchvision import ORDER, to_torchvision

    def built() -> Any:
        model = maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=config.num_classes, min_size=SIZE[0], max_size=SIZE[1]
        )
        shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
        state = to_torchvision(params, shapes)
        model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in state.items()})
        return model.cuda()

    one = sample(SIZE, classes=config.num_classes)
    seen = torch.from_numpy(picture(SIZE)).permute(2, 0, 1).float().div(255).cuda()
    image = torch.from_numpy(one.image).permute(2, 0, 1).float().div(255).cuda()
    finding, learning = built().eval(), built().train()
    learning.backbone.eval()
    optimiser = torch.optim.SGD(learning.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4)
    goal = {
        "boxes": torch.from_numpy(one.gt_boxes[:, ORDER].copy()).cuda(),
        "labels": torch.from_numpy(one.gt_class_ids).cuda(),
        "masks": torch.from_numpy(np.asarray(one.gt_masks).astype(np.uint8)).cuda(),
    }

    def detect() -> None:
        with torch.inference_mode():
            found = finding([seen])[0]
            _ = [found[name].cpu() for name in ("boxes", "labels", "scores")], (found["masks"] >= 0.5).cpu()

    def step() -> None:
        loss = sum(learning([image], [goal]).values())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning.parameters(), config.clip_norm or 1e9)
        optimiser.step()
        float(loss.detach())

    return {"inference": detect, "training step": step}


def peak_mib(run: Callable[[], Any]) -> int:
    """Return what a run reserves of the card's memory, in MiB."""
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run()
    return int(torch.cuda.max_memory_reserved()) >> 20
