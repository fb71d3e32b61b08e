"""Every accelerated function on the smallest inputs there are: nothing at all, one pixel, one channel.

Empty is normal: an image without objects, a batch without a positive region, a first layer of one channel. Forward and
backward, on the kernels and through the dispatch, results (caches too) and what is changed in place are those of the
NumPy body. A function that has no case here fails the test, so a new one cannot be forgotten.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from kernel_cases import INTERPRETED, draw

import kernels
import mrcnn_np.model
import mrcnn_np.ops.roi_pool  # with the model it imports all that is accelerated
import mrcnn_np.training.optim  # noqa: F401
from kernels import cpu
from kernels.cpu.convolution import winograd_strided

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
SIDE = 3 if INTERPRETED else 7
#: N, R, A or G; pixels along a side; channels or classes
EXTREMES = {
    "nothing": (0, SIDE, 3),
    "nothing, one pixel": (0, 1, 3),
    "nothing, one channel": (0, SIDE, 1),
    "one pixel": (2, 1, 3),
    "one channel": (2, SIDE, 1),
    "one of everything": (1, 1, 1),
    "one": (1, SIDE, 16),
}
Cases = Callable[[np.random.Generator, int, int, int], Iterator[Arguments]]
CASES: dict[str, Cases] = {}


def cases(function: Cases) -> Cases:
    CASES[function.__name__] = function
    return function


def boxes(rng: np.random.Generator, count: int, size: float = 8.0) -> np.ndarray:
    corners = rng.uniform(0, size, (count, 2, 2)).astype(np.float32)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1) + np.float32(0.5)], axis=1)


def indices(rng: np.random.Generator, count: int, below: int) -> np.ndarray:
    return rng.integers(0, max(1, below), count)


def per_channel(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    return [np.abs(draw(rng, count)) + np.float32(0.5) for _ in range(4)]


# --- layers ---------------------------------------------------------------------------------------------------------


def convolutions(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    """Every kind of convolution there is a kernel for."""
    for kernel, c_out, how in (
        (1, 1, {}),
        (1, 5, {"stride": 2}),
        (3, 7, {"padding": 1}),
        (3, 32, {"padding": 1}),
        (3, 1, {"padding": 1, "stride": 2}),
        (3, 32, {"padding": ((1, 2), (0, 2)), "stride": (2, 1)}),
        (7, 16, {"padding": 3, "stride": 2}),
        (1, 4, {"stride": 3}),
    ):
        bias = draw(rng, c_out) if c_out % 2 else None
        yield (draw(rng, n, side, side, c), draw(rng, kernel, kernel, c, c_out), bias), how
    for per, groups in ((c, 2), (1, 4), (4, 4), (16, 2)):
        w = draw(rng, 3, 3, per, groups * per)
        yield (draw(rng, n, side, side, groups * per), w), {"padding": 1, "groups": groups}
        yield (draw(rng, n, side, side, groups * per), w), {"padding": 1, "groups": groups, "stride": 2}


@cases
def conv2d(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield from convolutions(rng, n, side, c)
    # as many channels as Winograd's algorithm takes
    for how in ({"padding": 1}, {"padding": 1, "stride": 2}, {"padding": 1, "groups": 2}):
        w = draw(rng, 3, 3, 32, 64 if "groups" in how else 32)
        yield (draw(rng, n, side, side, w.shape[2] * how.get("groups", 1)), w), how


@cases
def conv2d_fused(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for args, how in convolutions(rng, n, side, c):
        x, w, *_ = args
        y, _ = body("conv2d")(x, w, **how)
        norm = (*per_channel(rng, w.shape[3]), 1e-5)
        yield args, {**how, "norm": norm, "residual": draw(rng, *y.shape), "activate": True}
        if not INTERPRETED:
            yield args, {**how, "activate": True}
            yield args, {**how, "norm": norm}


@cases
def conv2d_transpose(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for kernel, c_out, stride in ((2, 32, 2), (2, 1, 2), (3, 5, 1), (1, 3, 2), (1, 1, 1)):
        for bias in (None, draw(rng, c_out)):
            args = draw(rng, n, side, side, c), draw(rng, kernel, kernel, c, c_out), bias
            yield args, {"stride": stride, "activate": bias is not None}


@cases
def batch_norm(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for x in (draw(rng, n, side, side, c), draw(rng, n, c)):
        for training in (False, True):
            yield (x, *per_channel(rng, c)), {"training": training, "eps": 1e-3}


@cases
def group_norm(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for x in (draw(rng, n, side, side, c), draw(rng, n, side, c), draw(rng, n, c)):
        for groups in {1, 2 if c % 2 == 0 else 1, c}:
            yield (x, *per_channel(rng, c)[:2]), {"groups": groups, "eps": 1e-3}


@cases
def max_pool2d(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield (draw(rng, n, side, side, c),), {"kernel_size": 3, "stride": 2, "padding": 1}
    yield (draw(rng, n, side, side, c),), {"kernel_size": 1, "stride": 2}


@cases
def upsample_nearest(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for scale in (1, 2):
        yield (draw(rng, n, side, side, c),), {"scale": scale}


@cases
def resize_bilinear(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for size in ((1, 1), (5, 9)):
        yield (draw(rng, n, side, side, c), size), {}
        yield (draw(rng, side, side, c), size), {}


@cases
def resize_nearest(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for size in ((1, 1), (5, 9)):
        yield (rng.random((n, side, side)) > 0.5, size), {}


@cases
def linear(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for bias in (None, draw(rng, side)):
        yield (draw(rng, n, c), draw(rng, c, side), bias), {}


@cases
def channel_sum(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield (draw(rng, n, side, side, c),), {}
    yield (draw(rng, n, c),), {}
    yield (draw(rng, c),), {}


@cases
def relu(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield (draw(rng, n, side, side, c),), {}
    yield (draw(rng, n),), {}


@cases
def sigmoid(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield from relu(rng, n, side, c)


@cases
def softmax(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield (draw(rng, n, side, c),), {}
    yield (draw(rng, n, c),), {}


@cases
def softmax_cross_entropy(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield (draw(rng, n, c), indices(rng, n, c)), {}


@cases
def sigmoid_cross_entropy(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield (draw(rng, n, c), rng.random((n, c), np.float32)), {}
    yield (draw(rng, n, side, side), (rng.random((n, side, side)) > 0.5).astype(np.float32)), {}


@cases
def smooth_l1(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for beta in (1.0, 0.0):
        yield (draw(rng, n, c), draw(rng, n, c)), {"beta": beta}


# --- regions --------------------------------------------------------------------------------------------------------


def regions(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[tuple[Any, ...]]:
    """Yield maps, RoIs and the map of each: as many RoIs as maps, and none on some maps."""
    yield draw(rng, n, side, side, c), boxes(rng, n), indices(rng, n, n)
    yield draw(rng, 2, side, side, c), boxes(rng, n), indices(rng, n, 2)
    yield draw(rng, 2, side, side, c), boxes(rng, 0), indices(rng, 0, 2)


@cases
def roi_align(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for args in regions(rng, n, side, c):
        for sampling_ratio in (0, 2):
            for reduce in ("mean", "max"):
                how = {"output_size": (3, 1), "spatial_scale": 0.5, "sampling_ratio": sampling_ratio, "reduce": reduce}
                yield args, {**how, "aligned": bool(sampling_ratio)}


@cases
def roi_pool(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for args in regions(rng, n, side, c):
        for split in ("caffe", "disjoint"):
            yield args, {"output_size": 2, "spatial_scale": 0.5, "split": split}


@cases
def crop_and_resize(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for maps, rois, index in regions(rng, n, side, c):
        for size in (1, 3):
            yield (maps, rois / np.float32(8), index), {"output_size": size, "extrapolation_value": 2.0}


@cases
def crop_masks(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for maps, rois, owner in regions(rng, n, side, 1):
        for method in ("roi_align", "crop_and_resize"):
            yield (maps[..., 0] > 0, owner, rois), {"output_size": 4, "method": method, "aligned": True}


# --- boxes ----------------------------------------------------------------------------------------------------------


@cases
def iou(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield (boxes(rng, n), boxes(rng, c)), {}
    yield (boxes(rng, c), boxes(rng, n)), {}


@cases
def decode_boxes(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield (draw(rng, n, 4), boxes(rng, n)), {"std": (0.1, 0.1, 0.2, 0.2), "max_log_scale": None}
    yield (draw(rng, n, c, 4), boxes(rng, n)[:, None]), {}


@cases
def label_anchors(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for anchors, objects in ((n, c), (c, n), (n, n)):
        for match_best in (False, True):
            how = {"negative_iou": 0.3, "positive_iou": 0.7, "match_best": match_best}
            yield (boxes(rng, anchors), boxes(rng, objects)), how


@cases
def nms(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield (boxes(rng, n), rng.random(n, np.float32), 0.5), {}


@cases
def batched_nms(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield (boxes(rng, n), rng.random(n, np.float32), indices(rng, n, c), 0.5), {}


@cases
def paste_into_boxes(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for method in ("grid_sample", "resize", "plus_one", "resize_zero"):
        how = {"method": method, "threshold": 0.5}
        yield (rng.random((n, c, c), np.float32), boxes(rng, n), (side, side + 2)), how


# --- optimiser ------------------------------------------------------------------------------------------------------


def tensors(rng: np.random.Generator, n: int, side: int, c: int) -> dict[str, np.ndarray]:
    """Return ``n`` tensors; one more that is empty if there is one at all."""
    shapes = [(side, side, c)] * n + [(0, c)] * bool(n)
    return {f"layer{i}.w": draw(rng, *shape) for i, shape in enumerate(shapes)}


@cases
def global_norm(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    yield (tensors(rng, n, side, c),), {}


@cases
def clip_gradients(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    for most in (None, 0.5, 1e6):
        yield (tensors(rng, n, side, c), most), {}


@cases
def momentum_step(rng: np.random.Generator, n: int, side: int, c: int) -> Iterator[Arguments]:
    params, grads, velocity = (tensors(rng, n, side, c) for _ in range(3))
    decay = {name: 0.1 * (i % 2) for i, name in enumerate(velocity)}
    yield (params, grads, velocity), {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": decay}


# --- the sweep ------------------------------------------------------------------------------------------------------


def body(name: str) -> Any:
    """Return the NumPy body of an accelerated function."""
    return kernels._registry[name].reference


def call(function: Callable[..., Any], args: tuple[Any, ...], how: dict[str, Any]) -> tuple[Any, Any]:
    """Return the result and the arguments as they are afterwards."""
    args, how = copy.deepcopy((args, how))
    with np.errstate(all="ignore"):
        return function(*args, **how), (args, how)


def check_same(found: Any, wanted: Any, where: str = "result") -> None:
    """Hold results of any structure against each other; floats may be off by rounding."""
    if isinstance(wanted, np.ndarray):
        assert isinstance(found, np.ndarray) and found.dtype == wanted.dtype and found.shape == wanted.shape, where
        size = np.abs(wanted[np.isfinite(wanted)]).max(initial=1) if wanted.dtype.kind == "f" else 0
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * size, err_msg=where)
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            check_same(found[key], wanted[key], f"{where}[{key!r}]")
    elif isinstance(wanted, (tuple, list)):
        assert type(found) is type(wanted) and len(found) == len(wanted), where
        for i, (mine, its) in enumerate(zip(found, wanted)):
            check_same(mine, its, f"{where}[{i}]")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-6), where
    else:
        assert found == wanted and type(found) is type(wanted), where


def check_one(name: str, args: tuple[Any, ...], how: dict[str, Any]) -> None:
    wanted = call(body(name), args, how)
    if name in cpu.KERNELS:
        result, after = call(cpu.KERNELS[name], args, how)
        if result is not NotImplemented:
            check_same((result, after), wanted, "kernel")
        else:
            check_same(after, (args, how), "arguments of a kernel that declined")
    check_same(call(kernels._registry[name], args, how), wanted, "dispatch")


def backward_arguments(name: str, args: tuple[Any, ...], how: dict[str, Any]) -> Iterator[Arguments]:
    """Yield gradients and caches, of either backend, for a backward pass, with every option it has."""
    rng = np.random.default_rng(1)
    forward = name.removesuffix("_backward")
    (y, cache), _ = call(body(forward), args, how)
    assert hasattr(cache, "_fields"), f"the cache of {forward} has no names"
    dy = draw(rng, *y.shape)
    fast = call(cpu.KERNELS[forward], args, how)[0] if forward in cpu.KERNELS else NotImplemented
    for one in (cache,) if fast is NotImplemented else (cache, fast[1]):
        yield (dy, one), {}
        if name in ("conv2d_backward", "conv2d_fused_backward"):
            yield (dy, one), {"need_dx": False}
        if name == "conv2d_fused_backward":
            yield (dy, one), {"plus": draw(rng, *args[0].shape)}
        if name in ("roi_align_backward", "crop_and_resize_backward"):
            yield (dy, one), {"into": draw(rng, *args[0].shape)}


@pytest.fixture(params=["no size is too small", "as in production"][: 1 if INTERPRETED else 2])
def least_size(request, monkeypatch):
    """Kernels leave small arrays to NumPy; here they also take them."""
    if request.param == "no size is too small":
        monkeypatch.setattr(winograd_strided, "LEAST", 0)
        for name, module in list(sys.modules.items()):
            for limit in ("SMALL", "SMALL_SUM", "SMALL_EXPONENTIAL"):
                if name.startswith("kernels.cpu.") and hasattr(module, limit):
                    monkeypatch.setattr(module, limit, 0)


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("name", sorted(kernels.coverage()))
def test_smallest_inputs(name, extreme, least_size):
    forward = name.removesuffix("_backward")
    assert forward in CASES, f"{name} has no case in this sweep: add one"
    cases_of_one = list(CASES[forward](np.random.default_rng(0), *EXTREMES[extreme]))
    assert cases_of_one
    for args, how in cases_of_one:
        if name == forward:
            check_one(name, args, how)
            continue
        for backward_args, backward_how in backward_arguments(name, args, how):
            check_one(name, backward_args, backward_how)
