"""No kernel depends on the order of its blocks and threads: the same bits whatever it is.

Threads of a block that share memory are in each other's way if one reads what another writes between the same two
barriers; then the order of the threads decides what is read. Here every kernel with shared memory runs in three orders,
over several blocks of several threads. (New memory holds NaN, so what is read too early shows, too.)
"""

import inspect
import re
from types import FunctionType

import numpy as np
import pytest
from cuda_cases import boxes_of, device_tree

from kernels import use
from kernels.cuda import KERNELS
from kernels.cuda.machine import simulator
from kernels.cuda.machine.device import REGISTRY, is_device, to_device, to_host

SEEDS = (1, 2)


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def positive(count):
    return np.abs(draw(count)) + np.float32(0.5)


def pair(name, *args, **how):
    """Run a function and its backward pass; return all arrays that come out, and those that change."""
    y, cache = KERNELS[name](*device_tree(args), **how)
    dy = to_device(draw(*y.shape))
    return [y, KERNELS[f"{name}_backward"](dy, cache)]


def convolutions():
    """Plain, Winograd, strided with few channels, grouped; the inner dimension long enough to be cut."""
    yield from pair("conv2d", draw(1, 6, 5, 8), draw(3, 3, 8, 16), draw(16), padding=1)
    yield from pair("conv2d", draw(2, 7, 9, 3), draw(7, 7, 3, 9), None, padding=3, stride=2)
    yield from pair("conv2d", draw(1, 6, 6, 8), draw(3, 3, 4, 8), None, padding=1, groups=2)
    yield from pair("conv2d", draw(1, 3, 5, 72), draw(1, 1, 72, 24), None)
    norm = (*map(to_device, (positive(16), draw(16), draw(16), positive(16))), 1e-5)
    residual = to_device(draw(1, 6, 5, 16))
    how = {"padding": 1, "norm": norm, "residual": residual, "activate": True}
    yield from pair("conv2d_fused", draw(1, 6, 5, 8), draw(3, 3, 8, 16), **how)
    yield from pair("conv2d_transpose", draw(2, 3, 3, 8), draw(2, 2, 8, 12), draw(12), stride=2, activate=True)


def products():
    yield from pair("linear", draw(19, 40), draw(40, 21), draw(21))
    yield KERNELS["channel_sum"](to_device(draw(3, 5, 7, 6)))


def norms():
    x, four = draw(2, 9, 5, 12), (positive(12), draw(12), draw(12), positive(12))
    for training in (False, True):
        yield from pair("batch_norm", x, *four, training=training)
        yield from pair("batch_norm", draw(13, 5), *(positive(5) for _ in range(4)), training=training)
    yield from pair("group_norm", x, *four[:2], groups=3)
    yield from pair("group_norm", draw(3, 13, 10), positive(10), draw(10), groups=5)


def classes():
    logits, labels = to_device(draw(9, 7)), to_device(np.arange(9) % 7)
    yield KERNELS["softmax"](logits)
    yield KERNELS["softmax_cross_entropy"](logits, labels)


def descent():
    params, grads, velocity = ({"a": to_device(draw(40 + i, 3)), "b": to_device(draw(5))} for i in (0, 0, 0))
    yield KERNELS["clip_gradients"](grads, 1.0)
    how = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": {"a": 0.1, "b": 0.0}}
    KERNELS["momentum_step"](params, grads, velocity, **how)
    yield params | velocity


def regions():
    rng = np.random.default_rng(0)
    maps, index = draw(2, 6, 7, 5), rng.integers(0, 2, 6)
    rois = boxes_of(rng, 6, 7)
    for reduce in ("mean", "max"):
        yield from pair("roi_align", maps, rois, index, output_size=3, spatial_scale=1.0, reduce=reduce)
    yield from pair("roi_pool", maps, rois, index, output_size=3, spatial_scale=1.0)
    yield from pair("crop_and_resize", maps, rois / np.float32(8), index, output_size=3)


