"""Cut a run into slices: which part of the network, which layer, which operation, how long."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from kernels import watch

from ... import model
from ...params import Params
from ...training import loop
from .work import Call, arithmetic, layer_of, least_arithmetic, shape_of, traffic

#: the parts of the network: functions that ``model.py`` and ``training/loop.py`` call by these names
PARTS = (
    "mold_image", "backbone", "fpn", "rpn_head", "rpn_targets", "propose", "roi_targets", "pyramid_roi_align",
    "c5_head", "box_head", "mask_head", "keypoint_head",
    "rpn_class_loss", "rpn_box_loss", "head_class_loss", "head_box_loss", "head_mask_loss", "head_keypoint_loss",
    "refine", "own_masks", "unmold", "paste_masks", "heatmap_peaks",
    "rpn_class_loss_backward", "rpn_box_loss_backward", "head_class_loss_backward", "head_box_loss_backward",
    "head_mask_loss_backward", "head_keypoint_loss_backward",
    "mask_head_backward", "keypoint_head_backward", "box_head_backward", "c5_head_backward", "rpn_head_backward",
    "pyramid_roi_align_backward", "fpn_backward", "backbone_backward",
    "require_finite", "clip_gradients", "update",
)  # fmt: skip
#: the part of what lies between the parts
WIRING = "between the parts"


@dataclass(frozen=True)
class Slice:
    """A stretch of time.

    Attributes
    ----------
    part : str
        One of ``PARTS``, or ``WIRING``.
    op : str
        Name of the accelerated function; empty for the Python and NumPy between two calls.
    layer : str
        Name of the layer whose weights it reads; empty if it reads none.
    shape : str
        Of its first result.
    seconds : float
    flop, nbytes, least : int
        See ``work.py``; ``least`` is its ``least_arithmetic``.
    """

    part: str
    op: str
    layer: str
    shape: str
    seconds: float
    flop: int = 0
    nbytes: int = 0
    least: int = 0


class Recorder:
    """Cuts a run into slices.

    Parameters
    ----------
    params : dict of str to ndarray
        By their names layers are known. They must stay the same arrays.

    Attributes
    ----------
    slices : list of Slice
        In the order of time, without a gap between them.
    """

    def __init__(self, params: Params) -> None:
        self.names = {id(array): name.rpartition(".")[0] for name, array in params.items()}
        self.slices: list[Slice] = []
        self.now = WIRING
        self.since = 0.0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record a block, and put the network back as it was."""
        with ExitStack() as stack:
            for module in (model, loop):
                for name in PARTS:
                    if name in vars(module):
                        function = getattr(module, name)
                        stack.callback(setattr, module, name, function)
                        setattr(module, name, self._marked(name, function))
            stack.enter_context(watch(self._call))
            self.since = time.perf_counter()
            yield
            self._until(time.perf_counter())

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Say which part a block is; within a part it says nothing."""
        if self.now != WIRING:
            yield
            return
        self._until(time.perf_counter())
        self.now = name
        try:
            yield
        finally:
            self._until(time.perf_counter())
            self.now = WIRING

    def _marked(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def marked(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return marked

    def _until(self, now: float) -> None:
        """End a slice of what lies between calls."""
        self.slices.append(Slice(self.now, "", "", "", now - self.since))
        self.since = time.perf_counter()

    def _call(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, began: float, ended: float
    ) -> None:
        """Take a call from ``kernels.watch``; nothing of it is kept, or its arrays would live longer than they do."""
        self._until(began)
        call = Call(name, args, kwargs, result)
        work = arithmetic(call), traffic(call), least_arithmetic(call)
        self.slices.append(Slice(self.now, name, layer_of(call, self.names), shape_of(call), ended - began, *work))
        self.since = time.perf_counter()


def medians(runs: Sequence[Sequence[Slice]]) -> list[Slice]:
    """Return the slices of the first run, each with the median of its times over all runs that have it.

    A slice is the same if part, operation, layer and its number among these are.
    """
    times: dict[tuple[str, str, str, int], list[float]] = {}
    for run in runs:
        for key, one in _numbered(run):
            times.setdefault(key, []).append(one.seconds)
    return [replace(one, seconds=median(times[key])) for key, one in _numbered(runs[0])]


def _numbered(run: Sequence[Slice]) -> Iterator[tuple[tuple[str, str, str, int], Slice]]:
    """Yield slices with part, operation, layer, and how many of the same came before."""
    seen: Counter[tuple[str, str, str]] = Counter()
    for one in run:
        key = one.part, one.op, one.layer
        yield (*key, seen[key]), one
        seen[key] += 1