def choices():
    """Suppression, anchors, masks."""
    rng = np.random.default_rng(1)
    boxes, scores = device_tree((boxes_of(rng, 23, 9), rng.integers(0, 9, 23).astype(np.float32)))
    yield KERNELS["nms"](boxes, scores, 0.3)
    yield KERNELS["batched_nms"](boxes, scores, to_device(rng.integers(0, 2, 23)), 0.3)
    how = {"negative_iou": 0.3, "positive_iou": 0.5, "match_best": True}
    yield KERNELS["label_anchors"](*device_tree((boxes_of(rng, 61, 9), boxes_of(rng, 9, 9))), **how)
    masks, owner, rois = device_tree((rng.random((3, 9, 9)) > 0.5, rng.integers(0, 3, 4), boxes_of(rng, 4, 9)))
    yield KERNELS["crop_masks"](masks, owner, rois, output_size=4, method="roi_align", aligned=True)
    for method in ("grid_sample", "resize_zero"):
        how = {"method": method, "threshold": 0.5}
        painted = device_tree((rng.random((4, 5, 5), np.float32), boxes_of(rng, 4, 9).astype(np.float64)))
        yield KERNELS["paste_into_boxes"](*painted, (11, 9), **how)


def bits(values):
    """Return the bytes of all arrays in lists, tuples and dicts. None is NaN, which what is read too early is."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        return [part for value in values for part in bits(value)]
    if not is_device(values):
        return []
    assert not np.isnan(to_host(values)).any()
    return [to_host(values).tobytes()]


CASES = (convolutions, products, norms, classes, descent, regions, choices)


class Launches:
    """Notes of each launch the kernel, how many blocks and threads it had, and what its arrays hold afterwards.

    Not only the results count: what a kernel hands to the next may be wrong without showing there.
    """

    def __init__(self):
        self.run, self.sizes, self.contents = simulator.run, {}, []

    def __call__(self, body, blocks, threads, args):
        before = self.sizes.get(body, (0, 0))
        self.sizes[body] = max(before[0], int(np.prod(blocks))), max(before[1], int(np.prod(threads)))
        self.run(body, blocks, threads, args)
        arrays = [a for a in args if isinstance(a, np.ndarray) and not is_table(body, a)]
        self.contents.append((body.__name__, [a.tobytes() for a in arrays]))


def is_table(body, array):
    """Tell whether an array holds addresses of tensors: all but the sums, in float64, of the kernels that descend."""
    return body.__module__ == "kernels.cuda.optim" and array.dtype != np.float64


def launches_of(case):
    """Run a case; return what was launched, and the bits of the results."""
    with pytest.MonkeyPatch.context() as patch, use("numpy"):
        launches = Launches()
        patch.setattr(simulator, "run", launches)
        return launches, bits(list(case()))


@pytest.fixture(scope="module")
def in_order():
    """Run all in the usual order."""
    return {case: launches_of(case) for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_the_same_bits_in_any_order(case, in_order):
    launches, wanted = in_order[case]
    assert len(wanted) > 1
    for seed in SEEDS:
        with simulator.shuffled(seed):
            found, results = launches_of(case)
        for mine, its in zip(found.contents, launches.contents, strict=True):
            assert mine == its, f"kernel {mine[0]} depends on the order of its threads"
        assert results == wanted


def shares_memory(function, seen):
    """Tell whether a function, or one that it calls, asks for shared memory."""
    if function in seen:
        return False
    seen.add(function)
    if "cuda.shared" in inspect.getsource(function):
        return True
    names = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    called = [names.get(name) for name in (*function.__code__.co_names, *function.__code__.co_freevars)]
    return any(shares_memory(f, seen) for f in called if isinstance(f, FunctionType) and "cuda" in f.__module__)


def test_every_kernel_that_shares_memory_has_run(in_order):
    """With several threads, and in several blocks where there can be some; of products, one size of tiles will do."""
    sizes: dict[object, tuple[int, int]] = {}
    for launches, _ in in_order.values():
        for body, seen in launches.sizes.items():
            sizes[body] = max(sizes.get(body, (0, 0)), seen)
    most: dict[str, tuple[int, int]] = {}
    for name, kernel in REGISTRY.items():
        if kernel.__module__.startswith("kernels.") and shares_memory(kernel.function, set()):
            text = re.sub(r"_\d+x\d+", "", name)
            most[text] = max(most.get(text, (0, 0)), sizes.get(kernel.function, (0, 0)))
    assert len(most) > 20
    one_block = {"root_of_sum", "survivors"}
    assert {name: seen for name, seen in most.items() if seen[1] < 2 or seen[0] < 1 + (name not in one_block)} == {}
